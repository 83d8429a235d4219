"""`et replay`: what a run would have cost under another configuration."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from electrictown.cli.journals import db_option, json_option, run_argument, with_store
from electrictown.cli.setup import environment, settle
from electrictown.cli.tables import print_json, table_lines
from electrictown.errors import UsageError

if TYPE_CHECKING:
    from electrictown.cli.repricing import Compared, Comparison
    from electrictown.journal.journal import Store

__all__ = ["command"]

_NAMED = 2
"""Models that a cell of the table names."""


@click.command(short_help="Say what a run would have cost under another configuration.")
@run_argument
@click.option("--config", "-c", metavar="FILE", required=True, help="The other configuration.")
@click.option("--dry-run", is_flag=True, help="Ask no model, only compare. It has to be given.")
@json_option
@db_option
def command(name: str, config: str, dry_run: bool, as_json: bool, db: str | None) -> None:
    """Say what RUN would have cost under another configuration.

    RUN is a run's id, the beginning of one, or `last`. Each of its requests is
    priced with today's price of the model that its role, or specialist, has
    there; in a pool with the mean of the members' prices. The tokens stay as
    they were counted: another model would count, and answer, otherwise.

    \b
      et replay last --config cheaper.yaml --dry-run
    """
    if not dry_run:
        raise UsageError(
            "a run can be replayed on paper only: no model is asked",
            hint=f"et replay {name} --config {config} --dry-run",
        )
    comparison = with_store(db, lambda store: _compared(store, name, config))
    if as_json:
        print_json(comparison)
        return
    if not comparison.parts:
        print(f"the run {comparison.run} has made no request that costs anything", file=sys.stderr)
    for text in _lines(comparison):
        click.echo(text)


async def _compared(store: Store, name: str, path: str) -> Comparison:
    from electrictown.cli.repricing import compare
    from electrictown.journal.records import Settled
    from electrictown.wiring import Routes
    from electrictown.work import Plan

    row = await store.find(name)
    steps = await store.steps(row.run, kinds=("plan", "settle"))
    plans = [step.read(Plan) for step in steps if step.kind == "plan"]
    requests = [step.read(Settled) for step in steps if step.kind == "settle"]
    specialists = {s.id: s.specialist for plan in plans for s in plan.subtasks}
    # What is looked at here is a price: no key is needed, and nothing need be said of one that is missing.
    config = await settle(path, environment(), quiet=True, require_keys=False)
    routes = Routes(config)
    return await compare(row.run, requests, specialists, routes.table(), routes.specialists())


def _lines(comparison: Comparison) -> Iterable[str]:
    from electrictown.console.text import bill

    if not comparison.parts:
        return
    rows = [("role", "requests", "tokens", "was", "cost", "would be", "cost"), *map(_row, comparison.parts)]
    was, would = comparison.was, comparison.would
    rows.append(("total", f"{was.requests:,}", f"{was.tokens:,}", "", bill(was), "", bill(would)))
    yield from table_lines(rows, right={1, 2, 4, 6})
    yield ""
    yield f"difference: {_difference(comparison)}"


def _difference(comparison: Comparison) -> str:
    from electrictown.console.text import line, money

    was, would, change = comparison.was, comparison.would, comparison.difference
    if change is None:
        unpriced = dict.fromkeys(name for part in comparison.parts for name in part.unpriced)
        if unpriced:
            return line(f"unknown: no price is known for {', '.join(unpriced)}")
        return "unknown: " + ("the run's own cost is" if was.usd is None else "not all tokens were told")
    if change == 0:
        return "none"
    ratio = f", {would.known_usd / was.known_usd:.2g} times the cost" if was.known_usd else ""
    return f"{money(abs(change))} {'more' if change > 0 else 'less'}{ratio}"


def _row(part: Compared) -> tuple[str, ...]:
    from electrictown.console.text import bill

    role = f"{part.role} ({part.specialist})" if part.specialist else part.role
    would = bill(part.would) if part.instead else "-"
    tokens = f"{part.was.tokens:,}"
    return (
        role,
        f"{part.was.requests:,}",
        tokens,
        _names(part.asked),
        bill(part.was),
        _names(part.instead) or "not asked",
        would,
    )


def _names(models: Sequence[str]) -> str:
    more = len(models) - _NAMED
    return ", ".join(models[:_NAMED]) + (f" and {more} more" if more > 0 else "")
