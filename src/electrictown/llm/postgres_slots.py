"""Slots that processes of many machines share, kept by PostgreSQL as advisory locks.

A slot is the lock (host, number) with a number from 1 to the host's limit, held by the one connection that a
process has for its slots: however the process ends, the server gives its locks back. Who waits holds
the lock (host, 0) together with all others that wait: so whoever gives a slot back knows whether to say so,
and who has just come does not pass those by who are waiting.

When the connection is lost, the calls in flight go on while it is made again, and the same locks are taken
again. Those that somebody else has by then are lost, and that is said: their calls must end. For a
moment after the server was started nobody takes a new slot, so that all who had some come back first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Final, TypeVar, cast

from electrictown.errors import JournalError
from electrictown.llm.slots import Slot
from electrictown.postgres import PATIENCE, Connection, Database
from electrictown.postgres_listener import Listener

__all__ = ["PostgresSlots"]

T = TypeVar("T")

_CHANNEL: Final = "electrictown_slots_{}"
_POLL: Final = 1.0
"""Seconds between two looks for a slot of which nobody told: one of a process that has died."""
_AFTER_YOU: Final = 0.05
"""Seconds that a process leaves to others after it gave back a slot that they waited for."""

_LOCKS: Final = """
    SELECT objid::bigint AS number, pid FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid::bigint = %(host)s & 4294967295
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
# The lock is tried in a step of its own: a row that another condition drops must not have locked anything.
_GRAB: Final = f"""
WITH locks AS MATERIALIZED ({_LOCKS}),
free AS MATERIALIZED (
    SELECT number FROM generate_series(1, %(limit)s) AS number
    WHERE (SELECT count(*) FROM locks WHERE number > 0) < %(limit)s
        AND (%(waiting)s OR NOT EXISTS (SELECT 1 FROM locks WHERE number = 0 AND pid <> pg_backend_pid()))
        AND number NOT IN (SELECT number FROM locks)),
mine AS MATERIALIZED (
    SELECT number FROM free WHERE pg_try_advisory_lock(%(host)s::int, number::int) LIMIT 1)
SELECT (SELECT number FROM mine), EXISTS (SELECT 1 FROM locks WHERE number > %(limit)s)
"""  # noqa: S608  (constants)
_COUNT: Final = f"SELECT count(*) FROM ({_LOCKS}) locks WHERE number > 0"  # noqa: S608
_GIVE: Final = f"""
WITH others AS MATERIALIZED (
    SELECT EXISTS (SELECT 1 FROM ({_LOCKS}) locks WHERE number = 0 AND pid <> pg_backend_pid()) AS wait)
SELECT wait, CASE WHEN wait OR NOT %(keep)s THEN pg_advisory_unlock(%(host)s::int, %(number)s::int) END,
    CASE WHEN wait THEN pg_notify(%(channel)s, '')::text END FROM others
"""  # noqa: S608


