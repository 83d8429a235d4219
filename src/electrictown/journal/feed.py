"""The feed of a run: its events, numbered, written in batches beside the steps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from electrictown.errors import JournalError
from electrictown.events import Event, Noted, SubtaskProgress, TextReset, TextStreamed
from electrictown.journal.journal import Line
from electrictown.journal.values import to_json

__all__ = ["Feed"]

_SOON = 0.25
"""Seconds until events are written at the latest, for who follows a run."""
_MANY = 64
"""So many are written at once without waiting."""
_LATER = 2.0
"""Seconds until events that could not be written are tried again."""
_LEFT_OUT = (TextStreamed, TextReset, SubtaskProgress)


class Feed:
    """Takes events and gives them to `send` in batches; `last` is the number of the last one before.

    A batch that could not be written is kept and tried again with the next one: a store that is locked
    for a while costs no event, and no run either.
    """

    def __init__(self, send: Callable[[list[Line]], asyncio.Future[None]], last: int = 0) -> None:
        self._send = send
        self._last = last
        self._lines: list[Line] = []
        self._sent: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def tell(self, event: Event) -> None:
        """Put `event` into the feed. Pieces of text and progress are left out."""
        if self._closed or isinstance(event, _LEFT_OUT):
            return
        try:
            value = to_json(event)
        except JournalError as error:
            text = f"the event {type(event).__name__} could not be kept: {error.message}"
            value = to_json(Noted(time=event.time, text=text, level="warning"))
        self._last += 1
        self._lines.append(Line(self._last, event.time, value))
        if len(self._lines) >= _MANY:
            self._flush()
        else:
            self._flush_in(_SOON)

    async def aclose(self) -> None:
        """Write what is left.

        Raises:
            JournalError: when it cannot be written.
        """
        self._closed = True
        if self._sent is not None:
            await asyncio.wait((self._sent,))
        if self._timer is not None:
            self._timer.cancel()
        if self._lines:
            await self._send(self._lines)

    def _flush_in(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._flush)

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sent is not None or not self._lines:
            return  # one batch at a time: what was told meanwhile goes with the next one
        lines, self._lines = self._lines, []
        self._sent = self._send(lines)
        self._sent.add_done_callback(lambda sent: self._written(sent, lines))

    def _written(self, sent: asyncio.Future[None], lines: list[Line]) -> None:
        self._sent = None
        failed = sent.cancelled() or sent.exception() is not None
        if failed:
            self._lines[:0] = lines
        if self._lines and not self._closed:
            self._flush_in(_LATER if failed else _SOON)
