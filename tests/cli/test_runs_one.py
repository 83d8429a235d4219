"""`et show`, `et log` and `et cancel`: one run, looked at while it runs and after."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3

import pytest
from cli_kit import Shell, finished

from electrictown.events import Noted, RunEnded, RunStarted
from electrictown.journal.journal import Journal
from electrictown.work import Report
from fakes.journal_kit import crashed, driven, ended, journal_of, whole_run, write_runs
from fakes.postgres import PASSWORD, shared_cluster
from fakes.town_kit import FakeTown, serving, yaml_of

RUN = "20261101-000000-aaaa"
PRICE = "{input: 100, output: 200}"
CHIEF = f"  chief: {{provider: boss, model: fake-chief, price: {PRICE}}}"


def one_run(shell: Shell) -> None:
    write_runs(journal_of(shell.home), [(RUN, "write a word counter", [whole_run])])


def test_show_tells_the_plan_and_what_became_of_it(shell: Shell) -> None:
    one_run(shell)
    said = shell.et("show", "last")
    assert (said.code, said.err) == (0, "")
    rows: dict[str, str] = {}
    for line in said.out.splitlines():
        if line.strip():
            rows.setdefault(line.split()[0], " ".join(line.split()))
    assert rows["state"] == "state failed (exit code 1)"
    assert rows["error"] == "error ServerError: HTTP 500: the box is on fire"
    assert rows["config"] == "config electrictown.yaml"
    assert rows["t01"] == "t01 done big@cloud, then small@box 2 4, then 8 write the parser"
    assert rows["t02"] == "t02 not accepted big@cloud 1 4 write the printer (for artist)"
    assert rows["t03"].startswith("t03 failed big@cloud 1 - write the tests (after t01, t02): ServerError")
    assert rows["t04"] == "t04 not begun - 0 - write the manual (after t03)"
    assert "two subtasks were merged" in said.out
    assert "t02 was not accepted by the witness" in said.out
    assert rows["total"] == "total 6 600 0 300 $0.0800"
    assert rows["polecat:"] == "polecat: big -> small (ServerError)"
    assert rows["parser.py"].startswith("parser.py t01 1,234 bytes sha256 abababababab")
    assert rows["../evil:"] == "../evil: it leads out of the folder"
    assert f"by process {os.getpid()} on " in rows["begun"]
    assert rows["budget"] == "budget none: $0.0800 spent"
    assert rows["go"] == f"go on et resume {RUN}"


def test_show_as_json_has_everything(shell: Shell) -> None:
    one_run(shell)
    shown = shell.et("show", RUN, "--json").json
    assert (shown["row"]["run"], shown["row"]["state"]) == (RUN, "failed")
    assert [(part["subtask"]["id"], part["state"]) for part in shown["parts"]] == [
        ("t01", "done"),
        ("t02", "not accepted"),
        ("t03", "failed"),
        ("t04", "not begun"),
    ]
    assert [a["reply"] for a in shown["parts"][0]["attempts"]] == ["draft", "better"]
    assert [r["score"] for r in shown["parts"][0]["reviews"]] == [4.0, 8.0]
    assert shown["files"][0]["file"]["digest"] == "ab" * 32
    assert shown["text"] == "the merged text"
    assert shown["drivers"][0]["driver"]["pid"] == os.getpid()
    assert shown["budget"]["usd"] == 0.0
    assert sorted(shown["costs"]) == ["model", "provider", "role"]


def test_the_requests_that_failed_are_shown_safely(shell: Shell) -> None:
    one_run(shell)
    said = shell.et("show", "last", "--failed")
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == "1 failed request"
    assert lines[2].endswith("polecat t03 asked big@cloud [t03.attempt1.e1.r1.failed]")
    at = lines.index("  asked:")
    assert lines[at + 1 :] == [
        "    messages:",
        "      - role: user",
        "        parts:",
        "          - type: text",
        "            text:",
        "              write the tests",
        "              all of them",
        "  answered:",
        "    <h1>500</h1>",
    ]
    (failing,) = shell.et("show", "last", "--failed", "--json").json
    assert failing["exchange"]["error"]["type"] == "ServerError"
    assert failing["exchange"]["request"]["messages"][0]["role"] == "user"


def test_a_run_without_failures_says_so(shell: Shell) -> None:
    write_runs(journal_of(shell.home), [("r1", "t", [ended()])])
    assert shell.et("show", "r1", "--failed").out == "no request failed\n"
    assert shell.et("show", "r1", "--failed", "--json").json == []


def test_a_run_that_was_taken_up_again_shows_both_drivers_and_no_old_failure(shell: Shell) -> None:
    write_runs(journal_of(shell.home), [("r1", "t", [whole_run, crashed])])
    said = shell.et("show", "r1")
    assert "begun    " in said.out
    assert "resumed  " in said.out
    assert "state    stopped" in said.out
    assert "error    " not in said.out
    assert "  t03  begun" in said.out
    assert "1 request left unsettled by a crash, at the most $0.2500" in said.out


@pytest.mark.parametrize(
    ("caps", "told"),
    [
        ({"usd": 2.5}, "$2.50: $0 and 0 tokens spent"),
        (
            {"tokens": 5000, "per_role": {"mayor": {"usd": 1}}},
            "5,000 tokens, mayor $1.00: $0 and 0 tokens spent",
        ),
        ({"per_subtask": {"usd": 0.25, "tokens": 9}}, "each subtask $0.2500, each subtask 9 tokens: $0 and"),
        ({}, "none: $0.5000 spent"),
        (None, "none: $0.5000 spent"),
    ],
)
def test_the_budget_is_told_with_what_counts_against_it(shell: Shell, caps: object, told: str) -> None:
    async def driven_with_a_budget(journal: Journal) -> None:
        if caps is not None:
            await journal.record(f"budget.e{journal.epoch}", caps, kind="budget")
        await crashed(journal)

    write_runs(journal_of(shell.home), [("r1", "t", [driven_with_a_budget])], {"retries": 3})
    said = shell.et("show", "r1")
    assert f"budget   {told}" in said.out
    assert "1 request left unsettled by a crash, at the most $0.2500" in said.out
    assert "options  retries=3\n" in said.out


@pytest.mark.parametrize("command", ["show", "log", "cancel"])
def test_a_run_that_is_not_there_or_not_the_only_one_is_bad_use(shell: Shell, command: str) -> None:
    said = shell.et(command, "last")
    assert (said.code, said.out) == (2, "")
    write_runs(journal_of(shell.home), [("abc-1", "t", [ended()]), ("abc-2", "t", [ended()])])
    for name in ("nobody", "abc"):
        said = shell.et(command, name)
        assert (said.code, said.out) == (2, "")
        assert f"{name}" in said.err
        assert "hint: " in said.err
    assert shell.et(command, "abc-1").code == 0
    assert shell.et(command).code == 2


# --- log


def test_the_log_tells_what_et_run_told(shell: Shell) -> None:
    one_run(shell)
    said = shell.et("log", "last")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].endswith(f"  run {RUN}: write a word counter")
    assert lines[1].endswith("  plan: 4 subtasks")
    assert any(line.endswith("t01 done in 4.0s, 110 tokens") for line in lines)
    assert any("warning: polecat t03: big failed (ServerError" in line for line in lines)
    assert "error: failed in 0.0s: ServerError" in lines[-2]
    assert lines[-1].strip() == "hint: try again later"


def test_an_event_of_another_version_is_not_hidden(shell: Shell) -> None:
    one_run(shell)
    with sqlite3.connect(journal_of(shell.home)) as file:
        new = b'{"type":"moon.landed","who":"us"}'
        file.execute("INSERT INTO events VALUES (?, 999, 0, ?)", (RUN, new))
    file.close()
    assert shell.et("log", "last").out.endswith("  warning: an event that this version of et does not know\n")
    assert shell.et("log", "last", "--json").events[-1] == {"type": "moon.landed", "who": "us"}


def test_the_log_as_json_is_the_events(shell: Shell) -> None:
    one_run(shell)
    events = shell.et("log", "last", "--json").events
    assert [event["type"] for event in events][:2] == ["run.started", "plan.made"]
    assert events[-1]["type"] == "run.ended"
    assert events[-1]["report"]["outcome"] == "failed"


def test_a_log_is_read_to_its_end_however_long_it_is(shell: Shell) -> None:
    async def chatty(journal: Journal) -> None:
        for n in range(2500):
            journal.tell(Noted(text=f"note {n}"))

    write_runs(journal_of(shell.home), [("r1", "t", [chatty])])
    lines = shell.et("log", "r1").out.splitlines()
    assert [line.split("  ")[1] for line in lines] == [f"note {n}" for n in range(2500)]


def test_follow_goes_on_until_the_run_ends(shell: Shell) -> None:
    with driven(journal_of(shell.home), RUN) as tell:
        tell(RunStarted(run=RUN, task="follow me"))
        process = shell.start("log", RUN, "--follow")
        assert process.stdout is not None
        assert b"follow me" in process.stdout.readline()
        tell(Noted(text="half-way there"))
        assert b"half-way there" in process.stdout.readline()
        assert process.poll() is None
        tell(RunEnded(report=Report(RUN, "t", "done", 0)))
    said = finished(process)
    assert said.code == 0
    assert said.out.endswith("  done in 0.0s\n")
    assert f"nobody drives this run any more; et resume {RUN}" in said.err


def test_follow_of_a_run_that_is_over_ends_at_once(shell: Shell) -> None:
    one_run(shell)
    said = shell.et("log", "last", "--follow")
    assert (said.code, said.err) == (0, "")


def test_ctrl_c_ends_following_without_a_word(shell: Shell) -> None:
    with driven(journal_of(shell.home), RUN) as tell:
        tell(RunStarted(run=RUN, task="follow me"))
        process = shell.start("log", RUN, "-f", "--json")
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["type"] == "run.started"
        process.send_signal(signal.SIGINT)
        said = finished(process)
    assert (said.code, said.out, said.err.strip()) == (130, "", "")


# --- cancel


def test_cancel_waits_until_the_driver_has_let_go(shell: Shell) -> None:
    with driven(journal_of(shell.home), RUN):
        said = shell.et("cancel", RUN)
        assert (said.code, said.out) == (0, f"the run {RUN} has ended: cancelled\n")
        assert "waiting" in said.err
        assert shell.et("runs", "--json").json[0]["state"] == "cancelled"


def test_cancel_of_a_driver_that_does_not_listen_says_so(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("electrictown.cli.cancel._PATIENCE", 0.3)
    with driven(journal_of(shell.home), RUN, ends_when_cancelled=False):
        said = shell.et("cancel", RUN)
        assert said.code == 0
        assert "still driven 0.3 s later" in said.out


def test_cancel_of_a_run_that_is_over_changes_nothing(shell: Shell) -> None:
    write_runs(journal_of(shell.home), [("r1", "t", [ended()]), ("r2", "t", [ended("failed", 1)])])
    said = shell.et("cancel", "r1")
    assert (said.code, said.out) == (0, "the run r1 is over already: done\n")
    assert shell.et("cancel", "r2").out == "the run r2 is over already: failed\n"
    assert [row["state"] for row in shell.et("runs", "--json").json] == ["failed", "done"]


def test_cancel_marks_a_crashed_run(shell: Shell) -> None:
    write_runs(journal_of(shell.home), [("r1", "t", [crashed])])
    said = shell.et("cancel", "r1", "--json")
    assert said.json == {"run": "r1", "before": "stopped", "state": "cancelled"}
    assert shell.et("cancel", "r1").out == "the run r1 is over already: cancelled\n"


# --- over PostgreSQL


def test_all_of_it_works_over_postgresql(shell: Shell) -> None:
    url = shared_cluster().database()
    write_runs(url, [(RUN, "write a word counter", [whole_run, crashed]), ("r2", "t", [ended()])])
    assert [row["state"] for row in shell.et("runs", "--db", url, "--json").json] == ["done", "stopped"]
    shown = shell.et("show", RUN, "--db", url, "--json").json
    assert [part["state"] for part in shown["parts"]] == ["done", "not accepted", "begun", "not begun"]
    assert shown["budget"]["unsettled"]["usd"] == 0.25
    assert shell.et("show", RUN, "--db", url, "--failed", "--json").json[0]["exchange"]["role"] == "polecat"
    assert shell.et("log", RUN, "--db", url, "--json").events[-1]["type"] == "run.ended"
    assert shell.et("cost", "--db", url, "--json").json["total"]["requests"] == 7
    assert shell.et("cancel", RUN, "--db", url, "--json").json["state"] == "cancelled"
    said = shell.et("show", "nobody", "--db", url)
    assert (said.code, PASSWORD in said.all) == (2, False)


# --- a run that et made itself


def test_a_real_run_leaves_what_is_shown_here(shell: Shell) -> None:
    with serving(FakeTown(review='{"critique": "fine", "score": 8}')) as server:
        prices = "".join(f"  m{i}: {{provider: h{i}, model: fake-{i}, price: {PRICE}}}\n" for i in range(2))
        text = yaml_of(server.url, witness="{model: chief}", refinery="{model: chief}")
        text = re.sub(r"^  m\d: .*\n", "", text, flags=re.MULTILINE)
        text = text.replace("  chief: {provider: boss, model: fake-chief}", prices + CHIEF)
        shell.configure(text)
        said = shell.et("run", "--json", "build it")
        assert said.code == 0, said.err
    report = said.report
    shown = shell.et("show", "last", "--json").json
    assert shown["row"]["run"] == report.run
    assert {part["state"] for part in shown["parts"]} == {"done"}
    assert all(part["attempts"] and part["reviews"] for part in shown["parts"])
    assert report.total is not None
    assert report.total.usd
    assert shown["total"]["usd"] == pytest.approx(report.total.usd)
    assert shown["total"]["requests"] == report.total.requests
    assert shell.et("cost", "--json").json["total"]["usd"] == pytest.approx(report.total.usd)
    assert shell.et("runs", "--json").json[0]["unsettled"]["requests"] == 0
    said = shell.et("replay", "last", "--config", "electrictown.yaml", "--dry-run")
    assert said.out.splitlines()[-1] == "difference: none"
