"""Gemini CLI, an agent that others wrote, at work: its model is the fake server, all else is real."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from acp_kit import Heard

from electrictown.acp.agent import AcpAgent
from electrictown.acp.presets import PRESETS
from electrictown.acp.settings import AgentSettings, environ_of
from electrictown.errors import AuthError
from electrictown.events import TextStreamed
from electrictown.llm.messages import Usage
from electrictown.work import File
from fakes.fake_server import FakeServer, Reply, Seen

pytestmark = pytest.mark.peer

GEMINI = Path(__file__).parents[2] / ".peers" / "gemini"
MODEL = "gemini-2.5-flash"
SETTINGS = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
    "model": {"name": MODEL},
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    if not GEMINI.exists():
        pytest.skip("Gemini CLI is not installed (scripts/npm-peer.sh gemini)")
    home = tmp_path / "home"
    (home / ".gemini").mkdir(parents=True)
    (home / ".gemini" / "settings.json").write_text(json.dumps(SETTINGS))
    (tmp_path / "work").mkdir()
    return home


def gemini(home: Path, url: str, **variables: str) -> AcpAgent:
    preset = PRESETS["gemini"]
    given = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_CLI_NO_RELAUNCH": "true",
        **variables,
    }
    return AcpAgent(
        AgentSettings(
            name="gemini",
            label=preset.label,
            command=(str(GEMINI), *preset.command[1:]),
            environ=environ_of(given, preset.variables, preset.environ),
            login=preset.login,
        )
    )


def model(folder: Path) -> Any:  # noqa: ANN401
    """A model that calls the tool that the last message asks for, and says what came of it."""
    calls = {
        "make new.txt": ("write_file", {"file_path": f"{folder}/new.txt", "content": "fresh\n"}),
        "change new.txt": (
            "replace",
            {
                "file_path": f"{folder}/new.txt",
                "old_string": "fresh",
                "new_string": "changed",
                "instruction": "change it",
            },
        ),
        "run it": ("run_shell_command", {"command": "echo ran > ran.txt", "description": "run"}),
        "leave": ("write_file", {"file_path": f"{folder.parent}/outside.txt", "content": "x"}),
    }

    def reply(seen: Seen) -> str | Reply:
        last = json.dumps(seen.body["contents"][-1])
        if "functionResponse" in last:
            return "That is done."
        call = next((call for words, call in calls.items() if words in last), None)
        if call is None:
            return Reply(text="one two three four five six", pause=0.05) if "count" in last else "Hello."
        return Reply(text="I will.", tool_calls=((call[0], json.dumps(call[1])),))

    return reply


def running(home: Path) -> list[int]:
    """The processes that have this home."""
    mark, found = f"HOME={home}\0".encode(), list[int]()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
            except OSError:
                continue
            if mark in environ:
                found.append(int(entry.name))
    return found


async def test_it_works_over_turns_and_asks_for_what_it_does(home: Path) -> None:
    folder, heard, asked = home.parent / "work", Heard(), list[str]()

    async def person(words: str) -> bool:
        asked.append(words)
        return "ran.txt" in words and len(asked) == 1

    async with FakeServer(reply=model(folder)) as server:
        agent = gemini(home, server.url, GEMINI_API_KEY="fake-key-of-gemini")
        agent.check()
        async with agent.engage(folder, consent=person) as engagement:
            made = await engagement.ask("make new.txt", heard)
            changed = await engagement.ask("change new.txt", heard)
            ran = await engagement.ask("run it", heard)
            denied = await engagement.ask("run it", heard)
            outside = await engagement.ask("leave", heard)
            assert running(home)
    assert running(home) == []
    assert made.text == "I will.\n\nThat is done."
    assert (made.files, made.model, made.usage, made.usd) == (
        (File("new.txt", "fresh\n"),),
        MODEL,
        Usage(input=22, output=14),
        None,
    )
    assert changed.files == (File("new.txt", "changed\n"),)
    assert ran.files == (File("ran.txt", "ran\n"),)
    assert (denied.files, outside.files, (home.parent / "outside.txt").exists()) == ((), (), False)
    assert asked == ["Gemini CLI asks leave to run a command: echo ran > ran.txt"] * 2
    notes = [note for note in heard.notes if "outside" not in note]
    assert len(notes) == 4
    assert [note.partition(":")[0] for note in notes] == ["edit", "edit", "execute", "not allowed"]


async def test_a_turn_is_cancelled_and_the_next_one_taken(home: Path) -> None:
    folder, spoke = home.parent / "work", asyncio.Event()
    async with (
        FakeServer(reply=model(folder)) as server,
        gemini(home, server.url, GEMINI_API_KEY="fake-key-of-gemini").engage(folder) as engagement,
    ):
        turn = asyncio.create_task(
            engagement.ask("count", lambda event: spoke.set() if isinstance(event, TextStreamed) else None)
        )
        await spoke.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert await engagement.use("gemini-2.5-pro") == "gemini-2.5-pro"
        reply = await engagement.ask("greet", Heard())
    assert (reply.text, reply.model) == ("Hello.", "gemini-2.5-pro")
    assert running(home) == []


async def test_without_a_key_it_says_how_to_log_in(home: Path) -> None:
    agent = gemini(home, "")
    with pytest.raises(AuthError, match="API key is missing") as caught:
        async with agent.engage(home.parent / "work"):
            pass
    assert "GEMINI_API_KEY" in caught.value.hint
    assert running(home) == []
