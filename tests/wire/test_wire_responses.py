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
    ContextWindowError,
    IncompleteReplyError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Chunk,
    End,
    Json,
    Message,
    Opaque,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCallDelta,
    ToolResult,
    Usage,
    system,
    user,
    without_opaque,
)
from electrictown.llm.wire.responses import ResponsesWire

WIRE = ResponsesWire("gpt")
USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 10},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
}
THOUGHT = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "h"}, {"type": "summary_text", "text": "m"}],
    "encrypted_content": "gAAA",
}
CALL = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"x":1}'}
SQL = {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_2", "name": "sql", "input": "SELECT 1"}
SEARCH = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"query": "x"}}


def said(text: str, **more: Json) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "content": content, **more}


def response(*output: Json, status: Json = "completed", **more: Json) -> dict[str, Any]:
    return {"id": "resp_1", "model": "m", "object": "response", "status": status, "output": [*output], **more}


def whole(*output: Json, status: Json = "completed", **more: Json) -> ChatResponse:
    return WIRE.decode(json.dumps(response(*output, status=status, **more)).encode())


def event(kind: str, **more: Json) -> dict[str, Any]:
    return {"type": f"response.{kind}", "sequence_number": 1, **more}


def item_events(index: int, item: dict[str, Any], *deltas: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        event(
            "output_item.added",
            output_index=index,
            item={**item, "content": [], "arguments": "", "input": ""},
        ),
        # Some proxies give an item a new id in every event.
        *(event(k, output_index=index, item_id=f"x{n}", delta=d) for n, (k, d) in enumerate(deltas)),
        event("output_item.done", output_index=index, item=item),
    ]


BEGUN = event("created", response=response(status="in_progress", output=[]))


# --- what is sent ----------------------------------------------------------------------------------


def test_a_plain_request_is_small_and_nothing_is_stored() -> None:
    call = WIRE.encode(PLAIN, stream=False)
    assert (call.method, call.path) == ("POST", "/responses")
    assert json.loads(call.body) == snapshot(
        {
            "model": "m",
            "store": False,
            "input": [{"role": "user", "content": "hello"}],
            "include": ["reasoning.encrypted_content"],
        }
    )


def test_everything_a_request_can_hold() -> None:
    request = replace(FULL, effort="low", schema=SCHEMA, options={"reasoning": {"summary": "auto"}})
    assert sent(WIRE, request, stream=True) == snapshot(
        {
            "model": "m",
            "store": False,
            "instructions": "Be brief.",
            "input": [
                {"role": "user", "content": "hello"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]},
                {"role": "user", "content": "and now?"},
            ],
            "include": ["reasoning.encrypted_content"],
            "stream": True,
            "max_output_tokens": 100,
            "temperature": 0.5,
            "top_p": 0.9,
            "reasoning": {"effort": "low", "summary": "auto"},
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "reply",
                    "schema": {
                        "type": "object",
                        "properties": {"n": {"type": "integer", "minimum": 1}},
                        "required": ["n"],
                    },
                    "strict": False,
                }
            },
        }
    )


def test_tools_and_their_results() -> None:
    assert sent(WIRE, PARALLEL) == snapshot(
        {
            "model": "m",
            "store": False,
            "input": [
                {"role": "user", "content": "Paris and Rome?"},
                {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Looking."}],
                },
                {
                    "type": "function_call",
                    "call_id": "call_0",
                    "name": "get_weather",
                    "arguments": '{"city": "Paris"}',
                },
                {
                    "type": "function_call",
                    "call_id": "call_1",
                    "name": "get_weather",
                    "arguments": '{"city": "Rome"}',
                },
                {"type": "function_call_output", "call_id": "call_0", "output": "sunny"},
                {"type": "function_call_output", "call_id": "call_1", "output": "no such city"},
                {"role": "user", "content": "Well?"},
            ],
            "include": ["reasoning.encrypted_content"],
            "tools": [
                {
                    "type": "function",
                    "name": "get_weather",
                    "description": "The weather in a city",
                    "parameters": {
                        "type": "object",
                        "properties": {"city": {"type": "string"}},
                        "required": ["city"],
                    },
                    "strict": False,
                }
            ],
        }
    )


