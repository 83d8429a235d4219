from __future__ import annotations

import json
from typing import Any

import pytest
from inline_snapshot import snapshot
from msgspec.structs import replace
from vendor_cases import (
    FULL,
    PARALLEL,
    PLAIN,
    SCHEMA,
    assert_chunks_make_the_reply,
    assert_cuts_change_nothing,
    reply,
    sent,
    sse,
    stream,
)

from electrictown.errors import (
    BadReplyError,
    IncompleteReplyError,
    OverloadedError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Chunk,
    Json,
    Message,
    Model,
    Opaque,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    user,
)
from electrictown.llm.wire.openai import OpenAIWire

WIRE = OpenAIWire("gpt")


def whole(message: Json, *, finish: Json = "stop", **more: Json) -> ChatResponse:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return WIRE.decode(json.dumps({"id": "c1", "model": "m", "choices": [choice], **more}).encode())


def chunk(delta: Json, *, finish: Json = None, **more: Json) -> dict[str, Any]:
    return {
        "id": "c1",
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }


def call(
    index: Json = None, identity: Json = None, name: Json = None, arguments: Json = None
) -> dict[str, Any]:
    found = {"index": index, "id": identity, "function": {"name": name, "arguments": arguments}}
    return {k: v for k, v in found.items() if v is not None}


def streamed(*deltas: Json, finish: Json = "stop", done: bool = True) -> ChatResponse:
    events = [chunk(d) for d in deltas] + [chunk({}, finish=finish)]
    data = sse(*events) + (b"data: [DONE]\n\n" if done else b"")
    assert_cuts_change_nothing(WIRE, data)
    return reply(WIRE, data)


# --- what is sent ----------------------------------------------------------------------------------


def test_a_plain_request_is_small() -> None:
    call = WIRE.encode(PLAIN, stream=False)
    assert (call.method, call.path) == ("POST", "/chat/completions")
    assert json.loads(call.body) == snapshot(
        {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
    )


def test_everything_a_request_can_hold() -> None:
    request = replace(FULL, effort="low", schema=SCHEMA, options={"seed": 7, "stream_options": {"x": 1}})
    assert sent(WIRE, request, stream=True) == snapshot(
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "hi"},
                {"role": "user", "content": "and now?"},
            ],
            "stream": True,
            "stream_options": {"include_usage": True, "x": 1},
            "max_tokens": 100,
            "temperature": 0.5,
            "top_p": 0.9,
            "stop": ["END"],
            "reasoning_effort": "low",
            "response_format": {
                "type": "json_schema",
                "json_schema": {
                    "name": "reply",
                    "schema": {
                        "type": "object",
                        "properties": {"n": {"type": "integer", "minimum": 1}},
                        "required": ["n"],
                    },
                    "strict": False,
                },
            },
            "seed": 7,
        }
    )


def test_tools_and_their_results() -> None:
    assert sent(WIRE, PARALLEL) == snapshot(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "Paris and Rome?"},
                {
                    "role": "assistant",
                    "content": "Looking.",
                    "tool_calls": [
                        {
                            "id": "call_0",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                        },
                        {
                            "id": "call_1",
                            "type": "function",
                            "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
                        },
                    ],
                },
                {"role": "tool", "tool_call_id": "call_0", "content": "sunny"},
                {"role": "tool", "tool_call_id": "call_1", "content": "no such city"},
                {"role": "user", "content": "Well?"},
            ],
            "tools": [
                {
                    "type": "function",
                    "function": {
                        "name": "get_weather",
                        "description": "The weather in a city",
                        "parameters": {
                            "type": "object",
                            "properties": {"city": {"type": "string"}},
                            "required": ["city"],
                        },
                    },
                }
            ],
        }
    )


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ("auto", None),
        ("none", "none"),
        ("required", "required"),
        ("get_weather", {"type": "function", "function": {"name": "get_weather"}}),
    ],
)
def test_tool_choice(choice: str, wanted: Json) -> None:
    assert sent(WIRE, replace(PARALLEL, tool_choice=choice)).get("tool_choice") == wanted


@pytest.mark.parametrize("model", ["o1", "o3-mini", "o4-mini", "gpt-5", "gpt-5.2-pro", "openai/gpt-5-mini"])
def test_reasoning_models_get_their_own_limit_and_no_temperature(model: str) -> None:
    body = sent(WIRE, replace(FULL, model=model))
    assert body["max_completion_tokens"] == 100
    assert not {"max_tokens", "temperature", "top_p"} & set(body)
    insisted = sent(WIRE, replace(FULL, model=model, options={"temperature": 1}))
    assert insisted["temperature"] == 1


