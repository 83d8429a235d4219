"""The driver's side of a cluster: subtasks are queued, and their results heard from the journal."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

from electrictown.engine.cluster import Job, JobQueue, make_queue
from electrictown.engine.fleet import Janitor, timeout_of
from electrictown.errors import BudgetExceeded, JournalError
from electrictown.events import Emit, Noted, ignore
from electrictown.journal.postgres_journal import PostgresJournal
from electrictown.journal.through import through
from electrictown.postgres import Database, Link
from electrictown.work import Done, Failed, Result

__all__ = ["Dispatcher", "failed_key"]


def failed_key(subtask: str, driver: int) -> str:
    """Where a worker tells the driver of that epoch that it could not do a subtask; the next one may try."""
    return f"{subtask}.failed.e{driver}"


class Dispatcher:
    """Hands the subtasks of one run to whichever workers there are. Use as `async with`.

    `heartbeat` and `timeout` are those of the workers, in seconds.
    """

    def __init__(
        self,
        database: Database,
        journal: PostgresJournal,
        *,
        heartbeat: float = 10.0,
        timeout: float | None = None,
        emit: Emit = ignore,
    ) -> None:
        self._journal = journal
        self._heartbeat = heartbeat
        self._emit = emit
        self._link = Link(database, "dispatch")
        self._queue = JobQueue(database)
        self._janitor = Janitor(database, self._queue, timeout_of(heartbeat, timeout), self._warn)
        self._waiting: Counter[str] = Counter()
        self._tending: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Dispatcher:
        await make_queue(self._link)
        await self._queue.__aenter__()
        self._tending = [
            asyncio.create_task(self._janitor.watch(self._heartbeat), name="janitor"),
            asyncio.create_task(self._put_again(), name="missing jobs"),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Withdraw what nobody has begun, and close the connections."""
        for task in self._tending:
            task.cancel()
        await asyncio.gather(*self._tending, return_exceptions=True)
        for subtask in [*self._waiting]:
            await self._withdraw(subtask)
        await self._janitor.aclose()
        await self._link.aclose()
        await self._queue.__aexit__()

    async def hand_out(self, subtask: str) -> Result:
        """Have `subtask` worked by somebody, and wait for its result. Who is cancelled withdraws it.

        Raises:
            BudgetExceeded: when a worker had to stop at the budget.
            JournalError: when the database cannot be reached, or another driver has taken the run over.
        """
        result_key, failed = f"{subtask}.result", failed_key(subtask, self._journal.epoch)
        self._waiting[subtask] += 1
        try:
            await self._queue.put(Job(self._journal.run, subtask))
            step = await self._journal.wait_for(result_key, failed)
        finally:
            self._waiting[subtask] -= 1
            if not self._waiting[subtask]:
                del self._waiting[subtask]
                if not self._known(subtask):
                    await through(asyncio.ensure_future(self._withdraw(subtask)))
        if step.key == result_key:
            return step.read(Done)
        result = step.read(Failed)
        if result.error.type == BudgetExceeded.__name__:
            raise BudgetExceeded(result.error.message, result.error.hint)
        return result

    async def caught_up(self) -> None:
        """Have the journal know all that workers have written.

        Raises:
            JournalError: when it cannot be read.
        """
        await self._journal.refresh()

    def _known(self, subtask: str) -> bool:
        keys = {f"{subtask}.result", failed_key(subtask, self._journal.epoch)}
        return any(self._journal.recorded(key, object) is not None for key in keys)

    async def _withdraw(self, subtask: str) -> None:
        try:
            await self._queue.withdraw(Job(self._journal.run, subtask))
        except JournalError as error:
            self._warn(f"{subtask} may still be worked: it could not be withdrawn: {error.message}")

    async def _put_again(self) -> None:
        """Put jobs that are neither queued nor worked, though nobody has a result: an insurance."""
        while True:
            await asyncio.sleep(self._heartbeat)
            with contextlib.suppress(
                JournalError
            ):  # the next look is soon, and who waits is told by the journal
                missing = await self._queue.missing(
                    Job(self._journal.run, subtask) for subtask in self._waiting
                )
                if missing:
                    await self._journal.refresh()
                for job in missing:
                    if job.subtask in self._waiting and not self._known(job.subtask):
                        self._warn(f"{job.subtask} was lost on its way to a worker, and is handed out again")
                        await self._queue.put(job)

    def _warn(self, text: str) -> None:
        self._emit(Noted(text=text, level="warning"))
