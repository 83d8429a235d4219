"""What runs cost, from their settled requests, and what may come on top from those never settled."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import chain

from msgspec import Struct

from electrictown.journal.journal import RunRow, Step, Store
from electrictown.journal.records import Reserved, Settled
from electrictown.llm.costs import Spent, grouped, summed
from electrictown.llm.messages import Usage
from electrictown.work import Cost

__all__ = ["KINDS", "Ledger", "Open", "find_rows", "money_of"]

KINDS = ("reserve", "settle")
"""The kinds of steps that a ledger is made of."""

_SETTLED = ".settled"
_FEW = 10


class Open(Struct, frozen=True):
    """Requests of whose end nothing is known: at the most they cost `usd` (None: unknown) and `tokens`.

    `known_usd` is what those with a price come to, `runs` whose they are.
    """

    requests: int = 0
    usd: float | None = 0.0
    known_usd: float = 0.0
    tokens: int = 0
    runs: tuple[str, ...] = ()


class Ledger:
    """The requests of any number of runs, read once; unbilled ones cost nothing and are not counted."""

    def __init__(self, steps: Iterable[Step]) -> None:
        self.by_run: dict[str, list[Spent]] = {}
        self.charged_usd = 0.0
        self.charged_tokens = 0
        waiting: dict[tuple[str, str], Step] = {}
        ended: set[tuple[str, str]] = set()
        for step in steps:
            if step.kind == "reserve":
                waiting[step.run, step.key] = step
            else:
                ended.add((step.run, step.key.removesuffix(_SETTLED)))
                self._settle(step.run, step.read(Settled))
        self._open: dict[str, list[Step]] = {}
        for at, step in waiting.items():
            if at not in ended:
                self._open.setdefault(step.run, []).append(step)

    def _settle(self, run: str, settled: Settled) -> None:
        self.charged_usd += settled.charged_usd
        self.charged_tokens += settled.charged_tokens
        if not settled.billed:
            return
        s = settled
        usage = Usage(s.input, s.cache_read, s.cache_write, s.output, s.reasoning)
        spent = Spent(s.role, s.provider, s.model, usage, s.usd, s.partial)
        self.by_run.setdefault(run, []).append(spent)

    @property
    def spent(self) -> list[Spent]:
        """All billed requests, run by run."""
        return [spent for run in self.by_run.values() for spent in run]

    @property
    def open_runs(self) -> frozenset[str]:
        """The runs that have requests without an end."""
        return frozenset(self._open)

    def total(self, run: str | None = None) -> Cost:
        """The bill of `run` (None: of all runs) in one line."""
        return summed(
            "total" if run is None else run, self.spent if run is None else self.by_run.get(run, [])
        )

    def by(self, what: str) -> tuple[Cost, ...]:
        """One line a role, provider, model or run, in the order in which they first asked."""
        if what == "run":
            return tuple(summed(run, spent) for run, spent in self.by_run.items())
        return grouped(self.spent, lambda spent: getattr(spent, what))

    def lost(self, rows: Mapping[str, RunRow], run: str | None = None) -> Open:
        """The requests that a crash left without an end: they may have been billed."""
        return _open(step for step in self._left(run) if not _in_flight(step, rows))

    def in_flight(self, rows: Mapping[str, RunRow], run: str | None = None) -> Open:
        """The requests that are under way now."""
        return _open(step for step in self._left(run) if _in_flight(step, rows))

    def _left(self, run: str | None) -> Iterable[Step]:
        return chain.from_iterable(self._open.values()) if run is None else self._open.get(run, ())


def _in_flight(step: Step, rows: Mapping[str, RunRow]) -> bool:
    """Whether whoever made the reservation still drives the run."""
    row = rows.get(step.run)
    return row is not None and row.state == "running" and step.epoch == row.drivers


def _open(steps: Iterable[Step]) -> Open:
    left = [(step.run, step.read(Reserved)) for step in steps]
    prices = [reserved.usd for _, reserved in left]
    known = sum((usd for usd in prices if usd is not None), 0.0)
    return Open(
        requests=len(left),
        usd=None if None in prices else known,
        known_usd=known,
        tokens=sum(reserved.tokens for _, reserved in left),
        runs=tuple(dict.fromkeys(run for run, _ in left)),
    )


async def find_rows(store: Store, runs: Collection[str]) -> dict[str, RunRow]:
    """The rows of `runs`, by id."""
    if len(runs) > _FEW:  # a run is looked for among all: many looks are more than one at everything
        return {row.run: row for row in await store.runs() if row.run in runs}
    return {run: await store.find(run) for run in runs}


def money_of(cost: Cost, lost: Open) -> str:
    """What was billed, and what may come on top: "$0.01", "unknown", "$0.01 + up to $0.20"."""
    from electrictown.console.text import bill, money

    if lost.usd is None:
        return money(None, cost.known_usd)
    return bill(cost) + (f" + up to {money(lost.usd)}" if lost.usd else "")
