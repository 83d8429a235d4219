"""Runs that are interrupted, terminated, cancelled or driven twice: each is a process, and goes on after."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_kit import Said, Shell, finished, until
from test_cli_processes import committed, fed, rows

from electrictown.journal.stores import state_folder
from fakes.fake_server import Reply, Seen
from fakes.town_kit import FakeTown, serving, yaml_of

NEVER = Reply(never=True)
LATE = 2.0
"""Seconds that a reply takes which is to come after a signal was heard."""


def only(
    text: str, reply: str | Reply, other: str | Reply = "def parse(): ..."
) -> Callable[[Seen], str | Reply]:
    return lambda seen: reply if f"## Your subtask\n\n{text}" in seen.prompt else other


def interrupt(shell: Shell, process: subprocess.Popen[bytes]) -> None:
    """The first Ctrl-C, heard."""
    heard = sum("stopping" in line for line in fed(shell))
    process.send_signal(signal.SIGINT)
    until(lambda: sum("stopping" in line for line in fed(shell)) > heard or process.poll() is not None)


def going_on(said: Said) -> list[str]:
    """The command that the run says goes on with it."""
    found = re.search(r"^to go on: et (resume .*)$", said.err, re.MULTILINE)
    assert found, said.err
    return found[1].split()


def anew(town: FakeTown) -> Counter[str]:
    asked, town.asked = town.asked, Counter()
    return asked


def test_the_first_ctrl_c_lets_end_what_is_under_way_and_asks_nothing_more(shell: Shell) -> None:
    """The printer is under way, the tests and the manual wait for a host."""
    late = Reply(text="def printer(): ...", latency=LATE, output_tokens=77)
    plan = "1. write the parser\n2. write the printer\n3. write the tests\n4. write the manual"
    town = FakeTown(plan=plan, work=late)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        process = shell.start("run", "build it")
        until(lambda: town.asked["work"] == 2)
        interrupt(shell, process)
        said = finished(process)
        assert anew(town) == {"plan": 1, "brief": 1, "work": 2}
        assert said.code == 130
        assert {"t01.result", "t02.result"} <= set(committed(shell))
        paid = rows(shell, "SELECT value FROM steps WHERE key = 't02.attempt1.e1.r1.settled'")
        assert '"output":77' in paid[0]
        assert '"outcome":"done"' in paid[0]
        again = shell.process(*going_on(said))
    assert again.code == 0, again.err
    assert anew(town) == {"work": 2, "synthesize": 1}
    assert "Traceback" not in said.err + again.err


@pytest.mark.parametrize("form", ["--json", "--jsonl", "--quiet"])
def test_an_interrupted_run_says_so_in_every_form(shell: Shell, form: str) -> None:
    town = FakeTown(work=Reply(text="def parse(): ...", latency=LATE))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        process = shell.start("run", form, "build it")
        until(lambda: town.asked["work"] == 2)
        interrupt(shell, process)
        said = finished(process)
    assert said.code == 130
    if form == "--quiet":
        assert "def parse()" in said.out
        return
    report = said.json if form == "--json" else said.events[-1]["report"]
    assert (report["outcome"], report["exit_code"], report["error"]["type"]) == (
        "interrupted",
        130,
        "StoppedError",
    )
    assert [r["type"] for r in report["results"]] == ["done", "done", "failed"]
    assert "et resume" in report["error"]["hint"]


def test_ctrl_c_while_a_plan_is_made_keeps_the_plan(shell: Shell) -> None:
    town = FakeTown(plan=Reply(text="1. write the parser\n2. write the printer", latency=LATE))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        process = shell.start("run", "build it")
        until(lambda: town.asked["plan"])
        interrupt(shell, process)
        said = finished(process)
        assert (said.code, anew(town)) == (130, {"plan": 1})
        assert shell.process(*going_on(said)).code == 0
    assert anew(town) == {"brief": 1, "work": 2, "synthesize": 1}


def test_ctrl_c_in_the_middle_of_the_merged_text_lets_it_come_to_its_end(shell: Shell) -> None:
    words = tuple(f"word{number} " for number in range(8))
    town = FakeTown(synthesize=Reply(pieces=words, pause=LATE / 8))
    with serving(town) as server:
        shell.configure(yaml_of(server.url, refinery="{model: chief}"))
        process = shell.start("run", "build it")
        until(lambda: town.asked["synthesize"])
        interrupt(shell, process)
        said = finished(process)
        assert (said.code, said.out) == (130, "".join(words).strip() + "\n")
        assert anew(town)["refine"] == 0
        again = shell.process(*going_on(said))
    assert (again.code, again.out) == (0, "The polished result.\n")
    assert anew(town) == {"refine": 1}


def test_ctrl_c_when_nothing_is_left_to_ask_does_not_harm_the_run(shell: Shell) -> None:
    town = FakeTown(work=Reply(text="all of it", latency=LATE))
    with serving(town) as server:
        shell.configure(yaml_of(server.url, polecat="{model: m0}"))
        process = shell.start("run", "build it")
        until(lambda: town.asked["work"])
        interrupt(shell, process)
        said = finished(process)
    assert (said.code, said.out) == (0, "all of it\n")


# --- nothing is under way: the first Ctrl-C ends the run, long before the wait would (a minute and more)


def test_ctrl_c_ends_a_wait_for_a_rate_limit(shell: Shell) -> None:
    slow = Reply(status=429, error="slow down", headers=(("Retry-After", "59"),))
    with serving(FakeTown(plan=slow)) as server:
        shell.configure(yaml_of(server.url))
        process = shell.start("run", "build it")
        until(lambda: any('"waiting"' in line for line in fed(shell)))
        process.send_signal(signal.SIGINT)
        said = finished(process)
    assert said.code == 130
    assert going_on(said)[0] == "resume"


def test_ctrl_c_ends_a_wait_of_all_workers_for_a_rate_limit(shell: Shell) -> None:
    """Two wait for their hosts, one for a place in the crew."""
    slow = Reply(status=429, error="slow down", headers=(("Retry-After", "59"),))
    town = FakeTown(plan="1. write the parser\n2. write the printer\n3. write the tests", work=slow)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        process = shell.start("run", "build it")
        until(lambda: any('"waiting"' in line for line in fed(shell)))
        process.send_signal(signal.SIGINT)
        said = finished(process)
    assert said.code == 130


def tickets() -> list[Path]:
    """Those who wait for a slot that another process has."""
    return [*(state_folder(os.environ) / "slots").glob("*/w*")]


def test_ctrl_c_ends_a_wait_for_a_host_that_another_run_has(shell: Shell) -> None:
    town = FakeTown(plan=NEVER)
    with serving(town) as server:
        shell.configure(yaml_of(server.url).replace("max_in_flight: 4", "max_in_flight: 1"))
        holder = shell.start("run", "build it")
        try:
            until(lambda: town.asked["plan"])
            process = shell.start("run", "build it")
            until(tickets)
            process.send_signal(signal.SIGINT)
            said = finished(process)
        finally:
            holder.kill()
            finished(holder)
    assert said.code == 130
    assert town.asked["plan"] == 1


def test_ctrl_c_while_others_wait_for_money(shell: Shell) -> None:
    """The first worker has all of the budget set aside."""
    priced = "price: {input: 1, output: 1000}, max_tokens: 900}"
    town = FakeTown(work=Reply(text="def parse(): ...", latency=LATE, output_tokens=1))
    with serving(town) as server:
        yaml = yaml_of(server.url)
        for name in ("fake-0}", "fake-1}"):
            yaml = yaml.replace(name, f"{name[:-1]}, {priced}")
        shell.configure(yaml)
        process = shell.start("run", "--budget", "1.2", "build it")
        until(lambda: town.asked["work"])
        interrupt(shell, process)
        said = finished(process)
    assert said.code == 130, said.err
    assert town.asked["work"] == 1


def test_ctrl_c_before_a_run_has_begun_leaves_nothing(shell: Shell) -> None:
    """It is still looking around for who could be asked."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        process = shell.start("run", "build it", env={**os.environ, "OLLAMA_HOST": host})
        asking, _ = silent.accept()
        with asking:
            process.send_signal(signal.SIGINT)
            said = finished(process)
    assert (said.code, said.out, said.err) == (130, "", "")
    assert not committed(shell)


