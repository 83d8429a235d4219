"""Random programs of tasks that step, record, note and are cancelled, against what a journal promises."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct
from store_kinds import header

from electrictown.journal.journal import Journal, Store
from electrictown.journal.memory import MemoryJournal

KEYS = ("a", "b", "c", "d")
numbers = count()


class Op(Struct, frozen=True):
    """One thing a task does; `pauses` is how often it lets others go first, `fails` makes a step fail."""

    what: Literal["step", "record", "note"]
    key: str
    pauses: int
    fails: bool


class Actor(Struct, frozen=True):
    """A task: what it does, and after how many turns of the loop it is cancelled (None: never)."""

    ops: list[Op]
    cancelled: int | None


ops = st.builds(
    Op,
    what=st.sampled_from(["step", "record", "note"]),
    key=st.sampled_from(KEYS),
    pauses=st.integers(0, 3),
    fails=st.booleans(),
)
actors = st.builds(Actor, ops=st.lists(ops, min_size=1, max_size=5), cancelled=st.none() | st.integers(0, 12))
programs = st.lists(actors, min_size=1, max_size=6)


class Seen:
    """What the tasks were told, and what they gave."""

    def __init__(self) -> None:
        self.told: dict[str, set[int]] = {key: set() for key in KEYS}
        self.fresh: dict[str, list[int]] = {key: [] for key in KEYS}
        self.given: dict[str, set[int]] = {key: set() for key in KEYS}
        self.running: dict[str, int] = dict.fromkeys(KEYS, 0)
        self.together = 0


async def act(journal: Journal, actor: Actor, seen: Seen) -> None:
    for op in actor.ops:
        value = next(numbers)
        if op.what == "step":
            await take_step(journal, op, value, seen)
        elif op.what == "record":
            seen.given[op.key].add(value)
            if await journal.record(op.key, value, kind="x"):
                seen.fresh[op.key].append(value)
        else:
            seen.given[op.key].add(value)
            journal.note(op.key, value, kind="x")


async def take_step(journal: Journal, op: Op, value: int, seen: Seen) -> None:
    async def pay() -> int:
        seen.running[op.key] += 1
        seen.together = max(seen.together, seen.running[op.key])
        try:
            for _ in range(op.pauses):
                await asyncio.sleep(0)
            if op.fails:
                raise LookupError
        finally:
            seen.running[op.key] -= 1
        seen.given[op.key].add(value)
        return value

    try:
        seen.told[op.key].add(await journal.step(op.key, pay, int, kind="x"))
    except LookupError:
        assert op.fails


async def run(journal: Journal, program: list[Actor]) -> Seen:
    seen = Seen()
    tasks = [asyncio.create_task(act(journal, actor, seen)) for actor in program]
    for turn in range(13):
        for task, actor in zip(tasks, program, strict=True):
            if actor.cancelled == turn:
                task.cancel()
        await asyncio.sleep(0)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert result is None or isinstance(result, asyncio.CancelledError), result
    return seen


def hold(seen: Seen, kept: dict[str, int]) -> None:
    assert seen.together <= 1  # never two at work on one step
    for key in KEYS:
        assert len(seen.told[key]) <= 1
        assert len(seen.fresh[key]) <= 1
        for value in (*seen.told[key], *seen.fresh[key]):
            assert kept[key] == value
        if key in kept:
            assert kept[key] in seen.given[key]
        else:
            assert not seen.told[key]


def values(journal: Journal) -> dict[str, int]:
    return {step.key: step.read(int) for step in journal.steps(("x",))}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(programs)
async def test_the_first_value_is_everybody_s_and_is_there_afterwards(
    store: Store, program: list[Actor]
) -> None:
    name = f"run{next(numbers)}"
    journal = await store.begin(name, header())
    seen = await run(journal, program)
    await journal.aclose()
    hold(seen, values(journal))
    again = await store.resume(name)
    assert values(again) == values(journal)
    assert [step.seq for step in again.steps()] == sorted(step.seq for step in again.steps())
    paid_again = await run(again, program)
    for key, value in values(journal).items():
        assert again.recorded(key, int) == value
        assert not paid_again.fresh[key]
    await again.aclose()


@settings(max_examples=100)
@given(programs)
async def test_a_journal_in_memory_keeps_the_same_promises(program: list[Actor]) -> None:
    journal = MemoryJournal("r1")
    seen = await run(journal, program)
    await journal.aclose()
    hold(seen, values(journal))
