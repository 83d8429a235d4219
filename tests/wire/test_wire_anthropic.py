from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from msgspec.structs import replace
from vendor_cases import (
    FULL,
    PARALLEL,
    PLAIN,
    SCHEMA,
    WEATHER,
    assert_chunks_make_the_reply,
    assert_cuts_change_nothing,
    assert_survived,
    damaged,
    exchanges,
    prefixes,
    replay,
    reply,
    sent,
    small,
    sse,
    stream,
)

from electrictown.errors import (
    AuthError,
    BadReplyError,
    BadRequestError,
    ContextWindowError,
    IncompleteReplyError,
    ModelNotFoundError,
    OverloadedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Message,
    Opaque,
    Reasoning,
    Reset,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
    system,
    user,
)
from electrictown.llm.wire.anthropic import AnthropicWire, generation
from electrictown.llm.wire.parts import strict_schema

WIRE = AnthropicWire("claude")
RECORDED = exchanges("anthropic-messages")
STREAMS = exchanges("anthropic-messages-stream-200")
WHOLE = exchanges("anthropic-messages-json-200")


# --- requests


def test_a_plain_request() -> None:
    call = WIRE.encode(PLAIN, stream=True)
    assert (call.method, call.path, call.headers) == snapshot(
        ("POST", "/v1/messages", {"anthropic-version": "2023-06-01"})
    )
    assert json.loads(call.body) == snapshot(
        {
            "model": "m",
            "max_tokens": 8192,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
            "stream": True,
        }
    )


def test_system_prompt_and_sampling_go_where_the_vendor_wants_them() -> None:
    assert sent(WIRE, FULL) == snapshot(
        {
            "model": "m",
            "max_tokens": 100,
            "system": "Be brief.",
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "hello"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "hi"}]},
                {"role": "user", "content": [{"type": "text", "text": "and now?"}]},
            ],
            "temperature": 0.5,
            "top_p": 0.9,
            "stop_sequences": ["END"],
            "stream": False,
        }
    )


def test_parallel_results_stand_in_one_turn_after_the_calls() -> None:
    assert sent(WIRE, PARALLEL) == snapshot(
        {
            "model": "m",
            "max_tokens": 8192,
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Paris and Rome?"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "Looking."},
                        {
                            "type": "tool_use",
                            "id": "call_0",
                            "name": "get_weather",
                            "input": {"city": "Paris"},
                        },
                        {
                            "type": "tool_use",
                            "id": "call_1",
                            "name": "get_weather",
                            "input": {"city": "Rome"},
                        },
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "call_0", "content": "sunny"},
                        {
                            "type": "tool_result",
                            "tool_use_id": "call_1",
                            "content": "no such city",
                            "is_error": True,
                        },
                        {"type": "text", "text": "Well?"},
                    ],
                },
            ],
            "tools": [
                {
                    "name": "get_weather",
                    "description": "The weather in a city",
                    "input_schema": {
                        "type": "object",
                        "properties": {"city": {"type": "string"}},
                        "required": ["city"],
                    },
                }
            ],
            "stream": False,
        }
    )


