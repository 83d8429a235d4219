"""Every recorded exchange of a chat endpoint, against an expectation read from its raw JSON.

The expectations below are written on purpose without any of the wires' code: plain dictionaries,
plain lines, one function a protocol.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from electrictown.cli.app import app
from electrictown.errors import IncompleteReplyError, ProviderError
from electrictown.llm.exchange import decode_exchange
from electrictown.llm.framing import NdjsonSplitter, SseSplitter
from electrictown.llm.messages import Chunk, End, Json, TextDelta
from electrictown.llm.wire.anthropic import AnthropicWire
from electrictown.llm.wire.gemini import GeminiWire
from electrictown.llm.wire.ollama import OllamaWire
from electrictown.llm.wire.openai import OpenAIWire
from electrictown.llm.wire.responses import ResponsesWire

FOLDER = Path(__file__).parents[2] / ".." / "shared" / "exchanges"
FILES = sorted(FOLDER.glob("*.json"))
PROTOCOLS = ["chat", "responses", "messages", "gemini", "ollama"]
WIRES = {
    "chat": OpenAIWire,
    "responses": ResponsesWire,
    "messages": AnthropicWire,
    "gemini": GeminiWire,
    "ollama": OllamaWire,
}

pytestmark = pytest.mark.skipif(not FILES, reason="the recorded exchanges are not beside this checkout")

Record = dict[str, Any]


def protocol(record: Record) -> str:
    api, path = record["api"], record["path"] or ""
    if path.endswith(("input_tokens", "compact")):
        return ""
    if record["provider"] == "openai-compat" or api == "v1-chat":
        return "chat"
    if api == "chat":
        return "ollama" if record["provider"] == "ollama" else "chat"
    names = {"generateContent": "gemini", "streamGenerateContent": "gemini"}
    return names.get(api, api if api in ("messages", "responses") else "")


RECORDS = [(path.stem, json.loads(path.read_bytes())) for path in FILES]
BY_PROTOCOL = {p: [(n, r) for n, r in RECORDS if protocol(r) == p] for p in PROTOCOLS}
STREAMS = {
    p: [(n, r) for n, r in rs if r["status"] == 200 and r["response_text"] is not None]
    for p, rs in BY_PROTOCOL.items()
}


def events(text: str) -> list[Any]:
    """The JSON payloads of an SSE stream, read the slow and simple way; Gemini also streams a list."""
    if text.startswith("["):
        return json.loads(text)
    found = (re.match(r"data: ?(.*)", line) for line in text.replace("\r\n", "\n").split("\n"))
    return [json.loads(m[1]) for m in found if m and m[1] not in ("", "[DONE]")]


def joined(pieces: Iterable[Json]) -> str:
    return "".join(p for p in pieces if isinstance(p, str))


def parsed(arguments: Json) -> Json:
    """A call's arguments as `decode_exchange` promises them."""
    if not isinstance(arguments, str):
        return arguments
    try:
        value = json.loads(arguments)
    except ValueError:
        return arguments
    return value if isinstance(value, dict) else arguments


# --- what each protocol says -----------------------------------------------------------------------


def expect_chat(record: Record) -> dict[str, Any]:
    body = record["response_body"]
    chunks = [body] if body is not None else events(record["response_text"])
    choices = [c for chunk in chunks for c in chunk.get("choices") or []]
    messages = [c.get("message") or c.get("delta") or {} for c in choices]
    text, reasoning = "", ""
    calls: list[list[Any]] = []
    for m in messages:
        content = m.get("content")
        if isinstance(content, list):
            text += joined(b.get("text") for b in content if b["type"] == "text")
            reasoning += joined(
                t.get("text") for b in content if b["type"] == "thinking" for t in b["thinking"]
            )
        text += content if isinstance(content, str) else ""
        text += m.get("refusal") or ""
        reasoning += m.get("reasoning_content") or m.get("reasoning") or ""
        pieces: list[Any] = m.get("tool_calls") or []
        if m.get("function_call"):
            pieces = [{"id": "", "function": m["function_call"]}]
        for piece in pieces:
            if piece.get("id") or piece["function"].get("name"):
                calls.append([piece.get("id"), piece["function"]["name"], ""])
            calls[-1][2] += piece["function"].get("arguments") or ""
    word = [c["finish_reason"] for c in choices if c.get("finish_reason")][-1:]
    usages = [c.get("usage") or (c.get("x_groq") or {}).get("usage") for c in chunks]
    usage = ([u for u in usages if u] or [None])[-1]
    return {
        "text": text,
        "reasoning": reasoning,
        "calls": [(i, n, parsed(a)) for i, n, a in calls],
        "finish": "content_filter"
        if any(m.get("refusal") for m in messages)
        else "tool_calls"
        if calls
        else (word or [""])[0],
        "usage": usage and chat_usage(usage),
        "model": next((c["model"] for c in chunks if c.get("model")), ""),
    }


