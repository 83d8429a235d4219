"""The forms in which vendors and compatible servers send the same things, documented or seen."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from decode_kit import (
    START,
    STOP,
    Record,
    begin,
    buckets,
    call_stream,
    called,
    calls,
    chat,
    decoded,
    delta,
    done,
    ending,
    gemini,
    grow,
    message,
    piece,
    record,
    response,
    said,
    streamed,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from electrictown.errors import IncompleteReplyError
from electrictown.llm.messages import ChatRequest, Chunk, Json, Message, ToolCallDelta, system, user
from electrictown.llm.wire.anthropic import AnthropicWire
from electrictown.llm.wire.base import Wire
from electrictown.llm.wire.gemini import GeminiWire
from electrictown.llm.wire.openai import OpenAIWire
from electrictown.llm.wire.responses import ResponsesWire

HI = {"role": "assistant", "content": "hi"}

# --- usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": None}, (10, 0, 0, 5, 0)),
        ({"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": None}}, (10, 0, 0, 0, 0)),
        ({"completion_tokens": 5}, (0, 0, 0, 5, 0)),
        ({"prompt_tokens": "10", "completion_tokens": 5.0}, (10, 0, 0, 5, 0)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}, (0, 4, 0, 0, 0)),
        (  # LiteLLM says it twice
            {
                "prompt_tokens": 100,
                "completion_tokens": 5,
                "prompt_tokens_details": {"cached_tokens": 40, "cache_creation_tokens": 50},
                "cache_creation_input_tokens": 50,
                "cache_read_input_tokens": 40,
            },
            (10, 40, 50, 5, 0),
        ),
        (
            {"prompt_tokens": 100, "cache_creation_input_tokens": 50, "cache_read_input_tokens": 40},
            (10, 40, 50, 0, 0),
        ),
        (  # DashScope
            {"prompt_tokens": 100, "prompt_tokens_details": {"cache_creation_input_tokens": 50}},
            (50, 0, 50, 0, 0),
        ),
    ],
)
def test_chat_usage_is_read_in_every_vendors_form(usage: Record, expected: tuple[int, ...]) -> None:
    assert decoded(record("chat", chat(HI, usage=usage)))["usage"] == buckets(*expected)


def test_an_empty_usage_does_not_hide_an_earlier_one() -> None:
    counted = {"prompt_tokens": 3, "completion_tokens": 1}
    events = (delta({"content": "hi"}, usage=None), delta({}, "stop", usage=counted))
    found = streamed(
        "chat", *events, {"choices": [], "usage": {}}, {"choices": None, "usage": None}, "[DONE]"
    )
    assert decoded(found)["usage"] == buckets(3, 0, 0, 1, 0)


def test_the_last_of_many_usages_counts() -> None:
    events = [delta({"content": "x"}, usage={"prompt_tokens": 3, "completion_tokens": n}) for n in (1, 2)]
    assert decoded(streamed("chat", *events, "[DONE]"))["usage"] == buckets(3, 0, 0, 2, 0)


def test_anthropics_compaction_is_billed_beside_the_message_and_an_adviser_is_not_this_model() -> None:
    # https://docs.claude.com/en/docs/build-with-claude/compaction
    usage: Record = {
        "input_tokens": 23_000,
        "output_tokens": 1000,
        "iterations": [
            {
                "type": "compaction",
                "input_tokens": 180_000,
                "output_tokens": 3500,
                "cache_read_input_tokens": 7,
            },
            {"type": "advisor_message", "input_tokens": 50, "output_tokens": 5},
            {"type": "message", "input_tokens": 23_000, "output_tokens": 1000},
        ],
    }
    text = {"type": "text", "text": "x"}
    assert decoded(record("messages", message(text, usage=usage)))["usage"] == buckets(203_000, 7, 0, 4500, 0)
    events = (START, begin(0, **text), done(0), ending("end_turn", **usage), STOP)
    assert decoded(streamed("messages", *events))["usage"] == buckets(203_000, 7, 0, 4500, 0)


def test_gemini_counts_what_tools_brought_as_input_and_thoughts_as_output() -> None:
    counted = {
        "promptTokenCount": 10,
        "toolUsePromptTokenCount": 5,
        "cachedContentTokenCount": 4,
        "candidatesTokenCount": 2,
        "thoughtsTokenCount": 3,
    }
    found = record("gemini", gemini({"text": "t", "thought": True}, {"text": "x"}, usageMetadata=counted))
    answer = decoded(found)
    assert (answer["text"], answer["reasoning"]) == ("x", "t")
    assert answer["usage"] == buckets(11, 4, 0, 5, 3)


# --- tool calls of chat completions ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([piece("", name="a", id="x")], [("a", {})]),
        ([piece(None, name="a", id="x")], [("a", {})]),
        ([piece({"p": 1}, name="a")], [("a", {"p": 1})]),
        ([piece('{"p":', name="a")], [("a", '{"p":')]),
        ([None, piece("{}", name="a"), 5], [("a", {})]),
        (
            [piece('{"p":1}', name="a", id="x"), piece('{"p":2}', name="a", id="x")],
            [("a", {"p": 1}), ("a", {"p": 2})],
        ),
        ([piece("{}", name="a", index=0), piece("{}", name="b", index=0)], [("a", {}), ("b", {})]),
        ([piece("", name="a"), piece("", name="a")], [("a", {}), ("a", {})]),
    ],
)
def test_every_entry_of_a_whole_message_is_a_call(pieces: list[Any], expected: list[Any]) -> None:
    found = record("chat", chat({"content": None, "tool_calls": pieces}))
    assert calls(found) == expected
    assert decoded(found)["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        (  # interleaved, with a gap in the indices
            (
                [piece("", name="f", index=0, id="a"), piece("", name="g", index=2, id="b")],
                [piece('{"q":', index=2)],
                [piece('{"p":1}', index=0)],
                [piece("2}", index=2)],
            ),
            [("f", {"p": 1}), ("g", {"q": 2})],
        ),
        (  # neither index nor id
            ([piece("", name="a"), piece("{}", name="b")], [piece("{}", name="b")]),
            [("a", {}), ("b", {}), ("b", {})],
        ),
        (  # a new id for every piece
            (
                [piece("", name="f", index=0, id="a")],
                [piece('{"p":', index=0, id="b")],
                [piece("1}", index=0, id="c")],
            ),
            [("f", {"p": 1})],
        ),
        (  # the name in every piece, and a last piece of nothing
            (
                [piece("", name="f", index=0, id="a")],
                [piece('{"p":1}', name="f", index=0)],
                [piece("", name="f", index=0)],
            ),
            [("f", {"p": 1})],
        ),
        (  # a number for an id
            ([piece("{}", name="f", index=0, id=7)], [piece("{}", name="g", index="1", id=8)]),
            [("f", {}), ("g", {})],
        ),
    ],
)
def test_pieces_of_calls_gather_however_servers_name_them(
    deltas: tuple[Any, ...], expected: list[Any]
) -> None:
    assert calls(call_stream(*deltas)) == expected


def test_a_custom_tools_input_stays_text() -> None:
    custom = {"id": "x", "type": "custom", "custom": {"name": "run", "input": ""}}
    assert calls(record("chat", chat({"tool_calls": [custom]}))) == [("run", "")]


def test_geminis_signature_on_the_compatible_api_goes_back_with_its_call() -> None:
    # https://ai.google.dev/gemini-api/docs/thought-signatures#openai
    extra = {"google": {"thought_signature": "Ab=="}}
    first = {**piece("", name="f", id="x", index=0), "extra_content": extra}
    decoder = OpenAIWire("g").decoder()
    out: list[Chunk] = []
    for found in ([first], [piece("{}", index=0)]):
        decoder.feed(json.dumps(delta({"tool_calls": found})).encode(), out)
    sent = OpenAIWire("g").encode(
        ChatRequest(model="gemini-3", messages=(user("?"), decoder.partial().message)), stream=False
    )
    [told] = json.loads(sent.body)["messages"][1]["tool_calls"]
    assert told == {
        "id": "x",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
        "extra_content": extra,
    }


# --- content and choices ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        chat({"content": {"type": "text", "text": "hi"}}),
        chat({"content": ["h", {"text": "i"}]}),
        chat({**HI, "audio": {"id": "a", "data": "x"}, "annotations": [{"type": "url_citation"}]}),
        chat(HI, logprobs={"content": [{"token": "hi"}]}, service_tier="flex", system_fingerprint=None),
        {"choices": [{"message": HI, "finish_reason": "stop"}, {"message": {"content": "no"}}]},
        {"choices": [{"index": 1, "message": HI, "finish_reason": "stop"}]},
        {"choices": [None, {"index": 0, "message": HI, "finish_reason": "stop"}]},
    ],
)
def test_the_text_of_the_first_choice_is_found(body: Record) -> None:
    answer = decoded(record("chat", body))
    assert (answer["text"], answer["finish_reason"], answer["error"]) == ("hi", "stop", None)


def test_azures_empty_chunks_change_nothing() -> None:
    events = (
        {"choices": [], "id": "", "model": "", "prompt_filter_results": [{"content_filter_results": {}}]},
        delta({"role": "assistant", "content": "", "refusal": None}),
        delta({"content": "hi"}),
        {"choices": [{"content_filter_offsets": {}, "finish_reason": None, "index": 0}], "model": ""},
        delta(None, "content_filter"),
    )
    answer = decoded(streamed("chat", *events, "[DONE]"))
    assert (answer["text"], answer["finish_reason"], answer["model"]) == ("hi", "content_filter", "m")


# --- framing ---------------------------------------------------------------------------------------

ONE, TWO = json.dumps(delta({"content": "h"})), json.dumps(delta({"content": "i"}, "stop"))


@pytest.mark.parametrize(
    "body",
    [
        f"data: {ONE}\n\ndata: {TWO}\n\ndata:  [DONE] \n\n",
        f"\ufeffdata:{ONE}\r\n\r\n: waiting\r\n\r\nevent: x\r\ndata:{TWO}\r\nid: 4\r\n\r\n",
        f"data: {ONE}\ndata: {TWO}\ndata: [DONE]\n",  # no blank lines
        f": begin\n\ndata: {ONE}\n\ndata: {TWO}\n\n",
        f"data: {ONE}\n\ndata: {TWO}\n\ndata: [DONE]\n\ndata: {ONE}\n\ndata: garbage\n\n",
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_stream_is_read_in_every_spelling(body: str, stream: bool) -> None:
    answer = decoded(record("chat", body, stream=stream))
    assert (answer["text"], answer["finish_reason"], answer["error"]) == ("hi", "stop", None)
    assert OpenAIWire("x").decode(body.encode()).text == "hi"  # where a whole body was asked for


def test_a_stream_for_a_whole_body_is_complete_or_an_error() -> None:
    events = (START, begin(0, type="text", text="hi"), done(0), ending("end_turn"), STOP)
    body = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events)
    assert AnthropicWire("x").decode(body.encode()).text == "hi"
    with pytest.raises(IncompleteReplyError):
        AnthropicWire("x").decode(body[: body.index("event: message_stop")].encode())


def test_one_event_over_several_lines_is_one_event() -> None:
    lines = json.dumps(delta({"content": "hi"}, "stop"), indent=1).split("\n")
    body = "".join(f"data: {line}\n" for line in lines) + "\ndata: [DONE]\n\n"
    assert decoded(record("chat", body, stream=True))["text"] == "hi"


# --- errors inside a good answer -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "text", "kind"),
    [
        (
            streamed("chat", delta({"content": "h"}), delta({}, x_groq={"error": "over capacity"})),
            "h",
            "ServerError",
        ),
        (record("chat", {"code": 500, "msg": "404 NOT_FOUND", "success": False}), "", "ServerError"),
        (
            record("chat", {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}}),
            "",
            "ServerError",
        ),
        (
            record(
                "chat", {"choices": [{"message": HI, "error": {"code": 502, "message": "idle upstream"}}]}
            ),
            "hi",
            "ServerError",
        ),
        (
            record(
                "responses",
                response(
                    said("part"), status="failed", error={"code": "rate_limit_exceeded", "message": "m"}
                ),
            ),
            "part",
            "RateLimitError",
        ),
        (
            record(
                "responses", response(status="failed", error={"code": "invalid_image_format", "message": "m"})
            ),
            "",
            "BadRequestError",
        ),
        (
            record("gemini", {**gemini(), "candidates": [], "promptFeedback": {"blockReason": "OTHER"}}),
            "",
            "RefusedError",
        ),
        (record("gemini", gemini(finish="MALFORMED_FUNCTION_CALL")), "", "BadReplyError"),
    ],
)
def test_an_error_with_a_good_status_is_typed_and_keeps_what_came(
    found: Record, text: str, kind: str
) -> None:
    answer = decoded(found)
    assert (answer["text"], answer["error"]["type"]) == (text, kind)


def test_a_blocked_prompt_still_tells_who_refused_and_what_it_cost() -> None:
    body = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "modelVersion": "g",
        "usageMetadata": {"promptTokenCount": 3},
    }
    answer = decoded(record("gemini", body))
    assert (answer["model"], answer["usage"]) == ("g", buckets(3, 0, 0, 0, 0))


def test_a_message_without_room_for_a_reply_still_tells_what_it_cost() -> None:
    answer = decoded(record("messages", message(stop="model_context_window_exceeded")))
    assert answer["error"]["type"] == "ContextWindowError"
    assert (answer["model"], answer["usage"]) == ("claude", buckets(5, 0, 0, 2, 0))


@pytest.mark.parametrize("kind", ["chat", "responses", "messages", "gemini", "ollama"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_web_page_is_a_bad_reply(kind: str, stream: bool) -> None:
    error = decoded(record(kind, "<html><title>Log in</title></html>", stream=stream))["error"]
    assert (error["type"], "Log in" in error["message"]) == ("BadReplyError", True)


# --- the other protocols ---------------------------------------------------------------------------


def test_anthropics_calls_may_have_their_input_at_the_start() -> None:
    events = (
        START,
        begin(0, type="tool_use", id="t", name="f", input={"a": 1}),
        done(0),
        ending("tool_use"),
        STOP,
    )
    assert calls(streamed("messages", *events)) == [("f", {"a": 1})]
    decoder = AnthropicWire("x").decoder()
    out: list[Chunk] = []
    for event in events:
        decoder.feed(json.dumps(event).encode(), out)
    pieces = [c.arguments for c in out if isinstance(c, ToolCallDelta)]
    assert json.loads("".join(pieces)) == {"a": 1}


def test_anthropics_interleaved_calls_and_empty_pieces() -> None:
    events = (
        begin(0, type="tool_use", id="t", name="f", input={}),
        begin(1, type="tool_use", id="u", name="g", input={}),
        grow(1, type="input_json_delta", partial_json='{"b"'),
        grow(0, type="input_json_delta", partial_json=""),
        grow(0, type="input_json_delta", partial_json='{"a":1}'),
        grow(1, type="input_json_delta", partial_json=":2}"),
    )
    found = streamed("messages", START, *events, ending("tool_use"), STOP)
    assert calls(found) == [("f", {"a": 1}), ("g", {"b": 2})]


def test_what_has_no_type_is_known_by_its_fields() -> None:
    blocks: tuple[Record, ...] = (
        {"thinking": "t"},
        {"text": "x"},
        {"id": "c", "name": "f", "input": {"a": 1}},
    )
    answer = decoded(record("messages", message(*blocks)))
    assert (answer["text"], answer["reasoning"]) == ("x", "t")
    assert answer["tool_calls"] == [{"id": "c", "name": "f", "arguments": {"a": 1}}]
    events = (begin(0), grow(0, thinking="t"), begin(1, text=""), grow(1, text="x"), ending("end_turn"))
    assert decoded(streamed("messages", START, *events, STOP))["text"] == "x"
    items = ({"summary": [{"text": "t"}]}, {"content": [{"text": "x"}]}, {"name": "f", "arguments": "{}"})
    answer = decoded(record("responses", response(*items)))
    assert (answer["text"], answer["reasoning"], answer["tool_calls"][0]["name"]) == ("x", "t", "f")


def test_a_message_whose_content_is_text() -> None:
    assert decoded(record("messages", {**message(), "content": "hello"}))["text"] == "hello"


@pytest.mark.parametrize("kind", ["messages", "ollama", "chat"])
def test_a_stop_of_a_new_kind_is_a_stop(kind: str) -> None:
    bodies = {
        "messages": message({"type": "text", "text": "x"}, stop="compaction"),
        "ollama": {"model": "l", "message": HI, "done": True, "done_reason": "new"},
        "chat": chat(HI, "eos"),
    }
    assert decoded(record(kind, bodies[kind]))["finish_reason"] == "stop"


def test_the_only_candidate_counts_however_it_is_numbered() -> None:
    body = gemini({"text": "x"}, promptFeedback={"blockReason": "BLOCK_REASON_UNSPECIFIED"})
    body["candidates"][0]["index"] = 1
    assert decoded(record("gemini", body))["text"] == "x"


def test_calls_of_gemini_come_over_chunks_with_and_without_id_and_arguments() -> None:
    chunks = (
        gemini({"text": "a"}, {"functionCall": {"name": "f"}, "thoughtSignature": "s"}, finish=None),
        gemini({"functionCall": {"name": "f", "args": {"z": 1}, "id": "q"}}),
    )
    answer = decoded(streamed("gemini", *chunks))
    assert [c["arguments"] for c in answer["tool_calls"]] == [{}, {"z": 1}]
    assert (answer["tool_calls"][1]["id"], answer["finish_reason"]) == ("q", "tool_calls")


def test_ollamas_calls_come_over_several_lines() -> None:
    def line(name: str) -> Record:
        call = {"function": {"name": name, "arguments": {"a": name}}}
        return {"model": "l", "message": {"content": "", "tool_calls": [call]}, "done": False}

    found = streamed("ollama", line("f"), line("g"), {"model": "l", "done": True, "done_reason": "stop"})
    assert calls(found) == [("f", {"a": "f"}), ("g", {"a": "g"})]
    assert decoded(found)["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("item", "event", "expected"),
    [
        (
            called("a", "f", ""),
            {"type": "function_call_arguments", "arguments": '{"q":1}'},
            ("", "", [("f", {"q": 1})]),
        ),
        (said(""), {"type": "output_text", "text": "hey"}, ("hey", "", [])),
        (said(""), {"type": "refusal", "refusal": "no"}, ("no", "", [])),
        (
            {"type": "reasoning", "summary": []},
            {"type": "reasoning_summary_text", "text": "t"},
            ("", "t", []),
        ),
    ],
)
@pytest.mark.parametrize("deltas", [True, False])
def test_a_piece_of_a_response_is_known_by_its_end_and_given_once(
    item: Record, event: Record, expected: tuple[Any, ...], deltas: bool
) -> None:
    events: list[Record] = [{"type": "response.output_item.added", "output_index": 0, "item": item}]
    if deltas:
        text = event.get("text") or event.get("refusal") or event.get("arguments")
        events.append({"type": f"response.{event['type']}.delta", "output_index": 0, "delta": text})
    events.append({**event, "type": f"response.{event['type']}.done", "output_index": 0})
    found = streamed("responses", *events, {"type": "response.completed", "response": response()})
    answer = decoded(found)
    assert (answer["text"], answer["reasoning"], calls(found)) == expected


@pytest.mark.parametrize("kind", ["messages", "gemini", "ollama", "responses"])
def test_nothing_after_the_end_of_a_reply_is_read(kind: str) -> None:
    events = dict(STREAMS)[kind]
    whole = decoded(streamed(kind, *events))
    closing = ["[DONE]"] if kind == "gemini" else ["[DONE]", "garbage"]
    assert whole["text"]
    assert decoded(streamed(kind, *events, *closing)) == whole


# --- records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [
        {"status": None},
        {"status": "200"},
        {"response_headers": None},
        {"stream": None},
        {"api": None},
        {"provider": "openai-compat-anything", "api": "my.host"},
        {"provider": None, "api": "unheard-of"},
        {"path": None},
        {"path": None, "api": "v1/chat/completions", "provider": "somebody"},
        {"path": "https://host.example/v1/chat/completions?x=1"},
    ],
)
def test_a_record_may_leave_much_out(odd: Record) -> None:
    whole = record("chat", chat(HI))
    assert decoded({**whole, **odd})["text"] == "hi"
    bare = {key: value for key, value in whole.items() if key in ("path", "response_body")}
    assert decoded(bare)["text"] == "hi"


@pytest.mark.parametrize(
    "headers",
    [
        {"RETRY-After": "3"},
        {"retry-after": ["3"]},
        [["Retry-After", "3"]],
        [{"name": "Retry-After", "value": "3"}],
    ],
)
def test_headers_are_found_in_every_form(headers: Json) -> None:
    assert decoded(record("chat", {}, status=429, headers=headers))["error"]["retry_after"] == 3.0


@pytest.mark.parametrize("headers", ["text", 5, [5, None, [1]], True])
def test_headers_that_are_none_are_none(headers: Json) -> None:
    assert decoded(record("chat", {}, status=429, headers=headers))["error"]["retry_after"] is None


BODIES = [
    record(
        "chat",
        chat(
            {**HI, "reasoning": "t", "tool_calls": [piece("{}", name="f", id="x")]},
            usage={"prompt_tokens": 1},
        ),
    ),
    record(
        "responses",
        response({"type": "reasoning", "summary": [{"text": "t"}]}, said("x"), called("a", "f", "{}")),
    ),
    record(
        "messages",
        message({"type": "text", "text": "x"}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}),
    ),
    record(
        "gemini",
        gemini(
            {"text": "x"}, {"functionCall": {"name": "f", "args": {}}}, usageMetadata={"promptTokenCount": 1}
        ),
    ),
    record(
        "ollama",
        {"model": "l", "message": {**HI, "tool_calls": [piece({}, name="f")]}, "done": True, "eval_count": 3},
    ),
    record(
        "chat",
        {"error": {"message": "m", "code": 400, "metadata": {"raw": "{}", "headers": {"a": "b"}}}},
        status=400,
    ),
    record("messages", {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, status=529),
    record(
        "gemini",
        {"error": {"code": 429, "details": [{"@type": "x.RetryInfo", "retryDelay": "1s"}]}},
        status=429,
    ),
]
STREAMS = [
    (
        "chat",
        [delta({"content": "h"}), delta({"tool_calls": [piece("{}", name="f", index=0)]}), delta({}, "stop")],
    ),
    (
        "messages",
        [
            START,
            begin(0, type="text", text=""),
            grow(0, type="text_delta", text="x"),
            ending("end_turn"),
            STOP,
        ],
    ),
    (
        "gemini",
        [gemini({"text": "x"}, finish=None), gemini({"functionCall": {"name": "f", "args": {"a": 1}}})],
    ),
    ("ollama", [{"model": "l", "message": HI, "done": False}, {"model": "l", "done": True, "eval_count": 1}]),
    (
        "responses",
        [
            {"type": "response.output_item.added", "output_index": 0, "item": said("")},
            {"type": "response.output_text.delta", "output_index": 0, "delta": "x"},
            {"type": "response.output_text.done", "output_index": 0, "text": "x"},
            {"type": "response.completed", "response": response(said("x"))},
        ],
    ),
]
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 10**20),
    st.floats(),
    st.text(max_size=3),
    st.sampled_from([[], {}, [None], [5], ["s"], [{}], {"a": 1}]),
)


def places(value: Json, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in inner for place in [(*path, key), *places(item, (*path, key))]]


def damaged(value: Json, data: st.DataObject) -> Json:
    """`value` with one of its fields gone, or of another type."""
    result = copy.deepcopy(value)
    *path, last = data.draw(st.sampled_from(places(result)))
    box = result
    for step in path:
        box = box[step]
    if data.draw(st.booleans()):
        del box[last]
    else:
        box[last] = data.draw(ODD)
    return result


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_damage_to_a_body_raises_anything_of_its_own(data: st.DataObject) -> None:
    found = data.draw(st.sampled_from(BODIES))
    decoded({**found, "response_body": damaged(found["response_body"], data)})


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_no_damage_to_a_stream_raises_anything_of_its_own(data: st.DataObject) -> None:
    kind, events = data.draw(st.sampled_from(STREAMS))
    decoded(streamed(kind, *damaged(events, data)))


@pytest.mark.parametrize("wire", [AnthropicWire("x"), GeminiWire("x"), ResponsesWire("x")])
def test_a_system_message_alone_is_the_question(wire: Wire) -> None:
    sent = json.loads(wire.encode(ChatRequest(model="m", messages=(system("hi"),)), stream=False).body)
    asked = sent.get("messages") or sent.get("contents") or sent.get("input")
    assert len(asked) == 1
    assert "hi" in json.dumps(asked)
    assert not {"system", "systemInstruction", "instructions"} & set(sent)


def test_a_turn_of_a_broken_reply_can_be_sent_again() -> None:
    found = OpenAIWire("x").decode(json.dumps(chat({"tool_calls": [piece(None, name=None)]})).encode())
    assert isinstance(found.message, Message)
    sent = OpenAIWire("x").encode(ChatRequest(model="m", messages=(user("?"), found.message)), stream=False)
    assert json.loads(sent.body)["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"
