"""What the fake server says, in the bytes of each of the four vendors' protocols."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import msgspec

Wire = Literal["openai", "responses", "anthropic", "gemini", "ollama"]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What one request is answered with, and what goes wrong on the way.

    The text is streamed word by word, or as `pieces`. Times are in seconds. `k` events into a stream:
    `cut` loses the connection, `stall` falls silent, `mid_error` sends an error event.
    """

    text: str = "Hello from the fake."
    pieces: tuple[str, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[tuple[str, str], ...] = ()
    """Name and JSON arguments of each call."""
    finish: Literal["stop", "length"] = "stop"
    input_tokens: int = 11
    cached_tokens: int = 0
    output_tokens: int = 7
    model: str = ""
    """The id that answers; "" is the one that was asked."""

    latency: float = 0.0
    """Before the status line."""
    first_token: float = 0.0
    """Between headers and the first event."""
    pause: float = 0.0
    """Between two events."""
    never: bool = False
    """Takes the request and says nothing."""

    status: int = 200
    error: str = ""
    code: str = ""
    param: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    cut: int | None = None
    stall: int | None = None
    mid_error: int | None = None
    terminal: bool = True
    """False: the stream ends cleanly without the protocol's terminal event."""
    linger: bool = False
    """All events are sent, but the body never ends."""
    body: bytes | None = None
    """This body instead of the protocol's."""
    raw: bytes | None = None
    """These bytes instead of an HTTP answer; then the connection closes."""
    plain_json: bool = False
    """A streamed request is answered with one JSON body."""
    dribble: int = 0
    """Bytes a write, 0 for no limit."""
    gzip: bool = False
    eol: bytes = b"\n"


@dataclass(frozen=True, kw_only=True)
class FakeModel:
    """A model on offer."""

    id: str
    context_window: int = 8192
    loaded: bool = False
    capabilities: tuple[str, ...] = ("completion", "tools")


@dataclass(kw_only=True)
class Seen:
    """A request as the server got it."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    raw: bytes
    started: float
    host: str = ""
    """What stands before the protocol's own path: one server can play several hosts."""
    ended: float = 0.0
    aborted: bool = False
    """The client went away before the answer was complete."""
    body: Any = field(default=None)

    @property
    def prompt(self) -> str:
        """All text of the request, system prompt included."""
        return "\n".join(_texts(self.body))

    @property
    def model(self) -> str:
        """The model that was asked for."""
        if isinstance(self.body, dict) and "model" in self.body:
            return str(self.body["model"])
        found = re.search(r"models/([^:/]+):", self.path)
        return found[1] if found else ""


def _texts(value: object, inside: bool = False) -> Iterable[str]:
    if isinstance(value, str) and inside:
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            named = key in {"content", "text", "system", "instructions", "input", "output"}
            yield from _texts(item, named)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, inside)


def _json(value: object) -> bytes:
    return msgspec.json.encode(value)


def sse(value: object, event: str = "") -> bytes:
    named = f"event: {event}\n".encode() if event else b""
    return named + b"data: " + (value if isinstance(value, bytes) else _json(value)) + b"\n\n"


def pieces(reply: Reply) -> tuple[str, ...]:
    return reply.pieces or tuple(re.findall(r"\s*\S+\s*?(?=\s|$)|\s+", reply.text))


def _text(reply: Reply) -> str:
    return "".join(reply.pieces) or reply.text


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


@lru_cache(maxsize=4096)
def render(wire: Wire, model: str, reply: Reply) -> tuple[tuple[bytes, ...], bytes]:
    """The events of a streamed reply, and the terminal ones as one piece."""
    events, terminal = _STREAMS[wire](reply.model or model, reply)
    if reply.eol != b"\n":
        return tuple(e.replace(b"\n", reply.eol) for e in events), terminal.replace(b"\n", reply.eol)
    return tuple(events), terminal


@lru_cache(maxsize=4096)
def render_whole(wire: Wire, model: str, reply: Reply) -> bytes:
    """The body of a reply that is not streamed."""
    return _json(_WHOLES[wire](reply.model or model, reply))


# --- OpenAI chat completions


def _openai_usage(reply: Reply) -> dict[str, object]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
    }


def _openai_finish(reply: Reply) -> str:
    return "tool_calls" if reply.tool_calls else reply.finish