def chat_usage(u: Record) -> dict[str, int]:
    into = u.get("prompt_tokens_details") or u.get("input_tokens_details") or {}
    out = u.get("completion_tokens_details") or u.get("output_tokens_details") or {}
    read = into.get("cached_tokens") or u.get("prompt_cache_hit_tokens") or u.get("num_cached_tokens") or 0
    written = into.get("cache_write_tokens") or 0
    prompt = u["prompt_tokens"] if "prompt_tokens" in u else u["input_tokens"]
    return {
        "input": prompt - read - written,
        "cache_read": read,
        "cache_write": written,
        "output": u["completion_tokens"] if "completion_tokens" in u else u["output_tokens"],
        "reasoning": out.get("reasoning_tokens") or 0,
    }


def expect_responses(record: Record) -> dict[str, Any]:
    body = record["response_body"]
    ends = (
        [body]
        if body is not None
        else [e["response"] for e in events(record["response_text"]) if e["type"] == "response.completed"]
    )
    items = [item for end in ends for item in end["output"]]
    blocks = [b for i in items if i["type"] == "message" for b in i["content"]]
    thoughts = [
        b for i in items if i["type"] == "reasoning" for b in (i["summary"] or i.get("content") or [])
    ]
    calls = [
        (i["call_id"], i["name"], parsed(i["arguments"] if i["type"] == "function_call" else i["input"]))
        for i in items
        if i["type"] in ("function_call", "custom_tool_call")
    ]
    usages = [chat_usage(end["usage"]) for end in ends if end.get("usage")]
    return {
        "text": joined(b.get("text") for b in blocks),
        "reasoning": joined(b["text"] for b in thoughts),
        "calls": calls,
        "finish": ""
        if ends[-1]["status"] in ("queued", "in_progress")
        else "tool_calls"
        if any(i["type"] in ("function_call", "custom_tool_call") for i in ends[-1]["output"])
        else "stop",
        "usage": {k: sum(u[k] for u in usages) for k in usages[0]} if usages else None,
        "model": ends[-1]["model"],
    }


ANTHROPIC_STOPS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "model_context_window_exceeded": "length",
}


def expect_messages(record: Record) -> dict[str, Any]:
    body = record["response_body"]
    if body is None:
        body = anthropic_body(events(record["response_text"]))
    blocks, u = body["content"], body["usage"]
    return {
        "text": joined(b["text"] for b in blocks if b["type"] == "text"),
        "reasoning": joined(b["thinking"] for b in blocks if b["type"] == "thinking"),
        "calls": [(b["id"], b["name"], b["input"]) for b in blocks if b["type"] == "tool_use"],
        "finish": ANTHROPIC_STOPS.get(body["stop_reason"], "stop"),
        "usage": {
            "input": u["input_tokens"],
            "cache_read": u.get("cache_read_input_tokens") or 0,
            "cache_write": u.get("cache_creation_input_tokens") or 0,
            "output": u["output_tokens"],
            "reasoning": (u.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
        },
        "model": body["model"],
    }


def anthropic_body(found: list[Any]) -> Record:
    body: Record = {}
    for e in found:
        if e["type"] == "message_start":
            body = {**e["message"], "content": []}
        elif e["type"] == "content_block_start":
            body["content"].append({**e["content_block"], "json": ""})
        elif e["type"] == "content_block_delta":
            block, d = body["content"][e["index"]], e["delta"]
            for kind, key in (("text", "text"), ("thinking", "thinking"), ("partial_json", "json")):
                block[key] = block.get(key, "") + d[kind] if kind in d else block.get(key, "")
        elif e["type"] == "message_delta":
            body.update({k: v for k, v in e["delta"].items() if v is not None})
            body["usage"] = {
                **body["usage"],
                **{k: v for k, v in e.get("usage", {}).items() if v is not None},
            }
    for block in body["content"]:
        if block["type"] == "tool_use" and block["json"]:
            block["input"] = json.loads(block["json"])
    return body


GEMINI_STOPS = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
}


