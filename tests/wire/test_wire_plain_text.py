"""The quick way for plain text, whole or in pieces, gives what the whole decoder gives."""

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
from electrictown.llm.wire import (
    anthropic_plain,
    anthropic_stream,
    gemini_plain,
    gemini_reply,
    ollama_plain,
    ollama_reply,
    openai_plain,
    openai_reply,
)
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


_count = st.sampled_from([0, 3, 3, 3, None, "5", 2.5])
_word = st.sampled_from(["m", "m", "m", "", None, 7])


def counts(*names: str) -> st.SearchStrategy[dict[str, Json]]:
    """Usage that mostly tells the first two, and perhaps others."""
    return made(
        *(st.one_of(st.just({name: 4}), named(name, _count)) for name in names[:2]),
        *(st.one_of(st.just({}), named(name, _count)) for name in names[2:]),
    )


def among(*usual: dict[str, Json]) -> st.SearchStrategy[dict[str, Json]]:
    """Fields of a whole body: mostly `usual`, but now and then one is missing or says something else."""
    return made(
        *(st.one_of(st.just(f), st.just(f), st.just({}), *(named(k, _word) for k in f)) for f in usual)
    )


_openai_whole = made(
    among({"id": "i"}, {"model": "m"}),
    named(
        "choices",
        st.lists(
            made(
                named("message", _delta),
                among({"finish_reason": "stop"}, {"index": 0}),
                either("finish_reason", "length", "tool_calls", "content_filter"),
                either("delta", {"content": "d"}),
                either("error", {"code": 500, "message": "broken"}),
            ),
            min_size=1,
            max_size=2,
        ),
    ),
    st.one_of(
        named("usage", counts("prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens")),
        either("usage", _usage),
    ),
    either("x_groq", {"usage": _usage}),
    either("error", {"message": "broken", "code": 500}),
    either("message", "broken"),
)
_anthropic_whole = made(
    among({"type": "message"}, {"id": "i"}, {"model": "m"}),
    named(
        "content",
        st.lists(
            made(
                st.sampled_from(
                    [{"type": "text"}, {"type": "text"}, {}, {"type": "thinking", "thinking": "t"}]
                ),
                named("text", _text),
                either("citations", [{"x": 1}]),
                either("new", 1),
            ),
            max_size=2,
        ),
    ),
    named(
        "stop_reason",
        st.sampled_from(
            [
                *("end_turn", "end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"),
                *("model_context_window_exceeded", "new", None),
            ]
        ),
    ),
    named(
        "usage",
        made(
            counts(
                *("input_tokens", "output_tokens", "cache_read_input_tokens"), "cache_creation_input_tokens"
            ),
            either("cache_creation", {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 5}),
            either("output_tokens_details", {"thinking_tokens": 2}),
            either("iterations", [{"type": "compaction", "input_tokens": 9}]),
        ),
    ),
    either("stop_details", {"type": "refusal", "category": "cyber"}),
    either("container", {"id": "c"}),
    either("error", {"type": "api_error", "message": "broken"}),
)
_gemini_whole = made(
    _gemini,
    named("modelVersion", _word),
    named("responseId", _word),
    named(
        "candidates",
        st.lists(
            made(
                named(
                    "content", named("parts", st.lists(made(named("text", _text), either("thought", True))))
                ),
                named(
                    "finishReason", st.sampled_from(["STOP", "STOP", "MAX_TOKENS", "SAFETY", "OTHER", None])
                ),
                either("finishMessage", "because"),
                either("index", 1),
            ),
            min_size=1,
            max_size=2,
        ),
    ),
    st.one_of(
        st.just({}),
        named(
            "usageMetadata",
            counts(
                *("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
                *("cachedContentTokenCount", "toolUsePromptTokenCount"),
            ),
        ),
    ),
)
_ollama_whole = made(
    _ollama,
    named("model", _word),
    st.sampled_from([{"done": True}, {"done": True}, {"done": False}, {}]),
    named("done_reason", st.sampled_from(["stop", "stop", "length", "load", "new", "", None])),
    counts("prompt_eval_count", "eval_count"),
)
_WHOLE: dict[str, tuple[Wire, ModuleType, str, st.SearchStrategy[dict[str, Json]]]] = {
    "openai": (OpenAIWire("o"), openai_plain, "_decode_completion", _openai_whole),
    "anthropic": (AnthropicWire("a"), anthropic_plain, "_decode_message", _anthropic_whole),
    "gemini": (GeminiWire("g"), gemini_plain, "_decode_generated", _gemini_whole),
    "ollama": (OllamaWire("l"), ollama_plain, "_decode_chat", _ollama_whole),
}


def whole(wire: Wire, body: bytes) -> ChatResponse | tuple[type[ProviderError], str]:
    try:
        return wire.decode(body)
    except ProviderError as error:
        return type(error), error.message


@pytest.mark.parametrize("kind", _WHOLE)
@settings(max_examples=400)
@given(data=st.data())
def test_a_whole_text_is_read_alike_by_the_quick_and_the_whole_decoder(
    kind: str, data: st.DataObject
) -> None:
    wire, module, quick, bodies = _WHOLE[kind]
    body = json.dumps(data.draw(bodies)).encode()
    found = whole(wire, body)
    with patch.object(module, quick, refuse):
        assert found == whole(wire, body)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (
            "openai",
            {
                **{"id": "i", "model": "m", "usage": _usage},
                "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}],
            },
        ),
        (
            "anthropic",
            {
                **{"type": "message", "id": "i", "model": "m", "stop_reason": "end_turn"},
                "content": [{"type": "text", "text": "x"}],
                "usage": {"input_tokens": 1, "output_tokens": 2},
            },
        ),
        (
            "gemini",
            {
                "candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2},
            },
        ),
        (
            "ollama",
            {
                **{"model": "m", "message": {"content": "x"}, "done": True, "done_reason": "stop"},
                **{"prompt_eval_count": 1, "eval_count": 2},
            },
        ),
    ],
)
def test_a_usual_text_takes_the_quick_way(kind: str, body: Json) -> None:
    wire, module, quick, _ = _WHOLE[kind]
    read: list[bytes] = []
    decode = getattr(module, quick)

    def noted(payload: bytes) -> object:
        found = decode(payload)
        read.append(payload)
        return found

    with patch.object(module, quick, noted):
        assert wire.decode(json.dumps(body).encode()).text == "x"
    assert read
