"""How a reply of chat completions gathers: from one whole body, or from the events of a stream.

A delta and a whole message have the same fields, so both take the same way; where servers differ
from OpenAI the difference stands beside the field.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

import msgspec
from msgspec import Struct

from electrictown.errors import BadReplyError, IncompleteReplyError
from electrictown.llm.messages import (
    ChatResponse,
    Chunk,
    End,
    Json,
    Message,
    Opaque,
    Part,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from electrictown.llm.wire.common import as_text, excerpt, json_or_text, parse_json, read_struct
from electrictown.llm.wire.faults import fault_of
from electrictown.llm.wire.openai_common import OpenAIUsage, counts_anything, finish_reason, read_usage
from electrictown.llm.wire.openai_plain import PlainDelta
from electrictown.llm.wire.verdict import make_error

__all__ = ["ChatStream", "decode_body"]


def decode_body(body: bytes, origin: str) -> ChatResponse:
    """The reply in a complete body.

    Raises:
        ProviderError: for an error that came with status 200.
        IncompleteReplyError: for an empty body.
        BadReplyError: for a body that is not the protocol's.
    """
    if not body.strip():
        raise IncompleteReplyError("the reply is empty")
    found = read_struct(_decode_chunk, _Chunk, body)
    if found.choices and all(choice.index for choice in found.choices):
        found.choices[0].index = 0  # a server that counts from one
    reply = _Reply(origin)
    reply.take(found, [], body)
    if not reply.begun:
        fault = fault_of(parse_json(body))  # a refusal of a server's own making, with a good status
        if fault.message and not found.choices:
            raise make_error(200, {}, fault)
        raise BadReplyError(f"the reply holds no choices: {excerpt(body)}")
    return reply.response()


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: Json = None  # text; some servers send the object itself
    input: str | None = None  # of a custom tool


class _ToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: _Function | None = None
    custom: _Function | None = None
    extra_content: dict[str, Json] | None = None  # Gemini's thought signature on Google's compatible API


class _Message(Struct, gc=False):
    """A whole message or a delta of one: the same fields."""

    content: Json = None  # text; a list of blocks, or one block
    reasoning_content: str | None = None  # DeepSeek, z.ai, Moonshot
    reasoning: str | None = None  # Groq, OpenRouter, Cerebras, vLLM
    reasoning_details: list[Json] | None = None  # OpenRouter
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    annotations: list[Json] | None = None
    executed_tools: list[Json] | None = None  # Groq
    audio: dict[str, Json] | None = None


class _Choice(Struct, gc=False):
    index: int | None = None
    delta: _Message | None = None
    message: _Message | None = None
    finish_reason: str | None = None
    error: Json = None  # OpenRouter


class _Groq(Struct, gc=False):
    usage: OpenAIUsage | None = None
    error: Json = None


class _Chunk(Struct, gc=False):
    """A chunk, or a whole body."""

    id: str | None = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: OpenAIUsage | None = None
    error: Json = None
    x_groq: _Groq | None = None
    message: Json = None  # an error without its envelope
    detail: Json = None


class _PlainChoice(Struct, gc=False):
    delta: PlainDelta
    index: Literal[0] | None = None
    finish_reason: None = None
    error: None = None


class _Plain(Struct, gc=False):
    """A chunk that is one piece of text and nothing else, as nearly all are: the decoder sees to that.

    It names every field that `_Chunk` reads, and asks that all but the text be absent or null.
    """

    choices: tuple[_PlainChoice]
    usage: None = None
    error: None = None
    x_groq: None = None


_decode_plain = msgspec.json.Decoder(_Plain).decode
_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class ChatStream:
    """Decodes the events of one streamed reply."""

    __slots__ = ("_ended", "_named", "_reply")

    def __init__(self, origin: str) -> None:
        self._reply = _Reply(origin)
        self._named = False  # it has begun, and said who answers
        self._ended = False

    def feed(self, payload: bytes, out: list[Chunk]) -> None:
        """Decode one event; see `StreamDecoder.feed`."""
        self.feed_all((payload,), out)

    def feed_all(self, payloads: Iterable[bytes], out: list[Chunk]) -> None:
        """Decode the events of one read; see `StreamDecoder.feed_all`."""
        add_text, add_chunk = self._reply.texts.append, out.append
        for payload in payloads:
            if self._named:
                try:
                    text = _decode_plain(payload).choices[0].delta.content
                except msgspec.DecodeError:
                    pass
                else:
                    if text:
                        add_text(text)
                        add_chunk(TextDelta(text))
                    continue
            self._feed_other(payload, out)

    def _feed_other(self, payload: bytes, out: list[Chunk]) -> None:
        """The first events, `[DONE]`, and whatever is more than a piece of text."""
        if self._ended or not payload or payload.isspace():
            return
        if payload.strip() == b"[DONE]":
            if not self._reply.begun:
                raise IncompleteReplyError("the stream ended before it began")
            self._ended = True
            self._named = False  # what follows is none of ours
            out.append(End(self._reply.response()))
            return
        self._reply.take(read_struct(_decode_chunk, _Chunk, payload), out, payload)
        self._named = self._reply.begun and bool(self._reply.model)

    def finish(self, *, allow_incomplete: bool = False) -> End | None:
        """The end of the body: complete after `[DONE]` or, as many servers do, after a finish reason."""
        if self._ended:
            return None
        if not self._reply.stopped and not (allow_incomplete and self._reply.begun):
            if not self._reply.begun:
                raise IncompleteReplyError(
                    "the stream ended without a single event",
                    hint="some servers close like this when the prompt does not fit their context window",
                )
            raise IncompleteReplyError("the stream ended without its end: no [DONE], no finish reason")
        self._ended = True
        return End(self._reply.response())

    @property
    def usage(self) -> Usage | None:
        """What is known of the usage so far."""
        return read_usage(self._reply.usage)

    def partial(self) -> ChatResponse:
        """The reply as far as it came, its usage marked partial."""
        response = self._reply.response()
        usage = response.usage
        if usage is not None:
            usage = msgspec.structs.replace(usage, partial=True)
        return msgspec.structs.replace(response, usage=usage)


class _Call:
    """A tool call that grows."""

    __slots__ = ("arguments", "extra", "id", "kind", "name", "number")

    def __init__(self, number: int, kind: str) -> None:
        self.number = number
        self.kind = kind
        self.extra: dict[str, Json] | None = None
        self.id = ""
        self.name = ""
        self.arguments = ""


class _Reply:
    """A reply as it gathers, from one whole message or from many deltas."""

    __slots__ = (
        "_blocks",
        "_calls",
        "_details",
        "_extras",
        "_reasoning_field",
        "_reasonings",
        "_refused",
        "_slots",
        "begun",
        "id",
        "model",
        "origin",
        "stopped",
        "texts",
        "usage",
    )

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.id = ""
        self.model = ""
        self.stopped = ""
        self.usage: OpenAIUsage | None = None
        self.begun = False
        self.texts: list[str] = []
        self._reasonings: list[str] = []
        self._reasoning_field = ""
        self._details: list[dict[str, Json]] = []
        self._blocks = False  # thinking came as blocks of the content (Mistral)
        self._calls: list[_Call] = []
        self._slots: dict[int, _Call] = {}  # which call the vendor's index means now
        self._extras: dict[str, list[Json]] = {}
        self._refused = False

    def take(self, chunk: _Chunk, out: list[Chunk], payload: bytes) -> None:
        """Add one chunk, or one whole body, and give what is new as chunks.

        Raises:
            ProviderError: when it carries an error.
        """
        self.id = self.id or chunk.id or ""
        self.model = self.model or chunk.model or ""
        groq = chunk.x_groq or _NO_GROQ
        usage = chunk.usage or groq.usage
        if usage is not None and (self.usage is None or counts_anything(usage)):
            self.usage = usage
        fault = chunk.error or groq.error
        for position, choice in enumerate(chunk.choices or ()):
            if choice.index or (position and choice.index is None):
                continue  # we ask for one choice; a server that gives more is not listened to
            self.begun = True
            message = choice.delta or choice.message
            if message is not None:
                self._message(message, out, whole=choice.delta is None)
            if choice.finish_reason:
                self.stopped = choice.finish_reason
            fault = fault or choice.error
        if fault:
            raise make_error(200, {}, fault_of(fault))
        if not chunk.choices and (chunk.message or chunk.detail):
            raise make_error(200, {}, fault_of(parse_json(payload)))

    def _message(self, message: _Message, out: list[Chunk], *, whole: bool) -> None:
        reasoning = message.reasoning_content or message.reasoning
        if reasoning:
            self._reasoning_field = "reasoning_content" if message.reasoning_content else "reasoning"
        if message.reasoning_details:
            found = self._take_details(message.reasoning_details)
            reasoning = reasoning or found
        if reasoning:
            self._reasonings.append(reasoning)
            out.append(ReasoningDelta(reasoning))
        content = message.content
        if isinstance(content, list | dict):
            self._take_blocks(cast(list[Json], content) if isinstance(content, list) else [content], out)
        elif content:
            self._take_text(as_text(content), out)
        if message.refusal:
            self._refused = True
            self._take_text(message.refusal, out)
        for call in message.tool_calls or ():
            self._take_call(call, out, whole=whole)
        if message.function_call is not None:  # the form before tools; there is one call at most
            piece = _ToolCall(index=0, type="function_call", function=message.function_call)
            self._take_call(piece, out, whole=whole)
        if message.annotations:
            self._extras.setdefault("annotations", []).extend(message.annotations)
        if message.executed_tools:
            self._extras.setdefault("executed_tools", []).extend(message.executed_tools)
        if message.audio:
            self._extras.setdefault("audio", []).append(message.audio)

    def _take_text(self, text: str, out: list[Chunk]) -> None:
        self.texts.append(text)
        out.append(TextDelta(text))

    def _take_blocks(self, blocks: list[Json], out: list[Chunk]) -> None:
        for block in blocks:
            if isinstance(block, str):
                self._take_text(block, out)
                continue
            found = cast(dict[str, Json], block) if isinstance(block, dict) else {}
            kind = found.get("type")
            if kind == "thinking":
                self._blocks = True
                if thought := _text_of(found.get("thinking")):
                    self._reasonings.append(thought)
                    out.append(ReasoningDelta(thought))
            elif kind in ("text", "output_text") or (kind is None and "text" in found):
                if text := _text_of(found.get("text")):
                    self._take_text(text, out)
            elif kind == "refusal":
                self._refused = True
                self._take_text(_text_of(found.get("refusal")), out)
            elif block:
                self._extras.setdefault("content", []).append(block)

    def _take_details(self, details: list[Json]) -> str:
        """Merge OpenRouter's reasoning details, which stream in pieces, and give the text that is new."""
        new: list[str] = []
        for detail in details:
            if not isinstance(detail, dict):
                continue
            found = cast(dict[str, Json], detail)
            new.append(as_text(found.get("text") or found.get("summary")))
            last = self._details[-1] if self._details else None
            if last is None or found.get("type") == "reasoning.encrypted" or _differs(last, found):
                self._details.append(dict(found))
                continue
            for key, value in found.items():
                if key in ("text", "summary") and isinstance(value, str):
                    last[key] = as_text(last.get(key)) + value
                elif value or key not in last:
                    last[key] = value
        return "".join(new)

    def _take_call(self, piece: _ToolCall, out: list[Chunk], *, whole: bool) -> None:
        function = piece.function or piece.custom or _Function()
        name = function.name or ""
        arguments = function.input if piece.custom is not None else as_text(function.arguments)
        # In a whole message every entry is a call, even if servers repeat an id.
        call = None if whole else self._call_of(piece, name, arguments or "")
        if call is None:
            call = _Call(len(self._calls), "custom" if piece.custom is not None else piece.type or "")
            self._calls.append(call)
        if piece.index is not None:
            self._slots[piece.index] = call
        new_id = piece.id if piece.id and not call.id else ""
        new_name = name if name and not call.name else ""
        call.id = call.id or new_id
        call.name = call.name or new_name
        call.arguments += arguments or ""
        call.extra = piece.extra_content or call.extra
        if new_id or new_name or arguments:
            out.append(ToolCallDelta(call.number, new_id, new_name, arguments or ""))

    def _call_of(self, piece: _ToolCall, name: str, arguments: str) -> _Call | None:
        """The call that `piece` continues, None when it starts a new one."""
        if piece.index is not None:
            call = self._slots.get(piece.index)
        elif piece.id:
            return next((c for c in self._calls if c.id == piece.id), None)
        else:
            call = self._calls[-1] if self._calls else None
        if call is None:
            return None
        if piece.id and call.id:
            if piece.id == call.id:
                return call
            # A new id is a new call, but for servers that make up an id for every piece of one.
            return None if name or _whole(call.arguments) else call
        return None if not piece.id and _begins(call, piece, name, arguments) else call

    def response(self) -> ChatResponse:
        """The reply as it is now."""
        parts: list[Part] = []
        if self._reasonings or self._details:
            parts.append(Reasoning("".join(self._reasonings), self._reasoning_extra()))
        if self.texts:
            parts.append(Text("".join(self.texts)))
        parts += [ToolCall(c.id, c.name, c.arguments, _call_extra(c)) for c in self._calls]
        parts += [Opaque({name: extra}) for name, extra in self._extras.items()]
        return ChatResponse(
            message=Message("assistant", tuple(parts), self.origin),
            finish_reason=finish_reason(self.stopped, calls=bool(self._calls), refused=self._refused),
            stopped=self.stopped,
            usage=read_usage(self.usage),
            model=self.model,
            id=self.id,
            provider=self.origin,
        )

    def _reasoning_extra(self) -> dict[str, Json] | None:
        if self._details:
            return {"reasoning_details": self._details}
        if self._blocks:
            return {"field": "content"}
        return {"field": self._reasoning_field}


