"""The end of a run on a screen: the outcome, the bill, and what failed over to what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from electrictown.console.lines import Line
from electrictown.console.text import bill, count, duration, failure, line, money, width
from electrictown.work import Budget, Cost, Hop, Report

__all__ = ["HEADINGS", "bill_lines", "budget_line", "closing_lines", "hops", "outcome", "row", "sections"]

HEADINGS = ("requests", "input", "cached", "output", "cost")


def closing_lines(report: Report) -> list[Line]:
    """All of it as plain lines."""
    return [
        *(Line(text) for text in (*bill_lines(report.costs, report.total), *hops(report.hops))),
        *([Line(budget_line(report.budget))] if report.budget is not None else []),
        outcome(report),
    ]


def sections(costs: Mapping[str, Sequence[Cost]], total: Cost | None) -> list[tuple[str, Sequence[Cost]]]:
    """The bill's parts that hold anything: by role, by provider, by model, and the total."""
    parts: list[tuple[str, Sequence[Cost]]] = [
        (f"by {line(name)}", rows) for name, rows in costs.items() if rows
    ]
    return [*parts, ("total", (total,))] if total and total.requests else parts


def row(cost: Cost) -> tuple[str, ...]:
    """A line of the bill under `HEADINGS`; tokens from a cache are a part of the input."""
    partial = f" ({cost.partial} partial)" if cost.partial else ""
    return (
        f"{cost.requests:,}{partial}",
        f"{cost.input + cost.cache_read + cost.cache_write:,}",
        f"{cost.cache_read:,}",
        f"{cost.output:,}",
        bill(cost),
    )


def hops(taken: Sequence[Hop]) -> list[str]:
    """What failed over to what, each once with its count."""
    seen = Counter((hop.role, hop.failed, hop.took_over, hop.error) for hop in taken)
    return [
        line(
            f"{role or 'a request'}: {failed} -> {took_over or 'nobody'} ({error})"
            + (f", {times} times" if times > 1 else "")
        )
        for (role, failed, took_over, error), times in seen.items()
    ]


def budget_line(budget: Budget) -> str:
    """What of the budget is gone, and what is set aside for requests whose bill has not come."""
    usd, tokens = budget.usd, budget.tokens
    spent = [f"{money(budget.spent_usd)} of {money(usd)}"] if usd is not None else []
    spent += [f"{budget.spent_tokens:,} of {count(tokens, 'token')}"] if tokens is not None else []
    if not spent:
        all_of_it = f"{money(budget.spent_usd)}, {count(budget.spent_tokens, 'token')}"
        spent = [f"for roles or subtasks only; in all {all_of_it}"]
    aside = ""
    if budget.reserved_tokens:
        aside = f"; set aside: {money(budget.reserved_usd)}, {count(budget.reserved_tokens, 'token')}"
    return f"budget: {', '.join(spent)} spent{aside}"


def outcome(report: Report) -> Line:
    """The last line: how it ended, in what time, for how much; after a failure a second one, its remedy."""
    parts = [f"{report.outcome} in {duration(report.seconds)}"]
    if report.total is not None:
        parts.append(f"{count(report.total.requests, 'request')}, {bill(report.total)}")
    text = ", ".join(parts)
    if report.error is not None:
        hint = line(report.error.hint)
        return Line(f"{text}: {failure(report.error)}" + (f"\n  hint: {hint}" if hint else ""), "error")
    return Line(text, "info" if report.outcome in ("done", "dry-run") else "error")


def bill_lines(costs: Mapping[str, Sequence[Cost]], total: Cost | None) -> list[str]:
    """The bill as an aligned table; empty where nothing was asked."""
    lines: list[tuple[str, ...]] = []
    for title, rows in sections(costs, total):
        if title == "total":
            lines += [("total", *row(rows[0]))]
        else:
            lines += [(title, *HEADINGS), *((f"  {line(c.name, 40)}", *row(c)) for c in rows)]
    if not lines:
        return []
    widths = [max(width(cells[n]) for cells in lines) for n in range(len(HEADINGS) + 1)]
    return [
        "  ".join(
            cell + pad if n == 0 else pad + cell
            for n, cell in enumerate(cells)
            for pad in (" " * (widths[n] - width(cell)),)
        )
        for cells in lines
    ]
