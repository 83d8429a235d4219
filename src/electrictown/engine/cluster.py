"""The queue that hands subtasks to other machines: Procrastinate on PostgreSQL.

The only module that knows Procrastinate, which keeps its tables in a schema of its own. A job says no more
than which subtask of which run: what it is, and what came of it, is in the journal. So a job may be
handed out twice, and a lost one put again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from msgspec import Struct

from electrictown.errors import JournalError, UsageError
from electrictown.postgres import Connection, Database, Link, lock_key, trouble

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import procrastinate
    from procrastinate import jobs, worker

__all__ = ["Fetcher", "Job", "JobQueue", "make_queue"]

_SCHEMA: Final = "electrictown_jobs"
_QUEUE: Final = "electrictown"
_TASK: Final = "electrictown.perform"
_NEVER: Final = 1e9
"""Seconds: what Procrastinate would do by itself, and is done here with more care."""


class Job(Struct, frozen=True):
    """A subtask of a run that somebody should work. `tries` is how often that was begun before."""

    run: str
    subtask: str
    tries: int = 0

    @property
    def lock(self) -> str:
        """What holds two jobs of one subtask apart."""
        return f"{self.run}/{self.subtask}"


class JobQueue:
    """The queue in the hands of a driver or of a worker. Use as `async with`.

    `alive` is asked on each new connection: a worker that was given up gets none, so that nothing it
    still does can touch a job that somebody else has by then. `patience` is how many seconds a
    connection is waited for.
    """

    def __init__(
        self,
        database: Database,
        *,
        alive: Callable[[Connection], Awaitable[bool]] | None = None,
        patience: float = 30.0,
    ) -> None:
        self._database = database
        self._alive = alive
        self._patience = patience
        self._app = self._make()

    def _make(self) -> procrastinate.App:
        try:
            from procrastinate import App, PsycopgConnector
        except ImportError as error:
            raise UsageError(
                "several machines need the extra `cluster`, which is not installed",
                "pip install 'electrictown[cluster]'",
            ) from error
        for name in ("procrastinate", "psycopg"):  # what they say is said here, in the program's own words
            logging.getLogger(name).addHandler(logging.NullHandler())
        return App(
            connector=PsycopgConnector(
                conninfo=self._database.conninfo("queue").reveal(),
                min_size=1,
                max_size=2,
                timeout=self._patience,
                configure=self._configure,
            )
        )

    async def _configure(self, connection: Connection) -> None:
        from psycopg import OperationalError

        await connection.set_autocommit(True)
        if self._alive is not None and not await self._alive(connection):
            raise OperationalError("this worker was given up")
        await connection.execute(f"SET search_path TO {_SCHEMA}, pg_catalog".encode())
        # A table that grew from nothing to thousands of jobs has no statistics yet, and the server would
        # compare each job with each to fetch one. In the order of the index it looks at one.
        await connection.execute("SET enable_sort TO off")

    async def __aenter__(self) -> JobQueue:
        async with self._spoken():
            await self._app.open_async()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._app.close_async()

    # --- for a driver

    async def put(self, job: Job) -> None:
        """Queue `job`, unless it is waiting there already.

        Raises:
            JournalError: when the queue cannot be written.
        """
        from procrastinate.exceptions import AlreadyEnqueued

        deferrer = self._app.configure_task(
            _TASK,
            allow_unknown=True,
            queue=_QUEUE,
            lock=job.lock,
            queueing_lock=job.lock,
        )
        try:
            async with self._spoken():
                await deferrer.defer_async(run=job.run, subtask=job.subtask)
        except AlreadyEnqueued:
            return

    async def withdraw(self, job: Job) -> bool:
        """Take `job` out of the queue; False where somebody has begun it, or it is not there.

        Raises:
            JournalError: when the queue cannot be written.
        """
        manager = self._app.job_manager
        taken = False
        async with self._spoken():
            for waiting in await manager.list_jobs_async(queueing_lock=job.lock, status="todo"):
                taken |= await manager.cancel_job_by_id_async(cast("int", waiting.id), delete_job=True)
        return taken

    async def missing(self, wanted: Iterable[Job]) -> list[Job]:
        """Those of `wanted` that neither wait nor are being worked.

        Raises:
            JournalError: when the queue cannot be read.
        """
        by_lock = {job.lock: job for job in wanted}
        query = (
            "SELECT queueing_lock FROM procrastinate_jobs"
            " WHERE status IN ('todo', 'doing') AND queueing_lock = ANY(%(locks)s)"
        )
        async with self._spoken():
            rows = await self._app.connector.execute_query_all_async(query, locks=[*by_lock])
        known = {row["queueing_lock"] for row in rows}
        return [job for lock, job in by_lock.items() if lock not in known]

    # --- for who looks after the others

    async def orphans(self, living: Collection[int], silence: float) -> list[jobs.Job]:
        """Jobs that are being worked by nobody: their worker is gone, or silent for `silence` seconds.

        `living` are the fetchers (see `beat`) of workers that are known to live.

        Raises:
            JournalError: when the queue cannot be read.
        """
        async with self._spoken():
            found = await self._app.job_manager.get_stalled_jobs(
                queue=_QUEUE, seconds_since_heartbeat=silence
            )
        return [job for job in found if job.worker_id not in living]

    async def requeue(self, orphans: Iterable[jobs.Job]) -> int:
        """Let others work these jobs, and tell them; how many there were.

        Raises:
            JournalError: when the queue cannot be written.
        """
        from procrastinate.exceptions import ConnectorException
        from procrastinate.utils import utcnow
        from psycopg.errors import RaiseException

        count = 0
        manager = self._app.job_manager
        async with self._spoken():
            for job in orphans:
                try:
                    await manager.retry_job(job, retry_at=utcnow())
                except ConnectorException as error:
                    if isinstance(error.__cause__, RaiseException):
                        continue  # its worker was not so dead, and is done with it
                    raise
                told = json.dumps({"type": "job_inserted", "job_id": job.id})
                query = "SELECT pg_notify(%(channel)s, %(told)s)"
                await self._app.connector.execute_query_async(
                    query, channel=f"procrastinate_queue_v1#{_QUEUE}", told=told
                )
                count += 1
        return count

    async def forget(self, fetchers: Iterable[int]) -> None:
        """Strike fetchers of dead workers off the list.

        Raises:
            JournalError: when the queue cannot be written.
        """
        async with self._spoken():
            for fetcher in fetchers:
                await self._app.job_manager.unregister_worker(fetcher)

    # --- for a worker

    def fetcher(
        self, perform: Callable[[Job], Awaitable[None]], *, name: str, concurrency: int, poll: float
    ) -> Fetcher:
        """What fetches jobs and has them performed, so many at once, until it is told to stop.

        A job whose `perform` raises is queued again. `poll` is how many seconds pass between two looks
        for jobs of which nobody told.
        """
        from procrastinate.jobs import DeleteJobCondition
        from procrastinate.worker import Worker

        async def performed(context: procrastinate.JobContext, run: str, subtask: str) -> None:
            await perform(Job(run, subtask, context.job.attempts))

        self._app.task(name=_TASK, queue=_QUEUE, retry=_again(), pass_context=True)(performed)
        worker = Worker(
            self._app,
            queues=[_QUEUE],
            name=name,
            concurrency=concurrency,
            fetch_job_polling_interval=poll,
            abort_job_polling_interval=_NEVER,
            delete_jobs=DeleteJobCondition.ALWAYS,
            install_signal_handlers=False,
            update_heartbeat_interval=_NEVER,
            stalled_worker_timeout=_NEVER,
        )
        return Fetcher(worker, self._spoken)

    async def beat(self, fetcher: int) -> None:
        """Say that the fetcher lives.

        Raises:
            JournalError: when the queue cannot be written.
        """
        async with self._spoken():
            await self._app.job_manager.update_heartbeat(fetcher)

    @asynccontextmanager
    async def _spoken(self) -> AsyncGenerator[None]:
        """Trouble with the database in the words of this program."""
        import psycopg
        from procrastinate.exceptions import AppNotOpen, ConnectorException, UniqueViolation

        try:
            yield
        except AppNotOpen:
            raise JournalError("the queue is closed") from None
        except UniqueViolation:
            raise
        except ConnectorException as error:
            raise trouble(error.__cause__ or error, self._database) from None
        except (psycopg.Error, OSError) as error:
            raise trouble(error, self._database) from None


class Fetcher:
    """Fetches jobs and has them performed: `run` until `stop`, which lets end what is under way."""

    def __init__(
        self, worker: worker.Worker, spoken: Callable[[], AbstractAsyncContextManager[None]]
    ) -> None:
        self._worker = worker
        self._spoken = spoken

    @property
    def id(self) -> int | None:
        """Its number in the queue; None before it is on the list there."""
        return self._worker.worker_id

    async def run(self) -> None:
        """Fetch until `stop`.

        Raises:
            JournalError: when the queue cannot be read.
        """
        async with self._spoken():
            await self._worker.run()

    def stop(self) -> None:
        """Fetch nothing more."""
        self._worker.stop()


def _again() -> procrastinate.BaseRetryStrategy:
    """Whatever ends a job but its success queues it again: at once where it was cut off, else a bit later."""
    from asyncio import CancelledError

    from procrastinate import BaseRetryStrategy, RetryDecision

    class Again(BaseRetryStrategy):
        def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> RetryDecision:
            cut_off = isinstance(exception, CancelledError)
            return RetryDecision(retry_in={"seconds": 0 if cut_off else min(2**job.attempts, 60)})

    return Again()


async def make_queue(link: Link) -> None:
    """Make the queue's tables where there are none, and bring older ones up to date.

    The journal's tables are there already.

    Raises:
        JournalError: when they are of a newer version, or cannot be made.
    """
    versions = _versions()

    async def work(connection: Connection) -> None:
        if await _version(connection) == versions[-1]:
            return
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key("queue"),))
            version = await _version(connection)  # another program may have been faster
            if version > versions[-1]:
                raise JournalError(
                    f"the queue at {link.database.place} was made by a newer version of Procrastinate",
                    "upgrade: pip install --upgrade 'electrictown[cluster]'",
                )
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_SCHEMA}".encode())
            await connection.execute(f"SET LOCAL search_path TO {_SCHEMA}, pg_catalog".encode())
            for statements in _changes(version, versions):
                await connection.execute(statements.encode())
            await connection.execute(
                "INSERT INTO electrictown.meta VALUES ('queue', %s)"
                " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (versions[-1],),
            )

    await link.run(work)


def _versions() -> list[str]:
    """The changes to its tables that this Procrastinate knows, the last one last."""
    from procrastinate.schema import SchemaManager

    return sorted(path.name for path in Path(SchemaManager.get_migrations_path()).glob("*.sql"))


def _changes(version: str, versions: Iterable[str]) -> list[str]:
    from procrastinate.schema import SchemaManager

    if not version:
        return [SchemaManager.get_schema()]
    folder = Path(SchemaManager.get_migrations_path())
    return [(folder / name).read_text(encoding="utf-8") for name in versions if name > version]


async def _version(connection: Connection) -> str:
    """The last change that was made to the queue's tables; "" where there are none."""
    found = await connection.execute("SELECT value FROM electrictown.meta WHERE name = 'queue'")
    row = await found.fetchone()
    return cast("str", row[0]) if row else ""