def test_temperature_is_sent_only_when_asked() -> None:
    assert "temperature" not in sent(WIRE, PLAIN)
    assert "top_p" not in sent(WIRE, PLAIN)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", None),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ("get_weather", {"type": "tool", "name": "get_weather"}),
    ],
)
def test_tool_choice(choice: str, expected: dict[str, str] | None) -> None:
    body = sent(WIRE, replace(PARALLEL, tool_choice=choice))
    assert body.get("tool_choice") == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-3-opus-20240229", 4096),
        ("claude-3-5-haiku-latest", 8192),
        ("claude-sonnet-4-20250514", 16_000),
        ("claude-opus-4-8", 16_000),
        ("qwen3", 8192),
    ],
)
def test_max_tokens_is_always_sent(model: str, expected: int) -> None:
    assert sent(WIRE, replace(PLAIN, model=model))["max_tokens"] == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("claude-3-opus-20240229", (3, 0)),
        ("claude-3-5-sonnet-20241022", (3, 5)),
        ("claude-sonnet-4-20250514", (4, 0)),
        ("claude-opus-4-1-20250805", (4, 1)),
        ("anthropic/claude-sonnet-4.5", (4, 5)),
        ("claude-4.6-opus", (4, 6)),
        ("claude-fable-5", (5, 0)),
        ("claude-mythos-preview", (99, 0)),
        ("glm-4.6", None),
    ],
)
def test_generation_is_read_from_the_name(model: str, expected: tuple[int, int] | None) -> None:
    assert generation(model) == expected


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "output_config"),
    [
        ("claude-3-opus-20240229", "high", None, None),
        ("claude-sonnet-4-5", "low", {"type": "enabled", "budget_tokens": 4096}, None),
        ("claude-sonnet-4-5", "none", None, None),
        ("claude-opus-4-8", "medium", {"type": "adaptive"}, {"effort": "medium"}),
        ("claude-opus-4-8", "minimal", {"type": "adaptive"}, {"effort": "low"}),
        ("claude-opus-4-8", "none", {"type": "disabled"}, None),
        ("qwen3", "high", {"type": "enabled", "budget_tokens": 4096}, None),
    ],
)
def test_thinking_follows_effort_and_model(
    model: str, effort: str, thinking: dict[str, Any] | None, output_config: dict[str, Any] | None
) -> None:
    body = sent(WIRE, replace(PLAIN, model=model, effort=effort))
    assert body.get("thinking") == thinking
    assert body.get("output_config") == output_config
    if thinking and "budget_tokens" in thinking:
        assert thinking["budget_tokens"] < body["max_tokens"]


def test_a_budget_too_small_for_thinking_means_none() -> None:
    assert "thinking" not in sent(
        WIRE, replace(PLAIN, model="claude-sonnet-4-5", effort="high", max_tokens=500)
    )


def test_thinking_wins_over_temperature_and_a_forced_tool_over_thinking() -> None:
    asked = replace(PARALLEL, model="claude-opus-4-8", effort="high", temperature=0.2, top_p=0.5)
    body = sent(WIRE, asked)
    assert body["thinking"] == {"type": "adaptive"}
    assert not {"temperature", "top_p"} & set(body)
    forced = sent(WIRE, replace(asked, tool_choice="required"))
    assert "thinking" not in forced
    assert forced["temperature"] == 0.2


def test_a_schema_is_constrained_decoding_where_the_model_has_it() -> None:
    body = sent(WIRE, replace(PLAIN, model="claude-sonnet-4-5", schema=SCHEMA))
    assert body["output_config"] == snapshot(
        {
            "format": {
                "type": "json_schema",
                "schema": {
                    "type": "object",
                    "properties": {"n": {"type": "integer"}},
                    "required": ["n"],
                    "additionalProperties": False,
                },
            }
        }
    )
    assert "tools" not in body


@pytest.mark.parametrize("model", ["claude-sonnet-4-20250514", "llama-3"])
def test_a_schema_is_a_forced_tool_elsewhere(model: str) -> None:
    body = sent(WIRE, replace(PLAIN, model=model, schema=SCHEMA))
    assert body["tools"] == snapshot(
        [
            {
                "name": "give_structured_reply",
                "description": "Gives the reply.",
                "input_schema": {
                    "type": "object",
                    "properties": {"n": {"type": "integer", "minimum": 1}},
                    "required": ["n"],
                },
            }
        ]
    )
    assert body["tool_choice"] == snapshot({"type": "tool", "name": "give_structured_reply"})


def test_a_schema_beside_tools_leaves_the_choice_between_them() -> None:
    body = sent(WIRE, replace(PARALLEL, schema=SCHEMA))
    assert [t["name"] for t in body["tools"]] == ["get_weather", "give_structured_reply"]
    assert body["tool_choice"] == {"type": "any"}


def test_a_schema_with_free_keys_is_a_forced_tool_even_on_a_new_model() -> None:
    free = {"type": "object", "properties": {"m": {"type": "object"}}}
    body = sent(WIRE, replace(PLAIN, model="claude-opus-4-8", schema=free))
    assert body["tools"][0]["input_schema"] == free


