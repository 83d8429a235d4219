"""`et session kill`: end sessions, with all that they started."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from msgspec import Struct
from msgspec.structs import replace

from electrictown.cli.journals import json_option
from electrictown.cli.session.common import (
    executor_for,
    names_argument,
    registry,
    socket_option,
    tmux_servers,
)
from electrictown.cli.tables import print_json
from electrictown.errors import ElectrictownError, SessionError, UnknownSessionError
from electrictown.sessions.records import State
from electrictown.sessions.registry import GONE

if TYPE_CHECKING:
    from electrictown.sessions.registry import Registry

__all__ = ["command"]


class _Killed(Struct, frozen=True):
    """What became of a session: `before` is how it did. `terminated` and `killed` are processes."""

    name: str
    state: State
    why: str
    before: State
    why_before: str
    alive: bool
    terminated: tuple[int, ...]
    killed: tuple[int, ...]


@click.command("kill", short_help="End sessions, with all that they started.")
@names_argument
@socket_option
@json_option
def command(names: Sequence[str], socket: str, as_json: bool) -> int:
    """End the sessions NAME..., with every process that they started.

    Each is asked to end, and made to where it does not. What was said is kept:
    `et session spawn --resume NAME` goes on with it. Of one that has ended
    already, what it left running is ended. A tmux session that is not recorded
    as et's own is never touched.
    """
    from electrictown.cli.app import show_error
    from electrictown.work import Failure

    sessions = registry()

    unique = list(dict.fromkeys(names))

    async def kill() -> list[_Killed | ElectrictownError]:
        return await asyncio.gather(*(_killed(sessions, name, socket) for name in unique))

    code = 0
    told: list[object] = []
    for name, result in zip(unique, asyncio.run(kill()), strict=True):
        if isinstance(result, ElectrictownError):
            code = code or result.exit_code
            show_error(result)
            told.append({"name": name, "error": Failure.of(result)})
        else:
            told.append(result)
            if not as_json:
                click.echo(_line(result))
    if as_json:
        print_json(told)
    return code


async def _killed(sessions: Registry, name: str, socket: str) -> _Killed | ElectrictownError:
    """What was ended of the session `name`, or why nothing could be."""
    from electrictown.sessions.ending import end

    try:
        record = sessions.find(name)
        before = sessions.status(record)
        ended = await end(record, sessions, executor_for(record))
        if (after := sessions.status(record)).why == GONE:  # from now on somebody has seen its end
            after = replace(after, state="done", why="killed", at=time.time(), pid=0)
            sessions.save(name, after)
    except UnknownSessionError as error:
        return await _foreign(sessions, name, socket) or error
    except SessionError as error:
        return error
    return _Killed(
        name, after.state, after.why, before.state, before.why, ended.alive, ended.terminated, ended.killed
    )


async def _foreign(sessions: Registry, name: str, socket: str) -> SessionError | None:
    """Why a tmux session that nobody recorded is left alone; None where there is none of that name."""
    for server in tmux_servers(sessions, socket):
        if name in await server.panes():
            named = f"-L {server.socket} " if server.socket else ""
            return SessionError(
                f"the tmux session {name} is not recorded as et's own, and left alone",
                f"`tmux {named}kill-session -t '={name}'` ends it",
            )
    return None


def _line(result: _Killed) -> str:
    from electrictown.console.text import line

    if result.alive:
        return f"{result.name} has ended"
    why = f" ({line(result.why_before)})" if result.why_before else ""
    left = len({*result.terminated, *result.killed})
    also = f"; processes it had left running were ended: {left}" if left else ""
    return f"{result.name} had ended before: {result.before}{why}{also}"
