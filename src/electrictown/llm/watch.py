"""The deadline of one call, without a time limit that spans a yield."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["Late", "Watch"]


class Late(Exception):
    """The deadline passed while the reader of a stream was busy."""


class Watch:
    """One timer for a call of `seconds` at the most: `with Watch(loop, seconds, error) as watch`.

    While the call works, the timer cancels the task that waits for it, as `asyncio.timeout` would;
    while a chunk is with the reader, it only leaves word in `over`. Either way the block ends with
    what `error` makes.

    `task` is who waits for the call, None while nobody does; `at` the loop's time of the deadline.
    """

    __slots__ = ("_error", "_loop", "_owner", "_owner_cancels", "_struck", "_timer", "at", "over", "task")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float | None, error: Callable[[], Exception]
    ) -> None:
        self._loop = loop  # given, for asking which loop runs is a system call in Python 3.11
        self.at = math.inf if seconds is None else loop.time() + seconds
        self.over = False
        self.task = asyncio.current_task(loop)
        self._error = error
        self._owner = self.task
        self._owner_cancels = 0 if self.task is None else self.task.cancelling()
        self._struck: asyncio.Task[Any] | None = None
        self._timer = None if seconds is None else loop.call_at(self.at, self._strike)

    def work(self) -> None:
        """The running task waits for the call from now on.

        Raises:
            Late: when the deadline has passed meanwhile.
        """
        if self.over:
            raise Late
        self.task = asyncio.current_task(self._loop)

    def rest(self) -> None:
        """A chunk goes to the reader."""
        self.task = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task = None
        if self._timer is not None:
            self._timer.cancel()
        if isinstance(error, asyncio.CancelledError | Late) and self._caused(error):
            raise self._error() from error

    def _caused(self, error: BaseException) -> bool:
        """Whether the end is this deadline's doing, and nobody else wants the task to end."""
        if self._struck is None:
            return isinstance(error, Late)
        return self._struck.uncancel() <= (self._owner_cancels if self._struck is self._owner else 0)

    def _strike(self) -> None:
        self.over = True
        if self.task is not None:
            self._struck = self.task
            self.task.cancel()
