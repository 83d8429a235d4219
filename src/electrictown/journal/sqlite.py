"""The journal on this machine: one SQLite file for all runs, which several programs may use at once."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from electrictown.errors import JournalError
from electrictown.journal import tables
from electrictown.journal.driver_lock import DriverLock, driven
from electrictown.journal.driving import CANCEL, DrivenJournal, Put, cancel_key
from electrictown.journal.journal import Line, RunRow, Step
from electrictown.journal.records import Cancelled, Driver, Header
from electrictown.journal.rows import named, row_of
from electrictown.journal.through import in_thread, through
from electrictown.journal.trouble import trouble
from electrictown.journal.values import to_json
from electrictown.journal.writer import Gate, Writer

__all__ = ["SqliteStore"]

T = TypeVar("T")
PATIENCE = 10.0
"""Seconds that a lock of another program is waited for."""


class SqliteStore:
    """The `Store` in a file. Made by `SqliteStore.open`, closed by who opened it, after its journals.

    One thread writes (`Writer`); whatever is read is read in threads of its own. A folder `runs` beside
    the file holds the locks of the drivers.
    """

    def __init__(self, path: Path, writer: Writer, patience: float) -> None:
        self._path = path
        self._locks = path.parent / "runs"
        self._writer = writer
        self._patience = patience

    @classmethod
    async def open(cls, path: Path, *, patience: float = PATIENCE) -> SqliteStore:
        """The store in the file `path`, which is made where there is none, for nobody else to read.

        `patience` is how many seconds a lock of another program is waited for.

        Raises:
            JournalError: when the file cannot be used, or is of a newer version.
        """
        return cls(path, await Writer.open(path, patience), patience)

    async def begin(self, run: str, header: Header) -> DrivenJournal:
        """Begin a run: its `Header` is the step "run".

        Raises:
            JournalError: when there is such a run, or the store cannot be written.
        """
        return await self._drive(run, to_json(header), header.program)

    async def resume(self, run: str) -> DrivenJournal:
        """Drive a run that was begun before, with the next epoch.

        Raises:
            UnknownRunError: when there is none.
            RunBusyError: when somebody drives it now.
            JournalError: when the store cannot be read or written.
        """
        await self._read(lambda file: tables.drivers(file, run))  # no lock is made for a run that is not
        return await self._drive(run, None, "")

    async def runs(self, *, since: float | None = None, limit: int | None = None) -> list[RunRow]:
        """The runs, newest first; `since` is a time as of `time.time()`."""
        return await self._read(lambda file: self._rows(file, since=since, limit=limit))

    async def find(self, name: str) -> RunRow:
        """The run `name`, or the only one whose id begins so; "last" is the newest.

        Raises:
            UnknownRunError: when there is none, or more than one.
        """
        return await self._read(lambda file: self._rows(file, run=named(name, tables.ids(file)))[0])

    async def steps(
        self, run: str | None = None, *, kinds: Collection[str] = (), since: float | None = None
    ) -> list[Step]:
        """The steps of a run (None: of all runs), in order; of `kinds` only, where some are named."""
        return await self._read(lambda file: tables.steps(file, run, kinds, since))

    async def lines(self, run: str, *, after: int = 0, limit: int = 1000) -> list[Line]:
        """The events of a run after number `after`, in order."""
        return await self._read(lambda file: tables.lines(file, run, after, limit))

    async def cancel(self, run: str) -> None:
        """Ask whoever drives `run` to stop, and mark it cancelled: it is not resumed by accident.

        Raises:
            UnknownRunError: when there is none.
        """
        now = time.time()
        wish = to_json(Cancelled(now))

        def ask(file: sqlite3.Connection) -> None:
            key = cancel_key(tables.drivers(file, run))
            tables.insert_step(file, Step(0, run, key, CANCEL, now, 0, wish))

        await through(self._writer.submit(ask))

    async def aclose(self) -> None:
        """Close the store."""
        await self._writer.aclose()

    async def _drive(self, run: str, header: bytes | None, program: str) -> DrivenJournal:
        lock = DriverLock(self._locks, run)
        lane = _SqliteLane(
            run, self._writer, lock, lambda key: self._read(lambda file: tables.has(file, run, key))
        )
        driver = to_json(Driver(os.getpid(), socket.gethostname(), program))
        try:
            await self._take(lock)
            epoch = await through(self._writer.submit(lambda file: _enter(file, run, header, driver)))
            steps, last = await self._read(
                lambda file: (tables.steps(file, run, (), None), tables.last_line(file, run))
            )
        except BaseException:
            await lane.let_go()
            raise
        return DrivenJournal(lane, run, epoch, steps, last=last)

    async def _take(self, lock: DriverLock) -> None:
        try:
            await in_thread(lock.take)
        except OSError as error:
            raise trouble(error, self._locks, self._patience) from error

    async def _read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._looked, read)

    def _looked(self, read: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with closing(tables.look_in(self._path, self._patience)) as file:
                return read(file)
        except sqlite3.Error as error:
            raise trouble(error, self._path, self._patience) from error

    def _rows(
        self,
        file: sqlite3.Connection,
        *,
        run: str | None = None,
        since: float | None = None,
        limit: int | None = None,
    ) -> list[RunRow]:
        found = tables.facts(file, run=run, since=since, limit=limit)
        now = driven(self._locks)
        return [row_of(facts, driven=facts.run in now) for facts in found]


class _SqliteLane:
    """A run's way into the file."""

    def __init__(
        self, run: str, writer: Writer, lock: DriverLock, wanted: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._run = run
        self._writer = writer
        self._gate = Gate()
        self._lock = lock
        self._wanted = wanted

    def put(self, step: Step) -> asyncio.Future[Put]:
        return self._writer.submit(lambda file: tables.insert_step(file, step), self._gate)

    def feed(self, lines: list[Line]) -> asyncio.Future[None]:
        return self._writer.submit(lambda file: tables.insert_lines(file, self._run, lines))

    async def wanted(self, key: str) -> bool:
        return await self._wanted(key)

    async def let_go(self) -> None:
        await in_thread(self._lock.release)


def _enter(file: sqlite3.Connection, run: str, header: bytes | None, driver: bytes) -> int:
    """Write down that a driver begins or resumes the run; its epoch."""
    now = time.time()
    if header is not None:
        if not tables.insert_run(file, run, now):
            raise JournalError(
                f"there is a run {run!r} in the journal already", f"take it up again with `et resume {run}`"
            )
        tables.insert_step(file, Step(0, run, "run", "run", now, 1, header))
    epoch = tables.drivers(file, run) + 1
    tables.insert_step(file, Step(0, run, f"driver.{epoch}", "driver", now, epoch, driver))
    return epoch
