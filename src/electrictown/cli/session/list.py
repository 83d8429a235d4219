"""`et session list`: which sessions there are, and how they do."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from electrictown.cli.journals import age, json_option
from electrictown.cli.session.common import entry, registry, socket_option, tmux_servers, usd_of
from electrictown.cli.tables import fitted, print_json, table_lines

if TYPE_CHECKING:
    from electrictown.sessions.records import SessionRow, Status

__all__ = ["command"]

_DAY: Final = 86_400.0

_HEADINGS: Final = ("name", "state", "role", "model", "age", "cost", "last line")
_ROLE, _MODEL, _LAST = 2, 3, 6

_LEAST: Final = (
    *((_LAST, 24), (_ROLE, 0)),
    *((_LAST, 24), (_MODEL, 8), (_LAST, 12), (_MODEL, 0)),
    (_LAST, 1),
)
"""Columns that are cut where a terminal is too narrow, in this order, and what is left of each: what was
said last matters most, and a role stands in its session's name. Names and states never are cut.
"""


@click.command("list", short_help="List the sessions and how they do (also: ls).")
@click.option("--all", "everything", is_flag=True, help="Also those that ended more than a day ago.")
@socket_option
@json_option
def command(everything: bool, socket: str, as_json: bool) -> None:
    """List the sessions and how they do, the oldest first.

    \b
    A session's state:
      starting           it is not ready yet
      ready              nothing was said yet
      working            it answers
      waiting for input  it has answered, or asks for leave
      rate-limited T     the model may be asked again at T
      stuck              it does not answer, or was silent for too long
      done               it was ended
      failed             it ended by itself; the last column says why
      foreign            a tmux session named et-..., which is not of et's

    Each is asked now, all at once.
    """
    from electrictown.sessions.roster import roster

    sessions = registry()
    since = None if everything else time.time() - _DAY
    found = asyncio.run(roster(sessions, tmux_servers(sessions, socket), since=since))
    for trouble in found.troubles:
        print(f"warning: {trouble.message}", file=sys.stderr)
    if as_json:
        print_json([entry(row) for row in found.rows])
        return
    if not found.rows:
        older = "" if everything or not sessions.names() else ", but some that ended; --all lists them"
        print(f'there is no session{older}; et session spawn "..." starts one', file=sys.stderr)
        return
    now = time.time()
    for line in table_lines(fitted([_HEADINGS, *(_cells(row, now) for row in found.rows)], _LEAST)):
        click.echo(line)


def _cells(row: SessionRow, now: float) -> tuple[str, ...]:
    from electrictown.console.text import money

    status, record = row.status, row.record
    if record is None:
        last = f"not recorded as ours {status.why}".strip()
        return (row.name, status.state, "-", "-", age(now - status.at), "-", last)
    role = "/".join(dict.fromkeys(filter(None, (record.role, record.agent))))
    usd, known = usd_of(row), status.cost.known_usd
    cost = f"> {money(known)}" if usd is None and known > 0 else money(usd)
    last = status.line or record.prompt
    if status.why and status.state != "rate-limited":
        last = f"({status.why}) {'' if last in status.why else last}".rstrip()
    return (row.name, _state(status, now), role, status.model or "-", age(now - record.created), cost, last)


def _state(status: Status, now: float) -> str:
    """The state, with the time at which a rate limit ends."""
    if status.state != "rate-limited" or status.until is None:
        return status.state
    here = time.localtime(status.until)
    return f"{status.state} {time.strftime('%H:%M' if status.until - now < _DAY else '%m-%d %H:%M', here)}"
