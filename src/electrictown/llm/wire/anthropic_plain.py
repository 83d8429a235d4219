"""Anthropic's Messages API: a whole reply that is one text, by the rules of `plain`."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from electrictown.llm.billing import plausible
from electrictown.llm.messages import ChatResponse, Message, Text, Usage
from electrictown.llm.wire.plain import read_plain

__all__ = ["plain_anthropic"]


class _Block(Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text"]
    text: str
    citations: None = None


class _Written(Struct, gc=False):
    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class _Counts(Struct, gc=False):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_creation: _Written | None = None
    output_tokens_details: None = None
    iterations: None = None


class _Message(Struct, gc=False):
    type: Literal["message"]
    id: str
    model: str
    content: tuple[_Block]
    stop_reason: Literal["end_turn", "stop_sequence", "max_tokens"]
    usage: _Counts
    stop_details: None = None
    container: None = None
    error: None = None


_decode_message = msgspec.json.Decoder(_Message).decode
_NONE_WRITTEN = _Written()


def plain_anthropic(body: bytes, origin: str) -> ChatResponse | None:
    """The message in a body of Anthropic's, None where it is more than a text."""
    found = read_plain(_decode_message, body)
    if found is None or not (text := found.content[0].text):
        return None
    counts, stopped = found.usage, found.stop_reason
    written = counts.cache_creation or _NONE_WRITTEN
    hour, five = written.ephemeral_1h_input_tokens, written.ephemeral_5m_input_tokens
    return ChatResponse(
        message=Message("assistant", (Text(text),), origin),
        finish_reason="length" if stopped == "max_tokens" else "stop",
        stopped=stopped,
        usage=plausible(
            Usage(
                input=counts.input_tokens,
                cache_read=counts.cache_read_input_tokens or 0,
                cache_write=counts.cache_creation_input_tokens or (five if five < 0 else hour + five),
                output=counts.output_tokens,
                cache_write_1h=hour,
            )
        ),
        model=found.model,
        id=found.id,
        provider=origin,
    )