class PostgresSlots:
    """Slots shared with everyone who uses the same database. Use as `async with`.

    `lost` is called when calls in flight are no longer counted and must end: their slots went to
    others, or the server was away for more than `patience` seconds. `grace` is how many seconds after
    the server's start those who had slots are waited for.
    """

    def __init__(
        self,
        database: Database,
        lost: Callable[[JournalError], None],
        *,
        patience: float = 20.0,
        grace: float = 5.0,
    ) -> None:
        self._database = database
        self._lost = lost
        self._patience = patience
        self._grace = grace
        self._calm_until = 0.0
        self._lines: dict[str, _Line] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.listener = Listener(database, "slots", lost=self._cut_off, back=self._come_back)

    async def __aenter__(self) -> PostgresSlots:
        await self.listener.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give everything back and close the connection."""
        if self._alarm is not None:
            self._alarm.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks)
        await self.listener.aclose()

    async def take(self, host: str, limit: int) -> Slot:
        """A slot of `host`, in turn; see `Slots.take`. A free one costs one round trip.

        Raises:
            JournalError: when the database cannot be reached, or refuses.
        """
        line = self._lines.get(host)
        if line is None:
            line = self._lines[host] = _Line(self, host)
        return await line.take(limit)

    @property
    def held(self) -> int:
        """How many slots this process holds."""
        return sum(len(line.held) for line in self._lines.values())

    async def grab(self, given: dict[str, object]) -> tuple[int | None, bool]:
        """The number of a slot that was taken (None: none is free), and whether others have larger limits.

        Raises:
            JournalError: when the database cannot be reached, or refuses.
        """
        clock = asyncio.get_running_loop().time

        async def work(connection: Connection) -> tuple[int | None, bool]:
            if clock() < self._calm_until:
                return None, False
            row = await (await connection.execute(_GRAB.encode(), given)).fetchone()
            return cast("tuple[int | None, bool]", row)

        return await self.ask(work)

    async def ask(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What `work` gives; where it was lost with its connection, it is done again on the next one.

        Raises:
            JournalError: when the database cannot be reached, or refuses.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + PATIENCE
        while True:
            try:
                return await self.listener.run(work)
            except JournalError:
                if self.listener.connected or clock() > until:
                    raise

    def spawn(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it is done."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _cut_off(self) -> None:
        for line in self._lines.values():
            line.marked = False
        if self.held and self._alarm is None:
            loop = asyncio.get_running_loop()
            self._alarm = loop.call_later(self._patience, self._give_up)

    def _give_up(self) -> None:
        self._alarm = None
        if not self.listener.connected:
            self._drop([(line, number) for line in self._lines.values() for number in line.held])

    async def _come_back(self, connection: Connection) -> None:
        """Take again what this process had, on a new connection, before anybody asks for more."""
        query = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())::float8"
        row = await (await connection.execute(query.encode())).fetchone()
        young = self._grace - cast("tuple[float]", row)[0]
        self._calm_until = asyncio.get_running_loop().time() + max(young, 0.0)
        gone: list[tuple[_Line, int]] = []
        for line in self._lines.values():
            for number in sorted(line.held):
                again = await connection.execute("SELECT pg_try_advisory_lock(%s, %s)", (line.key, number))
                if await again.fetchone() != (True,):
                    gone.append((line, number))
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._drop(gone)

    def _drop(self, gone: list[tuple[_Line, int]]) -> None:
        for line, number in gone:
            line.held.discard(number)
        if gone:
            self._lost(
                JournalError(
                    f"{len(gone)} calls in flight are no longer counted: the database at "
                    f"{self._database.place} was lost, and others may have their slots",
                    "they are asked again; a database that is away often wants a look at its network",
                )
            )


class _Line:
    """One host as this process sees it: the slots it holds, and its own callers in turn."""

    def __init__(self, slots: PostgresSlots, host: str) -> None:
        digest = blake2b(host.encode(), digest_size=12)
        self.key = int.from_bytes(digest.digest()[:4], signed=True)
        self.held: set[int] = set()
        self.marked = False
        self._slots = slots
        self._channel = _CHANNEL.format(digest.hexdigest())
        self._waiting = 0
        self._limit = 0
        self._uniform = True  # every caller here names one limit, so a slot of one is good for another
        self._spare: list[int] = []
        self._head = asyncio.Lock()  # serves its waiters in turn; who has it contends with other processes
        self._news = asyncio.Event()

    async def take(self, limit: int) -> _PostgresSlot:
        """A slot, when all of this process who came before have theirs."""
        self._uniform = self._uniform and self._limit in {0, limit}
        self._limit = limit
        self._waiting += 1
        try:
            async with self._head:
                number = await self._contend(limit)
        finally:
            self._waiting -= 1
            self._settle()
        return _PostgresSlot(self, number)

    async def _contend(self, limit: int) -> int:
        number = await self._grab(limit, waiting=False)
        if number is not None:
            return number
        deaf = self._slots.listener.listen(self._channel, self._news.set)
        try:
            while True:
                self._news.clear()
                await self._mark()
                number = await self._grab(limit, waiting=True)
                if number is not None:
                    return number
                try:
                    async with asyncio.timeout(_POLL):
                        await self._news.wait()
                except TimeoutError:
                    continue
        finally:
            deaf()

    async def _grab(self, limit: int, *, waiting: bool) -> int | None:
        """A slot that is free now. Who is cancelled meanwhile gives back what came of it."""
        if self._spare:
            return self._spare.pop()
        grabbing = asyncio.create_task(self._grabbed(limit, waiting=waiting))
        try:
            return await asyncio.shield(grabbing)
        except asyncio.CancelledError:
            self._slots.spawn(asyncio.create_task(self._return(grabbing)))
            raise

    async def _grabbed(self, limit: int, *, waiting: bool) -> int | None:
        found, mixed = await self._slots.grab({"host": self.key, "limit": limit, "waiting": waiting})
        if found is None:
            return None
        self.held.add(found)
        # Those with a larger limit hold slots that are none of ours. They are counted with one in hand, so
        # that of two who count at once at least one sees the other.
        if mixed and await self._slots.ask(self._count) > limit:
            await self._release(found)
            return None
        return found

    async def _return(self, grabbing: asyncio.Task[int | None]) -> None:
        await asyncio.wait((grabbing,))
        if not grabbing.cancelled() and grabbing.exception() is None:
            number = grabbing.result()
            if number is not None:
                await self._release(number)

    async def _mark(self) -> None:
        """Let others see that somebody waits here."""
        if not self.marked:
            await self._slots.ask(self._show)

    async def _show(self, connection: Connection) -> None:
        await connection.execute("SELECT pg_advisory_lock_shared(%s, 0)", (self.key,))
        self.marked = True

    async def _count(self, connection: Connection) -> int:
        row = await (await connection.execute(_COUNT.encode(), {"host": self.key})).fetchone()
        return cast("tuple[int]", row)[0]

    def _settle(self) -> None:
        """After the last one who waited: give back what was kept for them."""
        if self._waiting:
            return
        if self.marked:
            self.marked = False
            self._slots.spawn(asyncio.create_task(self._unmark()))
        while self._spare:
            self.give(self._spare.pop())

    async def _unmark(self) -> None:
        query = "SELECT pg_advisory_unlock_shared(%(host)s::int, 0)"
        await self._quietly(query, {"host": self.key})

    def give(self, number: int) -> None:
        """The slot `number` is wanted no more."""
        if number in self.held:
            self._slots.spawn(asyncio.create_task(self._release(number)))

    async def _release(self, number: int) -> None:
        """Hand the slot to who waits here, unless somebody waits elsewhere as well: then they come first."""
        keep = self._waiting > 0 and self._uniform
        given: dict[str, object] = {
            "host": self.key,
            "number": number,
            "keep": keep,
            "channel": self._channel,
        }
        row = await self._quietly(_GIVE, given)
        others = row is None or row[0] is True
        if number in self.held and keep and not others:
            self._spare.append(number)
            self._news.set()
            self._settle()
            return
        self.held.discard(number)
        if others and self._waiting:
            asyncio.get_running_loop().call_later(_AFTER_YOU, self._news.set)

    async def _quietly(self, query: str, given: dict[str, object]) -> tuple[object, ...] | None:
        """What a statement gives that lets go of something; None where that went with its connection."""

        async def work(connection: Connection) -> tuple[object, ...] | None:
            return await (await connection.execute(query.encode(), given)).fetchone()

        try:
            return await self._slots.listener.run(work, patience=0.0)
        except JournalError:
            return None


class _PostgresSlot:
    """A slot that is held."""

    __slots__ = ("_line", "_number")

    def __init__(self, line: _Line, number: int) -> None:
        self._line = line
        self._number = number

    def give(self) -> None:
        """Give it back; see `Slot.give`."""
        number, self._number = self._number, 0
        self._line.give(number)
