import asyncio
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from electrictown.errors import (
    BadRequestError,
    ConfigError,
    FirstTokenTimeout,
    IdleTimeout,
    IncompleteReplyError,
    RateLimitError,
    ServerError,
)
from electrictown.llm.messages import (
    ChatRequest,
    Chunk,
    End,
    ReasoningDelta,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    system,
    user,
)
from electrictown.llm.provider import Inspectable, Provider, ProviderSettings, Timeouts, make_provider
from electrictown.llm.scripted import Fault, ScriptedProvider, Step


def ask(text: str = "hello", *, model: str = "actor", role: str = "") -> ChatRequest:
    messages = (system(role), user(text)) if role else (user(text),)
    return ChatRequest(model=model, messages=messages)


async def collect(provider: ScriptedProvider, request: ChatRequest) -> list[Chunk]:
    async with provider.stream_chat_completion(request) as reply:
        return [chunk async for chunk in reply]


async def test_steps_play_in_order_and_requests_are_recorded() -> None:
    stage = ScriptedProvider.of("stage", ["one", {"text": "two"}, Step(text="three")])
    assert [(await stage.chat_completion(ask(t))).text for t in "abc"] == ["one", "two", "three"]
    assert [r.messages[0].text for r in stage.requests] == ["a", "b", "c"]


async def test_a_script_that_ran_out_says_so() -> None:
    stage = ScriptedProvider.of("stage", ["one"])
    await stage.chat_completion(ask())
    with pytest.raises(BadRequestError, match=r"no step left for request 2: 'what now'") as caught:
        await stage.chat_completion(ask("what now"))
    assert "repeat: true" in caught.value.hint
    assert caught.value.provider == "stage"


async def test_repeat_plays_a_step_a_number_of_times_or_for_ever() -> None:
    stage = ScriptedProvider.of("stage", [{"text": "a", "repeat": 2}, {"text": "b", "repeat": True}])
    assert [(await stage.chat_completion(ask())).text for _ in range(5)] == ["a", "a", "b", "b", "b"]


async def test_when_gives_each_role_its_own_answers() -> None:
    stage = ScriptedProvider.of(
        "stage",
        [
            {"when": {"system": "/^You are the mayor/", "user": "plan"}, "text": "planned"},
            {"when": {"model": "big"}, "text": "from the big one"},
            {"when": "parser", "text": "parsed"},
            {"text": "else", "repeat": True},
        ],
    )

    async def text(request: ChatRequest) -> str:
        return (await stage.chat_completion(request)).text

    assert await text(ask("write a parser")) == "parsed"
    assert await text(ask("plan it", role="Not you are the mayor")) == "else"
    assert await text(ask("plan it", role="Hello.\nYou are the mayor of a town")) == "planned"
    assert await text(ask(model="so-big")) == "from the big one"
    assert await text(ask(model="so-big")) == "else"


async def test_the_prompt_can_stand_in_the_reply_beside_other_braces() -> None:
    stage = ScriptedProvider.of("stage", ["{prompt}! {other} {}"])
    assert (await stage.chat_completion(ask("you"))).text == "you! {other} {}"


async def test_a_stream_holds_reasoning_text_calls_and_its_end() -> None:
    stage = ScriptedProvider.of(
        "stage",
        [{"reasoning": "think", "text": "answer", "tool_calls": [{"name": "add", "arguments": {"a": 1}}]}],
    )
    chunks = await collect(stage, ask())
    end = chunks[-1]
    assert isinstance(end, End)
    assert (
        "".join(c.text for c in chunks if isinstance(c, ReasoningDelta)) == "think" == end.response.reasoning
    )
    assert "".join(c.text for c in chunks if isinstance(c, TextDelta)) == "answer" == end.response.text
    deltas = [c for c in chunks if isinstance(c, ToolCallDelta)]
    assert (deltas[0].id, deltas[0].name) == ("call_1", "add")
    assert "".join(d.arguments for d in deltas) == '{"a":1}'
    assert end.response.tool_calls == (ToolCall("call_1", "add", '{"a":1}'),)
    assert end.response.finish_reason == "tool_calls"
    assert end.response.message.origin == "stage"


async def test_usage_is_estimated_given_or_unknown() -> None:
    stage = ScriptedProvider.of(
        "stage",
        ["12345678", {"text": "x", "usage": {"input": 7, "cache_read": 3}}, {"text": "x", "usage": None}],
    )
    replies = [await stage.chat_completion(ask("12345")) for _ in range(3)]
    assert [r.usage for r in replies] == [Usage(input=2, output=2), Usage(input=7, cache_read=3), None]


async def test_an_error_carries_its_facts() -> None:
    fault = {"type": "RateLimitError", "status": 429, "retry_after": 2.5, "message": "slow down"}
    stage = ScriptedProvider.of("stage", [{"error": fault}, {"error": "ServerError"}, "fine"])
    with pytest.raises(RateLimitError, match="slow down") as caught:
        await stage.chat_completion(ask())
    assert (caught.value.status, caught.value.retry_after) == (429, 2.5)
    assert (caught.value.provider, caught.value.model) == ("stage", "actor")
    with pytest.raises(ServerError):
        await collect(stage, ask())
    assert (await stage.chat_completion(ask())).text == "fine"


