"""Who works for a cluster, and whether they live.

A worker is a row that its heartbeat keeps fresh. Whoever finds a row that is not (any worker or driver may
look) gives the worker up, in this order: it is marked dead, its connections are ended and it gets no new
ones, its jobs are queued again, and it is struck off. So when somebody else begins one of its jobs, no
statement of the dead one can come any more, frozen or not: not even the slots of its calls are left.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final, cast

from electrictown.engine.cluster import JobQueue
from electrictown.errors import JournalError
from electrictown.postgres import Connection, Database, Link, lock_key

__all__ = ["Janitor", "Registration", "living", "timeout_of"]

_TIMEOUT: Final = 1.6
"""Heartbeats after which a silent worker is given up; with the time between two looks, fewer than two."""
_LOOKS: Final = 5
"""Looks for silent workers in one heartbeat."""
_SILENT: Final = "seen < now() - make_interval(secs => coalesce(timeout, %s))"
_TO_DO: Final = f"""
SELECT 1 WHERE EXISTS (SELECT 1 FROM electrictown.workers WHERE dead OR {_SILENT})
OR EXISTS (SELECT 1 FROM electrictown_jobs.procrastinate_jobs j WHERE j.status = 'doing'
    AND NOT EXISTS (SELECT 1 FROM electrictown.workers w WHERE w.fetcher = j.worker_id))
"""  # noqa: S608  (constants)
_ENDED: Final = 5.0
"""Seconds that a dead worker's connections have to end."""


def timeout_of(heartbeat: float, timeout: float | None) -> float:
    """Seconds after which a silent worker is given up, unless somebody said otherwise."""
    return heartbeat * _TIMEOUT if timeout is None else timeout


async def living(connection: Connection) -> int:
    """How many workers there are that nobody has given up."""
    found = await _first(connection, "SELECT count(*) FROM electrictown.workers WHERE NOT dead", ())
    return cast("int", found[0]) if found else 0


class Registration:
    """A worker's row. `worker` is the name by which its connections are known; whoever looks gives it up
    when it is silent for `timeout` seconds (None: as long as the one who looks thinks fit).
    """

    def __init__(self, database: Database, worker: str, timeout: float | None = None) -> None:
        self._worker = worker
        self._timeout = timeout
        self._link = Link(database, "heartbeat")

    async def enter(self) -> None:
        """Become one of those that live, once what was left of an earlier life is cleared away.

        Raises:
            JournalError: when the database cannot be reached.
        """
        query = (
            "INSERT INTO electrictown.workers AS w (worker, host, pid, timeout) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (worker) DO UPDATE SET seen = now(), started = now(), fetcher = NULL"
            " WHERE NOT w.dead RETURNING worker"
        )
        given = (self._worker, socket.gethostname(), os.getpid(), self._timeout)
        # Another process clears away, so there is nothing here to be woken by.
        while await self._link.run(lambda c: _first(c, query, given), patience=0.0) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.1)

    async def alive(self, connection: Connection) -> bool:
        """Whether the worker was not given up, asked on any connection."""
        query = "SELECT 1 FROM electrictown.workers WHERE worker = %s AND NOT dead"
        return await _first(connection, query, (self._worker,)) is not None

    async def beat(self, fetcher: int | None) -> bool:
        """Say that the worker lives; False when it was given up.

        Raises:
            JournalError: when the database cannot be reached.
        """
        query = (
            "UPDATE electrictown.workers SET seen = now(), fetcher = coalesce(%s, fetcher)"
            " WHERE worker = %s AND NOT dead RETURNING worker"
        )
        return await self._link.run(lambda c: _first(c, query, (fetcher, self._worker))) is not None

    async def leave(self) -> None:
        """Strike the worker off the list.

        Raises:
            JournalError: when the database cannot be reached.
        """
        query = "DELETE FROM electrictown.workers WHERE worker = %s AND NOT dead RETURNING worker"
        await self._link.run(lambda c: _first(c, query, (self._worker,)), patience=0.0)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._link.aclose()


