"""The schedule: every subtask starts when it may, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electrictown.engine.schedule import schedule
from electrictown.errors import PlanError, ServerError
from electrictown.work import Done, Failed, Failure, Plan, Result, Subtask


def plan_of(*edges: tuple[str, tuple[str, ...]]) -> Plan:
    return Plan("task", tuple(Subtask(name, name, depends) for name, depends in edges))


class Recorder:
    """Works instantly, or as long as its gate is shut; remembers the order of things."""

    def __init__(self, failing: frozenset[str] = frozenset(), raising: frozenset[str] = frozenset()) -> None:
        self.failing = failing
        self.raising = raising
        self.log: list[tuple[str, str]] = []
        self.needs: dict[str, tuple[str, ...]] = {}
        self.gates: dict[str, asyncio.Event] = {}

    async def work(self, subtask: Subtask, needs: Mapping[str, Done]) -> Result:
        self.log.append(("start", subtask.id))
        self.needs[subtask.id] = tuple(needs)
        if subtask.id in self.gates:
            await self.gates[subtask.id].wait()
        await asyncio.sleep(0)
        self.log.append(("end", subtask.id))
        if subtask.id in self.raising:
            raise ServerError("boom")
        if subtask.id in self.failing:
            return Failed(subtask.id, Failure("ServerError", "boom"))
        return Done(subtask.id, f"text of {subtask.id}")


def nothing(result: Result) -> None:
    pass


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Acyclic plans in an order that need not be topological."""
    count = draw(st.integers(1, 12))
    names = [f"t{i:02}" for i in range(count)]
    subtasks: list[Subtask] = []
    for i, name in enumerate(names):
        depends = draw(st.lists(st.sampled_from(names[:i]), unique=True, max_size=3)) if i else []
        subtasks.append(Subtask(name, name, tuple(depends)))
    return Plan("task", tuple(draw(st.permutations(subtasks))))


@given(plans(), st.sets(st.integers(0, 11)))
def test_every_subtask_runs_once_after_all_it_needs_and_failures_reach_only_dependents(
    plan: Plan, failing_numbers: set[int]
) -> None:
    failing = frozenset(f"t{n:02}" for n in failing_numbers)
    worker = Recorder(failing)
    ended: list[str] = []
    results = asyncio.run(schedule(plan, worker, lambda r: ended.append(r.subtask)))
    by_id = {r.subtask: r for r in results}
    assert [r.subtask for r in results] == [s.id for s in plan.subtasks]
    assert sorted(ended) == sorted(by_id)
    doomed: set[str] = set(failing & by_id.keys())
    while more := {s.id for s in plan.subtasks if set(s.depends) & doomed} - doomed:
        doomed |= more
    starts = [name for what, name in worker.log if what == "start"]
    assert len(starts) == len(set(starts))
    for s in plan.subtasks:
        started = s.id in starts
        assert started == (not set(s.depends) & doomed)
        assert isinstance(by_id[s.id], Failed) == (s.id in doomed)
        if started:
            at = worker.log.index(("start", s.id))
            assert all(("end", need) in worker.log[:at] for need in s.depends)
            assert worker.needs[s.id] == s.depends


async def test_a_subtask_starts_the_moment_its_own_needs_are_done_without_waiting_for_its_wave() -> None:
    worker = Recorder()
    worker.gates["slow"] = asyncio.Event()
    plan = plan_of(("slow", ()), ("quick", ()), ("next", ("quick",)))
    running = asyncio.create_task(schedule(plan, worker, nothing))
    while ("end", "next") not in worker.log:
        await asyncio.sleep(0)
    assert ("end", "slow") not in worker.log
    worker.gates["slow"].set()
    assert [r.subtask for r in await running] == ["slow", "quick", "next"]


async def test_a_typed_error_that_escapes_a_worker_is_a_failed_subtask() -> None:
    results = await schedule(plan_of(("a", ()), ("b", ())), Recorder(raising=frozenset({"a"})), nothing)
    assert isinstance(results[0], Failed)
    assert results[0].error.type == "ServerError"
    assert isinstance(results[1], Done)


async def test_dependents_of_a_failure_are_told_whose_fault_it_was() -> None:
    plan = plan_of(("a", ()), ("b", ("a",)), ("c", ("b",)))
    worker = Recorder(failing=frozenset({"a"}))
    results = await schedule(plan, worker, nothing)
    assert isinstance(results[2], Failed)
    assert results[2].error.type == "DependencyError"
    assert [name for what, name in worker.log if what == "start"] == ["a"]


@pytest.mark.parametrize(
    "plan",
    [plan_of(("a", ("b",)), ("b", ("a",))), plan_of(("a", ("a",))), plan_of(("a", ("zzz",)))],
    ids=["circle", "itself", "unknown"],
)
async def test_a_plan_that_cannot_end_is_refused_before_anything_runs(plan: Plan) -> None:
    worker = Recorder()
    with pytest.raises(PlanError):
        await schedule(plan, worker, nothing)
    assert worker.log == []


async def test_cancelling_a_run_keeps_what_was_done_and_leaves_no_task_behind() -> None:
    worker = Recorder()
    worker.gates["slow"] = asyncio.Event()
    ended: list[str] = []
    plan = plan_of(("quick", ()), ("slow", ()))
    running = asyncio.create_task(schedule(plan, worker, lambda r: ended.append(r.subtask)))
    while not ended:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended == ["quick"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_thousand_subtasks_in_a_row_need_no_deep_stack() -> None:
    plan = plan_of(("n0", ()), *((f"n{i}", (f"n{i - 1}",)) for i in range(1, 1000)))
    assert len(await schedule(plan, Recorder(), nothing)) == 1000
    failed = await schedule(plan, Recorder(failing=frozenset({"n0"})), nothing)
    assert all(isinstance(r, Failed) for r in failed)
