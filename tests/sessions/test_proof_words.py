"""No word is lost, doubled or mixed up: three turns, two hundred messages at once, kills in the middle."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.fake_server import FakeServer, Reply, Seen
from sessions.session_kit import BACKENDS, SECRET, Home, until

SENDER = """
import asyncio, os, random, sys
from pathlib import Path
from electrictown.sessions.registry import Registry
from electrictown.sessions.messages import Say
from electrictown.sessions.sending import deliver, new_id
from electrictown.journal.stores import open_store

async def main(folder, name, who, count):
    registry, dice = Registry(Path(folder)), random.Random(who)
    for number in range(int(count)):
        size = dice.choice([1, 9, 60, 500, 50_000 if number == 49 else 20])
        data = who.encode() + b":" + str(number).encode() + b":" + dice.randbytes(size)
        say = Say(new_id(), data, who)
        await deliver(registry, registry.find(name), say, lambda: open_store(None, os.environ))
        print(number, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def asked(seen: Seen) -> str:
    """The last message of a request."""
    assert isinstance(seen.body, dict)
    return seen.body["messages"][-1]["content"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_conversation_of_three_turns(home: Home, server: FakeServer, backend: str) -> None:
    server.reply = lambda seen: f"I heard: {asked(seen)}"
    name = home.spawn(backend, "--role", "polecat", "hello $(touch pwned)")
    assert home.et("send", name, "--wait", "second; `touch pwned`") == "I heard: second; `touch pwned`\n"
    assert home.et("send", name, "--wait", "--", "-third") == "I heard: -third\n"
    assert [turn.text for turn in home.turns(name)] == [
        "I heard: hello $(touch pwned)",
        "I heard: second; `touch pwned`",
        "I heard: -third",
    ]
    (row,) = home.list().values()
    assert row["state"] == "waiting for input"
    assert (row["role"], row["model"], row["turns"], row["line"]) == (
        "polecat",
        "small",
        3,
        "I heard: -third",
    )
    assert row["usd"] > 0
    if backend != "none":
        until(lambda: "I heard: -third" in home.tmux("capture-pane", "-p", "-t", f"={name}:"), "the reply")
        assert "I heard: second" in home.tmux("capture-pane", "-p", "-t", f"={name}:")
    log = home.et("logs", name)
    assert "hello $(touch pwned)" in log
    assert "I heard: -third" in log
    assert not (home.work / "pwned").exists()
    home.et("kill", name)
    assert home.processes(name) == {}
    assert home.state_of(name) == "done"


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_hundred_messages_of_random_bytes_from_four_at_once(
    home: Home, server: FakeServer, backend: str
) -> None:
    name = home.spawn(backend)
    senders = [
        subprocess.Popen(
            [sys.executable, "-c", SENDER, str(home.registry.folder(name).parent), name, f"s{n}", "50"],
            env=home.environ,
            stdout=subprocess.PIPE,
        )
        for n in range(4)
    ]
    for sender in senders:
        out, _ = sender.communicate(timeout=120)
        assert sender.returncode == 0
        assert out.split() == [str(n).encode() for n in range(50)]
    home.idle(name)
    arrived = [said.data for said in home.said(name)]
    for n in range(4):
        dice = random.Random(f"s{n}")
        sent: list[bytes] = []
        for number in range(50):
            size = dice.choice([1, 9, 60, 500, 50_000 if number == 49 else 20])
            sent.append(f"s{n}:{number}:".encode() + dice.randbytes(size))
        assert [data for data in arrived if data.startswith(f"s{n}:".encode())] == sent
    assert len(arrived) == 200
    assert [turn.said for turn in home.turns(name)] == [said.id for said in home.said(name)]
    assert {turn.outcome for turn in home.turns(name)} == {"done"}
    told = [asked(seen).partition(":")[0::2] for seen in server.chats]
    assert len(told) == 200
    (row,) = home.list().values()
    assert (row["turns"], row["queued"]) == (200, 0)


@pytest.mark.parametrize(
    "text", ["", "\n", "-", "--", "@file", "a\0b", "\ud7ff\u2028🦊 'q\" \\ $(x) `y` ; & | > < * ~ #"]
)
def test_any_text_arrives_as_it_is(home: Home, server: FakeServer, text: str) -> None:
    name = home.spawn("none")
    for data in (text.encode(), text.encode() + b"\n", text.encode() * 3000):
        if data:
            home.et("send", name, "-", stdin=data)
            assert home.said(name)[-1].data == data
    if text and "\0" not in text:
        home.et("send", name, "--", text, text)
        assert home.said(name)[-1].data == f"{text} {text}".encode()


@pytest.mark.parametrize("backend", ["tmux", "none"])
def test_an_agent_that_is_killed_while_words_come_loses_none_that_it_accepted(
    home: Home, server: FakeServer, backend: str
) -> None:
    server.reply = Reply(text="slowly but surely", pause=0.02)
    name = home.spawn(backend, "begin")
    sessions = str(home.registry.folder(name).parent)
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER, sessions, name, "s0", "500"],
        env=home.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until(lambda: len(home.said(name)) > 20, "messages")
    (pid,) = [pid for pid, line in home.processes(name).items() if "electrictown.pane" in line]
    os.kill(pid, signal.SIGKILL)
    out, err = sender.communicate(timeout=60)
    assert sender.returncode != 0
    assert b"SessionEndedError" in err
    until(lambda: home.processes(name) == {}, "the end of all processes")
    accepted = out.split()
    kept = [said.data for said in home.said(name)][1:]
    assert len(accepted) in (len(kept), len(kept) - 1)  # the last one may have been committed unsaid
    assert home.list("--all")[name]["state"] == "failed"
    assert home.run("send", name, "hello?").returncode != 0
    assert len(home.said(name)) == len(kept) + 1
    server.reply = "quick"
    again = ("--socket", home.socket) if backend != "none" else ()
    assert home.et("spawn", "--resume", name, *again, "and on").strip() == name
    home.idle(name)
    assert [said.data for said in home.said(name)][1:] == [*kept, b"and on"]
    assert [turn.said for turn in home.turns(name)] == [said.id for said in home.said(name)]
    assert home.state_of(name) == "waiting for input"


@pytest.mark.parametrize("backend", ["tmux", "byobu"])
def test_when_tmux_is_killed_its_sessions_end_and_can_be_taken_up_again(
    home: Home, server: FakeServer, backend: str
) -> None:
    names = [home.spawn(backend, f"number {n}") for n in range(2)]
    alone = home.spawn("none", "in the background")
    for name in (*names, alone):
        home.idle(name)
    os.kill(home.tmux_pid(), signal.SIGKILL)
    for name in names:
        until(lambda name=name: home.processes(name) == {}, "the end")
    rows = home.list("--all")
    assert [rows[name]["state"] for name in names] == ["failed", "failed"]
    assert "terminal went away" in rows[names[0]]["why"]
    assert rows[alone]["state"] == "waiting for input"
    home.et("spawn", "--resume", names[0], "--socket", home.socket)
    assert home.et("send", names[0], "--wait", "still there?") == "fine\n"
    assert [said.text for said in home.said(names[0])] == ["number 0", "still there?"]
    assert home.state_of(names[1]) == "failed"


def test_a_sender_that_is_killed_has_sent_whole_messages_or_none(home: Home, server: FakeServer) -> None:
    name = home.spawn("none")
    sessions = str(home.registry.folder(name).parent)
    for _ in range(3):
        before = len(home.said(name))
        sender = subprocess.Popen(
            [sys.executable, "-c", SENDER, sessions, name, "s1", "500"],
            env=home.environ,
            stdout=subprocess.PIPE,
        )
        until(lambda before=before: len(home.said(name)) > before + 3, "messages")
        sender.kill()
        sender.communicate()
    home.idle(name)
    dice, whole = random.Random("s1"), set[bytes]()
    for number in range(500):
        size = dice.choice([1, 9, 60, 500, 50_000 if number == 49 else 20])
        whole.add(f"s1:{number}:".encode() + dice.randbytes(size))
    assert {said.data for said in home.said(name)} <= whole
    assert home.state_of(name) == "waiting for input"


def test_no_key_is_anywhere_but_in_memory(home: Home, server: FakeServer) -> None:
    server.reply = f"your key is {SECRET}"
    names = [home.spawn(backend, "what is my key?") for backend in ("tmux", "none")]
    for name in names:
        home.idle(name)
        for pid in home.processes(name):
            for file in ("environ", "cmdline"):
                assert SECRET.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()
    server_pid = home.tmux_pid()
    assert SECRET.encode() not in Path(f"/proc/{server_pid}/environ").read_bytes()
    assert SECRET not in home.tmux("show-environment", "-g")
    assert SECRET not in home.tmux("show-environment", "-t", f"={names[0]}:")
    assert SECRET not in home.tmux("capture-pane", "-p", "-S", "-", "-t", f"={names[0]}:")
    assert SECRET not in home.et("logs", names[0])
    assert SECRET not in home.et("list")
    for name in names:
        home.et("kill", name)
    files = [path for path in home.state.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert server.chats[0].headers["authorization"] == f"Bearer {SECRET}"
