"""Ollama's native API: a whole reply that is one text, by the rules of `plain`."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from electrictown.llm.billing import plausible
from electrictown.llm.messages import ChatResponse, Message, Text, Usage
from electrictown.llm.wire.plain import read_plain

__all__ = ["plain_ollama"]


class _Said(Struct, gc=False):
    content: str
    thinking: Literal[""] | None = None
    tool_calls: None = None


class _Chat(Struct, gc=False):
    model: str
    message: _Said
    done: bool
    done_reason: Literal["stop", "length"]
    prompt_eval_count: int
    eval_count: int
    error: None = None


_decode_chat = msgspec.json.Decoder(_Chat).decode


def plain_ollama(body: bytes, origin: str) -> ChatResponse | None:
    """The reply in a body of Ollama's, None where it is more than a text."""
    found = read_plain(_decode_chat, body)
    if found is None or not found.done or not (text := found.message.content):
        return None
    return ChatResponse(
        message=Message("assistant", (Text(text),), origin),
        finish_reason=found.done_reason,
        stopped=found.done_reason,
        usage=plausible(Usage(input=found.prompt_eval_count, output=found.eval_count)),
        model=found.model,
        provider=origin,
    )
