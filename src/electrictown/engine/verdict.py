"""What a run comes to: its exit code, the failure that matters, its text without a synthesis."""

from __future__ import annotations

from electrictown.errors import AuthError, BudgetExceeded, DependencyError, RateLimitError
from electrictown.work import Done, Failed, Failure, Plan, Result

__all__ = ["exit_code", "side_by_side", "worst"]


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


def worst(results: tuple[Result, ...]) -> Failure | None:
    """The failure a person must act on first; None where nothing failed."""
    return min(_failures(results), key=_gravity, default=None)


def _gravity(failure: Failure) -> int:
    """What a person must act on comes first: keys, money, then failures, then what passes by itself."""
    return {AuthError.exit_code: 0, BudgetExceeded.exit_code: 1, RateLimitError.exit_code: 3}.get(
        failure.exit_code, 2
    )


def exit_code(error: Failure | None, results: tuple[Result, ...]) -> int:
    """What the process ends with: 0 only when every subtask is done and accepted."""
    failure = error or worst(results)
    if failure is not None:
        return failure.exit_code
    return 0 if all(isinstance(r, Done) and r.accepted for r in results) else 1
