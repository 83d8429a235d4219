"""Prose broken between words, for a screen; code, tables and data are left as they are.

What a terminal breaks itself it can put together again, for a copy or another width; so only what is
meant to be read is broken here. Loads prompt_toolkit, for the widths of characters.
"""

from __future__ import annotations

import re
from typing import Final

from prompt_toolkit.utils import get_cwidth

from electrictown.pane.lines import Look

__all__ = ["Wrap"]

_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_NO_PROSE: Final = re.compile(r" {4}|\t|\s*[|+]")
_BEGINNING: Final = re.compile(r"\s*(?:[-*+•>] +|\d+[.)] +)?")
_WORD: Final = re.compile(r"\s*\S+|\s+")
_LONGEST_PROSE: Final = 4000
_NARROWEST: Final = 20
_HANGING: Final = "  "


class Wrap:
    """Breaks the lines of one reply after another; it remembers whether a block of code is open."""

    def __init__(self) -> None:
        self._fence = ""

    def whole(self, text: str, look: Look, columns: int) -> str:
        """Lines that are complete, each with its line break."""
        if look in ("said", "end", "trouble"):
            self._fence = ""
        return "\n".join(self._line(row, look, columns, complete=True) for row in text.split("\n"))

    def partial(self, text: str, columns: int) -> str:
        """The reply's line that is not complete."""
        return self._line(text, "reply", columns, complete=False)

    def _line(self, row: str, look: Look, columns: int, *, complete: bool) -> str:
        if look != "reply":
            return _broken(row, columns, _HANGING)
        if fence := _FENCE.match(row):
            if complete:
                self._turn(fence[1])
            return row
        if self._fence or _NO_PROSE.match(row):
            return row
        beginning = _BEGINNING.match(row)
        return _broken(row, columns, " " * (len(beginning[0]) if beginning else 0))

    def _turn(self, marks: str) -> None:
        if not self._fence:
            self._fence = marks
        elif marks.startswith(self._fence):
            self._fence = ""


def _broken(row: str, columns: int, hanging: str) -> str:
    """`row` in rows of at most `columns`, those after the first behind `hanging`.

    A word that is wider than a row is the terminal's to break.
    """
    if len(row) * 2 <= columns or len(row) > _LONGEST_PROSE or columns < _NARROWEST:
        return row
    rows: list[str] = []
    begun = ""
    used = 0
    for word in _WORD.findall(row):
        wide = get_cwidth(word)
        if begun.strip() and used + wide > columns:
            rows.append(begun)
            begun = hanging + word.lstrip()
            used = get_cwidth(begun)
        else:
            begun += word
            used += wide
    return "\n".join([*rows, begun])
