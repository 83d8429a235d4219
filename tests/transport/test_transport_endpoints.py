"""Where requests go, which keys they carry, what is mended in them, and what never leaks."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Callable

import pytest
from transport_kit import ASK, IDS, WIRES, either, everything_told, make, provider, stream

from electrictown.errors import (
    AuthError,
    BadReplyError,
    BadRequestError,
    ConfigError,
    ConnectError,
    ContextWindowError,
    ProviderError,
)
from electrictown.llm.messages import ChatRequest, Message, Opaque, Reasoning, Text, assistant, user
from electrictown.llm.provider import Inspectable, Node, Provider, Timeouts
from electrictown.redact import Secret
from fakes.fake_server import FakeModel, FakeServer, Reply, Seen

over_all_wires = pytest.mark.parametrize("wire", WIRES, ids=IDS)
whole_and_streamed = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])

OPENAI, RESPONSES, ANTHROPIC, GEMINI, OLLAMA = WIRES
LMSTUDIO = ("lmstudio", "")
KEY = "sk-very-secret-1234567890"


# --- addresses


@pytest.mark.parametrize(
    ("wire", "written", "asked"),
    [
        (OPENAI, "/v1", "/v1/chat/completions"),
        (OPENAI, "/v1/", "/v1/chat/completions"),
        (OPENAI, "", "/v1/chat/completions"),
        (OPENAI, "/", "/v1/chat/completions"),
        (OPENAI, "/openai/v1", "/openai/v1/chat/completions"),
        (OPENAI, "/api/paas/v4", "/api/paas/v4/chat/completions"),
        (OPENAI, "/v1/chat/completions", "/v1/chat/completions"),
        (RESPONSES, "/v1", "/v1/responses"),
        (LMSTUDIO, "", "/v1/chat/completions"),
        (LMSTUDIO, "/v1", "/v1/chat/completions"),
        (ANTHROPIC, "", "/v1/messages"),
        (ANTHROPIC, "/v1/", "/v1/messages"),
        (ANTHROPIC, "/proxy/anthropic", "/proxy/anthropic/v1/messages"),
        (GEMINI, "", "/v1beta/models/m1:generateContent"),
        (GEMINI, "/v1beta", "/v1beta/models/m1:generateContent"),
        (GEMINI, "/v1beta/models/", "/v1beta/models/m1:generateContent"),
        (OLLAMA, "", "/api/chat"),
        (OLLAMA, "/", "/api/chat"),
        (OLLAMA, "/api", "/api/chat"),
        (OLLAMA, "/v1", "/api/chat"),
        (OLLAMA, "/box", "/box/api/chat"),
    ],
)
async def test_base_urls_work_as_people_write_them(wire: tuple[str, str], written: str, asked: str) -> None:
    async with FakeServer() as server, provider(wire, server.url + written) as made:
        await made.chat_completion(ASK)
    assert server.journal[0].path == asked


@pytest.mark.parametrize(
    ("wire", "written", "base"),
    [
        (OPENAI, "", "https://api.openai.com/v1"),
        (OPENAI, "https://api.perplexity.ai", "https://api.perplexity.ai"),
        (ANTHROPIC, "", "https://api.anthropic.com"),
        (GEMINI, "", "https://generativelanguage.googleapis.com"),
        (OLLAMA, "", "http://localhost:11434"),
        (OLLAMA, "localhost:11434", "http://localhost:11434"),
        (OLLAMA, "https://ollama.com", "https://ollama.com"),
        (OLLAMA, "https://ollama.com/api", "https://ollama.com"),
        (OLLAMA, "https://api.ollama.com", "https://ollama.com"),
        (LMSTUDIO, "", "http://localhost:1234/v1"),
        (LMSTUDIO, "http://localhost:1234", "http://localhost:1234/v1"),
    ],
)
def test_every_type_has_its_home(wire: tuple[str, str], written: str, base: str) -> None:
    assert make(wire, written).base_url == base


async def test_a_query_of_the_base_url_goes_to_every_request() -> None:
    async with FakeServer() as server, provider(GEMINI, server.url + "?tenant=7") as made:
        await stream(made)
    assert server.journal[0].query == "alt=sse&tenant=7"


@pytest.mark.parametrize("written", ["ftp://host", "http://", "http://host:notaport", "http://[::1", "://"])
def test_what_is_no_address_is_a_config_error(written: str) -> None:
    with pytest.raises(ConfigError, match=r"'the-openai'.*base_url"):
        make(OPENAI, written)


async def test_a_host_name_that_no_network_knows_is_an_error_of_ours() -> None:
    async with provider(OPENAI, "http://\N{CYRILLIC SMALL LETTER HA}..x") as made:
        with pytest.raises(BadRequestError, match="no address") as failed:
            await made.chat_completion(ASK)
    assert "base_url" in failed.value.hint


async def test_a_redirect_is_not_followed() -> None:
    async with FakeServer() as other:
        away = Reply(status=307, headers=(("location", other.url + "/v1/chat/completions?x=1"),))
        async with FakeServer(away) as server, provider(OPENAI, server, api_key=Secret(KEY)) as made:
            with pytest.raises(BadReplyError, match="redirects to http") as failed:
                await made.chat_completion(ASK)
    assert not other.journal
    assert "base_url" in failed.value.hint


# --- credentials


@pytest.mark.parametrize(
    ("wire", "settings", "header", "value"),
    [
        (OPENAI, {}, "authorization", f"Bearer {KEY}"),
        (OPENAI, {"auth_type": "basic"}, "authorization", f"Bearer {KEY}"),
        (LMSTUDIO, {}, "authorization", f"Bearer {KEY}"),
        (ANTHROPIC, {}, "x-api-key", KEY),
        (ANTHROPIC, {"auth_type": "bearer"}, "x-api-key", KEY),
        (GEMINI, {}, "x-goog-api-key", KEY),
        (OLLAMA, {}, "authorization", f"Bearer {KEY}"),
        (OLLAMA, {"auth_type": "bearer"}, "authorization", f"Bearer {KEY}"),
        (OLLAMA, {"auth_type": "none"}, "authorization", None),
    ],
)
async def test_each_vendor_gets_the_key_its_own_way(
    wire: tuple[str, str], settings: dict[str, str], header: str, value: str | None
) -> None:
    async with (
        FakeServer() as server,
        provider(wire, server, api_key=Secret(f" {KEY}\n"), **settings) as made,
    ):
        await made.chat_completion(ASK)
        await made.list_models()
    for seen in server.journal:
        assert seen.headers.get(header) == value
        assert KEY not in seen.path + seen.query
        assert value or KEY not in str(seen.headers)


@over_all_wires
async def test_without_a_key_no_header_is_sent(wire: tuple[str, str]) -> None:
    async with FakeServer() as server, provider(wire, server) as made:
        await made.chat_completion(ASK)
    assert not {"authorization", "x-api-key", "x-goog-api-key"} & server.journal[0].headers.keys()


async def test_basic_authentication_of_ollama() -> None:
    login = "ann:pass word:é"
    more = {"auth_type": "basic", "api_key": Secret(login)}
    async with FakeServer(auth=f"basic {login}") as server, provider(OLLAMA, server, **more) as made:
        assert (await made.chat_completion(ASK)).text == "Hello from the fake."


async def test_basic_credentials_without_a_colon_are_told_from_the_start() -> None:
    key = Secret("only-a-password")
    settings = {"auth_type": "basic", "api_key": key, "api_key_source": "$OLLAMA_CREDS"}
    async with FakeServer() as server, provider(OLLAMA, server, **settings) as made:
        with pytest.raises(AuthError, match="user:password") as failed:
            await made.chat_completion(ASK)
    assert "$OLLAMA_CREDS" in failed.value.hint
    assert "only-a-password" not in everything_told(failed.value)
    assert not server.journal


@over_all_wires
async def test_a_user_and_password_in_the_base_url_are_credentials(wire: tuple[str, str]) -> None:
    async with FakeServer(auth="basic ann:p@ss/word") as server:
        url = server.url.replace("http://", "http://ann:p%40ss%2Fword@")
        async with provider(wire, url) as made:
            await made.chat_completion(ASK)
            assert "word" not in made.base_url


async def test_organization_and_headers_of_the_user() -> None:
    more = {"org": "org-1", "headers": {"X-Team": "blue", "User-Agent": "mine/1"}}
    async with FakeServer() as server, provider(OPENAI, server, **more) as made:
        await made.chat_completion(ASK)
    seen = server.journal[0].headers
    assert seen["openai-organization"] == "org-1"
    assert (seen["x-team"], seen["user-agent"]) == ("blue", "mine/1")


async def test_a_key_with_a_line_break_is_told_not_sent() -> None:
    async with FakeServer() as server, provider(OPENAI, server, api_key=Secret("sk-1234\nsk-5678")) as made:
        with pytest.raises(AuthError, match="characters") as failed:
            await made.chat_completion(ASK)
    assert "sk-1234" not in everything_told(failed.value)
    assert not server.journal


@over_all_wires
@whole_and_streamed
async def test_a_refused_key_names_the_variable_and_the_provider(
    wire: tuple[str, str], streamed: bool
) -> None:
    wrong = {"api_key": Secret("sk-wrong-key-123"), "api_key_source": "$THE_KEY"}
    async with FakeServer(auth=f"bearer {KEY}") as server, provider(wire, server, **wrong) as made:
        with pytest.raises(AuthError) as failed:
            await either(made, streamed)
    assert failed.value.status == 401
    assert failed.value.hint == f"set THE_KEY to a valid key; provider {made.name!r} answered 401"
    assert not failed.value.retry_same
    assert not failed.value.try_next


# --- secrets


def echo(seen: Seen) -> Reply:
    """A vendor that repeats the key it was sent, as some do."""
    sent = (
        seen.headers.get("authorization") or seen.headers.get("x-api-key") or seen.headers["x-goog-api-key"]
    )
    return Reply(status=401, error=f"Incorrect API key provided: {sent}")


@over_all_wires
@pytest.mark.parametrize(
    "fault",
    [
        echo,
        Reply(status=500),
        Reply(raw=b"garbage\r\n\r\n"),
        Reply(raw=b""),
        Reply(cut=3),
        Reply(body=b""),
        Reply(never=True),
        Reply(stall=1),
    ],
    ids=["echo", "500", "garbage", "hangup", "cut", "empty", "never", "stall"],
)
@whole_and_streamed
async def test_no_failure_tells_the_key(
    wire: tuple[str, str], fault: Reply | Callable[[Seen], Reply], streamed: bool
) -> None:
    if fault == Reply(stall=1) and not streamed:
        fault = Reply(never=True)
    silent = fault in {Reply(never=True), Reply(stall=1)}
    times = Timeouts(first_token=0.1, idle=0.1) if silent else Timeouts()
    async with FakeServer(fault) as server, provider(wire, server, times, api_key=Secret(KEY)) as made:
        with pytest.raises(ProviderError) as failed:
            await either(made, streamed)
    assert silent or server.journal
    told = everything_told(failed.value)
    assert KEY not in told
    assert KEY not in repr(vars(made))


async def test_no_failure_to_connect_tells_a_password_of_the_url() -> None:
    async with FakeServer() as server:
        url = server.url.replace("http://", "http://ann:secret-word@")
    async with provider(OPENAI, url) as made:
        with pytest.raises(ConnectError) as failed:
            await made.chat_completion(ASK)
    assert "secret-word" not in everything_told(failed.value)


async def test_a_secret_header_of_the_user_is_masked_too() -> None:
    headers = {"X-Gateway-Token": "Token gateway-pass-99"}
    repeats = Reply(status=400, error="bad header: gateway-pass-99")
    async with FakeServer(repeats) as server, provider(OPENAI, server, headers=headers) as made:
        with pytest.raises(BadRequestError, match=r"bad header: \*\*\*") as failed:
            await made.chat_completion(ASK)
    assert "gateway-pass-99" not in everything_told(failed.value)


def test_a_provider_with_a_key_cannot_be_pickled_away() -> None:
    with pytest.raises((TypeError, AttributeError)):
        pickle.dumps(make(OPENAI, "", api_key=Secret(KEY)).settings)


# --- proxies


def without_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


async def test_a_proxy_of_the_environment_is_used_but_never_for_loopback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeServer("via the proxy") as proxy, FakeServer("directly") as server:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://ann:secret-word@"))
        without_exceptions(monkeypatch)
        async with provider(OPENAI, "http://models.example.invalid") as far, provider(OPENAI, server) as near:
            assert (await far.chat_completion(ASK)).text == "via the proxy"
            assert (await near.chat_completion(ASK)).text == "directly"
        assert proxy.journal[0].headers["host"] == "models.example.invalid"
        login = base64.b64encode(b"ann:secret-word").decode()
        assert proxy.journal[0].headers["proxy-authorization"] == f"Basic {login}"
        monkeypatch.setenv("no_proxy", "example.invalid")
        async with provider(OPENAI, "http://models.example.invalid") as far:
            with pytest.raises(ConnectError):
                await far.chat_completion(ASK)


async def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeServer() as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        without_exceptions(monkeypatch)
        async with provider(OPENAI, "https://models.example.invalid", api_key=Secret(KEY)) as made:
            with pytest.raises(ConnectError, match=r"the proxy for models.*refused.*404") as failed:
                await made.chat_completion(ASK)
    assert proxy.journal[0].method == "CONNECT"
    assert KEY not in str(proxy.journal[0].headers)
    assert KEY not in everything_told(failed.value)


async def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
    without_exceptions(monkeypatch)
    async with provider(OPENAI, "http://models.example.invalid") as made:
        with pytest.raises(ConnectError, match=r"the proxy for models.*cannot be reached"):
            await made.chat_completion(ASK)


# --- mended requests


def refuses(
    *names: str, say: str = "Unsupported parameter: '{}' is not supported with this model."
) -> Callable[[Seen], Reply]:
    """A model that takes none of these parameters, and says so one at a time."""

    def answer(seen: Seen) -> Reply:
        found = next((name for name in names if f'"{name}"'.encode() in seen.raw), "")
        if not found:
            return Reply(text="fine")
        return Reply(status=400, error=say.format(found), param=found, code="unsupported_parameter")

    return answer


FULL = ChatRequest(
    model="m1",
    messages=(user("What is the temperature?"),),
    max_tokens=100,
    temperature=0.5,
    top_p=0.9,
    options={"parallel_tool_calls": False, "seed": 7},
)
THINK = ChatRequest(model="m1", messages=ASK.messages, effort="high")


@whole_and_streamed
async def test_a_refused_parameter_is_left_out_once_and_remembered(streamed: bool) -> None:
    async with (
        FakeServer(refuses("temperature", "stream_options", "parallel_tool_calls")) as server,
        provider(OPENAI, server) as made,
    ):
        first = await either(made, streamed, FULL)
        asked = len(server.journal)
        second = await either(made, streamed, FULL)
        other = await either(made, streamed, ChatRequest(model="m2", messages=ASK.messages, temperature=0.5))
    assert first.text == second.text == other.text == "fine"
    assert asked == (4 if streamed else 3)
    assert len([n for n in first.notes if "m1 does not take the parameter" in n]) == asked - 1
    assert second.notes == ()
    assert server.journal[asked].body.keys() >= {"top_p", "seed", "max_tokens", "messages"}
    assert not {"temperature", "stream_options", "parallel_tool_calls"} & server.journal[asked].body.keys()
    assert "temperature" in server.journal[asked + 1].body  # another model is asked in full


async def test_max_tokens_goes_by_its_other_name() -> None:
    async with FakeServer(refuses("max_tokens")) as server, provider(OPENAI, server) as made:
        reply = await made.chat_completion(FULL)
        await made.chat_completion(FULL)
    assert reply.notes == ("m1 does not take the parameter max_tokens: sent as max_completion_tokens",)
    assert server.journal[-1].body["max_completion_tokens"] == 100
    assert "max_tokens" not in server.journal[-1].body
    assert len(server.journal) == 3


async def test_a_parameter_refused_by_both_its_names_is_left_out() -> None:
    both = refuses("max_tokens", "max_completion_tokens")
    async with FakeServer(both) as server, provider(OPENAI, server) as made:
        assert (await made.chat_completion(FULL)).text == "fine"
        assert (await made.chat_completion(FULL)).text == "fine"
    assert len(server.journal) == 4
    assert not {"max_tokens", "max_completion_tokens"} & server.journal[-1].body.keys()


@pytest.mark.parametrize("name", ["messages", "model", "tools", "nothing_we_sent"])
async def test_the_question_itself_is_never_mended(name: str) -> None:
    refusal = Reply(
        status=400, error=f"Unsupported parameter: '{name}'", param=name, code="unsupported_parameter"
    )
    async with FakeServer(refusal) as server, provider(OPENAI, server) as made:
        with pytest.raises(BadRequestError):
            await made.chat_completion(FULL)
    assert len(server.journal) == 1


async def test_a_plain_bad_request_is_not_repeated() -> None:
    refusal = Reply(
        status=400, error="max_tokens is too large: 100. At most 50.", param="max_tokens", code="bad"
    )
    async with FakeServer(refusal) as server, provider(OPENAI, server) as made:
        with pytest.raises(BadRequestError):
            await made.chat_completion(FULL)
    assert len(server.journal) == 1


@pytest.mark.parametrize(
    ("wire", "name", "say", "request_"),
    [
        (ANTHROPIC, "temperature", "`{}` is deprecated for this model.", FULL),
        (ANTHROPIC, "seed", "{}: Extra inputs are not permitted", FULL),
        (OLLAMA, "think", '"m1" does not support thinking', THINK),
        (
            GEMINI,
            "temperature",
            "Invalid JSON payload received. Unknown name \"{}\" at 'generation_config': Cannot find field.",
            FULL,
        ),
    ],
    ids=["anthropic", "anthropic-extra", "ollama", "gemini"],
)
async def test_every_vendor_words_it_otherwise(
    wire: tuple[str, str], name: str, say: str, request_: ChatRequest
) -> None:
    async with FakeServer(refuses(name, say=say)) as server, provider(wire, server) as made:
        reply = await made.chat_completion(request_)
    assert reply.text == "fine"
    assert len(reply.notes) == 1
    assert name in reply.notes[0]


# --- what belongs to one vendor stays with it


@over_all_wires
async def test_the_thoughts_of_another_provider_are_not_sent(wire: tuple[str, str]) -> None:
    parts = (Reasoning("foreign thought", {"signature": "s"}), Opaque({"blob": "foreign"}), Text("hello"))
    messages = (user("hi"), Message("assistant", parts, origin="somebody else"), user("and?"))
    async with FakeServer() as server, provider(wire, server) as made:
        await made.chat_completion(ChatRequest(model="m1", messages=messages))
    raw = server.journal[0].raw
    assert b"foreign" not in raw
    assert b"hello" in raw


async def test_requests_are_sent_as_they_are_given() -> None:
    request = ChatRequest(model="m1", messages=(user("hi"), assistant("hello"), user("more")))
    before = repr(request)
    async with FakeServer() as server, provider(OLLAMA, server, num_ctx=2048) as made:
        await made.chat_completion(request)
    assert repr(request) == before
    assert server.journal[0].body["options"]["num_ctx"] == 2048


# --- lists and hosts

MANY = [FakeModel(id=f"model-{i}", context_window=1000 + i, loaded=i == 3) for i in range(7)]


@over_all_wires
async def test_every_page_of_models_is_read(wire: tuple[str, str]) -> None:
    async with FakeServer(models=MANY, page=3) as server, provider(wire, server) as made:
        assert [model.id for model in await made.list_models()] == [model.id for model in MANY]
        assert isinstance(made, Provider)
        assert isinstance(made, Inspectable)
        node = await made.inspect()
    assert node.models == tuple(model.id for model in MANY)


async def test_a_list_that_runs_in_circles_ends() -> None:
    page = b'{"models": [{"name": "models/a"}], "nextPageToken": "again"}'
    async with FakeServer(Reply(body=page)) as server, provider(GEMINI, server) as made:
        server.lists = page
        with pytest.raises(BadReplyError, match="does not end") as failed:
            await made.list_models()
    assert failed.value.provider == "the-gemini"
    assert len(server.journal) == 2


@over_all_wires
async def test_a_list_that_cannot_be_read_is_a_bad_reply(wire: tuple[str, str]) -> None:
    async with FakeServer() as server, provider(wire, server) as made:
        server.lists = b"<html>"
        with pytest.raises(BadReplyError):
            await made.list_models()


async def test_ollama_tells_of_its_host() -> None:
    async with FakeServer(models=MANY) as server, provider(OLLAMA, server) as made:
        assert await made.inspect() == Node("0.99.0", tuple(m.id for m in MANY), ("model-3",))


async def test_a_cloud_that_tells_less_is_a_host_all_the_same() -> None:
    async with FakeServer(models=MANY) as server, provider(OLLAMA, server) as made:
        server.missing = {"/api/version", "/api/ps"}
        assert await made.inspect() == Node("", tuple(m.id for m in MANY), ())
        server.models.append(FakeModel(id="big:cloud", context_window=200_000))
        assert await made.context_window("big:cloud") == 200_000
        assert await made.context_window("model-1") is None


async def test_context_windows_where_they_are_known() -> None:
    async with FakeServer(models=MANY) as server:
        async with provider(GEMINI, server) as made:
            assert await made.context_window("model-2") == 1002
            assert await made.context_window("model-5") == 1005
            assert await made.context_window("nobody") is None
        assert len(server.journal) == 1
        async with provider(OLLAMA, server) as made:
            assert await made.context_window("model-2") is None  # the host chooses by its memory
        async with provider(OLLAMA, server, num_ctx=512) as made:
            assert await made.context_window("model-2") == 512
        async with provider(OLLAMA, server, num_ctx=5000) as made:
            assert await made.context_window("model-2") == 1002
            with pytest.raises(ProviderError, match="nobody"):
                await made.context_window("nobody")


@whole_and_streamed
async def test_a_prompt_that_ollama_cut_is_an_overflow(streamed: bool) -> None:
    long = ChatRequest(model="m1", messages=(user("word " * 3000),))
    cut = Reply(input_tokens=1024)
    async with FakeServer(cut) as server, provider(OLLAMA, server, num_ctx=1024) as made:
        with pytest.raises(ContextWindowError, match="1024 tokens") as failed:
            await either(made, streamed, long)
        assert (await either(made, streamed)).text == "Hello from the fake."
    assert failed.value.try_next
    assert server.journal[0].body["truncate"] is False
