"""How a reply of the responses API gathers: from one response object, or from the events of a stream.

Output items are kept in the order of their `output_index`, the one key that stays the same over all
events (some proxies give an item a new id in every event). What has come in pieces is reconciled with
the final response object, which is the truth; whatever of it was not streamed is given before the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import msgspec
from msgspec import Struct

from electrictown.errors import BadReplyError, IncompleteReplyError, ProviderError
from electrictown.llm.messages import (
    ChatResponse,
    Chunk,
    End,
    FinishReason,
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
from electrictown.llm.wire.common import as_int, as_text, excerpt, parse_json, read_struct
from electrictown.llm.wire.faults import fault_of
from electrictown.llm.wire.openai_common import OpenAIUsage, finish_reason, read_usage
from electrictown.llm.wire.parts import as_list, as_object, as_objects
from electrictown.llm.wire.verdict import make_error

__all__ = ["ResponsesStream", "decode_response"]

Item = dict[str, Json]
"""One output item as the vendor sent it: what it must get back, verbatim."""


class _Incomplete(Struct):
    reason: str | None = None


class _Response(Struct):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: list[Json] | None = None
    usage: OpenAIUsage | None = None
    error: Json = None
    incomplete_details: _Incomplete | None = None
    background: bool | None = None
    message: Json = None  # an error without its envelope
    detail: Json = None


class _Event(Struct, gc=False):
    type: str | None = None
    delta: Json = None
    output_index: int | None = None
    item: Json = None
    error: Json = None


class _ResponseEvent(Struct):
    """An event that carries the response object; decoded apart, to keep the frequent events cheap."""

    response: _Response | None = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_response_event = msgspec.json.Decoder(_ResponseEvent).decode
_decode_whole = msgspec.json.Decoder(_Response).decode


def decode_response(body: bytes, origin: str) -> ChatResponse:
    """The reply in a complete body.

    Raises:
        ProviderError: for an error that came with status 200.
        IncompleteReplyError: for an empty body, or a response that is still being made.
        BadReplyError: for a body that is not the protocol's.
    """
    if not body.strip():
        raise IncompleteReplyError("the reply is empty")
    found = read_struct(_decode_whole, _Response, body)
    if found.output is None and found.status is None:
        if found.error or found.message or found.detail:
            raise make_error(200, {}, fault_of(parse_json(body)))
        raise BadReplyError(f"the reply holds no output: {excerpt(body)}")
    _check(found)
    return _response(found, _items(found.output or ()), origin)


def _check(found: _Response) -> None:
    """Raise what a response object's status says went wrong."""
    if found.status == "failed" or found.error:
        raise _failure(found.error)
    if found.status in ("cancelled", "queued", "in_progress") and not found.background:
        raise IncompleteReplyError(f"the response is {found.status.replace('_', ' ')}")


def _failure(error: Json) -> ProviderError:
    return make_error(200, {}, fault_of(error or "the response failed without an explanation"))


# --- items and parts -------------------------------------------------------------------------------


def _items(output: Sequence[Json]) -> list[Item]:
    return [_typed(item) for item in as_objects(list(output))]


def _typed(item: Item) -> Item:
    """`item` with the type that its fields show, where a server gave none."""
    if item.get("type") and isinstance(item["type"], str):
        return item
    kinds = {"arguments": "function_call", "summary": "reasoning", "content": "message"}
    kind = next((kind for key, kind in kinds.items() if key in item), None)
    return {**item, "type": kind} if kind else item


def _texts(blocks: Json) -> str:
    """The text of a list of content or summary blocks, refusals included."""
    if isinstance(blocks, str):
        return blocks
    return "".join(as_text(b.get("text") or b.get("refusal")) for b in as_objects(blocks))


def _thought(item: Item) -> str:
    return _texts(item.get("summary")) + _texts(item.get("content"))


def _argument_key(item: Item) -> str:
    return "input" if item.get("type") == "custom_tool_call" else "arguments"


def _call_id(item: Item) -> str:
    return as_text(item.get("call_id") or item.get("id"))