def test_the_forced_tools_input_is_the_replys_text() -> None:
    block = {"type": "tool_use", "id": "t", "name": "give_structured_reply", "input": {"n": 3}}
    body = {"type": "message", "content": [block], "stop_reason": "tool_use", "usage": {"output_tokens": 1}}
    response = WIRE.decode(json.dumps(body).encode())
    assert (response.text, response.finish_reason, response.tool_calls) == ('{"n": 3}', "stop", ())
    chunks = stream(
        WIRE,
        sse(
            START,
            {"type": "content_block_start", "index": 0, "content_block": {**block, "input": {}}},
            _json(0, '{"n"'),
            _json(0, ": 3}"),
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
            STOP,
        ),
    )
    assert [c.text for c in chunks if isinstance(c, TextDelta)] == ['{"n"', ": 3}"]
    assert_chunks_make_the_reply(chunks)


THOUGHT = Reasoning("hm", {"signature": "sig=="})
REDACTED = Opaque({"type": "redacted_thinking", "data": "xyz"})
CALL = ToolCall("toolu_1", "get_weather", '{"city":"Paris"}')


def _turn(origin: str) -> ChatRequest:
    return replace(
        PLAIN,
        messages=(
            user("?"),
            Message("assistant", (THOUGHT, REDACTED, CALL), origin),
            Message("tool", (ToolResult("toolu_1", "get_weather", "sunny"),)),
        ),
        tools=(WEATHER,),
    )


def test_thinking_goes_back_unmodified_within_a_tool_turn() -> None:
    assert sent(WIRE, _turn("claude"))["messages"][1]["content"] == snapshot(
        [
            {"type": "thinking", "thinking": "hm", "signature": "sig=="},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Paris"}},
        ]
    )


def test_what_another_provider_thought_is_not_sent() -> None:
    blocks = sent(WIRE, _turn("other"))["messages"][1]["content"]
    assert [b["type"] for b in blocks] == ["tool_use"]


def test_thinking_without_a_signature_is_not_sent() -> None:
    message = Message("assistant", (Reasoning("hm"), Text("ok")))
    body = sent(WIRE, replace(PLAIN, messages=(user("?"), message, user("!"))))
    assert body["messages"][1]["content"] == [{"type": "text", "text": "ok"}]


def test_ids_used_twice_or_with_odd_letters_are_made_unique_and_plain() -> None:
    def round_trip(call_id: str) -> tuple[Message, Message]:
        return (
            Message("assistant", (ToolCall(call_id, "f", "{}"),)),
            Message("tool", (ToolResult(call_id, "f", "x"),)),
        )

    messages = (user("?"), *round_trip("call_0"), *round_trip("call_0"), *round_trip("a|b:c"))
    body = sent(WIRE, replace(PLAIN, messages=messages))
    pairs = [(t["content"][0].get("id"), t["content"][0].get("tool_use_id")) for t in body["messages"][1:]]
    assert pairs == snapshot(
        [
            ("call_0", None),
            (None, "call_0"),
            ("call_0_2", None),
            (None, "call_0_2"),
            ("a_b_c", None),
            (None, "a_b_c"),
        ]
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ('{"a": 1}', {"a": 1}),
        ("[1]", {"value": [1]}),
        ('{"a": ', {"invalid_arguments": '{"a": '}),
    ],
)
def test_arguments_become_an_object_whatever_the_model_wrote(
    arguments: str, expected: dict[str, Any]
) -> None:
    message = Message("assistant", (ToolCall("c", "f", arguments),))
    body = sent(WIRE, replace(PLAIN, messages=(user("?"), message)))
    assert body["messages"][1]["content"][0]["input"] == expected


def test_options_are_merged_last() -> None:
    asked = replace(
        PLAIN,
        model="claude-opus-4-8",
        effort="low",
        options={"metadata": {"user_id": "u"}, "output_config": {"task_budget": 1}, "max_tokens": 7},
    )
    body = sent(WIRE, asked)
    assert body["output_config"] == {"effort": "low", "task_budget": 1}
    assert (body["metadata"], body["max_tokens"]) == ({"user_id": "u"}, 7)


