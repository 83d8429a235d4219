"""`et cancel`: end a run that somebody drives."""

from __future__ import annotations

import asyncio
import math
import sys
from typing import TYPE_CHECKING

import click

from electrictown.cli.journals import db_option, json_option, run_argument, with_store
from electrictown.cli.tables import print_json

if TYPE_CHECKING:
    from electrictown.journal.journal import RunRow, Store

__all__ = ["command"]

_PATIENCE = 20.0
"""Seconds that a driver is given to let go: it looks for the wish every moment, then ends what it asks."""

_LOOK = 0.2

_OVER = ("done", "dry-run", "failed", "cancelled")


@click.command(short_help="End a run that somebody drives, for good.")
@run_argument
@json_option
@db_option
def command(name: str, as_json: bool, db: str | None) -> None:
    """End RUN, here or on whatever machine it is driven, and wait until it has.

    RUN is a run's id, the beginning of one, or `last`. What it has done stays
    in the journal. A run that nobody drives is marked, so that it is not taken
    up again by accident; one that is over is left as it is.
    """

    async def end(store: Store) -> tuple[RunRow, RunRow]:
        before = await store.find(name)
        return before, before if before.state in _OVER else await _cancelled(store, before, quiet=as_json)

    before, after = with_store(db, end)
    if as_json:
        print_json({"run": after.run, "before": before.state, "state": after.state})
    else:
        click.echo(_told(before, after))


async def _cancelled(store: Store, row: RunRow, *, quiet: bool) -> RunRow:
    """The run after the wish was written, and its driver has let go or was waited for long enough."""
    await store.cancel(row.run)
    if row.state == "running" and not quiet:
        print(f"waiting until the run {row.run} has ended", file=sys.stderr)
    for _ in range(math.ceil(_PATIENCE / _LOOK)):
        row = await store.find(row.run)
        if row.state != "running":
            break
        await asyncio.sleep(_LOOK)
    return row


def _told(before: RunRow, after: RunRow) -> str:
    if before.state in _OVER:
        return f"the run {before.run} is over already: {before.state}"
    if after.state == "running":
        return (
            f"the run {after.run} is marked cancelled, and was still driven {_PATIENCE:g} s later: "
            "it ends as soon as its driver looks"
        )
    if before.state == "running":
        return f"the run {after.run} has ended: {after.state}"
    return f"nobody drove the run {after.run} ({before.state}); it is marked cancelled"
