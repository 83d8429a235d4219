"""How far a reply has come, for people."""

from __future__ import annotations

import time

from electrictown.events import Emit, SubtaskProgress

__all__ = ["Progress"]

_EVERY = 0.5
_CHARS_A_TOKEN = 4


class Progress:
    """Counts a reply's characters and tells of them about twice a second."""

    def __init__(self, subtask: str, emit: Emit) -> None:
        self._subtask = subtask
        self._emit = emit
        self._characters = 0
        self._first = 0.0
        self._told = 0.0

    def __call__(self, characters: int) -> None:
        """So many characters more have come."""
        now = time.monotonic()
        self._characters += characters
        if not self._first:
            self._first = self._told = now
        if now - self._told >= _EVERY:
            self._told = now
            tokens = self._characters // _CHARS_A_TOKEN
            rate = tokens / (now - self._first)
            self._emit(SubtaskProgress(subtask=self._subtask, tokens=tokens, tokens_per_second=rate))

    def restart(self) -> None:
        """The reply begins anew."""
        self._characters = 0
        self._first = 0.0