def test_a_request_is_never_changed() -> None:
    long = replace(PARALLEL, messages=(system("x" * 20_000), *PARALLEL.messages))
    before = repr(long)
    WIRE.encode(long, stream=False)
    assert repr(long) == before


EPHEMERAL = {"type": "ephemeral"}


def test_long_prompts_get_cache_breakpoints_and_short_ones_none() -> None:
    long = replace(PARALLEL, messages=(system("x" * 20_000), *PARALLEL.messages))
    body = sent(WIRE, long)
    assert body["system"][0]["cache_control"] == EPHEMERAL
    assert body["messages"][-1]["content"][-1] == {
        "type": "text",
        "text": "Well?",
        "cache_control": EPHEMERAL,
    }
    assert "cache_control" not in json.dumps(sent(WIRE, PARALLEL))
    assert "cache_control" not in json.dumps(sent(AnthropicWire("claude", cache=False), long))


def test_without_a_system_prompt_the_last_tool_carries_the_breakpoint() -> None:
    big = replace(WEATHER, description="x" * 20_000)
    body = sent(WIRE, replace(PLAIN, tools=(WEATHER, big)))
    assert [t.get("cache_control") for t in body["tools"]] == [None, EPHEMERAL]


# --- recorded answers, against a plain reading of the same JSON


def _extend(block: dict[str, Any], delta: dict[str, Any]) -> None:
    match delta["type"]:
        case "text_delta":
            block["text"] += delta["text"]
        case "thinking_delta":
            block["thinking"] += delta["thinking"]
        case "signature_delta":
            block["signature"] = delta["signature"]
        case "citations_delta":
            block.setdefault("citations", []).append(delta["citation"])
        case _:
            block["json"] = block.get("json", "") + delta["partial_json"]


def _message_of(exchange: dict[str, Any]) -> dict[str, Any]:
    """The message of an answer; that of a stream put together the slow and obvious way."""
    if not exchange["stream"]:
        return exchange["response_body"]
    message: dict[str, Any] = {}
    for line in exchange["response_text"].split("\n"):
        if not line.startswith("data:"):
            continue
        event = json.loads(line[5:])
        match event["type"]:
            case "message_start":
                message = {**event["message"], "content": []}
            case "content_block_start":
                message["content"].append(dict(event["content_block"]))
            case "content_block_delta":
                _extend(message["content"][event["index"]], event["delta"])
            case "message_delta":
                message.update(event["delta"])
                message["usage"] = {**message["usage"], **event["usage"]}
            case _:
                pass
    for block in message["content"]:
        if text := block.pop("json", ""):
            block["input"] = json.loads(text)
    return message


@pytest.mark.parametrize("exchange", [*WHOLE, *STREAMS])
def test_a_recorded_answer_is_decoded_without_loss(exchange: dict[str, Any]) -> None:
    expected = _message_of(exchange)
    response = replay(WIRE, exchange)
    assert isinstance(response, ChatResponse)
    content = expected["content"]
    assert response.text == "".join(b["text"] for b in content if b["type"] == "text")
    assert response.reasoning == "".join(b["thinking"] for b in content if b["type"] == "thinking")
    assert [(c.id, c.name, json.loads(c.arguments)) for c in response.tool_calls] == [
        (b["id"], b["name"], b["input"]) for b in content if b["type"] == "tool_use"
    ]
    usage = expected["usage"]
    assert response.usage == Usage(
        input=usage["input_tokens"],
        cache_read=usage.get("cache_read_input_tokens", 0),
        cache_write=usage.get("cache_creation_input_tokens", 0),
        output=usage["output_tokens"],
        reasoning=usage.get("output_tokens_details", {}).get("thinking_tokens", 0),
        cache_write_1h=usage.get("cache_creation", {}).get("ephemeral_1h_input_tokens", 0),
    )
    assert response.stopped == expected["stop_reason"]
    words = {"end_turn": "stop", "stop_sequence": "stop", "tool_use": "tool_calls", "max_tokens": "length"}
    assert response.finish_reason == words.get(expected["stop_reason"], "content_filter")
    assert (response.id, response.model) == (expected["id"], expected["model"])
    assert response.message.origin == "claude"


def _bare(block: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in block.items() if v not in (None, "", [])}


