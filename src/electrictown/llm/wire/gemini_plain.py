"""Google's Gemini API: a whole reply that is one text, by the rules of `plain`."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from electrictown.llm.messages import ChatResponse, Message, Text
from electrictown.llm.wire.common import disjoint_usage
from electrictown.llm.wire.plain import read_plain

__all__ = ["plain_gemini"]


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
    found = read_plain(_decode_generated, body)
    if found is None or not (text := found.candidates[0].content.parts[0].text):
        return None
    tokens, stopped = found.usageMetadata, found.candidates[0].finishReason
    if (
        not tokens.candidatesTokenCount or tokens.toolUsePromptTokenCount < 0
    ):  # a text without a token: these are no counts
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