def test_a_reply_goes_back_in_its_order_with_its_encrypted_reasoning() -> None:
    first = whole(THOUGHT, said("Let me see.", phase="commentary"), SEARCH, CALL, SQL)
    results = Message("tool", (ToolResult("call_1", "f", "1"), ToolResult("call_2", "sql", "2")))
    request = ChatRequest(model="gpt-5", messages=(user("hi"), first.message, results, system("Hurry.")))
    assert sent(WIRE, request)["input"] == snapshot(
        [
            {"role": "user", "content": "hi"},
            {
                "id": "rs_1",
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "h"}, {"type": "summary_text", "text": "m"}],
                "encrypted_content": "gAAA",
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Let me see."}],
                "phase": "commentary",
            },
            {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"query": "x"}},
            {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"x":1}'},
            {
                "id": "ct_1",
                "type": "custom_tool_call",
                "call_id": "call_2",
                "name": "sql",
                "input": "SELECT 1",
            },
            {"type": "function_call_output", "call_id": "call_1", "output": "1"},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": "2"},
            {"role": "system", "content": "Hurry."},
        ]
    )
    elsewhere = replace(request, messages=without_opaque(request.messages, "other"))
    assert sent(WIRE, elsewhere)["input"] == snapshot(
        [
            {"role": "user", "content": "hi"},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Let me see."}],
            },
            {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"x":1}'},
            {"type": "function_call", "call_id": "call_2", "name": "sql", "arguments": "SELECT 1"},
            {"type": "function_call_output", "call_id": "call_1", "output": "1"},
            {"type": "function_call_output", "call_id": "call_2", "output": "2"},
            {"role": "system", "content": "Hurry."},
        ]
    )


def test_a_system_message_alone_is_the_input() -> None:
    body = sent(WIRE, ChatRequest(model="m", messages=(system("Say hi."),)))
    assert body["input"] == [{"role": "system", "content": "Say hi."}]
    assert "instructions" not in body


def test_reasoning_that_was_not_encrypted_does_not_go_back() -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    request = ChatRequest(model="m", messages=(user("hi"), whole(item, said("x")).message))
    assert [i["type"] for i in sent(WIRE, request)["input"][1:]] == ["message"]


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [("auto", None), ("none", "none"), ("required", "required"), ("f", {"type": "function", "name": "f"})],
)
def test_tool_choice(choice: str, wanted: Json) -> None:
    assert sent(WIRE, replace(PARALLEL, tool_choice=choice)).get("tool_choice") == wanted


def test_reasoning_models_get_no_temperature_and_others_no_request_for_reasoning() -> None:
    thinks, plain = sent(WIRE, replace(FULL, model="gpt-5")), sent(WIRE, replace(FULL, model="gpt-4o"))
    assert not {"temperature", "top_p"} & set(thinks)
    assert thinks["include"] == ["reasoning.encrypted_content"]
    assert (plain["temperature"], plain["top_p"]) == (0.5, 0.9)
    assert "include" not in plain


# --- whole bodies ----------------------------------------------------------------------------------


def test_every_item_becomes_a_part_and_nothing_is_lost() -> None:
    found = whole(THOUGHT, said("hi"), SEARCH, CALL, SQL, usage=USAGE)
    kinds = [type(p).__name__ for p in found.message.parts]
    assert kinds == ["Reasoning", "Text", "Opaque", "ToolCall", "ToolCall"]
    assert (found.text, found.reasoning) == ("hi", "hm")
    assert found.message.parts[0] == Reasoning("hm", THOUGHT)
    assert found.message.parts[2] == Opaque(SEARCH)
    assert [(c.id, c.name, c.arguments) for c in found.tool_calls] == [
        ("call_1", "f", '{"x":1}'),
        ("call_2", "sql", "SELECT 1"),
    ]
    assert (found.finish_reason, found.stopped) == ("tool_calls", "completed")
    assert found.usage == Usage(input=30, cache_read=60, cache_write=10, output=20, reasoning=5)
    assert (found.id, found.model, found.message.origin) == ("resp_1", "m", "gpt")


@pytest.mark.parametrize(
    ("status", "details", "reason", "word"),
    [
        ("completed", None, "stop", "completed"),
        ("incomplete", {"reason": "max_output_tokens"}, "length", "max_output_tokens"),
        ("incomplete", {"reason": "content_filter"}, "content_filter", "content_filter"),
        ("incomplete", None, "length", "incomplete"),
        ("incomplete", {"reason": "something new"}, "length", "something new"),
    ],
)
def test_finish_reasons(status: str, details: Json, reason: str, word: str) -> None:
    found = whole(said("x"), status=status, incomplete_details=details)
    assert (found.finish_reason, found.stopped) == (reason, word)


def test_a_refusal_is_text_and_the_content_filters() -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    found = whole(item)
    assert (found.text, found.finish_reason) == ("No.", "content_filter")


def test_annotations_and_phase_stay_with_their_text() -> None:
    notes = [{"type": "url_citation", "url": "u"}]
    item = said("x", phase="final_answer")
    item["content"][0]["annotations"] = notes
    assert whole(item).message.parts == (Text("x", {"annotations": notes, "phase": "final_answer"}),)


