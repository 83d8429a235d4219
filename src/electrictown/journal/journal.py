"""The contract of the journal: a run's steps, each committed once under a key that means something.

A *step* is a value under a key of its run: `plan`, `t07.attempt1`, `t07.review1`, `synthesize`. Keys are
semantic, never positions, so that a program which was upgraded between crash and resume still resumes.
The first value of a key stands for ever; nothing is changed or deleted. *Events* are a numbered feed for
people beside the steps, batched, and nothing that resumes a run reads it.

`SqliteStore` keeps both on this machine, `PostgresStore` for many; `MemoryJournal` keeps nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Protocol, TypeVar

import msgspec
from msgspec import Struct

from electrictown.events import Event
from electrictown.journal.records import Header

__all__ = ["SCHEMA", "Journal", "Line", "RunRow", "Step", "Store"]

SCHEMA = 1
"""The version of the tables and of the values in them. A newer one is refused, never guessed at."""

T = TypeVar("T")


class Step(Struct, frozen=True):
    """One committed step. `seq` orders all steps of a store, `at` is the clock of who wrote it."""

    seq: int
    run: str
    key: str
    kind: str
    at: float
    epoch: int
    value: bytes

    def read(self, of: type[T]) -> T:
        """The value as `of`.

        Raises:
            JournalError: when it is not one; the message names run and key.
        """
        from electrictown.errors import JournalError

        try:
            return msgspec.json.decode(self.value, type=of)
        except msgspec.DecodeError as error:
            raise JournalError(
                f"the step {self.key} of the run {self.run} cannot be read: {error}",
                "it was written by another version of et: use that one, or start the run anew",
            ) from error


class Line(Struct, frozen=True):
    """One event of the feed. `seq` grows within a run; `event` is its JSON."""

    seq: int
    at: float
    event: bytes


class RunRow(Struct, frozen=True):
    """A run as the store knows it.

    `state` is "running" (somebody drives it now), "done", "failed", "interrupted", "cancelled", or
    "stopped" (it has no end and nobody drives it: a crash). `drivers` counts its starts and resumptions.
    """

    run: str
    task: str
    state: str
    started: float
    ended: float | None = None
    drivers: int = 1
    exit_code: int | None = None


class Journal(Protocol):
    """One run's journal in the hands of who drives it. For one event loop.

    `epoch` counts the drivers that the run has had, this one included: part of every key that may
    be tried again after a crash.

    Whatever is given to `record` and `note` is committed in that order. When the store fails (a full
    disk, a lost lease), the call that waits for the commit raises, and so does every later one.
    """

    @property
    def run(self) -> str:
        """The run's id."""
        ...

    @property
    def epoch(self) -> int:
        """Which driver of the run this is, from 1."""
        ...

    async def step(self, key: str, fn: Callable[[], Awaitable[T]], of: type[T], *, kind: str) -> T:
        """The value recorded under `key`, or what `fn` gives, recorded before it is returned.

        The commit is shielded: who is cancelled while it is made is cancelled after it. An exception of
        `fn` records nothing.

        Raises:
            JournalError: when the value cannot be committed, or what is recorded cannot be read.
        """
        ...

    def recorded(self, key: str, of: type[T]) -> T | None:
        """The value recorded under `key`, None where there is none.

        Raises:
            JournalError: when what is recorded cannot be read.
        """
        ...

    async def record(self, key: str, value: object, *, kind: str) -> bool:
        """Commit `value` under `key`; False where the key has its value already, which then stands.

        Raises:
            JournalError: when it cannot be committed.
        """
        ...

    def note(self, key: str, value: object, *, kind: str) -> None:
        """As `record`, without waiting: it is committed before anything that is recorded later."""
        ...

    def tell(self, event: Event) -> None:
        """Put `event` into the feed, soon. Never raises; pieces of text and progress are left out."""
        ...

    def steps(self, kinds: Collection[str] = ()) -> list[Step]:
        """What is recorded, in order; of `kinds` only, where some are named."""
        ...

    async def cancelled(self) -> None:
        """Return when somebody wants the run cancelled (`Store.cancel`)."""
        ...

    async def aclose(self) -> None:
        """Commit what is left, write the feed, and let go of the run; the store stays open.

        Raises:
            JournalError: when something noted could not be committed.
        """
        ...


class Store(Protocol):
    """The journals of all runs: to drive one, and to look at any."""

    async def begin(self, run: str, header: Header) -> Journal:
        """Begin a run: its `Header` is the step "run".

        Raises:
            JournalError: when there is such a run, or the store cannot be written.
        """
        ...

    async def resume(self, run: str) -> Journal:
        """Drive a run that was begun before, with the next epoch.

        Raises:
            UnknownRunError: when there is none.
            RunBusyError: when somebody drives it now.
            JournalError: when the store cannot be read or written.
        """
        ...

    async def runs(self, *, since: float | None = None, limit: int | None = None) -> list[RunRow]:
        """The runs, newest first; `since` is a time as of `time.time()`."""
        ...

    async def find(self, name: str) -> RunRow:
        """The run `name`, or the only one whose id begins so; "last" is the newest.

        Raises:
            UnknownRunError: when there is none, or more than one.
        """
        ...

    async def steps(
        self, run: str | None = None, *, kinds: Collection[str] = (), since: float | None = None
    ) -> list[Step]:
        """The steps of a run (None: of all runs), in order; of `kinds` only, where some are named."""
        ...

    async def lines(self, run: str, *, after: int = 0, limit: int = 1000) -> list[Line]:
        """The events of a run after number `after`, in order."""
        ...

    async def cancel(self, run: str) -> None:
        """Ask whoever drives `run` to stop, and mark it cancelled: it is not resumed by accident."""
        ...

    async def aclose(self) -> None:
        """Close the store."""
        ...
