"""`et session list`, `logs`, `wait`, `interrupt`, `answer` and `kill`, over sessions that a thread plays."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
from cli_kit import Said, Shell

from electrictown.console.text import width
from electrictown.sessions.log import LOG, Entry, Log
from electrictown.sessions.messages import Answer, Interrupt
from electrictown.sessions.records import Record, Status
from electrictown.sessions.registry import Registry
from electrictown.work import Cost
from fakes.live_session import living, recorded, written


@pytest.fixture
def registry(shell: Shell) -> Registry:
    return Registry(shell.home / ".local" / "state" / "electrictown" / "sessions")


@pytest.fixture
def record(registry: Registry, tmp_path: Path) -> Record:
    return recorded(registry, tmp_path)


@pytest.fixture(autouse=True)
def _no_tmux(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own tmux is asked for panes."""
    monkeypatch.setenv("PATH", str(shell.home))


# --- list


def test_without_sessions_the_list_says_how_to_start_one(shell: Shell) -> None:
    said = shell.et("session", "list")
    assert (said.code, said.out) == (0, "")
    assert 'et session spawn "..." starts one' in said.err
    assert shell.et("session", "ls", "--json").json == []


def test_the_list_tells_who_does_what(shell: Shell, registry: Registry, record: Record) -> None:
    helper = recorded(registry, shell.folder, "gemini", agent="gemini", created=record.created + 1)
    unknown = Cost("total", usd=None)
    registry.save(helper.name, Status("failed", "the program ended", model="gemini", cost=unknown))
    cost = Cost("total", requests=2, input=10, usd=0.0123)
    with living(registry, record, Status("working", model="qwen@ai01", cost=cost, line="Half of it.")):
        said = shell.et("session", "ls")
        listed = shell.et("session", "list", "--json").json
    assert said.code == 0
    lines = [line.split(maxsplit=6) for line in said.out.splitlines()]
    assert lines[0] == ["name", "state", "role", "model", "age", "cost", "last line"]
    assert lines[1] == [record.name, "working", "polecat", "qwen@ai01", lines[1][4], "$0.0123", "Half of it."]
    assert lines[2] == [helper.name, "failed", "gemini", "gemini", "0s", "unknown", "(the program ended)"]
    assert [(row["name"], row["usd"], row["tokens"]) for row in listed] == [
        (record.name, 0.0123, 10),
        (helper.name, None, 0),
    ]


def test_a_rate_limit_is_told_with_its_end(shell: Shell, registry: Registry, record: Record) -> None:
    end = time.time() + 60
    with living(registry, record, Status("rate-limited", "qwen: too many", until=end, line="so far")):
        said = shell.et("session", "list")
    assert f"rate-limited {time.strftime('%H:%M', time.localtime(end))}  " in said.out
    assert said.out.rstrip().endswith("so far")


def test_the_ended_are_listed_for_a_day_or_with_all(shell: Shell, registry: Registry, record: Record) -> None:
    registry.save(record.name, Status("done", "quit", at=time.time() - 100_000))
    said = shell.et("session", "list")
    assert (said.out, record.name in said.err) == ("", False)
    assert "--all lists them" in said.err
    assert record.name in shell.et("session", "list", "--all").out


def test_a_record_that_cannot_be_read_is_a_warning(shell: Shell, registry: Registry, record: Record) -> None:
    torn = recorded(registry, shell.folder)
    (registry.folder(torn.name) / "record.json").write_text("{")
    said = shell.et("session", "list")
    assert said.code == 0
    assert record.name in said.out
    assert "warning: " in said.err


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_fits_a_terminal(shell: Shell, registry: Registry, record: Record, columns: int) -> None:
    long = recorded(registry, shell.folder, "a-specialist-for-databases", created=record.created + 1)
    limited = Status(
        "rate-limited", until=time.time(), model="claude-sonnet-4-5@anthropic", line="漢字 and more " * 20
    )
    screen, terminal = os.openpty()
    with living(registry, record, limited), living(registry, long, limited), os.fdopen(screen, "rb") as shown:
        env = {**os.environ, "COLUMNS": str(columns)}
        with os.fdopen(terminal, "wb") as out:
            process = shell.start("session", "list", stdout=out, env=env)
            process.communicate(timeout=30)
            os.write(out.fileno(), b"that is all\n")
        lines = [shown.readline().decode().rstrip("\r\n") for _ in range(3)]
    assert all(width(line) <= columns for line in lines)
    assert lines[1].startswith(f"{record.name} ")
    assert lines[2].startswith(f"{long.name}  rate-limited ")
    assert "role" not in lines[0]  # which stands in the name
    assert "漢" in lines[2]  # and what was said last is shown as long as it can be
    assert "…" in lines[2]


