"""A host's limit of calls in flight over processes of many machines: each here is a connection of its own."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from electrictown.errors import JournalError
from electrictown.llm import postgres_slots
from electrictown.llm.postgres_slots import PostgresSlots
from electrictown.llm.slots import Slot
from electrictown.postgres import Database
from fakes.postgres import PostgresCluster

HOST = "box:11434"


class Machine:
    """A process with slots, and what it was told of lost ones."""

    def __init__(self, url: str, name: str, *, patience: float = 20.0, grace: float = 0.0) -> None:
        self.lost: list[JournalError] = []
        self.slots = PostgresSlots(
            Database(url, owner=name), self.lost.append, patience=patience, grace=grace
        )
        self.name = name

    async def take(self, limit: int = 1, host: str = HOST) -> Slot:
        async with asyncio.timeout(15):
            return await self.slots.take(host, limit)

    async def takes_nothing(self, limit: int = 1) -> None:
        """See that no slot comes, for as long as it takes to ask for one twice."""
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await self.slots.take(HOST, limit)


@asynccontextmanager
async def machines(
    url: str, *names: str, patience: float = 20.0, grace: float = 0.0
) -> AsyncGenerator[list[Machine]]:
    async with AsyncExitStack() as stack:
        found = [Machine(url, name, patience=patience, grace=grace) for name in names]
        for machine in found:
            await stack.enter_async_context(machine.slots)
        yield found


def cut(cluster: PostgresCluster, url: str, name: str) -> None:
    cluster.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        f" WHERE application_name = 'et {name} slots'",
        url,
    )


async def test_a_limit_holds_over_all_machines_and_everyone_is_served(url: str) -> None:
    chance = random.Random(7)
    async with machines(url, "a", "b", "c") as fleet:
        flying, most, served = 0, 0, 0

        async def call(machine: Machine) -> None:
            nonlocal flying, most, served
            slot = await machine.take(3)
            flying += 1
            most = max(most, flying)
            await asyncio.sleep(chance.uniform(0, 0.01))
            flying -= 1
            slot.give()
            served += 1

        async with asyncio.timeout(30):
            await asyncio.gather(*(call(machine) for machine in fleet for _ in range(25)))
    assert (most, served) == (3, 75)
    assert not any(machine.lost for machine in fleet)


async def test_a_slot_that_is_given_goes_to_another_machine_at_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_slots, "_POLL", 3600.0)  # only being told can be in time
    async with machines(url, "a", "b") as (a, b):
        slot = await a.take()
        waiting = asyncio.create_task(b.take())
        while not cluster_waits(b):
            await asyncio.sleep(0.01)
        slot.give()
        (await waiting).give()


def cluster_waits(machine: Machine) -> bool:
    line = machine.slots._lines.get(HOST)
    return line is not None and line.marked


async def test_a_busy_machine_lets_others_come_first(url: str) -> None:
    async with machines(url, "a", "b") as (a, b):
        busy = True

        async def again_and_again() -> None:
            while busy:
                slot = await a.take()
                await asyncio.sleep(0.001)
                slot.give()

        tasks = [asyncio.create_task(again_and_again()) for _ in range(4)]
        for _ in range(3):
            (await b.take()).give()
        busy = False
        await asyncio.gather(*tasks)


async def test_each_keeps_to_its_own_limit_and_counts_the_calls_of_all(url: str) -> None:
    async with machines(url, "a", "b") as (a, b):
        slots = [await a.take(3) for _ in range(3)]
        await b.takes_nothing(2)
        slots.pop(0).give()
        await b.takes_nothing(2)
        slots.pop(0).give()
        slots.append(await b.take(2))
        for slot in slots:
            slot.give()


async def test_hosts_do_not_wait_for_each_other(url: str) -> None:
    async with machines(url, "a") as (a,):
        slots = [await a.take(host=f"host{n}") for n in range(5)]
        for slot in slots:
            slot.give()


@pytest.mark.parametrize("after", [0.0, 0.001, 0.005, 0.02, 0.1])
async def test_who_is_cancelled_has_taken_nothing(url: str, after: float) -> None:
    async with machines(url, "a", "b") as (a, b):
        (await a.take(host="other")).give()  # connected
        takes = [asyncio.create_task(a.slots.take(HOST, 1)) for _ in range(3)]
        await asyncio.sleep(after)
        for take in takes:
            take.cancel()
        done = await asyncio.gather(*takes, return_exceptions=True)
        for slot in done:
            if not isinstance(slot, BaseException):
                slot.give()
        (await b.take()).give()
        while a.slots.tasks:
            await asyncio.wait(a.slots.tasks)
        assert a.slots.held == 0


async def test_a_machine_that_dies_gives_its_slots_back(url: str) -> None:
    program = (
        "import asyncio, sys\n"
        "from electrictown.llm.postgres_slots import PostgresSlots\n"
        "from electrictown.postgres import Database\n"
        "async def main():\n"
        "    async with PostgresSlots(Database(sys.argv[1]), print, grace=0) as slots:\n"
        f"        await slots.take({HOST!r}, 1)\n"
        "        print('taken', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, url, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    async with asyncio.timeout(30):
        assert await child.stdout.readline() == b"taken\n"
    async with machines(url, "a") as (a,):
        await a.takes_nothing()
        child.kill()
        await child.wait()
        (await a.take()).give()


async def test_slots_outlive_a_lost_connection(cluster: PostgresCluster, url: str) -> None:
    async with machines(url, "a", "b") as (a, b):
        slot = await a.take()
        cut(cluster, url, "a")
        (await a.take(host="other")).give()  # it is back
        await b.takes_nothing()
        slot.give()
        (await b.take()).give()
        assert not a.lost


async def test_a_slot_that_another_took_meanwhile_is_said_to_be_lost(
    cluster: PostgresCluster, url: str
) -> None:
    async with machines(url, "a", "b") as (a, b):
        slot = await a.take()
        waiting = asyncio.create_task(b.take())
        while not cluster_waits(b):
            await asyncio.sleep(0.01)
        key = b.slots._lines[HOST].key
        # The lock is somebody else's before the first one is back.
        import psycopg

        thief = await psycopg.AsyncConnection.connect(url, autocommit=True)
        taking = asyncio.create_task(thief.execute("SELECT pg_advisory_lock(%s, 1)", (key,)))
        await asyncio.sleep(0.05)
        cut(cluster, url, "a")
        await taking
        async with asyncio.timeout(10):
            while not a.lost:
                await asyncio.sleep(0.01)
        assert "no longer counted" in a.lost[0].message
        assert a.slots.held == 0
        slot.give()  # too late, and no harm
        await thief.close()
        (await waiting).give()


async def test_a_restart_of_the_server_lets_nobody_exceed_the_limit(
    cluster: PostgresCluster, url: str
) -> None:
    async with machines(url, "a", "b", grace=1.0) as (a, b):
        slots = [await a.take(2) for _ in range(2)]
        waiting = asyncio.create_task(b.take(2))
        await asyncio.sleep(0.05)
        await cluster.restarted()
        (await a.take(host="other")).give()
        assert not waiting.done()
        assert (len(a.slots._lines[HOST].held), a.lost) == (2, [])
        slots.pop().give()
        (await waiting).give()
        slots.pop().give()


async def test_a_server_that_stays_away_ends_the_calls(cluster: PostgresCluster, url: str) -> None:
    async with machines(url, "a", patience=0.3) as (a,):
        await a.take()
        await asyncio.to_thread(cluster.stop)
        try:
            async with asyncio.timeout(10):
                while not a.lost:
                    await asyncio.sleep(0.01)
            assert a.slots.held == 0
        finally:
            await cluster.started()
        (await a.take()).give()
