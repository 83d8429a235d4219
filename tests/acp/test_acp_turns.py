"""Turns with an agent: what it says, does, changes and costs, and how it can fail."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from acp_kit import Heard, agent, answers, do, until

from electrictown.acp import changes
from electrictown.errors import (
    AgentError,
    AgentMissingError,
    AuthError,
    ElectrictownError,
    RateLimitError,
)
from electrictown.events import TextStreamed
from electrictown.llm.messages import Usage
from electrictown.redact import Secret
from electrictown.work import File


async def test_words_stream_in_order_and_are_the_reply(tmp_path: Path) -> None:
    heard = Heard()
    async with agent().engage(tmp_path) as fake:
        reply = await do(fake, ["say", "Hel"], ["say", "lo "], ["say", "🏙\u2028\x1b[31m"], emit=heard)
    assert reply.text == "Hello 🏙\u2028\x1b[31m"
    assert [e.text for e in heard.events if isinstance(e, TextStreamed)] == ["Hel", "lo ", "🏙\u2028\x1b[31m"]
    assert {e.phase for e in heard.events if isinstance(e, TextStreamed)} == {"reply"}
    assert (reply.files, reply.deleted, reply.left, reply.usage, reply.usd) == ((), (), (), None, None)


async def test_thoughts_other_sessions_and_unknown_updates_are_no_part_of_the_reply(tmp_path: Path) -> None:
    thought = {"sessionUpdate": "agent_thought_chunk", "content": {"type": "text", "text": "hm"}}
    echo = {"sessionUpdate": "user_message_chunk", "content": {"type": "text", "text": "you said"}}
    image = {"sessionUpdate": "agent_message_chunk", "content": {"type": "image", "data": "", "mimeType": ""}}
    broken = {"sessionUpdate": "agent_message_chunk", "content": 7}
    chunk = {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "elsewhere"}}
    steps = [
        ["update", update] for update in (thought, echo, {"sessionUpdate": "of tomorrow"}, image, broken)
    ]
    async with agent().engage(tmp_path) as fake:
        reply = await do(fake, *steps, ["update", chunk, "another"], ["say", "so"])
    assert reply.text == "so"


async def test_messages_are_apart_from_each_other_and_from_deeds(tmp_path: Path) -> None:
    def chunk(text: str, message: str) -> list[object]:
        content = {"type": "text", "text": text}
        return ["update", {"sessionUpdate": "agent_message_chunk", "messageId": message, "content": content}]

    call = {
        "sessionUpdate": "tool_call",
        "toolCallId": "1",
        "title": "ls",
        "kind": "execute",
        "status": "completed",
    }
    async with agent().engage(tmp_path) as fake:
        reply = await do(
            fake,
            chunk("I lo", "a"),
            chunk("ok.", "a"),
            ["update", call],
            chunk("And", "a"),
            chunk("Done", "b"),
        )
    assert reply.text == "I look.\n\nAnd\n\nDone"


async def test_what_it_does_is_told_once_in_a_line_and_once_more_when_it_fails(tmp_path: Path) -> None:
    heard = Heard()
    one = {
        "sessionUpdate": "tool_call",
        "toolCallId": "1",
        "title": "write",
        "kind": "edit",
        "status": "pending",
    }
    where = {
        "sessionUpdate": "tool_call_update",
        "toolCallId": "1",
        "status": "in_progress",
        "locations": [{"path": f"{tmp_path}/src/a.py"}],
    }
    bare = {
        "sessionUpdate": "tool_call_update",
        "toolCallId": "1",
        "locations": None,
        "title": None,
        "status": "completed",
    }
    text = {"type": "content", "content": {"type": "text", "text": "it is\nread-only"}}
    two = {"sessionUpdate": "tool_call", "toolCallId": "2", "title": "sh\nx", "status": "in_progress"}
    failed = {"sessionUpdate": "tool_call_update", "toolCallId": "2", "status": "failed", "content": [text]}
    plan = {
        "sessionUpdate": "plan",
        "entries": [
            {"content": "look", "status": "completed", "priority": "high"},
            {"content": "leap", "status": "in_progress", "priority": "low"},
        ],
    }
    async with agent().engage(tmp_path) as fake:
        await do(
            fake,
            *(["update", each] for each in (one, where, where, bare, two, failed, failed, plan, plan)),
            emit=heard,
        )
    assert heard.notes == [
        "edit: write src/a.py",
        "other: sh x",
        "failed: other: sh x: it is read-only",
        "plan: 1 of 2 done, now leap",
    ]


async def test_files_made_changed_and_deleted_come_back_and_nothing_else(tmp_path: Path) -> None:
    for name in ("same.txt", "changed.txt", "gone.txt"):
        (tmp_path / name).write_text("was\n")
    for folder in (".git", "src/node_modules/x", "src/__pycache__"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("not yours")
    async with agent().engage(tmp_path) as fake:
        reply = await do(
            fake,
            ["write", f"{tmp_path}/changed.txt", "is!\n"],
            ["write", f"{tmp_path}/src/ü new.py", "x = 1\n"],
            ["delete", f"{tmp_path}/gone.txt"],
            ["write", f"{tmp_path}/.git/HEAD", "no"],
            ["write", f"{tmp_path}/src/node_modules/x/y.js", "no"],
            ["write_bytes", f"{tmp_path}/image.png", "\x89PNG\x00"],
            ["write_bytes", f"{tmp_path}/latin.txt", "caf\xe9"],
            ["link", f"{tmp_path}/link", str(outside / "secret.txt")],
            ["link", f"{tmp_path}/folder", str(outside)],
        )
        again = await do(fake, ["write", f"{tmp_path}/changed.txt", "IS!\n"])
        nothing = await do(fake)
    assert reply.files == (File("changed.txt", "is!\n"), File("src/ü new.py", "x = 1\n"))
    assert reply.deleted == ("gone.txt",)
    assert reply.left == (
        "folder: a symbolic link",
        "image.png: no text",
        "latin.txt: no text",
        "link: a symbolic link",
    )
    assert again.files == (File("changed.txt", "IS!\n"),)
    assert (nothing.files, nothing.deleted, nothing.left) == ((), (), ())


async def test_large_files_are_left_and_named(tmp_path: Path) -> None:
    async with agent().engage(tmp_path) as fake:
        many = [["write", f"{tmp_path}/{n:02}.txt", "x" * (1 << 20)] for n in range(10)]
        reply = await do(fake, ["write", f"{tmp_path}/big.txt", "x" * (1 + (1 << 20))], *many)
    assert len(reply.files) == 8
    assert reply.left == (
        "08.txt: there is too much of it altogether",
        "09.txt: there is too much of it altogether",
        "big.txt: larger than 1 MiB",
    )


async def test_a_folder_of_very_many_files_is_not_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_MOST", 3)
    async with agent().engage(tmp_path) as fake:
        few = await do(fake, *(["write", f"{tmp_path}/{n}", "x"] for n in range(3)))
        many = await do(fake, ["write", f"{tmp_path}/more", "x"])
    assert len(few.files) == 3
    assert (many.files, len(many.left)) == ((), 1)


async def test_usage_and_cost_are_told_or_unknown(tmp_path: Path) -> None:
    def cost(amount: float, currency: str = "USD") -> list[object]:
        return [
            "update",
            {
                "sessionUpdate": "usage_update",
                "used": 1,
                "size": 2,
                "cost": {"amount": amount, "currency": currency},
            },
        ]

    usage = {
        "inputTokens": 100,
        "outputTokens": 7,
        "totalTokens": 107,
        "cachedReadTokens": 60,
        "thoughtTokens": 3,
    }
    apart = {"inputTokens": 40, "outputTokens": 7, "totalTokens": 107, "cachedReadTokens": 60}
    quota = {
        "quota": {
            "token_count": {"input_tokens": 44, "output_tokens": 28},
            "model_usage": [{"model": "flash"}],
        }
    }
    async with agent().engage(tmp_path) as fake:
        first = await do(fake, cost(0.5), ["ends", {"stopReason": "end_turn", "usage": usage}])
        second = await do(fake, cost(0.75), ["ends", {"stopReason": "end_turn", "usage": apart}])
        third = await do(fake, ["ends", {"stopReason": "end_turn", "_meta": quota}])
        fourth = await do(
            fake, cost(9.0, "credits"), ["ends", {"stopReason": "end_turn", "usage": "many", "_meta": 3}]
        )
    assert (first.usage, first.usd) == (Usage(input=40, cache_read=60, output=7, reasoning=3), 0.5)
    assert (second.usage, second.usd) == (Usage(input=40, cache_read=60, output=7), 0.25)
    assert (third.usage, third.usd, third.model) == (Usage(input=44, output=28), 0.0, "flash")
    assert (fourth.usage, fourth.model) == (None, "")


@pytest.mark.parametrize("reason", ["max_tokens", "max_turn_requests", "refusal", "cancelled", "of tomorrow"])
async def test_a_turn_that_stops_early_says_why(reason: str, tmp_path: Path) -> None:
    async with agent().engage(tmp_path) as fake:
        reply = await do(fake, ["say", "half"], ["stop", reason])
    assert (reply.text, reply.stopped) == ("half", reason)


@pytest.mark.parametrize(
    ("code", "message", "data", "kind", "words"),
    [
        (-32603, "Internal error", {"details": "the disk is full"}, AgentError, "the disk is full"),
        (401, '{"error":{"code":401,"message":"bad key"}}', None, AuthError, "bad key"),
        (-32000, "log in first", None, AuthError, "log in first"),
        (429, '{"error":{"message":"slow down"}}', None, RateLimitError, "slow down"),
        (-32603, "Internal error: 429 Too Many Requests", None, RateLimitError, "Too Many"),
        (500, "terminated", None, AgentError, "terminated"),
    ],
)
async def test_error_replies_are_typed(
    code: int, message: str, data: object, kind: type[ElectrictownError], words: str, tmp_path: Path
) -> None:
    async with agent().engage(tmp_path) as fake:
        with pytest.raises(kind, match=words) as caught:
            await do(fake, ["refuse", code, message, data])
        assert type(caught.value) is kind
        assert (await do(fake, ["say", "still here"])).text == "still here"
    if kind is AuthError:
        assert "A key" in caught.value.hint


async def test_no_error_holds_a_secret(tmp_path: Path) -> None:
    key = Secret("sk-123456789")
    async with agent({"environ": {"PATH": "/usr/bin", "THE_KEY": key}}).engage(tmp_path) as fake:
        told = answers(await do(fake, ["environ"]))[0]
        with pytest.raises(AgentError) as refused:
            await do(fake, ["refuse", -32603, "bad key sk-123456789"])
        with pytest.raises(AgentError) as died:
            await do(fake, ["complain", "key sk-123456789 is bad"], ["die", 3])
    assert told["THE_KEY"] == "sk-123456789"  # it is given the key
    assert "***" in str(refused.value)
    assert "***" in str(died.value)
    assert "sk-1" not in f"{refused.value}{died.value}{refused.value!r}"


async def test_what_is_no_message_is_skipped(tmp_path: Path) -> None:
    noise = (
        "Ripgrep is not available",
        "{}",
        "[1, 2]",
        '{"jsonrpc":"2.0","id":99,"result":{}}',
        '"x"',
        "\x1b[0m",
        "{",
    )
    async with agent(says="Welcome!").engage(tmp_path) as fake:
        reply = await do(fake, *(["print", line] for line in noise), ["say", "hello"])
    assert reply.text == "hello"


async def test_a_line_without_end_ends_the_conversation(tmp_path: Path) -> None:
    async with agent().engage(tmp_path) as fake:
        with pytest.raises(AgentError, match="more than 32 MiB"):
            await do(fake, ["huge", (32 << 20) + 1_000_000], ["hang"])
        with pytest.raises(AgentError, match="more than 32 MiB"):
            await do(fake)


async def test_a_line_of_megabytes_is_read(tmp_path: Path) -> None:
    async with agent().engage(tmp_path) as fake:
        reply = await do(fake, ["say", "x" * (5 << 20)])
    assert len(reply.text) == 5 << 20


async def test_words_after_the_end_belong_to_no_turn(tmp_path: Path) -> None:
    async with agent().engage(tmp_path) as fake:
        first = await do(
            fake, ["say", "one"], ["later", ["say", "too late"], ["write", f"{tmp_path}/said", ""]]
        )
        await asyncio.to_thread(until, (tmp_path / "said").exists)
        await asyncio.sleep(0)  # the loop takes what lies in the pipe
        second = await do(fake, ["say", "two"])
    assert (first.text, second.text) == ("one", "two")


async def test_a_death_in_the_middle_of_a_turn_is_told_with_the_last_words(tmp_path: Path) -> None:
    async with agent().engage(tmp_path) as fake:
        with pytest.raises(AgentError, match=r"fake has ended \(exit code 3\), saying:\nout of memory"):
            await do(fake, ["say", "half"], ["complain", "out of memory"], ["die", 3])
        with pytest.raises(AgentError, match="has ended"):
            await do(fake)
    async with agent().engage(tmp_path) as fake:
        with pytest.raises(AgentError, match="signal 9"):
            await do(fake, ["crash"])


async def test_turns_are_taken_one_at_a_time(tmp_path: Path) -> None:
    async with agent().engage(tmp_path) as fake:
        replies = await asyncio.gather(*(do(fake, ["say", str(n)]) for n in range(5)))
    assert [reply.text for reply in replies] == list("01234")


async def test_a_silent_agent_is_given_up(tmp_path: Path) -> None:
    async with agent({"silence": 0.3}).engage(tmp_path) as fake:
        with pytest.raises(AgentError, match="silent"):
            await do(fake, ["hang"])
        assert (await do(fake, ["say", "I am back"])).text == "I am back"


# --- the beginning


async def test_a_missing_program_is_named_with_how_to_get_it(tmp_path: Path) -> None:
    missing = agent({"command": ("no-such-agent", "--acp"), "install": "npm install it"})
    with pytest.raises(AgentMissingError, match="no-such-agent") as caught:
        missing.check()
    assert caught.value.hint == "npm install it"
    with pytest.raises(AgentMissingError):
        async with missing.engage(tmp_path):
            pass
    agent().check()


async def test_a_program_in_the_folder_is_not_taken_for_the_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, folder = tmp_path / "real", tmp_path / "folder"
    for place, code in ((real, 7), (folder, 8)):
        place.mkdir()
        (place / "agent").write_text(f"#!/bin/sh\nexit {code}\n")
        (place / "agent").chmod(0o755)
    monkeypatch.chdir(real)
    for command, path in ((("agent",), ".:/usr/bin"), (("./agent",), "/usr/bin")):
        with pytest.raises(AgentMissingError, match="exit code 7"):
            async with agent({"command": command, "environ": {"PATH": path}}).engage(folder):
                pass


@pytest.mark.parametrize(
    "command", [("true",), ("cat",), ("sh", "-c", "echo hello; exit 5"), ("sh", "-c", "kill -9 $$")]
)
async def test_a_program_that_is_no_agent_is_called_so(command: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises((AgentMissingError, AgentError)) as caught:
        async with agent({"command": command, "start": 1.0}).engage(tmp_path):
            pass
    assert "Agent Client Protocol" in caught.value.hint


async def test_another_version_of_the_protocol_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentMissingError, match="version 2"):
        async with agent(version=2).engage(tmp_path):
            pass


async def test_an_agent_that_wants_a_login_says_how(tmp_path: Path) -> None:
    with pytest.raises(AuthError, match="Authentication required") as caught:
        async with agent({"login": "run `fake login`"}, login=True).engage(tmp_path):
            pass
    assert caught.value.hint == "run `fake login` (it offers: A key)"
    with pytest.raises(AuthError):
        async with agent(login=True).engage(tmp_path, resume="s-1"):
            pass


async def test_an_agent_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="not ready after"):
        async with agent({"start": 0.3}, silent=True).engage(tmp_path):
            pass


async def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="cannot be started"):
        async with agent().engage(tmp_path / "nowhere"):
            pass


async def test_we_say_who_we_are_and_what_we_offer(tmp_path: Path) -> None:
    async with agent({"mode": "ask"}).engage(tmp_path) as fake:
        met = answers(await do(fake, ["met"]))[0]
    assert met["client"]["clientInfo"]["name"] == "electrictown"
    assert met["client"]["clientCapabilities"] == {
        "fs": {"readTextFile": False, "writeTextFile": True},
        "terminal": False,
    }
    assert met["mode"] == "ask"


# --- taking up again, and models


async def test_an_engagement_is_taken_up_again(tmp_path: Path) -> None:
    heard = Heard()
    async with agent().engage(tmp_path) as fake:
        first = fake.id
    cost = {"sessionUpdate": "usage_update", "used": 1, "size": 2, "cost": {"amount": 3.0, "currency": "USD"}}
    more = {**cost, "cost": {"amount": 3.5, "currency": "USD"}}
    async with agent().engage(tmp_path, resume=first) as fake:
        assert fake.id == first
        reply = await do(fake, ["say", "go on"], ["update", cost], emit=heard)
        assert (await do(fake, ["update", more])).usd == 0.5
    assert (reply.text, reply.usd, heard.notes) == ("go on", None, [])


@pytest.mark.parametrize(
    ("habits", "why"),
    [
        ({"forgetful": True}, "No previous sessions"),
        ({"can": {}}, "cannot take up"),
        ({"can": None}, "cannot"),
    ],
)
async def test_one_that_cannot_be_taken_up_begins_anew_and_says_so(
    habits: dict[str, Any], why: str, tmp_path: Path
) -> None:
    heard = Heard()
    async with agent(**habits).engage(tmp_path, resume="s-1") as fake:
        assert fake.id != "s-1"
        await do(fake, ["say", "hello"], emit=heard)
        await do(fake, ["say", "hello"], emit=heard)
    assert len(heard.notes) == 1
    assert why in heard.notes[0]


OPTION = {
    "id": "m",
    "name": "Model",
    "category": "model",
    "type": "select",
    "currentValue": "a/x",
    "options": [
        {"value": "a/x", "name": "X"},
        {"group": "b", "name": "B", "options": [{"value": "b/y", "name": "Y"}]},
    ],
}
MODELS = {
    "availableModels": [{"modelId": "small", "name": "Small"}, {"modelId": "large", "name": "L"}],
    "currentModelId": "small",
}


@pytest.mark.parametrize(
    ("opened", "models", "current", "other"),
    [
        ({"configOptions": [OPTION]}, ("a/x", "b/y"), "a/x", "b/y"),
        ({"models": MODELS}, ("small", "large"), "small", "large"),
    ],
)
async def test_models_are_told_and_chosen(
    opened: dict[str, object], models: tuple[str, ...], current: str, other: str, tmp_path: Path
) -> None:
    async with agent(opened=opened).engage(tmp_path) as fake:
        assert (fake.model, fake.models) == (current, models)
        assert await fake.use(other) == other
        reply = await do(fake, ["met"])
    assert answers(reply)[0]["model"] == reply.model == other
    async with agent({"model": "unlisted"}, opened=opened).engage(tmp_path) as fake:
        assert fake.model == "unlisted"


async def test_a_model_that_is_not_there_is_an_error_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="no such model") as caught:
        async with agent(opened={"models": MODELS}).engage(tmp_path, model="nothing"):
            pass
    assert caught.value.hint == "it has small, large"


async def test_answers_that_make_no_sense_are_errors(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="session/new cannot be understood"):
        async with agent(opened={"sessionId": 7}).engage(tmp_path):
            pass
    async with agent().engage(tmp_path) as fake:
        with pytest.raises(AgentError, match="cannot be understood"):
            await do(fake, ["ends", {"why": "not"}])


async def test_a_prompt_of_any_text_arrives_as_it_is(tmp_path: Path) -> None:
    text = "$(touch x) `y` ; -- 'a' \"b\" \\ \n\r\u2028 🏙 \x00"
    async with agent().engage(tmp_path) as fake:
        assert (await fake.ask(json.dumps([["say", text]]), Heard())).text == text
