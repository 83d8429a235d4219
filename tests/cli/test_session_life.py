"""Sessions as they live: started, talked to, left, killed and taken up again, by the real program."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from cli_kit import ET, Said, Shell, until

from electrictown.sessions.ending import survivors
from electrictown.sessions.registry import Registry

CONFIG = """
providers:
  stage: {type: scripted, script: stage.yaml}
  down: {type: scripted, script: down.yaml}
models:
  actor: {provider: stage, model: actor-1}
  gone: {provider: down, model: actor-2}
roles:
  polecat: {model: actor}
  broken: {model: gone}
"""
STAGE = """
- {when: {user: slowly}, repeat: true, pace: 3, text: "one two three four five six seven eight nine ten"}
- {repeat: true, text: "You said: {prompt}"}
"""
DOWN = "[{repeat: true, error: BadRequestError}]"


class Town:
    """A folder with a configuration; sessions that are started here end with the test."""

    def __init__(self, shell: Shell, socket: str) -> None:
        self.shell = shell
        self.socket = socket
        self.registry = Registry(shell.home / ".local" / "state" / "electrictown" / "sessions")
        shell.configure(CONFIG)
        shell.write("stage.yaml", STAGE)
        shell.write("down.yaml", DOWN)

    def et(self, command: str, *arguments: str, stdin: str | bytes = b"") -> Said:
        return self.shell.et("session", command, *arguments, stdin=stdin)

    def spawn(self, *arguments: str, backend: str = "none") -> str:
        where = () if backend == "none" else ("--socket", self.socket)
        said = self.et("spawn", "--backend", backend, *where, *arguments)
        assert said.code == 0, said.err
        name = said.out.strip()
        assert f"et session attach {name}" in said.err
        return name

    def row(self, name: str) -> dict[str, object]:
        (row,) = [row for row in self.et("list", "--all", "--json").json if row["name"] == name]
        return row

    def pid(self, name: str) -> int:
        pid = self.row(name)["pid"]
        assert isinstance(pid, int)
        return pid

    def processes(self) -> list[int]:
        return [pid for name in self.registry.names() for pid in survivors(self.registry.find(name))]


@pytest.fixture
def town(shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Town]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("TMUX_TMPDIR", str(tmp_path))  # nobody's own tmux is asked for panes
    town = Town(shell, f"et-test-{os.getpid()}")
    yield town
    if names := town.registry.names():
        town.et("kill", *names)
    if shutil.which("tmux"):
        for socket in (town.socket, "default"):
            subprocess.run(["tmux", "-L", socket, "kill-server"], check=False, capture_output=True)
    until(lambda: not town.processes())


def test_a_session_lives_from_its_first_word_to_its_last(town: Town) -> None:
    name = town.spawn("hello", "there")
    assert name.startswith("et-polecat-")
    assert town.et("wait", name).out == f"{name}  waiting for input\n"
    assert town.et("send", name, "--wait", "and", "you?").out == "You said: and you?\n"
    row = town.row(name)
    assert (row["state"], row["turns"], row["model"], row["role"]) == (
        "waiting for input",
        2,
        "actor",
        "polecat",
    )
    assert row["folder"] == str(town.shell.folder)
    log = town.et("logs", name).out
    assert log.index("> hello there") < log.index("You said: hello there") < log.index("send> and you?")
    assert town.et("kill", name).out == f"{name} has ended\n"
    assert town.row(name)["state"] == "done"
    assert not town.processes()
    said = town.et("send", name, "still there?")
    assert said.code == 1
    assert "has ended: the message was not accepted" in said.err


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["-"], "from stdin\n", "from stdin"),
        (["@task.md"], "", "from a file"),
        (["--", "--budget", "$(id)"], "", "--budget $(id)"),
    ],
)
def test_the_first_message_comes_as_a_task_does(
    town: Town, arguments: list[str], stdin: str, said: str
) -> None:
    town.shell.write("task.md", "from a file\n")
    spawned = town.et("spawn", "--backend", "none", "--json", *arguments, stdin=stdin)
    assert spawned.code == 0, spawned.err
    name = spawned.json["name"]
    assert spawned.json["backend"] == "none"
    town.et("wait", name)
    assert f"You said: {said}\n" in town.et("logs", name).out


def test_a_session_without_a_message_is_ready(town: Town) -> None:
    (town.shell.folder / "elsewhere").mkdir()
    name = town.spawn("--dir", "elsewhere")
    row = town.row(name)
    assert (row["state"], row["turns"]) == ("ready", 0)
    assert row["folder"] == str(town.shell.folder / "elsewhere")
    assert Path(f"/proc/{town.pid(name)}/cwd").resolve() == town.shell.folder / "elsewhere"


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--role", "polcat"], 2, "did you mean 'polecat'?"),
        (["--agent", "nobody"], 2, "there is no agent 'nobody'"),
        (["--dir", "nowhere"], 2, "does not exist"),
        (["--dir", ""], 2, "names no folder"),
        (["--config", "none.yaml"], 2, "none.yaml"),
        (["--budget", "much"], 2, "much"),
        (["--socket", "x", "--backend", "none"], 2, "has no --socket"),
        (["--socket", "../x", "--backend", "tmux"], 2, "no name of a tmux socket"),
        (["--attach"], 2, "wants a terminal"),
        (["--attach", "--json"], 2, "exclude each other"),
        (["@none.md"], 2, "none.md cannot be read"),
        (["--resume", "et-polecat-0000"], 2, "there is no session 'et-polecat-0000'"),
        (["--resume", "et-polecat-0000", "--role", "mayor"], 2, "keeps its role"),
        (["--resume", "et-polecat-0000", "--dir", "."], 2, "keeps its dir"),
    ],
)
def test_what_cannot_begin_leaves_nothing_running(
    town: Town, arguments: list[str], code: int, told: str
) -> None:
    if "tmux" in arguments and shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    backend = () if "--backend" in arguments else ("--backend", "none")
    said = town.et("spawn", *backend, *arguments)
    assert (said.code, said.out) == (code, "")
    assert told in said.err
    assert not town.registry.names()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--role", "polcat"], "did you mean 'polecat'?"),
        (["--agent", "gemnii"], "did you mean 'gemini'?"),
        (["--agent", "gemini"], "npm install"),
        (["--budget", "much"], "'much' is no budget"),
    ],
)
def test_what_is_mistyped_is_no_session_without_a_configuration_either(
    town: Town, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    (town.shell.folder / "electrictown.yaml").unlink()
    monkeypatch.setenv("PATH", str(town.shell.folder))
    said = town.et("spawn", "--backend", "none", *arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert not town.registry.names()


def test_an_agent_needs_no_configuration_and_no_model(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    (town.shell.folder / "electrictown.yaml").unlink()
    program = town.shell.folder / "gemini"
    program.write_text(f"#!{sys.executable}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(town.shell.folder))
    said = town.et("spawn", "--agent", "gemini")  # nor any tmux
    name = said.out.strip()
    assert said.err.startswith("it works in the background, since there is no tmux ")
    row = town.row(name)
    assert (row["state"], row["backend"]) == ("ready", "none")
    assert town.et("logs", name).out == "— no electrictown.yaml: gemini with its own settings and login\n"


def test_a_session_is_taken_up_again_and_knows_what_was_said(town: Town) -> None:
    name = town.spawn("first")
    busy = town.et("spawn", "--resume", name)
    assert busy.code == 75
    assert "is alive already" in busy.err
    town.et("wait", name)
    os.kill(town.pid(name), signal.SIGKILL)
    until(lambda: town.row(name)["why"] == "its process is gone")
    again = town.et("spawn", "--resume", name, "second")
    assert again.out == f"{name}\n"
    assert again.err.startswith("to see it:")  # where it runs was chosen before
    assert town.et("wait", name).code == 0
    assert town.et("send", name, "--wait", "third").out == "You said: third\n"
    assert town.row(name)["turns"] == 3


def test_a_spent_budget_says_what_goes_on_with_a_larger_one(town: Town) -> None:
    name = town.spawn("--budget", "1t")
    said = town.et("send", name, "--wait", "hello")
    going_on = f"  hint: et session kill {name} && et session spawn --resume {name} --budget MOREt\n"
    assert (said.code, said.out) == (5, "")
    assert said.err.endswith(going_on)
    assert town.et("logs", name).out.endswith(going_on)
    assert town.et("kill", name).code == 0
    assert town.et("spawn", "--resume", name, "--budget", "100000t").code == 0
    assert town.et("send", name, "--wait", "again").out.startswith("You said: ")


def test_what_was_accepted_is_answered_after_a_kill(town: Town) -> None:
    name = town.spawn("count slowly")
    assert town.et("send", name, "--id", "left", "left over").code == 0
    until(lambda: town.row(name)["state"] == "working")
    assert town.row(name)["queued"] == 2
    os.kill(town.pid(name), signal.SIGKILL)
    until(lambda: town.row(name)["state"] == "failed")
    assert "the message was accepted" in town.et("send", name, "--id", "left", "left over").err
    town.shell.write("stage.yaml", '[{repeat: true, text: "You said: {prompt}"}]')
    assert town.et("spawn", "--resume", name, "and then").code == 0
    assert town.et("wait", name).code == 0
    log = town.et("logs", name, "--json").events
    assert [one["text"] for one in log if one["kind"] == "said"][-3:] == [
        "count slowly",
        "left over",
        "and then",
    ]
    assert town.et("send", name, "--id", "left", "--wait", "left over").out == "You said: left over\n"
    assert town.row(name)["turns"] == 3


def test_a_frozen_session_is_stuck_and_hears_it_once_when_it_goes_on(town: Town) -> None:
    name = town.spawn()
    pid = town.pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        assert town.row(name)["state"] == "stuck"
        said = town.et("send", name, "--timeout", "0.5", "--id", "m1", "hello")
        assert said.code == 75
    finally:
        os.kill(pid, signal.SIGCONT)
    assert town.et("send", name, "--id", "m1", "--wait", "hello").out == "You said: hello\n"
    assert town.row(name)["turns"] == 1


def test_a_frozen_session_is_killed_all_the_same(town: Town) -> None:
    name = town.spawn()
    os.kill(town.pid(name), signal.SIGSTOP)
    assert town.et("kill", name).code == 0
    assert not town.processes()


def test_a_reply_is_cut_and_the_session_goes_on(town: Town) -> None:
    name = town.spawn("count slowly")
    until(lambda: "one" in town.et("logs", name).out)
    assert town.et("interrupt", name).code == 0
    assert town.et("wait", name).code == 0
    assert "— interrupted" in town.et("logs", name).out
    assert town.et("send", name, "--wait", "on").out == "You said: on\n"


def test_what_a_model_refuses_is_told_by_all_that_wait(town: Town) -> None:
    name = town.spawn("--role", "broken", "hello")
    assert name.startswith("et-broken-")
    assert town.et("wait", name).code == 1
    assert "was not answered" in town.et("wait", name).out
    said = town.et("send", name, "--wait", "hello?")
    assert (said.code, said.out) == (1, "")


def test_four_that_send_at_once_lose_no_word(town: Town) -> None:
    name = town.spawn()

    def send(sender: int) -> None:
        for number in range(3):
            subprocess.run(
                [*ET, "session", "send", name, f"{sender}.{number}"],
                check=True,
                capture_output=True,
                timeout=60,
            )

    senders = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert town.et("wait", name).code == 0
    said = [e["text"] for e in town.et("logs", name, "--json").events if e["kind"] == "said"]
    assert len(said) == 12
    for sender in range(4):
        assert [text for text in said if text.startswith(f"{sender}.")] == [f"{sender}.{n}" for n in range(3)]


# --- at a terminal


class Terminal:
    """`et` at a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            os.execv(ET[0], [*ET, *arguments])
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 20
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            if select.select([self._screen], [], [], 0.1)[0]:
                try:
                    self.shown += os.read(self._screen, 65536).decode(errors="replace")
                except OSError:
                    break
        assert text in self.shown

    def ended(self) -> int:
        while True:
            try:
                if not os.read(self._screen, 65536):
                    break
            except OSError:  # the other side is closed
                break
        os.close(self._screen)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_a_session_in_the_background_is_attached_to_and_left(town: Town, key: str) -> None:
    name = town.spawn("hello")
    town.et("wait", name)
    terminal = Terminal("session", "attach", name)
    terminal.wait_for("You said: hello")
    terminal.type("typed\n")
    terminal.wait_for("You said: typed")
    terminal.type("/nonsense\n//a path\n/cost\n")
    terminal.wait_for("there is no command /nonsense")
    terminal.wait_for("You said: /a path")
    terminal.wait_for("/cost is for a session with a terminal of its own")
    assert "> typed" not in terminal.shown  # what was typed stands there already
    terminal.type(key)
    terminal.wait_for(f"{name} goes on")
    assert terminal.ended() == 0
    assert town.row(name)["turns"] == 3


