"""The quick way for plain pieces of text gives what the whole decoder gives, whatever stands around them."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electrictown.errors import ProviderError
from electrictown.llm.messages import ChatResponse, Chunk, Json
from electrictown.llm.wire import anthropic_stream, gemini_reply, ollama_reply, openai_reply
from electrictown.llm.wire.anthropic import AnthropicWire
from electrictown.llm.wire.base import Wire
from electrictown.llm.wire.gemini import GeminiWire
from electrictown.llm.wire.ollama import OllamaWire
from electrictown.llm.wire.openai import OpenAIWire

_NOTHING: list[Json] = [None, "", [], {}, 0, False]
_text = st.sampled_from(["a", "", "é", None, 7, ["b"], [{"type": "text", "text": "c"}]])


def either(name: str, *values: Json) -> st.SearchStrategy[dict[str, Json]]:
    """A field that is mostly absent or holds nothing, and sometimes one of `values`."""
    held = st.sampled_from([*_NOTHING, *values]).map(lambda value: {name: value})
    return st.one_of(st.just({}), st.just({}), held)


def made(*fields: st.SearchStrategy[dict[str, Json]]) -> st.SearchStrategy[dict[str, Json]]:
    """An object of these fields."""
    return st.tuples(*fields).map(lambda found: {k: v for one in found for k, v in one.items()})


def named(name: str, value: st.SearchStrategy[Json]) -> st.SearchStrategy[dict[str, Json]]:
    return value.map(lambda held: {name: held})


_call = {"index": 0, "id": "i", "function": {"name": "f", "arguments": "{}"}}
_delta = made(
    named("content", _text),
    either("role", "assistant"),
    either("reasoning", "r"),
    either("reasoning_content", "r"),
    either("reasoning_details", [{"type": "reasoning.text", "text": "d"}]),
    either("refusal", "no"),
    either("tool_calls", [_call]),
    either("function_call", {"name": "g", "arguments": "{}"}),
    either("annotations", [{"type": "url"}]),
    either("executed_tools", [{"type": "t"}]),
    either("audio", {"id": "s"}),
)
_choice = made(
    named("delta", _delta),
    either("index", 1),
    either("finish_reason", "stop"),
    either("error", {"code": 500}),
)
_usage = {"prompt_tokens": 3, "completion_tokens": 4}
_openai = made(
    named("choices", st.lists(_choice, max_size=2)),
    either("id", "late"),
    either("usage", _usage),
    either("x_groq", {"usage": _usage}),
    either("error", {"message": "broken", "code": 500}),
    either("message", "broken"),
)
_anthropic = made(
    st.sampled_from([{"type": "content_block_delta"}, {"type": "ping"}, {}, {"type": "content_block_stop"}]),
    either("index", 1),
    named(
        "delta",
        made(
            either("type", "text_delta", "thinking_delta", "new"),
            st.just({"type": "text_delta"}),
            named("text", _text),
            either("citations", [{"x": 1}]),
        ),
    ),
)
_gemini = made(
    named(
        "candidates",
        st.lists(
            made(
                named(
                    "content",
                    named(
                        "parts",
                        st.lists(
                            made(
                                named("text", _text),
                                either("thought", True),
                                either("thoughtSignature", "s"),
                                either("functionCall", {"name": "f", "args": {"a": 1}}),
                            ),
                            max_size=2,
                        ),
                    ),
                ),
                either("index", 1),
                either("finishReason", "STOP"),
            ),
            max_size=2,
        ),
    ),
    either("usageMetadata", {"promptTokenCount": 3, "candidatesTokenCount": 4}),
    either("error", {"code": 500, "message": "broken"}),
    either("promptFeedback", {"blockReason": "SAFETY"}),
)
_ollama = made(
    named(
        "message",
        made(
            named("content", _text),
            either("thinking", "t"),
            either("tool_calls", [{"function": {"name": "f", "arguments": {"a": 1}}}]),
        ),
    ),
    either("done", True),
    either("error", "broken"),
)

_Case = tuple[Wire, ModuleType, str, list[Json], st.SearchStrategy[dict[str, Json]]]
_CASES: dict[str, _Case] = {
    "openai": (
        OpenAIWire("o"),
        openai_reply,
        "_decode_plain",
        [{"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}],
        _openai,
    ),
    "anthropic": (
        AnthropicWire("a"),
        anthropic_stream,
        "_decode_text",
        [
            {"type": "message_start", "message": {"id": "1", "model": "m", "usage": {"input_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        ],
        _anthropic,
    ),
    "gemini": (
        GeminiWire("g"),
        gemini_reply,
        "_decode_plain",
        [{"responseId": "1", "candidates": [{"content": {"parts": [{"text": "x"}]}}]}],
        _gemini,
    ),
    "ollama": (
        OllamaWire("l"),
        ollama_reply,
        "_decode_line",
        [{"model": "m", "message": {"content": "x"}, "done": False}],
        _ollama,
    ),
}


def outcome(wire: Wire, payloads: list[bytes], *, at_once: bool) -> tuple[list[Chunk], ChatResponse, Any]:
    """The chunks of a stream, its reply as far as it came, and the error that ended it."""
    decoder = wire.decoder()
    out: list[Chunk] = []
    try:
        if at_once:
            decoder.feed_all(payloads, out)
        else:
            for payload in payloads:
                decoder.feed(payload, out)
    except ProviderError as error:
        return out, decoder.partial(), (type(error), error.message)
    return out, decoder.partial(), None


def refuse(payload: bytes) -> object:
    raise msgspec.DecodeError("not plain")


@pytest.mark.parametrize("kind", _CASES)
@settings(max_examples=200)
@given(data=st.data())
def test_a_piece_of_text_is_read_alike_by_the_quick_and_the_whole_decoder(
    kind: str, data: st.DataObject
) -> None:
    wire, module, quick, begin, events = _CASES[kind]
    payloads = [json.dumps(event).encode() for event in begin + data.draw(st.lists(events, max_size=4))]
    found = outcome(wire, payloads, at_once=True)
    assert found == outcome(wire, payloads, at_once=False)
    with patch.object(module, quick, refuse):
        assert found == outcome(wire, payloads, at_once=True)
