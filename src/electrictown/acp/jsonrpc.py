"""One side of a JSON-RPC 2.0 conversation: a message a line, requests both ways at once.

No I/O: bytes come in through `feed`, and go out through an `Outlet`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from electrictown.errors import AgentError
from electrictown.redact import mask

__all__ = ["INTERNAL", "INVALID", "NO_METHOD", "NO_RESOURCE", "Outlet", "Peer", "RpcError"]

T = TypeVar("T")

INVALID: Final = -32602
INTERNAL: Final = -32603
NO_METHOD: Final = -32601
NO_RESOURCE: Final = -32002

_LONGEST: Final = 32 << 20
"""Bytes of the longest line: a file in one piece, and far more than any model writes."""


class RpcError(Exception):
    """An error reply: what the other side refused, or what we refuse it. `data` is raw JSON."""

    def __init__(self, code: int, message: str, data: bytes = b"") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


class Outlet(Protocol):
    """Where lines go."""

    def write(self, data: bytes) -> None:
        """Send `data`, now or as soon as it can be; lost when nobody reads any more."""
        ...

    async def drained(self) -> None:
        """Return when there is room for more."""
        ...


class _Error(Struct, frozen=True):
    code: int
    message: str = ""
    data: Raw = Raw(b"")


class _Message(Struct, frozen=True):
    id: int | str | UnsetType | None = UNSET
    method: str | UnsetType = UNSET
    params: Raw = Raw(b"{}")
    result: Raw = Raw(b"null")
    error: _Error | None = None


_MESSAGE: Final = msgspec.json.Decoder(_Message)


class Peer:
    """Our side. `answer` answers requests, each in a task of its own; it raises `RpcError` to refuse.

    `hear` takes notifications, in order, and before the reply that follows them is seen. Lines that are no
    message go to `stray`. `heard` is when a message last came or an answer went, by `time.monotonic()`.
    """

    def __init__(
        self,
        outlet: Outlet,
        answer: Callable[[str, bytes], Awaitable[object]],
        hear: Callable[[str, bytes], None],
        stray: Callable[[bytes], None],
    ) -> None:
        self.heard = time.monotonic()
        self._outlet = outlet
        self._answer = answer
        self._hear = hear
        self._stray = stray
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[Raw]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._line: list[bytes] = []
        self._length = 0
        self._lost: Exception | None = None

    @property
    def waits(self) -> bool:
        """Whether a reply is still to come. It is False from the moment in which the last one came in."""
        return any(not future.done() for future in self._waiting.values())

    async def call(self, method: str, params: object, of: type[T]) -> T:
        """What the other side answers.

        Raises:
            RpcError: when it refuses.
            AgentError: when it is gone, or answers what cannot be understood.
        """
        if self._lost is not None:
            raise self._lost
        number = next(self._numbers)
        future: asyncio.Future[Raw] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            result = await future
        finally:
            del self._waiting[number]
            if not future.cancel() and not future.cancelled():
                future.exception()  # seen, even where the caller was cancelled meanwhile
        try:
            return msgspec.json.decode(result, type=of)
        except msgspec.DecodeError as error:
            raise AgentError(f"what it answered to {method} cannot be understood: {error}") from None

    async def tell(self, method: str, params: object) -> None:
        """Send a notification. When nobody is there any more it is lost."""
        await self._send({"jsonrpc": "2.0", "method": method, "params": params})

    def feed(self, data: bytes) -> None:
        """Take bytes that came in."""
        head, *lines = data.split(b"\n")
        self._line.append(head)
        self._length += len(head)
        for following in lines:
            whole = b"".join(self._line)
            self._line, self._length = [following], len(following)
            if self._lost is None and whole.strip():
                try:
                    self._take(whole)
                except Exception as error:  # in one who hears: whoever waits for the other side is told
                    self.lose(error)
        if self._length > _LONGEST and self._lost is None:
            self.lose(AgentError(f"it sent a line of more than {_LONGEST >> 20} MiB"))
        if self._lost is not None:
            self._line.clear()

    def lose(self, why: Exception) -> None:
        """The other side is gone: everybody who waits for it hears why. The first reason stands."""
        if self._lost is None:
            self._lost = why
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(self._lost)

    async def aclose(self) -> None:
        """Let go of everything that is still waited for."""
        self.lose(AgentError("it has been let go"))
        for task in self._answering:
            task.cancel()
        if self._answering:
            await asyncio.wait(self._answering)

    async def _send(self, message: dict[str, object]) -> None:
        self._outlet.write(msgspec.json.encode(message) + b"\n")
        await self._outlet.drained()

    def _take(self, line: bytes) -> None:
        try:
            message = _MESSAGE.decode(line)
        except msgspec.DecodeError:
            self._stray(line)
            return
        self.heard = time.monotonic()
        if message.method is UNSET:
            self._settle(message, line)
        elif message.id is UNSET:
            self._hear(message.method, bytes(message.params))
        else:
            self._begin(self._respond(message.id, message.method, bytes(message.params)))

    def _settle(self, message: _Message, line: bytes) -> None:
        future = self._waiting.get(message.id) if isinstance(message.id, int) else None
        if future is None or future.done():
            self._stray(line)
        elif message.error is None:
            future.set_result(message.result)
        else:
            error = message.error
            future.set_exception(RpcError(error.code, mask(error.message), bytes(error.data)))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _respond(self, id: int | str | None, method: str, params: bytes) -> None:
        reply: dict[str, object] = {"jsonrpc": "2.0", "id": id}
        try:
            reply["result"] = await self._answer(method, params)
        except RpcError as error:
            reply["error"] = {"code": error.code, "message": error.message}
        except msgspec.DecodeError as error:
            reply["error"] = {"code": INVALID, "message": str(error)}
        except Exception as error:  # not the other side's fault: whoever waits for it is told
            reply["error"] = {"code": INTERNAL, "message": "the client has failed"}
            self.lose(error)
        await self._send(reply)
        self.heard = time.monotonic()