def test_a_session_is_spawned_attached_and_ended_from_its_terminal(town: Town) -> None:
    terminal = Terminal("session", "spawn", "--backend", "none", "--attach", "count slowly")
    terminal.wait_for("one")
    terminal.type("/interrupt\n")
    terminal.wait_for("— interrupted")
    terminal.type("/allow\n")
    terminal.wait_for("asks for nothing")
    terminal.type("/quit\n")
    terminal.wait_for("has ended")
    assert terminal.ended() == 0
    (name,) = town.registry.names()
    assert town.row(name)["state"] == "done"


# --- in tmux


@pytest.fixture
def tmux(town: Town) -> Town:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    return town


def test_a_session_in_tmux_is_seen_and_others_are_left_alone(tmux: Town) -> None:
    name = tmux.spawn("hello", backend="tmux")
    assert tmux.et("wait", name).code == 0
    other = f"{name}2"
    tool = ["tmux", "-L", tmux.socket]
    subprocess.run([*tool, "new-session", "-d", "-s", other, "sleep", "1000"], check=True)
    rows = {row["name"]: row for row in tmux.et("list", "--json").json}
    assert (rows[name]["state"], rows[name]["socket"]) == ("waiting for input", tmux.socket)
    assert rows[other]["state"] == "foreign"
    capture = [*tool, "capture-pane", "-p", "-t", f"={name}:"]
    until(lambda: b"You said: hello" in subprocess.run(capture, check=True, capture_output=True).stdout)
    refused = tmux.et("kill", other)
    assert refused.code == 1
    assert f"tmux -L {tmux.socket} kill-session -t '={other}'" in refused.err
    assert tmux.et("attach", name, "--json").json["command"][-2:] == ["-t", f"={name}"]
    terminal = Terminal("session", "attach", name)
    terminal.wait_for("You said: hello")
    until(lambda: tmux.row(name)["attached"])
    subprocess.run([*tool, "detach-client", "-s", f"={name}"], check=True)
    assert terminal.ended() == 0
    until(lambda: not tmux.row(name)["attached"])
    assert tmux.et("kill", name).code == 0
    left = subprocess.run([*tool, "list-sessions", "-F", "#{session_name}"], check=True, capture_output=True)
    assert left.stdout.decode().split() == [other]


def test_when_tmux_is_killed_the_list_says_so_and_the_session_goes_on_elsewhere(tmux: Town) -> None:
    name = tmux.spawn("hello", backend="tmux")
    tmux.et("wait", name)
    subprocess.run(["tmux", "-L", tmux.socket, "kill-server"], check=True)
    until(lambda: tmux.row(name)["state"] == "failed")
    until(lambda: not tmux.processes())
    assert tmux.et("spawn", "--resume", name, "--backend", "none").code == 0
    assert tmux.row(name)["backend"] == "none"
    assert tmux.et("send", name, "--wait", "there?").out == "You said: there?\n"