_CALLS = ("function_call", "custom_tool_call")
_CALL_FIELDS = frozenset({"call_id", "name", "arguments", "input", "status"})


def _is_call(item: Item) -> bool:
    return item.get("type") in _CALLS


def _part(item: Item) -> Part:
    kind = item.get("type")
    if kind == "message" and item.get("role") not in ("user", "system", "developer"):
        notes = [note for b in as_objects(item.get("content")) for note in as_list(b.get("annotations"))]
        extra: Item = {"annotations": notes} if notes else {}
        if item.get("phase"):
            extra["phase"] = item["phase"]
        return Text(_texts(item.get("content")), extra or None)
    if kind == "reasoning":
        return Reasoning(_thought(item), item)
    if _is_call(item):
        extra = {key: value for key, value in item.items() if key not in _CALL_FIELDS}
        return ToolCall(
            _call_id(item),
            as_text(item.get("name")),
            as_text(item.get(_argument_key(item))),
            extra,
        )
    return Opaque(item)


def _refused(items: list[Item]) -> bool:
    blocks = (b for i in items if i.get("type") == "message" for b in as_objects(i.get("content")))
    return any(b.get("type") == "refusal" for b in blocks)


def _finish(found: _Response, word: str, items: list[Item]) -> FinishReason:
    if word in ("", "queued", "in_progress"):
        return ""
    reason = finish_reason(word, calls=any(_is_call(i) for i in items), refused=_refused(items))
    return "length" if found.status == "incomplete" and reason in ("stop", "tool_calls") else reason


def _response(found: _Response, items: list[Item], origin: str) -> ChatResponse:
    word = (found.incomplete_details and found.incomplete_details.reason) or found.status or ""
    parts = (_part(item) for item in items)
    return ChatResponse(
        message=Message("assistant", tuple(p for p in parts if p != _NOTHING), origin),
        finish_reason=_finish(found, word, items),
        stopped=word,
        usage=read_usage(found.usage),
        model=found.model or "",
        id=found.id or "",
        provider=origin,
    )


_NOTHING = Text("")


# --- streams ---------------------------------------------------------------------------------------


class _Growing:
    """An output item that is being streamed."""

    __slots__ = ("arguments", "item", "number", "refusals", "texts", "thoughts")

    def __init__(self) -> None:
        self.item: Item = {}
        self.number = -1  # of the tool call, among the tool calls
        self.texts: list[str] = []
        self.refusals: list[str] = []
        self.thoughts: list[str] = []
        self.arguments: list[str] = []

    def whole(self, final: Item | None = None) -> Item:
        """The item: as the vendor finished it, or with the pieces that came filled in."""
        item = dict(self.item if final is None else final)
        kind = item.get("type")
        if (self.texts or self.refusals) and kind in (None, "message") and not _texts(item.get("content")):
            item.update(type="message", role="assistant")
            item["content"] = [{"type": "output_text", "text": "".join(self.texts)}] if self.texts else []
            if self.refusals:
                item["content"].append({"type": "refusal", "refusal": "".join(self.refusals)})
        elif self.thoughts and kind in (None, "reasoning") and not _thought(item):
            item.update(type="reasoning", summary=[{"type": "summary_text", "text": "".join(self.thoughts)}])
        elif self.arguments and (kind is None or _is_call(item)) and not item.get(_argument_key(item)):
            item.setdefault("type", "function_call")
            item[_argument_key(item)] = "".join(self.arguments)
        return item


