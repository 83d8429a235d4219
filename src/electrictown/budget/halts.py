"""A bill above its bound halts a run for good: the halt is a step, and only a budget given anew ends it."""

from __future__ import annotations

from collections.abc import Iterable

from electrictown.errors import BudgetExceeded
from electrictown.journal.journal import Journal, Step
from electrictown.work import Failure

__all__ = ["halt_key", "halted_by", "standing_halt"]


def halt_key(driver: int) -> str:
    """The key of the halt under driver number `driver` of a run."""
    return f"halt.e{driver}"


def halted_by(journal: Journal, driver: int) -> BudgetExceeded | None:
    """The halt under driver number `driver`, where `journal` knows of one."""
    failure = journal.recorded(halt_key(driver), Failure)
    return None if failure is None else BudgetExceeded(failure.message, failure.hint)


def standing_halt(steps: Iterable[Step]) -> BudgetExceeded | None:
    """The halt among `steps`, in order, in spite of which no later driver was given a budget; None without.

    Each driver notes the budget it was given as it begins, and none begins under a halt unless given one.
    """
    halt: Step | None = None
    for step in steps:
        if step.kind == "halt":
            halt = step
        elif step.kind == "budget":
            halt = None
    if halt is None:
        return None
    failure = halt.read(Failure)
    return BudgetExceeded(failure.message, failure.hint)