@pytest.mark.parametrize("exchange", [*WHOLE, *STREAMS])
def test_a_recorded_turn_goes_back_as_it_came(exchange: dict[str, Any]) -> None:
    response = replay(WIRE, exchange)
    assert isinstance(response, ChatResponse)
    body = sent(WIRE, replace(PLAIN, messages=(user("?"), response.message)))
    returned = body["messages"][1]["content"] if len(body["messages"]) > 1 else []
    expected = _message_of(exchange)
    assert [_bare(b) for b in returned] == [
        _bare(b)
        for b in expected["content"]
        if b.get("text") != "" and (b["type"] != "thinking" or b.get("signature"))
    ]
    assert body.get("container") == (expected.get("container") or {}).get("id")


@pytest.mark.parametrize("exchange", STREAMS)
def test_recorded_streams_stream_what_they_end_with(exchange: dict[str, Any]) -> None:
    assert_chunks_make_the_reply(stream(WIRE, exchange["response_text"].encode()))


@pytest.mark.parametrize("exchange", small(STREAMS))
def test_recorded_streams_may_be_cut_anywhere(exchange: dict[str, Any]) -> None:
    assert_cuts_change_nothing(WIRE, exchange["response_text"].encode())


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_recorded_stream_without_its_last_event_is_incomplete(exchange: dict[str, Any]) -> None:
    data = exchange["response_text"].encode()
    *_, shortened = prefixes(data, b"\n\n")
    with pytest.raises(IncompleteReplyError):
        stream(WIRE, shortened)


_ERRORS = [e for e in RECORDED if e.values[0] and e.values[0]["status"] >= 400] or RECORDED
_KINDS = {401: AuthError, 404: ModelNotFoundError, 429: RateLimitError, 529: OverloadedError}


@pytest.mark.parametrize("exchange", _ERRORS)
def test_a_recorded_error_has_its_type(exchange: dict[str, Any]) -> None:
    error = replay(WIRE, exchange)
    told = exchange["response_body"]["error"]
    too_long = told["message"].startswith("prompt is too long")
    expected = ContextWindowError if too_long else _KINDS.get(exchange["status"], BadRequestError)
    assert type(error) is expected
    assert isinstance(error, ProviderError)
    assert (error.message, error.code, error.status) == (told["message"], told["type"], exchange["status"])
    request_id = exchange["response_body"].get("request_id") or exchange["response_headers"].get("request-id")
    assert error.request_id == (request_id or "")


# --- streams, made up

START: dict[str, Any] = {
    "type": "message_start",
    "message": {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
        "usage": {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1},
    },
}
STOP = {"type": "message_stop"}
END_TURN = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": {"output_tokens": 7},
}


def _block(index: int, **block: object) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _text(index: int, text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def _json(index: int, text: str) -> dict[str, Any]:
    delta = {"type": "input_json_delta", "partial_json": text}
    return {"type": "content_block_delta", "index": index, "delta": delta}


HELLO = (START, _block(0, type="text", text=""), _text(0, "hel"), _text(0, "lo"))


def test_pings_and_unknown_events_change_nothing() -> None:
    quiet = sse(*HELLO, END_TURN, STOP)
    noisy = sse({"type": "ping"}, *HELLO, {"type": "novelty"}, {"type": "ping"}, END_TURN, STOP)
    assert stream(WIRE, quiet) == stream(WIRE, noisy)


@pytest.mark.parametrize(
    ("kind", "message", "expected", "status"),
    [
        ("overloaded_error", "Overloaded", OverloadedError, 529),
        ("rate_limit_error", "slow", RateLimitError, 429),
        ("api_error", "Internal server error", ServerError, 500),
        ("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum", ContextWindowError, 400),
        ("authentication_error", "invalid x-api-key", AuthError, 401),
    ],
)
@pytest.mark.parametrize("before", [0, 2, 4])
def test_an_error_may_come_anywhere_in_a_stream(
    kind: str, message: str, expected: type[ProviderError], status: int, before: int
) -> None:
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "r"}
    with pytest.raises(expected) as caught:
        stream(WIRE, sse(*HELLO[:before], error))
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (status, kind, "r")


