"""Entries as people read them: on a session's screen, and in what `et session logs` prints.

    > a question, with its
      second line

    the reply, as it comes
    — qwen3@ai01  1,234 tokens  $0.0123  4.2s

What begins with "—" is said by the program, what begins with "?" is asked by an agent. Nothing here
knows how wide a screen is.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from electrictown.console.text import blocks, duration, inert, line, money, unended
from electrictown.redact import mask, settled
from electrictown.sessions.log import Entry
from electrictown.sessions.records import TYPED

__all__ = ["Lines", "Look", "Piece", "SafeStream"]

Look: TypeAlias = Literal["said", "reply", "end", "trouble", "note", "ask"]
"""What a piece is; how it looks is the screen's."""

_LONGEST_SEQUENCE = 4096
_LONGEST_SENDER = 60


class Piece(Struct, frozen=True):
    """Text that is safe on a terminal, as it is to be written: line breaks are its own."""

    text: str
    look: Look


class SafeStream:
    """Makes a text that comes in pieces safe to show, wherever it is cut.

    An end that may be the beginning of an escape sequence or of a secret waits for the next piece.
    """

    def __init__(self) -> None:
        self._raw = ""
        self._inert = ""

    def feed(self, piece: str) -> str:
        """As much as can be shown with `piece`."""
        raw = self._raw + piece
        cut = unended(raw)
        if len(raw) - cut > _LONGEST_SEQUENCE:  # no sequence that means anything: shown without its ESC
            cut = len(raw)
        self._raw = raw[cut:]
        text = self._inert + inert(raw[:cut])
        cut = settled(text)
        self._inert = text[cut:]
        return mask(text[:cut])

    def rest(self) -> str:
        """What has waited, when nothing more comes."""
        text = mask(self._inert + inert(self._raw))
        self._raw = self._inert = ""
        return text


class Lines:
    """Takes one entry of a session after another and gives what is to be written of each."""

    def __init__(self) -> None:
        self._stream = SafeStream()
        self._begun = False  # whether anything was written
        self._replied = False  # whether the reply has shown any text
        self._ends = ""  # line breaks of the reply that wait for more text: a last empty line is none
        self._noted = False  # whether something else was said since
        self._open = False  # whether a line of the reply is not complete

    def __call__(self, entry: Entry) -> list[Piece]:
        """What to write for `entry`."""
        if entry.kind == "text":
            return self._text(self._stream.feed(entry.text))
        pieces = self._close()
        match entry.kind:
            case "said":
                pieces.append(Piece("\n" * self._begun + _said(entry), "said"))
                pieces.append(Piece("\n", "reply"))
                self._replied = False
            case "reset":
                why = f": {line(entry.text)}" if entry.text else ""
                pieces.append(Piece(f"— the reply begins anew{why}\n", "note"))
                self._replied = False
            case "end":
                pieces.append(Piece(_end(entry), "trouble" if entry.outcome == "failed" else "end"))
                self._replied = False
            case "note":
                pieces.append(Piece(_marked("—", entry.text), "note"))
                self._noted = True
            case "ask":
                pieces.append(Piece(_marked("?", entry.text), "ask"))
                self._noted = True
        self._begun = True
        return pieces

    def text(self, entry: Entry) -> str:
        """What to write for `entry`, where there are no looks."""
        return "".join(piece.text for piece in self(entry))

    def _text(self, safe: str) -> list[Piece]:
        text = self._ends + safe
        if not self._replied:
            text = text.lstrip("\n")
        elif self._noted and text.startswith("\n"):
            text = "\n" + text.lstrip("\n")
        shown = text.rstrip("\n")
        self._ends = text[len(shown) :]
        if not shown:
            return []
        self._begun = self._replied = self._open = True
        self._noted = False
        return [Piece(shown, "reply")]

    def _close(self) -> list[Piece]:
        """The end of the reply's last line, with what waited."""
        pieces = self._text(self._stream.rest())
        if self._open:
            pieces.append(Piece("\n", "reply"))
        self._open = False
        self._ends = ""
        return pieces


def _said(entry: Entry) -> str:
    sender = "" if entry.sender == TYPED else line(entry.sender, _LONGEST_SENDER)
    return _marked(f"{sender}>", entry.text)


def _marked(mark: str, text: str) -> str:
    """`text` behind its mark; further lines are indented."""
    return f"{mark} " + blocks(text).strip("\n").replace("\n", "\n  ") + "\n"


def _end(entry: Entry) -> str:
    """The end of a turn in one line: how it went, who answered, what it used; what to do, in another."""
    why = line(entry.text)
    went = "" if entry.outcome in ("", "done") else line(entry.outcome)
    facts = [f"{went}: {why}" if went and why else went or why, line(entry.model)]
    if entry.tokens:
        facts.append(f"{entry.tokens:,} {'token' if entry.tokens == 1 else 'tokens'}")
    if entry.outcome:  # else it was cut before anything was known of it
        facts.append(money(entry.usd) if entry.usd is not None else "cost unknown")
        facts.append(duration(entry.seconds))
    ended = "— " + "  ".join(fact for fact in facts if fact) + "\n"
    return f"{ended}  hint: {line(entry.hint)}\n" if entry.hint else ended
