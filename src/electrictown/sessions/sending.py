"""Saying something to a session exactly once, whatever breaks on the way."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from electrictown.errors import JournalError, SessionBusyError, SessionEndedError, SessionError
from electrictown.journal.journal import Store
from electrictown.sessions.inbox import connected
from electrictown.sessions.messages import Accepted, Answered, Say
from electrictown.sessions.records import Record, Turn
from electrictown.sessions.registry import Registry

__all__ = ["deliver", "new_id"]

_PAUSE: Final = 0.1
"""Seconds until somebody who could not be reached is tried again."""


def new_id() -> str:
    """An id for a message, which no other has."""
    return secrets.token_hex(8)


async def deliver(
    registry: Registry,
    record: Record,
    say: Say,
    journal: Callable[[], Awaitable[Store]],
    accepted: Callable[[Accepted], None] = lambda _: None,
) -> Turn | None:
    """Say it to the session of `record`; what became of it if `say` waits for that, else None.

    `accepted` is called as soon as the session has it for good, more than once where the connection broke
    after that. While the session lives or starts, what broke, or came when too many spoke, is said again:
    under the same id, it is not said twice. When it has ended, `journal` opens the store that knows what it
    had accepted.

    It waits as long as it takes: who wants less cancels it. Then the session may accept it all the same,
    and only saying it again with its id tells.

    Raises:
        SessionEndedError: when the session has ended; the message says whether it was accepted.
        SessionError: what the session refuses.
    """
    folder = registry.folder(record.name)
    went_out = False
    while True:
        try:
            async with connected(record.name, folder) as line:
                went_out = True
                accepted(await line.ask(say, Accepted))
                return (await line.next(Answered)).turn if say.wait else None
        except SessionEndedError:
            if not _lives(registry, record):
                break
        except SessionError as error:
            if not isinstance(error, SessionBusyError) and not _starts(registry, record):
                raise
        await asyncio.sleep(_PAUSE)
    return await _remembered(record.name, say, journal, went_out=went_out)


def _lives(registry: Registry, record: Record) -> bool:
    return registry.is_alive(record.name) or _starts(registry, record)


def _starts(registry: Registry, record: Record) -> bool:
    """Whether it is not ready yet: what it refuses now, it takes in a moment."""
    return registry.status(record).state == "starting"


async def _remembered(
    name: str, say: Say, journal: Callable[[], Awaitable[Store]], *, went_out: bool
) -> Turn:
    """What became of what was said to a session that has ended, as its journal knows it."""
    try:
        was_accepted, turn = await _recalled(name, say.id, journal)
    except JournalError as error:
        if not went_out:
            raise _ended(name, "the message was not accepted") from error
        raise _ended(name, f"whether the message was accepted is not known: {error.message}") from error
    if turn is not None and say.wait:
        return turn
    if was_accepted:
        raise _ended(name, "the message was accepted", f"`et session spawn --resume {name}` answers it")
    raise _ended(name, "the message was not accepted")


async def _recalled(
    name: str, message: str, journal: Callable[[], Awaitable[Store]]
) -> tuple[bool, Turn | None]:
    store = await journal()
    try:
        keys = {step.key: step for step in await store.steps(name, kinds=("said", "turn"))}
    finally:
        await store.aclose()
    turn = keys.get(f"turn.{message}")
    return f"said.{message}" in keys, turn.read(Turn) if turn is not None else None


def _ended(name: str, what: str, hint: str = "") -> SessionEndedError:
    return SessionEndedError(
        f"the session {name} has ended: {what}", hint or f"`et session spawn --resume {name}` goes on with it"
    )
