"""Which sessions there are and how they do now: asked of every one at once, and of tmux what it shows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from electrictown.errors import SessionBusyError, SessionEndedError, SessionError
from electrictown.sessions.inbox import call
from electrictown.sessions.launching import Executor, Pane
from electrictown.sessions.messages import Look, Seen
from electrictown.sessions.records import LIVE, Record, SessionRow, Status
from electrictown.sessions.registry import GONE, Registry

__all__ = ["ANSWER", "SILENCE", "Roster", "look", "roster"]

ANSWER: Final = 1.5
"""Seconds that a session has to say how it does; one that is well needs a thousandth of it."""

SILENCE: Final = 300.0
"""Seconds without a sign of the model or agent after which a session that works is stuck."""

_START: Final = 60.0
"""Seconds that a session may be busy with its start."""


class Roster(Struct, frozen=True):
    """The sessions there are, the oldest first, and what of them could not be found out."""

    rows: tuple[SessionRow, ...]
    troubles: tuple[SessionError, ...] = ()


async def roster(
    registry: Registry,
    executors: Iterable[Executor],
    *,
    since: float | None = None,
    answer: float = ANSWER,
) -> Roster:
    """The sessions that are recorded, and those that tmux alone knows of.

    `executors` are asked for panes that nobody recorded. With `since`, a time as of `time.time()`, those that
    ended before it are left out, but none whose end nobody saw. `answer` is how many seconds a session has
    to say how it does.
    """
    executors = tuple(executors)
    troubles: list[SessionError] = []
    records: list[Record] = []
    for name in registry.names():
        try:
            records.append(registry.find(name))
        except SessionError as error:
            troubles.append(error)
    records.sort(key=lambda record: record.created)
    statuses, views = await asyncio.gather(
        asyncio.gather(*(_looked(registry, record, answer) for record in records)),
        asyncio.gather(*(_panes(executor) for executor in executors)),
    )
    troubles += [one for one in (*statuses, *views) if isinstance(one, SessionError)]
    panes = {
        (executor.socket, pane.name): pane
        for executor, view in zip(executors, views, strict=True)
        if not isinstance(view, SessionError)
        for pane in view.values()
    }
    rows = [
        SessionRow(record.name, status, record, attached=_attached(panes, record))
        for record, status in zip(records, statuses, strict=True)
        if isinstance(status, Status) and _is_shown(status, since)
    ]
    return Roster((*rows, *_foreign(panes, records)), tuple(troubles))


async def look(registry: Registry, record: Record, *, answer: float = ANSWER) -> Status:
    """How the session of `record` does now, as it says itself; one that says nothing is stuck.

    Raises:
        SessionError: when what it says, or has left behind, cannot be read.
    """
    status = registry.status(record)
    if status.state not in LIVE or not registry.is_alive(record.name):
        return status
    try:
        seen = await call(record.name, registry.folder(record.name), Look(), Seen, seconds=answer)
    except (SessionEndedError, SessionBusyError):  # it does not listen yet, or any more, or to so many
        return registry.status(record)
    except TimeoutError:
        if status.state == "starting" and time.time() - status.at < _START:
            return status
        return replace(status, state="stuck", why="it does not answer")
    return _judged(seen.status)


def _judged(status: Status) -> Status:
    """What a session says of itself; one that has waited in silence for too long does not know it."""
    silent = time.time() - status.heard
    if status.state != "working" or not status.heard or silent < SILENCE:
        return status
    return replace(status, state="stuck", why=f"nothing was heard for {silent / 60:.0f} minutes")


async def _looked(registry: Registry, record: Record, answer: float) -> Status | SessionError:
    try:
        return await look(registry, record, answer=answer)
    except SessionError as error:
        return error


async def _panes(executor: Executor) -> dict[str, Pane] | SessionError:
    try:
        return await executor.panes()
    except SessionError as error:
        return error


def _is_shown(status: Status, since: float | None) -> bool:
    return since is None or status.state in LIVE or status.at >= since or status.why == GONE


def _attached(panes: Mapping[tuple[str, str], Pane], record: Record) -> bool:
    pane = panes.get((record.socket, record.name))
    return record.backend != "none" and pane is not None and pane.attached


def _foreign(panes: Mapping[tuple[str, str], Pane], records: list[Record]) -> list[SessionRow]:
    """The panes that nobody recorded."""
    ours = {(record.socket, record.name) for record in records if record.backend != "none"}
    return [
        SessionRow(
            pane.name,
            Status("foreign", f"on tmux's socket {socket}" if socket else "", pid=pane.pid, at=pane.created),
            attached=pane.attached,
        )
        for (socket, _), pane in panes.items()
        if (socket, pane.name) not in ours
    ]
