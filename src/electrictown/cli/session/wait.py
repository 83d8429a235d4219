"""`et session wait`: until sessions have nothing left to do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal

import click

from electrictown.cli.journals import json_option
from electrictown.cli.session.common import entry, names_argument, registry
from electrictown.cli.tables import print_json
from electrictown.errors import DeadlineError

if TYPE_CHECKING:
    from electrictown.sessions.records import Record, SessionRow, Status
    from electrictown.sessions.registry import Registry

__all__ = ["command"]

_LOOK: Final = 0.2
"""Seconds between two looks at a session."""

_Goal = Literal["idle", "end"]


@click.command("wait", short_help="Wait until sessions have nothing left to do.")
@names_argument
@click.option(
    "--until",
    type=click.Choice(["idle", "end"]),
    default="idle",
    show_default=True,
    help="idle: all that was said is answered, or it has ended. end: it has ended.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="The longest to wait.  [default: no end]",
)
@json_option
def command(names: Sequence[str], until: _Goal, timeout: float | None, as_json: bool) -> int:
    """Wait until all the sessions NAME... have nothing left to do.

    Prints how each does as soon as it has. One that asks for leave is waited
    for: it may be given in another terminal.

    \b
      et session wait et-polecat-a3f2 et-polecat-99c0 --timeout 600

    Exit codes: 0 all is well, 1 a session has failed or could not answer its
    last message, 2 no such session, 75 the time is over.
    """
    from electrictown.console.text import line
    from electrictown.sessions.records import SessionRow

    sessions = registry()
    records = [sessions.find(name) for name in dict.fromkeys(names)]
    waiting = {record.name for record in records}

    def told(row: SessionRow) -> None:
        waiting.discard(row.name)
        if not as_json:
            why = f": {line(row.status.why)}" if row.status.why else ""
            click.echo(f"{row.name}  {row.status.state}{why}")

    async def wait() -> list[SessionRow]:
        async def one(record: Record) -> SessionRow:
            row = SessionRow(record.name, await _waited(sessions, record, until), record)
            told(row)
            return row

        async with asyncio.timeout(timeout):
            return await asyncio.gather(*(one(record) for record in records))

    try:
        rows = asyncio.run(wait())
    except TimeoutError:
        still = ", ".join(record.name for record in records if record.name in waiting)
        raise DeadlineError(f"the time is over, and still at work: {still}", "et session list") from None
    if as_json:
        print_json([entry(row) for row in rows])
    return int(any(_went_wrong(row.status) for row in rows))


async def _waited(sessions: Registry, record: Record, until: _Goal) -> Status:
    """How the session does, as soon as there is nothing to wait for."""
    from electrictown.console.text import line
    from electrictown.sessions.records import LIVE
    from electrictown.sessions.roster import look

    told = ""
    while True:
        status = await look(sessions, record)
        if status.state not in LIVE or (until == "idle" and _is_idle(status)):
            return status
        wants = status.why if status.state in ("stuck", "waiting for input") and status.queued else ""
        if wants and wants != told:
            print(f"{record.name} is {status.state}: {line(wants)}", file=sys.stderr)
        told = wants
        await asyncio.sleep(_LOOK)


def _is_idle(status: Status) -> bool:
    return status.state in ("ready", "waiting for input") and not status.queued


def _went_wrong(status: Status) -> bool:
    """Whether it has failed, or could not answer what was said last: it is idle then, and says why."""
    return status.state == "failed" or (_is_idle(status) and bool(status.why))
