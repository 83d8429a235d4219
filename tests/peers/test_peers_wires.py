"""The four wires over real HTTP, against our own fake and against aimock: the same cases for both."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator

import pytest
from peer_servers import BOUND, CALLS, IDS, LONG, PLAIN, WIRES, Peer, aimock, fake

from electrictown.config import parse_config
from electrictown.errors import IncompleteReplyError, ProviderError, RateLimitError, ServerError
from electrictown.llm.http_provider import HttpProvider
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    End,
    Message,
    TextDelta,
    ToolSpec,
    system,
    tool,
    user,
)
from electrictown.llm.provider import ProviderSettings, make_provider
from electrictown.redact import Secret
from electrictown.town import Town
from electrictown.work import Done, Task

MODELS = {"openai": "gpt-4o", "anthropic": "claude-3-5-sonnet-20241022", "gemini": "gemini-2.0-flash"}
WEATHER = ToolSpec(
    "weather",
    "The weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
NUMBER = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("fake", marks=pytest.mark.xdist_group("fake")),
        pytest.param("aimock", marks=[pytest.mark.peer, pytest.mark.xdist_group("aimock")]),
    ],
)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[Peer]:
    with fake() if request.param == "fake" else aimock(tmp_path_factory.mktemp("aimock")) as server:
        yield server


@pytest.fixture(params=WIRES, ids=IDS)
def wire(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.fixture
async def provider(peer: Peer, wire: tuple[str, str]) -> AsyncGenerator[HttpProvider]:
    kind, api = wire
    settings = ProviderSettings(
        name="it", type=kind, api=api, base_url=peer.url, api_key=Secret("key-of-the-peers")
    )
    made = make_provider(settings)
    assert isinstance(made, HttpProvider)
    yield made
    await made.aclose()


def ask(provider: HttpProvider, word: str, *turns: Message, **more: object) -> ChatRequest:
    first = (system("You are brief."), user(f"say {word}"))
    model = MODELS.get(provider.settings.type, "llama3.2")
    return ChatRequest(model=model, messages=(*first, *turns), max_tokens=100, **more)  # type: ignore[arg-type]


async def reply_to(provider: HttpProvider, request: ChatRequest, streamed: bool) -> ChatResponse:
    if not streamed:
        return await provider.chat_completion(request)
    async with provider.stream_chat_completion(request) as chunks:
        seen = [chunk async for chunk in chunks]
    last = seen[-1]
    assert isinstance(last, End)
    assert "".join(c.text for c in seen if isinstance(c, TextDelta)) == last.response.text
    return last.response


both = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])


@both
async def test_a_plain_reply(peer: Peer, provider: HttpProvider, streamed: bool) -> None:
    response = await reply_to(provider, ask(provider, "plain"), streamed)
    assert response.text == PLAIN
    assert response.finish_reason == "stop"
    assert response.tool_calls == ()
    assert response.provider == "it"
    if not _is_odd(peer, provider):
        assert response.usage is not None


def _is_odd(peer: Peer, provider: HttpProvider) -> bool:
    """aimock's Gemini tells no usage, lists no models, and ends calls with a reason of its own."""
    return (peer.name, provider.settings.type) == ("aimock", "gemini")


async def test_a_stream_comes_in_pieces(provider: HttpProvider) -> None:
    async with provider.stream_chat_completion(ask(provider, "plain")) as chunks:
        pieces = [chunk.text async for chunk in chunks if isinstance(chunk, TextDelta)]
    assert len(pieces) > 1


@both
async def test_tools_are_called_side_by_side_and_their_results_understood(
    peer: Peer, provider: HttpProvider, streamed: bool
) -> None:
    asked = ask(provider, "tool", tools=(WEATHER,))
    response = await reply_to(provider, asked, streamed)
    assert response.finish_reason == "tool_calls" or _is_odd(peer, provider)
    calls = response.tool_calls
    assert [(c.name, json.loads(c.arguments)) for c in calls] == [(n, json.loads(a)) for n, a in CALLS]
    assert len({call.id for call in calls}) == 2
    results = (tool(calls[0], "-5 degrees"), tool(calls[1], "-5 degrees, no: 25"))
    again = ask(provider, "tool", response.message, *results, tools=(WEATHER,))
    assert (await reply_to(provider, again, streamed)).text == "Cold there, warm here."


@both
async def test_a_reply_bound_to_a_schema(provider: HttpProvider, streamed: bool) -> None:
    response = await reply_to(provider, ask(provider, "schema", schema=NUMBER), streamed)
    assert json.loads(response.text) == json.loads(BOUND)


@both
async def test_a_rate_limit_says_when_to_come_back(provider: HttpProvider, streamed: bool) -> None:
    with pytest.raises(RateLimitError) as caught:
        await reply_to(provider, ask(provider, "limit"), streamed)
    assert caught.value.status == 429
    assert caught.value.retry_after == 7
    assert "slow down" in caught.value.message


@both
async def test_a_server_that_fails(provider: HttpProvider, streamed: bool) -> None:
    with pytest.raises(ServerError) as caught:
        await reply_to(provider, ask(provider, "broken"), streamed)
    assert caught.value.status == 500
    assert caught.value.provider == "it"


async def test_a_stream_that_is_cut_is_no_reply(provider: HttpProvider) -> None:
    said: list[str] = []

    async def listen() -> None:
        async with provider.stream_chat_completion(ask(provider, "cut")) as chunks:
            async for chunk in chunks:
                assert isinstance(chunk, TextDelta)
                said.append(chunk.text)

    with pytest.raises(IncompleteReplyError):
        await listen()
    assert said
    assert LONG.startswith("".join(said))
    assert "".join(said) != LONG


async def test_the_list_of_models(provider: HttpProvider, peer: Peer) -> None:
    if (peer.name, provider.settings.type) == ("aimock", "gemini"):
        with pytest.raises(
            ProviderError
        ):  # it has no such list; what is missing is an error, not an empty list
            await provider.list_models()
        return
    models = [model.id for model in await provider.list_models()]
    assert models
    assert all(models)


async def test_a_whole_run(peer: Peer, wire: tuple[str, str]) -> None:
    kind, api = wire
    entry = (
        f"{{type: {kind}, base_url: {peer.url}, api_key: key-of-the-peers{f', api: {api}' if api else ''}}}"
    )
    model = f"it/{MODELS.get(kind, 'llama3.2')}"
    config = (
        f"providers: {{it: {entry}}}\nroles:\n  mayor: {{model: {model}}}\n  witness: {{model: {model}}}\n"
    )
    config += f"  polecat: {{pool: [{model}, {model}]}}\n"
    async with Town.open(parse_config(config, environ={})) as town:
        report = await town.run(Task("build it"))
    assert report.error is None
    assert report.exit_code == 0
    assert report.text == "The merged result."
    assert report.brief == "Agree on the name parse()."
    assert [type(result) for result in report.results] == [Done, Done, Done]
    assert all(isinstance(r, Done) and r.text == "def parse(): ..." for r in report.results)