def test_reasoning_in_the_open_is_read_too() -> None:
    item = {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    assert whole(item).reasoning == "hm"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", IncompleteReplyError),
        (b'{"id": "resp_1", "outp', IncompleteReplyError),
        (json.dumps(response(status="in_progress")).encode(), IncompleteReplyError),
        (json.dumps(response(status="cancelled")).encode(), IncompleteReplyError),
        (
            json.dumps(response(status="failed", error={"code": "server_error", "message": "x"})).encode(),
            ServerError,
        ),
        (json.dumps(response(status="failed")).encode(), ServerError),
        (b'{"error": {"message": "x", "type": "rate_limit_error"}}', RateLimitError),
        (b'{"detail": "the prompt is too long"}', ContextWindowError),
        (b"{}", BadReplyError),
        (b"[]", BadReplyError),
        (b"<html>", BadReplyError),
    ],
)
def test_a_body_that_is_no_reply_raises(body: bytes, kind: type[ProviderError]) -> None:
    with pytest.raises(ProviderError) as caught:
        WIRE.decode(body)
    assert type(caught.value) is kind


def test_a_reply_in_the_background_was_asked_for() -> None:
    found = whole(status="queued", background=True)
    assert (found.text, found.finish_reason, found.stopped) == ("", "", "queued")


def test_wrong_types_do_not_fail_a_good_reply() -> None:
    body = response(said("hi"), 7, usage={**USAGE, "input_tokens": "100", "output_tokens_details": []})
    body["incomplete_details"] = "none"
    found = WIRE.decode(json.dumps(body).encode())
    assert (found.text, found.finish_reason) == ("hi", "stop")
    assert found.usage == Usage(input=30, cache_read=60, cache_write=10, output=20)


# --- streams ---------------------------------------------------------------------------------------

EVENTS = [
    BEGUN,
    event("in_progress", response=response(status="in_progress")),
    *item_events(
        0,
        THOUGHT,
        ("reasoning_summary_text.delta", "h"),
        ("reasoning_summary_text.delta", "m"),
    ),
    *item_events(1, said("a\u2028é"), ("output_text.delta", "a"), ("output_text.delta", "\u2028é")),
    *item_events(2, SEARCH),
    *item_events(
        3, CALL, ("function_call_arguments.delta", '{"x"'), ("function_call_arguments.delta", ":1}")
    ),
    *item_events(4, SQL, ("custom_tool_call_input.delta", "SELECT 1")),
    event("code_interpreter_call_code.delta", output_index=2, delta="print()"),
    event("completed", response=response(THOUGHT, said("a\u2028é"), SEARCH, CALL, SQL, usage=USAGE)),
]


def test_a_stream_gives_what_the_whole_body_gives() -> None:
    data = sse(*EVENTS)
    assert_cuts_change_nothing(WIRE, sse(*EVENTS[:1], *EVENTS[6:10], EVENTS[-1]))
    chunks = stream(WIRE, data)
    assert_chunks_make_the_reply(chunks)
    assert chunks[:-1] == [
        ReasoningDelta("h"),
        ReasoningDelta("m"),
        TextDelta("a"),
        TextDelta("\u2028é"),
        ToolCallDelta(0, "call_1", "f", ""),
        ToolCallDelta(0, "", "", '{"x"'),
        ToolCallDelta(0, "", "", ":1}"),
        ToolCallDelta(1, "call_2", "sql", ""),
        ToolCallDelta(1, "", "", "SELECT 1"),
    ]
    assert reply(WIRE, data) == whole(THOUGHT, said("a\u2028é"), SEARCH, CALL, SQL, usage=USAGE)


def test_what_only_the_final_response_holds_is_given_before_the_end() -> None:
    chunks = stream(WIRE, sse(BEGUN, event("completed", response=response(THOUGHT, said("hi"), CALL))))
    assert_chunks_make_the_reply(chunks)
    assert TextDelta("hi") in chunks
    assert ToolCallDelta(0, "call_1", "f", '{"x":1}') in chunks


def test_what_only_the_done_events_hold_is_given_once() -> None:
    chunks = stream(WIRE, sse(*item_events(0, said("hi")), event("completed", response=response(said("hi")))))
    assert chunks[:-1] == [TextDelta("hi")]


def test_a_final_response_without_output_leaves_what_was_streamed() -> None:
    for last in (response(), response(said(""), CALL)):
        data = sse(*EVENTS[:-1], event("completed", response={**last, "output": last["output"][:0]}))
        found = reply(WIRE, data)
        assert (found.text, found.reasoning, len(found.tool_calls)) == ("a\u2028é", "hm", 2)
        assert Opaque(SEARCH) in [
            Opaque({k: v for k, v in p.data.items() if k in SEARCH})
            for p in found.message.parts
            if isinstance(p, Opaque)
        ]


