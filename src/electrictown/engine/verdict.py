"""What a run comes to: its exit code, the failure that matters, its text without a synthesis."""

from __future__ import annotations

from electrictown.errors import AuthError, BudgetExceeded, DependencyError, RateLimitError, StoppedError
from electrictown.work import Done, Failed, Failure, Outcome, Plan, Result

__all__ = ["exit_code", "outcome", "side_by_side", "worst"]


def side_by_side(plan: Plan, results: tuple[Result, ...]) -> str:
    """The workers' own texts under their subtasks' names, for a run without synthesis."""
    titles = {s.id: s.text for s in plan.subtasks}
    parts: list[str] = []
    for result in results:
        title = titles[result.subtask].strip().splitlines()[0]
        body = result.text if isinstance(result, Done) else f"Not done: {result.error.message}"
        parts.append(f"## {result.subtask}: {title}\n\n{body.strip()}")
    return "\n\n".join(parts)


def _failures(results: tuple[Result, ...]) -> list[Failure]:
    """The failures that are causes, not consequences of another subtask's."""
    return [r.error for r in results if isinstance(r, Failed) and r.error.type != DependencyError.__name__]


def worst(results: tuple[Result, ...], error: Failure | None = None) -> Failure | None:
    """The failure that decides how the run ends; None where nothing failed.

    The run's own `error` counts before those of its subtasks, except for what stopped the run as a whole
    or wants a person: a stop, a key, the budget.
    """
    failures = _failures(results)
    grave = min(failures, key=_gravity, default=None)
    if error is None or (grave is not None and _gravity(grave) < min(_gravity(error), _FAILURE)):
        return grave
    return error


_FAILURE = 3
_GRAVITY = {
    StoppedError.exit_code: 0,
    AuthError.exit_code: 1,
    BudgetExceeded.exit_code: 2,
    RateLimitError.exit_code: 4,
}


def _gravity(failure: Failure) -> int:
    """What ended the run comes first, then keys and money, then failures, then what passes by itself."""
    return _GRAVITY.get(failure.exit_code, _FAILURE)


def exit_code(error: Failure | None, results: tuple[Result, ...]) -> int:
    """What the process ends with: 0 only when every subtask is done and accepted."""
    failure = worst(results, error)
    if failure is not None:
        return failure.exit_code
    return 0 if all(isinstance(r, Done) and r.accepted for r in results) else 1


def outcome(code: int) -> Outcome:
    """How a run with this exit code is said to have ended."""
    if code == StoppedError.exit_code:
        return "interrupted"
    return "failed" if code else "done"
