"""How things read on a screen: safe text, money, durations, names."""

from __future__ import annotations

import re
import unicodedata

from electrictown.redact import mask
from electrictown.work import Cost, Failure

__all__ = ["STOPS", "blocks", "count", "duration", "failure", "inert", "line", "money", "unended", "who"]

# What a terminal obeys instead of showing: sequences of ESC, then every single control character.
_SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"  # OSC and other strings: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]?"
)
_UNENDED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b\n]*\x1b?|[ -/]*)\Z")
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f"
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks: they reorder what is read
    r"\u2028\u2029]"
)


def blocks(text: str) -> str:
    """`text` of a model or host, safe to show on a terminal; line breaks and tabs stay, secrets do not."""
    return mask(inert(text))


def inert(text: str) -> str:
    """`text` without what a terminal would obey; line breaks and tabs stay, and so do secrets."""
    text = text.replace("\r\n", "\n")
    if not text.isprintable():
        text = _CONTROLS.sub("", _SEQUENCES.sub("", text))
    return text


def unended(text: str) -> int:
    """Where in `text` an escape sequence begins that more text may go on with; its length where none does."""
    found = _UNENDED.search(text)
    return found.start() if found else len(text)


def line(text: str, limit: int = 0) -> str:
    """`text` as one safe line, cut to `limit` characters where one is given."""
    text = " ".join(blocks(text).split())
    return text if not limit or len(text) <= limit else text[: limit - 1].rstrip() + "…"


def money(usd: float | None, known: float = 0.0) -> str:
    """US dollars: "$0", "$0.0123", "unknown", or "$0.01 + unknown" where only a part has a price."""
    if usd is not None:
        return _dollars(usd)
    return f"{_dollars(known)} + unknown" if known > 0 else "unknown"


def _dollars(usd: float) -> str:
    if usd == 0:
        return "$0"
    if usd >= 1:
        return f"${usd:,.2f}"
    # Two figures that count, four decimals at least: cents are too coarse for one request.
    digits = max(4, next((n for n in range(4, 10) if round(usd, n - 1) > 0), 9))
    return f"${usd:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds as a person reads them: "0.3s", "12.3s", "2m05s", "1h02m"."""
    if seconds < 60:
        return f"{max(seconds, 0.0):.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m"


def count(number: int, what: str) -> str:
    """A number and its noun: "1 subtask", "4 subtasks"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def who(model: str, provider: str) -> str:
    """A model and where it runs: "qwen@ai01"; an agent that does not name its model is itself alone."""
    return line(f"{model}@{provider}" if provider not in ("", model) else model)


STOPS = frozenset({"StoppedError", "BudgetExceeded"})
"""Failures that are none of the subtask's: the run as a whole was to begin nothing more, and says why."""


def failure(error: Failure) -> str:
    """An error in one line: its type and what happened."""
    return line(f"{error.type}: {error.message}")


def bill(cost: Cost) -> str:
    """The money of one line of the bill."""
    return money(cost.usd, cost.known_usd)


def width(text: str) -> int:
    """The columns `text` takes: East Asian wide characters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
