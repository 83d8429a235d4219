"""Chat completions: a whole reply that is one text, by the rules of `plain`."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from electrictown.llm.messages import ChatResponse, Message, Text
from electrictown.llm.wire.openai_common import OpenAIUsage, finish_reason, read_usage
from electrictown.llm.wire.plain import read_plain

__all__ = ["PlainDelta", "plain_openai"]


class PlainDelta(Struct, gc=False):
    """A message, or a delta of one, with text alone."""

    content: str
    reasoning_content: None = None
    reasoning: None = None
    reasoning_details: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    annotations: None = None
    executed_tools: None = None
    audio: None = None


class _Choice(Struct, gc=False):
    message: PlainDelta
    finish_reason: str
    index: Literal[0] | None = None
    delta: None = None
    error: None = None


class _Completion(Struct, gc=False):
    id: str
    model: str
    choices: tuple[_Choice]
    usage: OpenAIUsage
    error: None = None
    x_groq: None = None


_decode_completion = msgspec.json.Decoder(_Completion).decode


def plain_openai(body: bytes, origin: str) -> ChatResponse | None:
    """The reply in a body of chat completions, None where it is more than a text."""
    found = read_plain(_decode_completion, body)
    if found is None or not (text := found.choices[0].message.content):
        return None
    stopped = found.choices[0].finish_reason
    return ChatResponse(
        message=Message("assistant", (Text(text),), origin),
        finish_reason=finish_reason(stopped, calls=False),
        stopped=stopped,
        usage=read_usage(found.usage),
        model=found.model,
        id=found.id,
        provider=origin,
    )
