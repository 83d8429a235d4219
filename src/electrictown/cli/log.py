"""`et log`: what happened in a run, line by line, also while it happens."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from electrictown.cli.journals import db_option, moment, run_argument, with_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from electrictown.events import Event
    from electrictown.journal.journal import Line, RunRow, Store

__all__ = ["command"]

_PAGE = 1000
_LOOK = 0.3
"""Seconds between two looks for more."""


@click.command(short_help="Print what happened in a run, line by line.")
@run_argument
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends, or Ctrl-C.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print every event as a JSON line, as `et run --jsonl`."
)
@db_option
def command(name: str, follow: bool, as_json: bool, db: str | None) -> None:
    """Print what happened in RUN, line by line.

    RUN is a run's id, the beginning of one, or `last`. It may be driven by
    another terminal or another machine. Texts of models are not in the log:
    `et show --json` has them.

    \b
      et log last --follow
      et log last --json | jq 'select(.type == "hop")'
    """
    tell = _as_json if as_json else _Plain()
    row = with_store(db, lambda store: _told(store, name, tell, follow=follow))
    if follow and row.state == "stopped":
        print(f"nobody drives this run any more; et resume {row.run} takes it up", file=sys.stderr)


async def _told(store: Store, name: str, tell: Callable[[Line], None], *, follow: bool) -> RunRow:
    """Tell all lines of the run, and with `follow` those to come; the run as it was at the last look."""
    last = 0
    while True:
        # The state first: what was written before the end is then among the lines that follow.
        row = await store.find(name)
        name = row.run  # "last" may be another one later
        while lines := await store.lines(row.run, after=last, limit=_PAGE):
            for line in lines:
                tell(line)
            last = lines[-1].seq
        if not follow or row.state != "running":
            return row
        await asyncio.sleep(_LOOK)


def _event_of(line: Line) -> Event | None:
    """The event; None for one of a kind that only another version of et knows."""
    import msgspec

    from electrictown.events import Event

    try:
        return msgspec.json.decode(line.event, type=Event)
    except msgspec.DecodeError:
        return None


def _as_json(line: Line) -> None:
    from electrictown.console.jsonl import event_line
    from electrictown.redact import mask

    event = _event_of(line)
    click.echo(mask(line.event.decode()) if event is None else event_line(event))


class _Plain:
    """Tells events as `et run` does where its stderr is no terminal, each with its time."""

    def __init__(self) -> None:
        from electrictown.console.lines import Narrator

        self._narrator = Narrator()

    def __call__(self, line: Line) -> None:
        from electrictown.console import text
        from electrictown.console.closing import outcome
        from electrictown.events import RunEnded, RunStarted

        event = _event_of(line)
        if event is None:
            self._print(line.at, "warning: an event that this version of et does not know")
            return
        if isinstance(event, RunStarted):
            self._print(event.time, text.line(f"run {event.run}: {event.task}"))
        told = [*self._narrator(event), *([outcome(event.report)] if isinstance(event, RunEnded) else [])]
        for one in told:
            prefix = f"{one.level}: " if one.level in ("warning", "error") else ""
            self._print(event.time, text.blocks(prefix + one.text))

    def _print(self, at: float, told: str) -> None:
        click.echo(f"{moment(at)}  {told}")