def test_the_list_says_once_why_a_message_was_not_answered(
    shell: Shell, registry: Registry, record: Record
) -> None:
    why = "the last message was not answered: HTTP 500"
    cost = Cost("total", requests=2, usd=None, known_usd=0.5)
    with living(registry, record, Status("waiting for input", why, cost=cost, line="HTTP 500")):
        line = shell.et("session", "list").out.splitlines()[1]
    assert line.endswith(f"  > $0.5000  ({why})")


# --- logs


TOLD = [
    Entry("said", "what\nis it?", turn="m1", sender="send"),
    Entry("text", "It is ", turn="m1"),
    Entry("text", "so.\nTruly.", turn="m1"),
    Entry("end", turn="m1", outcome="done", model="qwen", tokens=12, usd=0.0, seconds=1.0),
    Entry("said", "and?", turn="m2", sender="typed"),
    Entry("text", "Yes", turn="m2"),
]
SHOWN = """\
send> what
  is it?

It is so.
Truly.
— qwen  12 tokens  $0  1.0s

> and?

Yes
"""


@pytest.fixture
def log(registry: Registry, record: Record) -> Generator[Log]:
    log = Log(registry.folder(record.name))
    yield log
    log.close()


@pytest.fixture
def told(log: Log) -> Log:
    for entry in TOLD:
        log(entry)
    return log


@pytest.mark.usefixtures("told")
def test_the_log_is_what_was_said(shell: Shell, record: Record) -> None:
    said = shell.et("session", "logs", record.name)
    assert (said.code, said.out, said.err) == (0, SHOWN, "")


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("lines", [0, 1, 4, 100])
def test_the_last_lines_are_the_last(shell: Shell, record: Record, lines: int) -> None:
    said = shell.et("session", "logs", record.name, "-n", str(lines))
    assert said.out.splitlines() == SHOWN.splitlines()[-lines:] * bool(lines)


@pytest.mark.usefixtures("told")
def test_the_log_as_json_is_its_entries(shell: Shell, record: Record) -> None:
    said = shell.et("session", "logs", record.name, "--json")
    assert [msgspec.json.decode(line, type=Entry) for line in said.out.splitlines()] == TOLD
    last = shell.et("session", "logs", record.name, "--json", "--lines", "2")
    assert [event["kind"] for event in last.events] == ["said", "text"]


def test_a_log_with_torn_and_foreign_lines_is_read(
    shell: Shell, registry: Registry, record: Record, told: Log
) -> None:
    path = registry.folder(record.name) / LOG
    whole = path.read_bytes()
    path.write_bytes(b'\xff\xfe\n{"kind": "song"}\n' + whole + b'{"kind": "text", "te')
    assert shell.et("session", "logs", record.name).out == SHOWN


def test_a_log_that_cannot_be_read_is_an_error(shell: Shell, registry: Registry, record: Record) -> None:
    (registry.folder(record.name) / LOG).mkdir()
    said = shell.et("session", "logs", record.name)
    assert (said.code, said.out) == (1, "")
    assert f"the log of {record.name} cannot be read: Is a directory" in said.err


@pytest.mark.usefixtures("told")
def test_what_cannot_be_written_is_not_taken_for_a_log_that_cannot_be_read(
    shell: Shell, record: Record
) -> None:
    with Path("/dev/full").open("wb") as full:
        process = shell.start("session", "logs", record.name, stdout=full)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 1
    assert told == b"error: the output cannot be written: No space left on device\n"


