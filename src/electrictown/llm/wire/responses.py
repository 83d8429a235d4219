"""OpenAI's responses API, stateless: nothing is stored there, and its reasoning travels encrypted.

https://platform.openai.com/docs/api-reference/responses. Replies are read in `responses_reply`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from electrictown.errors import ProviderError
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Json,
    Message,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolResult,
)
from electrictown.llm.wire.base import HttpCall, ModelsPage
from electrictown.llm.wire.common import encode_json
from electrictown.llm.wire.openai_common import (
    decode_models,
    http_error,
    is_reasoning_model,
    is_strict,
    models_call,
)
from electrictown.llm.wire.parts import merged
from electrictown.llm.wire.responses_reply import ResponsesStream, decode_response
from electrictown.llm.wire.streamed import decode_events

__all__ = ["ResponsesWire"]


class ResponsesWire:
    """The responses API; `origin` (the provider entry's name) is stamped on every reply."""

    framing: Literal["sse", "ndjson"] = "sse"

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def encode(self, request: ChatRequest, *, stream: bool) -> HttpCall:
        """The HTTP call that asks `request`; its options are laid over the body.

        Stop sequences are left out: the API has none.
        """
        return HttpCall("/responses", encode_json(_body(request, stream=stream)))

    def decode(self, body: bytes) -> ChatResponse:
        """The reply in a complete body; see `Wire.decode`."""
        return decode_events(body, self.decoder) or decode_response(body, self.origin)

    def decoder(self) -> ResponsesStream:
        """A new decoder for one stream."""
        return ResponsesStream(self.origin)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The typed error of an answer with `status` >= 400 (`headers` keys in lower case)."""
        return http_error(status, headers, body)

    def list_models(self) -> HttpCall:
        """The call for the models; there is one page."""
        return models_call()

    def decode_models(self, body: bytes) -> ModelsPage:
        """The models on offer."""
        return decode_models(body)


# These refuse to be asked for encrypted reasoning, having none.
_NO_REASONING = re.compile(r"(?:^|/)(?:gpt-[34]|chatgpt|gpt-\d+(?:\.\d+)?-chat)", re.I)


def _body(request: ChatRequest, *, stream: bool) -> dict[str, Json]:
    # Instructions alone are no input: then they are sent as one.
    first = next((i for i, m in enumerate(request.messages) if m.role != "system"), 0)
    body: dict[str, Json] = {"model": request.model, "store": False}
    if first:
        body["instructions"] = "\n\n".join(m.text for m in request.messages[:first])
    body["input"] = _input(request.messages[first:])
    if not _NO_REASONING.search(request.model):
        body["include"] = ["reasoning.encrypted_content"]
    if stream:
        body["stream"] = True
    if request.max_tokens is not None:
        body["max_output_tokens"] = request.max_tokens
    if not is_reasoning_model(request.model):  # these refuse any temperature but their own
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
    if request.effort:
        body["reasoning"] = {"effort": request.effort}
    if request.tools:
        _offer(body, request)
    if request.schema is not None:
        body["text"] = {
            "format": {
                "type": "json_schema",
                "name": request.schema_name,
                "schema": request.schema,
                "strict": is_strict(request.schema),
            }
        }
    return merged(body, request.options)


def _offer(body: dict[str, Json], request: ChatRequest) -> None:
    body["tools"] = [
        {
            "type": "function",
            "name": t.name,
            "description": t.description,
            "parameters": t.parameters,
            "strict": False,  # the default, true, refuses schemas that do not keep its rules
        }
        for t in request.tools
    ]
    if request.tool_choice in ("none", "required"):
        body["tool_choice"] = request.tool_choice
    elif request.tool_choice != "auto":
        body["tool_choice"] = {"type": "function", "name": request.tool_choice}


def _input(messages: tuple[Message, ...]) -> list[Json]:
    custom = {
        c.id
        for m in messages
        for c in m.tool_calls
        if c.opaque and c.opaque.get("type") == "custom_tool_call"
    }
    return [item for m in messages for item in (_said(m) if m.role == "assistant" else _told(m, custom))]


def _told(message: Message, custom: set[str]) -> list[Json]:
    """The items of what is said to the model: results of its calls, then text."""
    results = [p for p in message.parts if isinstance(p, ToolResult)]
    items: list[Json] = [
        {
            "type": "custom_tool_call_output" if r.call_id in custom else "function_call_output",
            "call_id": _id(r.call_id, r.name),
            "output": r.text,
        }
        for r in results
    ]
    if message.role != "tool" and (message.text or not results):
        items.append({"role": message.role, "content": message.text})
    return items


def _said(message: Message) -> list[Json]:
    """The items of an earlier reply, in their order: a reasoning item must stand before what it led to."""
    items: list[Json] = []
    for part in message.parts:
        if isinstance(part, Text):
            if part.text:
                items.append(_text(part))
        elif isinstance(part, ToolCall):
            items.append(_call(part))
        elif isinstance(part, Opaque):
            items.append(part.data)
        elif isinstance(part, Reasoning) and part.opaque and part.opaque.get("encrypted_content"):
            # Without its cipher text a reasoning item means one that was stored, and none was.
            items.append(part.opaque)
    return items


def _text(part: Text) -> dict[str, Json]:
    item: dict[str, Json] = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": part.text}],
    }
    if part.opaque and "phase" in part.opaque:
        item["phase"] = part.opaque["phase"]
    return item


def _call(call: ToolCall) -> dict[str, Json]:
    extra = call.opaque or {}
    if extra.get("type") == "custom_tool_call":
        return {**extra, "call_id": call.id, "name": call.name, "input": call.arguments}
    return {
        **extra,
        "type": "function_call",
        "call_id": _id(call.id, call.name),
        "name": call.name,
        "arguments": call.arguments or "{}",
    }


def _id(given: str, name: str) -> str:
    """A call's id; where the server gave none, one that call and result can agree on."""
    return given or f"call_{name}"