@pytest.mark.parametrize(
    "model", ["gpt-4o", "gpt-4.1", "gpt-5-chat-latest", "llama3", "gpt-oss-120b", "glm-5"]
)
def test_other_models_get_max_tokens(model: str) -> None:
    body = sent(WIRE, replace(FULL, model=model))
    assert (body["max_tokens"], body["temperature"], body["top_p"]) == (100, 0.5, 0.9)


def test_usage_is_asked_for_in_streams_only() -> None:
    assert sent(WIRE, PLAIN, stream=True)["stream_options"] == {"include_usage": True}
    assert "stream" not in sent(WIRE, PLAIN)


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        ({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": False}, True),
        ({"type": "object", "properties": {"a": {}}, "required": ["a"]}, False),
        ({"type": "object", "properties": {"a": {}}, "required": [], "additionalProperties": False}, False),
        ({"type": "array", "items": {"type": "object", "properties": {"a": {}}}}, False),
    ],
)
def test_a_schema_is_strict_where_it_keeps_the_rules(schema: Json, strict: bool) -> None:
    sent_format = sent(WIRE, replace(PLAIN, schema=schema))["response_format"]["json_schema"]
    assert sent_format == {"name": "reply", "schema": schema, "strict": strict}


def returned(message: Message, *later: Message) -> Json:
    request = ChatRequest(model="m", messages=(user("hi"), message, *later))
    return sent(WIRE, request)["messages"][1]


def test_reasoning_goes_back_while_a_tool_turn_lasts_and_no_longer() -> None:
    first = whole(
        {"content": None, "reasoning_content": "hm", "tool_calls": [call(0, "a", "f", "{}")]}
    ).message
    result = Message("tool", (ToolResult("a", "f", "1"),))
    assert returned(first, result)["reasoning_content"] == "hm"
    assert "reasoning_content" not in returned(first, result, user("next"))
    plain = whole({"content": "x", "reasoning_content": "hm"}).message
    assert returned(plain) == {"role": "assistant", "content": "x"}


