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
    RefusedError,
    ServerError,
)
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Message,
    Opaque,
    Reasoning,
    Text,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
    user,
)
from electrictown.llm.wire.gemini import GeminiWire

WIRE = GeminiWire("google")
STREAMS = exchanges("gemini-streamGenerateContent-stream-200")
WHOLE = exchanges("gemini-generateContent-json-200")
FRAMED = [e for e in STREAMS if e.values[0] is None or not e.values[0]["response_text"].startswith("[")]


# --- requests


def test_a_plain_request() -> None:
    call = WIRE.encode(replace(PLAIN, model="gemini-2.5-flash"), stream=False)
    assert (call.method, call.path, call.headers) == snapshot(
        ("POST", "/v1beta/models/gemini-2.5-flash:generateContent", {})
    )
    assert json.loads(call.body) == snapshot({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]})


def test_a_stream_is_another_path() -> None:
    call = WIRE.encode(replace(PLAIN, model="gemini-2.5-flash"), stream=True)
    assert call.path == snapshot("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse")


def test_a_model_may_be_named_with_its_collection() -> None:
    paths = [WIRE.encode(replace(PLAIN, model=m), stream=False).path for m in ("models/a", "tunedModels/b c")]
    assert paths == snapshot(
        ["/v1beta/models/a:generateContent", "/v1beta/tunedModels/b%20c:generateContent"]
    )


def test_system_prompt_and_sampling_go_where_the_vendor_wants_them() -> None:
    assert sent(WIRE, FULL) == snapshot(
        {
            "contents": [
                {"role": "user", "parts": [{"text": "hello"}]},
                {"role": "model", "parts": [{"text": "hi"}]},
                {"role": "user", "parts": [{"text": "and now?"}]},
            ],
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "generationConfig": {
                "maxOutputTokens": 100,
                "temperature": 0.5,
                "topP": 0.9,
                "stopSequences": ["END"],
            },
        }
    )


def test_parallel_results_stand_in_one_turn_and_made_up_ids_stay_home() -> None:
    assert sent(WIRE, PARALLEL) == snapshot(
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Paris and Rome?"}]},
                {
                    "role": "model",
                    "parts": [
                        {"text": "Looking."},
                        {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}},
                        {"functionCall": {"name": "get_weather", "args": {"city": "Rome"}}},
                    ],
                },
                {
                    "role": "user",
                    "parts": [
                        {"functionResponse": {"name": "get_weather", "response": {"output": "sunny"}}},
                        {"functionResponse": {"name": "get_weather", "response": {"error": "no such city"}}},
                    ],
                },
                {"role": "user", "parts": [{"text": "Well?"}]},
            ],
            "tools": [
                {
                    "functionDeclarations": [
                        {
                            "name": "get_weather",
                            "description": "The weather in a city",
                            "parametersJsonSchema": {
                                "type": "object",
                                "properties": {"city": {"type": "string"}},
                                "required": ["city"],
                            },
                        }
                    ]
                }
            ],
        }
    )


def test_the_vendors_own_ids_go_back() -> None:
    messages = (
        user("?"),
        Message("assistant", (ToolCall("zi06h2mp", "f", "{}"),), "google"),
        Message("tool", (ToolResult("zi06h2mp", "f", "x"),)),
    )
    contents = sent(WIRE, replace(PLAIN, messages=messages))["contents"]
    assert contents[1]["parts"][0]["functionCall"]["id"] == "zi06h2mp"
    assert contents[2]["parts"][0]["functionResponse"]["id"] == "zi06h2mp"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", None),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ("get_weather", {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}),
    ],
)
def test_tool_choice(choice: str, expected: dict[str, Any] | None) -> None:
    body = sent(WIRE, replace(PARALLEL, tool_choice=choice))
    assert body.get("toolConfig", {}).get("functionCallingConfig") == expected


def test_a_schema_is_asked_for_as_it_stands() -> None:
    assert sent(WIRE, replace(PLAIN, schema=SCHEMA))["generationConfig"] == {
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
    }


