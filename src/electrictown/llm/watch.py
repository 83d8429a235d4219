"""The deadline of one call, without a time limit that spans a yield, and the alarm that keeps it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["Late", "Watch"]


class Late(Exception):
    """The deadline passed while the reader of a stream was busy."""


_NEVER = math.inf
_ENDS = (asyncio.CancelledError, Late)
"""How a block ends that its deadline ended."""


class _Alarm:
    """The deadlines of one event loop, on one timer.

    Nearly all watches end long before their deadline, and a timer of its own for each, armed and
    cancelled, costs more than all else a watch does. So one timer is armed for the soonest and left
    armed when that watch ends; it looks who is left when it goes off, and is set anew.

    The loop and its timers are not kept: whoever holds an alarm must not hold a loop that was closed.
    """

    __slots__ = ("_set_for", "watches")

    def __init__(self) -> None:
        self.watches: set[Watch] = set()
        self._set_for = _NEVER

    def keep(self, watch: Watch, loop: asyncio.AbstractEventLoop) -> None:
        """Strike `watch` at its time, unless it is taken out of `watches` before."""
        self.watches.add(watch)
        if watch.at < self._set_for:
            self._set(watch.at, loop)

    def _set(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        self._set_for = at
        loop.call_at(at, self._ring, at, loop)

    def _ring(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        if at != self._set_for:
            return  # a sooner deadline came later, and its timer looked after this one too
        self._set_for = _NEVER
        for watch in [w for w in self.watches if w.at <= at]:
            self.watches.discard(watch)
            watch.strike()
        if self.watches:
            self._set(min(w.at for w in self.watches), loop)


_alarms: WeakKeyDictionary[asyncio.AbstractEventLoop, _Alarm] = WeakKeyDictionary()


class Watch:
    """A deadline at the loop's time `at`, `math.inf` for none: `with Watch(loop, at, error) as watch`.

    While the call works, the deadline cancels the task that waits for it, as `asyncio.timeout` would;
    while a chunk is with the reader, it only leaves word in `over`. Either way the block ends with
    what `error` makes.

    `task` is who waits for the call, None while nobody does.
    """

    __slots__ = ("_alarm", "_error", "_loop", "_owner", "_owner_cancels", "_struck", "at", "over", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, at: float, error: Callable[[], Exception]) -> None:
        self._loop = loop  # given, for asking which loop runs is a system call in Python 3.11
        self.at = at
        self.over = False
        self.task = asyncio.current_task(loop)
        self._error = error
        self._owner = self.task
        self._owner_cancels = 0 if self.task is None else self.task.cancelling()
        self._struck: asyncio.Task[Any] | None = None
        self._alarm: _Alarm | None = None

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
        if self.at != _NEVER:
            alarm = _alarms.get(self._loop)
            if alarm is None:
                alarm = _alarms[self._loop] = _Alarm()
            self._alarm = alarm
            alarm.keep(self, self._loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.task = None
        if self._alarm is not None:
            self._alarm.watches.discard(self)
        if error is not None and isinstance(error, _ENDS) and self._caused(error):
            raise self._error() from error

    def _caused(self, error: BaseException) -> bool:
        """Whether the end is this deadline's doing, and nobody else wants the task to end."""
        if self._struck is None:
            return isinstance(error, Late)
        return self._struck.uncancel() <= (self._owner_cancels if self._struck is self._owner else 0)

    def strike(self) -> None:
        """The deadline is here."""
        self.over = True
        if self.task is not None:
            self._struck = self.task
            self.task.cancel()
