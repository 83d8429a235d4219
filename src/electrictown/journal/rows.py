"""What a run's row in `et runs` says, from what its steps say: the same for every store."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from electrictown.errors import UnknownRunError
from electrictown.journal.journal import RunRow, Step
from electrictown.work import Task

__all__ = ["RunFacts", "named", "row_of", "unknown"]


class RunFacts(Struct, frozen=True):
    """A run as its store holds it: the step `run`, how many drivers it had, its wish to be cancelled,
    and the `end` that its last driver wrote, if it wrote one.
    """

    run: str
    created: float
    header: bytes
    drivers: int
    cancelled: bool = False
    end: Step | None = None


class _Header(Struct):
    task: Task


class _Report(Struct):
    outcome: str
    exit_code: int


def row_of(facts: RunFacts, *, driven: bool) -> RunRow:
    """The row of a run; `driven` says whether somebody drives it now.

    What was done stays done, whoever wanted it cancelled afterwards.

    Raises:
        JournalError: when its steps cannot be read.
    """
    header = Step(0, facts.run, "run", "run", facts.created, 1, facts.header).read(_Header)
    end = None if facts.end is None or driven else facts.end
    report = None if end is None else end.read(_Report)
    if driven:
        state = "running"
    elif facts.cancelled and (report is None or report.outcome != "done"):
        state = "cancelled"
    else:
        state = "stopped" if report is None else report.outcome
    return RunRow(
        run=facts.run,
        task=header.task.text,
        state=state,
        started=facts.created,
        ended=None if end is None else end.at,
        drivers=facts.drivers,
        exit_code=None if report is None else report.exit_code,
    )


def named(name: str, runs: Iterable[str]) -> str:
    """Which of `runs`, the newest first, `name` means: its id, the only beginning of one, or "last".

    Raises:
        UnknownRunError: when it means none, or more than one.
    """
    known = list(runs)
    if name in known:
        return name
    found = known[:1] if name == "last" else [run for run in known if name and run.startswith(name)]
    if not found:
        raise unknown(name)
    if len(found) > 1:
        raise UnknownRunError(
            f"{len(found)} runs begin with {name}: {', '.join(found[:5])}", "name one of them in full"
        )
    return found[0]


def unknown(run: str) -> UnknownRunError:
    """The error for a run that is not there."""
    return UnknownRunError(f"there is no run {run!r} in the journal", "`et runs` lists the runs there are")
