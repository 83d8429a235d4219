"""Anthropic's Messages API, answering in a stream.

message_start, then content_block_start / _delta / _stop for each block, message_delta with the stop
reason and cumulative usage, message_stop; `ping` and `error` may come anywhere.
https://docs.claude.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from electrictown.errors import BadReplyError, IncompleteReplyError
from electrictown.llm.messages import (
    ChatResponse,
    Chunk,
    End,
    Json,
    Part,
    ReasoningDelta,
    Reset,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from electrictown.llm.wire.anthropic_reply import REPLY_TOOL, Facts, block_kind, parts_of, typed_error
from electrictown.llm.wire.common import as_int, as_text, excerpt, parse_json
from electrictown.llm.wire.faults import fault_of
from electrictown.llm.wire.parts import as_object, as_objects

__all__ = ["AnthropicDecoder"]


class _TextPiece(Struct, gc=False):
    type: Literal["text_delta"]
    text: str


class _TextEvent(Struct, gc=False):
    """A piece of text, as nearly all events are; whatever else comes is refused, and decoded whole."""

    type: Literal["content_block_delta"]
    delta: _TextPiece
    index: int = 0


_decode_text = msgspec.json.Decoder(_TextEvent).decode


class _Block:
    """A block that is being streamed."""

    __slots__ = ("call", "data", "pieces")

    def __init__(self, data: dict[str, Json], call: int) -> None:
        self.data = data
        self.call = call  # its number among the tool calls; -1: it is none
        self.pieces: list[str] = []

    def part(self) -> list[Part]:
        data, text = self.data, "".join(self.pieces)
        kind = block_kind(data)
        if kind in ("text", "thinking"):
            return parts_of({**data, kind: text}, "")
        given = data.get("input")
        if kind == "tool_use":
            return parts_of(data, text or (as_text(given) if given else "{}"))
        if text:  # a tool the vendor runs: its input is streamed like that of ours
            try:
                data = {**data, "input": parse_json(text)}
            except BadReplyError:
                data = {**data, "input": {"invalid_arguments": text}}
        return parts_of(data, "")


class AnthropicDecoder:
    """Decodes one stream; see `StreamDecoder`."""

    __slots__ = (
        "_blocks",
        "_calls",
        "_ended",
        "_facts",
        "_origin",
        "_started",
        "_text_index",
        "_text_pieces",
    )

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._started = False
        self._ended = False
        self._restart()

    def _restart(self) -> None:
        self._facts = Facts()
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._text_index = -1  # the text block that deltas came for last, and its pieces
        self._text_pieces: list[str] = []

    def feed(self, payload: bytes, out: list[Chunk]) -> None:
        """Decode one event's payload; see `StreamDecoder.feed`."""
        self.feed_all((payload,), out)

    def feed_all(self, payloads: Iterable[bytes], out: list[Chunk]) -> None:
        """Decode the events of one read; see `StreamDecoder.feed_all`."""
        add_chunk = out.append
        for payload in payloads:
            try:
                event = _decode_text(payload)
            except msgspec.DecodeError:
                pass
            else:
                if event.index == self._text_index:
                    if text := event.delta.text:
                        self._text_pieces.append(text)
                        add_chunk(TextDelta(text))
                    continue
            self._feed_other(payload, out)

    def _feed_other(self, payload: bytes, out: list[Chunk]) -> None:
        if self._ended or payload.strip() == b"[DONE]":
            return  # gateways may close like the chat API
        event = as_object(parse_json(payload))
        if not event:
            raise BadReplyError(f"this is no event: {excerpt(payload)}")
        kind = event.get("type")
        if kind == "error" or (event.get("error") and kind is None):
            raise typed_error(fault_of(event))
        if kind == "content_block_delta":
            self._delta(as_int(event.get("index")), as_object(event.get("delta")), out)
        elif kind == "content_block_start":
            self._start_block(as_int(event.get("index")), as_object(event.get("content_block")), out)
        elif kind == "content_block_stop":
            self._stop_block(self._blocks.get(as_int(event.get("index"))), out)
        elif kind == "message_start":
            self._start(as_object(event.get("message")), out)
        elif kind == "message_delta":
            self._facts.read(as_object(event.get("delta")))
            self._facts.count(event.get("usage"))
        elif kind == "message_stop":
            parts = self._parts()
            self._facts.check(parts)
            self._ended = True
            self._text_index = -1
            out.append(End(self._facts.response(parts, self._origin)))

    def _start(self, message: dict[str, Json], out: list[Chunk]) -> None:
        if self._started and message.get("id") == self._facts.id:
            return  # a gateway sent it twice
        if self._blocks:
            out.append(Reset("the server began the message again"))
        self._restart()
        self._started = True
        self._facts.read(message)
        self._facts.count(message.get("usage"))
        for number, block in enumerate(as_objects(message.get("content"))):
            self._start_block(number, block, out)

    def _start_block(self, index: int, data: dict[str, Json], out: list[Chunk]) -> None:
        kind = block_kind(data)
        called = kind == "tool_use" and data.get("name") != REPLY_TOOL
        block = self._blocks[index] = _Block(data, self._calls if called else -1)
        if called:
            out.append(ToolCallDelta(self._calls, as_text(data.get("id")), as_text(data.get("name"))))
            self._calls += 1
        elif kind == "text":
            self._text_index, self._text_pieces = index, block.pieces
            _add(block, as_text(data.get("text")), out, TextDelta)
        elif kind == "thinking":
            _add(block, as_text(data.get("thinking")), out, ReasoningDelta)

    @staticmethod
    def _stop_block(block: _Block | None, out: list[Chunk]) -> None:
        """A call whose arguments stood in the block's start, and in no delta, gives them now."""
        if block is not None and block.call >= 0 and not block.pieces and (given := block.data.get("input")):
            block.pieces.append(as_text(given))
            out.append(ToolCallDelta(block.call, arguments=block.pieces[0]))

    def _delta(self, index: int, delta: dict[str, Json], out: list[Chunk]) -> None:
        kind = delta.get("type")
        if not isinstance(kind, str):  # the field that it brings says what it is
            kind = next((f"{key}_delta" for key in ("text", "thinking", "signature") if key in delta), "")
            kind = "input_json_delta" if "partial_json" in delta else kind
        block = self._blocks.get(index)
        if block is None or not block_kind(block.data):  # some servers begin with the first delta
            implied = {"thinking_delta": "thinking", "signature_delta": "thinking"}.get(kind, "text")
            self._start_block(index, {"type": implied}, out)
            block = self._blocks[index]
        if kind == "text_delta":
            self._text_index, self._text_pieces = index, block.pieces
            _add(block, as_text(delta.get("text")), out, TextDelta)
        elif kind == "thinking_delta":
            _add(block, as_text(delta.get("thinking")), out, ReasoningDelta)
        elif kind == "input_json_delta":
            self._arguments(block, as_text(delta.get("partial_json")), out)
        elif kind == "citations_delta":
            block.data["citations"] = [*(block.data.get("citations") or []), delta.get("citation")]
        elif kind == "signature_delta":
            block.data["signature"] = delta.get("signature")
        else:  # of a kind that is new: its fields belong to the block
            for key, value in delta.items():
                old = block.data.get(key)
                if key != "type":
                    block.data[key] = (
                        old + value if isinstance(old, str) and isinstance(value, str) else value
                    )

    @staticmethod
    def _arguments(block: _Block, piece: str, out: list[Chunk]) -> None:
        if not piece:
            return
        block.pieces.append(piece)
        if block.call >= 0:
            out.append(ToolCallDelta(block.call, arguments=piece))
        elif block.data.get("name") == REPLY_TOOL:
            out.append(TextDelta(piece))

    def _parts(self) -> list[Part]:
        return [part for index in sorted(self._blocks) for part in self._blocks[index].part()]

    def finish(self, *, allow_incomplete: bool = False) -> End | None:
        """The end of the body: an error before message_stop; see `StreamDecoder.finish`."""
        if self._ended:
            return None
        if not (allow_incomplete and self._blocks):
            raise IncompleteReplyError("the stream ended before message_stop")
        self._ended = True
        return End(self.partial())

    @property
    def usage(self) -> Usage | None:
        """What is known of the usage so far."""
        return self._facts.usage(partial=not self._ended)

    def partial(self) -> ChatResponse:
        """The reply as far as it came, its usage marked partial."""
        response = self._facts.response(self._parts(), self._origin)
        return replace(response, usage=self._facts.usage(partial=True))


def _add(block: _Block, text: str, out: list[Chunk], delta: type[TextDelta] | type[ReasoningDelta]) -> None:
    if text:
        block.pieces.append(text)
        out.append(delta(text))