def _openai_whole(model: str, reply: Reply) -> object:
    message: dict[str, object] = {"role": "assistant", "content": _text(reply)}
    if reply.reasoning:
        message["reasoning_content"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = [
            {"id": f"call_{i}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, (name, arguments) in enumerate(reply.tool_calls)
        ]
    choice = {"index": 0, "message": message, "finish_reason": _openai_finish(reply)}
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [choice],
        "usage": _openai_usage(reply),
    }


def _openai_stream(model: str, reply: Reply) -> tuple[list[bytes], bytes]:
    head = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "created": 1, "model": model}

    def event(delta: object, finish: str | None = None) -> bytes:
        return sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    events = [event({"role": "assistant", "content": ""})]
    if reply.reasoning:
        events.append(event({"reasoning_content": reply.reasoning}))
    events += [event({"content": piece}) for piece in pieces(reply)]
    for i, (name, arguments) in enumerate(reply.tool_calls):
        first, second = _halves(arguments)
        call = {
            "index": i,
            "id": f"call_{i}",
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        events.append(event({"tool_calls": [call]}))
        events += [
            event({"tool_calls": [{"index": i, "function": {"arguments": a}}]}) for a in (first, second)
        ]
    terminal = event({}, _openai_finish(reply)) + sse({**head, "choices": [], "usage": _openai_usage(reply)})
    return events, terminal + sse(b"[DONE]")


# --- OpenAI responses


def _responses_output(reply: Reply) -> list[dict[str, object]]:
    output: list[dict[str, object]] = []
    if reply.reasoning:
        summary = [{"type": "summary_text", "text": reply.reasoning}]
        output.append({"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "sealed"})
    if _text(reply):
        content = [{"type": "output_text", "text": _text(reply), "annotations": []}]
        output.append(
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}
        )
    for i, (name, arguments) in enumerate(reply.tool_calls):
        call = {"type": "function_call", "id": f"fc_{i}", "call_id": f"call_{i}", "name": name}
        output.append({**call, "arguments": arguments, "status": "completed"})
    return output


def _responses_whole(model: str, reply: Reply) -> dict[str, object]:
    cut = reply.finish == "length"
    return {
        "id": "resp_fake",
        "object": "response",
        "created_at": 1,
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "model": model,
        "output": _responses_output(reply),
        "usage": {
            "input_tokens": reply.input_tokens,
            "input_tokens_details": {"cached_tokens": reply.cached_tokens},
            "output_tokens": reply.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reply.input_tokens + reply.output_tokens,
        },
    }


def _responses_stream(model: str, reply: Reply) -> tuple[list[bytes], bytes]:
    whole = _responses_whole(model, reply)
    events: list[bytes] = []

    def event(type_: str, **fields: object) -> None:
        events.append(sse({"type": type_, "sequence_number": len(events), **fields}, type_))

    started = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    event("response.created", response=started)
    for index, item in enumerate(_responses_output(reply)):
        at = {"output_index": index, "item_id": item["id"]}
        match item["type"]:
            case "message":
                event("response.output_item.added", output_index=index, item={**item, "content": []})
                part = {"type": "output_text", "text": "", "annotations": []}
                event("response.content_part.added", **at, content_index=0, part=part)
                for piece in pieces(reply):
                    event("response.output_text.delta", **at, content_index=0, delta=piece)
                event("response.output_text.done", **at, content_index=0, text=_text(reply))
            case "function_call":
                event("response.output_item.added", output_index=index, item={**item, "arguments": ""})
                for half in _halves(str(item["arguments"])):
                    event("response.function_call_arguments.delta", **at, delta=half)
                event("response.function_call_arguments.done", **at, arguments=item["arguments"])
            case _:
                event("response.output_item.added", output_index=index, item={**item, "summary": []})
                event("response.reasoning_summary_text.delta", **at, summary_index=0, delta=reply.reasoning)
        event("response.output_item.done", output_index=index, item=item)
    kept = list(events)
    event(f"response.{whole['status']}", response=whole)
    return kept, events[-1]


# --- Anthropic


def _anthropic_usage(reply: Reply) -> dict[str, object]:
    return {
        "input_tokens": reply.input_tokens - reply.cached_tokens,
        "cache_read_input_tokens": reply.cached_tokens,
        "cache_creation_input_tokens": 0,
        "output_tokens": reply.output_tokens,
    }


def _anthropic_stop(reply: Reply) -> str:
    return "tool_use" if reply.tool_calls else {"stop": "end_turn", "length": "max_tokens"}[reply.finish]


def _anthropic_whole(model: str, reply: Reply) -> dict[str, object]:
    content: list[object] = []
    if reply.reasoning:
        content.append({"type": "thinking", "thinking": reply.reasoning, "signature": "c2ln"})
    if _text(reply):
        content.append({"type": "text", "text": _text(reply)})
    for i, (name, arguments) in enumerate(reply.tool_calls):
        content.append(
            {"type": "tool_use", "id": f"toolu_{i}", "name": name, "input": msgspec.json.decode(arguments)}
        )
    return {
        "id": "msg_fake",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": _anthropic_stop(reply),
        "stop_sequence": None,
        "usage": _anthropic_usage(reply),
    }


def _anthropic_stream(model: str, reply: Reply) -> tuple[list[bytes], bytes]:
    events: list[bytes] = []

    def event(type_: str, **fields: object) -> None:
        events.append(sse({"type": type_, **fields}, type_))

    def block(index: int, start: object, deltas: Iterable[object]) -> None:
        event("content_block_start", index=index, content_block=start)
        for delta in deltas:
            event("content_block_delta", index=index, delta=delta)
        event("content_block_stop", index=index)

    usage = {**_anthropic_usage(reply), "output_tokens": 1}
    whole = _anthropic_whole(model, reply)
    event("message_start", message={**whole, "content": [], "stop_reason": None, "usage": usage})
    event("ping")
    index = 0
    if reply.reasoning:
        thought = {"type": "thinking_delta", "thinking": reply.reasoning}
        start = {"type": "thinking", "thinking": "", "signature": ""}
        block(index, start, [thought, {"type": "signature_delta", "signature": "c2ln"}])
        index += 1
    if _text(reply):
        block(index, {"type": "text", "text": ""}, [{"type": "text_delta", "text": p} for p in pieces(reply)])
        index += 1
    for i, (name, arguments) in enumerate(reply.tool_calls):
        halves = [{"type": "input_json_delta", "partial_json": half} for half in _halves(arguments)]
        block(index, {"type": "tool_use", "id": f"toolu_{i}", "name": name, "input": {}}, halves)
        index += 1
    kept = list(events)
    stopped = {"stop_reason": _anthropic_stop(reply), "stop_sequence": None}
    event("message_delta", delta=stopped, usage={"output_tokens": reply.output_tokens})
    event("message_stop")
    return kept, b"".join(events[len(kept) :])


# --- Gemini


def _gemini_chunk(model: str, reply: Reply, parts: list[object], finish: str = "") -> dict[str, object]:
    candidate: dict[str, object] = {"content": {"role": "model", "parts": parts}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    usage = {
        "promptTokenCount": reply.input_tokens,
        "cachedContentTokenCount": reply.cached_tokens,
        "candidatesTokenCount": reply.output_tokens if finish else 1,
        "totalTokenCount": reply.input_tokens + reply.output_tokens,
    }
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": model,
        "responseId": "gemini-fake",
    }


def _gemini_calls(reply: Reply) -> list[object]:
    return [{"functionCall": {"name": n, "args": msgspec.json.decode(a)}} for n, a in reply.tool_calls]


def _gemini_finish(reply: Reply) -> str:
    return {"stop": "STOP", "length": "MAX_TOKENS"}[reply.finish]


def _gemini_whole(model: str, reply: Reply) -> object:
    parts: list[object] = [{"text": reply.reasoning, "thought": True}] if reply.reasoning else []
    if _text(reply):
        parts.append({"text": _text(reply)})
    return _gemini_chunk(model, reply, parts + _gemini_calls(reply), _gemini_finish(reply))


def _gemini_stream(model: str, reply: Reply) -> tuple[list[bytes], bytes]:
    thoughts: list[object] = [{"text": reply.reasoning, "thought": True}] if reply.reasoning else []
    parts = [*thoughts, *({"text": piece} for piece in pieces(reply)), *_gemini_calls(reply)]
    events = [sse(_gemini_chunk(model, reply, [part])).replace(b"\n", b"\r\n") for part in parts]
    last = sse(_gemini_chunk(model, reply, [{"text": ""}], _gemini_finish(reply)))
    return events, last.replace(b"\n", b"\r\n")


# --- Ollama


def _ollama_line(model: str, message: dict[str, object], **more: object) -> dict[str, object]:
    stamp = "2026-01-01T00:00:00Z"
    return {
        "model": model,
        "created_at": stamp,
        "message": {"role": "assistant", "content": "", **message},
        "done": False,
        **more,
    }


def _ollama_end(reply: Reply) -> dict[str, object]:
    return {
        "done": True,
        "done_reason": reply.finish,
        "total_duration": 5_000_000,
        "prompt_eval_count": reply.input_tokens,
        "prompt_eval_duration": 1_000_000,
        "eval_count": reply.output_tokens,
        "eval_duration": 2_000_000,
    }


def _ollama_calls(reply: Reply) -> list[object]:
    return [{"function": {"name": n, "arguments": msgspec.json.decode(a)}} for n, a in reply.tool_calls]


def _ollama_whole(model: str, reply: Reply) -> object:
    message: dict[str, object] = {"content": _text(reply)}
    if reply.reasoning:
        message["thinking"] = reply.reasoning
    if reply.tool_calls:
        message["tool_calls"] = _ollama_calls(reply)
    return _ollama_line(model, message, **_ollama_end(reply))


def _ollama_stream(model: str, reply: Reply) -> tuple[list[bytes], bytes]:
    lines: list[dict[str, object]] = []
    if reply.reasoning:
        lines.append(_ollama_line(model, {"thinking": reply.reasoning}))
    lines += [_ollama_line(model, {"content": piece}) for piece in pieces(reply)]
    if reply.tool_calls:
        lines.append(_ollama_line(model, {"tool_calls": _ollama_calls(reply)}))
    end = _ollama_line(model, {}, **_ollama_end(reply))
    return [_json(line) + b"\n" for line in lines], _json(end) + b"\n"


_STREAMS = {
    "openai": _openai_stream,
    "responses": _responses_stream,
    "anthropic": _anthropic_stream,
    "gemini": _gemini_stream,
    "ollama": _ollama_stream,
}
_WHOLES = {
    "openai": _openai_whole,
    "responses": _responses_whole,
    "anthropic": _anthropic_whole,
    "gemini": _gemini_whole,
    "ollama": _ollama_whole,
}


# --- errors

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_GEMINI_STATES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def error_body(wire: Wire, status: int, reply: Reply) -> bytes:
    """An error as the vendor words it."""
    message = reply.error or f"the fake says {status}"
    match wire:
        case "anthropic":
            kind = reply.code or _ANTHROPIC_TYPES.get(status, "api_error")
            error = {"type": kind, "message": message}
            return _json({"type": "error", "error": error, "request_id": "req_fake"})
        case "gemini":
            state = reply.code or _GEMINI_STATES.get(status, "INTERNAL")
            return _json({"error": {"code": status, "message": message, "status": state}})
        case "ollama":
            return _json({"error": message})
        case _:
            kind = "invalid_request_error" if status < 429 else "server_error"
            error = {
                "message": message,
                "type": kind,
                "param": reply.param or None,
                "code": reply.code or None,
            }
            return _json({"error": error})


def error_event(wire: Wire, reply: Reply) -> bytes:
    """An error in the middle of a stream that began with status 200."""
    if wire == "responses":
        event = {"type": "error", "code": reply.code or "server_error", "message": reply.error or "it broke"}
        return sse(event, "error")
    if wire == "anthropic":
        return sse(error_body(wire, 529, reply), "error")
    if wire == "ollama":
        return error_body(wire, 500, reply) + b"\n"
    return sse(error_body(wire, 500, reply))


# --- models


def models_page(wire: Wire, models: list[FakeModel], query: Mapping[str, str], page: int) -> bytes:
    """One page of the list of models, in the vendor's form."""
    match wire:
        case "anthropic":
            ids = [m.id for m in models]
            start = ids.index(query["after_id"]) + 1 if query.get("after_id") in ids else 0
            size = min(page or int(query.get("limit", 20)), 1000)
            data = [
                {
                    "type": "model",
                    "id": m.id,
                    "display_name": m.id.title(),
                    "created_at": "2026-01-01T00:00:00Z",
                }
                for m in models[start : start + size]
            ]
            last = data[-1]["id"] if data else None
            more = start + size < len(models)
            first = data[0]["id"] if data else None
            return _json({"data": data, "has_more": more, "first_id": first, "last_id": last})
        case "gemini":
            start = int(query.get("pageToken") or 0)
            size = page or int(query.get("pageSize", 50))
            listed: dict[str, object] = {
                "models": [
                    {
                        "name": f"models/{m.id}",
                        "displayName": m.id.title(),
                        "inputTokenLimit": m.context_window,
                        "outputTokenLimit": 4096,
                        "supportedGenerationMethods": ["generateContent"],
                    }
                    for m in models[start : start + size]
                ]
            }
            if start + size < len(models):
                listed["nextPageToken"] = str(start + size)
            return _json(listed)
        case "ollama":
            tags = [{"name": m.id, "model": m.id, "size": 1, "digest": "d", "details": {}} for m in models]
            return _json({"models": tags})
        case _:
            data = [{"id": m.id, "object": "model", "created": 1, "owned_by": "fake"} for m in models]
            return _json({"object": "list", "data": data})


def ollama_show(model: FakeModel) -> bytes:
    info = {"general.architecture": "fake", "fake.context_length": model.context_window}
    return _json({"model_info": info, "capabilities": list(model.capabilities), "details": {}})


def ollama_ps(models: list[FakeModel]) -> bytes:
    loaded = [
        {"name": m.id, "model": m.id, "size": 1, "size_vram": 1, "context_length": m.context_window}
        for m in models
        if m.loaded
    ]
    return _json({"models": loaded})
