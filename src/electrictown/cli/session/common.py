"""What the commands of `et session` share: where sessions are kept, and how one is told as data."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from electrictown.journal.journal import Store
    from electrictown.sessions.launching import Executor
    from electrictown.sessions.messages import Request
    from electrictown.sessions.records import Record, SessionRow
    from electrictown.sessions.registry import Registry

__all__ = [
    "entry",
    "executor_for",
    "name_argument",
    "names_argument",
    "open_journal",
    "registry",
    "row_of",
    "socket_option",
    "state",
    "tmux_servers",
    "told",
    "usd_of",
]

name_argument = click.argument("name", metavar="NAME")
names_argument = click.argument("names", metavar="NAME...", nargs=-1, required=True)
socket_option = click.option(
    "--socket", metavar="NAME", default="", help="A tmux server of its own, as tmux -L.  [default: tmux's]"
)


def state() -> Path:
    """The folder where et keeps its state."""
    from electrictown.journal.stores import state_folder

    return state_folder(os.environ)


def registry() -> Registry:
    """The sessions of this machine's user."""
    from electrictown.sessions.registry import Registry

    return Registry(state() / "sessions")


async def open_journal() -> Store:
    """The store that sessions are journalled in.

    Raises:
        JournalError: when it cannot be used.
    """
    from electrictown.journal.stores import open_store

    return await open_store(None, os.environ)


def executor_for(record: Record) -> Executor:
    """What the session of `record` runs in.

    Raises:
        SessionError: when it is not installed any more.
    """
    from electrictown.sessions.launcher import executor_of

    return executor_of(record.backend, record.socket)


def tmux_servers(sessions: Registry, socket: str = "") -> list[Executor]:
    """The tmux servers that may show a session: tmux's own, the one of `socket`, those on record."""
    from electrictown.errors import SessionError
    from electrictown.sessions.launcher import executor_of

    if shutil.which("tmux") is None:
        return []
    sockets = {"", socket}
    for name in sessions.names():
        with suppress(SessionError):  # a record that cannot be read: the list itself says so
            sockets.add(sessions.find(name).socket)
    return [executor_of("tmux", name) for name in sorted(sockets)]


async def row_of(sessions: Registry, record: Record) -> SessionRow:
    """The session of `record`, and how it does now.

    Raises:
        SessionError: when that cannot be read.
    """
    from electrictown.sessions.records import SessionRow
    from electrictown.sessions.roster import look

    return SessionRow(record.name, await look(sessions, record), record)


async def told(name: str, request: Request) -> None:
    """Tell `request` to the session `name`, which does as it is told.

    Raises:
        UnknownSessionError, SessionEndedError: when there is none that could be told.
        SessionError: when it cannot be done now.
        DeadlineError: when it does not answer.
    """
    from electrictown.errors import DeadlineError
    from electrictown.sessions.inbox import call
    from electrictown.sessions.messages import Okay

    sessions = registry()
    record = sessions.find(name)
    try:
        await call(name, sessions.folder(record.name), request, Okay)
    except TimeoutError:
        raise DeadlineError(
            f"the session {name} does not answer", f"`et session kill {name}` ends it all the same"
        ) from None


def entry(row: SessionRow) -> dict[str, object]:
    """A session as every command prints it with --json. `usd` is None where it is not known."""
    status, record = row.status, row.record
    return {
        "name": row.name,
        "state": status.state,
        "why": status.why,
        "until": status.until,
        "role": record.role if record else "",
        "agent": record.agent if record else "",
        "model": status.model,
        "folder": record.folder if record else "",
        "backend": record.backend if record else "tmux",
        "socket": record.socket if record else "",
        "attached": row.attached,
        "created": record.created if record else status.at,
        "at": status.at,
        "heard": status.heard,
        "pid": status.pid,
        "turns": status.turns,
        "queued": status.queued,
        "requests": status.cost.requests,
        "tokens": status.cost.tokens,
        "usd": usd_of(row),
        "line": status.line,
    }


def usd_of(row: SessionRow) -> float | None:
    """What the session has cost; nobody knows of one that is not on record."""
    return None if row.record is None else row.status.cost.usd
