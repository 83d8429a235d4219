"""A streamed reply: from the pieces of one HTTP answer to the chunks of one model's reply."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from msgspec.structs import replace

from electrictown.errors import BadReplyError, IncompleteReplyError, ProviderError
from electrictown.llm.framing import NdjsonSplitter, Splitter, SseSplitter
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Chunk,
    End,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

if TYPE_CHECKING:
    from electrictown.llm.answer import Answer
    from electrictown.llm.http_provider import HttpProvider

__all__ = ["ReplyStream", "as_utf8"]


_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""JSON's escapes, a pair of surrogates as one; the group is half a pair by itself."""


def as_utf8(data: bytes) -> bytes:
    """`data` with what is no text in it replaced by U+FFFD: a wire reads nothing else.

    That is bytes that are no UTF-8, and half a surrogate pair, which servers that count in UTF-16 send
    when they cut an emoji in two.
    """
    if _may_hold_surrogates(data):
        data = _ESCAPES.sub(lambda escape: b"\\ufffd" if escape[1] else escape[0], data)
    if data.isascii():
        return data
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode(errors="replace").encode()
    return data


def _may_hold_surrogates(data: bytes) -> bool:
    # One byte is found ten times as fast as two, and most replies do not hold even the two.
    return b"\\" in data and b"\\u" in data and (b"\\ud" in data or b"\\uD" in data)


class ReplyStream:
    """The context manager and the iterator of one streamed request.

    Beyond the contract it tells what a reply that is cut or left has cost: `usage` is what is known so
    far, `partial()` the reply as far as it came, its usage marked partial.
    """

    __slots__ = (
        "_answer",
        "_chunks",
        "_decoder",
        "_failure",
        "_notes",
        "_over",
        "_provider",
        "_request",
        "_splitter",
    )

    def __init__(self, provider: HttpProvider, request: ChatRequest) -> None:
        self._provider = provider
        self._request = request
        self._decoder = provider.wire.decoder()
        self._splitter: Splitter | None = None  # chosen by the first bytes
        self._chunks: Iterator[Chunk] = iter(())
        self._answer: Answer | None = None
        self._notes: tuple[str, ...] = ()
        self._failure: ProviderError | None = None
        self._over = False  # the reply is complete

    @property
    def usage(self) -> Usage | None:
        """The usage that is known so far."""
        return self._decoder.usage

    def partial(self) -> ChatResponse:
        """The reply as far as it came, its usage marked partial."""
        return replace(self._decoder.partial(), provider=self._provider.name, notes=self._notes)

    async def __aenter__(self) -> ReplyStream:
        self._answer, self._notes = await self._provider.ask(self._request, stream=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is not None:
            if self._over:
                self._answer.leave()
            else:
                self._answer.close()

    def __aiter__(self) -> ReplyStream:
        return self

    async def __anext__(self) -> Chunk:
        for chunk in self._chunks:
            return chunk
        self._chunks = iter(await self.next_batch())
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration

    async def next_batch(self) -> list[Chunk]:
        """The next chunks, as many as one read brings; see `Batched`."""
        if rest := list(self._chunks):
            return rest
        if self._failure is not None:
            raise self._failure
        answer = self._answer
        chunks: list[Chunk] = []
        if self._over or answer is None:
            return chunks
        try:
            while not chunks:
                data = await answer.read()
                if not data:
                    self._finish(chunks)
                elif self._splitter is not None or self._is_stream(data):
                    self._decode(data, chunks)
                else:
                    self._take_whole(data + await answer.read_all(), chunks)
        except ProviderError as error:
            self._failure = self._provider.told(error, self._request.model)
        if self._failure is not None and not chunks:  # what came before a failure is still the reader's
            raise self._failure
        return chunks

    def _is_stream(self, data: bytes) -> bool:
        """Whether the reply begins like a stream; then the splitter stands ready."""
        begin = data.lstrip()[:1]
        if self._provider.wire.framing == "ndjson":
            self._splitter = NdjsonSplitter()
        elif begin == b"<":
            raise BadReplyError("the answer is a web page, not a stream", "check the provider's base_url")
        elif begin not in {b"{", b"["}:
            self._splitter = SseSplitter()
        return self._splitter is not None

    def _decode(self, data: bytes, chunks: list[Chunk]) -> None:
        """The chunks of the events that `data` completes; no data is the end of the body."""
        splitter = self._splitter
        if splitter is None:
            return
        payloads = splitter.feed(data) if data else splitter.finish()
        together = b"".join(payloads)
        if not together.isascii() or _may_hold_surrogates(together):
            payloads = [as_utf8(payload) for payload in payloads]
        self._decoder.feed_all(payloads, chunks)
        if chunks and type(last := chunks[-1]) is End:
            chunks.pop()
            self._end(last, chunks)

    def _finish(self, chunks: list[Chunk]) -> None:
        """The body is over: what it still holds, and whether it is complete."""
        self._decode(b"", chunks)
        if self._over:
            return
        try:
            end = self._decoder.finish(allow_incomplete=self._provider.settings.allow_incomplete)
        except IncompleteReplyError as error:
            if self._splitter is None:
                error.hint = "some servers answer a prompt that is too long with nothing at all"
            raise
        if end is not None:
            self._end(end, chunks)

    def _end(self, end: End, chunks: list[Chunk]) -> None:
        """The last chunk is the whole reply, as the provider vouches for it."""
        self._over = True
        chunks.append(End(self._provider.accepted(self._request, end.response, self._notes)))

    def _take_whole(self, body: bytes, chunks: list[Chunk]) -> None:
        """A streamed request that was answered with one JSON body."""
        response = self._provider.wire.decode(as_utf8(body))
        calls = 0
        for part in response.message.parts:
            match part:
                case Text():
                    chunks.append(TextDelta(part.text))
                case Reasoning():
                    chunks.append(ReasoningDelta(part.text))
                case ToolCall():
                    chunks.append(ToolCallDelta(calls, part.id, part.name, part.arguments))
                    calls += 1
                case _:
                    pass
        self._end(End(response), chunks)
