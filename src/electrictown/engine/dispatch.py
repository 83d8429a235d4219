"""The driver's side of a cluster: subtasks are queued, and their results heard from the journal."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Final, cast

import msgspec

from electrictown.engine.cluster import Job, JobQueue, make_queue
from electrictown.engine.fleet import Janitor, living, timeout_of
from electrictown.errors import BudgetExceeded, HaltError, JournalError
from electrictown.events import Emit, Event, Noted, SubtaskStarted, ignore
from electrictown.journal import postgres_tables as tables
from electrictown.journal.journal import Step
from electrictown.journal.postgres_journal import PostgresJournal
from electrictown.journal.through import through
from electrictown.postgres import Database, Link
from electrictown.work import Done, Failed, Result

__all__ = ["Dispatcher", "failed_key"]


_ALONE: Final = 3.0
"""Seconds between two looks whether there is any worker at all."""


def failed_key(subtask: str, driver: int) -> str:
    """Where a worker tells the driver of that epoch what came of a subtask that is not done for good: it
    failed, or nobody could review it. The next driver may have it tried again.
    """
    return f"{subtask}.failed.e{driver}"


_LISTEN = 0.3
"""Seconds between two looks for what workers tell."""

_read_event = msgspec.json.Decoder(Event).decode


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
        self._database = database
        self._link = Link(database, "dispatch")
        self._queue = JobQueue(database)
        self._janitor = Janitor(database, self._queue, timeout_of(heartbeat, timeout), self._warn)
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}  # done when the subtask was taken back
        self._halt: HaltError | None = None
        self._tending: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Dispatcher:
        await make_queue(self._link)
        await self._queue.__aenter__()
        self._tending = [
            asyncio.create_task(self._janitor.watch(self._heartbeat), name="janitor"),
            asyncio.create_task(self._put_again(), name="missing jobs"),
            asyncio.create_task(self._look_for_workers(), name="workers"),
            asyncio.create_task(self._listen_in(), name="news of workers"),
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
            HaltError: after `close`, where nobody had begun it.
            JournalError: when the database cannot be reached, or another driver has taken the run over.
        """
        result_key, failed = f"{subtask}.result", failed_key(subtask, self._journal.epoch)
        taken_back: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(subtask, set()).add(taken_back)
        try:
            self._check()
            await self._queue.put(Job(self._journal.run, subtask))
            step = await self._heard(taken_back, result_key, failed)
        finally:
            self._waiting[subtask].remove(taken_back)
            if not self._waiting[subtask]:
                del self._waiting[subtask]
                if not self._known(subtask):
                    await through(asyncio.ensure_future(self._withdraw(subtask)))
        if step.key == result_key:
            return step.read(Done)
        result = cast("Result", step.read(cast("type[object]", Result)))
        if isinstance(result, Failed) and result.error.type == BudgetExceeded.__name__:
            raise BudgetExceeded(result.error.message, result.error.hint)
        return result

    def close(self, why: HaltError) -> None:
        """Hand nothing out any more, and take back what nobody has begun; who waits for it is told `why`."""
        self._halt = why
        self._tending.append(asyncio.create_task(self._take_back(), name="taking back"))

    async def caught_up(self) -> None:
        """Have the journal know all that workers have written.

        Raises:
            JournalError: when it cannot be read.
        """
        await self._journal.refresh()

    async def _heard(self, taken_back: asyncio.Future[None], *keys: str) -> Step:
        hearing = asyncio.ensure_future(self._journal.wait_for(*keys))
        try:
            await asyncio.wait((hearing, taken_back), return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                self._check()
            return hearing.result()
        finally:
            hearing.cancel()
            await asyncio.wait((hearing,))

    def _check(self) -> None:
        if self._halt is not None:
            raise type(self._halt)(self._halt.message, self._halt.hint)

    async def _take_back(self) -> None:
        for subtask in [*self._waiting]:
            if await self._withdraw(subtask):
                self._let_go(subtask)

    def _let_go(self, subtask: str) -> None:
        for future in self._waiting.get(subtask, ()):
            if not future.done():
                future.set_result(None)

    async def _listen_in(self) -> None:
        """Tell what workers tell: `emit` hears of it a moment later, as of what happens here."""
        run, epoch = self._journal.run, self._journal.epoch
        last = await self._link.run(lambda c: tables.last_line(c, run))
        while True:
            await asyncio.sleep(_LISTEN)
            with contextlib.suppress(JournalError):  # it is news for people: the next look is soon
                look = partial(tables.lines, run=run, after=last, limit=1000, unlike=epoch)
                for line in await self._link.run(look):
                    last = line.seq
                    event = _read_event(line.event)
                    # What was begun and is over already is not begun once more on the screen.
                    if not (isinstance(event, SubtaskStarted) and self._known(event.subtask)):
                        self._emit(event)

    def _known(self, subtask: str) -> bool:
        keys = {f"{subtask}.result", failed_key(subtask, self._journal.epoch)}
        return any(self._journal.recorded(key, object) is not None for key in keys)

    async def _withdraw(self, subtask: str) -> bool:
        try:
            return await self._queue.withdraw(Job(self._journal.run, subtask))
        except JournalError as error:
            self._warn(f"{subtask} may still be worked: it could not be withdrawn: {error.message}")
            return False

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
                    if self._halt is not None:
                        self._let_go(job.subtask)
                    elif job.subtask in self._waiting and not self._known(job.subtask):
                        self._warn(f"{job.subtask} was lost on its way to a worker, and is handed out again")
                        await self._queue.put(job)

    async def _look_for_workers(self) -> None:
        """Say it aloud when subtasks wait and nobody is there to work them, once until somebody is."""
        told = False
        while True:
            await asyncio.sleep(_ALONE)
            with contextlib.suppress(JournalError):  # others say that the database is away
                alone = bool(self._waiting) and not await self._link.run(living, patience=0.0)
                if alone and not told:
                    self._warn(
                        f"no worker is there: {len(self._waiting)} subtasks wait until one is started with"
                        f" `et worker --db {self._database.address}`"
                    )
                told = alone

    def _warn(self, text: str) -> None:
        self._emit(Noted(text=text, level="warning"))
