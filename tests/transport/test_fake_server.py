"""The fake itself: what other tests lean on must stand."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from transport_kit import ASK, WIRES, provider

from electrictown.errors import AuthError, ProviderError
from electrictown.llm.messages import ChatRequest, user
from fakes import fake_server
from fakes.fake_server import FakeServer, Reply, by_prompt


async def test_it_answers_by_what_the_prompt_contains() -> None:
    reply = by_prompt({"plan": "1. this\n2. that", "review": Reply(text="SCORE: 9")}, "work")
    async with FakeServer(reply) as server:
        for wire in WIRES:
            async with provider(wire, server) as made:
                for prompt, answer in [
                    ("plan it", "1. this\n2. that"),
                    ("review it", "SCORE: 9"),
                    ("x", "work"),
                ]:
                    asked = ChatRequest(model="m1", messages=(user(prompt),))
                    assert (await made.chat_completion(asked)).text == answer
    assert [seen.model for seen in server.chats] == ["m1"] * 15


async def test_a_list_is_one_reply_a_request_and_the_last_for_ever() -> None:
    steps = ["first", Reply(status=500), "last"]
    async with FakeServer(steps) as server, provider(WIRES[0], server) as made:
        assert (await made.chat_completion(ASK)).text == "first"
        with pytest.raises(ProviderError):
            await made.chat_completion(ASK)
        assert [(await made.chat_completion(ASK)).text for _ in range(3)] == ["last"] * 3


@pytest.mark.parametrize(
    ("wire", "auth"),
    [
        (WIRES[0], "bearer key-12345"),
        (WIRES[2], "x-api-key key-12345"),
        (WIRES[3], "x-goog-api-key key-12345"),
        (WIRES[4], "bearer key-12345"),
    ],
)
async def test_it_lets_in_only_the_right_key(wire: tuple[str, str], auth: str) -> None:
    from electrictown.redact import Secret

    async with FakeServer(auth=auth) as server:
        async with provider(wire, server, api_key=Secret("key-12345")) as made:
            await made.chat_completion(ASK)
            await made.list_models()
        async with provider(wire, server, api_key=Secret("key-54321")) as made:
            with pytest.raises(AuthError):
                await made.chat_completion(ASK)
            with pytest.raises(AuthError):
                await made.list_models()


async def test_it_counts_what_each_host_has_in_flight() -> None:
    async with (
        FakeServer(Reply(latency=0.02)) as server,
        provider(WIRES[0], server.url + "/a/v1") as first,
        provider(WIRES[4], server.url + "/b") as second,
    ):
        asked = [first.chat_completion(ASK) for _ in range(3)] + [second.chat_completion(ASK)]
        await asyncio.gather(*asked)
    assert server.max_in_flight == {"/a": 3, "/b": 1}
    assert not +server.in_flight


async def test_an_old_proxy_gets_a_stream_that_ends_with_the_connection() -> None:
    async with FakeServer("one two") as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = b'{"model":"m","stream":true,"messages":[]}'
        head = b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")


async def test_it_runs_as_a_program(tmp_path: Path) -> None:
    rule = {"contains": "answer", "reply": {"text": "42", "tool_calls": [["look", "{}"]], "latency": 0.001}}
    (tmp_path / "told.json").write_text(
        json.dumps({"reply": "dunno", "rules": [rule], "models": [{"id": "m9"}]})
    )
    program = [sys.executable, str(fake_server.__file__), "--behaviour", str(tmp_path / "told.json")]
    process = await asyncio.create_subprocess_exec(
        *program, "--journal", str(tmp_path / "journal"), stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with provider(WIRES[4], url) as made:
            reply = await made.chat_completion(ASK)
            assert (reply.text, reply.tool_calls[0].name) == ("42", "look")
            assert [model.id for model in await made.list_models()] == ["m9"]
    finally:
        process.terminate()
        await process.wait()
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert [line["path"] for line in lines] == ["/api/chat", "/api/tags"]
    assert lines[0]["body"]["model"] == "m1"


def test_no_http_is_loaded_before_the_first_request() -> None:
    code = """
import sys
from electrictown.llm.provider import ProviderSettings, make_provider
for kind in ("openai", "anthropic", "gemini", "ollama", "lmstudio"):
    make_provider(ProviderSettings(name=kind, type=kind))
heavy = {"aiohttp", "yarl", "multidict", "pydantic"} & sys.modules.keys()
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