def test_without_a_log_there_is_nothing_to_print(shell: Shell, record: Record) -> None:
    assert shell.et("session", "logs", record.name) == Said(0, "", "")


def test_a_log_is_followed_to_the_end_of_the_session(
    shell: Shell, registry: Registry, record: Record, told: Log
) -> None:
    got: list[Said] = []
    follow = threading.Thread(
        target=lambda: got.append(shell.et("session", "logs", record.name, "--follow", "--json"))
    )
    with living(registry, record):
        follow.start()
        line = msgspec.json.encode(Entry("note", "later", at=1.0)) + b"\n"
        path = registry.folder(record.name) / LOG
        for part in (line[:9], line[9:], b""):  # a line that comes in two pieces is one
            with path.open("ab") as file:
                file.write(part)
            time.sleep(0.25)
        told(Entry("end", outcome="done"))
    follow.join()
    assert [event["kind"] for event in got[0].events][-3:] == ["text", "note", "end"]
    assert len(got[0].events) == len(TOLD) + 2


def test_a_log_of_a_session_that_has_ended_is_followed_no_longer(
    shell: Shell, record: Record, told: Log
) -> None:
    registry = Registry(shell.home / ".local" / "state" / "electrictown" / "sessions")
    registry.save(record.name, Status("done"))
    assert shell.et("session", "logs", record.name, "-f").out == SHOWN


# --- wait


def test_an_idle_session_is_not_waited_for(shell: Shell, registry: Registry, record: Record) -> None:
    with living(registry, record, Status("waiting for input")):
        said = shell.et("session", "wait", record.name)
    assert said == Said(0, f"{record.name}  waiting for input\n", "")


def test_all_are_waited_for_until_nothing_is_left_to_answer(
    shell: Shell, registry: Registry, record: Record
) -> None:
    other = recorded(registry, shell.folder)
    working = Status("working", queued=1)
    got: list[Said] = []
    wait = threading.Thread(target=lambda: got.append(shell.et("session", "wait", other.name, record.name)))
    with living(registry, record, working) as one, living(registry, other, working) as two:
        wait.start()
        one.status = Status("waiting for input", queued=0)
        time.sleep(0.3)
        assert not got
        # It asks for leave: that is no end, but it is told.
        two.status = Status("waiting for input", "may it? rm x", queued=1)
        time.sleep(0.5)
        assert not got
        two.status = Status("ready")
        wait.join()
    assert got[0].code == 0
    assert got[0].out == f"{record.name}  waiting for input\n{other.name}  ready\n"
    assert got[0].err == f"{other.name} is waiting for input: may it? rm x\n"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (Status("done", "killed"), 0),
        (Status("failed", "no key"), 1),
        (Status("working"), 1),  # its process is gone
    ],
)
def test_one_that_has_ended_is_not_waited_for(
    shell: Shell, registry: Registry, record: Record, status: Status, code: int
) -> None:
    registry.save(record.name, status)
    for goal in ("idle", "end"):
        said = shell.et("session", "wait", record.name, "--until", goal, "--json")
        assert said.code == code
        assert said.json[0]["state"] == ("failed" if code else "done")


def test_a_last_message_without_an_answer_is_a_failure(
    shell: Shell, registry: Registry, record: Record
) -> None:
    why = "the last message was not answered: HTTP 500"
    with living(registry, record, Status("waiting for input", why)):
        said = shell.et("session", "wait", record.name)
    assert said == Said(1, f"{record.name}  waiting for input: {why}\n", "")


def test_the_time_may_be_over_first(shell: Shell, registry: Registry, record: Record) -> None:
    with living(registry, record, Status("ready")):
        said = shell.et("session", "wait", record.name, "--until", "end", "--timeout", "0.3")
    assert said.code == 75
    assert said.err.startswith(f"error: the time is over, and still at work: {record.name}\n")


# --- interrupt, answer, kill


