"""Prose broken between words, for a screen, and what Markdown sets apart; code, tables and data stay.

What a terminal breaks itself it can put together again, for a copy or another width; so only what is
meant to be read is broken here. Loads prompt_toolkit, for the widths of characters.
"""

from __future__ import annotations

import re
from typing import Final

from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.utils import get_cwidth

from electrictown.pane.lines import Look

__all__ = ["Wrap"]

_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})")
_ROW: Final = re.compile(r"[^\n]*\n|[^\n]+")
_HEADING: Final = re.compile(r" {0,3}#{1,6} ")
_SPAN: Final = re.compile(r"(?<!`)`[^`]+`(?!`)|\*\*(?=\S)[^*]+(?<=\S)\*\*")
_PROSE: Final = "class:reply"
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

    def whole(self, text: str, look: Look, columns: int) -> StyleAndTextTuples:
        """Lines that are complete, each with its line break, and how they look."""
        if look in ("said", "end", "trouble"):
            self._fence = ""
        styled: StyleAndTextTuples = []
        for row in _ROW.findall(text):
            bare = row.removesuffix("\n")
            style = self.style(bare) if look == "reply" else f"class:{look}"
            shown = self._line(bare, look, columns, complete=True) + row[len(bare) :]
            styled += _spans(shown) if style == _PROSE else [(style, shown)]
        return styled

    def partial(self, text: str, columns: int) -> str:
        """The reply's line that is not complete."""
        return self._line(text, "reply", columns, complete=False)

    def style(self, row: str) -> str:
        """How a line of the reply looks, as far as Markdown says so."""
        if self._fence or _FENCE.match(row):
            return "class:code"
        return "class:heading" if _HEADING.match(row) else _PROSE

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


def _spans(text: str) -> StyleAndTextTuples:
    """A line of prose, with what is code or strong in it; its marks stay, for who copies it."""
    styled: StyleAndTextTuples = []
    end = 0
    for found in _SPAN.finditer(text):
        styled += [(_PROSE, text[end : found.start()])] if found.start() > end else []
        styled.append(("class:code" if found[0].startswith("`") else "class:strong", found[0]))
        end = found.end()
    return [*styled, (_PROSE, text[end:])]


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
