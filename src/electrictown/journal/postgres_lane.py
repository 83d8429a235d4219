"""A run's way into PostgreSQL: one task that writes, with group commit, under a lease that may be taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from electrictown.errors import JournalError, LeaseLostError
from electrictown.journal import postgres_tables as tables
from electrictown.journal.driving import CANCEL, Put
from electrictown.journal.journal import Line, Step
from electrictown.journal.postgres_ledger import Charge, Shortage, reserve, settle
from electrictown.postgres import Connection, Link

__all__ = ["TOLD", "PostgresLane"]

TOLD: Final = frozenset({"result", "outcome", CANCEL})
"""The kinds of step that others wait for: NOTIFY is for these, as each one costs all who commit a little."""

_Act: TypeAlias = Callable[[Connection], Awaitable[tuple[str, int | None, str | None]]]
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
        self._waiting: list[_Entry] = []
        self._writing: asyncio.Task[None] | None = None
        self._feeding: set[asyncio.Task[None]] = set()
        self._failure: JournalError | None = None

    def put(self, step: Step) -> asyncio.Future[Put]:
        """Commit `step` unless its key has one already; see `Lane.put`."""
        return self._queue(_Entry(step))

    def reserve(
        self, step: Step, charges: Sequence[Charge], nano: int, tokens: int
    ) -> asyncio.Future[Put | Shortage]:
        """Commit `step` if its worst case has room in every scope, and set that aside."""

        def act(connection: Connection) -> Awaitable[tuple[str, int | None, str | None]]:
            return reserve(connection, step, self._subtask, charges, nano, tokens)

        return self._queue(_Entry(step, act))

    def settle(self, step: Step, of: str, nano: int, tokens: int) -> asyncio.Future[Put]:
        """Commit `step`, and settle what was set aside under the key `of` with what was charged."""

        def act(connection: Connection) -> Awaitable[tuple[str, int | None, str | None]]:
            return settle(connection, step, self._subtask, of, nano, tokens)

        return self._queue(_Entry(step, act))

    def _queue(self, entry: _Entry) -> asyncio.Future[Any]:
        self._waiting.append(entry)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name=f"journal of {self._run}")
        return entry.future

    def feed(self, lines: list[Line]) -> asyncio.Future[None]:
        """Write events; see `Lane.feed`."""
        task = asyncio.create_task(
            self._link.run(lambda c: tables.insert_lines(c, self._run, self._epoch, lines))
        )
        self._feeding.add(task)
        task.add_done_callback(self._feeding.discard)
        return task

    async def wanted(self, key: str) -> bool:
        """Whether there is the step `key`, by which somebody wants this driver to end the run."""
        return await self._link.run(lambda c: tables.has(c, self._run, key))

    async def let_go(self) -> None:
        """Give up the lease. May be called again."""
        await self._leave()

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._next())
        finally:
            self._writing = None

    def _next(self) -> list[_Entry]:
        """What goes into one statement: a step that costs by itself, others together."""
        count = next(
            (n for n, entry in enumerate(self._waiting) if entry.act is not None), len(self._waiting)
        )
        count = min(max(count, 1), _LARGEST)
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _commit(self, group: Sequence[_Entry]) -> None:
        try:
            if self._failure is not None:
                raise self._failure  # noqa: TRY301  (none that was put later is committed)
            act = group[0].act
            if act is not None:
                done: Sequence[Put | Shortage] = [await self._charge(group[0].step, act)]
            else:
                done = await self._insert([entry.step for entry in group])
        except BaseException as error:
            failure = error if isinstance(error, JournalError) else _fault(self._run, error)
            self._failure = self._failure or failure
            for entry in group:
                if not entry.future.done():
                    # Each who waits has an error of its own: one that many raise has the traces of all.
                    entry.future.set_exception(type(failure)(failure.message, failure.hint))
            if not isinstance(error, Exception):
                raise
            return
        for entry, came in zip(group, done, strict=True):
            if not entry.future.done():
                entry.future.set_result(came)

    async def _charge(self, step: Step, act: _Act) -> Put | Shortage:
        verdict, number, scope = await self._link.run(act)
        match verdict:
            case "granted":
                return _numbered(step, number or 0), True
            case "taken":
                stands = (await self._standing({step.key}))[step.key]
                return stands, _same(step, stands)
            case "lost":
                raise self._lost()
            case _:
                return Shortage(scope or "", for_good=verdict == "refused")

    async def _insert(self, steps: Sequence[Step]) -> list[Put]:
        tell = any(step.kind in TOLD for step in steps)
        numbers = await self._link.run(
            lambda c: tables.insert_steps(c, steps, subtask=self._subtask, tell=tell)
        )
        if numbers is None:
            raise self._lost()
        taken = {step.key for step in steps} - numbers.keys()
        standing = await self._standing(taken) if taken else {}
        put: list[Put] = []
        for step in steps:
            if step.key in standing:
                put.append((standing[step.key], _same(step, standing[step.key])))
            else:
                # The first of this group stands; a later one under its key was not put.
                standing[step.key] = _numbered(step, numbers[step.key])
                put.append((standing[step.key], True))
        return put

    async def _standing(self, keys: set[str]) -> dict[str, Step]:
        return await self._link.run(lambda c: tables.standing(c, self._run, keys))

    def _lost(self) -> LeaseLostError:
        what = f"the subtask {self._subtask} of {self._run}" if self._subtask else f"the run {self._run}"
        return LeaseLostError(
            f"somebody else has taken {what} over",
            "what was committed is kept; this process stops and leaves the rest to the other",
        )


class _Entry:
    """A step that waits to be committed; `act` does it, where it costs something."""

    __slots__ = ("act", "future", "step")

    def __init__(self, step: Step, act: _Act | None = None) -> None:
        self.step = step
        self.act = act
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


def _numbered(step: Step, number: int) -> Step:
    return Step(number, step.run, step.key, step.kind, step.at, step.epoch, step.value)


def _same(mine: Step, theirs: Step) -> bool:
    """Whether the step that stands is the one that was sent, before the connection was lost."""
    return (mine.epoch, mine.at, mine.value) == (theirs.epoch, theirs.at, theirs.value)


def _fault(run: str, error: BaseException) -> JournalError:
    return JournalError(
        f"the journal of the run {run} failed: {type(error).__name__}: {error}",
        "what was committed is kept: resume the run",
    )
