from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from electrictown.cli.app import app
from electrictown.llm.exchange import decode_exchange

CHAT = {
    "provider": "openai",
    "api": "chat",
    "path": "/v1/chat/completions",
    "status": 200,
    "response_body": {
        "model": "m",
        "choices": [
            {
                "message": {
                    "content": "hi",
                    "tool_calls": [
                        {"id": "a", "function": {"name": "f", "arguments": '{"x": 1}'}},
                        {"id": "b", "function": {"name": "g", "arguments": "[1]"}},
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    },
}
DECODED = {
    "text": "hi",
    "reasoning": "",
    "tool_calls": [
        {"id": "a", "name": "f", "arguments": {"x": 1}},
        {"id": "b", "name": "g", "arguments": "[1]"},
    ],
    "finish_reason": "tool_calls",
    "usage": {"input": 3, "cache_read": 0, "cache_write": 0, "output": 2, "reasoning": 0},
    "model": "m",
    "error": None,
}


def written(folder: Path, name: str, content: object) -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_record_decodes_to_exactly_these_fields() -> None:
    assert decode_exchange(CHAT) == DECODED


def test_one_line_a_file_in_order(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    other = {"status": 401, "provider": "anthropic", "response_body": {"error": {"message": "no"}}}
    files = [written(tmp_path, "a.json", CHAT), written(tmp_path, "b.json", other)]
    assert app(["debug", "decode", *files]) == 0
    first, second = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert first == DECODED
    assert second["error"] == {"type": "AuthError", "status": 401, "retry_after": None, "message": "no"}


def test_a_dash_is_standard_input(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(CHAT).encode())))
    assert app(["debug", "decode", "-"]) == 0
    assert json.loads(capfd.readouterr().out) == DECODED


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not json", "is not JSON"),
        ("", "is not JSON"),
        ("[]", "is no recorded exchange"),
        ('{"x": 1}', "is no recorded exchange"),
        (None, "cannot be read"),
    ],
)
def test_a_bad_file_is_a_usage_error_and_nothing_is_printed(
    content: str | None, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bad = str(tmp_path / "bad.json") if content is None else written(tmp_path, "bad.json", content)
    assert app(["debug", "decode", written(tmp_path, "good.json", CHAT), bad]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert f"{bad} {said}" in err
    assert "hint:" in err


def test_no_file_at_all_is_a_usage_error() -> None:
    assert app(["debug", "decode"]) == 2


SAID: dict[str, Any] = {"messages": {"type": "message", "content": [{"type": "text", "text": "hi"}]}}


@pytest.mark.parametrize(
    ("provider", "api", "path", "body"),
    [
        ("openai-compat-groq", "api.groq.com", "", CHAT["response_body"]),
        ("ollama", "v1-chat", "/v1/chat/completions", CHAT["response_body"]),
        ("azure", "", "/openai/deployments/x/chat/completions?api-version=1", CHAT["response_body"]),
        ("openai", "", "", CHAT["response_body"]),
        (
            "openai",
            "responses",
            "",
            {"status": "completed", "output": [{"type": "message", "content": "hi"}]},
        ),
        ("x", "", "/v1/responses", {"status": "completed", "output": [{"type": "message", "content": "hi"}]}),
        ("anthropic", "messages", "", {**SAID["messages"], "role": "assistant", "stop_reason": "end_turn"}),
        (
            "gemini",
            "generateContent",
            "",
            {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]},
        ),
        ("ollama", "chat", "/api/chat", {"message": {"content": "hi"}, "done": True, "done_reason": "stop"}),
    ],
)
def test_the_wire_is_chosen_by_path_api_and_provider(
    provider: str, api: str, path: str, body: dict[str, Any]
) -> None:
    record = {"provider": provider, "api": api, "path": path, "status": 200, "response_body": body}
    found = decode_exchange(record)
    assert (found["text"], found["error"]) == ("hi", None)


@pytest.mark.parametrize(
    "path",
    ["/v1/embeddings", "/v1/models", "/v1/messages/count_tokens", "/api/tags", "/v1/responses/input_tokens"],
)
def test_another_endpoint_is_told(path: str) -> None:
    error = decode_exchange({"provider": "openai", "path": path, "status": 200, "response_body": {}})["error"]
    assert error["type"] == "UsageError"
    assert path in error["message"]


def test_a_cut_list_of_chunks_gives_what_came() -> None:
    chunk = {"candidates": [{"content": {"parts": [{"text": "hi"}]}}], "modelVersion": "m"}
    last = {"candidates": [{"content": {"parts": [{"text": "!"}]}, "finishReason": "STOP"}]}
    record = {"provider": "gemini", "api": "streamGenerateContent", "stream": True, "status": 200}
    text = json.dumps([chunk, last])
    assert decode_exchange({**record, "response_text": text})["text"] == "hi!"
    for end in range(len(text) - 1):
        found = decode_exchange({**record, "response_text": text[:end]})
        assert found["error"] is not None or found["text"] == "hi!"


def test_several_replies_in_one_recording_are_all_kept() -> None:
    def reply(text: str) -> str:
        item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
        usage = {"input_tokens": 2, "output_tokens": 1}
        done = {"status": "completed", "model": "m", "output": [item], "usage": usage}
        events = [
            {"type": "response.created", "response": {"status": "in_progress"}},
            {"type": "response.completed", "response": done},
        ]
        return "".join(f"data: {json.dumps(e)}\n\n" for e in events).replace('": "', '":"')

    record = {
        "provider": "openai",
        "api": "responses",
        "status": 200,
        "response_text": reply("a") + reply("b"),
    }
    found = decode_exchange(record)
    assert (found["text"], found["usage"]["input"], found["usage"]["output"]) == ("ab", 4, 2)


def test_headers_may_be_lists_and_in_any_case() -> None:
    record = {**CHAT, "status": "429", "response_body": {}, "response_headers": {"Retry-After": ["7"]}}
    error = decode_exchange(record)["error"]
    assert (error["type"], error["status"], error["retry_after"]) == ("RateLimitError", 429, 7.0)