# --- cut at once


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_what_was_cut_is_asked_again_and_counts_as_paid(shell: Shell, sent: int) -> None:
    town = FakeTown(work=only("write the printer", NEVER))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        process = shell.start("run", "build it")
        until(lambda: "t01.result" in committed(shell) and town.asked["work"] == 2)
        if sent == signal.SIGINT:
            interrupt(shell, process)
        process.send_signal(sent)
        said = finished(process)
        assert said.code == 130
        assert '"abandoned"' in rows(shell, "SELECT value FROM steps WHERE key LIKE 't02.%.settled'")[0]
        anew(town)
        town.answers["work"] = "def parse(): ..."
        again = shell.process(*going_on(said), "--json")
    assert again.code == 0
    assert anew(town) == {"work": 2, "synthesize": 1}
    assert again.report.total is not None
    assert again.report.total.requests == 7, "plan, brief, three workers, the one that was cut, the merge"


# --- who drives


def test_there_is_one_driver_and_the_second_is_told_who(shell: Shell) -> None:
    town = FakeTown(work=NEVER)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        process = shell.start("run", "build it")
        until(lambda: town.asked["work"] == 2)
        said = shell.et("resume", "last")
        assert (said.code, said.out) == (75, "")
        assert f"process {process.pid} on {socket.gethostname()}" in said.err
        assert town.asked["work"] == 2
        process.send_signal(signal.SIGTERM)
        assert finished(process).code == 130
        town.answers["work"] = "def parse(): ..."
        assert shell.et("resume", "last").code == 0


def test_a_cancelled_run_ends_and_goes_on_only_when_that_is_meant(shell: Shell) -> None:
    town = FakeTown(work=NEVER)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        process = shell.start("run", "build it")
        until(lambda: town.asked["work"] == 2)
        assert "has ended: cancelled" in shell.et("cancel", "last").out
        said = finished(process)
        assert said.code == 130
        assert "somebody wants the run cancelled" in said.err
        anew(town)
        assert shell.et("resume", "last").code == 2
        assert not anew(town)
        town.answers["work"] = "def parse(): ..."
        assert going_on(said)[-1] == "--anyway"
        again = shell.process(*going_on(said))
    assert (again.code, again.out) == (0, "The merged result.\n"), again.err
    assert anew(town) == {"work": 3, "synthesize": 1}


def test_many_runs_at_once_share_one_journal(shell: Shell) -> None:
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        running = [shell.start("run", "build it", "--quiet") for _ in range(10)]
        said = [finished(process) for process in running]
        assert [(s.code, s.out, s.err) for s in said] == [(0, "The merged result.\n", "")] * 10
        runs = shell.et("runs", "--json").json
        assert [row["state"] for row in runs] == ["done"] * 10
        assert {row["cost"]["requests"] for row in runs} == {6}
