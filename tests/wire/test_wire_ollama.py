from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from msgspec.structs import replace
from vendor_cases import (
    EXCHANGES,
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
    lines,
    prefixes,
    replay,
    reply,
    sent,
    small,
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
    ServerError,
)
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    End,
    Message,
    Opaque,
    Reasoning,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
    user,
)
from electrictown.llm.wire.ollama import (
    LOADED,
    VERSION,
    OllamaWire,
    Shown,
    decode_loaded,
    decode_shown,
    decode_version,
    show,
    truncated,
)

WIRE = OllamaWire("box")
RECORDED = exchanges("ollama-chat")
STREAMS = exchanges("ollama-chat-stream")


# --- requests


@pytest.mark.parametrize("streaming", [False, True])
def test_a_plain_request_says_whether_to_stream(streaming: bool) -> None:
    call = WIRE.encode(PLAIN, stream=streaming)
    assert (call.method, call.path) == ("POST", "/api/chat")
    assert json.loads(call.body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "stream": streaming,
    }


def test_num_ctx_is_the_wires_and_in_every_request() -> None:
    wire = OllamaWire("box", num_ctx=16_384)
    for request in (PLAIN, FULL, PARALLEL):
        assert sent(wire, request)["options"]["num_ctx"] == 16_384


def test_sampling_goes_into_options() -> None:
    assert sent(OllamaWire("box", num_ctx=2048), FULL) == snapshot(
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "hi"},
                {"role": "user", "content": "and now?"},
            ],
            "stream": False,
            "options": {
                "num_ctx": 2048,
                "num_predict": 100,
                "temperature": 0.5,
                "top_p": 0.9,
                "stop": ["END"],
            },
        }
    )


def test_results_carry_their_tools_name() -> None:
    assert sent(WIRE, PARALLEL) == snapshot(
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": "Paris and Rome?"},
                {
                    "role": "assistant",
                    "content": "Looking.",
                    "tool_calls": [
                        {"function": {"name": "get_weather", "arguments": {"city": "Paris"}}},
                        {"function": {"name": "get_weather", "arguments": {"city": "Rome"}}},
                    ],
                },
                {"role": "tool", "content": "sunny", "tool_name": "get_weather"},
                {"role": "tool", "content": "no such city", "tool_name": "get_weather"},
                {"role": "user", "content": "Well?"},
            ],
            "stream": False,
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


def test_the_vendors_own_ids_go_back() -> None:
    messages = (
        user("?"),
        Message("assistant", (Reasoning("hm"), ToolCall("call_gsiiy8py", "f", "{}")), "box"),
        Message("tool", (ToolResult("call_gsiiy8py", "f", "x"),)),
    )
    assert sent(WIRE, replace(PLAIN, messages=messages))["messages"][1:] == snapshot(
        [
            {
                "role": "assistant",
                "content": "",
                "thinking": "hm",
                "tool_calls": [{"function": {"name": "f", "arguments": {}}, "id": "call_gsiiy8py"}],
            },
            {"role": "tool", "content": "x", "tool_name": "f", "tool_call_id": "call_gsiiy8py"},
        ]
    )


def test_what_another_provider_thought_is_not_sent() -> None:
    parts = (Reasoning("hm", {"signature": "s"}), Opaque({"type": "x"}), Text("ok"))
    body = sent(WIRE, replace(PLAIN, messages=(user("?"), Message("assistant", parts, "claude"), user("!"))))
    assert body["messages"][1] == {"role": "assistant", "content": "ok"}


def test_a_schema_is_the_format() -> None:
    assert sent(WIRE, replace(PLAIN, schema=SCHEMA))["format"] == SCHEMA


