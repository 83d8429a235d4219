"""The ledger: what each request used and cost, summed by role, provider and model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from electrictown.llm.messages import Usage
from electrictown.work import Cost

__all__ = ["CostTracker", "Spent", "Summary", "grouped", "summed"]


class Spent(Struct, frozen=True, gc=False):
    """One request's line: who asked whom, the tokens, and US dollars (None: unknown, never 0).

    `partial` marks a reply that was cut: more may be billed than is known, and `usd` is the known part.
    """

    role: str
    provider: str
    model: str
    usage: Usage
    usd: float | None
    partial: bool = False


class Summary(Struct, frozen=True):
    """A ledger in sums. A `Cost` has `usd` None as soon as one of its requests has no, or no whole, price."""

    total: Cost
    by_role: tuple[Cost, ...] = ()
    by_provider: tuple[Cost, ...] = ()
    by_model: tuple[Cost, ...] = ()

    @property
    def total_cost(self) -> float | None:
        """All of it in US dollars, None when a part is unknown."""
        return self.total.usd

    @property
    def known_usd(self) -> float:
        """What the priced part comes to, in US dollars."""
        return self.total.known_usd

    @property
    def total_requests(self) -> int:
        """How many requests were made."""
        return self.total.requests

    @property
    def total_tokens(self) -> int:
        """All tokens, in and out."""
        return self.total.tokens


_NOTHING = Usage()


class CostTracker:
    """Keeps what every request used; summed when asked. For one event loop, not for threads."""

    def __init__(self) -> None:
        self.records: list[Spent] = []

    def record(
        self,
        role: str,
        provider: str,
        model: str,
        usage: Usage | None,
        usd: float | None,
        *,
        partial: bool = False,
    ) -> None:
        """Add one request. `usage` None is a request whose vendor told no tokens."""
        partial = partial or (usage is not None and usage.partial)
        self.records.append(Spent(role, provider, model, usage or _NOTHING, usd, partial))

    def summary(self) -> Summary:
        """All requests in sums."""
        return _summary(self.records)

    def summary_for_role(self, role: str) -> Summary:
        """The requests of one role in sums."""
        return _summary([r for r in self.records if r.role == role])


def _summary(records: list[Spent]) -> Summary:
    return Summary(
        total=summed("total", records),
        by_role=grouped(records, lambda r: r.role),
        by_provider=grouped(records, lambda r: r.provider),
        by_model=grouped(records, lambda r: r.model),
    )


def grouped(records: Iterable[Spent], key: Callable[[Spent], str]) -> tuple[Cost, ...]:
    """One line a key, in the order the keys first appeared."""
    groups: dict[str, list[Spent]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return tuple(summed(name, group) for name, group in groups.items())


def summed(name: str, records: Sequence[Spent]) -> Cost:
    """All of `records` as the line `name` of a bill."""
    known = sum((r.usd for r in records if r.usd is not None), 0.0)
    return Cost(
        name=name,
        requests=len(records),
        input=sum(r.usage.input for r in records),
        cache_read=sum(r.usage.cache_read for r in records),
        cache_write=sum(r.usage.cache_write for r in records),
        output=sum(r.usage.output for r in records),
        reasoning=sum(r.usage.reasoning for r in records),
        usd=None if any(r.usd is None or (r.partial and r.usd) for r in records) else known,
        known_usd=known,
        partial=sum(r.partial for r in records),
    )
