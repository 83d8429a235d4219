"""`et` as a process among processes: signals, pipes that close, terminals, and what it leaves running."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import sqlite3
import struct
import subprocess
import termios
import time
from contextlib import closing
from pathlib import Path

import pytest
from cli_kit import ET, Said, Shell, alive, children, finished, until

from electrictown.journal.stores import journal_file
from electrictown.work import Report
from fakes.fake_server import FakeServer, Reply, Seen
from fakes.town_kit import FakeTown, serving, yaml_of

SLOW = Reply(text="late", latency=60)


def half_done(seen: Seen) -> str | Reply:
    """The parser at once, the printer never."""
    return SLOW if "## Your subtask\n\nwrite the printer" in seen.prompt else "def parse(): ..."


def committed(shell: Shell) -> list[str]:
    """The keys of the steps that the journal holds."""
    return rows(shell, "SELECT key FROM steps")


def fed(shell: Shell) -> list[str]:
    """The events that the journal holds."""
    return rows(shell, "SELECT event FROM events")


def rows(shell: Shell, query: str) -> list[str]:
    file = journal_file(os.environ)
    if not file.exists():
        return []
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        try:
            return [str(row[0]) for row in connection.execute(query)]
        except sqlite3.OperationalError:  # it has no tables yet
            return []


def stopped(shell: Shell, server: FakeServer, town: FakeTown, sent: int, *more: str) -> Said:
    process = shell.start("run", *more, "build it")
    until(lambda: town.asked["work"] == 2 and "t01.result" in committed(shell))
    process.send_signal(sent)
    if sent == signal.SIGINT:  # the first one lets end what is under way, the second cuts it
        until(lambda: any("stopping" in line for line in fed(shell)))
        process.send_signal(sent)
    said = finished(process)
    until(lambda: not server.connections)
    return said


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_130_its_report_and_no_trace(shell: Shell, sent: int) -> None:
    town = FakeTown(work=half_done)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = stopped(shell, server, town, sent)
    assert said.code == 130
    assert said.out == ""
    assert "t01 done" in said.err
    assert re.fullmatch(r"error: interrupted in [\d.]+s, 4 requests, .*", said.err.splitlines()[-2])
    assert re.fullmatch(r"to go on: et resume \d{8}-\d{6}-\w{4}", said.err.splitlines()[-1])
    assert "Traceback" not in said.err


def test_an_interrupted_run_still_ends_its_events_with_the_report(shell: Shell) -> None:
    town = FakeTown(work=half_done)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = stopped(shell, server, town, signal.SIGINT, "--jsonl")
    report = said.events[-1]["report"]
    assert (report["outcome"], report["exit_code"], said.code) == ("interrupted", 130, 130)
    assert [r["subtask"] for r in report["results"]] == ["t01"]
    assert report["results"][0]["text"] == "def parse(): ..."


def test_an_interrupted_run_still_prints_its_json_report(shell: Shell) -> None:
    town = FakeTown(work=half_done)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = stopped(shell, server, town, signal.SIGTERM, "--json")
    assert said.code == 130
    assert said.report.outcome == "interrupted"
    assert [r.subtask for r in said.report.results] == ["t01"]


def test_ctrl_c_on_a_terminal_reaches_the_whole_group_and_leaves_nobody_behind(shell: Shell) -> None:
    """A terminal sends Ctrl-C to every process of the foreground group at once."""
    town = FakeTown(work=half_done)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        with Terminal(shell, "run", "build it") as terminal:
            until(lambda: (terminal.read(), town.asked["work"] == 2)[1])
            started = children(terminal.process.pid)
            terminal.type("\x03")
            until(lambda: (terminal.read(), any("stopping" in line for line in fed(shell)))[1])
            terminal.type("\x03")
            said = terminal.finish()
    assert said.code == 130
    assert "interrupted in" in said.out
    assert "Traceback" not in said.out
    assert said.out.rstrip().count("\x1b[?25h") >= said.out.count("\x1b[?25l") > 0, "the cursor is back"
    assert not [pid for pid in started if alive(pid)]


def test_a_closed_stdout_ends_quietly(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        shell.configure(yaml_of(server.url))
        for arguments in (["run", "--jsonl", "build it"], ["run", "build it"], ["config"], ["--help"]):
            reader, writer = os.pipe()
            os.close(reader)
            try:
                process = shell.start(*arguments, stdout=writer)
            finally:
                os.close(writer)
            with process:
                _, err = process.communicate(timeout=30)
            assert b"Traceback" not in err, arguments
            assert b"Exception ignored" not in err, arguments
            assert process.returncode == 0, arguments


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_below_stdout_is_told(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        shell.configure(yaml_of(server.url))
        for arguments in (["run", "build it"], ["config"]):
            with Path("/dev/full").open("wb") as full, shell.start(*arguments, stdout=full) as process:
                _, err = process.communicate(timeout=30)
            assert process.returncode == 1, arguments
            assert b"error: the output cannot be written: No space left on device" in err
            assert b"Traceback" not in err


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_streams_that_were_closed_before_the_start_harm_nothing(shell: Shell, closed: str) -> None:
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        command = subprocess.list2cmdline([*ET, "run", "build it"])
        said = subprocess.run(
            ["bash", "-c", f"{command} {closed}"], cwd=shell.folder, capture_output=True, timeout=30
        )
    assert said.returncode == 0
    assert town.asked["synthesize"] == 1
    assert said.stdout == (b"" if "1>" in closed else b"The merged result.\n")
    assert b"Traceback" not in said.stderr


def test_head_may_close_the_pipe_in_the_middle_of_the_events(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        shell.configure(yaml_of(server.url))
        command = subprocess.list2cmdline([*ET, "run", "--jsonl", "build it"])
        piped = subprocess.run(
            ["bash", "-c", f"{command} | head -n 2"],
            capture_output=True,
            text=True,
            cwd=shell.folder,
            timeout=30,
        )
    kinds = [json.loads(line)["type"] for line in piped.stdout.splitlines()]
    assert kinds == ["run.started", "phase.started"]
    assert "Traceback" not in piped.stderr


def test_without_stdin_and_with_stdin_as_the_task(shell: Shell) -> None:
    with serving(FakeTown(work="all of it")) as server:
        shell.configure(yaml_of(server.url, polecat="{model: m0}"))
        closed = shell.process("run", "build it", stdin=b"")
        typed = shell.process(
            "run", "--json", "-", stdin="größer\n".encode(), env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
        nothing = shell.process("run", "-")
    assert (closed.code, closed.out) == (0, "all of it\n")
    assert typed.report.task == "größer"
    assert nothing.code == 2
    assert "stdin is empty" in nothing.err


def test_an_exit_code_reaches_the_shell(shell: Shell) -> None:
    with serving(FakeTown(), auth="bearer somebody-else") as server:
        shell.configure(yaml_of(server.url))
        assert shell.process("run", "build it").code == 4
    with serving(FakeTown(plan=Reply(status=400, error="no"))) as server:
        shell.configure(yaml_of(server.url))
        assert shell.process("run", "build it").code == 1
    with serving(FakeTown(work=SLOW)) as server:
        shell.configure(yaml_of(server.url))
        assert shell.process("run", "--timeout", "1s", "build it").code == 75
    assert shell.process("run", "--config", "no.yaml", "build it").code == 2
    assert shell.process("version").code == 0


def test_standard_output_in_latin_1_gets_what_it_can_hold_and_no_trace(shell: Shell) -> None:
    with serving(FakeTown(work="naïve → 日本")) as server:
        shell.configure(yaml_of(server.url, polecat="{model: m0}"))
        environ = {**os.environ, "PYTHONIOENCODING": "latin-1"}
        process = shell.start("run", "build it", env=environ)
        with process:
            out, err = process.communicate(timeout=30)
    assert b"Traceback" not in err
    assert process.returncode == 0
    assert "naïve".encode("latin-1") in out


# --- on a terminal


class Terminal:
    """`et` with a terminal for its three streams (or for all but stdout)."""

    def __init__(self, shell: Shell, *arguments: str, piped: bool = False, **environ: str) -> None:
        self._near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        environ = {**os.environ, "TERM": "xterm-256color", **environ}
        self.process = subprocess.Popen(
            [*ET, *arguments],
            stdin=far,
            stdout=subprocess.PIPE if piped else far,
            stderr=far,
            cwd=shell.folder,
            env=environ,
            preexec_fn=lambda: _own(far),
        )
        os.close(far)
        self._seen = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        os.close(self._near)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def type(self, keys: str) -> None:
        os.write(self._near, keys.encode())

    def read(self) -> bool:
        """Takes what is there; False when the other side is closed."""
        while select.select([self._near], [], [], 0.01)[0]:
            try:
                self._seen += os.read(self._near, 65536)
            except OSError:  # nobody has the terminal open any more
                return False
        return True

    def finish(self) -> Said:
        end = time.monotonic() + 30
        while self.read() and time.monotonic() < end:
            pass
        code = self.process.wait(10)
        piped = self.process.stdout.read().decode() if self.process.stdout is not None else ""
        text = self._seen.decode()
        return Said(code, piped or text, text)


def _own(terminal: int) -> None:
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


COLOUR = re.compile(r"\x1b\[[0-9;]*(?<![0-9])(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9]+)*m")
MOVE = re.compile(r"\x1b\[[0-9]*[A-HJKf]")


def on_a_terminal(shell: Shell, *arguments: str, piped: bool = False, **environ: str) -> Said:
    town = FakeTown(work=Reply(text="def parse(): ...", latency=0.15))
    with serving(town) as server:
        shell.configure(yaml_of(server.url, witness="{model: chief}"))
        with Terminal(shell, *arguments, piped=piped, **environ) as terminal:
            return terminal.finish()


def test_a_terminal_shows_the_run_as_it_goes(shell: Shell) -> None:
    said = on_a_terminal(shell, "run", "build it")
    assert said.code == 0
    assert MOVE.search(said.out), "the view is redrawn in place"
    assert COLOUR.search(said.out)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.out)
    for subtask, text in (
        ("t01", "write the parser"),
        ("t02", "write the printer"),
        ("t03", "write the tests"),
    ):
        assert re.search(rf"{subtask} +{text} +m[01]@h[01] ", shown), shown
    assert re.search(r"plan (chief )?\d", shown)
    assert "$0 " in shown
    assert "The merged result." in shown
    assert re.search(r"done in [\d.]+s, 9 requests, \$0", shown)
    assert shown.index("The merged result.\r\n") < shown.rindex("by role"), "the bill follows the result"


def test_no_color_means_no_colour(shell: Shell) -> None:
    said = on_a_terminal(shell, "run", "build it", NO_COLOR="1")
    assert said.code == 0
    assert MOVE.search(said.out)
    assert not COLOUR.search(said.out)


def test_a_dumb_terminal_gets_plain_lines(shell: Shell) -> None:
    said = on_a_terminal(shell, "run", "build it", TERM="dumb")
    assert said.code == 0
    assert "\x1b" not in said.out
    assert "t01 started on m0@h0\r\n" in said.out


def test_a_piped_stdout_gets_the_result_alone_while_the_terminal_shows_the_view(shell: Shell) -> None:
    said = on_a_terminal(shell, "run", "build it", piped=True)
    assert said.out == "The merged result.\n"
    assert MOVE.search(said.err)
    assert "The merged result." not in said.err


def test_quiet_on_a_terminal_draws_nothing(shell: Shell) -> None:
    said = on_a_terminal(shell, "run", "--quiet", "build it")
    assert said.out == "The merged result.\r\n"


def test_json_on_a_terminal_is_json(shell: Shell) -> None:
    said = on_a_terminal(shell, "run", "--json", "build it", piped=True)
    assert isinstance(said.report, Report)
    assert said.report.text == "The merged result."


def test_a_working_folder_full_of_hostile_modules_is_not_imported(shell: Shell) -> None:
    for name in ("click", "msgspec", "json", "electrictown", "aiohttp"):
        shell.write(f"{name}.py", "import pathlib; pathlib.Path('caught').touch()\n")
    script = Path(ET[0]).with_name("et")
    if not script.exists():
        pytest.skip("the package is not installed with its script")
    with serving(FakeTown()) as server:
        shell.configure(yaml_of(server.url))
        done = subprocess.run(
            [script, "run", "build it"], cwd=shell.folder, capture_output=True, text=True, timeout=30
        )
    assert (done.returncode, done.stdout) == (0, "The merged result.\n")
    assert not (shell.folder / "caught").exists()
