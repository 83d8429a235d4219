"""The journal in PostgreSQL: one store for all runs of many machines."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Collection
from typing import TypeVar

from electrictown.errors import JournalError, LeaseLostError, RunBusyError
from electrictown.journal import postgres_tables as tables
from electrictown.journal.driving import CANCEL, cancel_key
from electrictown.journal.journal import Line, RunRow, Step
from electrictown.journal.postgres_journal import PostgresJournal
from electrictown.journal.postgres_lane import PostgresLane
from electrictown.journal.records import Cancelled, Driver, Header
from electrictown.journal.rows import named, row_of
from electrictown.journal.values import to_json
from electrictown.postgres import PATIENCE, Connection, Database, Link
from electrictown.postgres_listener import Listener
from electrictown.redact import Secret

__all__ = ["PostgresStore"]

T = TypeVar("T")

_KNOWN = ("run", "plan", "brief")
"""What the worker of any subtask needs to know of its run."""
_RELEASED = 5.0
"""Seconds that the server is given to notice that the driver's connection before this one is gone."""


class PostgresStore:
    """The `Store` in a database. Made by `PostgresStore.open`, closed by who opened it, after its journals.

    It holds one connection to read, one to write for workers and one that listens, each made when it
    is first needed; each run that is driven from here holds one of its own.
    """

    def __init__(self, database: Database, patience: float) -> None:
        self._database = database
        self._patience = patience
        self._reading = Link(database, "reads", patience=patience)
        self._writing = Link(database, "writes", patience=patience)
        self._listener: Listener | None = None

    @classmethod
    async def open(
        cls, url: str | Secret | Database, *, owner: str = "", patience: float = PATIENCE
    ) -> PostgresStore:
        """The store at `url`; its tables are made where there are none, in the schema `electrictown`.

        `owner` names this process to the server. `patience` is how many seconds a server that was lost
        is waited for.

        Raises:
            UsageError: when the address cannot be read, or psycopg is not installed.
            JournalError: when the database cannot be used, or is of a newer version.
        """
        database = url if isinstance(url, Database) else Database(url, owner=owner)
        store = cls(database, patience)
        try:
            await store._reading.run(lambda c: tables.make(c, database.place), patience=0.0)
        except BaseException:
            await store.aclose()
            raise
        return store

    @property
    def database(self) -> Database:
        """Where the store is."""
        return self._database

    async def begin(self, run: str, header: Header) -> PostgresJournal:
        """Begin a run: its `Header` is the step "run".

        Raises:
            JournalError: when there is such a run, or the store cannot be written.
        """
        return await self._drive(run, header)

    async def resume(self, run: str) -> PostgresJournal:
        """Drive a run that was begun before, with the next epoch.

        Raises:
            UnknownRunError: when there is none.
            RunBusyError: when somebody drives it now.
            JournalError: when the store cannot be read or written.
        """
        await self._reading.run(lambda c: tables.drivers(c, run))
        return await self._drive(run, None)

    async def lease(self, run: str, subtask: str, worker: str) -> PostgresJournal:
        """The journal of `run` in the hands of the worker of one subtask, until somebody else leases it.

        It knows the run's header, plan and brief and the subtask's own steps; see `PostgresJournal.fetch`.

        Raises:
            UnknownRunError: when there is no such run.
            JournalError: when the store cannot be read or written.
        """
        epoch = await self._writing.run(lambda c: tables.take_lease(c, run, subtask, worker))
        driver = await self._reading.run(lambda c: tables.epoch_of(c, run, ""))
        known = (*_KNOWN, cancel_key(driver))
        steps = await self._reading.run(lambda c: tables.fetch_steps(c, run, known, subtask))
        lane = PostgresLane(self._writing, run, epoch=epoch, subtask=subtask, leave=_nothing)
        return PostgresJournal(
            lane, run, epoch, steps, driver=driver, reading=self._reading, listener=await self._ears()
        )

    async def runs(self, *, since: float | None = None, limit: int | None = None) -> list[RunRow]:
        """The runs, newest first; `since` is a time as of `time.time()`."""
        found = await self._reading.run(lambda c: tables.facts(c, since=since, limit=limit))
        return [row_of(facts, driven=driven) for facts, driven in found]

    async def find(self, name: str) -> RunRow:
        """The run `name`, or the only one whose id begins so; "last" is the newest.

        Raises:
            UnknownRunError: when there is none, or more than one.
        """
        run = named(name, await self._reading.run(tables.ids))
        facts, driven = (await self._reading.run(lambda c: tables.facts(c, run=run)))[0]
        return row_of(facts, driven=driven)

    async def steps(
        self, run: str | None = None, *, kinds: Collection[str] = (), since: float | None = None
    ) -> list[Step]:
        """The steps of a run (None: of all runs), in order; of `kinds` only, where some are named."""
        return await self._reading.run(lambda c: tables.steps(c, run, kinds, since))

    async def lines(self, run: str, *, after: int = 0, limit: int = 1000) -> list[Line]:
        """The events of a run after number `after`, in order."""
        return await self._reading.run(lambda c: tables.lines(c, run, after, limit))

    async def cancel(self, run: str) -> None:
        """Ask whoever drives `run` to stop, and mark it cancelled: it is not resumed by accident.

        Raises:
            UnknownRunError: when there is none.
        """
        now = time.time()
        value = to_json(Cancelled(now))
        await self._writing.run(
            lambda c: tables.insert_cancel(c, Step(0, run, CANCEL, CANCEL, now, 0, value))
        )

    async def aclose(self) -> None:
        """Close the store."""
        if self._listener is not None:
            await self._listener.aclose()
        await self._writing.aclose()
        await self._reading.aclose()

    async def _ears(self) -> Listener:
        if self._listener is None:
            self._listener = await Listener(self._database, "listens").__aenter__()
        return self._listener

    async def _drive(self, run: str, header: Header | None) -> PostgresJournal:
        seat = _Seat(self._database, run, self._patience)
        try:
            epoch = await seat.link.run(lambda c: seat.take(c, header), patience=0.0)
            horizon, steps = await seat.link.run(lambda c: tables.news(c, run, 0))
        except BaseException:
            await seat.leave()
            raise
        lane = PostgresLane(seat.link, run, epoch=epoch, subtask="", leave=seat.leave)
        return PostgresJournal(
            lane,
            run,
            epoch,
            steps,
            driver=epoch,
            horizon=horizon,
            reading=self._reading,
            listener=await self._ears(),
        )


