"""When a subtask starts: the moment all it depends on is done. No waves, no barriers.

The schedule knows nothing of models or hosts; who works, and how many at once, is the worker's
business. That keeps it a pure matter of the plan's graph.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from electrictown.errors import DependencyError, ElectrictownError, PlanError
from electrictown.work import Done, Failed, Failure, Plan, Result, Subtask

__all__ = ["Worker", "schedule"]


class Worker(Protocol):
    """Whoever can work a subtask: a model that answers in text, later an agent or another machine."""

    async def work(self, subtask: Subtask, needs: Mapping[str, Done]) -> Result:
        """Work `subtask`, given the finished results of all it depends on.

        An expected failure is returned as `Failed`; an `ElectrictownError` that escapes is taken
        as one. Anything else is a bug and ends the run.
        """
        ...


async def schedule(plan: Plan, worker: Worker, ended: Callable[[Result], None]) -> tuple[Result, ...]:
    """Work every subtask of `plan` as soon as it may start; results come back in the plan's order.

    `ended` hears each result as it comes, so that what is done is known even if the rest is
    cancelled. A failed subtask fails only those that depend on it, and those without a request.

    Raises:
        PlanError: when the plan names an unknown subtask or goes round in a circle.
    """
    board = _Board(plan)
    async with asyncio.TaskGroup() as group:

        async def one(subtask: Subtask) -> None:
            try:
                result = await worker.work(subtask, board.needs(subtask))
            except ElectrictownError as error:
                result = Failed(subtask.id, Failure.of(error))
            settle(result)

        def settle(result: Result) -> None:
            for settled in board.settle(result):
                ended(settled)
            for ready in board.take_ready():
                group.create_task(one(ready), name=f"subtask {ready.id}")

        for first in board.take_ready():
            group.create_task(one(first), name=f"subtask {first.id}")
    return board.results()


class _Board:
    """What is waiting, started and settled."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._by_id = {s.id: s for s in plan.subtasks}
        self._dependents: dict[str, list[str]] = {s.id: [] for s in plan.subtasks}
        self._missing: dict[str, int] = {}
        self._results: dict[str, Result] = {}
        for s in plan.subtasks:
            needs = set(s.depends)
            if unknown := sorted(need for need in needs if need not in self._by_id):
                raise PlanError(f"subtask {s.id} depends on {unknown}, which the plan does not have")
            self._missing[s.id] = len(needs)
            for need in needs:
                self._dependents[need].append(s.id)
        self._refuse_circles()
        self._ready = [s.id for s in plan.subtasks if not self._missing[s.id]]

    def _refuse_circles(self) -> None:
        missing = dict(self._missing)
        free = [name for name, count in missing.items() if not count]
        for name in free:
            for dependent in self._dependents[name]:
                missing[dependent] -= 1
                if not missing[dependent]:
                    free.append(dependent)
        if stuck := [name for name in missing if missing[name]]:
            raise PlanError(f"the plan goes round in a circle: {', '.join(stuck)}")

    def take_ready(self) -> list[Subtask]:
        ready, self._ready = self._ready, []
        return [self._by_id[name] for name in ready]

    def needs(self, subtask: Subtask) -> dict[str, Done]:
        found = {name: self._results[name] for name in subtask.depends}
        return {name: result for name, result in found.items() if isinstance(result, Done)}

    def settle(self, result: Result) -> list[Result]:
        """Record `result`; a failure also settles, one after another, all that depend on it."""
        self._results[result.subtask] = result
        settled: list[Result] = [result]
        for now in settled:
            for dependent in self._dependents[now.subtask]:
                if dependent in self._results:
                    continue
                if isinstance(now, Failed):
                    cause = DependencyError(f"not started: {now.subtask}, which it needs, failed")
                    self._results[dependent] = failed = Failed(dependent, Failure.of(cause))
                    settled.append(failed)
                    continue
                self._missing[dependent] -= 1
                if not self._missing[dependent]:
                    self._ready.append(dependent)
        return settled

    def results(self) -> tuple[Result, ...]:
        return tuple(self._results[s.id] for s in self._plan.subtasks if s.id in self._results)
