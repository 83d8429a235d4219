"""Exactly the session that is named, and nothing but its agent: prefixes, foreign sessions, nasty words."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from electrictown.cli.app import app
from electrictown.llm.gguf import packaged_model
from fakes.fake_server import FakeServer
from sessions.session_kit import Home, until, yaml_for

NASTY = (
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "| touch pwned #",
    "&& touch pwned",
    "\ntouch pwned\n",
    "#(touch pwned)",
    "#{pane_pid}",
    "-rf",
    "--socket=x",
    "%s%n",
    "../../x",
    "x y\tz",
    "🦊$IFS",
    ";",
    "a;",
)


def only_agents(home: Home) -> None:
    """Nothing runs in any session but its own program, and nothing that was said was obeyed."""
    for line in home.processes().values():
        assert "electrictown.pane" in line, line
    assert list(home.folder.rglob("pwned")) == []


@pytest.mark.parametrize("backend", ["tmux", "byobu", "none"])
def test_of_two_names_one_the_beginning_of_the_other_exactly_the_named_is_hit(
    home: Home,
    server: FakeServer,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ["et-polecat-a3f2", "et-polecat-a3f"]
    given = iter(names)
    monkeypatch.setattr("electrictown.sessions.registry.new_name", lambda role, digits: next(given))
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in home.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(home.work)
    on = ["--socket", home.socket] if backend != "none" else []
    for name in names:
        assert app(["session", "spawn", "--backend", backend, *on]) in (0,), capsys.readouterr()
        assert capsys.readouterr().out.strip() == name
    long, short = names
    home.et("send", short, "--wait", "for the short one")
    assert [said.text for said in home.said(short)] == ["for the short one"]
    assert home.said(long) == []
    home.et("kill", short)
    assert home.processes(short) == {}
    assert home.processes(long)
    rows = home.list("--all")
    assert (rows[short]["state"], rows[long]["state"]) == ("done", "ready")
    refused = home.run("send", short, "too late")
    assert refused.returncode == 1
    assert b"has ended" in refused.stderr
    assert home.run("kill", "et-polecat-a3").returncode == 2
    assert home.run("kill", "et-polecat-a").returncode == 2
    assert home.run("kill", "et-polecat").returncode == 2
    home.et("send", long, "--wait", "for the long one")
    assert [said.text for said in home.said(long)] == ["for the long one"]
    if backend != "none":
        assert home.tmux("list-sessions", "-F", "#{session_name}").split() == [long]


def test_what_is_not_recorded_as_ours_is_shown_and_left_alone(home: Home, server: FakeServer) -> None:
    ours = home.spawn("tmux")
    home.tmux("new-session", "-d", "-s", "et-polecat-beef", "--", "sleep", "1000")
    home.tmux("new-session", "-d", "-s", "mine", "--", "sleep", "1000")
    rows = home.list()
    assert (rows["et-polecat-beef"]["state"], rows[ours]["state"]) == ("foreign", "ready")
    assert "mine" not in rows
    for command in (["kill"], ["send"]):
        words = ["hello"] if command == ["send"] else []
        refused = home.run(*command, "et-polecat-beef", *words)
        assert refused.returncode != 0
    home.et("kill", ours)
    left = home.tmux("list-sessions", "-F", "#{session_name}").split()
    assert sorted(left) == ["et-polecat-beef", "mine"]


@pytest.mark.parametrize("backend", ["tmux", "none"])
def test_nasty_prompts_and_messages_are_words(home: Home, server: FakeServer, backend: str) -> None:
    name = home.spawn(backend, "--", NASTY[0])
    for text in NASTY[1:]:
        home.et("send", name, "--", text)
    home.idle(name)
    assert [said.text for said in home.said(name)] == list(NASTY)
    assert {turn.outcome for turn in home.turns(name)} == {"done"}
    only_agents(home)
    for pid in home.processes(name):
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"touch" not in line
        assert b"IFS" not in line


@pytest.mark.parametrize("backend", ["tmux", "byobu", "none"])
def test_nasty_folders_are_folders(home: Home, server: FakeServer, backend: str) -> None:
    shown: list[str] = []
    several = (
        (NASTY[0], NASTY[7], NASTY[8], NASTY[9], NASTY[10], NASTY[17]) if backend == "tmux" else NASTY[8:9]
    )
    for text in several:
        folder = home.work / f"d{text.replace('/', '_')}"
        folder.mkdir()
        name = home.spawn(backend, "--dir", str(folder), "-c", str(home.work / "electrictown.yaml"))
        (pid,) = home.processes(name)
        shown.append(str(Path(f"/proc/{pid}/cwd").readlink()))
        assert shown[-1] == str(folder)
        home.et("kill", name)
    only_agents(home)


def test_nasty_roles_models_and_providers_are_names(home: Home, server: FakeServer) -> None:
    quoted = [
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        for text in NASTY
    ]
    roles = "".join(f'  "{text}x": {{model: small, system_prompt: "{text}"}}\n' for text in quoted)
    home.configure(yaml_for(server.url) + roles)
    for text in (NASTY[7], NASTY[8], NASTY[13]):
        name = home.spawn("tmux", f"--role={text}x", "hello")
        assert home.list()[name]["role"] == f"{text}x"
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        home.et("send", name, "--wait", "again")
        home.et("kill", name)
    only_agents(home)
    assert any(b"touch pwned" in seen.raw for seen in server.chats)


@pytest.mark.parametrize("text", NASTY[::4])
def test_nasty_options_are_refused_or_taken_as_they_are(home: Home, server: FakeServer, text: str) -> None:
    for option in ("--socket", "--resume", "--agent", "--role"):
        done = home.run("spawn", "--backend", "tmux", f"{option}={text}")
        assert done.returncode == 2, (option, done.stderr)
        assert b"Traceback" not in done.stderr
    for command in ("send", "kill", "attach", "logs", "wait", "interrupt"):
        words = ["hello"] if command == "send" else []
        done = home.run(command, "--", text, *words)
        assert done.returncode == 2, (command, done.stderr)
        assert b"Traceback" not in done.stderr
    only_agents(home)
    assert home.registry.names() == []


@contextmanager
def attached(home: Home, name: str) -> Generator[int]:
    """`et session attach` on a terminal of its own; its end of the terminal."""
    ours, theirs = pty.openpty()
    program = (
        "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"  # so that Ctrl-C comes as a signal
        "from electrictown.cli.main import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, "session", "attach", name],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=home.environ,
        cwd=home.work,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            yield ours
            process.wait(20)
        finally:
            process.kill()
            os.close(ours)


def read_until(terminal: int, text: bytes) -> None:
    seen, end = b"", time.monotonic() + 20
    while text not in seen:
        assert time.monotonic() < end, seen
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 65536)


@pytest.mark.parametrize(
    ("backend", "leave"), [("tmux", b"\x02d"), ("byobu", b"\x1b[17~"), ("none", b"\x03")]
)
def test_a_person_looks_speaks_and_leaves_and_it_goes_on(
    home: Home, server: FakeServer, backend: str, leave: bytes
) -> None:
    name = home.spawn(backend, "the very first message")
    home.idle(name)
    for words in (b"typed once", b"typed again"):
        with attached(home, name) as terminal:
            read_until(terminal, b"very first message" if backend != "none" else b"fine")
            if backend != "none":
                until(lambda: home.list()[name]["attached"], "the attachment")
            os.write(terminal, words + b"\r")
            until(
                lambda words=words: words.decode() in [said.text for said in home.said(name)], "the message"
            )
            home.idle(name)
            os.write(terminal, leave)
        assert home.state_of(name) == "waiting for input"
    assert not home.list()[name]["attached"]
    assert [turn.outcome for turn in home.turns(name)] == ["done"] * 3


STRAYS = """
import json, subprocess, sys
from pathlib import Path
for line in sys.stdin:
    asked = json.loads(line)
    result = {"protocolVersion": 1, "sessionId": "s", "stopReason": "end_turn"}
    if asked["method"] == "session/prompt":
        stray = subprocess.Popen(["sleep", "1000"], env={}, start_new_session=True)
        Path("stray").write_text(str(stray.pid))
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


