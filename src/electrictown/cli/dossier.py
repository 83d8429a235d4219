"""All that the journal knows of one run, read from its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, TypeVar

from msgspec import Struct

from electrictown.budget.caps import Cap, Caps
from electrictown.cli.ledger import Ledger, Open
from electrictown.events import HopTaken, Noted
from electrictown.journal.journal import RunRow, Step, Store
from electrictown.journal.records import Driver, Exchange, Header, Receipt, Reserved, WrittenFile
from electrictown.work import Attempt, Cost, Done, Failed, Failure, Hop, Plan, Report, Review, Subtask

__all__ = ["Dossier", "Drive", "Failing", "Part", "Placed", "Spending", "read_dossier", "read_failures"]

T = TypeVar("T")
State: TypeAlias = Literal["done", "not accepted", "failed", "begun", "not begun"]
"""`begun`: somebody worked at it, and it has no result yet; `not accepted`: done, below the threshold."""


_KINDS = (
    *("run", "driver", "budget", "plan", "attempt", "review", "receipt", "result"),
    *("reserve", "settle", "hop", "note", "end"),
)
"""What a dossier is made of: the replies of single calls, the bulk of a journal, are not read."""


class Part(Struct, frozen=True):
    """One subtask. `reviews` are in their order, `attempts` those that are recorded."""

    subtask: Subtask
    state: State
    attempts: tuple[Attempt, ...] = ()
    reviews: tuple[Review, ...] = ()
    error: Failure | None = None


class Drive(Struct, frozen=True):
    """One start or resumption of the run; `at` is a time as of `time.time()`."""

    epoch: int
    at: float
    driver: Driver


class Placed(Struct, frozen=True):
    """A file that lies in the output folder, and whose it is."""

    subtask: str
    file: WrittenFile


class Spending(Struct, frozen=True):
    """`cap` is the budget's, in words ("": none is known); the rest is what was counted against it.

    `usd` and `tokens` hold what is settled, `unsettled` what a crash left: that counts as spent.
    """

    cap: str = ""
    usd: float = 0.0
    tokens: int = 0
    unsettled: Open = Open()
    in_flight: Open = Open()


class Dossier(Struct, frozen=True):
    """What is known of a run. `costs` has the bill by role, by provider and by model.

    `text` is the result, and `error` what it failed with, where the last driver came to an end.
    """

    row: RunRow
    header: Header
    drivers: tuple[Drive, ...]
    plan: Plan | None
    parts: tuple[Part, ...]
    decisions: tuple[str, ...]
    costs: Mapping[str, tuple[Cost, ...]]
    total: Cost
    budget: Spending
    hops: tuple[Hop, ...]
    files: tuple[Placed, ...]
    refused: tuple[str, ...]
    text: str = ""
    error: Failure | None = None


class Failing(Struct, frozen=True):
    """A request that failed, under the key of its step."""

    key: str
    at: float
    exchange: Exchange


async def read_dossier(store: Store, name: str) -> Dossier:
    """The dossier of the run `name`.

    Raises:
        UnknownRunError: when there is no such run, or more than one.
        JournalError: when the journal cannot be read.
    """
    row = await store.find(name)
    kinds: dict[str, list[Step]] = {}
    for step in await store.steps(row.run, kinds=_KINDS):
        kinds.setdefault(step.kind, []).append(step)
    of = _Kinds(kinds)
    ledger = Ledger([*of("reserve"), *of("settle")])
    rows = {row.run: row}
    drivers = tuple(Drive(step.epoch, step.at, step.read(Driver)) for step in of("driver"))
    plan = next((step.read(Plan) for step in of("plan")), None)
    # An earlier driver's end is history as soon as the run is taken up again.
    ended = [step for step in of("end") if step.epoch == row.drivers]
    report = ended[-1].read(Report) if ended else None
    receipts = [(_owner(step), step.read(Receipt)) for step in of("receipt")]
    header = of("run")[0].read(Header) if of("run") else _headless(row)
    notes = [*(plan.notes if plan else ()), *(step.read(Noted).text for step in of("note"))]
    return Dossier(
        row=row,
        header=header,
        drivers=drivers,
        plan=plan,
        parts=_parts(plan, of, report),
        decisions=tuple(dict.fromkeys([*notes, *(report.notes if report else ())])),
        costs={what: ledger.by(what) for what in ("role", "provider", "model")},
        total=ledger.total(),
        budget=Spending(
            _cap(of("budget")),
            ledger.charged_usd,
            ledger.charged_tokens,
            ledger.lost(rows),
            ledger.in_flight(rows),
        ),
        hops=tuple(_hop(step.read(HopTaken)) for step in of("hop")),
        files=tuple(Placed(subtask, file) for subtask, receipt in receipts for file in receipt.written),
        refused=tuple(f"{path}: {reason}" for _, receipt in receipts for path, reason in receipt.refused),
        text=report.text if report is not None else "",
        error=report.error if report is not None else None,
    )


async def read_failures(store: Store, name: str) -> tuple[Failing, ...]:
    """The failed requests of the run `name`, in order; raises as `read_dossier` does."""
    row = await store.find(name)
    steps = await store.steps(row.run, kinds=("failure",))
    return tuple(Failing(step.key, step.at, step.read(Exchange)) for step in steps)


class _Kinds:
    """The steps of a run by their kind."""

    def __init__(self, kinds: Mapping[str, list[Step]]) -> None:
        self._kinds = kinds

    def __call__(self, kind: str) -> list[Step]:
        return self._kinds.get(kind, [])


def _cap(given: Sequence[Step]) -> str:
    """The budget of whoever drove the run last."""
    caps = given[-1].read(Caps) if given else Caps()
    named = [("", caps.run), *((f"{role} ", cap) for role, cap in caps.per_role.items())]
    return ", ".join(
        f"{name}{amount}"
        for name, cap in [*named, ("each subtask ", caps.per_subtask)]
        for amount in _amounts(cap)
    )


def _amounts(cap: Cap) -> list[str]:
    from electrictown.console.text import count, money

    usd = [] if cap.usd is None else [money(cap.usd)]
    return usd if cap.tokens is None else [*usd, count(cap.tokens, "token")]


def _headless(row: RunRow) -> Header:
    from electrictown.work import Task

    return Header(Task(row.task))


def _owner(step: Step) -> str:
    """The subtask of `t07.attempt1`, and of the like."""
    return step.key.partition(".")[0]


def _parts(plan: Plan | None, of: _Kinds, report: Report | None) -> tuple[Part, ...]:
    if plan is None:
        return ()
    results: dict[str, Done | Failed] = {r.subtask: r for r in report.results} if report is not None else {}
    results |= {_owner(step): step.read(Done) for step in of("result")}
    attempts = _by_owner((step, step.read(Attempt)) for step in of("attempt"))
    reviews = _by_owner((step, step.read(Review)) for step in of("review"))
    begun = {step.read(Reserved).subtask for step in of("reserve")}
    return tuple(
        _part(s, results.get(s.id), attempts.get(s.id, ()), reviews.get(s.id, ()), begun=s.id in begun)
        for s in plan.subtasks
    )


def _part(
    subtask: Subtask,
    result: Done | Failed | None,
    attempts: tuple[Attempt, ...],
    reviews: tuple[Review, ...],
    *,
    begun: bool,
) -> Part:
    if result is None:
        state: State = "begun" if begun or attempts else "not begun"
        return Part(subtask, state, attempts, reviews)
    attempts = result.attempts or attempts
    reviews = reviews or tuple(a.review for a in attempts if a.review is not None)
    if isinstance(result, Failed):
        return Part(subtask, "failed", attempts, reviews, result.error)
    return Part(subtask, "done" if result.accepted else "not accepted", attempts, reviews)


def _by_owner(read: Iterable[tuple[Step, T]]) -> dict[str, tuple[T, ...]]:
    found: dict[str, list[T]] = {}
    for step, value in read:
        found.setdefault(_owner(step), []).append(value)
    return {owner: tuple(values) for owner, values in found.items()}


def _hop(taken: HopTaken) -> Hop:
    return Hop(
        taken.failed, taken.error.type, taken.took_over, taken.error.message, taken.role, taken.subtask
    )
