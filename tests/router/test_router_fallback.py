"""Who is asked when the first one fails."""

from __future__ import annotations

import gc
import weakref

import pytest
from msgspec.structs import asdict
from router_kit import Actor, Stage, question, texts

from electrictown import errors
from electrictown.errors import (
    AuthError,
    BadReplyError,
    BadRequestError,
    ConfigError,
    ConnectError,
    ContextWindowError,
    FirstTokenTimeout,
    IdleTimeout,
    IncompleteReplyError,
    ModelNotFoundError,
    OverloadedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    RefusedError,
    ServerError,
)
from electrictown.events import CallEnded, CallStarted, HopTaken, Waiting
from electrictown.llm.messages import ChatRequest, ChatResponse, Text
from electrictown.llm.router import RetryPolicy
from electrictown.redact import Secret

pytestmark = pytest.mark.usefixtures("no_jitter")

# error class -> (with a fallback: does it take over, without one: is the same host asked again)
FATES: dict[type[ProviderError], tuple[bool, bool]] = {
    ProviderError: (False, False),
    AuthError: (False, False),
    BadRequestError: (False, False),
    ModelNotFoundError: (False, False),
    RefusedError: (False, False),
    QuotaError: (True, False),
    ContextWindowError: (True, False),
    RateLimitError: (True, True),
    OverloadedError: (True, True),
    ServerError: (True, True),
    ConnectError: (True, True),
    FirstTokenTimeout: (True, True),
    IdleTimeout: (True, True),
    IncompleteReplyError: (True, True),
    BadReplyError: (True, True),
}


def test_the_table_of_fates_is_complete() -> None:
    kinds = {k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, ProviderError)}
    assert kinds == set(FATES)


@pytest.mark.parametrize("kind", FATES, ids=lambda k: k.__name__)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_each_error_with_a_fallback(kind: type[ProviderError], streamed: bool) -> None:
    stage = Stage(first=Actor(kind("no")), second=Actor("yes"))
    if FATES[kind][0]:
        assert (texts(await stage.listen()) if streamed else [await stage.ask(), "End"]) == ["yes", "End"]
        hop = stage.told(HopTaken)[0]
        assert (hop.failed, hop.took_over, hop.error.type) == ("first", "second", kind.__name__)
    else:
        with pytest.raises(kind):
            await (stage.listen() if streamed else stage.ask())
        assert not stage.actors["second"].requests
    assert len(stage.actors["first"].requests) == 1
    assert not stage.told(Waiting)
    assert stage.idle()


@pytest.mark.parametrize("kind", FATES, ids=lambda k: k.__name__)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_each_error_without_a_fallback(kind: type[ProviderError], streamed: bool) -> None:
    stage = Stage(only=Actor(kind("no"), "yes"))
    if FATES[kind][1]:
        assert (texts(await stage.listen()) if streamed else [await stage.ask(), "End"]) == ["yes", "End"]
        assert len(stage.actors["only"].requests) == 2
        assert [w.reason for w in stage.told(Waiting)] == [f"{kind.__name__}: no"]
        assert not stage.told(HopTaken)
    else:
        with pytest.raises(kind) as caught:
            await (stage.listen() if streamed else stage.ask())
        assert caught.value.message == "no"
        assert len(stage.actors["only"].requests) == 1
        assert [h.took_over for h in stage.told(HopTaken)] == [""]
    assert stage.idle()


async def test_the_primarys_error_is_raised_and_tells_every_hop() -> None:
    stage = Stage(
        RetryPolicy(tries=2),
        first=Actor(RateLimitError("slow down", "buy more", status=429, retry_after=70)),
        second=Actor(QuotaError("no money")),
        third=Actor(ServerError("broken", status=500)),
    )
    with pytest.raises(RateLimitError) as caught:
        await stage.ask()
    error = caught.value
    assert (error.status, error.retry_after, error.hint, error.exit_code) == (429, 70, "buy more", 75)
    assert error.message == (
        "slow down (asked: first: RateLimitError: slow down; second: QuotaError: no money; "
        "third: ServerError: broken (2 times))"
    )
    assert isinstance(error.__cause__, RateLimitError)
    hops = [(h.failed, h.took_over, h.error.type) for h in stage.told(HopTaken)]
    assert hops == [
        ("first", "second", "RateLimitError"),
        ("second", "third", "QuotaError"),
        ("third", "", "ServerError"),
    ]


