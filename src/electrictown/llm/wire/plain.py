"""Whole replies that are one text and nothing else, as most are: read in one step.

The types here name every field that the wires' own decoders look at, and ask that whatever would make
a reply more than its text be absent or null. A body that is anything more (calls, reasoning, an error, a
field of another type) fails to decode as one of them: then it is None, and is read at leisure. For a
plain text that takes three to five times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from electrictown.llm.messages import ChatResponse, Message, Text, Usage
from electrictown.llm.wire.common import disjoint_usage
from electrictown.llm.wire.openai_common import OpenAIUsage, finish_reason, read_usage

__all__ = ["PlainDelta", "plain_anthropic", "plain_gemini", "plain_ollama", "plain_openai"]

T = TypeVar("T", bound=Struct)


def _read(decode: Callable[[bytes], T], body: bytes) -> T | None:
    try:
        return decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


# --- chat completions


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
    found = _read(_decode_completion, body)
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


# --- Anthropic


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
    found = _read(_decode_message, body)
    if found is None or not (text := found.content[0].text):
        return None
    counts, stopped = found.usage, found.stop_reason
    written = counts.cache_creation or _NONE_WRITTEN
    hour = written.ephemeral_1h_input_tokens
    return ChatResponse(
        message=Message("assistant", (Text(text),), origin),
        finish_reason="length" if stopped == "max_tokens" else "stop",
        stopped=stopped,
        usage=Usage(
            input=counts.input_tokens,
            cache_read=counts.cache_read_input_tokens or 0,
            cache_write=counts.cache_creation_input_tokens or hour + written.ephemeral_5m_input_tokens,
            output=counts.output_tokens,
            cache_write_1h=hour,
        ),
        model=found.model,
        id=found.id,
        provider=origin,
    )


# --- Gemini


class _TextPart(Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _Content(Struct, gc=False):
    parts: tuple[_TextPart]


class _Candidate(Struct, gc=False):
    content: _Content
    finishReason: Literal["STOP", "MAX_TOKENS"]
    index: Literal[0] | None = None


class _Tokens(Struct, gc=False):
    promptTokenCount: int
    candidatesTokenCount: int
    thoughtsTokenCount: int = 0
    cachedContentTokenCount: int = 0
    toolUsePromptTokenCount: int = 0


class _Generated(Struct, gc=False):
    candidates: tuple[_Candidate]
    usageMetadata: _Tokens
    modelVersion: str = ""
    responseId: str = ""
    promptFeedback: None = None
    error: None = None


_decode_generated = msgspec.json.Decoder(_Generated).decode


def plain_gemini(body: bytes, origin: str) -> ChatResponse | None:
    """The reply in a body of Gemini's, None where it is more than a text."""
    found = _read(_decode_generated, body)
    if found is None or not (text := found.candidates[0].content.parts[0].text):
        return None
    tokens, stopped = found.usageMetadata, found.candidates[0].finishReason
    if not tokens.candidatesTokenCount:  # a text without a token: these are no counts
        return None
    return ChatResponse(
        message=Message("assistant", (Text(text),), origin),
        finish_reason="length" if stopped == "MAX_TOKENS" else "stop",
        stopped=stopped,
        usage=disjoint_usage(
            prompt=tokens.promptTokenCount + tokens.toolUsePromptTokenCount,
            cache_read=tokens.cachedContentTokenCount,
            output=tokens.candidatesTokenCount + tokens.thoughtsTokenCount,
            reasoning=tokens.thoughtsTokenCount,
        ),
        model=found.modelVersion,
        id=found.responseId,
        provider=origin,
    )


# --- Ollama


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
    found = _read(_decode_chat, body)
    if found is None or not found.done or not (text := found.message.content):
        return None
    return ChatResponse(
        message=Message("assistant", (Text(text),), origin),
        finish_reason=found.done_reason,
        stopped=found.done_reason,
        usage=Usage(input=found.prompt_eval_count, output=found.eval_count),
        model=found.model,
        provider=origin,
    )
