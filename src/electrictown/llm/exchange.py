"""A recorded exchange with a provider, decoded by our own wires: how an odd reply is looked into.

A record holds what was sent and received: `provider`, `api`, `path`, `status`, `response_headers`, and
either `response_body` (JSON) or `response_text` (a stream as it came). Nothing here does any I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from importlib import import_module
from typing import cast

from electrictown.errors import BadReplyError, ElectrictownError, IncompleteReplyError, UsageError
from electrictown.llm.framing import NdjsonSplitter, SseSplitter
from electrictown.llm.messages import ChatResponse, Chunk, End, Json, Message, ToolCall, Usage
from electrictown.llm.wire.base import StreamDecoder, Wire
from electrictown.llm.wire.common import as_int, as_text, encode_json, json_or_text
from electrictown.llm.wire.parts import as_list, as_object

__all__ = ["decode_exchange"]


def decode_exchange(record: Mapping[str, Json]) -> dict[str, Json]:
    """What our wire makes of `record`: text, reasoning, tool calls, finish reason, usage, model, error.

    A reply that was cut or failed gives what came of it, and its error. `arguments` of a tool call is the
    JSON object where the model wrote one, `{}` where it wrote nothing, else its text as it is. An endpoint
    that answers no chat gives an error of type `UsageError`.
    """
    status = as_int(record.get("status")) or 200
    reply, error = _EMPTY, None
    try:
        reply, error = _decode(_wire(record), record, status)
    except ElectrictownError as problem:
        error = problem
    return {
        "text": reply.text,
        "reasoning": reply.reasoning,
        "tool_calls": [{"id": c.id, "name": c.name, "arguments": _arguments(c)} for c in reply.tool_calls],
        "finish_reason": reply.finish_reason,
        "usage": _usage(reply.usage),
        "model": reply.model,
        "error": error and _error(error, status),
    }


_EMPTY = ChatResponse(message=Message("assistant", ()))


def _arguments(call: ToolCall) -> Json:
    if not call.arguments.strip() and (call.opaque or {}).get("type") not in _IN_TEXT:
        return {}
    value: Json = json_or_text(call.arguments)
    return cast(Json, value) if isinstance(value, dict) else call.arguments


_IN_TEXT = ("custom", "custom_tool_call")  # tools that take text, not an object


def _usage(usage: Usage | None) -> dict[str, int] | None:
    names = ("input", "cache_read", "cache_write", "output", "reasoning")
    return None if usage is None else {name: getattr(usage, name) for name in names}


def _error(error: ElectrictownError, status: int) -> dict[str, Json]:
    return {
        "type": type(error).__name__,
        "status": getattr(error, "status", 0) or status,
        "retry_after": getattr(error, "retry_after", None),
        "message": error.message,
    }


# --- whose protocol it is --------------------------------------------------------------------------

_WIRES = {
    "chat": "openai:OpenAIWire",
    "responses": "responses:ResponsesWire",
    "messages": "anthropic:AnthropicWire",
    "gemini": "gemini:GeminiWire",
    "ollama": "ollama:OllamaWire",
}
_PATHS = (
    (re.compile(r"/chat/completions$"), "chat"),
    (re.compile(r"/responses(/resp_\w+)?$"), "responses"),
    (re.compile(r"/messages$"), "messages"),
    (re.compile(r":(?:stream)?generateContent$", re.I), "gemini"),
    (re.compile(r"/api/chat$"), "ollama"),
)
_OTHER_ENDPOINT = re.compile(
    r"/responses/.|count_?tokens|embed|/models\b(?!.*:)|/batch|/files|/images|/audio|/moderations"
    r"|/api/(?!.*chat)|/completions$",
    re.I,
)
_APIS = {
    "chat": "chat",
    "v1-chat": "chat",
    "chat.completions": "chat",
    "responses": "responses",
    "messages": "messages",
    "generatecontent": "gemini",
    "streamgeneratecontent": "gemini",
}
_PROVIDERS = {"openai": "chat", "anthropic": "messages", "gemini": "gemini", "ollama": "ollama"}


def _wire(record: Mapping[str, Json]) -> Wire:
    provider, api = str(record.get("provider") or ""), str(record.get("api") or "")
    path = str(record.get("path") or "").partition("?")[0].rstrip("/")
    protocol = next((name for pattern, name in _PATHS if pattern.search(path or f"/{api}")), "")
    if not protocol and not _OTHER_ENDPOINT.search(path):
        protocol = _by_name(provider.lower(), api.lower())
    if not protocol:
        raise UsageError(
            f"{path or api or provider or 'the record'!r} is no chat endpoint",
            hint="decode an exchange of chat/completions, responses, messages, generateContent or api/chat",
        )
    module, _, name = _WIRES[protocol].partition(":")
    make: Callable[[str], Wire] = getattr(import_module(f"electrictown.llm.wire.{module}"), name)
    return make(provider)


def _by_name(provider: str, api: str) -> str:
    if provider.startswith("openai-compat"):
        return "responses" if api == "responses" else "chat"  # `api` names the host
    if provider == "ollama" and api == "chat":
        return "ollama"
    return _APIS.get(api, "") if api else _PROVIDERS.get(provider, "")


# --- its answer ------------------------------------------------------------------------------------


def _decode(
    wire: Wire, record: Mapping[str, Json], status: int
) -> tuple[ChatResponse, ElectrictownError | None]:
    body = _body(record)
    if status >= 400:
        return _EMPTY, wire.error(status, _headers(record), body)
    text = body.decode("utf-8", "replace")
    if text.lstrip()[:1] == "[":  # Gemini streams a JSON list where SSE was not asked for
        return _stream(wire, [encode_json(item) for item in _items(text)], [])
    value: Json = json_or_text(text)
    if isinstance(value, dict) and not (wire.framing == "ndjson" and record.get("stream")):
        try:
            return wire.decode(body), None
        except ElectrictownError as problem:
            return _despite(wire, cast(dict[str, Json], value)), problem
    if text.lstrip()[:1] == "<" or not (record.get("stream") or _looks_streamed(body)):  # a web page
        return wire.decode(body), None
    splitter = NdjsonSplitter() if wire.framing == "ndjson" else SseSplitter()
    return _stream(wire, splitter.feed(body), splitter.finish())


def _despite(wire: Wire, body: dict[str, Json]) -> ChatResponse:
    """What a body holds that is an error all the same: half a reply, who answered, what it cost."""
    decoder = wire.decoder()
    event = body
    if body.get("object") == "response":
        event = {"type": "response.failed", "response": body}
    elif "stop_reason" in body:
        event = {"type": "message_start", "message": body}
    with suppress(ElectrictownError):
        decoder.feed(encode_json(event), [])
    return decoder.partial()


def _items(text: str) -> list[Json]:
    """The items of a JSON list that may be cut: those that are whole."""
    import json  # msgspec decodes whole documents only

    decoder = json.JSONDecoder()
    items: list[Json] = []
    rest = text.lstrip()[1:].lstrip(" \t\r\n,")
    while rest and rest[0] != "]":
        try:
            item, end = decoder.raw_decode(rest)
        except ValueError:
            break
        items.append(item)
        rest = rest[end:].lstrip(" \t\r\n,")
    return items


def _looks_streamed(body: bytes) -> bool:
    return re.search(rb"^(?:data|event|id|retry)?:|\}\s*\n\s*\{", body, re.M) is not None


def _body(record: Mapping[str, Json]) -> bytes:
    value: Json = record.get("response_body")
    if value is None:
        value = record.get("response_text")
    if isinstance(value, str) and value.lstrip()[:1] == '"':  # a stream recorded as a JSON string
        value = json_or_text(value)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return b"" if value is None else encode_json(value)


def _headers(record: Mapping[str, Json]) -> dict[str, str]:
    found: Json = record.get("response_headers")
    pairs: list[Json] = list(as_object(found).items())
    for item in as_list(found):  # as pairs, or as a HAR file has them
        named = as_object(item)
        pairs.append([named.get("name"), named.get("value")] if named else item)
    return {
        as_text(pair[0]).lower(): ", ".join(map(as_text, as_list(pair[1]) or [pair[1]]))
        for pair in pairs
        if isinstance(pair, list | tuple) and len(cast(Sequence[Json], pair)) == 2
    }


def _stream(
    wire: Wire, payloads: list[bytes], rest: list[bytes]
) -> tuple[ChatResponse, ElectrictownError | None]:
    """Decode the events; `rest` is a last event that nothing ended, whole or cut."""
    replies: list[ChatResponse] = []
    decoder = wire.decoder()
    error: ElectrictownError | None = None
    try:
        for payload in payloads:
            # A recording may hold several replies one after another, as a loop with tools makes them.
            if replies and b'"response.created"' in payload[:200]:
                decoder = wire.decoder()
            replies += _fed(decoder, payload)
        for payload in rest:
            try:
                replies += _fed(decoder, payload)
            except BadReplyError:
                break  # cut in the middle: what counts is whether the reply was complete before
        if end := decoder.finish():
            replies.append(end.response)
    except ElectrictownError as problem:
        error = problem
        if not isinstance(problem, IncompleteReplyError) or not replies:
            replies.append(decoder.partial())
    return reduce(_joined, replies) if replies else _EMPTY, error


def _fed(decoder: StreamDecoder, payload: bytes) -> list[ChatResponse]:
    out: list[Chunk] = []
    decoder.feed(payload, out)
    return [chunk.response for chunk in out if isinstance(chunk, End)]


def _joined(first: ChatResponse, second: ChatResponse) -> ChatResponse:
    from msgspec.structs import replace

    parts = first.message.parts + second.message.parts
    return replace(
        second, message=replace(second.message, parts=parts), usage=_summed(first.usage, second.usage)
    )


def _summed(first: Usage | None, second: Usage | None) -> Usage | None:
    if first is None or second is None:
        return first or second
    return Usage(
        input=first.input + second.input,
        cache_read=first.cache_read + second.cache_read,
        cache_write=first.cache_write + second.cache_write,
        output=first.output + second.output,
        reasoning=first.reasoning + second.reasoning,
    )
