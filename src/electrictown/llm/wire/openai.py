"""OpenAI's chat completions, as OpenAI and every compatible server speak it.

https://platform.openai.com/docs/api-reference/chat. Replies are read in `openai_reply`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from electrictown.errors import ProviderError
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Json,
    Message,
    Reasoning,
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
from electrictown.llm.wire.openai_plain import plain_openai
from electrictown.llm.wire.openai_reply import ChatStream, decode_body
from electrictown.llm.wire.parts import merged
from electrictown.llm.wire.streamed import decode_events

__all__ = ["OpenAIWire"]


class OpenAIWire:
    """Chat completions; `origin` (the provider entry's name) is stamped on every reply."""

    framing: Literal["sse", "ndjson"] = "sse"

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def encode(self, request: ChatRequest, *, stream: bool) -> HttpCall:
        """The HTTP call that asks `request`; its options are laid over the body."""
        return HttpCall("/chat/completions", encode_json(_body(request, stream=stream)))

    def decode(self, body: bytes) -> ChatResponse:
        """The reply in a complete body; see `Wire.decode`."""
        plain = plain_openai(body, self.origin)
        return plain or decode_events(body, self.decoder) or decode_body(body, self.origin)

    def decoder(self) -> ChatStream:
        """A new decoder for one stream."""
        return ChatStream(self.origin)

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The typed error of an answer with `status` >= 400 (`headers` keys in lower case)."""
        return http_error(status, headers, body)

    def list_models(self) -> HttpCall:
        """The call for the models; there is one page."""
        return models_call()

    def decode_models(self, body: bytes) -> ModelsPage:
        """The models on offer."""
        return decode_models(body)


def _body(request: ChatRequest, *, stream: bool) -> dict[str, Json]:
    body: dict[str, Json] = {"model": request.model, "messages": _messages(request.messages)}
    if stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}
    thinks = is_reasoning_model(request.model)
    if request.max_tokens is not None:
        body["max_completion_tokens" if thinks else "max_tokens"] = request.max_tokens
    if not thinks:  # these refuse any temperature but their own; `options` can still insist
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
    if request.stop:
        body["stop"] = request.stop
    if request.effort:
        body["reasoning_effort"] = request.effort
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {"name": t.name, "description": t.description, "parameters": t.parameters},
            }
            for t in request.tools
        ]
        if request.tool_choice in ("none", "required"):
            body["tool_choice"] = request.tool_choice
        elif request.tool_choice != "auto":
            body["tool_choice"] = {"type": "function", "function": {"name": request.tool_choice}}
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {
                "name": request.schema_name,
                "schema": request.schema,
                "strict": is_strict(request.schema),
            },
        }
    return merged(body, request.options)


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Json]]:
    last_user = next((i for i in range(len(messages) - 1, -1, -1) if messages[i].role == "user"), -1)
    sent: list[dict[str, Json]] = []
    for number, message in enumerate(messages):
        if message.role == "assistant":
            sent.append(_assistant(message, in_turn=number > last_user))
            continue
        if (text := message.plain) is not None and message.role != "tool":
            sent.append({"role": message.role, "content": text})
            continue
        results = [p for p in message.parts if isinstance(p, ToolResult)]
        sent += [{"role": "tool", "tool_call_id": _id(r.call_id, r.name), "content": r.text} for r in results]
        if message.role != "tool" and (message.text or not results):
            sent.append({"role": message.role, "content": message.text})
    return sent


def _assistant(message: Message, *, in_turn: bool) -> dict[str, Json]:
    calls = [_sent_call(c) for c in message.tool_calls]
    text = message.text
    sent: dict[str, Json] = {"role": "assistant", "content": text if text or not calls else None}
    for part in message.parts:
        if not isinstance(part, Reasoning) or not part.opaque:
            continue
        where = part.opaque.get("field")
        if details := part.opaque.get("reasoning_details"):
            sent["reasoning_details"] = details
        elif where == "content":
            thought = {"type": "thinking", "thinking": [{"type": "text", "text": part.text}]}
            sent["content"] = [thought, *([{"type": "text", "text": text}] if text else [])]
        elif where == "reasoning_content" and calls and in_turn:
            # DeepSeek and Moonshot want it back while a tool turn lasts, and only then.
            sent["reasoning_content"] = part.text
    if calls:
        sent["tool_calls"] = calls
    return sent


def _sent_call(call: ToolCall) -> dict[str, Json]:
    identity = _id(call.id, call.name)
    if call.opaque and call.opaque.get("type") == "custom":
        return {"id": identity, "type": "custom", "custom": {"name": call.name, "input": call.arguments}}
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    sent: dict[str, Json] = {"id": identity, "type": "function", "function": function}
    if call.opaque and (extra := call.opaque.get("extra_content")):
        sent["extra_content"] = extra
    return sent


def _id(given: str, name: str) -> str:
    """A call's id; where the server gave none, one that call and result can agree on."""
    return given or f"call_{name}"