async def test_two_targets_that_fail_in_turn_are_told_once_each() -> None:
    down = Actor(ConnectError("no host a")), Actor(ConnectError("no host b"))
    stage = Stage(RetryPolicy(tries=3, base_delay=0.001), first=down[0], second=down[1])
    with pytest.raises(ConnectError) as caught:
        await stage.ask()
    assert caught.value.message == (
        "no host a (asked: first: ConnectError: no host a (3 times); "
        "second: ConnectError: no host b (3 times))"
    )


async def test_the_error_an_actor_raised_is_not_changed() -> None:
    error = ServerError("broken")
    stage = Stage(RetryPolicy(tries=3), only=Actor(error))
    for _ in range(2):
        with pytest.raises(ServerError, match=r"\(3 times\)"):
            await stage.ask()
    assert error.message == "broken"


async def test_a_permanent_error_of_a_fallback_ends_the_call_and_is_named() -> None:
    stage = Stage(
        first=Actor(ServerError("broken")),
        second=Actor(AuthError("bad key", "set $KEY")),
        third=Actor("never asked"),
    )
    with pytest.raises(AuthError, match="first: ServerError: broken; second: AuthError: bad key") as caught:
        await stage.ask()
    assert caught.value.hint == "set $KEY"
    assert caught.value.exit_code == 4
    assert not stage.actors["third"].requests


async def test_when_all_have_failed_the_one_that_may_be_retried_is_asked_again() -> None:
    stage = Stage(first=Actor(QuotaError("no money")), second=Actor(ServerError("broken"), "yes"))
    assert await stage.ask() == "yes"
    assert len(stage.actors["first"].requests) == 1
    assert len(stage.actors["second"].requests) == 2


@pytest.mark.parametrize(
    ("first", "second", "asked"),
    [
        (8_000, 8_000, False),
        (8_000, 4_000, False),
        (8_000, 32_000, True),
        (8_000, None, True),
        (None, 4_000, True),
        (None, None, True),
    ],
)
async def test_overflow_goes_only_to_larger_windows_where_known(
    first: int | None, second: int | None, asked: bool
) -> None:
    stage = Stage(
        settings={"first": {"context_window": first}, "second": {"context_window": second}},
        first=Actor(ContextWindowError("too long")),
        second=Actor("yes"),
    )
    if asked:
        assert await stage.ask() == "yes"
    else:
        with pytest.raises(ContextWindowError):
            await stage.ask()
        assert not stage.actors["second"].requests


async def test_after_an_overflow_a_small_target_is_not_asked_again() -> None:
    stage = Stage(
        settings={"small": {"context_window": 4_000}, "large": {"context_window": 8_000}},
        small=Actor(ServerError("broken")),
        large=Actor(ContextWindowError("too long")),
    )
    with pytest.raises(ServerError, match="ContextWindowError"):
        await stage.ask()
    assert len(stage.actors["small"].requests) == 1


async def test_the_request_is_not_changed_and_targets_fill_what_it_leaves_open() -> None:
    settings = {"max_tokens": 99, "temperature": 0.5, "effort": "low", "options": {"seed": 1, "top_k": 5}}
    stage = Stage(settings={"first": settings}, first=Actor("yes"))
    open_request = question(options={"top_k": 7})
    before = asdict(open_request)
    await stage.ask(open_request)
    assert asdict(open_request) == before
    sent = stage.actors["first"].requests[-1]
    assert (sent.model, sent.max_tokens, sent.temperature, sent.effort) == ("first-model", 99, 0.5, "low")
    assert sent.options == {"seed": 1, "top_k": 7}
    await stage.ask(question(max_tokens=5, temperature=0.0, effort="high"))
    sent = stage.actors["first"].requests[-1]
    assert (sent.max_tokens, sent.temperature, sent.effort) == (5, 0.0, "high")
    assert stage.targets["first"].options == {"seed": 1, "top_k": 5}
    assert sent.messages[0].parts == (Text("why?"),)


