"""Ending a session with all that it started: it is asked, then its processes are told, then made to.

Nothing is signalled that is not the session's (`sessions.processes`).
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from electrictown.errors import SessionError
from electrictown.journal.through import in_thread
from electrictown.sessions.inbox import call
from electrictown.sessions.launching import Executor
from electrictown.sessions.messages import Okay, Stop
from electrictown.sessions.processes import Known, Process, members, send
from electrictown.sessions.records import Record
from electrictown.sessions.registry import Registry

__all__ = ["GRACE", "Ended", "end", "end_processes", "survivors"]

GRACE: Final = 5.0
"""Seconds that a session has to end by itself, and its processes have after SIGTERM."""

_LAST: Final = 5.0
"""Seconds after which a process that does not even end by SIGKILL is given up."""
_STRAGGLERS: Final = 1.0
"""Seconds that what a session started has to follow it, once it has ended."""
_PAUSE: Final = 0.03
_STOPPED: Final = "T"
_LOOKS: Final = 2
"""How often nobody must be seen until nobody is there: one may start another, and end, during a look."""


class Ended(Struct, frozen=True, omit_defaults=True):
    """What was ended.

    `alive` says whether the session's own process lived, `obeyed` whether it ended when it was asked.
    `terminated` and `killed` are the processes that took a SIGTERM, or even a SIGKILL.
    """

    name: str
    alive: bool = False
    obeyed: bool = False
    terminated: tuple[int, ...] = ()
    killed: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return self.alive or bool(self.terminated or self.killed)


async def end(record: Record, registry: Registry, executor: Executor, *, grace: float = GRACE) -> Ended:
    """End the session of `record`, alive or not, until no process of it is left; close what shows it.

    Its status says then that it was killed, unless there was nothing to be ended.

    Raises:
        SessionError: when a process cannot be ended, or the end cannot be written down.
    """
    ended = await end_processes(record, registry, grace=grace)
    await executor.close(record.name, record.mark)
    if ended:
        last = registry.status(record)
        registry.save(
            record.name, replace(last, state="done", why="killed", until=None, pid=0, at=time.time())
        )
    return ended


async def end_processes(record: Record, registry: Registry, *, grace: float = GRACE) -> Ended:
    """End every process of the session; its status and what shows it stay as they are.

    Raises:
        SessionError: when a process cannot be ended.
    """
    hunt = _Hunt(record, registry.status(record).pid)
    alive = registry.is_alive(record.name)
    obeyed = False
    await hunt.look()  # now: who is found by its parent only is not found when that has gone
    if alive:
        hunt.wake()
        obeyed = await _asked(record, registry, hunt, grace)
    terminated = await hunt.drive(signal.SIGTERM, grace)
    killed = await hunt.drive(signal.SIGKILL, _LAST) if hunt.left else ()
    if hunt.left:
        pids = ", ".join(map(str, hunt.pids))
        raise SessionError(
            f"processes of the session {record.name} cannot be ended: {pids}",
            "they belong to another user, or wait for a disk or network that does not answer",
        )
    return Ended(record.name, alive, obeyed, terminated, killed)


def survivors(record: Record, pid: int = 0) -> list[int]:
    """The processes of the session that run now; `pid` is what its status says that its own is."""
    return sorted(one.pid for one in members(record.mark, record.name, pid))


async def _asked(record: Record, registry: Registry, hunt: _Hunt, grace: float) -> bool:
    """Whether the session ended when it was asked to."""
    folder = registry.folder(record.name)
    end = time.monotonic() + grace
    # What it does not answer, or refuses, is followed by signals.
    with suppress(SessionError, TimeoutError):
        await call(record.name, folder, Stop("killed"), Okay, seconds=grace)
        await hunt.wait(lambda: registry.is_alive(record.name), end - time.monotonic())
        await hunt.wait(lambda: bool(hunt.left), min(_STRAGGLERS, end - time.monotonic()))
    return not registry.is_alive(record.name)


class _Hunt:
    """The processes of a session, watched until none is left."""

    def __init__(self, record: Record, pid: int) -> None:
        self._record = record
        self._pid = pid
        self._known: set[Known] = set()
        self.left: list[Process] = []
        """Those that ran when it was looked last."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Their pids."""
        return tuple(sorted(one.pid for one in self.left))

    async def look(self) -> None:
        """See who is there."""
        record = self._record
        self.left = await in_thread(lambda: members(record.mark, record.name, self._pid, self._known))
        self._known.update(one.known for one in self.left)

    async def wait(self, goes_on: Callable[[], bool], seconds: float) -> None:
        """Look again and again while something goes on, but no longer than that."""
        until = time.monotonic() + seconds
        await self.look()
        while goes_on() and time.monotonic() < until:
            await asyncio.sleep(_PAUSE)
            await self.look()

    def signal(self, number: signal.Signals, processes: Iterable[Process]) -> list[Known]:
        """Send the signal to `processes`; who has got it."""
        told: list[Known] = []
        for one in processes:
            # Who may not be told is still there in the end, and that is said then.
            with suppress(PermissionError):
                if send(one.known, number):
                    told.append(one.known)
        return told

    def wake(self) -> None:
        """Have those go on that somebody stopped: they could not end."""
        self.signal(signal.SIGCONT, [one for one in self.left if one.state == _STOPPED])

    async def drive(self, number: signal.Signals, seconds: float) -> tuple[int, ...]:
        """Send each the signal, once, those that come meanwhile too, until none is left or time is up.

        Returns who has got it.
        """
        told: set[Known] = set()
        until = time.monotonic() + seconds
        unseen = 0
        while unseen < _LOOKS and not (self.left and time.monotonic() > until):
            await self.look()
            unseen = 0 if self.left else unseen + 1
            if self.left:
                told.update(self.signal(number, [one for one in self.left if one.known not in told]))
                self.wake()
                await asyncio.sleep(_PAUSE)
        return tuple(sorted(pid for pid, _ in told))