class ResponsesStream:
    """Decodes the events of one streamed response."""

    __slots__ = ("_calls", "_ended", "_final", "_found", "_growing", "_origin")

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._growing: dict[int, _Growing] = {}
        self._calls = 0
        self._found = _Response()
        self._final: list[Item] = []
        self._ended = False

    def feed_all(self, payloads: Iterable[bytes], out: list[Chunk]) -> None:
        """Decode the events of one read; see `StreamDecoder.feed_all`."""
        for payload in payloads:
            self.feed(payload, out)

    def feed(self, payload: bytes, out: list[Chunk]) -> None:
        """Decode one event; see `StreamDecoder.feed`."""
        if self._ended:
            return
        try:
            event = _decode_event(payload)
        except msgspec.DecodeError:
            if not payload.strip() or payload.strip() == b"[DONE]":
                return  # compatible servers may close like the chat API
            event = read_struct(_decode_event, _Event, payload)
        kind = event.type
        delta = event.delta
        if kind == "response.output_text.delta":
            if delta and type(delta) is str:
                growing = self._growing.get(event.output_index or 0) or self._grow(event.output_index)
                growing.texts.append(delta)
                out.append(TextDelta(delta))
            return
        if delta is not None:
            self._delta(kind or "", as_text(delta), event.output_index, out)
        elif kind == "response.output_item.added" and isinstance(event.item, dict):
            self._begin(self._grow(event.output_index), _typed(cast(Item, event.item)), out)
        elif kind == "response.output_item.done" and isinstance(event.item, dict):
            self._take_item(self._grow(event.output_index), _typed(cast(Item, event.item)), out)
        elif kind in _WHOLES:
            self._take_piece(kind, as_object(parse_json(payload)), out)
        elif kind in _RESPONSE_EVENTS:
            carried = read_struct(_decode_response_event, _ResponseEvent, payload)
            self._take_response(kind, carried.response or _Response(), out)
        elif kind == "error" or (kind is None and event.error):
            raise make_error(200, {}, fault_of(parse_json(payload)))

    def _grow(self, index: int | None) -> _Growing:
        return self._growing.setdefault(index or 0, _Growing())

    def _delta(self, kind: str, delta: str, index: int | None, out: list[Chunk]) -> None:
        growing = self._grow(index)
        if kind == "response.output_text.delta":
            growing.texts.append(delta)
            out.append(TextDelta(delta))
        elif kind == "response.refusal.delta":
            growing.refusals.append(delta)
            out.append(TextDelta(delta))
        elif kind in _THOUGHT_DELTAS:
            growing.thoughts.append(delta)
            out.append(ReasoningDelta(delta))
        elif kind in _ARGUMENT_DELTAS:
            self._number(growing)
            growing.arguments.append(delta)
            out.append(ToolCallDelta(growing.number, arguments=delta))

    def _take_piece(self, kind: str, event: Item, out: list[Chunk]) -> None:
        """The end of a piece, which repeats it: from servers that send no deltas it is the first news."""
        growing = self._grow(as_int(event.get("output_index")))
        deltas, key = _WHOLES[kind]
        came = (
            growing.thoughts
            if deltas in _THOUGHT_DELTAS
            else growing.arguments
            if deltas in _ARGUMENT_DELTAS
            else [*growing.texts, *growing.refusals]
        )
        if not came and (piece := as_text(event.get(key))):
            self._delta(deltas, piece, as_int(event.get("output_index")), out)

    def _begin(self, growing: _Growing, item: Item, out: list[Chunk]) -> None:
        """An item that is only announced: whatever it holds is told again, in deltas or when it is done."""
        growing.item = item
        if _is_call(item) and self._number(growing):
            out.append(ToolCallDelta(growing.number, _call_id(item), as_text(item.get("name"))))

    def _number(self, growing: _Growing) -> bool:
        if growing.number >= 0:
            return False
        growing.number = self._calls
        self._calls += 1
        return True

    def _take_item(self, growing: _Growing, item: Item, out: list[Chunk]) -> None:
        """An item that is done: give what its deltas did not."""
        growing.item = item
        kind = item.get("type")
        if kind == "message":
            sent = "".join(growing.texts) + "".join(growing.refusals)
            if rest := _rest(_texts(item.get("content")), sent):
                growing.texts.append(rest)
                out.append(TextDelta(rest))
        elif kind == "reasoning":
            if rest := _rest(_thought(item), "".join(growing.thoughts)):
                growing.thoughts.append(rest)
                out.append(ReasoningDelta(rest))
        elif _is_call(item):
            rest = _rest(as_text(item.get(_argument_key(item))), "".join(growing.arguments))
            if rest:
                growing.arguments.append(rest)
            if self._number(growing):
                out.append(ToolCallDelta(growing.number, _call_id(item), as_text(item.get("name")), rest))
            elif rest:
                out.append(ToolCallDelta(growing.number, arguments=rest))

    def _take_response(self, kind: str, found: _Response, out: list[Chunk]) -> None:
        self._found = found
        if kind not in _UNDER_WAY:
            self._final = _items(found.output or ())
        if kind == "response.failed" or (kind in _TERMINAL and found.status == "failed"):
            raise _failure(found.error)
        if kind == "response.cancelled":
            raise IncompleteReplyError("the response was cancelled")
        if kind not in _TERMINAL:
            return
        self._reconcile(out)
        if found.status in (None, "in_progress"):
            found.status = kind.removeprefix("response.")
        self._ended = True
        out.append(End(self._response()))

    def finish(self, *, allow_incomplete: bool = False) -> End | None:
        """The end of the body: only a terminal event completes a response."""
        if self._ended:
            return None
        if not (allow_incomplete and self._growing):
            raise IncompleteReplyError(
                "the stream ended without its end: no response.completed"
                if self._growing or self._found.id
                else "the stream ended without a single event"
            )
        self._ended = True
        return End(self._response())

    @property
    def usage(self) -> Usage | None:
        """What is known of the usage so far."""
        return read_usage(self._found.usage)

    def partial(self) -> ChatResponse:
        """The reply as far as it came, its usage marked partial."""
        response = self._response()
        usage = response.usage and msgspec.structs.replace(response.usage, partial=True)
        return msgspec.structs.replace(response, usage=usage)

    def _reconcile(self, out: list[Chunk]) -> None:
        """Give what the final response holds and no event has brought."""
        came = [growing for _, growing in sorted(self._growing.items())]
        text = "".join(_texts(i.get("content")) for i in self._final if i.get("type") == "message")
        if rest := _rest(text, "".join("".join([*g.texts, *g.refusals]) for g in came)):
            out.append(TextDelta(rest))
        thought = "".join(_thought(i) for i in self._final if i.get("type") == "reasoning")
        if rest := _rest(thought, "".join("".join(g.thoughts) for g in came)):
            out.append(ReasoningDelta(rest))
        calls = {g.number: g for g in came if g.number >= 0}
        for number, item in enumerate(filter(_is_call, self._final)):
            growing = calls.get(number) or _Growing()
            self._take_item(growing, item, out)

    def _response(self) -> ChatResponse:
        if self._final:
            items = [self._growing.get(i, _UNSEEN).whole(item) for i, item in enumerate(self._final)]
        else:
            items = [growing.whole() for _, growing in sorted(self._growing.items())]
        return _response(self._found, [item for item in items if item], self._origin)


