"""The one thread that writes to a journal's file, with group commit.

Whatever is waiting goes into one transaction, and all who wait for it wake together: while one group is
brought to the disk the next one gathers, so that many writers at once cost few more writes than one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from electrictown.errors import JournalError
from electrictown.journal.tables import connect
from electrictown.journal.through import in_thread, through
from electrictown.journal.trouble import trouble

__all__ = ["Gate", "Writer"]

T = TypeVar("T")
_LARGEST = 1000
"""So many jobs at the most go into one transaction."""


class Gate:
    """What the jobs of one run share: shut by the first that fails, so that none overtakes it."""

    def __init__(self) -> None:
        self.failure: JournalError | None = None


class _Job(Generic[T]):
    def __init__(
        self, work: Callable[[sqlite3.Connection], T], future: asyncio.Future[T], gate: Gate | None
    ) -> None:
        self.work = work
        self.future = future
        self.gate = gate
        self.value: T | None = None
        self.error: BaseException | None = None


class Writer:
    """Runs jobs on the file at `path`, in the order they come. Made by `Writer.open`."""

    def __init__(self, connection: sqlite3.Connection, path: Path, patience: float) -> None:
        self._connection = connection
        self._path = path
        self._patience = patience
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._closed = False
        # A daemon: a program that ends without closing its journal is not held up by it.
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: Path, patience: float) -> Writer:
        """A writer; the file is made where there is none.

        Raises:
            JournalError: when it cannot be used.
        """
        opening = asyncio.ensure_future(asyncio.to_thread(cls._open, path, patience))
        try:
            return await through(opening)
        except asyncio.CancelledError:
            if not opening.cancelled() and opening.exception() is None:
                await opening.result().aclose()  # nobody else would
            raise

    @classmethod
    def _open(cls, path: Path, patience: float) -> Writer:
        try:
            return cls(connect(path, patience), path, patience)
        except (sqlite3.Error, OSError) as error:
            raise trouble(error, path, patience) from error

    def submit(self, work: Callable[[sqlite3.Connection], T], gate: Gate | None = None) -> asyncio.Future[T]:
        """Have `work` done in the next transaction; the future is done when that is on the disk.

        `work` may raise a JournalError before it has changed anything: that fails this job alone. Any other
        error undoes the whole group, and shuts the gates of it.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(JournalError("the journal is closed", "open it again"))
        else:
            self._jobs.put(_Job(work, future, gate))
        return future

    async def aclose(self) -> None:
        """Do what is waiting, then close the file."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        await in_thread(self._thread.join)

    def _run(self) -> None:
        more = True
        while more:
            jobs, more = self._next()
            if jobs:
                self._commit(jobs)
                _wake(jobs)
        self._connection.close()

    def _next(self) -> tuple[list[_Job[Any]], bool]:
        """Wait for a job and take all that have come; False when none comes after them."""
        jobs: list[_Job[Any]] = []
        job = self._jobs.get()
        try:
            while job is not None:
                jobs.append(job)
                if len(jobs) == _LARGEST:
                    return jobs, True
                job = self._jobs.get_nowait()
        except Empty:
            return jobs, True
        return jobs, False

    def _commit(self, jobs: list[_Job[Any]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for job in jobs:
                self._do(job)
            self._connection.execute("COMMIT")
        except Exception as error:  # whatever it is, those who wait are told
            self._undo()
            for job in jobs:
                job.error = job.error or self._told(error)
                if job.gate is not None:
                    job.gate.failure = job.gate.failure or self._told(error)

    def _do(self, job: _Job[Any]) -> None:
        if job.gate is not None and job.gate.failure is not None:
            job.error = type(job.gate.failure)(job.gate.failure.message, job.gate.failure.hint)
            return
        try:
            job.value = job.work(self._connection)
        except JournalError as error:
            job.error = error

    def _undo(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            pass  # SQLite has undone it by itself; the next BEGIN says whether the file can be used

    def _told(self, error: Exception) -> JournalError:
        """Each who waits has an error of its own: one that many raise has the traces of all."""
        if isinstance(error, sqlite3.Error):
            told = trouble(error, self._path, self._patience)
        else:
            told = JournalError(f"the journal failed: {type(error).__name__}: {error}", "resume the run")
        told.__cause__ = error
        return told


def _wake(jobs: list[_Job[Any]]) -> None:
    """Give all who wait their answers, with one call into each event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[_Job[Any]]] = defaultdict(list)
    for job in jobs:
        loops[job.future.get_loop()].append(job)
    for loop, group in loops.items():
        try:
            loop.call_soon_threadsafe(_answer, group)
        except RuntimeError:
            continue  # the loop is closed: nobody waits there any more


def _answer(jobs: list[_Job[Any]]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is None:
            job.future.set_result(job.value)
        else:
            job.future.set_exception(job.error)