def test_what_an_agent_cleaned_of_its_mark_ends_with_the_session_though_its_leash_was_killed(
    home: Home, server: FakeServer
) -> None:
    command = json.dumps([sys.executable, "-c", STRAYS])
    home.configure(yaml_for(server.url, {"agents": f"{{strays: {{command: {command}}}}}"}))
    name = home.spawn("none", "--agent", "strays", "go")
    home.idle(name)
    stray = Path("/proc", (home.work / "stray").read_text(), "cmdline")
    (leash,) = [pid for pid, line in home.processes(name).items() if "leash.py" in line]
    os.kill(leash, signal.SIGKILL)
    until(lambda: len(home.processes(name)) == 1, "the end of the agent")
    assert stray.read_bytes().startswith(b"sleep")
    home.et("kill", name)
    assert not stray.exists() or not stray.read_bytes()


def test_one_that_is_frozen_is_stuck_and_can_be_killed(home: Home, server: FakeServer) -> None:
    name = home.spawn("none")  # tmux wakes what is stopped
    (pid,) = home.processes(name)
    os.kill(pid, signal.SIGSTOP)
    assert home.state_of(name) == "stuck"
    home.et("kill", name)
    assert home.processes(name) == {}
    assert home.state_of(name) == "done"


def test_ctrl_c_and_interrupt_cut_the_reply_not_the_session(home: Home, server: FakeServer) -> None:
    from fakes.fake_server import Reply

    server.reply = Reply(text=" ".join(["word"] * 2000), pause=0.01)
    name = home.spawn("tmux", "go on for ever")
    for turns, cut in enumerate(
        (
            lambda: home.tmux("send-keys", "-t", f"={name}:", "C-c"),
            lambda: home.et("interrupt", name),
        )
    ):

        def replies(said: int = turns + 1) -> bool:
            _, *heard = home.et("logs", name).split("> ")
            return len(heard) == said and "word word" in heard[-1]

        until(replies, "the reply")
        cut()
        until(lambda turns=turns: len(home.turns(name)) == turns + 1, "the cut")
        assert home.turns(name)[-1].outcome == "interrupted"
        assert home.turns(name)[-1].text.startswith("word word")
        assert home.state_of(name) == "waiting for input"
        home.et("send", name, "once more")
    home.et("kill", name)


@pytest.mark.peer
def test_the_embedded_model_talks_and_is_gone_with_its_session(home: Home) -> None:
    if packaged_model() is None:
        pytest.skip("the embedded model is not installed")
    name = home.spawn("tmux", "--config", "auto", "Say hello.")
    home.et("send", name, "--wait", "Say it again.")
    home.et("send", name, "--wait", "And again.")
    turns = home.turns(name)
    assert [turn.outcome for turn in turns] == ["done"] * 3
    assert all(turn.text for turn in turns)
    assert len(home.processes(name)) > 1  # llama.cpp is a process of its own
    (pid,) = [pid for pid, line in home.processes(name).items() if "electrictown.pane" in line]
    os.kill(pid, signal.SIGKILL)
    until(lambda: home.processes(name) == {}, "the end of all processes")
    assert home.state_of(name) == "failed"
    home.et("spawn", "--resume", name, "--socket", home.socket, "--config", "auto")
    home.et("send", name, "--wait", "Do you remember?")
    home.et("kill", name)
    assert home.processes(name) == {}