def test_openrouters_reasoning_details_go_back_verbatim() -> None:
    details = [{"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "index": 0}]
    message = whole({"content": "x", "reasoning": "hm", "reasoning_details": details}).message
    assert message.reasoning == "hm"
    assert returned(message) == {"role": "assistant", "content": "x", "reasoning_details": details}


def test_mistrals_thinking_goes_back_as_it_came() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    blocks = [thinking, {"type": "text", "text": "4"}]
    response = whole({"content": blocks})
    assert (response.text, response.reasoning) == ("4", "hm")
    assert returned(response.message)["content"] == blocks


def test_a_call_without_an_id_and_its_result_agree() -> None:
    message = Message("assistant", (ToolCall("", "f", ""),))
    body = sent(WIRE, ChatRequest(messages=(message, Message("tool", (ToolResult("", "f", "1"),)))))
    asked, answered = body["messages"]
    assert asked["tool_calls"][0]["id"] == answered["tool_call_id"] == "call_f"
    assert asked["tool_calls"][0]["function"]["arguments"] == "{}"


def test_a_custom_call_is_kept_as_text_and_goes_back_as_one() -> None:
    custom = {"id": "a", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    response = whole({"content": None, "tool_calls": [custom]}, finish="tool_calls")
    assert (response.tool_calls[0].name, response.tool_calls[0].arguments) == ("sql", "SELECT 1")
    assert returned(response.message)["tool_calls"] == [custom]


# --- whole bodies ----------------------------------------------------------------------------------


def test_a_reply_names_who_answered() -> None:
    response = whole({"content": "hi"}, usage=None)
    assert (response.id, response.model, response.provider, response.message.origin) == (
        "c1",
        "m",
        "gpt",
        "gpt",
    )
    assert response.usage is None


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("length", "length"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("sensitive", "content_filter"),
        ("insufficient_system_resource", "error"),
        (None, ""),
    ],
)
def test_finish_reasons_have_one_vocabulary_and_keep_the_vendors_word(word: str | None, reason: str) -> None:
    response = whole({"content": "x"}, finish=word)
    assert (response.finish_reason, response.stopped) == (reason, word or "")


def test_a_reply_with_calls_was_stopped_by_them() -> None:
    calls = [call(None, "a", "f", "{}"), call(None, "b", "f", {"x": 1})]
    response = whole({"content": "", "tool_calls": calls}, finish="stop")
    assert (response.finish_reason, response.stopped) == ("tool_calls", "stop")
    assert [(c.id, c.arguments) for c in response.tool_calls] == [("a", "{}"), ("b", '{"x":1}')]
    assert whole({"content": "", "tool_calls": calls}, finish="length").finish_reason == "length"


def test_a_refusal_is_text_and_the_content_filters() -> None:
    response = whole({"content": None, "refusal": "No."})
    assert (response.text, response.finish_reason, response.stopped) == ("No.", "content_filter", "stop")


def test_what_has_no_part_of_its_own_is_kept() -> None:
    notes, tools = [{"type": "url_citation"}], [{"type": "search", "output": "x"}]
    response = whole({"content": "x", "annotations": notes, "executed_tools": tools})
    assert response.message.parts[1:] == (Opaque({"annotations": notes}), Opaque({"executed_tools": tools}))
    assert returned(response.message) == {"role": "assistant", "content": "x"}


def test_thoughts_inside_the_text_stay_there() -> None:
    assert whole({"content": "<think>a</think>b"}).text == "<think>a</think>b"


USAGES: list[tuple[dict[str, Any], Usage]] = [
    (
        {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 5},
            "cost": 0.25,
        },
        Usage(input=30, cache_read=60, cache_write=10, output=20, reasoning=5, cost_usd=0.25),
    ),
    ({"prompt_tokens": 10, "completion_tokens": 2}, Usage(input=10, output=2)),
    ({"prompt_tokens": 10, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(input=10, output=2)),
    ({"prompt_tokens": "10", "completion_tokens": 2.0}, Usage(input=10, output=2)),
    (
        {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "prompt_cache_hit_tokens": 8,
            "prompt_cache_miss_tokens": 2,
        },
        Usage(input=2, cache_read=8, output=2),
    ),
    (
        {"prompt_tokens": 10, "completion_tokens": 2, "num_cached_tokens": 8},
        Usage(input=2, cache_read=8, output=2),
    ),
    (
        {"prompt_tokens": 10, "completion_tokens": 2, "cached_tokens": 8},
        Usage(input=2, cache_read=8, output=2),
    ),
    (  # xAI counts reasoning beside the completion
        {
            "prompt_tokens": 10,
            "completion_tokens": 2,
            "total_tokens": 42,
            "completion_tokens_details": {"reasoning_tokens": 30},
        },
        Usage(input=10, output=32, reasoning=30),
    ),
    (  # with the user's own key the model's price comes on top of OpenRouter's fee
        {
            "prompt_tokens": 1,
            "completion_tokens": 1,
            "cost": 0.5,
            "is_byok": True,
            "cost_details": {"upstream_inference_cost": 2.0},
        },
        Usage(input=1, output=1, cost_usd=2.5),
    ),
    (
        {"prompt_tokens": 1, "completion_tokens": 1, "cost": {"total_cost": 0.5}},
        Usage(input=1, output=1, cost_usd=0.5),
    ),
]


@pytest.mark.parametrize(("found", "usage"), USAGES)
def test_usage_comes_in_disjoint_buckets(found: dict[str, Any], usage: Usage) -> None:
    assert whole({"content": "x"}, usage=found).usage == usage


@pytest.mark.parametrize("found", [None, {}])
def test_unknown_usage_is_unknown(found: Json) -> None:
    assert whole({"content": "x"}, usage=found).usage is None


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", IncompleteReplyError),
        (b"  \n", IncompleteReplyError),
        (b'{"choices": [{"mess', IncompleteReplyError),
        (b"hello", BadReplyError),
        (b"<html>", BadReplyError),
        (b"[]", BadReplyError),
        (b"7", BadReplyError),
        (b"{}", BadReplyError),
        (b'{"choices": []}', BadReplyError),
        (b'{"error": {"message": "x", "code": 502}}', ServerError),
        (b'{"error": "rate", "choices": []}', ServerError),
        (b'{"error": {"message": "x", "type": "rate_limit_error"}}', RateLimitError),
        (b'{"object": "error", "message": "x", "code": 503}', OverloadedError),
        (
            b'{"choices": [{"message": {"content": ""}, "error": {"code": 429, "message": "x"}}]}',
            RateLimitError,
        ),
    ],
)
def test_a_body_that_is_no_reply_raises(body: bytes, kind: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as caught:
        WIRE.decode(body)
    assert type(caught.value) is kind


def test_wrong_types_do_not_fail_a_good_reply() -> None:
    body = {
        "id": 7,
        "model": "m",
        "choices": [
            {
                "index": "0",
                "message": {"content": "hi", "reasoning": {"x": 1}, "refusal": False},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": "3", "completion_tokens": 1.0, "completion_tokens_details": [1]},
    }
    response = WIRE.decode(json.dumps(body).encode())
    assert (response.text, response.finish_reason, response.usage) == ("hi", "stop", Usage(input=3, output=1))


# --- streams ---------------------------------------------------------------------------------------


def test_text_reasoning_usage_and_identity() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    data = sse(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "h"}),
        chunk({"reasoning_content": "m"}),
        chunk({"content": "a\u2028é"}),
        chunk({"content": "b"}),
        chunk({}, finish="stop"),
        {"id": "c1", "model": "m", "choices": [], "usage": usage},
    )
    data += b"data: [DONE]\n\n"
    assert_cuts_change_nothing(WIRE, data)
    chunks = stream(WIRE, data)
    assert chunks[:-1] == [ReasoningDelta("h"), ReasoningDelta("m"), TextDelta("a\u2028é"), TextDelta("b")]
    response = reply(WIRE, data)
    assert (response.text, response.reasoning, response.usage) == (
        "a\u2028éb",
        "hm",
        Usage(input=3, output=2),
    )
    assert (response.id, response.model, response.message.origin) == ("c1", "m", "gpt")


CALLS: dict[str, tuple[list[Json], list[tuple[str, str, str]]]] = {
    "by index": (
        [
            [call(0, "a", "f", "")],
            [call(0, None, None, '{"x"')],
            [call(1, "b", "g", '{"y":')],
            [call(0, None, None, ":1}"), call(1, None, None, "2}")],
        ],
        [("a", "f", '{"x":1}'), ("b", "g", '{"y":2}')],
    ),
    "a new id at the same index": (
        [[call(0, "a", "f", "{}")], [call(0, "b", "f", "{")], [call(0, None, None, "}")]],
        [("a", "f", "{}"), ("b", "f", "{}")],
    ),
    "the same id repeated": (
        [[call(0, "a", "f", '{"x"')], [call(0, "a", "f", ":1}")]],
        [("a", "f", '{"x":1}')],
    ),
    "without index": (
        [[call(None, "a", "f", '{"x"')], [call(None, None, None, ":1}")], [call(None, "b", "g", "{}")]],
        [("a", "f", '{"x":1}'), ("b", "g", "{}")],
    ),
    "whole calls at index 0 without ids": (
        [[call(0, "", "f", '{"x":1}')], [call(0, "", "f", '{"x":2}')]],
        [("", "f", '{"x":1}'), ("", "f", '{"x":2}')],
    ),
    "a name repeated while the arguments grow": (
        [[call(0, "", "f", '{"x":{"y":')], [call(0, "", "f", "1}")], [call(0, "", "f", "}")]],
        [("", "f", '{"x":{"y":1}}')],
    ),
    "several whole calls in one delta": (
        [[call(0, "a", "f", "{}"), call(1, "b", "g", "{}")]],
        [("a", "f", "{}"), ("b", "g", "{}")],
    ),
    "arguments as an object": ([[call(0, "a", "f", {"x": 1})]], [("a", "f", '{"x":1}')]),
    "no arguments": ([[call(0, "a", "f")]], [("a", "f", "")]),
}


@pytest.mark.parametrize("name", CALLS)
def test_tool_calls_gather(name: str) -> None:
    deltas, wanted = CALLS[name]
    response = streamed(*({"tool_calls": d} for d in deltas), finish="stop")
    assert [(c.id, c.name, c.arguments) for c in response.tool_calls] == wanted
    assert response.finish_reason == "tool_calls"


def test_the_deltas_of_calls_are_numbered_as_the_calls_are() -> None:
    deltas, _ = CALLS["a new id at the same index"]
    chunks: list[Chunk] = stream(
        WIRE, sse(*(chunk({"tool_calls": d}) for d in deltas), chunk({}, finish="stop"))
    )
    assert [c for c in chunks if isinstance(c, ToolCallDelta)] == [
        ToolCallDelta(0, "a", "f", "{}"),
        ToolCallDelta(1, "b", "f", "{"),
        ToolCallDelta(1, "", "", "}"),
    ]


def test_the_call_of_before_tools() -> None:
    response = streamed(
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
        finish="function_call",
    )
    assert [(c.name, c.arguments) for c in response.tool_calls] == [("f", "{}")]
    assert (response.finish_reason, response.stopped) == ("tool_calls", "function_call")


def test_text_and_calls_in_one_delta_are_both_kept() -> None:
    response = streamed(
        {"content": "x", "tool_calls": [call(0, "a", "f", "{}")]}, {"content": "y", "refusal": "z"}
    )
    assert (response.text, len(response.tool_calls)) == ("xyz", 1)


def test_reasoning_details_gather_in_pieces() -> None:
    response = streamed(
        {
            "content": "",
            "reasoning": "a",
            "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}],
        },
        {"content": "", "reasoning_details": [{"type": "reasoning.text", "text": "b", "index": 0}]},
        {"content": "", "reasoning_details": [{"type": "reasoning.text", "signature": "sig", "index": 0}]},
        {"content": "", "reasoning_details": [{"type": "reasoning.encrypted", "data": "xx", "index": 1}]},
        {"content": "c"},
    )
    assert response.message.parts[0] == Reasoning(
        "ab",
        {
            "reasoning_details": [
                {"type": "reasoning.text", "text": "ab", "index": 0, "signature": "sig"},
                {"type": "reasoning.encrypted", "data": "xx", "index": 1},
            ]
        },
    )


def test_mistrals_blocks_gather() -> None:
    response = streamed(
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}]},
        {"content": [{"type": "thinking", "thinking": "m"}]},
        {"content": [{"type": "text", "text": "4"}, {"type": "reference", "reference_ids": [1]}]},
        {"content": "!"},
    )
    assert (response.text, response.reasoning) == ("4!", "hm")
    assert response.message.parts[-1] == Opaque({"content": [{"type": "reference", "reference_ids": [1]}]})


