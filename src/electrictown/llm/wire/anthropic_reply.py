"""Anthropic's Messages API, answering: what a message says, its blocks, and errors."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from electrictown.errors import BadReplyError, ContextWindowError, ProviderError
from electrictown.llm.billing import plausible
from electrictown.llm.messages import (
    ChatResponse,
    FinishReason,
    Json,
    Message,
    Opaque,
    Part,
    Reasoning,
    Text,
    ToolCall,
    Usage,
)
from electrictown.llm.wire.common import as_int, as_text, excerpt, parse_json
from electrictown.llm.wire.faults import Fault, fault_of
from electrictown.llm.wire.parts import as_object, as_objects
from electrictown.llm.wire.verdict import make_error

__all__ = ["REPLY_TOOL", "Facts", "block_kind", "decode_message", "parts_of", "typed_error"]

REPLY_TOOL = "give_structured_reply"
"""The tool a model must call where a schema cannot be asked for otherwise; its input is the reply's text."""

_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}

# https://docs.claude.com/en/api/errors: inside a stream the type stands for the status that is 200.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def typed_error(fault: Fault, status: int = 200, headers: Mapping[str, str] | None = None) -> ProviderError:
    """The error of our tree for a fault; inside a good answer its type says the status."""
    if status < 400:
        status = next((_STATUS[code] for code in fault.codes if code in _STATUS), status)
    return make_error(status, headers or {}, fault)


class Facts:
    """What an answer says beside its content: who answered, why it stopped, what it cost."""

    __slots__ = ("container", "details", "id", "model", "stop", "tokens")

    def __init__(self) -> None:
        self.id = ""
        self.model = ""
        self.stop = ""
        self.details: Json = None
        self.container: Json = None
        self.tokens: dict[str, Json] | None = None

    def read(self, found: dict[str, Json]) -> None:
        """Takes what a message or the `delta` of a message_delta holds."""
        self.id = as_text(found.get("id")) or self.id
        self.model = as_text(found.get("model")) or self.model
        self.stop = as_text(found.get("stop_reason")) or self.stop
        self.details = found.get("stop_details") or self.details
        self.container = found.get("container") or self.container

    def count(self, tokens: Json) -> None:
        """Takes usage. Counts are cumulative, so later ones replace earlier ones.

        Some servers know the input only at the start, some only at the end: a late 0 replaces nothing.
        """
        told = {k: v for k, v in as_object(tokens).items() if v is not None}
        if not told:
            return
        if self.tokens and not told.get("input_tokens"):
            told.pop("input_tokens", None)
        self.tokens = {**(self.tokens or {}), **told}

    def usage(self, *, partial: bool = False) -> Usage | None:
        """The usage in disjoint buckets, None where none was told, or nonsense."""
        tokens = self.tokens
        if tokens is None or not any(k.endswith("_tokens") for k in tokens):
            return None
        told = [_buckets(tokens)]
        # What a compaction read and wrote is billed beside the counts of the message; an adviser's tokens
        # too, but at the price of another model.
        steps = as_objects(tokens.get("iterations"))
        told += [_buckets(step) for step in steps if step.get("type") == "compaction"]
        if any(plausible(usage) is None for usage in told):
            return None
        return _sum(told, partial=partial) if len(told) > 1 or partial else told[0]

    def response(self, parts: list[Part], origin: str) -> ChatResponse:
        """The reply of `parts`."""
        if self.container:
            parts.append(Opaque({"container": self.container}))
        finish: FinishReason = _FINISH.get(self.stop, "stop") if self.stop else ""
        called = any(isinstance(p, ToolCall) for p in parts)
        if called and finish == "stop":
            finish = "tool_calls"
        elif finish == "tool_calls" and not called:  # the call was the reply itself
            finish = "stop"
        return ChatResponse(
            message=Message("assistant", tuple(parts), origin),
            finish_reason=finish,
            stopped=self.stop,
            usage=self.usage(),
            model=self.model,
            id=self.id,
            provider=origin,
            notes=self._notes(),
        )

    def check(self, parts: list[Part]) -> None:
        """Raises ContextWindowError where the window was full before the model said anything."""
        if self.stop == "model_context_window_exceeded" and not parts:
            raise ContextWindowError(
                "the prompt fills the model's context window; there was no room for a reply",
                "use a model with a larger context window, or ask for less at a time",
                status=200,
                code=self.stop,
            )

    def _notes(self) -> tuple[str, ...]:
        told = as_object(self.details)
        words = [as_text(told[k]) for k in ("type", "category", "explanation") if told.get(k)]
        return (": ".join(words),) if words else ()


