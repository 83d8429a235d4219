"""`et session send`: every byte arrives, once; what becomes of it is told, and never what is not so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_kit import Shell
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from electrictown.sessions.log import Entry, Log
from electrictown.sessions.messages import LARGEST
from electrictown.sessions.records import Record, Said, Status, Turn
from electrictown.sessions.registry import Registry
from electrictown.work import Failure
from fakes.live_session import Live, living, recorded, written


@pytest.fixture
def state(shell: Shell) -> Path:
    return shell.home / ".local" / "state" / "electrictown"


@pytest.fixture
def registry(state: Path) -> Registry:
    return Registry(state / "sessions")


@pytest.fixture
def record(registry: Registry, tmp_path: Path) -> Record:
    return recorded(registry, tmp_path)


def heard(session: Live) -> list[bytes]:
    return list(session.heard.values())


TEXTS = [
    "add error handling",
    "-x",
    "--verbose=1",
    "-hello",
    "@file",
    "@/etc/passwd",
    "'\"`; $(id) ${HOME} | & > < \\ %s %d * ? # !",
    "two\nlines\n",
    " \t ",
    "😀 ünï",
    "\x1b[31mred\x1b[0m\x07",
    "--",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_arrives_as_it_is(shell: Shell, registry: Registry, record: Record, text: str) -> None:
    with living(registry, record) as session:
        said = shell.et("session", "send", record.name, *(["--"] if text == "--" else []), text)
    assert (said.code, said.out) == (0, "")
    assert heard(session) == [text.encode()]


def test_words_have_one_space_between_them_and_options_stand_anywhere(
    shell: Shell, registry: Registry, record: Record
) -> None:
    with living(registry, record) as session:
        assert shell.et("session", "send", record.name, "say", "--wait", "-it", " twice ").code == 0
        assert shell.et("session", "send", record.name, "--", "--wait", "--", "--id=x").code == 0
        assert shell.et("session", "send", "--id=mine", record.name, "more").code == 0
    assert session.heard["mine"] == b"more"
    assert heard(session) == [b"say -it  twice ", b"--wait -- --id=x", b"more"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.binary(min_size=1, max_size=300))
def test_all_bytes_arrive(shell: Shell, registry: Registry, data: bytes) -> None:
    record = recorded(registry, shell.folder)
    shell.write("message", data)
    words = os.fsdecode(data.replace(b"\0", b"."))
    with living(registry, record) as session:
        assert shell.et("session", "send", record.name, "-", stdin=data).code == 0
        assert shell.et("session", "send", record.name, "--stdin", stdin=data).code == 0
        assert shell.et("session", "send", record.name, "--file", "message").code == 0
        assert shell.et("session", "send", record.name, "--", words, "end").code == 0
    assert heard(session) == [data, data, data, os.fsencode(words) + b" end"]


def test_a_process_hands_on_arguments_that_are_no_text(
    shell: Shell, registry: Registry, record: Record
) -> None:
    with living(registry, record) as session:
        assert shell.process("session", "send", record.name, "\udcff\udcfe x").code == 0
    assert heard(session) == [b"\xff\xfe x"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "there is no message"),
        ([""], "there is no message"),
        (["-"], "there is no message"),
        (["--file", "none"], "the file none cannot be read"),
        (["--file", "empty"], "there is no message"),
        (["--stdin", "text"], "there is more than one message"),
        (["--file", "empty", "text"], "there is more than one message"),
        (["--id", "a/b", "text"], "'a/b' is no name for a message"),
        (["--timeout", "0", "text"], "invalid value"),
        (["--file"], "requires an argument"),
    ],
)
def test_what_is_no_message_is_refused(
    shell: Shell, registry: Registry, record: Record, arguments: list[str], told: str
) -> None:
    shell.write("empty", b"")
    with living(registry, record) as session:
        said = shell.et("session", "send", record.name, *arguments)
    assert (said.code, said.out) == (2, "")
    assert told in said.err
    assert heard(session) == []


def test_a_message_that_is_too_long_is_refused(shell: Shell, registry: Registry, record: Record) -> None:
    with (shell.folder / "long").open("wb") as file:
        file.truncate(LARGEST + 1)
    with living(registry, record) as session:
        said = shell.et("session", "send", record.name, "--file", "long")
    assert said.code == 2
    assert "longer than 64 MiB" in said.err
    assert heard(session) == []


def test_the_reply_is_printed_when_it_is_waited_for(shell: Shell, registry: Registry, record: Record) -> None:
    with living(registry, record) as session:
        said = shell.et("session", "send", record.name, "--wait", "echo")
    assert (said.code, said.out, said.err) == (0, "echo\n", "")
    assert session.senders == ["send"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure("ServerError", "HTTP 500", "try later"), 1),
        (Failure("AuthError", "no key", "set one"), 4),
        (Failure("RateLimitError", "too many", ""), 75),
        (None, 1),
    ],
)
def test_a_turn_that_failed_is_no_success(
    shell: Shell, registry: Registry, record: Record, error: Failure | None, code: int
) -> None:
    with living(registry, record) as session:
        outcome = "interrupted" if error is None else "failed"
        session.turn = lambda say: Turn(say.id, outcome, "half of it", error=error)
        said = shell.et("session", "send", record.name, "--wait", "hi")
        as_json = shell.et("session", "send", record.name, "--wait", "--json", "hi")
    assert (said.code, said.out) == (code, "")
    assert (error.message if error else "was interrupted") in said.err
    assert as_json.code == code
    assert as_json.json["turn"]["outcome"] == outcome
    assert as_json.json["turn"]["text"] == "half of it"


def test_an_error_is_not_obeyed_by_a_terminal(shell: Shell, registry: Registry, record: Record) -> None:
    error = Failure("ServerError", "\x1b]52;c;aGk=\x07HTTP 500\x9b2J \u202eno", "\x1b[5mtry later")
    with living(registry, record) as session:
        session.turn = lambda say: Turn(say.id, "failed", error=error)
        said = shell.et("session", "send", record.name, "--wait", "hi")
    assert said.err == "error: HTTP 5002J no\n  hint: try later\n"


def test_json_holds_nothing_that_a_terminal_obeys(shell: Shell, registry: Registry, record: Record) -> None:
    text = "\x1b]52;c;aGk=\x07\x9b2J \u202e\u2028\u200f\x7f http://a.example\nbob@b.example é 日本"
    with living(registry, record, Status("ready", line=text)) as session:
        session.turn = lambda say: Turn(say.id, "done", text)
        said = shell.et("session", "send", record.name, "--wait", "--json", "hi")
        listed = shell.et("session", "list", "--json")
    log = Log(registry.folder(record.name))
    log(Entry("note", text))
    log.close()
    logged = shell.et("session", "logs", record.name, "--json")
    assert said.json["turn"]["text"] == text
    assert listed.json[0]["line"] == text
    assert logged.events[0]["text"] == text
    for out in (said.out, listed.out, logged.out):
        assert "é 日本" in out
        assert not set(out) & set(text) - {letter for letter in text if letter.isprintable()} - {"\n"}


def test_json_tells_how_it_was_accepted(shell: Shell, registry: Registry, record: Record) -> None:
    with living(registry, record):
        shell.et("session", "send", record.name, "first")
        said = shell.et("session", "send", record.name, "--json", "--id", "m.2", "second")
        plain = shell.et("session", "send", record.name, "third")
    assert said.json == {"name": record.name, "id": "m.2", "ahead": 1, "turn": None}
    assert plain.err == f"{record.name} has the message and answers it after 2 messages before it\n"


def test_the_same_id_is_not_said_twice(shell: Shell, registry: Registry, record: Record) -> None:
    with living(registry, record) as session:
        for _ in range(3):
            assert shell.et("session", "send", record.name, "--id", "once", "hi").code == 0
    assert heard(session) == [b"hi"]


def test_a_session_that_does_not_answer_leaves_it_open_whether_it_heard(
    shell: Shell, registry: Registry, record: Record
) -> None:
    with living(registry, record) as session:
        session.deaf = True
        said = shell.et("session", "send", record.name, "--timeout", "0.2", "--id", "m1", "hi")
    assert said.code == 75
    assert "does not answer: it may yet accept the message" in said.err
    assert "--id m1" in said.err


def test_a_reply_that_takes_too_long_was_accepted(shell: Shell, registry: Registry, record: Record) -> None:
    with living(registry, record) as session:
        session.mute = True
        said = shell.et("session", "send", record.name, "--timeout", "0.3", "--wait", "hi")
    assert said.code == 75
    assert "has accepted the message, and not answered it in time" in said.err
    assert heard(session) == [b"hi"]


def test_nobody_is_a_usage_error_that_names_a_near_one(
    shell: Shell, registry: Registry, record: Record
) -> None:
    with living(registry, record) as session:
        for name in (record.name[:-1], f"{record.name}2", record.name.upper(), "../x", ""):
            said = shell.et("session", "send", name, "hi")
            assert said.code == 2, name
        assert f"did you mean {record.name}?" in shell.et("session", "send", record.name[:-1], "hi").err
    assert heard(session) == []


def test_of_two_that_share_a_beginning_the_named_one_hears_it(
    shell: Shell, registry: Registry, record: Record
) -> None:
    longer = recorded(registry, shell.folder, name=f"{record.name}2")
    with living(registry, record) as short, living(registry, longer) as long:
        assert shell.et("session", "send", record.name, "short").code == 0
        assert shell.et("session", "send", longer.name, "long").code == 0
    assert (heard(short), heard(long)) == ([b"short"], [b"long"])


def test_a_dead_session_accepts_nothing(shell: Shell, registry: Registry, record: Record) -> None:
    registry.save(record.name, Status("working"))
    said = shell.et("session", "send", record.name, "hi")
    assert said.code == 1
    assert "has ended: the message was not accepted" in said.err
    assert f"et session spawn --resume {record.name}" in said.err


def test_of_a_dead_session_the_journal_knows_what_it_had_accepted(
    shell: Shell, registry: Registry, record: Record, state: Path
) -> None:
    registry.save(record.name, Status("done"))
    written(state, record.name, said=(Said("m1", "hi"),), turns=(Turn("m1", "done", "ho"),))
    assert shell.et("session", "send", record.name, "--id", "m1", "--wait", "hi").out == "ho\n"
    assert "the message was accepted" in shell.et("session", "send", record.name, "--id", "m1", "hi").err
    assert "was not accepted" in shell.et("session", "send", record.name, "--id", "m2", "hi").err


def test_a_terminal_is_not_told_what_a_model_makes_it_do(
    shell: Shell, registry: Registry, record: Record
) -> None:
    screen, terminal = os.openpty()
    with living(registry, record), os.fdopen(screen, "rb", buffering=0) as shown:
        with os.fdopen(terminal, "wb") as out:
            text = "\x1b]0;title\x07plain\x1b[2J"
            process = shell.start("session", "send", record.name, "--wait", text, stdout=out)
            _, trouble = process.communicate(timeout=30)
        assert (process.returncode, trouble) == (0, b"")
        assert shown.read(100) == b"plain\r\n"
