"""docs/runs.md: its commands run, over two runs as the page tells of them, and say what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from electrictown.events import HopTaken, Noted, PlanMade, RunEnded, RunStarted, SubtaskEnded, SubtaskStarted
from electrictown.journal.journal import Journal
from electrictown.journal.records import Exchange, Receipt, WrittenFile
from electrictown.work import Attempt, Done, Failure, Plan, Report, Review, Subtask
from fakes.journal_kit import journal_of, request, reserved, settled, write_runs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "runs.md").read_text()
REHEARSAL = ROOT / "examples" / "rehearsal"

GOOD = Review("right", passed=True, score=9, threshold=6)
WEAK = Review("no test of an empty text", passed=False, score=4, threshold=6)
BUSY = Failure("OverloadedError", "HTTP 529: overloaded", "it is tried again elsewhere")


async def counter(journal: Journal) -> None:
    """The run that ended well."""
    plan = Plan(
        "write a word counter",
        (
            Subtask("t01", "Write count_words(text) in wordcount.py"),
            Subtask("t02", "Write its tests", depends=("t01",)),
        ),
    )
    journal.tell(RunStarted(run=journal.run, task=plan.task))
    await request(
        journal, "plan.call1", settled("mayor", 0.0105, provider="anthropic", model="claude-sonnet-4-5")
    )
    await journal.record("plan", plan, kind="plan")
    journal.tell(PlanMade(plan=plan))
    tries = {"t01": ("north", [GOOD]), "t02": ("south", [WEAK, GOOD])}
    for name, (host, reviews) in tries.items():
        attempts: list[Attempt] = []
        for number, review in enumerate(reviews, 1):
            attempts.append(Attempt(number, "qwen", host, 2.0, 50, "def ...", review))
            journal.tell(SubtaskStarted(subtask=name, attempt=number, model="qwen", provider=host))
            paid = settled("polecat", 0.0, provider=host, model="qwen3-coder:30b", subtask=name)
            await request(journal, f"{name}.attempt{number}", paid)
            await journal.record(f"{name}.attempt{number}", attempts[-1], kind="attempt")
            judged = settled("witness", 0.0021, provider="openai", model="gpt-5-mini", subtask=name)
            await request(journal, f"{name}.review{number}", judged)
            await journal.record(f"{name}.review{number}", review, kind="review")
        journal.tell(SubtaskEnded(subtask=name, attempts=tuple(attempts)))
        done = Done(name, "def ...", attempts=tuple(attempts), review=GOOD)
        await journal.record(f"{name}.result", done, kind="result")
    file = WrittenFile("wordcount.py", "2c18766b036b" + "0" * 52, 218)
    await journal.record("t01.files1", Receipt((file,)), kind="receipt")
    report = Report(journal.run, plan.task, "done", 0, text="Done.", seconds=12.3)
    await journal.record(f"end.e{journal.epoch}", report, kind="end")
    journal.tell(RunEnded(report=report))


async def parser(journal: Journal) -> None:
    """The run that a crash ended, in the middle of a request."""
    await request(
        journal, "plan.call1", settled("mayor", 0.0231, provider="anthropic", model="claude-sonnet-4-5")
    )
    await journal.record("plan", Plan("port the parser", (Subtask("t01", "Port the lexer"),)), kind="plan")
    hop = HopTaken(failed="chief", error=BUSY, took_over="spare", role="mayor")
    await journal.record("hop.e1.1", hop, kind="hop")
    asked = {
        "messages": [{"role": "user", "parts": [{"type": "text", "text": "Break this task into subtasks."}]}]
    }
    failing = Exchange("mayor", "anthropic", "claude-sonnet-4-5", BUSY, asked, '{"type": "overloaded_error"}')
    await journal.record("plan.call1.e1.r1.failed", failing, kind="failure")
    await journal.record("note.e1.2", Noted(text="a subtask was too large and was split"), kind="note")
    await journal.record("t01.attempt1.e1.r1", reserved(usd=0.12, subtask="t01"), kind="reserve")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    runs = [
        ("20261122-101500-77aa", "write a word counter", [counter]),
        ("20261122-184207-3fa2", "port the parser to Rust", [parser]),
    ]
    write_runs(journal_of(tmp_path), runs)
    (tmp_path / "cheaper.yaml").write_text(
        re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0]
    )
    return tmp_path


def et(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY") and k != "XDG_STATE_HOME"}
    return subprocess.run(
        [sys.executable, "-c", "from electrictown.cli.main import main; main()", *arguments],
        env={**kept, "HOME": str(home)},
        cwd=home,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


SHOWN = re.findall(r"^```console\n\$ et (.*?)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
SAID = re.findall(r"^et ((?:runs|show|log|cost|replay)\b.*?)(?: +#.*)?$", PAGE, re.MULTILINE)


def alike(text: str) -> list[str]:
    """Lines without what is another one each time: moments, ages, processes, hosts, blanks."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN", text)
    text = re.sub(r"process \d+ on \S+", "PROCESS", text)
    text = re.sub(
        r"(?<=  )\d+[smhd](?=  )|(?<=  )[\d.]+s(?=  )|(?<=WHEN, )[\d.]+s|(?<=in )[\d.]+s", "N", text
    )
    return [" ".join(line.split()) for line in text.splitlines()]


@pytest.mark.parametrize(("command", "told"), SHOWN, ids=[command for command, _ in SHOWN])
def test_a_command_prints_what_the_page_shows(home: Path, command: str, told: str) -> None:
    done = et(home, *shlex.split(command))
    assert (done.returncode, done.stderr) == (0, "")
    printed, left = alike(done.stdout), 0
    for line in alike(told):
        if line != "...":
            assert line in printed[left:], f"{line!r} is not in\n{done.stdout}"
            left += printed[left:].index(line)


@pytest.mark.parametrize("command", SAID)
def test_a_command_the_page_names_works(home: Path, command: str) -> None:
    done = et(home, *shlex.split(command.partition(" | ")[0]))
    assert done.returncode == 0, done.stderr


def test_the_page_has_its_examples() -> None:
    assert {command.split()[0] for command, _ in SHOWN} == {"runs", "show", "log", "cost", "replay"}
    assert len(SAID) > 5


def test_a_run_goes_on_and_is_cancelled_as_the_page_says(home: Path) -> None:
    for file in REHEARSAL.glob("*.yaml"):
        text = re.sub(r"^  (latency|pace): .*\n", "", file.read_text(), flags=re.MULTILINE)
        (home / file.name).write_text(text)
    assert et(home, "run", "write a word counter").returncode == 0
    again = et(home, "resume", "last")
    assert again.returncode == 0, again.stderr
    assert "word counter" in again.stdout
    assert et(home, "cancel", "20261122-18").stdout.endswith("it is marked cancelled\n")
    assert et(home, "resume", "20261122-18").returncode == 2


def test_every_flag_of_the_page_exists() -> None:
    known = set(re.findall(r"--[a-z][a-z-]+", (ROOT / "docs" / "cli.md").read_text()))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= known
