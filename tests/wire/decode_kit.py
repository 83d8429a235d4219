"""Records as `et debug decode` takes them, made of a few lines."""

from __future__ import annotations

import json
from typing import Any

from electrictown.llm.exchange import decode_exchange
from electrictown.llm.messages import Json

Record = dict[str, Any]

PATHS = {
    "chat": ("openai", "/v1/chat/completions"),
    "responses": ("openai", "/v1/responses"),
    "messages": ("anthropic", "/v1/messages"),
    "gemini": ("gemini", "/v1beta/models/g:generateContent"),
    "ollama": ("ollama", "/api/chat"),
}


def record(
    kind: str, body: Json, *, status: int = 200, headers: dict[str, str] | None = None, stream: bool = False
) -> Record:
    """An exchange of the protocol `kind`; text is a body as it came, all else is JSON."""
    provider, path = PATHS[kind]
    return {
        "provider": provider,
        "api": kind,
        "path": path,
        "status": status,
        "stream": stream,
        "response_headers": headers or {},
        "response_body": None if isinstance(body, str) else body,
        "response_text": body if isinstance(body, str) else None,
    }


def streamed(kind: str, *events: Json, end: str = "") -> Record:
    """A stream of the protocol `kind`: events that are no text are sent as JSON."""
    texts = [e if isinstance(e, str) else json.dumps(e) for e in events]
    body = "".join(f"{t}\n" if kind == "ollama" else f"data: {t}\n\n" for t in texts) + end
    return record(kind, body, stream=True)


def decoded(found: Record) -> Record:
    """What `et debug decode` prints, which must be JSON."""
    answer = decode_exchange(found)
    json.dumps(answer)
    return answer


def buckets(into: int, read: int, write: int, output: int, reasoning: int) -> dict[str, int]:
    return {
        "input": into,
        "cache_read": read,
        "cache_write": write,
        "output": output,
        "reasoning": reasoning,
    }


def calls(found: Record) -> list[tuple[str, Any]]:
    """Name and arguments of each call."""
    return [(c["name"], c["arguments"]) for c in decoded(found)["tool_calls"]]


# --- chat completions


def chat(message: Record, finish: str | None = "stop", **more: Json) -> Record:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "c", "model": "m", "choices": [choice], **more}


def delta(found: Record | None, finish: str | None = None, **more: Json) -> Record:
    choice = {"index": 0, "delta": found, "finish_reason": finish}
    return {"id": "c", "model": "m", "choices": [choice], **more}


def piece(arguments: Json = None, *, name: str | None = None, **more: Json) -> Record:
    return {**more, "function": {"name": name, "arguments": arguments}}


def call_stream(*deltas: list[Record]) -> Record:
    """A stream of deltas that each hold these pieces of calls."""
    events = [delta({"tool_calls": pieces}) for pieces in deltas]
    return streamed("chat", *events, delta({}, "tool_calls"), "[DONE]")


# --- messages

START: Record = {
    "type": "message_start",
    "message": {
        "id": "m",
        "model": "claude",
        "content": [],
        "usage": {"input_tokens": 5, "output_tokens": 1},
    },
}
STOP: Record = {"type": "message_stop"}


def begin(index: int, **block: Json) -> Record:
    return {"type": "content_block_start", "index": index, "content_block": block}


def grow(index: int, **found: Json) -> Record:
    return {"type": "content_block_delta", "index": index, "delta": found}


def done(index: int) -> Record:
    return {"type": "content_block_stop", "index": index}


def ending(word: str, **usage: Json) -> Record:
    return {"type": "message_delta", "delta": {"stop_reason": word}, "usage": usage or {"output_tokens": 9}}


def message(*blocks: Record, stop: str = "end_turn", usage: Record | None = None) -> Record:
    counted = {"input_tokens": 5, "output_tokens": 2} if usage is None else usage
    return {"id": "m", "model": "claude", "content": list(blocks), "stop_reason": stop, "usage": counted}


# --- Gemini


def gemini(*parts: Record, finish: str | None = "STOP", **more: Json) -> Record:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}
    return {"candidates": [candidate], "modelVersion": "g", **more}


# --- responses


def response(*output: Json, status: str = "completed", **more: Json) -> Record:
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 2},
    }
    return {
        "object": "response",
        "model": "m",
        "status": status,
        "output": list(output),
        "usage": usage,
        **more,
    }


def said(text: str) -> Record:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def called(identity: str, name: str, arguments: str) -> Record:
    return {
        "type": "function_call",
        "id": f"fc_{identity}",
        "call_id": identity,
        "name": name,
        "arguments": arguments,
    }