def expect_gemini(record: Record) -> dict[str, Any]:
    body = record["response_body"]
    chunks = [body] if body is not None else events(record["response_text"])
    candidates = [c for chunk in chunks for c in (chunk.get("candidates") or [])[:1]]
    parts = [p for c in candidates for p in (c.get("content") or {}).get("parts") or []]
    calls: list[Record] = []
    for call in (p["functionCall"] for p in parts if "functionCall" in p):
        if "name" in call:
            calls.append({**call, "args": call.get("args") or {}})
        for piece in call.get("partialArgs", []):  # the arguments in pieces, each at a path
            name = piece["jsonPath"].removeprefix("$.")
            calls[-1]["args"][name] = calls[-1]["args"].get(name, "") + piece["stringValue"]
    words = [c["finishReason"] for c in candidates if c.get("finishReason")]
    usage = ([c["usageMetadata"] for c in chunks if c.get("usageMetadata")] or [None])[-1]
    return {
        "text": joined(p.get("text") for p in parts if not p.get("thought")),
        "reasoning": joined(p.get("text") for p in parts if p.get("thought")),
        "calls": [(c.get("id"), c["name"], c["args"]) for c in calls],
        "finish": "tool_calls" if calls else GEMINI_STOPS.get((words or [""])[-1]),
        "usage": usage and gemini_usage(usage),
        "model": next((c["modelVersion"] for c in chunks if c.get("modelVersion")), ""),
    }


def gemini_usage(u: Record) -> dict[str, int]:
    read = u.get("cachedContentTokenCount") or 0
    thoughts = u.get("thoughtsTokenCount") or 0
    return {
        "input": (u.get("promptTokenCount") or 0) + (u.get("toolUsePromptTokenCount") or 0) - read,
        "cache_read": read,
        "cache_write": 0,
        "output": (u.get("candidatesTokenCount") or 0) + thoughts,
        "reasoning": thoughts,
    }


def expect_ollama(record: Record) -> dict[str, Any]:
    body = record["response_body"]
    chunks = [body] if body else [json.loads(x) for x in record["response_text"].split("\n") if x.strip()]
    messages = [c["message"] for c in chunks if c.get("message")]
    calls = [c for m in messages for c in m.get("tool_calls") or []]
    last = chunks[-1]
    reason = last.get("done_reason") or "stop"
    counted = "prompt_eval_count" in last or "eval_count" in last
    return {
        "text": joined(m.get("content") for m in messages),
        "reasoning": joined(m.get("thinking") for m in messages),
        "calls": [(c.get("id"), c["function"]["name"], c["function"]["arguments"]) for c in calls],
        "finish": "tool_calls" if calls else {"load": "stop", "unload": "stop"}.get(reason, reason),
        "usage": {
            "input": last.get("prompt_eval_count") or 0,
            "cache_read": 0,
            "cache_write": 0,
            "output": last.get("eval_count") or 0,
            "reasoning": 0,
        }
        if counted
        else None,
        "model": last["model"],
    }


EXPECT = {
    "chat": expect_chat,
    "responses": expect_responses,
    "messages": expect_messages,
    "gemini": expect_gemini,
    "ollama": expect_ollama,
}


# --- the exchanges ---------------------------------------------------------------------------------


def differences(record: Record, kind: str) -> list[str]:
    found, wanted = decode_exchange(record), EXPECT[kind](record)
    calls = [(c["id"], c["name"], c["arguments"]) for c in found["tool_calls"]]
    # An id the vendor did not give may be made up.
    wanted_calls = [
        (i or (got[0] if got else None), n, a)
        for (i, n, a), got in zip(wanted["calls"], [*calls, *[()] * len(wanted["calls"])], strict=False)
    ]
    pairs = {
        "text": (found["text"], wanted["text"]),
        "reasoning": (found["reasoning"], wanted["reasoning"]),
        "calls": (calls, wanted_calls),
        "usage": (found["usage"], wanted["usage"]),
        "model": (found["model"], wanted["model"]),
    }
    if found["error"] is None:
        pairs["finish"] = (found["finish_reason"], wanted["finish"])
    return [f"{key}: {got!r} is not {want!r}" for key, (got, want) in pairs.items() if got != want]


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_every_good_exchange_decodes_without_loss(kind: str) -> None:
    good = [(n, r) for n, r in BY_PROTOCOL[kind] if r["status"] == 200]
    assert len(good) > 10
    wrong = {name: found for name, record in good if (found := differences(record, kind))}
    assert wrong == {}


