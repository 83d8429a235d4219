"""A budget that many machines share: nothing is set aside twice, and no cap is passed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from store_kinds import header

from electrictown.errors import LeaseLostError
from electrictown.journal.postgres import PostgresStore
from electrictown.journal.postgres_journal import PostgresJournal
from electrictown.journal.postgres_ledger import Charge, Shortage, Spent
from fakes.postgres import shared_cluster

CAP = 1_000
RUN = Charge("", CAP)


@pytest.fixture
def url() -> str:
    return shared_cluster().emptied()


@asynccontextmanager
async def driving(url: str) -> AsyncGenerator[tuple[PostgresStore, PostgresJournal]]:
    store = await PostgresStore.open(url, owner="driver", patience=30.0)
    journal = await store.begin("r1", header())
    try:
        yield store, journal
    finally:
        await journal.aclose()
        await store.aclose()


async def test_what_is_set_aside_leaves_less_until_it_is_settled(url: str) -> None:
    async with driving(url) as (store, journal):
        assert await journal.reserve("a.e1.r1", {"n": 1}, [RUN], nano=700, tokens=5) is True
        assert await journal.reserve("b.e1.r1", {"n": 2}, [RUN], nano=400, tokens=5) == Shortage(
            "", for_good=False
        )
        assert await journal.reserve("c.e1.r1", {"n": 3}, [RUN], nano=1001, tokens=5) == Shortage(
            "", for_good=True
        )
        assert await journal.spent() == {"": Spent(0, 0, 700, 5)}
        journal.settle("a.e1.r1.settled", {"n": 1}, of="a.e1.r1", nano=650, tokens=4)
        assert await journal.reserve("b.e1.r1", {"n": 2}, [RUN], nano=351, tokens=5) == Shortage(
            "", for_good=True
        )
        assert await journal.reserve("b.e1.r1", {"n": 2}, [RUN], nano=350, tokens=5) is True
        assert await journal.spent() == {"": Spent(650, 4, 350, 5)}
        steps = await store.steps("r1", kinds=("reserve", "settle"))
        assert [step.key for step in steps] == ["a.e1.r1", "a.e1.r1.settled", "b.e1.r1"]
        assert [step.key for step in journal.steps(("reserve", "settle"))] == [step.key for step in steps]


async def test_a_reservation_is_made_in_all_of_its_scopes_or_in_none(url: str) -> None:
    async with driving(url) as (_, journal):
        mayor = Charge("role mayor", cap_tokens=10)
        assert await journal.reserve("a", 1, [RUN, mayor], nano=100, tokens=8) is True
        assert await journal.reserve("b", 1, [RUN, mayor], nano=100, tokens=3) == Shortage(
            "role mayor", for_good=False
        )
        assert await journal.spent() == {"": Spent(0, 0, 100, 8), "role mayor": Spent(0, 0, 100, 8)}
        assert await journal.reserve("c", 1, [RUN, Charge("subtask t1")], nano=900, tokens=9) is True


async def test_a_key_that_is_taken_costs_nothing(url: str) -> None:
    async with driving(url) as (_, journal):
        assert await journal.reserve("a", 1, [RUN], nano=100, tokens=1) is True
        assert await journal.reserve("a", 2, [RUN], nano=100, tokens=1) is False
        journal.settle("a.settled", 1, of="a", nano=100, tokens=1)
        journal.settle("a.settled", 2, of="a", nano=100, tokens=1)
        await journal.record("k", 1, kind="x")
        assert await journal.spent() == {"": Spent(100, 1)}


async def test_who_wants_none_of_a_thing_is_never_in_need_of_it(url: str) -> None:
    async with driving(url) as (_, journal):
        assert await journal.reserve("a", 1, [RUN], nano=CAP, tokens=1) is True
        assert await journal.reserve("free", 1, [RUN], nano=0, tokens=1) is True


async def test_who_has_lost_the_lease_sets_nothing_aside(url: str) -> None:
    async with driving(url) as (store, journal):
        first = await store.lease("r1", "t1", "w1")
        await (await store.lease("r1", "t1", "w2")).aclose()
        with pytest.raises(LeaseLostError):
            await first.reserve("t1.a", 1, [RUN], nano=300, tokens=3)
        assert await journal.spent() == {}


async def test_what_was_never_settled_counts_as_spent_when_the_lease_is_taken_over(url: str) -> None:
    async with driving(url) as (store, _):
        first = await store.lease("r1", "t1", "w1")
        other = await store.lease("r1", "t2", "w1")
        assert await first.reserve("t1.a", 1, [RUN], nano=300, tokens=3) is True
        assert await other.reserve("t2.a", 1, [RUN], nano=200, tokens=2) is True
        second = await store.lease("r1", "t1", "w2")
        assert await second.spent() == {"": Spent(300, 3, 200, 2)}
        first.settle("t1.a.settled", 1, of="t1.a", nano=1, tokens=1)
        with pytest.raises(LeaseLostError):
            await first.aclose()
        assert await second.spent() == {"": Spent(300, 3, 200, 2)}
        await other.aclose()
        await second.aclose()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_no_interleaving_of_many_machines_passes_a_cap(url: str, seed: int) -> None:
    chance = random.Random(seed)
    async with driving(url) as (_, journal):
        others = [await PostgresStore.open(url, owner=f"w{n}") for n in range(3)]
        leases = [await other.lease("r1", f"t{n}", f"w{n}") for n, other in enumerate(others)]
        granted = 0

        async def call(lease: PostgresJournal, key: str) -> None:
            nonlocal granted
            most = chance.randrange(1, 200)
            scopes = [RUN, Charge(f"role {chance.choice('ab')}", 600)]
            came = await lease.reserve(key, most, scopes, nano=most, tokens=1)
            if came is not True:
                return
            granted += 1
            await asyncio.sleep(chance.uniform(0, 0.01))
            lease.settle(f"{key}.settled", 1, of=key, nano=chance.randrange(most + 1), tokens=1)
            found = await journal.spent()
            assert all(s.nano + s.open_nano <= (600 if name else CAP) for name, s in found.items())

        await asyncio.gather(
            *(call(lease, f"t{n}.c{k}") for n, lease in enumerate(leases) for k in range(12))
        )
        for lease in leases:
            await lease.aclose()
        found = await journal.spent()
        assert granted
        assert all(s.open_nano == s.open_tokens == 0 for s in found.values())
        assert found[""].nano == sum(s.nano for name, s in found.items() if name)
        assert found[""].nano <= CAP
        for other in others:
            await other.aclose()