@pytest.mark.parametrize(
    ("model", "effort", "expected"),
    [
        ("gemini-2.0-flash", "high", None),
        ("gemma-3-27b-it", "high", None),
        ("gemini-2.5-flash", "medium", {"thinkingBudget": 8192, "includeThoughts": True}),
        ("gemini-2.5-flash", "none", {"thinkingBudget": 0}),
        ("gemini-2.5-pro", "none", {"thinkingBudget": 128}),
        ("gemini-2.5-pro", "extreme", {"thinkingBudget": -1, "includeThoughts": True}),
        ("gemini-3-pro-preview", "low", {"thinkingLevel": "low", "includeThoughts": True}),
        ("gemini-3-pro-preview", "none", {"thinkingLevel": "low"}),
        ("gemini-flash-latest", "none", {"thinkingLevel": "minimal"}),
        ("gemini-flash-latest", "", None),
    ],
)
def test_thinking_follows_effort_and_model(model: str, effort: str, expected: dict[str, Any] | None) -> None:
    body = sent(WIRE, replace(PLAIN, model=model, effort=effort))
    assert body.get("generationConfig", {}).get("thinkingConfig") == expected


def test_options_are_merged_into_the_config() -> None:
    asked = replace(PLAIN, max_tokens=5, options={"generationConfig": {"topK": 4}, "labels": {"a": "b"}})
    body = sent(WIRE, asked)
    assert body["generationConfig"] == {"maxOutputTokens": 5, "topK": 4}
    assert body["labels"] == {"a": "b"}


SIGNED = {"thoughtSignature": "c2ln"}
CODE = {"executableCode": {"language": "PYTHON", "code": "1+1"}, **SIGNED}


def _turn(origin: str, model: str = "gemini-3-pro-preview") -> ChatRequest:
    parts = (
        Reasoning("thinking aloud"),
        Reasoning("hm", SIGNED),
        Opaque(CODE),
        Text("so", SIGNED),
        Text("", SIGNED),
        ToolCall("call_0", "f", "{}", SIGNED),
    )
    return replace(PLAIN, model=model, messages=(user("?"), Message("assistant", parts, origin), user("!")))


def test_signatures_go_back_unchanged_and_unsigned_thoughts_do_not() -> None:
    assert sent(WIRE, _turn("google"))["contents"][1]["parts"] == snapshot(
        [
            {"text": "hm", "thought": True, "thoughtSignature": "c2ln"},
            {"executableCode": {"language": "PYTHON", "code": "1+1"}, "thoughtSignature": "c2ln"},
            {"text": "so", "thoughtSignature": "c2ln"},
            {"text": "", "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2ln"},
        ]
    )


def test_another_providers_calls_are_signed_as_the_vendor_asks() -> None:
    assert sent(WIRE, _turn("other"))["contents"][1]["parts"] == snapshot(
        [
            {"text": "so"},
            {
                "functionCall": {"name": "f", "args": {}},
                "thoughtSignature": "skip_thought_signature_validator",
            },
        ]
    )
    old = sent(WIRE, _turn("other", "gemini-2.5-pro"))["contents"][1]["parts"]
    assert "thoughtSignature" not in json.dumps(old)


# --- recorded answers, against a plain reading of the same JSON


def _replies_of(exchange: dict[str, Any]) -> list[dict[str, Any]]:
    text = exchange["response_text"]
    if not exchange["stream"]:
        return [exchange["response_body"]]
    if text.startswith("["):
        return json.loads(text)
    return [json.loads(line[5:]) for line in text.split("\n") if line.startswith("data:")]


def _calls_of(parts: list[dict[str, Any]]) -> list[list[Any]]:
    calls: list[list[Any]] = []
    for part in parts:
        if (call := part.get("functionCall")) is not None:
            if "name" in call:
                calls.append([call["name"], call.get("args", {}), call.get("id")])
            for piece in call.get("partialArgs", []):
                key = piece["jsonPath"].removeprefix("$.")
                calls[-1][1] = {**calls[-1][1], key: calls[-1][1].get(key, "") + piece["stringValue"]}
    return calls