@pytest.mark.parametrize(
    ("model", "effort", "think"),
    [
        ("qwen3", "", None),
        ("qwen3", "none", False),
        ("qwen3", "high", True),
        ("gpt-oss:20b", "high", "high"),
        ("gpt-oss:20b", "none", False),
    ],
)
def test_think_follows_effort(model: str, effort: str, think: bool | str | None) -> None:
    assert sent(WIRE, replace(PLAIN, model=model, effort=effort)).get("think") == think


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("auto", ["get_weather", "other"]),
        ("required", ["get_weather", "other"]),
        ("none", []),
        ("other", ["other"]),
    ],
)
def test_tool_choice_is_made_by_what_is_offered(choice: str, names: list[str]) -> None:
    asked = replace(PLAIN, tools=(WEATHER, replace(WEATHER, name="other")), tool_choice=choice)
    assert [t["function"]["name"] for t in sent(WIRE, asked).get("tools", [])] == names


def test_options_are_merged_last_and_leave_num_ctx() -> None:
    asked = replace(PLAIN, options={"options": {"seed": 1}, "truncate": False, "shift": False})
    body = sent(OllamaWire("box", num_ctx=4096), asked)
    assert (body["options"], body["truncate"], body["shift"]) == ({"num_ctx": 4096, "seed": 1}, False, False)
    assert "truncate" not in sent(WIRE, PLAIN)


# --- recorded answers, against a plain reading of the same JSON


@pytest.mark.parametrize("exchange", RECORDED)
def test_a_recorded_answer_is_decoded_without_loss(exchange: dict[str, Any]) -> None:
    text = exchange["response_text"]
    told = [json.loads(line) for line in text.splitlines()] if text else [exchange["response_body"]]
    messages: list[dict[str, Any]] = [line.get("message", {}) for line in told]
    response = replay(WIRE, exchange)
    assert isinstance(response, ChatResponse)
    assert response.text == "".join(m.get("content", "") for m in messages)
    assert response.reasoning == "".join(m.get("thinking", "") for m in messages)
    calls = [call for m in messages for call in m.get("tool_calls", [])]
    assert [(c.id, c.name, json.loads(c.arguments)) for c in response.tool_calls] == [
        (c.get("id", f"call_{i}"), c["function"]["name"], c["function"]["arguments"])
        for i, c in enumerate(calls)
    ]
    last = told[-1]
    counted = "prompt_eval_count" in last or "eval_count" in last
    usage = Usage(input=last.get("prompt_eval_count", 0), output=last.get("eval_count", 0))
    assert response.usage == (usage if counted else None)
    assert response.finish_reason == ("tool_calls" if calls else "stop")
    assert (response.stopped, response.model) == (last.get("done_reason", ""), last["model"])
    assert response.message.origin == "box"


@pytest.mark.parametrize("exchange", STREAMS)
def test_recorded_streams_stream_what_they_end_with(exchange: dict[str, Any]) -> None:
    assert_chunks_make_the_reply(stream(WIRE, exchange["response_text"].encode()))


@pytest.mark.parametrize("exchange", small(STREAMS, 7000))
def test_recorded_streams_may_be_cut_anywhere(exchange: dict[str, Any]) -> None:
    assert_cuts_change_nothing(WIRE, exchange["response_text"].encode())


@pytest.mark.parametrize("exchange", STREAMS)
def test_a_recorded_stream_without_its_last_line_is_incomplete(exchange: dict[str, Any]) -> None:
    for shortened in prefixes(exchange["response_text"].encode(), b"\n"):
        with pytest.raises(IncompleteReplyError):
            stream(WIRE, shortened)


# --- streams, made up


def _line(content: str = "", **more: object) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    if "thinking" in more or "tool_calls" in more:
        message |= {k: more.pop(k) for k in ("thinking", "tool_calls") if k in more}
    return {"model": "m", "created_at": "t", "message": message, "done": False, **more}


DONE = {"model": "m", "done": True, "done_reason": "stop", "prompt_eval_count": 4, "eval_count": 2}
CALL = {"function": {"name": "f", "arguments": {"a": 1}}}


