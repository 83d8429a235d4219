"""`et runs`: which runs there are, how they ended and what they cost."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from electrictown.cli.journals import Since, age, db_option, json_option, with_store
from electrictown.cli.tables import fitted, print_json, table_lines

if TYPE_CHECKING:
    from electrictown.cli.ledger import Ledger
    from electrictown.journal.journal import RunRow, Store

__all__ = ["command"]

_FEW = 50
"""Runs whose steps are asked for run by run; above that it is quicker to read those of all."""

_TASK = 60
"""Characters of a task that are shown."""

_LEAST = ((6, 1),)
"""The column that is cut on a terminal that is too narrow, the task, and what is left of it."""


@click.command(short_help="List the runs: how they ended, what they cost.")
@click.option("--since", type=Since(), metavar="TIME", help="Begun since: 12h, 2d, 1w, or 2026-11-22.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    metavar="N",
    default=20,
    show_default=True,
    help="The newest N only; 0 lists all.",
)
@json_option
@db_option
def command(since: float | None, limit: int, as_json: bool, db: str | None) -> None:
    """List the runs, the newest first.

    \b
    A run's state:
      running      somebody drives it now
      done         it ended well
      failed       it ended, and some of its work did not
      interrupted  it was stopped with Ctrl-C or SIGTERM
      cancelled    `et cancel` ended it
      stopped      it has no end and nobody drives it: a crash
      dry-run      its plan was made, and nothing else was wanted

    The cost is that of all settled requests. What a crash left unsettled may
    come on top: "+ up to".
    """

    async def look(store: Store) -> tuple[list[RunRow], Ledger]:
        # One more than is shown tells whether there are more.
        rows = await store.runs(since=since, limit=limit + 1 if limit else None)
        return rows, await _ledger(store, rows[: limit or None])

    rows, ledger = with_store(db, look)
    shown = rows[: limit or None]
    states = {row.run: row for row in shown}
    if as_json:
        print_json([_entry(row, ledger, states) for row in shown])
        return
    if not shown:
        when = "" if since is None else " in that time"
        print(f'no run was begun{when}; et run "..." begins one', file=sys.stderr)
        return
    now = time.time()
    headings = ("run", "state", "age", "time", "cost", "driven", "task")
    table = fitted([headings, *(_cells(row, ledger, states, now) for row in shown)], _LEAST)
    for text in table_lines(table, right={2, 3}):
        click.echo(text)
    if len(rows) > len(shown):
        print("there are older ones: --limit 0 lists all", file=sys.stderr)


async def _ledger(store: Store, rows: list[RunRow]) -> Ledger:
    from electrictown.cli.ledger import KINDS, Ledger

    if len(rows) > _FEW:
        return Ledger(await store.steps(kinds=KINDS))
    return Ledger([step for row in rows for step in await store.steps(row.run, kinds=KINDS)])


def _cells(row: RunRow, ledger: Ledger, states: dict[str, RunRow], now: float) -> tuple[str, ...]:
    from electrictown.cli.ledger import money_of
    from electrictown.console.text import count, duration, line

    seconds = _seconds(row, now)
    return (
        row.run,
        row.state,
        age(now - row.started),
        "-" if seconds is None else duration(seconds),
        money_of(ledger.total(row.run), ledger.lost(states, row.run)),
        count(row.drivers, "time"),
        line(row.task, _TASK),
    )


def _seconds(row: RunRow, now: float) -> float | None:
    """How long the run took, or has taken so far; None where nobody saw its end."""
    if row.ended is not None:
        return row.ended - row.started
    return now - row.started if row.state == "running" else None


def _entry(row: RunRow, ledger: Ledger, states: dict[str, RunRow]) -> dict[str, object]:
    from msgspec.structs import asdict

    return {
        **asdict(row),
        "seconds": _seconds(row, time.time()),
        "cost": ledger.total(row.run),
        "unsettled": ledger.lost(states, row.run),
        "in_flight": ledger.in_flight(states, row.run),
    }
