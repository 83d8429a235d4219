"""One HTTP reply under way: its bytes as they come, and the limits of patience with its host."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import aiohttp

from electrictown.errors import (
    BadReplyError,
    FirstTokenTimeout,
    IdleTimeout,
    IncompleteReplyError,
    ProviderError,
)

if TYPE_CHECKING:
    from electrictown.llm.transport import Destination, Transport

__all__ = ["MAX_BODY", "Answer"]

MAX_BODY = 256 << 20
"""The largest reply in bytes, streamed or whole: a host that never stops talking is cut off."""

_NEVER = math.inf
_TICK = 0.001  # seconds: a loop's timer may come early by its clock's resolution
_LINGER = 0.25  # seconds that the connection of a finished reply may take to end, to be used again


class Answer:
    """One reply under way. Whoever got it calls `close`, whatever happens.

    The silence of the host is timed only while `read` waits: a slow reader is not an idle host. One
    timer a reply looks at a timestamp now and then, so that a read costs no timer of its own.
    """

    __slots__ = (
        "_begun",
        "_content",
        "_deadline",
        "_failure",
        "_first",
        "_loop",
        "_response",
        "_size",
        "_timer",
        "_to",
        "_transport",
        "_waiting",
        "status",
    )

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        to: Destination,
        transport: Transport,
        first: float,
        deadline: float,
    ) -> None:
        self.status = response.status
        self._transport = transport
        self._response = response
        self._content = response.content
        self._to = to
        self._loop = transport.loop
        self._first = first
        self._deadline = deadline
        self._begun = False  # the first byte has come
        self._size = 0
        self._waiting = 0.0  # since when `read` waits; 0 while it does not
        self._timer: asyncio.TimerHandle | None = None
        self._failure: ProviderError | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers, their names in lower case."""
        return {name.lower(): value for name, value in self._response.headers.items()}

    async def read(self) -> bytes:
        """The next bytes as they come, b"" at the end.

        Raises:
            FirstTokenTimeout, IdleTimeout: silence, or the whole request takes too long.
            IncompleteReplyError: the connection was lost before the reply's end.
            BadReplyError: the reply cannot be unpacked, or does not end.
        """
        failure: ProviderError
        self._waiting = self._loop.time()
        if self._timer is None and not self._content.is_eof():
            self._arm(self._waiting)
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            failure = self._failure or self._cut(error)
        except BaseException:
            self.close()
            raise
        else:
            self._waiting = 0.0
            self._begun = True
            self._size += len(data)
            if not data:
                self._stop_timer()
            if self._size <= MAX_BODY:
                return data
            failure = self._too_large(MAX_BODY)
        self.close()
        raise failure

    async def read_all(self, limit: int = MAX_BODY) -> bytes:
        """The rest of the reply; raises as `read` does, and BadReplyError beyond `limit` bytes."""
        pieces: list[bytes] = []
        size = 0
        while data := await self.read():
            pieces.append(data)
            size += len(data)
            if size > limit:
                self.close()
                raise self._too_large(limit)
            if self._content.at_eof():
                break
        self._stop_timer()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def leave(self) -> None:
        """Lets go of a reply whose last event has come: once the body ends, its connection serves again."""
        self._stop_timer()
        if self._content.is_eof():
            self._response.close()
            return
        self._waiting = 0.0
        self._transport.lingering.add(self)
        self._timer = self._loop.call_later(_LINGER, self.close)
        self._content.on_eof(self.close)

    def close(self) -> None:
        """Ends the reply at once; its connection is kept only if all of it has come."""
        self._stop_timer()
        self._transport.lingering.discard(self)
        self._response.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, now: float) -> None:
        """Looks again when the host could have been silent for too long."""
        idle = _NEVER if self._to.timeouts.idle is None else self._to.timeouts.idle
        again = min(self._silent_until(), now + idle)
        self._timer = None if again == _NEVER else self._loop.call_at(again, self._check_silence)

    def _check_silence(self) -> None:
        now = self._loop.time()
        limit = self._silent_until()
        if limit - now > _TICK:
            self._arm(now)
            return
        self._timer = None
        self._failure = self._too_late(limit == self._deadline)
        self._response.close()

    def _silent_until(self) -> float:
        """When patience with the host ends."""
        if not self._waiting:
            return self._deadline
        if not self._begun:
            return min(self._deadline, self._first)
        idle = self._to.timeouts.idle
        return self._deadline if idle is None else min(self._deadline, self._waiting + idle)

    def _too_large(self, limit: int) -> ProviderError:
        return BadReplyError(f"the reply of {self._to.host} is larger than {limit} bytes")

    def _too_late(self, whole: bool) -> ProviderError:
        times, host = self._to.timeouts, self._to.host
        kind = IdleTimeout if self._begun else FirstTokenTimeout
        if whole:
            return kind(f"the reply of {host} was not complete when {times.total:g} s were over")
        if self._begun:
            return kind(f"{host} fell silent for {times.idle:g} s in the middle of its reply")
        return kind(f"{host} sent no first token within {times.first_token:g} s")

    def _cut(self, error: Exception) -> ProviderError:
        if isinstance(error, aiohttp.ClientPayloadError) and "content-encoding" in str(error).lower():
            return BadReplyError(f"the reply of {self._to.host} is compressed and cannot be unpacked")
        return IncompleteReplyError(f"the connection to {self._to.host} was lost in the middle of its reply")