def test_thinking_text_and_calls_come_in_their_order() -> None:
    events = (
        _line(thinking="h"),
        _line(thinking="m"),
        _line("o"),
        _line("k"),
        _line(tool_calls=[CALL]),
        DONE,
    )
    chunks = stream(WIRE, lines(*events))
    assert_chunks_make_the_reply(chunks)
    response = reply(WIRE, lines(*events))
    assert response.message.parts == (Reasoning("hm"), Text("ok"), ToolCall("call_0", "f", '{"a":1}'))
    assert response.finish_reason == "tool_calls"


def test_calls_without_ids_get_stable_ones() -> None:
    events = (_line(tool_calls=[CALL, {**CALL, "id": "x"}]), _line(tool_calls=[CALL]), DONE)
    assert [c.id for c in reply(WIRE, lines(*events)).tool_calls] == ["call_0", "x", "call_2"]


@pytest.mark.parametrize(
    ("arguments", "text"), [(None, "{}"), ({}, "{}"), ('{"a": 1}', '{"a": 1}'), ({"a": [1.5]}, '{"a":[1.5]}')]
)
def test_arguments_are_json_text(arguments: object, text: str) -> None:
    call = {"function": {"name": "f", "arguments": arguments}}
    assert reply(WIRE, lines(_line(tool_calls=[call]), DONE)).tool_calls[0].arguments == text


@pytest.mark.parametrize(
    ("word", "finish"),
    [("stop", "stop"), ("length", "length"), ("load", "stop"), ("odd", "stop"), (None, "stop")],
)
def test_finish_reasons(word: str | None, finish: str) -> None:
    response = reply(WIRE, lines(_line("x"), {**DONE, "done_reason": word}))
    assert (response.finish_reason, response.stopped) == (finish, word or "")


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        ({"prompt_eval_count": 3, "eval_count": 4}, Usage(input=3, output=4)),
        ({"eval_count": 4}, Usage(output=4)),
        ({"prompt_eval_count": None, "eval_count": None}, None),
        ({}, None),
    ],
)
def test_no_counts_at_all_are_unknown_not_zero(counts: dict[str, int | None], usage: Usage | None) -> None:
    assert reply(WIRE, lines({"model": "m", "done": True, **counts})).usage == usage


def test_every_early_end_is_incomplete_and_nothing_is_never_allowed() -> None:
    whole = lines(_line("a"), _line("b"), DONE)
    for cut in prefixes(whole, b"\n"):
        with pytest.raises(IncompleteReplyError):
            stream(WIRE, cut)
    response = reply(WIRE, lines(_line("a")), allow_incomplete=True)
    assert (response.text, response.finish_reason, response.usage) == ("a", "", None)
    with pytest.raises(IncompleteReplyError):
        stream(WIRE, b"", allow_incomplete=True)


def test_a_cut_stream_keeps_what_it_said() -> None:
    decoder = WIRE.decoder()
    for event in (_line("a"), _line("b")):
        decoder.feed(json.dumps(event).encode(), [])
    assert (decoder.partial().text, decoder.usage) == ("ab", None)


def test_nulls_and_unknown_fields_are_tolerated() -> None:
    odd = {**_line(), "message": {"content": None, "thinking": None, "tool_calls": None, "images": []}}
    response = reply(
        WIRE, lines(_line("a"), odd, {**_line("b"), "done": None, "new": {}}, {**DONE, "message": None})
    )
    assert response.text == "ab"


def test_a_whole_reply_may_come_as_lines_or_spread_over_them() -> None:
    assert WIRE.decode(lines(_line("a"), _line("b"), DONE)).text == "ab"
    assert WIRE.decode(json.dumps({**DONE, **_line("a"), "done": True}, indent=2).encode()).text == "a"