class Janitor:
    """Gives up workers that are silent for too long and queues what they had.

    That is `timeout` seconds for those that have not said it themselves.

    Several may look at once: one of them clears away, the others leave it to that one. `note` is told
    what was done.
    """

    def __init__(
        self, database: Database, queue: JobQueue, timeout: float, note: Callable[[str], None]
    ) -> None:
        self._link = Link(database, "janitor")
        self._queue = queue
        self._timeout = timeout
        self._note = note

    async def aclose(self) -> None:
        """Close the connection."""
        await self._link.aclose()

    async def watch(self, heartbeat: float) -> None:
        """Look several times in each heartbeat, for ever; a database that is away is waited for."""
        while True:
            try:
                await self.sweep()
            except JournalError as error:
                self._note(f"cannot look after the workers: {error.message}")
            await asyncio.sleep(heartbeat / _LOOKS)

    async def sweep(self) -> int:
        """Look once; how many jobs were queued again.

        Raises:
            JournalError: when the database cannot be reached.
        """
        if await self._link.run(lambda c: _first(c, _TO_DO, (self._timeout,))) is None:
            return 0
        return await self._link.run(self._clear)

    async def _clear(self, connection: Connection) -> int:
        key = (lock_key("janitor"),)
        if await _first(connection, "SELECT pg_try_advisory_lock(%s)", key) != (True,):
            return 0
        try:
            return await self._clear_alone(connection)
        finally:
            if not connection.closed:
                await connection.execute("SELECT pg_advisory_unlock(%s)", key)

    async def _clear_alone(self, connection: Connection) -> int:
        await connection.execute(
            f"UPDATE electrictown.workers SET dead = true WHERE {_SILENT}".encode(),  # noqa: S608
            (self._timeout,),
        )
        rows = await (
            await connection.execute(
                "SELECT worker, fetcher, dead, coalesce(timeout, %s) FROM electrictown.workers",
                (self._timeout,),
            )
        ).fetchall()
        workers = cast("list[tuple[str, int | None, bool, float]]", rows)
        dead = {worker: fetcher for worker, fetcher, is_dead, _ in workers if is_dead}
        for worker in dead:
            await _end_connections(connection, worker)
        living = {fetcher for _, fetcher, is_dead, _ in workers if fetcher is not None and not is_dead}
        await self._queue.forget(fetcher for fetcher in dead.values() if fetcher is not None)
        count = await self._queue.requeue(await self._queue.orphans(living, self._timeout))
        await connection.execute("DELETE FROM electrictown.workers WHERE worker = ANY(%s)", ([*dead],))
        for worker, _, is_dead, timeout in workers:
            if is_dead:
                self._note(f"the worker {worker} was silent for {timeout:g} s and is given up")
        if count:
            self._note(f"{count} subtasks of workers that are gone are handed out again")
        return count


async def _end_connections(connection: Connection, worker: str) -> None:
    """End all connections that a worker has now, and see that they have ended.

    One that is not dead at all makes new ones, which can do no harm: the queue gives it none, and its
    leases are taken over.

    Raises:
        JournalError: when one does not end.
    """
    mine = (
        "SELECT pid, backend_start::text FROM pg_stat_activity"
        " WHERE starts_with(application_name, %s) AND pid <> pg_backend_pid()"
    )
    found = await (await connection.execute(mine, (f"et {worker} ",))).fetchall()
    had = ([pid for pid, _ in found], [began for _, began in found])
    end = (
        "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a"
        " JOIN unnest(%s::int[], %s::text[]) AS had(pid, began)"
        " ON a.pid = had.pid AND a.backend_start::text = had.began"
    )
    loop = asyncio.get_running_loop()
    until = loop.time() + _ENDED
    while await _first(connection, end, had) is not None:
        if loop.time() > until:
            raise JournalError(f"a connection of the dead worker {worker} does not end")
        await asyncio.sleep(0.02)


async def _first(connection: Connection, query: str, given: tuple[object, ...]) -> tuple[object, ...] | None:
    return await (await connection.execute(query.encode(), given)).fetchone()
