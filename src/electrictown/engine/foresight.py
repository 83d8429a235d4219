"""What a run would cost at the most, before it is made.

A prompt is bounded by its bytes, a reply by `max_tokens`; a reply that becomes part of a later prompt is
counted twice over, since tokenizers differ. Where a limit or a price is unknown, so is the worst case.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from electrictown.engine.agent_relay import Seat
from electrictown.engine.team import RunOptions, Team
from electrictown.llm.router import Router
from electrictown.llm.routes import Route, Target
from electrictown.work import Plan, Planned

__all__ = ["foresee"]

_PROMPT = 2000
"""Tokens of a role's own prompt, generously."""

_TOKENIZERS = 2


async def foresee(plan: Plan, team: Team, router: Router, options: RunOptions) -> tuple[Planned, ...]:
    """The phases after planning, each with who may be asked, how often, and the worst case in US dollars."""
    await router.prices.load()
    return tuple(p for p in _Foresight(plan, team, router, options).phases() if p.calls)


class _Foresight:
    def __init__(self, plan: Plan, team: Team, router: Router, options: RunOptions) -> None:
        self._plan = plan
        self._team = team
        self._router = router
        self._options = options
        self._mayor = self._chain(team.mayor.role) if team.worker.several else ()
        self._witness = self._chain(team.witness.role) if team.witness and options.witness else ()
        self._refinery = self._chain(team.refinery.role) if team.refinery and options.refinery else ()

    def phases(self) -> Iterable[Planned]:
        plan, options = self._plan, self._options
        pool = self._team.worker.several
        several = pool and len(plan.subtasks) > 1
        subtasks = {s.id: len(s.text.encode()) for s in plan.subtasks}
        task = len(plan.task.encode())
        planned = sum(subtasks.values()) + task
        yield self._planned("brief", self._mayor, [planned] if several and options.brief else [])
        brief = self._passed_on(self._mayor) if several and options.brief else 0
        attempts = 1 + (options.retries if self._witness else 0)
        works: list[Planned] = []
        replies: dict[str, int | None] = {}
        reviews: list[int | None] = []
        for s in plan.subtasks:
            station = self._team.station(s.specialist)
            workers = _everyone(station.route)
            replies[s.id] = reply = self._passed_on(workers) if station.agent is None else None
            needs = [replies.get(need, 0) for need in s.depends]
            # A retry is shown the earlier reply, a correction of refused files too.
            question = _sum([task, subtasks[s.id], brief, *needs, reply])
            calls = attempts + (1 if options.output_dir is not None else 0)
            works.append(_joined(station.agent, self._planned("work", workers, [question] * calls)))
            reviews += [_sum([task, subtasks[s.id], reply])] * (2 * attempts)
        yield from _merged(works)
        yield self._planned("review", self._witness, reviews if self._witness else [])
        synthesis = options.synthesize and pool
        together = _sum([planned, *replies.values()])
        yield self._planned("synthesize", self._mayor, [together] if synthesis else [])
        last = self._passed_on(self._mayor) if synthesis else _sum(replies.values())
        yield self._planned("refine", self._refinery, [_sum([task, last])] if self._refinery else [])

    def _chain(self, role: str) -> tuple[Target, ...]:
        return self._router.routes.for_role(role).chain

    def _passed_on(self, targets: Sequence[Target]) -> int | None:
        """Tokens that a reply of any of `targets` comes to in another model's prompt."""
        longest = [t.max_tokens for t in targets]
        return None if None in longest else max((n for n in longest if n), default=0) * _TOKENIZERS

    def _planned(self, phase: str, targets: Sequence[Target], prompts: Sequence[int | None]) -> Planned:
        costs = [self._usd(target, prompts) for target in targets]
        usd = None if None in costs else max((c for c in costs if c is not None), default=0.0)
        return Planned(phase, tuple(t.label for t in targets), len(prompts), usd)

    def _usd(self, target: Target, prompts: Sequence[int | None]) -> float | None:
        rates = self._router.prices.rates(target)
        if rates is None:
            return None
        if not rates.highest(1, 1):
            return 0.0
        if target.max_tokens is None or None in prompts:
            return None
        return sum(rates.highest(_PROMPT + (p or 0), target.max_tokens) for p in prompts)


def _joined(agent: Seat | None, models: Planned) -> Planned:
    """What `models` are asked, where `agent` is asked before them: nobody knows what that costs."""
    return models if agent is None else replace(models, models=(agent.name, *models.models), usd=None)


def _everyone(route: Route | None) -> tuple[Target, ...]:
    if route is None:
        return ()
    targets = (*(route.pool or (route.primary,)), *route.fallbacks)
    return tuple({t.label: t for t in targets}.values())


def _sum(parts: Iterable[int | None]) -> int | None:
    total = 0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


def _merged(works: Sequence[Planned]) -> Iterable[Planned]:
    """One line for all subtasks that the same models may work."""
    lines: dict[tuple[str, ...], list[Planned]] = {}
    for work in works:
        lines.setdefault(work.models, []).append(work)
    for models, same in lines.items():
        costs = [w.usd for w in same]
        usd = None if None in costs else sum(c for c in costs if c is not None)
        yield Planned("work", models, sum(w.calls for w in same), usd)
