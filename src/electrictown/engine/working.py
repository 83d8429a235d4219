"""A worker's side of a cluster: subtasks are fetched, worked under a lease, and let go of at once where
this process may no longer work them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct

from electrictown.engine.cluster import Fetcher, Job, JobQueue, make_queue
from electrictown.engine.dispatch import failed_key
from electrictown.engine.fleet import Janitor, Registration, timeout_of
from electrictown.errors import ConfigError, ElectrictownError, JournalError, LeaseLostError, StoppedError
from electrictown.events import Emit, Noted, ignore
from electrictown.journal.driving import cancel_key
from electrictown.journal.postgres import PostgresStore
from electrictown.journal.postgres_journal import PostgresJournal
from electrictown.postgres import Link, pauses
from electrictown.work import Done, Failed, Failure, Result

__all__ = ["Perform", "WorkerLoop", "WorkerState"]

Perform = Callable[[PostgresJournal, str], Awaitable[Result]]
"""Works one subtask of a run: it is given the run's journal, under a lease, and the subtask's id.

A result that stands for good, whoever drives the run, is recorded as `{subtask}.result` by itself.
"""

_TRIES: Final = 8
"""So often a subtask is begun: one that ends every worker which takes it does not go round for ever."""


class WorkerState(Struct, frozen=True):
    """What a worker does now: `running` are runs and subtasks, `silent` the seconds since its last beat."""

    worker: str
    alive: bool
    draining: bool
    silent: float
    running: tuple[tuple[str, str], ...]
    done: int
    failed: int
    abandoned: int


class WorkerLoop:
    """Fetches subtasks and has them performed, `concurrency` at once, until it is told to stop.

    `store` is this worker's own: its owner is the worker's name, unique among all. A `heartbeat` is so
    many seconds; a worker that is silent for `timeout` seconds is given up by the others, and lets go of
    everything by itself.
    """

    def __init__(
        self,
        store: PostgresStore,
        perform: Perform,
        *,
        concurrency: int = 1,
        heartbeat: float = 10.0,
        timeout: float | None = None,
        emit: Emit = ignore,
    ) -> None:
        self.worker = store.database.owner
        self._store = store
        self._perform = perform
        self._concurrency = concurrency
        self._heartbeat = heartbeat
        self._timeout = timeout_of(heartbeat, timeout)
        self._emit = emit
        self._row = Registration(store.database, self.worker, self._timeout)
        self._jobs: dict[asyncio.Task[None], Job] = {}
        self._draining = asyncio.Event()
        self._beaten = 0.0
        self._alive = False
        self._done = self._failed = self._abandoned = 0

    async def run(self) -> None:
        """Work until `drain` or `stop`; a database that is away is waited for.

        Raises:
            JournalError: when the database refuses from the start.
        """
        link = Link(self._store.database, "setup")
        try:
            await make_queue(link)
        finally:
            await link.aclose()
        try:
            while not self._draining.is_set():
                await self._live_again()
        finally:
            await self._row.aclose()

    def drain(self) -> None:
        """Fetch nothing more, finish what is under way, and return from `run`."""
        self._draining.set()

    def stop(self) -> None:
        """As `drain`, but what is under way is let go of: others take it up."""
        self._draining.set()
        self._let_go()

    def abandon(self, error: ElectrictownError) -> None:
        """Let go of what is under way, since it may not go on, and fetch it anew: for `PostgresSlots`."""
        self._warn(error.message)
        self._let_go()

    @property
    def state(self) -> WorkerState:
        """What this worker does now."""
        return WorkerState(
            worker=self.worker,
            alive=self._alive,
            draining=self._draining.is_set(),
            silent=asyncio.get_running_loop().time() - self._beaten if self._beaten else 0.0,
            running=tuple((job.run, job.subtask) for job in self._jobs.values()),
            done=self._done,
            failed=self._failed,
            abandoned=self._abandoned,
        )

    # --- one life: from entering the list to leaving it

    async def _live_again(self) -> None:
        told = ""
        async for _ in pauses():
            if self._draining.is_set():
                return
            try:
                await self._row.enter()
                await self._live()
            except JournalError as error:
                if error.message != told:
                    self._warn(f"this worker waits for the database: {error.message}")
                told = error.message
            else:
                return

    async def _live(self) -> None:
        database = self._store.database
        self._alive, self._beaten = True, asyncio.get_running_loop().time()
        try:
            async with JobQueue(database, alive=self._row.alive, patience=self._timeout) as queue:
                janitor = Janitor(database, queue, self._timeout, self._warn)
                fetcher = queue.fetcher(
                    self._work,
                    name=self.worker,
                    concurrency=self._concurrency,
                    poll=min(self._heartbeat / 2, 5.0),
                )
                tidying = asyncio.create_task(janitor.watch(self._heartbeat), name="janitor")
                try:
                    await self._fetch(fetcher, queue)
                finally:
                    tidying.cancel()
                    await asyncio.wait((tidying,))
                    await janitor.aclose()
        finally:
            self._alive = False
        with contextlib.suppress(JournalError):  # others will notice
            await self._row.leave()

    async def _fetch(self, fetcher: Fetcher, queue: JobQueue) -> None:
        """Fetch and work until the end of this life: a wish, a lost database, or being given up."""
        fetching = asyncio.create_task(fetcher.run(), name="fetch")
        beating = asyncio.create_task(self._beat(fetcher, queue), name="heartbeat")
        wish = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait((fetching, beating, wish), return_when=asyncio.FIRST_COMPLETED)
            fetcher.stop()
            # What is under way goes on for as long as this worker is known to live.
            await asyncio.wait((fetching, beating), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not fetching.done():
                self._let_go()
                fetcher.stop()
                await asyncio.wait((fetching,))
            for task in (beating, wish):
                task.cancel()
            await asyncio.wait((beating, wish))
        failures = [task.exception() for task in (beating, fetching) if not task.cancelled()]
        for failure in filter(None, failures):
            raise failure  # the first says why, the other what came of it

    async def _beat(self, fetcher: Fetcher, queue: JobQueue) -> None:
        """Beat; ends with an error when this worker is given up, or cannot say for too long that it lives."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                async with asyncio.timeout_at(self._beaten + self._timeout):
                    if not await self._row.beat(fetcher.id):
                        raise JournalError("others have given this worker up", "it begins anew")
                    if fetcher.id is not None:
                        await queue.beat(fetcher.id)
            except TimeoutError:
                raise JournalError(
                    f"this worker could not say for {self._timeout:g} s that it lives", "it begins anew"
                ) from None
            self._beaten = clock()
            await asyncio.sleep(self._heartbeat if fetcher.id is not None else 0.05)

    # --- one job

    async def _work(self, job: Job) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a coroutine runs in a task)
        self._jobs[task] = job
        task.add_done_callback(lambda done: self._ended(done, job))
        try:
            journal = await self._store.lease(job.run, job.subtask, self.worker)
            try:
                await self._work_leased(journal, job)
            finally:
                with contextlib.suppress(JournalError):  # whoever waited for a commit knows
                    await journal.aclose()
        except asyncio.CancelledError:
            self._abandoned += 1
            raise
        except LeaseLostError as error:
            self._abandoned += 1
            self._warn(f"{job.subtask} of {job.run} is let go of: {error.message}")
        finally:
            del self._jobs[task]

    def _ended(self, task: asyncio.Task[None], job: Job) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._warn(f"the queue was not told what came of {job.subtask} of {job.run}; others will look")

    async def _work_leased(self, journal: PostgresJournal, job: Job) -> None:
        if journal.recorded(cancel_key(journal.driver), object) is not None or journal.recorded(
            f"{job.subtask}.result", object
        ):
            return
        result = await self._unless_cancelled(journal, job)
        if result is None:
            self._abandoned += 1
            return
        if isinstance(result, Failed):
            self._failed += 1
        else:
            self._done += 1
        if journal.recorded(f"{job.subtask}.result", Done) is None:  # nothing that stands for good
            await journal.record(failed_key(job.subtask, journal.driver), result, kind="outcome")

    async def _unless_cancelled(self, journal: PostgresJournal, job: Job) -> Result | None:
        """What comes of the job; None where somebody wants the run cancelled meanwhile: it is cut off."""
        work = asyncio.create_task(self._result(journal, job))
        wish = asyncio.create_task(journal.cancelled())
        try:
            await asyncio.wait((work, wish), return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and wish.exception() is None:
                return None
            return await work
        finally:
            for task in (work, wish):
                task.cancel()
            await asyncio.wait((work, wish))
            if not wish.cancelled():
                wish.exception()  # who cannot hear it works on: what it writes tells whether it may

    async def _result(self, journal: PostgresJournal, job: Job) -> Result:
        if job.tries >= _TRIES:
            error = JournalError(
                f"{job.subtask} was begun {job.tries} times and never ended", "does it end its workers?"
            )
            return Failed(job.subtask, Failure.of(error))
        try:
            return await self._perform(journal, job.subtask)
        except (JournalError, StoppedError):
            raise
        except ConfigError as error:  # another machine may have what this one lacks
            found = "; ".join((error.message, *error.problems))
            return Failed(
                job.subtask, Failure.of(ConfigError(f"on worker {self.worker}: {found}", error.hint))
            )
        except ElectrictownError as error:
            return Failed(job.subtask, Failure.of(error))
        except Exception as error:
            self._warn(f"{job.subtask} of {job.run} failed: {type(error).__name__}: {error}")
            if job.tries + 1 < _TRIES:
                raise
            failure = Failure(type(error).__name__, str(error), "this is a defect of et: report it")
            return Failed(job.subtask, failure)

    def _let_go(self) -> None:
        for task in [*self._jobs]:
            task.cancel()

    def _warn(self, text: str) -> None:
        self._emit(Noted(text=text, level="warning"))
