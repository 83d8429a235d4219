"""Gemini CLI, an agent that others wrote, as a session and as the worker of a run; its model is the fake."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import msgspec
import pytest

from electrictown.cli.app import app
from fakes.fake_server import FakeServer, Reply, Seen
from sessions.session_kit import SECRET, Home, until

pytestmark = pytest.mark.peer

GEMINI = Path(__file__).parents[2] / ".peers" / "gemini"
MODEL = "gemini-2.5-flash"


@pytest.fixture
def gemini(home: Home, server: FakeServer) -> Home:
    """A home whose `agents.gemini` is the real program, logged in with a key that goes to the fake."""
    if not GEMINI.exists():
        pytest.skip("Gemini CLI is not installed (scripts/npm-peer.sh gemini)")
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
        "model": {"name": MODEL},
    }
    (home.folder / ".gemini").mkdir()
    (home.folder / ".gemini" / "settings.json").write_text(json.dumps(settings))
    home.configure(
        "agents:\n  gemini:\n"
        f"    command: [{GEMINI}, --acp]\n"
        "    env:\n"
        "      GEMINI_API_KEY: $THEIR_KEY\n"
        f"      GOOGLE_GEMINI_BASE_URL: {server.url}\n"
        '      GEMINI_CLI_NO_RELAUNCH: "true"\n'
        "roles:\n  polecat: {agent: gemini}\n"
    )
    return home


def working_in(folder: Path, server: FakeServer) -> None:
    """Have the model write a file, or run a command, when it is asked to; else it chats."""

    def reply(seen: Seen) -> str | Reply:
        assert isinstance(seen.body, dict)
        last = json.dumps(seen.body["contents"][-1])
        if "functionResponse" in last:
            return "That is done."
        asked = seen.body["contents"][-1]["parts"][-1].get("text", "").rstrip()
        if asked.endswith("write it"):
            call = {"file_path": f"{folder}/greet.py", "content": "print('hello')\n"}
            return Reply(text="I will.", tool_calls=(("write_file", json.dumps(call)),))
        if asked.endswith("run it"):
            call = {"command": "echo ran > ran.txt", "description": "run it"}
            return Reply(text="I will.", tool_calls=(("run_shell_command", json.dumps(call)),))
        return "Hello."

    server.reply = reply


def test_a_session_with_an_agent_of_others(gemini: Home, server: FakeServer) -> None:
    home = gemini
    working_in(home.work, server)
    name = home.spawn("tmux", "--agent", "gemini")
    assert name.startswith("et-gemini-")
    assert "That is done." in home.et("send", name, "--wait", "write it")
    assert (home.work / "greet.py").read_text() == "print('hello')\n"
    assert home.turns(name)[-1].files == ("greet.py",)
    home.et("send", name, "run it")
    until(lambda: home.list()[name]["state"] == "waiting for input", "the question")
    assert "echo ran" in home.list()[name]["why"]
    assert not (home.work / "ran.txt").exists()
    home.et("answer", name, "deny")
    home.idle(name)
    assert not (home.work / "ran.txt").exists()
    home.et("send", name, "run it")
    until(lambda: "echo ran" in home.list()[name]["why"], "the question")
    home.et("answer", name, "allow")
    home.idle(name)
    assert (home.work / "ran.txt").read_text() == "ran\n"
    (row,) = home.list().values()
    assert (row["agent"], row["usd"], row["turns"]) == ("gemini", None, 3)
    assert row["tokens"] > 0
    running = home.processes(name)
    assert len(running) > 1
    for pid, line in running.items():
        assert SECRET not in line
        if "electrictown.pane" in line:  # the agent itself has the key that the file gives it
            assert SECRET.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
    (pid,) = [pid for pid, line in running.items() if "electrictown.pane" in line]
    os.kill(pid, signal.SIGKILL)
    until(lambda: home.processes(name) == {}, "the end of all processes")
    home.et("spawn", "--resume", name, "--socket", home.socket)
    assert "Hello." in home.et("send", name, "--wait", "and now?")
    assert "write it" in server.chats[-1].prompt  # it is told what it does not remember
    home.et("kill", name)
    assert home.processes(name) == {}


def test_a_budget_is_refused_where_it_cannot_hold(gemini: Home) -> None:
    refused = gemini.run("spawn", "--backend", "none", "--agent", "gemini", "--budget", "1")
    assert refused.returncode == 2
    assert b"accounts of their own: gemini" in refused.stderr
    assert gemini.registry.names() == []


def test_a_run_has_an_agent_of_others_work(
    gemini: Home, server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reply(seen: Seen) -> str | Reply:
        assert isinstance(seen.body, dict)
        last = json.dumps(seen.body["contents"][-1])
        if "functionResponse" in last:
            return "greet.py greets."
        folder = seen.prompt.partition("working directory is: ")[2].partition("\n")[0].strip() or "."
        call = {"file_path": f"{folder}/greet.py", "content": "print('hello')\n"}
        return Reply(text="I will.", tool_calls=(("write_file", json.dumps(call)),))

    server.reply = reply
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in gemini.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(gemini.work)
    code = app(["run", "--json", "--output-dir", "out", "write a greeting"])
    said = capsys.readouterr()
    assert code == 0, said.err
    report = msgspec.json.decode(said.out)
    assert report["files"] == ["greet.py"]
    assert (gemini.work / "out" / "greet.py").read_text() == "print('hello')\n"
    assert report["total"]["usd"] is None
    assert "greet.py greets." in report["text"]