def test_every_early_end_is_incomplete_whatever_came_before() -> None:
    whole = sse(*HELLO, END_TURN, STOP)
    for cut in prefixes(whole, b"\n\n"):
        with pytest.raises(IncompleteReplyError):
            stream(WIRE, cut)


def test_an_incomplete_reply_is_given_to_who_allows_it_and_nothing_never() -> None:
    response = reply(WIRE, sse(*HELLO), allow_incomplete=True)
    assert (response.text, response.finish_reason) == ("hello", "")
    assert response.usage == Usage(input=10, cache_read=5, output=1, partial=True)
    with pytest.raises(IncompleteReplyError):
        stream(WIRE, b"", allow_incomplete=True)


def test_a_cut_stream_tells_what_it_has_cost_so_far() -> None:
    decoder = WIRE.decoder()
    assert decoder.usage is None
    for event in HELLO:
        decoder.feed(json.dumps(event).encode(), [])
    assert decoder.usage == Usage(input=10, cache_read=5, output=1, partial=True)
    assert decoder.partial().text == "hello"


def test_late_usage_is_cumulative_and_overrides() -> None:
    late = {**END_TURN, "usage": {"input_tokens": 30, "cache_read_input_tokens": None, "output_tokens": 9}}
    assert reply(WIRE, sse(*HELLO, late, STOP)).usage == Usage(input=30, cache_read=5, output=9)


def test_a_late_input_of_zero_is_not_believed() -> None:
    late = {**END_TURN, "usage": {"input_tokens": 0, "output_tokens": 9}}
    assert reply(WIRE, sse(*HELLO, late, STOP)).usage == Usage(input=10, cache_read=5, output=9)


def test_servers_that_know_the_input_only_at_the_end_are_understood() -> None:
    start = {**START, "message": {**START["message"], "usage": {"input_tokens": 0, "output_tokens": 0}}}
    late = {**END_TURN, "usage": {"input_tokens": 12, "output_tokens": 9}}
    assert reply(WIRE, sse(start, *HELLO[1:], late, STOP)).usage == Usage(input=12, output=9)


def test_cache_writes_are_split_by_how_long_they_are_kept() -> None:
    kept = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    body = {"content": [], "stop_reason": "end_turn", "usage": {"input_tokens": 1, "cache_creation": kept}}
    assert WIRE.decode(json.dumps(body).encode()).usage == Usage(input=1, cache_write=7, cache_write_1h=4)


def test_no_usage_is_unknown_not_zero() -> None:
    assert WIRE.decode(b'{"content":[{"type":"text","text":"x"}]}').usage is None


def test_a_message_that_starts_again_voids_what_came_before() -> None:
    again = {**START, "message": {**START["message"], "id": "m2"}}
    events = (*HELLO, again, _block(0, type="text", text=""), _text(0, "new"), END_TURN, STOP)
    chunks = stream(WIRE, sse(*events))
    assert sum(isinstance(c, Reset) for c in chunks) == 1
    assert_chunks_make_the_reply(chunks)


def test_interleaved_blocks_and_deltas_without_a_start_are_kept_apart() -> None:
    events = (START, _text(0, "a"), _text(1, "x"), _text(0, "b"), END_TURN, STOP)
    response = reply(WIRE, sse(*events))
    assert response.message.parts == (Text("ab"), Text("x"))


def test_text_in_the_start_of_a_block_is_kept() -> None:
    chunks = stream(WIRE, sse(START, _block(0, type="text", text="a"), _text(0, "b"), END_TURN, STOP))
    assert chunks[0] == TextDelta("a")
    assert_chunks_make_the_reply(chunks)


def test_deltas_of_a_new_kind_are_kept_in_their_block() -> None:
    news = {"type": "compaction_delta", "content": "ab"}
    delta = {"type": "content_block_delta", "index": 0, "delta": news}
    response = reply(WIRE, sse(START, _block(0, type="compaction", content=""), delta, delta, END_TURN, STOP))
    assert response.message.parts == (Opaque({"type": "compaction", "content": "abab"}),)