_UNSEEN = _Growing()
_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.done"})
_UNDER_WAY = frozenset({"response.created", "response.queued", "response.in_progress"})
_RESPONSE_EVENTS = _TERMINAL | _UNDER_WAY | {"response.failed", "response.cancelled"}
_THOUGHT_DELTAS = frozenset(
    {
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary.delta",
        "response.reasoning_text.delta",
        "response.reasoning.delta",
    }
)
_ARGUMENT_DELTAS = frozenset(
    {"response.function_call_arguments.delta", "response.custom_tool_call_input.delta"}
)
# The event that ends a piece: whose deltas it repeats, and under which key.
_WHOLES = {
    "response.output_text.done": ("response.output_text.delta", "text"),
    "response.refusal.done": ("response.refusal.delta", "refusal"),
    "response.reasoning_summary_text.done": ("response.reasoning_summary_text.delta", "text"),
    "response.reasoning_text.done": ("response.reasoning_text.delta", "text"),
    "response.function_call_arguments.done": ("response.function_call_arguments.delta", "arguments"),
    "response.custom_tool_call_input.done": ("response.custom_tool_call_input.delta", "input"),
}


def _rest(whole: str, sent: str) -> str:
    """What of `whole` has not been sent; "" where the two differ, since what was sent stays sent."""
    return whole[len(sent) :] if whole.startswith(sent) else ""