class _Seat:
    """The place of a run's one driver: a connection that holds the run's lock, and writes its steps.

    Lock and connection are one, so a driver that has lost the lock has lost its way to write as well.
    """

    def __init__(self, database: Database, run: str, patience: float) -> None:
        self._database = database
        self._run = run
        self._epoch = 0
        self._pid = 0
        self.link = Link(database, f"run {run}", greet=self._greet, patience=patience)

    async def take(self, connection: Connection, header: Header | None) -> int:
        """Write down that a driver begins or resumes the run; its epoch."""
        now, run = time.time(), self._run
        async with connection.transaction():
            if header is not None and not await tables.insert_run(connection, run, now):
                raise JournalError(
                    f"there is a run {run!r} in the journal already",
                    f"take it up again with `et resume {run}`",
                )
            epoch = await tables.drivers(connection, run) + 1
            holder = f"process {os.getpid()} on {socket.gethostname()}"
            await tables.take_lease(connection, run, "", holder, epoch)
            driver = Driver(os.getpid(), socket.gethostname(), header.program if header else "")
            steps = [Step(0, run, f"driver.{epoch}", "driver", now, epoch, to_json(driver))]
            if header is not None:
                steps.insert(0, Step(0, run, "run", "run", now, epoch, to_json(header)))
            await tables.insert_steps(connection, steps, subtask="", tell=False)
        self._epoch = epoch
        return epoch

    async def leave(self) -> None:
        """Give the lock back. May be called again."""
        # The server would give it back by itself, but some time after the connection is closed.
        with contextlib.suppress(JournalError):  # closed already, or lost and the lock with it
            await self.link.run(tables.unlock_all, patience=0.0)
        await self.link.aclose()

    async def _greet(self, connection: Connection) -> None:
        """Take the run's lock; after a loss, only if nobody else has driven the run meanwhile."""
        if not self._epoch:
            if not await tables.try_lock(connection, tables.lock_of(self._run)):
                who = await tables.holder(connection, self._run)
                raise RunBusyError(
                    f"the run {self._run} is driven by {who or 'another process'}",
                    f"follow it with `et log {self._run} --follow`, or end it with `et cancel {self._run}`",
                )
        else:
            await self._retake(connection)
        self._pid = connection.info.backend_pid

    async def _retake(self, connection: Connection) -> None:
        # The server may not have noticed yet that the connection before is gone, and still keep its lock.
        await tables.terminate(connection, self._pid, self._database.application(f"run {self._run}"))
        loop = asyncio.get_running_loop()
        until = loop.time() + _RELEASED
        while True:
            locked = await tables.try_lock(connection, tables.lock_of(self._run))
            if await tables.epoch_of(connection, self._run, "") != self._epoch or (
                not locked and loop.time() > until
            ):
                raise self._lost()
            if locked:
                return
            await asyncio.sleep(0.1)

    def _lost(self) -> LeaseLostError:
        return LeaseLostError(
            f"another process drives the run {self._run} since the connection was lost",
            f"follow it with `et log {self._run} --follow`",
        )


async def _nothing() -> None:
    """Let go of nothing: a lease stands until somebody else takes it."""
