"""A session's inbox, a unix socket in its folder: the side that listens, and the side that speaks."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from electrictown.errors import ElectrictownError, SessionBusyError, SessionEndedError, SessionError
from electrictown.sessions import frames
from electrictown.sessions.messages import Refused, Reply, Request
from electrictown.work import Failure

__all__ = ["SOCKET", "Line", "Respond", "Tell", "call", "connected", "listening"]

R = TypeVar("R")

_REQUESTS: Final = msgspec.json.Decoder[Request](Request)
_REPLIES: Final = msgspec.json.Decoder[Reply](Reply)

_PAUSE: Final = 0.05

_FEWEST: Final = 8
"""How many may always speak at once."""

SOCKET: Final = "inbox"
"""The socket's name in the session's folder."""

Tell = Callable[[Reply], Awaitable[None]]
"""Sends a reply; one to somebody who has gone is lost, and that is no error."""

Respond = Callable[[Request, Tell], Awaitable[None]]
"""Answers one request. What it raises of ours is told as `Refused`."""


@asynccontextmanager
async def listening(folder: Path, respond: Respond) -> AsyncGenerator[None]:
    """Listen at the inbox in `folder`; who speaks there is answered by `respond`, one request at a time.

    What a process left there that is gone is removed first: whoever listens holds the session's lock. Of so
    many that speak at once that there would be no file left to write to, the last ones are refused.

    Raises:
        SessionError: when there can be no socket in `folder`.
    """
    talks: set[asyncio.Task[None]] = set()
    most = _most()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (a coroutine that runs has a task)
        talks.add(task)
        try:
            if len(talks) > most:
                await _refuse(writer, SessionBusyError(f"more than {most} speak to the session at once"))
            else:
                await _serve(reader, writer, respond)
        except asyncio.CancelledError:  # by us, at the end: asyncio before 3.12 takes that for a fault
            pass
        finally:
            talks.discard(task)
            writer.close()

    (folder / SOCKET).unlink(missing_ok=True)
    try:
        with frames.short_path(folder, SOCKET) as path:
            server = await asyncio.start_unix_server(talk, path)
    except OSError as error:
        raise SessionError(
            f"the session cannot listen in {folder}: {error.strerror or error}",
            "name another folder with XDG_STATE_HOME, on a disk of this machine",
        ) from error
    try:
        yield
    finally:
        server.close()
        (folder / SOCKET).unlink(missing_ok=True)
        for task in talks:
            task.cancel()
        if talks:
            await asyncio.wait(talks)


def _most() -> int:
    """How many may speak at once: half of the files that this process may have open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(files // 2, _FEWEST) if files != resource.RLIM_INFINITY else 1 << 16


async def _refuse(writer: asyncio.StreamWriter, error: ElectrictownError) -> None:
    with suppress(ConnectionError):
        await frames.write(writer, Refused(Failure.of(error)))


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, respond: Respond) -> None:
    async def tell(reply: Reply) -> None:
        with suppress(ConnectionError):
            await frames.write(writer, reply)

    try:
        while (request := await frames.read(reader, _REQUESTS.decode)) is not None:
            try:
                await respond(request, tell)
            except ElectrictownError as error:
                await _refuse(writer, error)
    except SessionError as error:  # what comes is no frame of ours: there is nothing more to be understood
        await _refuse(writer, error)


class Line:
    """A connection to a session's inbox."""

    def __init__(self, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._name = name
        self._reader = reader
        self._writer = writer

    async def ask(self, request: Request, of: type[R]) -> R:
        """The reply to `request`, which is an `of`.

        Raises:
            SessionEndedError: when the session ends before it replies.
            SessionError: what it refuses, with its words.
        """
        try:
            await frames.write(self._writer, request)
        except ConnectionError:
            raise _gone(self._name) from None
        return await self.next(of)

    async def next(self, of: type[R]) -> R:
        """The next reply, which is an `of`.

        Raises:
            SessionEndedError, SessionError: as `ask`.
        """
        reply = await frames.read(self._reader, _REPLIES.decode)
        if reply is None:
            raise _gone(self._name)
        if isinstance(reply, Refused):
            raise _refusal(reply.error)
        if not isinstance(reply, of):
            raise SessionError(f"the session {self._name} answered {type(reply).__name__} to something else")
        return reply


@asynccontextmanager
async def connected(name: str, folder: Path) -> AsyncGenerator[Line]:
    """A connection to the inbox in `folder`, of the session `name`.

    Raises:
        SessionEndedError: when nobody listens there.
    """
    try:
        with frames.short_path(folder, SOCKET) as path:
            reader, writer = await asyncio.open_unix_connection(sock=await _connection(path))
    except (FileNotFoundError, ConnectionError):
        raise _gone(name) from None
    except OSError as error:
        raise SessionError(f"the session {name} cannot be reached: {error.strerror or error}") from error
    try:
        yield Line(name, reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _connection(path: str) -> socket.socket:
    """A connection to the socket at `path`; while too many wait there already, so does this.

    asyncio takes that for a connection that is being made, and it never is.
    """
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(path)
        except BlockingIOError:
            connection.close()
            await asyncio.sleep(_PAUSE)
        except BaseException:
            connection.close()
            raise
        else:
            return connection


async def call(name: str, folder: Path, request: Request, of: type[R], *, seconds: float = 10.0) -> R:
    """The one reply to `request`, on a connection of its own.

    Raises:
        SessionEndedError, SessionError: as `Line.ask`.
        TimeoutError: when there is none within so many seconds.
    """
    async with asyncio.timeout(seconds), connected(name, folder) as line:
        return await line.ask(request, of)


def _gone(name: str) -> SessionEndedError:
    return SessionEndedError(
        f"the session {name} has ended: nobody is there to be told",
        f"`et session spawn --resume {name}` goes on with it",
    )


def _refusal(failure: Failure) -> ElectrictownError:
    """What the session refused, as the error that it was there."""
    from electrictown.engine.calls import error_of

    return error_of(failure)