def test_indices_that_a_proxy_lost_neither_repeat_nor_lose_anything() -> None:
    lost = [{k: v for k, v in e.items() if k != "output_index"} for e in EVENTS]
    chunks = stream(WIRE, sse(*lost))
    end = chunks[-1]
    assert isinstance(end, End)
    assert end.response.text == "".join(c.text for c in chunks if isinstance(c, TextDelta)) == "a\u2028é"
    assert end.response.reasoning == "hm"
    assert [c.name for c in end.response.tool_calls] == ["f", "sql"]


def test_a_refusal_streams_as_text() -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    data = sse(
        event("refusal.delta", output_index=0, delta="No"),
        event("refusal.delta", output_index=0, delta="."),
        event("completed", response=response(item)),
    )
    chunks = stream(WIRE, data)
    assert_chunks_make_the_reply(chunks)
    assert reply(WIRE, data).finish_reason == "content_filter"


def test_an_incomplete_response_ends_a_stream() -> None:
    last = response(said("x"), status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert reply(WIRE, sse(event("incomplete", response=last))).finish_reason == "length"


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        (
            event(
                "failed", response=response(status="failed", error={"code": "server_error", "message": "x"})
            ),
            ServerError,
        ),
        (
            event(
                "failed",
                response=response(status="failed", error={"code": "rate_limit_exceeded", "message": "x"}),
            ),
            RateLimitError,
        ),
        (event("failed", response=None), ServerError),
        (
            {"type": "error", "code": "context_length_exceeded", "message": "x", "param": None},
            ContextWindowError,
        ),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}, RateLimitError),
        ({"error": {"message": "x", "code": 503}}, ProviderError),
        (event("cancelled", response=response(status="cancelled")), IncompleteReplyError),
    ],
)
def test_a_failure_inside_the_stream_is_typed_and_keeps_what_came(
    last: Json, kind: type[ProviderError]
) -> None:
    decoder = WIRE.decoder()
    out: list[Chunk] = []
    for found in EVENTS[:-4]:
        decoder.feed(json.dumps(found).encode(), out)
    with pytest.raises(kind):
        decoder.feed(json.dumps(last).encode(), out)
    partial = decoder.partial()
    assert (partial.text, partial.reasoning) == ("a\u2028é", "hm")
    assert [c.arguments for c in partial.tool_calls] == ['{"x":1}', ""]
    assert partial.finish_reason in ("", "error")


def test_a_call_cut_in_its_arguments_is_partial() -> None:
    decoder = WIRE.decoder()
    for found in item_events(0, CALL, ("function_call_arguments.delta", '{"x"'))[:-1]:
        decoder.feed(json.dumps(found).encode(), [])
    assert decoder.partial().tool_calls[0].arguments == '{"x"'
    assert decoder.usage is None


@pytest.mark.parametrize("data", [b"", b"data: [DONE]\n\n", sse(BEGUN), sse(*EVENTS[:-1])])
def test_a_stream_without_its_terminal_event_is_incomplete(data: bytes) -> None:
    with pytest.raises(IncompleteReplyError):
        stream(WIRE, data)


def test_an_incomplete_reply_may_be_allowed() -> None:
    found = reply(WIRE, sse(*EVENTS[:-1]), allow_incomplete=True)
    assert found.text == "a\u2028é"
    with pytest.raises(IncompleteReplyError):
        stream(WIRE, b"", allow_incomplete=True)


def test_done_and_what_follows_the_end_are_passed_over() -> None:
    chunks = stream(WIRE, sse(*EVENTS) + b"data: [DONE]\n\n" + sse(*EVENTS))
    assert sum(isinstance(c, End) for c in chunks) == 1


def test_an_event_cut_in_the_middle_is_incomplete_and_garbage_is_bad() -> None:
    with pytest.raises(IncompleteReplyError):
        stream(WIRE, sse(*EVENTS)[:-20])
    with pytest.raises(BadReplyError):
        stream(WIRE, b"data: hello\n\n")


def test_wrong_types_do_not_fail_a_good_stream() -> None:
    data = sse(
        event("output_text.delta", output_index="0", delta="hi"),
        event("completed", response=response(said("hi"), usage={**USAGE, "input_tokens": "100"})),
    )
    found = reply(WIRE, data)
    assert (found.text, found.usage and found.usage.input) == ("hi", 30)


def test_models_and_errors_are_those_of_the_other_api() -> None:
    assert WIRE.list_models().path == "/models"
    assert [m.id for m in WIRE.decode_models(b'{"data": [{"id": "a"}]}').models] == ["a"]
    assert isinstance(WIRE.error(429, {}, b""), RateLimitError)
