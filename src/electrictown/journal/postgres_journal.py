"""A run's journal on PostgreSQL, which hears of what others write."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from electrictown.journal import postgres_tables as tables
from electrictown.journal.driving import DrivenJournal, Put, cancel_key
from electrictown.journal.journal import Step
from electrictown.journal.postgres_lane import PostgresLane
from electrictown.journal.postgres_ledger import Charge, Shortage, Spent, spent
from electrictown.journal.through import through
from electrictown.journal.values import to_json
from electrictown.postgres import Link
from electrictown.postgres_listener import Listener

__all__ = ["PostgresJournal"]

_LOOK = 5.0
"""Seconds between two looks for news that nobody told."""


class PostgresJournal(DrivenJournal):
    """The `Journal` of a driver, or of the worker of one subtask.

    `driver` is the epoch of the run's driver, `horizon` where that driver's next look begins. A worker's
    journal knows part of the run; what else it needs it asks for (`fetch`).
    """

    def __init__(  # noqa: PLR0913  (facts of one lease, by name)
        self,
        lane: PostgresLane,
        run: str,
        epoch: int,
        steps: Iterable[Step],
        *,
        driver: int,
        reading: Link,
        listener: Listener,
        horizon: int | None = None,
    ) -> None:
        super().__init__(lane, run, epoch, steps)
        self.driver = driver
        self._reading = reading
        self._listener = listener
        self._horizon = horizon
        self._looking = asyncio.Lock()
        self._waiting: dict[str, set[asyncio.Future[Step]]] = {}
        self._writes = lane
        self._told = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._deaf: Callable[[], None] | None = None

    async def wait_for(self, *keys: str) -> Step:
        """The first step that is recorded under one of `keys`, by whomever.

        Others are heard of as soon as they commit a step of the kinds in `TOLD`, and of any kind in time.

        Raises:
            JournalError: when the store cannot be read.
        """
        future: asyncio.Future[Step] = asyncio.get_running_loop().create_future()
        for key in keys:
            if key in self._steps:
                return self._steps[key]
        for key in keys:
            self._waiting.setdefault(key, set()).add(future)
        self._begin_watch()
        try:
            return await future
        finally:
            for key in keys:
                self._waiting[key].discard(future)
                if not self._waiting[key]:
                    del self._waiting[key]

    async def refresh(self) -> None:
        """Read what others have written since the last look; a worker only what somebody waits for.

        Raises:
            JournalError: when the store cannot be read.
        """
        async with self._looking:
            horizon = self._horizon
            if horizon is None:
                wanted = [*self._waiting]
                steps = await self._reading.run(lambda c: tables.fetch_steps(c, self.run, wanted, ""))
            else:
                self._horizon, steps = await self._reading.run(lambda c: tables.news(c, self.run, horizon))
            self._learn(steps)

    async def reserve(
        self, key: str, value: object, charges: Sequence[Charge], *, nano: int, tokens: int
    ) -> bool | Shortage:
        """Commit a reservation, its worst case set aside in all of its scopes; or, with a Shortage, nothing.

        `nano` is in billionths of a US dollar. False where the key has its value already. What is
        never settled counts as spent as soon as somebody else has the lease.

        Raises:
            JournalError: when it cannot be committed.
        """
        self._check()
        step = Step(0, self.run, key, "reserve", time.time(), self.epoch, to_json(value))
        future: asyncio.Future[Any] = self._writes.reserve(step, charges, nano, tokens)
        self._newest = future
        future.add_done_callback(lambda done: self._charged(key, done))
        came: Put | Shortage = await through(future)
        return came if isinstance(came, Shortage) else came[1]

    def settle(self, key: str, value: object, *, of: str, nano: int, tokens: int) -> None:
        """Settle the reservation `of` with what was charged, without waiting; see `Journal.note`.

        Raises:
            JournalError: when something before it could not be committed, or JSON cannot hold it.
        """
        self._check()
        step = Step(0, self.run, key, "settle", time.time(), self.epoch, to_json(value))
        future = self._newest = self._writes.settle(step, of, nano, tokens)
        future.add_done_callback(lambda done: self._charged(key, done))

    async def spent(self) -> dict[str, Spent]:
        """What has become of the budget's scopes, over all who work the run.

        Raises:
            JournalError: when the store cannot be read.
        """
        return await self._reading.run(lambda c: spent(c, self.run))

    def _charged(self, key: str, future: asyncio.Future[Any]) -> None:
        if future.cancelled() or future.exception() is not None or not isinstance(future.result(), Shortage):
            self._landed(key, future)

    async def fetch(self, *keys: str) -> None:
        """Read the steps under `keys`, where they are recorded and not known yet.

        Raises:
            JournalError: when the store cannot be read.
        """
        unknown = [key for key in keys if key not in self._steps]
        if unknown:
            self._learn(await self._reading.run(lambda c: tables.fetch_steps(c, self.run, unknown, "")))

    async def cancelled(self) -> None:
        """Return when somebody wants the run cancelled (`Store.cancel`).

        Raises:
            JournalError: when the store cannot be read.
        """
        await self.wait_for(cancel_key(self.driver))

    async def aclose(self) -> None:
        """Commit what is left, write the feed, and let go of the run; see `Journal.aclose`."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait((watch,))
        await super().aclose()

    def _learn(self, steps: Collection[Step]) -> None:
        for step in steps:
            self._steps.setdefault(step.key, step)
            for future in self._waiting.get(step.key, ()):
                if not future.done():
                    future.set_result(self._steps[step.key])

    def _begin_watch(self) -> None:
        if self._watch is None:
            self._told.set()  # what was written before anybody listened
            self._watch = asyncio.create_task(self._look_out(), name=f"news of {self.run}")

    async def _look_out(self) -> None:
        """Look for news when some are told, and now and then, for as long as somebody waits for them."""
        deaf = self._listener.listen(tables.channel_of(self.run), self._told.set)
        try:
            while self._waiting:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await self._told.wait()
                self._told.clear()
                await self.refresh()
                await asyncio.sleep(0)  # who has what it waited for leaves
        except Exception as error:  # whoever waits is told
            for future in {future for futures in self._waiting.values() for future in futures}:
                if not future.done():
                    future.set_exception(error)
        finally:
            deaf()
            self._watch = None
