"""A run's way into PostgreSQL: one task that writes, with group commit, under a lease that may be taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from electrictown.errors import JournalError, LeaseLostError
from electrictown.journal import postgres_tables as tables
from electrictown.journal.driving import CANCEL, Put
from electrictown.journal.journal import Line, Step
from electrictown.postgres import Link

__all__ = ["TOLD", "PostgresLane"]

TOLD: Final = frozenset({"result", "outcome", CANCEL})
"""The kinds of step that others wait for: NOTIFY is for these, as each one costs all who commit a little."""

_LARGEST = 1000
"""So many steps at the most go into one statement."""


class PostgresLane:
    """Writes the steps of `run` on `link` for as long as the lease (`subtask`, `epoch`) stands.

    `leave` lets go of what was taken for the lane; it may be called again.
    """

    def __init__(
        self, link: Link, run: str, *, epoch: int, subtask: str, leave: Callable[[], Awaitable[None]]
    ) -> None:
        self._link = link
        self._run = run
        self._epoch = epoch
        self._subtask = subtask
        self._leave = leave
        self._waiting: list[tuple[Step, asyncio.Future[Put]]] = []
        self._writing: asyncio.Task[None] | None = None
        self._feeding: set[asyncio.Task[None]] = set()
        self._failure: JournalError | None = None

    def put(self, step: Step) -> asyncio.Future[Put]:
        """Commit `step` unless its key has one already; see `Lane.put`."""
        future: asyncio.Future[Put] = asyncio.get_running_loop().create_future()
        self._waiting.append((step, future))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name=f"journal of {self._run}")
        return future

    def feed(self, lines: list[Line]) -> asyncio.Future[None]:
        """Write events; see `Lane.feed`."""
        task = asyncio.create_task(
            self._link.run(lambda c: tables.insert_lines(c, self._run, self._epoch, lines))
        )
        self._feeding.add(task)
        task.add_done_callback(self._feeding.discard)
        return task

    async def wanted(self) -> bool:
        """Whether the run has a step `cancel`."""
        return await self._link.run(lambda c: tables.wanted(c, self._run))

    async def let_go(self) -> None:
        """Give up the lease. May be called again."""
        await self._leave()

    async def _write(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:_LARGEST], self._waiting[_LARGEST:]
                await self._commit(group)
        finally:
            self._writing = None

    async def _commit(self, group: Sequence[tuple[Step, asyncio.Future[Put]]]) -> None:
        try:
            put = await self._insert([step for step, _ in group])
        except BaseException as error:
            failure = error if isinstance(error, JournalError) else _fault(self._run, error)
            self._failure = self._failure or failure
            for _, future in group:
                if not future.done():
                    # Each who waits has an error of its own: one that many raise has the traces of all.
                    future.set_exception(type(failure)(failure.message, failure.hint))
            if not isinstance(error, Exception):
                raise
            return
        for (_, future), done in zip(group, put, strict=True):
            if not future.done():
                future.set_result(done)

    async def _insert(self, steps: Sequence[Step]) -> list[Put]:
        if self._failure is not None:
            raise self._failure
        tell = any(step.kind in TOLD for step in steps)
        numbers = await self._link.run(
            lambda c: tables.insert_steps(c, steps, subtask=self._subtask, tell=tell)
        )
        if numbers is None:
            what = f"the subtask {self._subtask}" if self._subtask else "the run"
            raise LeaseLostError(
                f"somebody else has taken over {what} of {self._run}",
                "what was committed is kept; this process stops and leaves the rest to the other",
            )
        taken = {step.key for step in steps} - numbers.keys()
        standing = await self._link.run(lambda c: tables.standing(c, self._run, taken)) if taken else {}
        put: list[Put] = []
        for step in steps:
            if step.key in standing:
                put.append((standing[step.key], _same(step, standing[step.key])))
            else:
                number = numbers[step.key]
                stands = Step(number, step.run, step.key, step.kind, step.at, step.epoch, step.value)
                standing[step.key] = stands  # the first of this group; a later one under its key was not put
                put.append((stands, True))
        return put


def _same(mine: Step, theirs: Step) -> bool:
    """Whether the step that stands is the one that was sent, before the connection was lost."""
    return (mine.epoch, mine.at, mine.value) == (theirs.epoch, theirs.at, theirs.value)


def _fault(run: str, error: BaseException) -> JournalError:
    return JournalError(
        f"the journal of the run {run} failed: {type(error).__name__}: {error}",
        "what was committed is kept: resume the run",
    )