@pytest.mark.parametrize("after", [1, 4, 6, 8])
async def test_an_error_can_strike_in_mid_stream(after: int) -> None:
    stage = ScriptedProvider.of(
        "stage", [Step(text="12345678", error=Fault(type="ConnectError"), after=after)]
    )
    seen = ""
    with pytest.raises(Exception, match="scripted ConnectError"):  # noqa: PT012
        async with stage.stream_chat_completion(ask()) as reply:
            async for chunk in reply:
                assert isinstance(chunk, TextDelta)
                seen += chunk.text
    assert seen == "12345678"[:after]
    assert stage.in_flight == 0


async def test_a_stream_can_end_cleanly_without_its_end() -> None:
    stage = ScriptedProvider.of("stage", [{"text": "12345678", "end": False, "after": 5}] * 2)
    assert await collect(stage, ask()) == [TextDelta("1234"), TextDelta("5")]
    with pytest.raises(IncompleteReplyError):
        await stage.chat_completion(ask())


async def test_a_stream_can_end_before_it_began() -> None:
    stage = ScriptedProvider.of("stage", [{"text": "12345678", "end": False}])
    assert await collect(stage, ask()) == []


async def test_silence_ends_in_the_providers_timeouts() -> None:
    steps = [
        {"text": "x", "stall": True},
        {"text": "x", "latency": 60},
        {"text": "12345", "stall": True, "after": 3},
    ]
    settings = ProviderSettings(name="s", type="scripted", extra={"script": steps})
    stage = ScriptedProvider(replace(settings, timeouts=Timeouts(first_token=0.01, idle=0.01)))
    for error in (FirstTokenTimeout, FirstTokenTimeout, IdleTimeout):
        with pytest.raises(error):
            await stage.chat_completion(ask())


async def test_a_short_stall_only_delays() -> None:
    stage = ScriptedProvider.of(
        "s", [{"text": "12345678", "stall": 0.01, "after": 3, "latency": 0.01, "pace": 1000}]
    )
    assert (await stage.chat_completion(ask())).text == "12345678"


async def test_a_cancelled_stall_leaves_nothing_in_flight() -> None:
    stage = ScriptedProvider(
        ProviderSettings(
            name="s",
            type="scripted",
            timeouts=Timeouts(first_token=None),
            extra={"script": [{"stall": True, "repeat": True}]},
        )
    )
    tasks = [asyncio.create_task(stage.chat_completion(ask())) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (stage.in_flight, stage.peak) == (2, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert stage.in_flight == 0


@pytest.mark.parametrize("name", ["play.yaml", "play.json"])
async def test_a_script_can_be_a_file_beside_the_configuration(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(json.dumps([{"text": "from a file"}]))
    settings = ProviderSettings(name="s", type="scripted", extra={"script": name}, folder=str(tmp_path))
    stage = make_provider(settings)
    assert isinstance(stage, Provider)
    assert isinstance(stage, Inspectable)
    assert (await stage.chat_completion(ask())).text == "from a file"


async def test_models_are_those_of_the_configuration() -> None:
    settings = ProviderSettings(name="s", type="scripted", extra={"script": ["x"], "models": ["a", "b"]})
    assert [m.id for m in await ScriptedProvider(settings).list_models()] == ["a", "b"]
    assert (await ScriptedProvider.of("s", ["x"]).inspect()).models == ("scripted",)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (["fine", {"txet": "x"}], "step 2: .*unknown field `txet`\n.*did you mean 'text'"),
        ([{"text": 5}], "step 1, field 'text': Expected `str`, got `int`"),
        ([{"error": "RateLimit"}], "step 1, field 'error': .*\n.*did you mean RateLimitError"),
        ([{"error": {"type": "DeadlineError"}}], "no provider error 'DeadlineError'"),
        ([{"error": {"type": "ServerError", "status": "x"}}], "field 'error.status'"),
        ([{"when": "/(/", "text": "x"}], "field 'when': .* is no regular expression"),
        ([{"text": "x", "repeat": 0}], "field 'repeat': must be more than 0"),
        ([{"text": "x", "repeat": False}], "field 'repeat'"),
        ([{"text": "x", "pace": 0}], "field 'pace'"),
        ([{"text": "x", "latency": -1}], "field 'latency': must not be negative"),
        ([{"text": "x", "repeat": True}, "y"], "so step 2 never comes"),
        ([], "a script is a list of steps"),
        ({"text": "x"}, "a script is a list of steps"),
        (None, "a script is a list of steps"),
        ("missing.yaml", "missing.yaml: the script cannot be read: No such file"),
    ],
)
def test_a_bad_script_is_refused_with_place_and_remedy(tmp_path: Path, script: object, said: str) -> None:
    settings = ProviderSettings(name="stage", type="scripted", extra={"script": script}, folder=str(tmp_path))
    with pytest.raises(ConfigError, match=said) as caught:
        ScriptedProvider(settings)
    assert caught.value.hint


@pytest.mark.parametrize(("name", "text"), [("a.yaml", "[1"), ("a.json", "[1"), ("a.yaml", "- {txet: x}")])
def test_a_bad_file_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    settings = ProviderSettings(name="s", type="scripted", extra={"script": name}, folder=str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        ScriptedProvider(settings)
    assert caught.value.file == str(tmp_path / name)
    assert name in caught.value.message
