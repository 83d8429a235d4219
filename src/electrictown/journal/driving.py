"""A run's journal in the hands of its driver: the part that is the same wherever the steps are kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

from electrictown.errors import JournalError
from electrictown.events import Event
from electrictown.journal.feed import Feed
from electrictown.journal.journal import Line, Step
from electrictown.journal.through import through
from electrictown.journal.values import to_json

__all__ = ["CANCEL", "DrivenJournal", "Lane", "Put", "cancel_key"]

T = TypeVar("T")
Put = tuple[Step, bool]
"""The step that stands under a key, and whether it is the one that was put there."""

CANCEL = "cancel"
"""The kind of the step that asks for a run's end."""


def cancel_key(driver: int) -> str:
    """The key of the wish that the driver of this epoch ends the run; the next one may go on with it."""
    return f"{CANCEL}.e{driver}"


_LOOK = 0.5
"""Seconds between two looks for a wish to cancel."""


class Lane(Protocol):
    """One run's way into a store. What is put is committed in that order.

    Once a step could not be committed, none that is put later is: each of their futures has the error.
    """

    def put(self, step: Step) -> asyncio.Future[Put]:
        """Commit `step`, whose `seq` is not known yet, unless its key has a step already."""
        ...

    def feed(self, lines: list[Line]) -> asyncio.Future[None]:
        """Write events; one that is there already is left alone. A failure shuts nothing."""
        ...

    async def wanted(self, key: str) -> bool:
        """Whether there is the step `key`, by which somebody wants this driver to end the run."""
        ...

    async def let_go(self) -> None:
        """Nobody drives the run any longer. May be called again."""
        ...


class DrivenJournal:
    """The `Journal` over a lane. `steps` are those of the run so far, `last` the number of its last event.

    Values are read from memory; what was recorded is there as soon as it is committed. A value that held
    a secret comes back without it when it is read again.
    """

    def __init__(
        self, lane: Lane, run: str, epoch: int, steps: Iterable[Step] = (), *, last: int = 0
    ) -> None:
        self._lane = lane
        self._run = run
        self._epoch = epoch
        self._steps = {step.key: step for step in steps}
        self._queued: dict[str, asyncio.Future[Put]] = {}
        self._newest: asyncio.Future[Put] | None = None
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._feed = Feed(lane.feed, last)
        self._failed: JournalError | None = None
        self._closed = False

    @property
    def run(self) -> str:
        """The run's id."""
        return self._run

    @property
    def epoch(self) -> int:
        """Which driver of the run this is, from 1."""
        return self._epoch

    async def step(self, key: str, fn: Callable[[], Awaitable[T]], of: type[T], *, kind: str) -> T:
        """The value recorded under `key`, or what `fn` gives, recorded before it is returned.

        Of several calls with one key at once the first runs its `fn`; the others wait for it, and the
        next one has its turn if it fails.

        Raises:
            JournalError: when the value cannot be committed, or what is recorded cannot be read.
        """
        async with self._turns.setdefault(key, asyncio.Lock()):
            if (queued := self._queued.get(key)) is not None:
                await through(queued)
            known = self._steps.get(key)
            if known is None:
                self._check()  # nothing is done, and paid for, that could not be written down
                value = await fn()
                known, fresh = await through(self._put(key, value, kind))
                if fresh:
                    return value
            return known.read(of)

    def recorded(self, key: str, of: type[T]) -> T | None:
        """The value recorded under `key`, None where there is none.

        Raises:
            JournalError: when what is recorded cannot be read.
        """
        step = self._steps.get(key)
        return None if step is None else step.read(of)

    async def record(self, key: str, value: object, *, kind: str) -> bool:
        """Commit `value` under `key`; False where the key has its value already, which then stands.

        Raises:
            JournalError: when it cannot be committed.
        """
        _, fresh = await through(self._put(key, value, kind))
        return fresh

    def note(self, key: str, value: object, *, kind: str) -> None:
        """As `record`, without waiting: it is committed before anything that is recorded later.

        Raises:
            JournalError: when something before it could not be committed, or JSON cannot hold it.
        """
        self._put(key, value, kind)

    def tell(self, event: Event) -> None:
        """Put `event` into the feed, soon. Never raises; pieces of text and progress are left out."""
        self._feed.tell(event)

    def steps(self, kinds: Collection[str] = ()) -> list[Step]:
        """What is recorded, in order; of `kinds` only, where some are named."""
        found = [step for step in self._steps.values() if not kinds or step.kind in kinds]
        return sorted(found, key=lambda step: step.seq)

    async def cancelled(self) -> None:
        """Return when somebody wants the run cancelled (`Store.cancel`).

        Raises:
            JournalError: when the store cannot be read.
        """
        key = cancel_key(self._epoch)
        # Another program asks, so there is nothing here to be woken by.
        while key not in self._steps and not await self._lane.wanted(key):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK)

    async def aclose(self) -> None:
        """Commit what is left, write the feed, and let go of the run; the store stays open.

        Raises:
            JournalError: when something noted could not be committed.
        """
        if self._closed:
            return
        self._closed = True
        await through(asyncio.ensure_future(self._finish()))

    async def _finish(self) -> None:
        try:
            try:
                if self._newest is not None:
                    await self._newest
            finally:
                await self._feed.aclose()
        finally:
            await self._lane.let_go()

    def _put(self, key: str, value: object, kind: str) -> asyncio.Future[Put]:
        self._check()
        step = Step(0, self._run, key, kind, time.time(), self._epoch, to_json(value))
        self._newest = future = self._lane.put(step)
        if future.done():
            self._landed(key, future)
        else:
            self._queued.setdefault(key, future)
            future.add_done_callback(lambda done: self._landed(key, done))
        return future

    def _landed(self, key: str, future: asyncio.Future[Put]) -> None:
        if self._queued.get(key) is future:
            del self._queued[key]
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        if error is None:
            self._steps.setdefault(key, future.result()[0])
        elif self._failed is None:
            self._failed = error if isinstance(error, JournalError) else _fault(self._run, error)

    def _check(self) -> None:
        if self._closed:
            raise JournalError(
                f"the journal of the run {self._run} is closed", "resume the run to drive it again"
            )
        if self._failed is not None:
            raise type(self._failed)(self._failed.message, self._failed.hint)


def _fault(run: str, error: BaseException) -> JournalError:
    return JournalError(
        f"the journal of the run {run} failed: {type(error).__name__}: {error}",
        "what was committed is kept: resume the run",
    )