@pytest.mark.parametrize("exchange", [*WHOLE, *STREAMS])
def test_a_recorded_answer_is_decoded_without_loss(exchange: dict[str, Any]) -> None:
    replies = _replies_of(exchange)
    parts = [p for r in replies for c in r["candidates"] for p in c["content"].get("parts", [])]
    response = replay(WIRE, exchange)
    assert isinstance(response, ChatResponse)
    assert response.text == "".join(p.get("text", "") for p in parts if not p.get("thought"))
    assert response.reasoning == "".join(p["text"] for p in parts if p.get("thought"))
    calls = _calls_of(parts)
    assert [[c.name, json.loads(c.arguments)] for c in response.tool_calls] == [call[:2] for call in calls]
    assert [c.id for c in response.tool_calls] == [call[2] or f"call_{i}" for i, call in enumerate(calls)]
    usage: dict[str, int] = replies[-1]["usageMetadata"]
    thoughts, cached = usage.get("thoughtsTokenCount", 0), usage.get("cachedContentTokenCount", 0)
    prompt = usage.get("promptTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
    assert response.usage == Usage(
        input=prompt - cached,
        cache_read=cached,
        output=usage.get("candidatesTokenCount", 0) + thoughts,
        reasoning=thoughts,
    )
    if "totalTokenCount" in usage:
        assert response.usage is not None
        assert response.usage.total == usage["totalTokenCount"]
    assert (response.finish_reason, response.stopped) == ("tool_calls" if calls else "stop", "STOP")
    assert (response.model, response.id) == (replies[0]["modelVersion"], replies[0].get("responseId", ""))


@pytest.mark.parametrize("exchange", [*WHOLE, *STREAMS])
def test_every_signature_and_trace_of_a_recorded_turn_goes_back(exchange: dict[str, Any]) -> None:
    parts = [p for r in _replies_of(exchange) for c in r["candidates"] for p in c["content"].get("parts", [])]
    response = replay(WIRE, exchange)
    assert isinstance(response, ChatResponse)
    body = sent(WIRE, replace(PLAIN, model="gemini-2.5-pro", messages=(user("?"), response.message)))
    returned = body["contents"][1]["parts"]

    def signed(part: dict[str, Any]) -> bool:
        return "thoughtSignature" in part and "partialArgs" not in json.dumps(part)

    def kept(part: dict[str, Any]) -> dict[str, Any]:
        call = part.get("functionCall")
        return part if call is None else {**part, "functionCall": call["name"]}

    traces = {"executableCode", "codeExecutionResult", "toolCall", "toolResponse"}
    assert [kept(p) for p in returned if signed(p) or traces & set(p)] == [
        kept(p) for p in parts if signed(p) or traces & set(p)
    ]


@pytest.mark.parametrize("exchange", FRAMED)
def test_recorded_streams_stream_what_they_end_with(exchange: dict[str, Any]) -> None:
    assert_chunks_make_the_reply(stream(WIRE, exchange["response_text"].encode()))


@pytest.mark.parametrize("exchange", small(FRAMED, 1500))
def test_recorded_streams_may_be_cut_anywhere(exchange: dict[str, Any]) -> None:
    assert_cuts_change_nothing(WIRE, exchange["response_text"].encode())


@pytest.mark.parametrize("exchange", FRAMED)
def test_a_recorded_stream_without_its_finish_reason_is_incomplete(exchange: dict[str, Any]) -> None:
    for shortened in prefixes(exchange["response_text"].encode(), b"\r\n\r\n"):
        with pytest.raises(IncompleteReplyError):
            stream(WIRE, shortened)


@pytest.mark.parametrize(
    "exchange",
    exchanges("gemini-generateContent-json-4") + exchanges("gemini-streamGenerateContent-stream-4"),
)
def test_a_recorded_error_has_its_type(exchange: dict[str, Any]) -> None:
    body = exchange["response_body"] or json.loads(exchange["response_text"])[0]
    error = replay(WIRE, exchange)
    assert isinstance(error, RateLimitError)
    assert (error.status, error.code) == (429, "RESOURCE_EXHAUSTED")
    assert error.message.startswith(body["error"]["message"][:20])
    assert error.retry_after == (34.4 if "RetryInfo" in json.dumps(body) else None)


# --- streams, made up


def _reply(*parts: dict[str, Any], **more: object) -> dict[str, Any]:
    """A chunk; `finishReason` and its kind belong to the candidate."""
    inner = {k: v for k, v in more.items() if k.startswith(("finish", "index"))}
    outer = {k: v for k, v in more.items() if k not in inner}
    content = {"role": "model", "parts": list(parts)}
    return {"candidates": [{"content": content, **inner}], "modelVersion": "g", "responseId": "r", **outer}


def _tokens(prompt: int, output: int) -> dict[str, int]:
    return {"promptTokenCount": prompt, "candidatesTokenCount": output, "totalTokenCount": prompt + output}


DONE = _reply(finishReason="STOP")


def test_the_last_usage_wins_and_chunks_may_follow_the_finish_reason() -> None:
    events = (
        _reply({"text": "a"}, usageMetadata=_tokens(15, 0)),
        _reply({"text": "b"}, usageMetadata=_tokens(15, 1)),
        _reply({"text": "c"}, finishReason="STOP", usageMetadata=_tokens(13, 2)),
        {"usageMetadata": _tokens(13, 3), "modelVersion": "g"},
        {"usageMetadata": {"trafficType": "ON_DEMAND"}},
    )
    response = reply(WIRE, sse(*events, end="\r\n\r\n"))
    assert response.usage == Usage(input=13, output=3)
    assert response.text == "abc"


def test_a_cut_stream_tells_what_it_has_cost_so_far() -> None:
    decoder = WIRE.decoder()
    assert decoder.usage is None
    decoder.feed(json.dumps(_reply({"text": "a"}, usageMetadata={"trafficType": "ON_DEMAND"})).encode(), [])
    assert decoder.usage is None
    decoder.feed(json.dumps(_reply({"text": "b"}, usageMetadata=_tokens(15, 4))).encode(), [])
    assert decoder.usage == Usage(input=15, output=4, partial=True)
    assert decoder.partial().text == "ab"
    assert decoder.partial().finish_reason == ""


def test_an_incomplete_reply_is_given_to_who_allows_it_and_nothing_never() -> None:
    response = reply(WIRE, sse(_reply({"text": "a"})), allow_incomplete=True)
    assert (response.text, response.finish_reason, response.usage) == ("a", "", None)
    with pytest.raises(IncompleteReplyError):
        stream(WIRE, b"", allow_incomplete=True)


def test_a_list_of_chunks_cut_short_is_incomplete() -> None:
    with pytest.raises(IncompleteReplyError):
        WIRE.decode(json.dumps([_reply({"text": "a"})]).encode())


def test_parts_of_text_join_and_signed_ones_stay_apart() -> None:
    events = (
        _reply({"text": "a"}, {"text": "b", "thought": True}),
        _reply({"text": "c", "thought": True}),
        _reply({"text": "d"}),
        _reply({"text": "e"}),
        _reply({"text": "f", "thoughtSignature": "s"}),
        _reply({"text": "g"}),
        DONE,
    )
    chunks = stream(WIRE, sse(*events))
    assert_chunks_make_the_reply(chunks)
    assert reply(WIRE, sse(*events)).message.parts == (
        Text("a"),
        Reasoning("bc"),
        Text("de"),
        Text("f", {"thoughtSignature": "s"}),
        Text("g"),
    )


def test_parts_of_a_new_kind_are_kept_whole() -> None:
    image = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    part = {"somethingNew": 1, "thoughtSignature": "s"}
    assert reply(WIRE, sse(_reply(image, part), DONE)).message.parts == (Opaque(image), Opaque(part))


def test_calls_without_ids_get_stable_ones() -> None:
    call = {"functionCall": {"name": "f", "args": {"a": 1}}}
    response = reply(WIRE, sse(_reply(call, call), DONE))
    assert [c.id for c in response.tool_calls] == ["call_0", "call_1"]
    assert response.finish_reason == "tool_calls"


def test_arguments_that_come_in_pieces_are_put_together() -> None:
    def piece(*values: dict[str, Any], **more: object) -> dict[str, Any]:
        return _reply({"functionCall": {"partialArgs": list(values), "willContinue": True}}, **more)

    events = (
        _reply({"functionCall": {"name": "f", "id": "x", "willContinue": True}, **SIGNED}),
        piece({"jsonPath": "$.who", "stringValue": "An", "willContinue": True}),
        piece({"jsonPath": "$.who", "stringValue": "na"}, {"jsonPath": "$.age", "numberValue": 7}),
        piece(
            {"jsonPath": "$.tags[1].name", "stringValue": "t"},
            {"jsonPath": "$['odd key']", "boolValue": True},
        ),
        piece({"jsonPath": "$.none", "nullValue": "NULL_VALUE"}, {"jsonPath": "$.who.x", "stringValue": "!"}),
        _reply({"functionCall": {}}),
        _reply({"functionCall": {"name": "g"}}),
        DONE,
    )
    chunks = stream(WIRE, sse(*events))
    assert_chunks_make_the_reply(chunks)
    first, second = reply(WIRE, sse(*events)).tool_calls
    assert json.loads(first.arguments) == snapshot(
        {"who": "Anna", "age": 7, "tags": [None, {"name": "t"}], "odd key": True, "none": "NULL_VALUE"}
    )
    assert (first.id, first.opaque) == ("x", SIGNED)
    assert (second.name, second.arguments) == ("g", "{}")
    assert sum(isinstance(c, ToolCallDelta) for c in chunks) == 3


def test_a_call_still_open_at_the_end_is_streamed_whole() -> None:
    opened = {"functionCall": {"name": "f", "willContinue": True}}
    piece = {"functionCall": {"partialArgs": [{"jsonPath": "$.a", "numberValue": 1}], "willContinue": True}}
    chunks = stream(WIRE, sse(_reply(opened), _reply(piece, finishReason="STOP")))
    assert_chunks_make_the_reply(chunks)


@pytest.mark.parametrize(
    ("word", "finish"),
    [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        *((w, "content_filter") for w in ("SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII")),
        *(
            (w, "error")
            for w in ("MALFORMED_FUNCTION_CALL", "MISSING_THOUGHT_SIGNATURE", "OTHER", "NEW_WORD")
        ),
    ],
)
def test_finish_reasons(word: str, finish: str) -> None:
    body = _reply({"text": "x"}, finishReason=word, finishMessage="why")
    for response in (WIRE.decode(json.dumps(body).encode()), reply(WIRE, sse(body))):
        assert (response.finish_reason, response.stopped) == (finish, word)
        assert response.notes == ((f"{word}: why",) if finish == "error" else ())


@pytest.mark.parametrize("word", ["MALFORMED_FUNCTION_CALL", "MISSING_THOUGHT_SIGNATURE"])
def test_an_error_of_the_models_without_content_is_a_bad_reply(word: str) -> None:
    body = {"candidates": [{"finishReason": word, "finishMessage": "Malformed: f("}]}
    with pytest.raises(BadReplyError, match=r"Malformed: f\(") as caught:
        WIRE.decode(json.dumps(body).encode())
    assert caught.value.code == word
    with pytest.raises(BadReplyError):
        stream(WIRE, sse(body))


def test_a_filtered_reply_without_content_says_so() -> None:
    response = WIRE.decode(
        b'{"candidates":[{"finishReason":"SAFETY"}],"usageMetadata":{"promptTokenCount":3}}'
    )
    assert (response.text, response.finish_reason, response.usage) == ("", "content_filter", Usage(input=3))


def test_a_blocked_prompt_is_refused() -> None:
    body = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": _tokens(4, 0)}
    with pytest.raises(RefusedError, match="PROHIBITED_CONTENT"):
        WIRE.decode(json.dumps(body).encode())
    decoder = WIRE.decoder()
    with pytest.raises(RefusedError):
        decoder.feed(json.dumps(body).encode(), [])
    assert decoder.usage == Usage(input=4, partial=True)


def test_only_the_first_candidate_speaks() -> None:
    two = {
        **DONE,
        "candidates": [*_reply({"text": "a"})["candidates"], *_reply({"text": "b"}, index=1)["candidates"]],
    }
    other = _reply({"text": "c"}, index=1)
    assert reply(WIRE, sse(two, other, DONE)).text == "a"


def test_nulls_and_unknown_fields_are_tolerated() -> None:
    odd = {"text": "x", "thought": None, "functionCallNot": None}
    body = _reply(
        odd, finishReason="STOP", usageMetadata={"promptTokenCount": None, "candidatesTokenCount": 2.0}
    )
    response = WIRE.decode(json.dumps({**body, "promptFeedback": {}, "responseId": None}).encode())
    assert (response.message.parts, response.usage) == ((Text("x"),), Usage(output=2))
    chunk = {"candidates": [{"content": None, "finishReason": None}], "usageMetadata": None}
    assert reply(WIRE, sse(_reply({"text": "a"}), chunk, _reply({"text": "b"}), DONE)).text == "ab"


@pytest.mark.parametrize("payload", [b"", b"[DONE", b'"x"', b"12", b"<html>"])
def test_what_is_not_the_protocol_is_a_bad_reply(payload: bytes) -> None:
    with pytest.raises(BadReplyError):
        WIRE.decoder().feed(payload, [])
    with pytest.raises(BadReplyError):
        WIRE.decode(payload)


def test_a_body_without_candidates_is_a_bad_reply() -> None:
    with pytest.raises(BadReplyError):
        WIRE.decode(b'{"usageMetadata":{"promptTokenCount":3}}')


@pytest.mark.parametrize("listed", [False, True])
def test_an_error_may_come_in_a_stream_and_in_a_list(listed: bool) -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    with pytest.raises(OverloadedError) as caught:
        stream(WIRE, sse(_reply({"text": "a"}), [error] if listed else error))
    assert caught.value.status == 503
    with pytest.raises(OverloadedError):
        WIRE.decode(json.dumps([error] if listed else error).encode())


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_any_text_survives_any_cut(pieces: list[str]) -> None:
    data = sse(*(_reply({"text": p}) for p in pieces), DONE, end="\r\n\r\n")
    assert reply(WIRE, data).text == "".join(pieces)
    assert stream(WIRE, data, cut=0) == stream(WIRE, data)


@given(st.data())
def test_a_damaged_stream_ends_in_an_error_of_ours_or_a_reply(data: st.DataObject) -> None:
    call = {"functionCall": {"name": "f", "args": {"a": 1}}, **SIGNED}
    opened = {"functionCall": {"name": "g", "willContinue": True}}
    piece = {"functionCall": {"partialArgs": [{"jsonPath": "$.a[0].b", "stringValue": "x"}]}}
    events = (
        _reply({"text": "a", "thought": True}, usageMetadata=_tokens(3, 1)),
        _reply({"text": "b"}, usageMetadata=_tokens(3, 2)),
        _reply(CODE, call, opened),
        _reply(piece, usageMetadata=_tokens(3, 4)),
        DONE,
    )
    assert_survived(WIRE, sse(*damaged(data, events)))


# --- errors


def _error(status: int, message: str, word: str = "", *details: dict[str, Any]) -> ProviderError:
    body = {"error": {"code": status, "message": message, "status": word, "details": list(details)}}
    error = WIRE.error(status, {}, json.dumps(body).encode())
    listed = WIRE.error(status, {}, json.dumps([body]).encode())
    assert (type(listed), listed.message, listed.retry_after) == (
        type(error),
        error.message,
        error.retry_after,
    )
    return error


def _quota(*ids: str) -> dict[str, Any]:
    violations = [{"quotaId": i} for i in ids]
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations}


