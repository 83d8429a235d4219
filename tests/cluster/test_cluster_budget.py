"""One budget for the workers of many machines: each here is a store and a purse of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from electrictown.budget.caps import Cap, Caps
from electrictown.budget.purse import Purse
from electrictown.errors import BudgetExceeded
from electrictown.journal.postgres import PostgresStore
from electrictown.journal.postgres_journal import PostgresJournal
from electrictown.journal.records import Header, Reserved, Settled
from electrictown.llm.admission import Asking, MemoryAdmission
from electrictown.llm.messages import Usage
from electrictown.llm.prices import Prices
from electrictown.llm.routes import Price
from electrictown.work import Task
from router.router_kit import question, target

MODEL = target("cheap", local=False, price=Price(1.0, 1000.0), max_tokens=100)
"""About ten cents a full reply."""


class Machine:
    def __init__(self, journal: PostgresJournal, caps: Caps) -> None:
        self.journal = journal
        self.purse = Purse(MemoryAdmission(), journal, Prices(), caps)

    async def ask(self, call: str, role: str = "polecat", seconds: float = 0.0, used: int = 100) -> float:
        """Make one call that writes `used` tokens; its price."""
        asking = Asking(role=role, subtask=call.partition(".")[0], call=call)
        async with self.purse.admit(MODEL, question(), asking) as lease:
            assert lease is not None
            await asyncio.sleep(seconds)
            usd = (lease.request.max_tokens or 0) * min(used, 100) / 100 / 1000
            lease.finished(Usage(input=1, output=used), usd, 0.1)
            return usd


@asynccontextmanager
async def machines(url: str, caps: Caps, count: int) -> AsyncGenerator[tuple[PostgresJournal, list[Machine]]]:
    async with AsyncExitStack() as stack:
        store = await PostgresStore.open(url)
        stack.push_async_callback(store.aclose)
        journal = await store.begin("r1", Header(Task("much")))
        stack.push_async_callback(journal.aclose)
        found: list[Machine] = []
        for number in range(count):
            other = await PostgresStore.open(url, owner=f"w{number}")
            stack.push_async_callback(other.aclose)
            lease = await other.lease("r1", f"t{number}", f"w{number}")
            stack.push_async_callback(lease.aclose)
            found.append(Machine(lease, caps))
        yield journal, found


async def test_what_one_machine_sets_aside_another_cannot_have(url: str) -> None:
    async with machines(url, Caps(usd=0.19), 2) as (journal, (a, b)):
        first = asyncio.create_task(a.ask("t0.attempt1", seconds=0.3, used=30))
        while not await journal.spent():
            await asyncio.sleep(0.01)
        second = asyncio.create_task(b.ask("t1.attempt1"))  # waits for what the first one gives back
        assert await first == pytest.approx(0.03)
        assert await second == pytest.approx(0.1)
        with pytest.raises(BudgetExceeded):
            await a.ask("t0.attempt2")
        assert isinstance(a.purse.refusal, BudgetExceeded)
        await b.purse.refresh()
        assert b.purse.budget is not None
        assert b.purse.budget.spent_usd == pytest.approx(0.13)


@pytest.mark.parametrize("seed", [1, 2])
async def test_many_machines_at_once_never_pass_a_cap(url: str, seed: int) -> None:
    chance = random.Random(seed)
    caps = Caps(usd=1.0, per_role={"mayor": Cap(usd=0.3)})
    async with machines(url, caps, 3) as (journal, fleet):

        async def work(machine: Machine, number: int, call: int) -> float:
            role = chance.choice(["mayor", "polecat"])
            try:
                return await machine.ask(
                    f"t{number}.c{call}", role, chance.uniform(0, 0.02), chance.randrange(30, 101)
                )
            except BudgetExceeded:
                return 0.0

        paid = await asyncio.gather(*(work(m, n, c) for n, m in enumerate(fleet) for c in range(10)))
        for machine in fleet:
            await machine.journal.record("done", 1, kind="x")  # after what was noted
        assert 0.8 < sum(paid) <= 1.0
        found = await journal.spent()
        assert found[""].nano == pytest.approx(sum(paid) * 1e9, rel=1e-6)
        assert found["role mayor"].nano <= 0.3e9
        assert all(not s.open_nano and not s.open_tokens for s in found.values())
        await journal.refresh()
        reserved = {step.key: step.read(Reserved) for step in journal.steps(("reserve",))}
        settled = {step.key: step.read(Settled) for step in journal.steps(("settle",))}
        assert {f"{key}.settled" for key in reserved} == set(settled)


async def test_a_bill_above_its_bound_halts_the_other_machines_too(url: str) -> None:
    async with machines(url, Caps(usd=50.0), 2) as (journal, (a, b)):
        await b.ask("t1.attempt1")
        async with a.purse.admit(MODEL, question(), Asking("polecat", "t0", "t0.attempt1")) as lease:
            assert lease is not None
            lease.finished(Usage(input=1, output=9_000), 9.0, 0.1)
        await a.journal.record("done", 1, kind="x")  # after what was noted
        with pytest.raises(BudgetExceeded, match=r"billed \$9.00"):
            await b.ask("t1.attempt2")
        await journal.refresh()
        assert [step.key for step in journal.steps(("halt",))] == ["halt.e1"]