async def test_each_request_is_told_with_its_role_and_subtask() -> None:
    stage = Stage(first=Actor(ServerError("broken")), second=Actor("yes"))
    await stage.ask(role="polecat", subtask="3")
    assert [(e.provider, e.model, e.alias, e.role, e.subtask) for e in stage.told(CallStarted)] == [
        ("first", "first-model", "first", "polecat", "3"),
        ("second", "second-model", "second", "polecat", "3"),
    ]
    failed, ended = stage.told(CallEnded)
    assert (failed.error.type, failed.partial, ended.error, ended.partial) == (
        "ServerError",
        True,
        None,
        False,
    )
    assert (ended.input_tokens, ended.output_tokens, ended.finish_reason, ended.usd) == (100, 50, "stop", 0.0)


async def test_a_secret_in_an_error_is_masked_in_events_and_in_the_told_story() -> None:
    secret = Secret("sk-very-secret-key")
    stage = Stage(RetryPolicy(tries=2), only=Actor(ServerError(f"key {secret.reveal()} is odd")))
    with pytest.raises(ServerError) as caught:
        await stage.ask()
    assert secret.reveal() not in str(caught.value)
    assert all(secret.reveal() not in repr(e) for e in stage.events)


async def test_names_resolve_as_role_alias_and_provider_slash_model() -> None:
    stage = Stage(first=Actor("one"), second=Actor("two"))
    assert (await stage.router.chat_completion(question("second"))).text == "two"
    assert (await stage.router.chat_completion_for_role("cast", question("ignored"))).text == "one"
    only = stage.route.only(stage.targets["second"])
    assert (await stage.router.chat_completion_for_role("cast", question(), route=only)).text == "two"
    async with stage.router.stream_chat_completion_for_role("cast", question()) as chunks:
        assert texts([c async for c in chunks]) == ["one", "End"]
    assert {e.role for e in stage.told(CallEnded)} == {"", "cast"}
    with pytest.raises(ConfigError, match="no model alias"):
        await stage.router.chat_completion(question("nonsense"))


async def test_a_target_without_its_provider_is_a_config_error() -> None:
    stage = Stage(settings={"first": {"provider": "gone"}}, first=Actor("one"))
    with pytest.raises(ConfigError, match="provider 'gone', which does not exist"):
        await stage.ask()


async def test_an_error_that_is_no_provider_error_passes_and_frees_everything() -> None:
    stage = Stage(
        settings={"first": {"host_limit": 1}}, first=Actor(KeyError("bug"), "fine"), second=Actor("no")
    )
    with pytest.raises(KeyError):
        await stage.ask()
    assert stage.told(CallEnded)[0].error.type == "KeyError"
    assert stage.idle()
    assert await stage.ask() == "fine"


async def test_the_same_target_twice_in_a_chain_is_asked_as_one() -> None:
    stage = Stage(RetryPolicy(tries=2), only=Actor(ServerError("broken")))
    primary = stage.targets["only"]
    twice = type(stage.route)("twice", primary, (), (primary,))
    with pytest.raises(ServerError):
        await stage.router.chat_completion(question(), twice)
    assert len(stage.actors["only"].requests) == 2


class _Reader(Actor):
    """Fails each time with a giant reply in its hands; counts those of before that are still there."""

    def __init__(self) -> None:
        super().__init__("")
        self.read: list[weakref.ref[set[int]]] = []
        self.kept: list[int] = []

    async def chat_completion(self, request: ChatRequest) -> ChatResponse:
        gc.collect()
        self.kept.append(sum(giant() is not None for giant in self.read))
        giant = {len(self.read)}
        self.read.append(weakref.ref(giant))
        raise ServerError(f"giant {len(giant)}")


async def test_a_failure_that_is_kept_does_not_keep_what_was_read() -> None:
    reader = _Reader()
    with pytest.raises(ServerError):
        await Stage(RetryPolicy(tries=3), a=reader).ask()
    assert reader.kept == [0, 0, 0]
