"""What a session's screen shows now, whatever draws it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from electrictown.pane.lines import Lines, Piece
from electrictown.sessions.log import Entry
from electrictown.sessions.records import TYPED, Status

__all__ = ["Scene"]

_YES: Final = frozenset({"y", "yes"})
_NO: Final = frozenset({"n", "no"})


class Scene:
    """Takes what happens and what is typed in, and holds what is to be seen of it.

    `partial` is the reply's last line as long as it is not complete. `unsaid` is what was typed here and
    waits for its turn, `asked` whether an agent waits for leave, `hint` what the person should know
    before the next key. `changed` is called whenever there is something to be drawn.
    """

    def __init__(self, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.status = Status("starting")
        self.partial = ""
        self.unsaid: list[str] = []
        self.asked = False
        self.hint = ""
        self._changed = changed
        self._clock = clock
        self._lines = Lines()
        self._pieces: list[Piece] = []
        self._began: float | None = None
        self._draft = ""
        self._answerable = False

    def entry(self, entry: Entry) -> None:
        """Take `entry` in."""
        match entry.kind:
            case "said":
                self._began = self._clock()
                if entry.sender == TYPED and entry.text in self.unsaid:
                    self.unsaid.remove(entry.text)
            case "ask":
                self.asked = True
                self._answerable = not self._draft
            case "end":
                self._began = None
                self.asked = False
            case _:
                pass
        self._pieces += self._lines(entry)
        self._changed()

    def take(self, status: Status) -> None:
        """Take in how the session does."""
        if self.status.state == "waiting for input" and status.state != "waiting for input":
            self.asked = False
        self.status = status
        self._changed()

    def whole(self) -> list[Piece]:
        """The lines that are complete and were not given before; what is left is `partial`."""
        lines: list[Piece] = []
        for piece in self._pieces:
            cut = piece.text.rfind("\n") + 1
            if cut:
                lines.append(Piece(self.partial + piece.text[:cut], piece.look))
                self.partial = ""
            self.partial += piece.text[cut:]
        self._pieces.clear()
        return lines

    def typing(self, text: str) -> None:
        """The input holds `text` now."""
        self.hint = ""
        self._draft = text
        self._answerable = self._answerable or not text

    def answer(self, text: str) -> bool | None:
        """Whether `text` answers what is asked, and how; None where it is no answer.

        What somebody was typing when the question came is none.
        """
        if not (self.asked and self._answerable):
            return None
        word = text.strip().lower()
        return True if word in _YES else False if word in _NO else None

    @property
    def working(self) -> float | None:
        """For how many seconds the turn that is under way has been; None where there is none."""
        return self._clock() - self._began if self._began is not None else None