FAILED_IN_STREAM = {
    "openai-compat-api.groq.com-stream-200-53abcee474": ("BadRequestError", 400),
    "openai-compat-api.groq.com-stream-200-85a6aae867": ("BadRequestError", 400),
    "openai-compat-openrouter.ai-stream-200-6ab514c773": ("BadRequestError", 400),
}


def test_a_good_status_means_no_error_but_for_errors_inside_the_stream() -> None:
    failed = {
        name: (error["type"], error["status"])
        for kind in PROTOCOLS
        for name, record in BY_PROTOCOL[kind]
        if record["status"] == 200 and (error := decode_exchange(record)["error"])
    }
    assert failed == {name: fault for name, fault in FAILED_IN_STREAM.items() if name in dict(RECORDS)}


def expected_error(record: Record) -> str:
    body = record["response_body"] or json.loads(record["response_text"])
    said = json.dumps(body).lower()
    rules = [
        ("context_length_exceeded", "ContextWindowError"),
        ("prompt is too long", "ContextWindowError"),
        ("insufficient_quota", "QuotaError"),
        ("model_not_found", "ModelNotFoundError"),
        ("model: claude", "ModelNotFoundError"),
    ]
    by_status = {
        400: "BadRequestError",
        401: "AuthError",
        429: "RateLimitError",
        500: "ServerError",
        529: "OverloadedError",
    }
    return next((kind for words, kind in rules if words in said), by_status.get(record["status"], "?"))


def vendor_message(record: Record) -> str:
    body = record["response_body"] or json.loads(record["response_text"])
    return (body[0] if isinstance(body, list) else body)["error"]["message"]


def test_every_error_is_typed_and_keeps_the_vendors_words() -> None:
    failed = [(n, r) for kind in PROTOCOLS for n, r in BY_PROTOCOL[kind] if r["status"] >= 400]
    assert len(failed) > 25
    wrong = {}
    for name, record in failed:
        error = decode_exchange(record)["error"]
        got = (error["type"], error["status"], vendor_message(record) in error["message"])
        if got != (expected_error(record), record["status"], True):
            wrong[name] = got
    assert wrong == {}


def test_other_endpoints_are_named_as_no_chat_endpoint() -> None:
    others = [(n, r) for n, r in RECORDS if not protocol(r)]
    assert len(others) > 20
    for name, record in others:
        error = decode_exchange(record)["error"]
        assert error["type"] == "UsageError", name
        assert "no chat endpoint" in error["message"]


# --- streams ---------------------------------------------------------------------------------------


def payloads(kind: str, record: Record) -> list[bytes]:
    splitter = NdjsonSplitter() if kind == "ollama" else SseSplitter()
    return splitter.feed(record["response_text"].encode()) + splitter.finish()


def decoded(kind: str, pieces: list[bytes]) -> list[Chunk]:
    splitter = NdjsonSplitter() if kind == "ollama" else SseSplitter()
    decoder = WIRES[kind]("recorded").decoder()
    out: list[Chunk] = []
    for piece in pieces:
        for payload in splitter.feed(piece):
            decoder.feed(payload, out)
    for payload in splitter.finish():
        decoder.feed(payload, out)
    if end := decoder.finish():
        out.append(end)
    return out


def whole_streams(kind: str) -> list[Record]:
    return [
        r
        for n, r in STREAMS[kind]
        if n not in FAILED_IN_STREAM and len(r["response_text"]) < 40_000 and r["response_text"][0] != "["
    ]