def test_groqs_usage_stands_in_its_own_place() -> None:
    x_groq = {"id": "r", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    data = sse(chunk({"content": "x"}), chunk({}, finish="stop", x_groq=x_groq))
    assert reply(WIRE, data).usage == Usage(input=3, output=2)


def test_a_finish_reason_and_a_clean_end_complete_a_reply() -> None:
    assert streamed({"content": "x"}, done=False).text == "x"


def test_done_completes_a_reply_without_a_finish_reason() -> None:
    response = reply(WIRE, sse(chunk({"content": "x"})) + b"data: [DONE]\n\n")
    assert (response.text, response.finish_reason) == ("x", "")


@pytest.mark.parametrize("data", [b"", b": ping\n\n", b"data: [DONE]\n\n", sse(chunk({"content": "x"}))])
def test_a_stream_without_its_end_is_incomplete(data: bytes) -> None:
    with pytest.raises(IncompleteReplyError):
        stream(WIRE, data)


def test_an_incomplete_reply_may_be_allowed() -> None:
    data = sse(chunk({"content": "x"}))
    chunks = stream(WIRE, data, allow_incomplete=True)
    assert_chunks_make_the_reply(chunks)
    with pytest.raises(IncompleteReplyError):
        stream(WIRE, b"", allow_incomplete=True)


def test_an_event_cut_in_the_middle_is_incomplete_and_garbage_is_bad() -> None:
    with pytest.raises(IncompleteReplyError):
        stream(WIRE, sse(chunk({"content": "x"}), chunk({}, finish="stop"))[:-20])
    with pytest.raises(BadReplyError):
        stream(WIRE, b"data: hello\n\n")
    with pytest.raises(BadReplyError):
        stream(WIRE, b"data: [1]\n\n")


@pytest.mark.parametrize(
    "event",
    [
        {"error": {"message": "busy", "code": 503}},
        {"error": {"message": "busy", "type": "overloaded_error"}},
        {"id": "c1", "model": "m", "error": {"message": "busy", "code": 503}, "choices": []},
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": ""},
                    "finish_reason": "error",
                    "error": {"code": 503, "message": "busy"},
                }
            ]
        },
        {"object": "error", "message": "busy", "code": 503},
        {"detail": "the engine is busy", "code": 503},
    ],
)
def test_an_error_inside_the_stream_is_typed_and_keeps_what_came(event: Json) -> None:
    decoder = WIRE.decoder()
    out: list[Chunk] = []
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    decoder.feed(json.dumps(chunk({"content": "x"}, usage=usage)).encode(), out)
    with pytest.raises(OverloadedError, match="busy"):
        decoder.feed(json.dumps(event).encode(), out)
    assert out == [TextDelta("x")]
    assert decoder.partial().text == "x"
    assert decoder.usage == Usage(input=3, output=1)
    assert decoder.partial().usage == Usage(input=3, output=1, partial=True)


