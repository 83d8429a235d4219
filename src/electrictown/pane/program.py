"""The program that is a session: it listens, is told what to work with, and converses until it is ended.

It alone holds the session's lock. What it is told over the inbox and what is typed at its screen go the
same way: committed first, then answered, one after another.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from electrictown.errors import ElectrictownError, SessionBusyError, SessionError
from electrictown.redact import mask
from electrictown.sessions.inbox import Tell, listening
from electrictown.sessions.log import Log
from electrictown.sessions.messages import (
    Accepted,
    Answer,
    Answered,
    Begin,
    Interrupt,
    Look,
    Okay,
    Refused,
    Request,
    Say,
    Seen,
    Stop,
)
from electrictown.sessions.records import Record, Said, Status
from electrictown.sessions.registry import Registry
from electrictown.work import Failure

if TYPE_CHECKING:
    from electrictown.pane.talk import Ending, Talk

__all__ = ["main"]

_PATIENCE: Final = 60.0
"""Seconds that a session waits to be told what to work with."""
_PR_SET_CHILD_SUBREAPER: Final = 36


def main(arguments: Sequence[str]) -> int:
    """Be the session `NAME` whose state is kept below `FOLDER`; the exit code is the process's."""
    name, state = arguments
    _adopt()
    registry = Registry(Path(state) / "sessions")
    try:
        record = registry.find(name)
        lock = registry.lock(name)
    except ElectrictownError as error:
        print(f"error: {mask(str(error))}", file=sys.stderr)
        return error.exit_code
    try:
        return asyncio.run(_Program(record, registry, Path(state)).run())
    finally:
        lock.release()


def _adopt() -> None:
    """Have what loses its parent come to us, not to init.

    Of an agent whose leash was killed, what was started without the session's mark is known so only.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), *[ctypes.c_ulong(0)] * 3)


class _Program:
    """The session from its first moment to its last."""

    def __init__(self, record: Record, registry: Registry, state: Path) -> None:
        self._record = record
        self._registry = registry
        self._state = state
        self._folder = registry.folder(record.name)
        self._begun: asyncio.Future[tuple[Begin, Tell]] | None = None
        self._talk: Talk | None = None
        self._status = Status("starting", pid=os.getpid())
        self._main: asyncio.Task[int] | None = None
        self._ended: tuple[Ending, str] | None = None

    async def run(self) -> int:
        """Listen, begin, converse; the exit code."""
        loop = asyncio.get_running_loop()
        self._main = asyncio.current_task()
        self._begun = loop.create_future()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        loop.add_signal_handler(signal.SIGTERM, self._end, "done", "it was ended")
        loop.add_signal_handler(signal.SIGHUP, self._end, "failed", "its terminal went away")
        code = 1
        try:
            self._changed(self._status)
            async with listening(self._folder, self._respond):
                code = await self._converse()
        except asyncio.CancelledError:
            if self._ended is None:
                raise
            code = 0 if self._ended[0] == "done" else 1
        except ElectrictownError as error:
            self._ended = ("failed", error.message)
            code = error.exit_code
        finally:
            state, why = self._ended or ("failed", "a fault of the program itself")
            self._changed(replace(self._status, state=state, why=why, until=None, at=time.time()))
        return code

    async def _converse(self) -> int:
        from electrictown.pane.opening import opened

        assert self._begun is not None  # noqa: S101  (made by run)
        try:
            async with asyncio.timeout(_PATIENCE):
                begin, tell = await self._begun
        except TimeoutError:
            raise SessionError("nobody told the session what to work with") from None
        log = Log(self._folder)
        try:
            async with AsyncExitStack() as stack:
                try:
                    self._talk = await stack.enter_async_context(
                        opened(self._record, begin, self._state, log, self._changed)
                    )
                except ElectrictownError as error:
                    await tell(Refused(Failure.of(error)))
                    raise
                await tell(Okay())
                self._ended = await self._talk.run()
        finally:
            self._talk = None
            log.close()
        return 0 if self._ended[0] == "done" else 1

    async def _respond(self, request: Request, tell: Tell) -> None:
        """Answer one request that came over the inbox.

        Raises:
            SessionError: when it cannot be done now.
        """
        talk = self._talk
        match request:
            case Begin():
                if self._begun is None or self._begun.done():
                    raise SessionBusyError(f"the session {self._record.name} has begun already")
                self._begun.set_result((request, tell))
            case Look():
                await tell(Seen(self._status if talk is None else replace(talk.status, pid=os.getpid())))
            case Stop():
                self._end("done", request.why or "it was ended")
                await tell(Okay())
            case _ if talk is None:
                raise SessionError(
                    f"the session {self._record.name} has not begun yet", "try again in a moment"
                )
            case Say():
                await _said(talk, request, tell)
            case Interrupt():
                if not talk.interrupt():
                    raise SessionError(f"nothing is under way in {self._record.name}")
                await tell(Okay())
            case Answer():
                if not talk.answer(allow=request.allow):
                    raise SessionError(f"{self._record.name} asks for nothing")
                await tell(Okay())

    def _interrupt(self) -> None:
        if self._talk is not None:
            self._talk.interrupt()

    def _end(self, state: Ending, why: str) -> None:
        """Cut what is under way, and end."""
        if self._ended is None and self._main is not None:
            self._ended = (state, why)
            self._main.cancel()

    def _changed(self, status: Status) -> None:
        """Write down how the session does; it tells who asks by itself, so this is for when it is gone."""
        self._status = replace(status, pid=os.getpid())
        with suppress(SessionError):  # a full disk ends no conversation; the journal has the last word
            self._registry.save(self._record.name, self._status)


async def _said(talk: Talk, request: Say, tell: Tell) -> None:
    ahead = await talk.accept(Said.of(request.id, request.data, request.sender))
    await tell(Accepted(request.id, ahead))
    if request.wait:
        await tell(Answered(await talk.answer_to(request.id)))
