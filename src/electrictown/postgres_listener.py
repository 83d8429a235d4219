"""One connection that hears what other processes tell (NOTIFY), and runs short statements between.

Its loss is noticed at once, not at the next statement: it listens whenever it is not asked anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

from electrictown.errors import JournalError
from electrictown.postgres import PATIENCE, Connection, Database, pauses, trouble

__all__ = ["Listener"]

T = TypeVar("T")

_CHECK = 15.0
"""Seconds of silence after which the connection is tried: a network may lose it without a word."""
_STEADY = 1.0
"""Seconds after which a connection counts as one that was well."""


class Listener:
    """Listens for as long as it is open; where the connection is lost, it comes back by itself.

    `lost` is called when a connection is gone, `back` with each new one before anything else runs on it.
    Use as `async with`.
    """

    def __init__(
        self,
        database: Database,
        purpose: str,
        *,
        lost: Callable[[], None] | None = None,
        back: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self._database = database
        self._purpose = purpose
        self._lost = lost
        self._back = back
        self._ears: defaultdict[str, list[Callable[[], None]]] = defaultdict(list)
        self._listened: set[str] = set()
        self._connection: Connection | None = None
        self._connected = asyncio.Event()
        self._turn = asyncio.Lock()
        self._asked = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._hearing: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._trouble: JournalError | None = None

    async def __aenter__(self) -> Listener:
        self._task = asyncio.create_task(self._serve(), name=f"listen {self._purpose}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None and not self._connection.closed

    def listen(self, channel: str, heard: Callable[[], None]) -> Callable[[], None]:
        """Have `heard` called when something is told on `channel`; what is returned ends that.

        It is called too when something may have been missed: at the beginning, and after a loss.
        """
        self._ears[channel].append(heard)
        self._interrupt()

        def leave() -> None:
            self._ears[channel].remove(heard)
            if not self._ears[channel]:
                del self._ears[channel]

        return leave

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, patience: float = PATIENCE) -> T:
        """What `work` gives on this connection; it is not run again if that is lost meanwhile.

        Raises:
            JournalError: when there is no connection within `patience` seconds, it is lost, or it refuses.
        """
        import psycopg

        self._asked += 1
        self._idle.clear()
        self._interrupt()
        try:
            try:
                async with asyncio.timeout(patience):
                    await self._connected.wait()
            except TimeoutError:
                raise self._trouble or JournalError(
                    f"the database at {self._database.place} does not answer"
                ) from None
            async with self._turn:
                if self._connection is None:
                    raise JournalError(f"the connection to {self._database.place} was lost")
                try:
                    return await work(self._connection)
                except psycopg.Error as error:
                    if self._connection.closed:
                        self._connected.clear()  # the next one waits for the next connection
                    raise trouble(error, self._database) from None
        finally:
            self._asked -= 1
            if not self._asked:
                self._idle.set()

    def _interrupt(self) -> None:
        if self._hearing is not None:
            self._hearing.cancel()

    async def _serve(self) -> None:
        import psycopg

        clock = asyncio.get_running_loop().time
        while True:
            async for _ in pauses():
                began = clock()
                connection: Connection | None = None
                try:
                    connection = await self._database.connect(self._purpose)
                    if self._back is not None:
                        await self._back(connection)
                    self._listened.clear()
                    self._connection, self._trouble = connection, None
                    self._connected.set()
                    await self._attend(connection)
                except (psycopg.Error, OSError) as error:
                    self._trouble = trouble(error, self._database)
                finally:
                    await self._forget(connection)
                if clock() - began > _STEADY:
                    break  # it was well: the next one is tried for at once

    async def _attend(self, connection: Connection) -> None:
        """Serve until the connection is lost."""
        while not connection.closed:
            async with self._turn:
                await self._tune(connection)
                if not self._asked and await self._heard_out(connection):
                    await connection.execute("SELECT 1")
            await self._idle.wait()

    async def _heard_out(self, connection: Connection) -> bool:
        """Listen until somebody wants something else (False), or for so long that one should try (True)."""
        hearing = self._hearing = asyncio.create_task(self._hear(connection))
        try:
            await asyncio.wait((hearing,))
        finally:
            self._hearing = None
            hearing.cancel()
            await asyncio.wait((hearing,))
        if hearing.cancelled():
            return False
        hearing.result()
        return True

    async def _tune(self, connection: Connection) -> None:
        """Listen to the channels that somebody wants to hear, and no others."""
        from psycopg import sql

        wanted = set(self._ears)
        for channel in wanted ^ self._listened:
            verb = sql.SQL("LISTEN {}" if channel in wanted else "UNLISTEN {}")
            await connection.execute(verb.format(sql.Identifier(channel)))
            for heard in [*self._ears.get(channel, ())]:
                heard()
        self._listened = wanted

    async def _hear(self, connection: Connection) -> None:
        async for told in connection.notifies(timeout=_CHECK):
            for heard in [*self._ears.get(told.channel, ())]:
                heard()

    async def _forget(self, connection: Connection | None) -> None:
        had, self._connection = self._connection, None
        self._connected.clear()
        if had is not None and self._lost is not None:
            self._lost()
        if connection is not None:
            await connection.close()