def test_a_tool_without_input_has_empty_arguments() -> None:
    events = (START, _block(0, type="tool_use", id="t", name="f", input={}), _json(0, ""), END_TURN, STOP)
    response = reply(WIRE, sse(*events))
    assert response.tool_calls == (ToolCall("t", "f", "{}"),)
    assert response.finish_reason == "tool_calls"


def test_a_full_window_is_an_overflow_without_content_and_a_length_with_it() -> None:
    full = {**END_TURN, "delta": {"stop_reason": "model_context_window_exceeded"}}
    with pytest.raises(ContextWindowError):
        stream(WIRE, sse(START, full, STOP))
    assert reply(WIRE, sse(*HELLO, full, STOP)).finish_reason == "length"
    with pytest.raises(ContextWindowError):
        WIRE.decode(b'{"content":[],"stop_reason":"model_context_window_exceeded"}')


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_finish_reasons(word: str, finish: str) -> None:
    response = WIRE.decode(
        json.dumps({"content": [{"type": "text", "text": "x"}], "stop_reason": word}).encode()
    )
    assert (response.finish_reason, response.stopped) == (finish, word)


def test_nulls_and_unknown_fields_are_tolerated() -> None:
    delta = {"type": "text_delta", "text": "x", "y": {}}
    event = {"type": "content_block_delta", "index": None, "delta": delta}
    events = (START, _block(0, type="text", text=None, new=1), event, {**END_TURN, "usage": None}, STOP)
    assert reply(WIRE, sse(*events)).text == "x"
    body = {"content": [{"type": "text", "text": "x", "citations": None}], "usage": None, "container": None}
    assert WIRE.decode(json.dumps(body).encode()).message.parts == (Text("x"),)


@pytest.mark.parametrize("payload", [b"", b"[DONE", b"[]", b'"x"', b"12", b"<html>"])
def test_what_is_not_the_protocol_is_a_bad_reply(payload: bytes) -> None:
    with pytest.raises(BadReplyError):
        WIRE.decoder().feed(payload, [])
    with pytest.raises(BadReplyError):
        WIRE.decode(payload)


def test_an_error_with_status_200_is_an_error() -> None:
    with pytest.raises(OverloadedError):
        WIRE.decode(b'{"type":"error","error":{"type":"overloaded_error","message":"busy"}}')


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_any_text_survives_any_cut(pieces: list[str]) -> None:
    data = sse(START, _block(0, type="text", text=""), *(_text(0, p) for p in pieces), END_TURN, STOP)
    assert reply(WIRE, data).text == "".join(pieces)
    assert stream(WIRE, data, cut=0) == stream(WIRE, data)


def test_line_separators_of_unicode_are_not_line_ends() -> None:
    odd = "a\u2028b\u0085c\u2029d"
    assert reply(WIRE, sse(*HELLO[:2], _text(0, odd), END_TURN, STOP)).text == odd


@given(st.data())
def test_a_damaged_stream_ends_in_an_error_of_ours_or_a_reply(data: st.DataObject) -> None:
    tool = _block(1, type="tool_use", id="t", name="f", input={})
    search = _block(2, type="server_tool_use", id="s", name="web_search", input={})
    thought = (_block(3, type="thinking", thinking="a"), _block(4, type="redacted_thinking", data="x"))
    events = (*HELLO, tool, _json(1, '{"a": 1}'), search, _json(2, "{}"), *thought, END_TURN, STOP)
    assert_survived(WIRE, sse(*damaged(data, events)))


@given(st.text())
def test_any_arguments_can_be_sent_back(arguments: str) -> None:
    message = Message("assistant", (ToolCall("c", "f", arguments),))
    WIRE.encode(replace(PLAIN, messages=(user("?"), message)), stream=False)