def test_a_reply_is_interrupted(shell: Shell, registry: Registry, record: Record) -> None:
    with living(registry, record, Status("working")) as session:
        assert shell.et("session", "interrupt", record.name) == Said(0, "", "")
        assert shell.et("session", "interrupt", record.name, "--json").json["interrupted"]
        session.status = Status("ready")
        refused = shell.et("session", "interrupt", record.name)
    assert session.told == [Interrupt()] * 3
    assert (refused.code, refused.err) == (1, "error: nothing is under way\n")


def test_what_is_asked_is_answered(shell: Shell, registry: Registry, record: Record) -> None:
    with living(registry, record, Status("working")) as session:
        assert shell.et("session", "answer", record.name, "allow").code == 0
        assert shell.et("session", "answer", record.name, "deny", "--json").json["answer"] == "deny"
        assert shell.et("session", "answer", record.name, "perhaps").code == 2
    assert session.told == [Answer(allow=True), Answer(allow=False)]


@pytest.mark.parametrize("command", [["interrupt"], ["answer", "allow"], ["logs"], ["wait"], ["attach"]])
def test_only_the_very_name_is_meant(
    shell: Shell, registry: Registry, record: Record, command: list[str]
) -> None:
    with living(registry, record):
        said = shell.et("session", command[0], record.name[:-1], *command[1:])
    assert said.code == 2
    assert (
        said.err == f"error: there is no session {record.name[:-1]!r}\n  hint: did you mean {record.name}?\n"
    )


@pytest.mark.parametrize("command", [["interrupt"], ["answer", "allow"]])
def test_who_has_ended_is_told_nothing(
    shell: Shell, registry: Registry, record: Record, command: list[str]
) -> None:
    registry.save(record.name, Status("done"))
    said = shell.et("session", command[0], record.name, *command[1:])
    assert said.code == 1
    assert f"the session {record.name} has ended" in said.err


def test_killing_who_has_ended_says_so(shell: Shell, registry: Registry, record: Record) -> None:
    gone = recorded(registry, shell.folder)
    registry.save(record.name, Status("done", "quit"))
    registry.save(gone.name, Status("working"))
    said = shell.et("session", "kill", record.name, "et-nobody-1", gone.name)
    assert said.code == 2
    assert said.out.splitlines() == [
        f"{record.name} had ended before: done (quit)",
        f"{gone.name} had ended before: failed (its process is gone)",
    ]
    assert "there is no session 'et-nobody-1'" in said.err
    again = shell.et("session", "kill", "--json", gone.name, gone.name)
    assert again.code == 0
    assert [(one["state"], one["why"], one["before"]) for one in again.json] == [("done", "killed", "done")]


def test_attaching_wants_a_terminal(shell: Shell, registry: Registry, record: Record) -> None:
    with living(registry, record):
        said = shell.et("session", "attach", record.name)
        command = shell.et("session", "attach", record.name, "--json").json
    assert said.code == 2
    assert "et session attach wants a terminal" in said.err
    assert command == {"name": record.name, "backend": "none", "command": []}
    ended = shell.et("session", "attach", record.name, "--json")
    assert ended.code == 1
    assert "(its process is gone)" in ended.err


# --- what other commands know of sessions


def test_a_session_is_a_run_that_only_sessions_go_on_with(
    shell: Shell, registry: Registry, record: Record
) -> None:
    written(registry.folder(record.name).parents[1], record.name)
    assert record.name in shell.et("runs").out
    assert f"et session spawn --resume {record.name}" in shell.et("show", record.name).out
    for name in (record.name, "last"):
        said = shell.et("resume", name)
        assert said.code == 2
        assert f"{record.name} is a session\n  hint: et session spawn --resume {record.name}" in said.err


def test_a_misspelt_command_is_told_what_was_meant(shell: Shell) -> None:
    said = shell.et("session", "lst")
    assert (said.code, said.out) == (2, "")
    assert "there is no command 'lst' of 'et session'\n  hint: did you mean 'et session list'?" in said.err
    assert shell.et("session").code == 2