def test_events_that_say_nothing_are_passed_over() -> None:
    decoder = WIRE.decoder()
    out: list[Chunk] = []
    for payload in (
        b"",
        b" ",
        b"{}",
        b'{"choices": null}',
        b'{"choices": [{"delta": null}]}',
        b'{"p": "abc"}',
    ):
        decoder.feed(payload, out)
    assert out == []


def test_wrong_types_do_not_fail_a_good_stream() -> None:
    data = sse(
        chunk({"content": "a", "reasoning": {"x": 1}}),
        chunk({"content": "b", "refusal": False}, usage={"prompt_tokens": "3", "completion_tokens": "1"}),
        chunk({"tool_calls": [{"index": "0", "id": 7, "function": {"name": "f", "arguments": "{}"}}]}),
        {**chunk({}, finish="stop"), "choices": [{"index": 0, "delta": [], "finish_reason": "stop"}]},
    )
    response = reply(WIRE, data)
    assert (response.text, response.usage) == ("ab", Usage(input=3, output=1))
    assert [(c.name, c.arguments) for c in response.tool_calls] == [("f", "{}")]


def test_another_choice_is_not_mixed_in() -> None:
    other = {"index": 1, "delta": {"content": "B"}, "finish_reason": None}
    data = sse(chunk({"content": "A"}), {"choices": [other]}, chunk({}, finish="stop"))
    assert reply(WIRE, data).text == "A"


