"""Slots that all processes of one user on one machine share, kept by the kernel as file locks.

A host is a folder, and a slot of it a file: "0", "1", ... up to its limit. Whoever holds the lock of
one (`flock`) has a call in flight, and however a process ends, the kernel gives its locks back. Files
are opened anew each time and never inherited by programs that are started, so no child keeps a slot.

The longest waiting of each process draws a ticket, a file named for the moment, and only the oldest
ticket takes a slot: so no process is passed over, however busy the others are. Tickets decide who is
next, never how many: one that is not kept fresh (its process died, or was stopped) is passed by.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from hashlib import blake2b
from pathlib import Path

from electrictown.errors import WorkspaceError
from electrictown.llm.slots import Slot

__all__ = ["MachineSlots"]

_POLL = 0.01
"""Seconds between two looks at what other processes have given back."""

_BEAT = 0.5
"""Seconds after which a ticket is made fresh again; its own process's slots come without a look."""

_STALE = 2.0
"""Seconds after which a ticket is nobody's."""

_TICKET = "wait-"


class MachineSlots:
    """Slots shared with every process that is given the same `folder`; it need not exist.

    The folder must be on a file system with `flock`: any local one.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: dict[str, _Line] = {}

    async def take(self, host: str, limit: int) -> Slot:
        """A slot of `host`, in turn; see `Slots.take`. A free one costs a handful of system calls.

        Raises:
            WorkspaceError: when the folder or a file in it cannot be written or locked.
        """
        line = self._lines.get(host)
        if line is None:
            name = blake2b(host.encode(), digest_size=16).hexdigest()
            line = self._lines[host] = _Line(str(self._folder / name))
        try:
            if not line.waiting:
                slot = line.grab(limit)
                if slot is not None:
                    return slot
            return await line.wait(limit)
        except OSError as error:
            raise WorkspaceError(
                f"the calls in flight cannot be counted in {self._folder}: {error.strerror}",
                "make the folder writable, or name another with XDG_STATE_HOME",
            ) from error


class _Line:
    """One host as this process sees it: the slots it holds, and its own callers in turn."""

    def __init__(self, folder: str) -> None:
        self.waiting = 0
        self._folder = folder
        self._held: set[int] = set()
        self._head = asyncio.Lock()  # serves its waiters in turn; who has it contends for the machine's slots
        self._freed: asyncio.Future[None] | None = None

    def grab(self, limit: int, ticket: str = "") -> _MachineSlot | None:
        """A slot that is free now; None when there is none, or somebody has waited longer."""
        if len(self._held) >= limit:
            return None
        names = self._names()
        if any(self._is_waiting(name) for name in names if _is_before(name, ticket)):
            return None
        others = [int(name) for name in names if name.isdecimal() and int(name) not in self._held]
        for number in range(limit):
            if number in self._held or (lock := self._lock(number)) is None:
                continue
            # Those with a larger limit, here or elsewhere, may hold slots that are none of ours. They are
            # counted with one in hand, so that of two who count at once at least one sees the other.
            if any(taken >= limit for taken in (*others, *self._held)):
                taken = sum(self._is_locked(other) for other in others if other != number)
                if taken + len(self._held) >= limit:
                    os.close(lock)
                    return None
            self._held.add(number)
            return _MachineSlot(self, number, lock)
        return None

    async def wait(self, limit: int) -> _MachineSlot:
        """A slot, when all who came before have theirs."""
        self.waiting += 1
        try:
            async with self._head:
                return await self._contend(limit)
        finally:
            self.waiting -= 1

    async def _contend(self, limit: int) -> _MachineSlot:
        now = asyncio.get_running_loop().time
        ticket = f"{_TICKET}{time.monotonic_ns():020}-{os.getpid()}"
        fresh_until = 0.0
        try:
            while True:
                if now() >= fresh_until:
                    self._show(ticket)
                    fresh_until = now() + _BEAT
                slot = self.grab(limit, ticket)
                if slot is not None:
                    return slot
                # Nobody else can free a slot while this process holds all of them.
                await self._change(_BEAT if len(self._held) >= limit else _POLL)
        finally:
            self._tear(ticket)

    async def _change(self, seconds: float) -> None:
        """Wait for `seconds`, or until this process gives a slot back."""
        loop = asyncio.get_running_loop()
        self._freed = freed = loop.create_future()
        timer = loop.call_later(seconds, _resolve, freed)
        try:
            await freed
        finally:
            timer.cancel()
            self._freed = None

    def given(self, number: int) -> None:
        """The slot `number` is free again."""
        self._held.discard(number)
        if self._freed is not None:
            _resolve(self._freed)

    def _names(self) -> list[str]:
        try:
            return os.listdir(self._folder)  # noqa: PTH208  (names are enough, and this is the fast path)
        except FileNotFoundError:
            self._make_folder()
            return []

    def _make_folder(self) -> None:
        folder = Path(self._folder)
        for one in (folder.parent, folder):  # the mode goes to the last folder of a path alone
            one.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _lock(self, number: int) -> int | None:
        """The descriptor that holds the lock of slot `number`; None when somebody has it."""
        descriptor = os.open(f"{self._folder}/{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _is_locked(self, number: int) -> bool:
        descriptor = os.open(f"{self._folder}/{number}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _show(self, ticket: str) -> None:
        """Show that somebody waits with this ticket: now, and for a while."""
        path = Path(self._folder, ticket)
        try:
            path.touch(0o600)
        except FileNotFoundError:  # somebody cleaned up
            self._make_folder()
            path.touch(0o600)

    def _tear(self, ticket: str) -> None:
        Path(self._folder, ticket).unlink(missing_ok=True)

    def _is_waiting(self, ticket: str) -> bool:
        """Whether somebody still waits with this ticket; one that is nobody's is torn up."""
        try:
            age = abs(time.time() - Path(self._folder, ticket).stat().st_mtime)
        except FileNotFoundError:
            return False
        if age < _STALE:
            return True
        self._tear(ticket)
        return False


class _MachineSlot:
    """A slot: the descriptor whose lock it is."""

    __slots__ = ("_line", "_lock", "_number")

    def __init__(self, line: _Line, number: int, lock: int) -> None:
        self._line = line
        self._number = number
        self._lock = lock

    def give(self) -> None:
        """See `Slot.give`."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            # Unlocked by hand: a process forked meanwhile shares the lock, and closing alone would keep it.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)
            self._line.given(self._number)


def _is_before(name: str, ticket: str) -> bool:
    """Whether `name` is a ticket that is served before `ticket`; "" has none, and goes last."""
    return name.startswith(_TICKET) and (not ticket or name < ticket)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