@pytest.mark.parametrize("kind", PROTOCOLS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_cutting_the_bytes_anywhere_gives_the_same_chunks(kind: str, data: st.DataObject) -> None:
    record = data.draw(st.sampled_from(whole_streams(kind)))
    raw = record["response_text"].encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert decoded(kind, pieces) == decoded(kind, [raw])


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_one_byte_at_a_time_gives_the_same_chunks(kind: str) -> None:
    raw = min((r["response_text"].encode() for r in whole_streams(kind)), key=len)
    assert decoded(kind, [raw[i : i + 1] for i in range(len(raw))]) == decoded(kind, [raw])


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_the_deltas_add_up_to_the_reply(kind: str) -> None:
    for record in whole_streams(kind):
        chunks = decoded(kind, [record["response_text"].encode()])
        end = chunks[-1]
        assert isinstance(end, End)
        assert "".join(c.text for c in chunks if isinstance(c, TextDelta)) == end.response.text
        assert sum(isinstance(c, End) for c in chunks) == 1


def is_complete(kind: str, seen: list[bytes]) -> bool:
    """Whether the events seen so far hold the protocol's own end."""
    found = b"\n".join(seen)
    if kind == "chat":
        ends = rb'\[DONE\]|"finish_reason": ?"'
    elif kind == "gemini":
        ends = rb'"finishReason": ?"|"blockReason"'
    else:
        ends = {
            "responses": rb'"type": ?"response\.(completed|incomplete)"',
            "messages": rb'"type": ?"message_stop"',
            "ollama": rb'"done": ?true',
        }[kind]
    return re.search(ends, found) is not None


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_a_stream_cut_between_events_is_never_a_silent_success(kind: str) -> None:
    for record in whole_streams(kind):
        found = payloads(kind, record)
        for count in sorted({*range(min(len(found), 12)), *range(max(0, len(found) - 6), len(found) + 1)}):
            decoder = WIRES[kind]("recorded").decoder()
            out: list[Chunk] = []
            try:
                for payload in found[:count]:
                    decoder.feed(payload, out)
                end = decoder.finish()
                complete = end is not None or any(isinstance(c, End) for c in out)
            except IncompleteReplyError:
                complete = False
            assert complete == is_complete(kind, found[:count]), (kind, count, found[count - 1 : count])


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_a_cut_stream_gives_what_came_and_says_it_was_cut(kind: str) -> None:
    record = max(whole_streams(kind), key=lambda r: len(r["response_text"]))
    whole = decode_exchange(record)
    half = record["response_text"][: len(record["response_text"]) // 2]
    found = decode_exchange({**record, "response_text": half})
    assert found["error"]["type"] == "IncompleteReplyError"
    assert whole["text"].startswith(found["text"])
    assert whole["error"] is None


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_no_bytes_at_all_is_an_incomplete_reply(kind: str) -> None:
    record = {**BY_PROTOCOL[kind][0][1], "status": 200, "stream": True, "response_body": None}
    for text in ("", None):
        assert decode_exchange({**record, "response_text": text})["error"]["type"] == "IncompleteReplyError"


def test_partial_replies_keep_the_usage_that_is_known() -> None:
    _, record = next((n, r) for n, r in STREAMS["messages"] if "input_tokens" in r["response_text"])
    decoder = AnthropicWire("recorded").decoder()
    decoder.feed(payloads("messages", record)[0], [])
    assert decoder.usage is not None
    partial = decoder.partial().usage
    assert partial is not None
    assert partial.partial


# --- records as users make them --------------------------------------------------------------------


def test_text_and_body_may_be_quoted_or_swapped() -> None:
    _, record = STREAMS["chat"][0]
    wanted = decode_exchange(record)
    quoted = {**record, "response_text": json.dumps(record["response_text"])}
    as_body = {**record, "response_text": None, "response_body": record["response_text"], "stream": False}
    assert decode_exchange(quoted) == wanted
    assert decode_exchange(as_body) == wanted
    _, whole = next((n, r) for n, r in BY_PROTOCOL["chat"] if r["status"] == 200 and r["response_body"])
    as_text = {
        **whole,
        "response_text": json.dumps(whole["response_body"]),
        "response_body": None,
        "stream": True,
    }
    assert decode_exchange(as_text) == decode_exchange(whole)


def test_a_body_recorded_as_a_stream_decodes_for_every_protocol() -> None:
    for kind in PROTOCOLS:
        _, record = next((n, r) for n, r in BY_PROTOCOL[kind] if r["status"] == 200 and r["response_body"])
        assert decode_exchange({**record, "stream": True}) == decode_exchange({**record, "stream": False})


def test_an_error_event_keeps_what_came_before() -> None:
    found = decode_exchange(dict(RECORDS)["openai-compat-api.groq.com-stream-200-53abcee474"])
    assert found["text"] == "maybe"
    assert found["error"]["message"] == "Tool choice is required, but model did not call a tool"


def test_decode_prints_one_line_a_file_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    names = [str(FILES[0]), str(FILES[-1]), str(FILES[0])]
    assert app(["debug", "decode", *names]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [
        decode_exchange(json.loads(Path(name).read_bytes())) for name in names
    ]


def test_errors_of_the_wires_are_provider_errors() -> None:
    for kind in PROTOCOLS:
        error = WIRES[kind]("recorded").error(500, {}, b"<html><title>500 Oops</title></html>")
        assert isinstance(error, ProviderError)
        assert error.message == "500 Oops"