def test_nothing_follows_the_end() -> None:
    decoder = WIRE.decoder()
    out: list[Chunk] = []
    decoder.feed(json.dumps(chunk({"content": "x"}, finish="stop")).encode(), out)
    decoder.feed(b"[DONE]", out)
    decoder.feed(b"[DONE]", out)
    assert len(out) == 2
    assert decoder.finish() is None


# --- models ----------------------------------------------------------------------------------------


def test_models_and_their_windows() -> None:
    assert (WIRE.list_models().method, WIRE.list_models().path) == ("GET", "/models")
    body = {
        "object": "list",
        "data": [
            {"id": "gpt", "owned_by": "openai"},
            {"id": "router", "name": "R", "context_length": 10, "top_provider": {"max_completion_tokens": 5}},
            {"id": "groq", "context_window": 11, "max_completion_tokens": 6},
            {"id": "vllm", "max_model_len": 12},
            {"id": "llama.cpp", "meta": {"n_ctx": 13, "n_ctx_train": 99}},
            {"id": "mistral", "max_context_length": 14},
            {"id": "odd", "owned_by": 7, "context_length": "15"},
        ],
    }
    page = WIRE.decode_models(json.dumps(body).encode())
    assert page.next is None
    assert page.models == [
        Model("gpt", owner="openai"),
        Model("router", name="R", context_window=10, max_output=5),
        Model("groq", context_window=11, max_output=6),
        Model("vllm", context_window=12),
        Model("llama.cpp", context_window=13),
        Model("mistral", context_window=14),
        Model("odd", context_window=15, owner="7"),
    ]


def test_a_bare_list_of_models() -> None:
    assert WIRE.decode_models(b'[{"id": "a"}, {"id": "b", "name": 7}]').models == [
        Model("a"),
        Model("b", name="7"),
    ]


@pytest.mark.parametrize("body", [b"{}", b"x", b"7", b""])
def test_what_is_no_list_of_models_raises(body: bytes) -> None:
    with pytest.raises(BadReplyError):
        WIRE.decode_models(body)


def test_text_parts_are_plain() -> None:
    assert whole({"content": "hi"}).message.parts == (Text("hi"),)