def _call_extra(call: _Call) -> dict[str, Json] | None:
    extra: dict[str, Json] = {"type": call.kind} if call.kind in _OTHER_KINDS else {}
    if call.extra:
        extra["extra_content"] = call.extra
    return extra or None


_NO_GROQ = _Groq()
_OTHER_KINDS = frozenset({"custom", "function_call"})


def _text_of(value: Json) -> str:
    """Text that may come as itself or as a list of text blocks."""
    if isinstance(value, list):
        return "".join(_text_of(item) for item in cast(list[Json], value))
    if isinstance(value, dict):
        return _text_of(cast(dict[str, Json], value).get("text"))
    return value if isinstance(value, str) else ""


def _differs(one: dict[str, Json], other: dict[str, Json]) -> bool:
    return any(one.get(key) != other.get(key) for key in ("type", "index"))


def _begins(last: _Call, piece: _ToolCall, name: str, arguments: str) -> bool:
    """Whether a piece without an id begins a new call, by its name.

    It does where the call before is whole: of servers that send all their calls at index 0, or without an
    index. A name that is merely repeated continues.
    """
    if not name or not last.name:
        return False
    another = name != last.name
    return bool(arguments or another) if _whole(last.arguments) else another and piece.index is None


def _whole(arguments: str) -> bool:
    """Whether `arguments` is a complete JSON object, to which nothing can be added."""
    return arguments.rstrip().endswith("}") and isinstance(json_or_text(arguments), dict)