@pytest.mark.parametrize("payload", [b"[DONE", b'"x"', b"12", b"<html>", b'{"a":1}', b"[]"])
def test_what_is_not_the_protocol_is_a_bad_reply(payload: bytes) -> None:
    with pytest.raises(BadReplyError):
        WIRE.decoder().feed(payload, [])
    with pytest.raises(BadReplyError):
        WIRE.decode(payload)


def test_a_whole_reply_that_is_not_done_is_a_bad_one() -> None:
    for body in (b"", json.dumps(_line("a")).encode()):
        with pytest.raises(BadReplyError):
            WIRE.decode(body)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_any_text_survives_any_cut(pieces: list[str]) -> None:
    data = lines(*(_line(p) for p in pieces), DONE)
    assert reply(WIRE, data).text == "".join(pieces)
    assert stream(WIRE, data, cut=0) == stream(WIRE, data)


def test_nothing_follows_the_end() -> None:
    chunks = stream(WIRE, lines(_line("a"), DONE, _line("b"), DONE))
    assert [type(chunk) for chunk in chunks] == [TextDelta, End]


@given(st.data())
def test_a_damaged_stream_ends_in_an_error_of_ours_or_a_reply(data: st.DataObject) -> None:
    events = (_line(thinking="h"), _line("o"), _line("k"), _line(tool_calls=[{**CALL, "id": "x"}]), DONE)
    assert_survived(WIRE, lines(*damaged(data, events)))


# --- errors


@pytest.mark.parametrize("shape", [str, lambda text: {"message": text}])
@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        (404, 'model "llama9:1b" not found, try pulling it first', ModelNotFoundError),
        (404, "model 'llama9:1b' not found", ModelNotFoundError),
        (503, "server busy, please try again.  maximum pending requests exceeded", OverloadedError),
        (502, "upstream error", ServerError),
        (500, "llama runner process has terminated: signal: killed", ServerError),
        (401, "unauthorized", AuthError),
        (400, "the input length exceeds the context length", ContextWindowError),
        (400, "input length exceeds maximum context length", ContextWindowError),
        (500, "prompt too long; exceeded max context length by 12 tokens", ContextWindowError),
        (400, '"llama3" does not support tools', BadRequestError),
        (429, "you have reached your weekly usage limit, upgrade for higher limits", QuotaError),
        (403, "this model requires a subscription, upgrade for access", QuotaError),
    ],
)
def test_errors_have_types(
    status: int, text: str, expected: type[ProviderError], shape: Callable[[str], object]
) -> None:
    body = json.dumps({"error": shape(text)}).encode()
    error = WIRE.error(status, {}, body)
    assert (type(error), error.status, error.message) == (expected, status, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model 'x' not found", ModelNotFoundError),
        ("server busy, please try again", OverloadedError),
        ("the input length exceeds the context length", ContextWindowError),
        ("an error was encountered while running the model: unexpected EOF", ServerError),
    ],
)
def test_an_error_in_the_middle_of_a_stream_has_its_type(text: str, expected: type[ProviderError]) -> None:
    with pytest.raises(expected, match=text[:10]):
        stream(WIRE, lines(_line("a"), {"error": text}))
    with pytest.raises(expected):
        WIRE.decode(json.dumps({"error": text}).encode())


def test_a_missing_model_can_be_pulled() -> None:
    error = WIRE.error(404, {}, b'{"error":"model \\"hf.co/a/b:Q4_K_M\\" not found, try pulling it first"}')
    assert "ollama pull hf.co/a/b:Q4_K_M" in error.hint


def test_a_cloud_model_without_a_login_says_how_to_get_one() -> None:
    body = b'{"error":"unauthorized","signin_url":"https://ollama.com/connect?x"}'
    assert "ollama signin" in WIRE.error(401, {}, body).hint


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("registry.ollama.ai/library/llama3:latest does not support tools", "tools"),
        ('"qwen2.5-coder:7b" does not support thinking', "think"),
        ('think value "medium" is not supported for this model', "think"),
    ],
)
def test_a_refused_parameter_is_named(text: str, param: str) -> None:
    error = WIRE.error(400, {}, json.dumps({"error": text}).encode())
    assert (type(error), error.param) == (BadRequestError, param)


