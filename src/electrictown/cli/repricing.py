"""A run's requests, priced as another configuration would have them asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from electrictown.journal.records import Settled
from electrictown.llm.costs import Spent, summed
from electrictown.llm.messages import Usage
from electrictown.llm.prices import Prices
from electrictown.llm.routes import Route, RouteTable, Target
from electrictown.work import Cost

__all__ = ["Compared", "Comparison", "compare"]

_WORKER = "polecat"

_OPTIONAL = ("witness", "refinery")
"""Roles that are asked only where the configuration has them: no default stands in for them."""


_ONE = Usage(input=1, output=1)
_COUNTED = ("requests", "input", "cache_read", "cache_write", "output", "reasoning", "partial")


class Compared(Struct, frozen=True):
    """The requests of one role, or of one of its specialists, as they were and as they would have been.

    `asked` and `instead` are the models; a pool's price is the mean of its members', and `unpriced` are
    those without one. `instead` is empty, and `would` counts no request, where the other configuration
    has no such role.
    """

    role: str
    specialist: str
    asked: tuple[str, ...]
    was: Cost
    instead: tuple[str, ...]
    would: Cost
    unpriced: tuple[str, ...] = ()


class Comparison(Struct, frozen=True):
    """A run's bill beside the one it would have had. `difference` in US dollars, None where unknown."""

    run: str
    parts: tuple[Compared, ...]
    was: Cost
    would: Cost
    difference: float | None


async def compare(
    run: str,
    requests: Iterable[Settled],
    specialists: Mapping[str, str],
    routes: RouteTable,
    experts: Mapping[str, Route],
) -> Comparison:
    """Price the billed ones of `requests` with the models that their roles have in `routes`.

    `specialists` says by subtask who worked it; `experts` are the specialists' routes.

    Raises:
        ConfigError: when a role that has no substitute is not configured.
    """
    groups: dict[tuple[str, str], list[Settled]] = {}
    for request in requests:
        if request.billed:
            expert = specialists.get(request.subtask, "") if request.role == _WORKER else ""
            groups.setdefault((request.role, expert), []).append(request)
    targets = {key: _targets(*key, routes, experts) for key in groups}
    prices = Prices()
    if not all(prices.ready(target) for those in targets.values() for target in those):
        await prices.load()
    parts = tuple(_compared(*key, group, targets[key], prices) for key, group in groups.items())
    was, would = _total(part.was for part in parts), _total(part.would for part in parts)
    unknown = was.usd is None or would.usd is None
    return Comparison(run, parts, was, would, None if unknown else would.known_usd - was.known_usd)


def _compared(
    role: str, expert: str, group: Sequence[Settled], targets: Sequence[Target], prices: Prices
) -> Compared:
    before = [_spent(request, request.usd) for request in group]
    after = [_spent(request, _mean(prices, targets, _usage(request))) for request in group if targets]
    return Compared(
        role,
        expert,
        asked=tuple(dict.fromkeys(_name(r.alias or r.model, r.provider) for r in group)),
        was=summed(role, before),
        instead=tuple(dict.fromkeys(_name(t.alias or t.model, t.provider) for t in targets)),
        would=summed(role, after),
        unpriced=tuple(_name(t.alias or t.model, t.provider) for t in targets if prices.usd(t, _ONE) is None),
    )


def _total(costs: Iterable[Cost]) -> Cost:
    """The sum of some lines of a bill."""
    lines = list(costs)
    known = sum((cost.known_usd for cost in lines), 0.0)
    return Cost(
        "total",
        **{name: sum(getattr(cost, name) for cost in lines) for name in _COUNTED},
        usd=None if any(cost.usd is None for cost in lines) else known,
        known_usd=known,
    )


def _name(model: str, provider: str) -> str:
    return f"{model}@{provider}"


def _targets(role: str, expert: str, routes: RouteTable, experts: Mapping[str, Route]) -> Sequence[Target]:
    """Who would be asked: all members of a pool, else the first choice."""
    if role in _OPTIONAL and role not in routes.roles:
        return ()
    route = experts[expert] if expert in experts else routes.for_role(role)
    return route.pool or (route.primary,)


def _mean(prices: Prices, targets: Sequence[Target], usage: Usage | None) -> float | None:
    known = [usd for target in targets if (usd := prices.usd(target, usage)) is not None]
    return sum(known) / len(known) if len(known) == len(targets) else None


def _spent(request: Settled, usd: float | None) -> Spent:
    usage = _usage(request) or Usage()
    return Spent(request.role, request.provider, request.model, usage, usd, request.partial)


def _usage(request: Settled) -> Usage | None:
    """The tokens of a request; None where the vendor told none: a request that was billed had some."""
    r = request
    usage = Usage(r.input, r.cache_read, r.cache_write, r.output, r.reasoning)
    return usage if usage.total else None
