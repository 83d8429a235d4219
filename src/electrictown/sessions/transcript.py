"""A conversation as Markdown: what `/save` writes, made of the steps of its journal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from electrictown.redact import mask
from electrictown.sessions.records import TYPED, Said, Turn

__all__ = ["transcript"]

_CONTROLS: Final = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {
    0x7F: "\u2421",
    **dict.fromkeys(
        (
            *range(0x80, 0xA0),
            0x061C,
            0x200E,
            0x200F,
            0x2028,
            0x2029,
            *range(0x202A, 0x202F),
            *range(0x2066, 0x206A),
        ),
        "\ufffd",
    ),
}
"""What a terminal or an editor would obey, as signs that show it."""

_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")


def transcript(turns: Iterable[tuple[Said, Turn | None]], title: str = "Conversation") -> str:
    """The conversation as Markdown: each message, and what became of it (None: nothing yet).

    Messages are quoted and replies stand as they came, so that a reply's own Markdown is Markdown. No
    secret is in it, and nothing that a terminal obeys.
    """
    parts = [f"# {_one_line(title)}"]
    for said, turn in turns:
        parts += [f"## {_who(said.sender)}", _quoted(said.text)]
        parts += _reply(turn) if turn is not None else ["*Not answered yet.*"]
    return "\n\n".join(parts) + "\n"


def _who(sender: str) -> str:
    return "You" if sender in ("", TYPED) else _one_line(sender)


def _reply(turn: Turn) -> list[str]:
    parts = [f"## {_one_line(turn.model) or 'Reply'}"]
    if text := _safe(turn.text).strip("\n"):
        parts.append(text + _closing(text))
    if turn.error is not None:
        parts.append(f"*{turn.outcome.capitalize()}: {_one_line(turn.error.message)}*")
    elif turn.outcome != "done":
        parts.append(f"*{turn.outcome.capitalize()}.*")
    if turn.files:
        parts.append("Files changed:\n\n" + "\n".join(f"* {_code(path)}" for path in turn.files))
    return parts


def _safe(text: str) -> str:
    return mask(text.replace("\r\n", "\n").translate(_CONTROLS))


def _one_line(text: str) -> str:
    return " ".join(_safe(text).split())


def _quoted(text: str) -> str:
    return "\n".join(f"> {row}" if row else ">" for row in _safe(text).strip("\n").split("\n"))


def _code(path: str) -> str:
    """`path` as code, whatever is in it."""
    text = _one_line(path)
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _closing(text: str) -> str:
    """What closes a block of code that `text` leaves open, as a reply does that was cut."""
    fence = ""
    for row in text.split("\n"):
        found = _FENCE.match(row)
        if found is None:
            continue
        marks, rest = found.groups()
        if not fence and not ("`" in rest and marks[0] == "`"):
            fence = marks
        elif fence and marks.startswith(fence) and not rest.strip():
            fence = ""
    return f"\n{fence}" if fence else ""