def test_a_proxys_html_page_is_an_error_with_its_title() -> None:
    error = WIRE.error(502, {}, b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>")
    assert (type(error), error.message) == (ServerError, "502 Bad Gateway")
    assert type(WIRE.error(401, {}, b"Unauthorized")) is AuthError


# --- truncation


def _asked(text: str) -> ChatRequest:
    return replace(PLAIN, messages=(user(text),))


@pytest.mark.parametrize(
    ("text", "num_ctx", "prompt", "cut"),
    [
        ("word " * 3000, 2048, 2048, True),  # more words than tokens
        ("word " * 3000, 2048, 300, True),
        ("word " * 3000, 2048, None, True),
        ("abcdefgh" * 1000, 2048, 2047, True),  # filled to the brim
        ("abcdefgh" * 1000, 2048, 1900, False),
        ("word " * 1000, 2048, 12, False),  # a cached prefix: a small count alone says nothing
        ("a b " * 200, 2048, 2048, False),  # a text that short cannot have filled it
        ("word " * 3000, 2048, 3010, False),  # the host's window is larger than we think
        ("word " * 3000, None, 2048, False),
        ("word", 2048, None, False),
    ],
)
def test_silent_truncation_is_noticed(text: str, num_ctx: int | None, prompt: int | None, cut: bool) -> None:
    usage = None if prompt is None else Usage(input=prompt, output=5)
    assert truncated(_asked(text), num_ctx, usage) is cut


def test_results_and_arguments_count_as_sent_text() -> None:
    long = "word " * 3000
    for part in (ToolResult("c", "f", long), ToolCall("c", "f", long), Reasoning(long)):
        assert truncated(replace(PLAIN, messages=(Message("user", (part,)),)), 2048, None)
    assert not truncated(replace(PLAIN, messages=(Message("user", (Opaque({"text": long}),)),)), 2048, None)


# --- the host


def _recorded(name: str) -> bytes:
    found = sorted(EXCHANGES.glob(f"ollama-{name}-*.json"))
    if not found:
        pytest.skip("the recorded exchanges are not here")
    return json.dumps(json.loads(found[0].read_text())["response_body"]).encode()


def test_models_are_the_tags() -> None:
    call = WIRE.list_models()
    assert (call.method, call.path) == ("GET", "/api/tags")
    page = WIRE.decode_models(_recorded("tags"))
    assert [m.id for m in page.models] == ["deepseek-r1:latest", "llama3.2:latest"]
    assert page.next is None
    with pytest.raises(BadReplyError):
        WIRE.decode_models(b"{}")


def test_version_and_loaded_models() -> None:
    assert (VERSION.method, VERSION.path, LOADED.path) == ("GET", "/api/version", "/api/ps")
    assert decode_version(_recorded("version")) == "0.5.1"
    assert decode_version(b"{}") == ""
    assert decode_loaded(_recorded("ps")) == {"mistral:latest": None}
    assert decode_loaded(b'{"models":[{"model":"a","context_length":4096}, {}]}') == {"a": 4096}
    assert decode_loaded(b'{"models":null}') == {}


def test_what_a_model_can_do() -> None:
    call = show("llama3")
    assert (call.method, call.path, call.body) == ("POST", "/api/show", b'{"model":"llama3"}')
    told = {
        "parameters": 'stop "<|x|>"\nnum_ctx                        8192',
        "model_info": {
            "general.architecture": "llama",
            "llama.context_length": 131072,
            "llama.block_count": 2,
        },
        "capabilities": ["completion", "tools"],
    }
    assert decode_shown(json.dumps(told).encode()) == Shown(131072, 8192, ("completion", "tools"))
    assert decode_shown(b"{}") == Shown()