def test_schemas_are_closed_and_lose_only_what_constrained_decoding_does_not_know() -> None:
    schema = {
        "type": "object",
        "properties": {
            "minimum": {"type": "integer", "minimum": 1, "enum": [1, 2]},
            "list": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/item"}},
            "either": {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "null"}]},
        },
        "required": ["minimum"],
        "$defs": {"item": {"type": "object", "properties": {"a": {"const": "minLength"}}}},
    }
    before = json.dumps(schema)
    assert strict_schema(schema) == snapshot(
        {
            "type": "object",
            "properties": {
                "minimum": {"type": "integer", "enum": [1, 2]},
                "list": {"type": "array", "items": {"$ref": "#/$defs/item"}},
                "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["minimum"],
            "$defs": {
                "item": {
                    "type": "object",
                    "properties": {"a": {"const": "minLength"}},
                    "additionalProperties": False,
                }
            },
            "additionalProperties": False,
        }
    )
    assert json.dumps(schema) == before
    assert (
        strict_schema({"type": "object", "properties": {}, "additionalProperties": {"type": "string"}})
        is None
    )


# --- errors

BAD = "invalid_request_error"


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected"),
    [
        (400, BAD, "input length and `max_tokens` exceed context limit: 9 + 9 > 10", ContextWindowError),
        (400, BAD, "Your credit balance is too low to access the Anthropic API.", QuotaError),
        (400, BAD, "You have reached your specified API usage limits.", QuotaError),
        (402, "billing_error", "pay", QuotaError),
        (403, "permission_error", "Your API key does not have permission", AuthError),
        (404, "not_found_error", "model: claude-9", ModelNotFoundError),
        (413, "request_too_large", "Request exceeds the maximum size", ContextWindowError),
        (429, "rate_limit_error", "This request would exceed the rate limit", RateLimitError),
        (429, "rate_limit_error", "You have exceeded your monthly spend limit", QuotaError),
        (500, "api_error", "Internal server error", ServerError),
        (503, "api_error", "unavailable", OverloadedError),
        (529, "overloaded_error", "Overloaded", OverloadedError),
    ],
)
def test_errors_have_types(status: int, kind: str, message: str, expected: type[ProviderError]) -> None:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    error = WIRE.error(status, {"retry-after": "7"}, json.dumps(body).encode())
    assert type(error) is expected
    assert (error.retry_after, error.request_id, error.message) == (7, "req_1", message)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("`temperature` is deprecated for this model.", "temperature"),
        ("adaptive thinking is not supported on this model", "thinking"),
        ('"thinking.type.enabled" is not supported for this model.', "thinking"),
        ("This model does not support the effort parameter.", "output_config.effort"),
        ("output_config.format: Extra inputs are not permitted", "output_config.format"),
        ("messages.0: Input does not match the expected shape.", ""),
    ],
)
def test_a_refused_parameter_is_named(message: str, param: str) -> None:
    body = {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    error = WIRE.error(400, {}, json.dumps(body).encode())
    assert (type(error), error.param) == (BadRequestError, param)


def test_llama_servers_overflow_on_this_route() -> None:
    message = "request (4031 tokens) exceeds the available context size (2048 tokens), try increasing it"
    body = {"error": {"code": 400, "message": message, "type": "exceed_context_size_error", "n_ctx": 2048}}
    assert type(WIRE.error(400, {}, json.dumps(body).encode())) is ContextWindowError


def test_a_proxys_html_page_is_an_error_with_its_title() -> None:
    error = WIRE.error(502, {}, b"<html><head><title>502 Bad Gateway</title></head></html>")
    assert (type(error), error.message) == (ServerError, "502 Bad Gateway")


# --- models


def test_models_come_page_by_page() -> None:
    first = WIRE.list_models()
    assert (first.method, first.path) == ("GET", "/v1/models?limit=1000")
    assert first.headers == {"anthropic-version": "2023-06-01"}
    page = {
        "data": [
            {"id": "claude-a", "display_name": "A", "max_input_tokens": 200, "max_tokens": 64},
            {"id": "claude b", "type": "model"},
        ],
        "has_more": True,
        "last_id": "claude b",
    }
    found = WIRE.decode_models(json.dumps(page).encode())
    assert [(m.id, m.name, m.context_window, m.max_output) for m in found.models] == snapshot(
        [("claude-a", "A", 200, 64), ("claude b", "", None, None)]
    )
    assert found.next is not None
    assert found.next.path == "/v1/models?limit=1000&after_id=claude%20b"
    assert WIRE.decode_models(b'{"data":[],"has_more":false}').next is None
    with pytest.raises(BadReplyError):
        WIRE.decode_models(b'{"error":"x"}')