def _sum(told: list[Usage], *, partial: bool) -> Usage:
    return Usage(
        input=sum(usage.input for usage in told),
        cache_read=sum(usage.cache_read for usage in told),
        cache_write=sum(usage.cache_write for usage in told),
        output=sum(usage.output for usage in told),
        reasoning=sum(usage.reasoning for usage in told),
        cache_write_1h=sum(usage.cache_write_1h for usage in told),
        partial=partial,
    )


def _buckets(tokens: dict[str, Json]) -> Usage:
    """The counts of a usage object in disjoint buckets."""
    kept = as_object(tokens.get("cache_creation"))
    hour, five = as_int(kept.get("ephemeral_1h_input_tokens")), as_int(kept.get("ephemeral_5m_input_tokens"))
    return Usage(
        input=as_int(tokens.get("input_tokens")),
        cache_read=as_int(tokens.get("cache_read_input_tokens")),
        cache_write=as_int(tokens.get("cache_creation_input_tokens")) or (five if five < 0 else hour + five),
        output=as_int(tokens.get("output_tokens")),
        reasoning=as_int(as_object(tokens.get("output_tokens_details")).get("thinking_tokens")),
        cache_write_1h=hour,
    )


class _Input(Struct, gc=False):
    input: msgspec.Raw = msgspec.Raw()


class _Whole(Struct):
    content: list[msgspec.Raw] = []


_decode_input = msgspec.json.Decoder(_Input).decode
_decode_whole = msgspec.json.Decoder(_Whole).decode


def decode_message(body: bytes, origin: str) -> ChatResponse:
    """The reply in a complete body; see `Wire.decode`."""
    answer = as_object(parse_json(body))
    if answer.get("error") or answer.get("type") == "error":
        raise typed_error(fault_of(answer))
    content = answer.get("content")
    if not isinstance(content, list | str):
        raise BadReplyError(f"this is no message: {excerpt(body)}")
    parts: list[Part] = [Text(content)] if content and isinstance(content, str) else []
    blocks = as_objects(content)
    if any("input" in block for block in blocks):  # arguments are wanted as the model wrote them
        for raw in _decode_whole(body).content:
            block = as_object(parse_json(bytes(raw)))
            arguments = bytes(_decode_input(raw).input).decode() if "input" in block else ""
            parts.extend(parts_of(block, arguments))
    else:
        for block in blocks:
            parts.extend(parts_of(block, ""))
    facts = Facts()
    facts.read(answer)
    facts.count(answer.get("usage"))
    facts.check(parts)
    return facts.response(parts, origin)


def block_kind(block: dict[str, Json]) -> str:
    """The type of a block or of a delta; where a server gave none, the one its fields show."""
    kind = block.get("type")
    if kind and isinstance(kind, str):
        return kind
    if "name" in block and "input" in block:
        return "tool_use"
    return next((key for key in ("text", "thinking") if key in block), "")


def parts_of(block: dict[str, Json], arguments: str) -> list[Part]:
    """A block as a part of ours; what we have no field for stays in `opaque`. Empty text is no part."""
    kind = block_kind(block)
    if kind == "text":
        text = as_text(block.get("text"))
        return [Text(text, _rest(block, "text"))] if text else []
    if kind == "thinking":
        return [Reasoning(as_text(block.get("thinking")), _rest(block, "thinking"))]
    if kind == "tool_use":
        if block.get("name") == REPLY_TOOL:
            return [Text(arguments)]
        called, name = as_text(block.get("id")), as_text(block.get("name"))
        return [ToolCall(called, name, arguments or "{}", _rest(block, "id", "name", "input"))]
    return [Opaque(block)] if block else []


def _rest(block: dict[str, Json], *known: str) -> dict[str, Json] | None:
    rest = {k: v for k, v in block.items() if k != "type" and k not in known and v not in (None, "", [])}
    return rest or None
