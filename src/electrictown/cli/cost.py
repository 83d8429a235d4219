"""`et cost`: what was spent, on whom."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, TypeAlias

import click

from electrictown.cli.journals import Since, db_option, json_option, with_store
from electrictown.cli.tables import print_json

if TYPE_CHECKING:
    from electrictown.cli.ledger import Ledger, Open
    from electrictown.journal.journal import RunRow, Store

__all__ = ["command"]

By: TypeAlias = Literal["role", "provider", "model", "run"]

_USUAL: tuple[By, ...] = ("role", "provider", "model")


@click.command(short_help="Sum up what runs cost, by role, provider, model or run.")
@click.option("--since", type=Since(), metavar="TIME", help="Requests since: 12h, 2d, 1w, or 2026-11-22.")
@click.option(
    "--by",
    type=click.Choice(["role", "provider", "model", "run"]),
    help="Sum up by this alone.  [default: by role, by provider and by model]",
)
@json_option
@db_option
def command(since: float | None, by: By | None, as_json: bool, db: str | None) -> None:
    """Sum up what the requests of all runs cost.

    A sum is unknown where the price of a model in it is: then the part with a
    price is told. Requests of crashed runs whose end nobody saw are told
    apart: they may have been billed.
    """

    async def look(store: Store) -> tuple[Ledger, dict[str, RunRow]]:
        from electrictown.cli.ledger import KINDS, Ledger, find_rows

        ledger = Ledger(await store.steps(kinds=KINDS, since=since))
        return ledger, await find_rows(store, ledger.open_runs)

    ledger, rows = with_store(db, look)
    parts = {what: ledger.by(what) for what in ((by,) if by else _USUAL)}
    lost, in_flight = ledger.lost(rows), ledger.in_flight(rows)
    if as_json:
        print_json(
            {
                "since": since,
                "costs": parts,
                "total": ledger.total(),
                "unsettled": lost,
                "in_flight": in_flight,
            }
        )
        return
    from electrictown.console.closing import bill_lines

    lines = bill_lines(parts, ledger.total())
    if not lines and not lost.requests and not in_flight.requests:
        print("no request was made" + ("" if since is None else " in that time"), file=sys.stderr)
    for text in [*lines, *open_lines(lost, in_flight)]:
        click.echo(text)


def open_lines(lost: Open, in_flight: Open) -> list[str]:
    """What may come on top of a bill, in words; nothing where there is nothing."""
    from electrictown.console.text import count, line, money

    told: list[str] = []
    for left, what in ((lost, "left unsettled by a crash"), (in_flight, "in flight")):
        if left.requests:
            most = money(left.usd, left.known_usd)
            named = ", ".join(left.runs[:3]) + (
                f" and {len(left.runs) - 3} more" if len(left.runs) > 3 else ""
            )
            told.append(line(f"{what}: {count(left.requests, 'request')}, at the most {most} ({named})"))
    return told