def _retry(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


TOO_MANY = "The input token count (9) exceeds the maximum number of tokens allowed (8)."
CURRENT = "You exceeded your current quota, please check your plan and billing details."


@pytest.mark.parametrize(
    ("details", "message", "expected", "wait"),
    [
        ((_quota("GenerateRequestsPerMinutePerProjectPerModel"), _retry("2s")), CURRENT, RateLimitError, 2.0),
        ((_retry("0.5s"),), CURRENT, RateLimitError, 0.5),
        (
            (_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"), _retry("41s")),
            CURRENT,
            QuotaError,
            41.0,
        ),
        ((), CURRENT, QuotaError, None),
        ((_quota("PerMinute"),), CURRENT + " limit: 0, model: gemini-3-pro", QuotaError, None),
        ((), "Your prepayment credits are depleted.", QuotaError, None),
        ((), "Resource has been exhausted (e.g. check quota).", RateLimitError, None),
    ],
)
def test_a_quota_by_the_minute_is_a_rate_limit_and_others_are_spent(
    details: tuple[dict[str, Any], ...], message: str, expected: type[ProviderError], wait: float | None
) -> None:
    error = _error(429, message, "RESOURCE_EXHAUSTED", *details)
    assert (type(error), error.retry_after) == (expected, wait)


@pytest.mark.parametrize(
    ("status", "word", "message", "expected"),
    [
        (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", AuthError),
        (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", AuthError),
        (400, "FAILED_PRECONDITION", "User location is not supported for the API use.", AuthError),
        (400, "FAILED_PRECONDITION", "Please enable billing on your project.", QuotaError),
        (400, "INVALID_ARGUMENT", "Request contains an invalid argument.", BadRequestError),
        (400, "INVALID_ARGUMENT", TOO_MANY, ContextWindowError),
        (500, "INTERNAL", "Your input context is too long. Please reduce it.", ContextWindowError),
        (500, "INTERNAL", "An internal error has occurred.", ServerError),
        (401, "UNAUTHENTICATED", "Request had invalid authentication credentials.", AuthError),
        (402, "", "out of credits", QuotaError),
        (403, "PERMISSION_DENIED", "The caller does not have permission", AuthError),
        (404, "NOT_FOUND", "models/gemini-9 is not found for API version v1beta", ModelNotFoundError),
        (503, "UNAVAILABLE", "The model is overloaded.", OverloadedError),
        (504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete.", ServerError),
    ],
)
def test_errors_have_types(status: int, word: str, message: str, expected: type[ProviderError]) -> None:
    error = _error(status, message, word)
    assert (type(error), error.status, error.message) == (expected, status, message)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("Thinking level is not supported for this model.", "thinkingConfig"),
        ("Budget 0 is invalid. This model only works in thinking mode.", "thinkingConfig"),
        ("Function calling with a response mime type: 'application/json' is unsupported", "responseMimeType"),
        ("JSON mode is not enabled for this model", "responseMimeType"),
        ("A response_json_schema needs JSON", "responseJsonSchema"),
        ("Request contains an invalid argument.", ""),
    ],
)
def test_a_refused_parameter_is_named(message: str, param: str) -> None:
    error = _error(400, message, "INVALID_ARGUMENT")
    assert (type(error), error.param) == (BadRequestError, param)


def test_a_proxys_html_page_is_an_error_with_its_title() -> None:
    error = WIRE.error(502, {}, b"<!DOCTYPE html><html><title>Error 502</title></html>")
    assert (type(error), error.message) == (ServerError, "Error 502")


# --- models


def test_models_come_page_by_page() -> None:
    first = WIRE.list_models()
    assert (first.method, first.path) == ("GET", "/v1beta/models?pageSize=1000")
    page = {
        "models": [
            {
                "name": "models/gemini-a",
                "displayName": "A",
                "inputTokenLimit": 1048576,
                "outputTokenLimit": 65536,
            },
            {"name": "tunedModels/b"},
        ],
        "nextPageToken": "a/b=",
    }
    found = WIRE.decode_models(json.dumps(page).encode())
    assert [(m.id, m.name, m.context_window, m.max_output) for m in found.models] == snapshot(
        [("gemini-a", "A", 1048576, 65536), ("tunedModels/b", "", None, None)]
    )
    assert found.next is not None
    assert found.next.path == "/v1beta/models?pageSize=1000&pageToken=a%2Fb%3D"
    assert WIRE.decode_models(b"{}").next is None
    with pytest.raises(BadReplyError):
        WIRE.decode_models(b"[]")
