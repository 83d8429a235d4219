"""Which sessions there are: exact names, whole files, and a lock that tells the living from the dead."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from electrictown import redact
from electrictown.errors import SessionBusyError, SessionError, UnknownSessionError
from electrictown.redact import Secret
from electrictown.sessions.names import checked, new_name
from electrictown.sessions.records import Record, Status
from electrictown.sessions.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "state" / "sessions")


@given(st.text(max_size=80))
def test_a_name_can_be_made_of_any_role(role: str) -> None:
    name = new_name(role)
    assert checked(name) == name
    assert name.startswith("et-")
    assert len(name) < 60


@pytest.mark.parametrize(
    "name",
    [
        "",
        "et-",
        "polecat",
        "et-../x",
        "et-a/b",
        "et-a\n",
        "et-a b",
        "et-é",
        "et--x",
        "et-" + "a" * 90,
        "et-a:1",
    ],
)
def test_what_can_be_no_name_is_refused_before_a_file_is_touched(registry: Registry, name: str) -> None:
    with pytest.raises(UnknownSessionError):
        registry.find(name)


def test_names_are_meant_exactly(registry: Registry, tmp_path: Path) -> None:
    record = registry.create("polecat", "none", tmp_path)
    for near in (record.name[:-1], record.name + "2", record.name.upper()):
        with pytest.raises(UnknownSessionError) as caught:
            registry.find(near)
        assert record.name in caught.value.hint or "et session list" in caught.value.hint
    assert registry.find(record.name) == record


def test_many_sessions_have_names_and_marks_of_their_own(registry: Registry, tmp_path: Path) -> None:
    records = [registry.create("polecat", "none", tmp_path) for _ in range(200)]
    assert len({r.name for r in records}) == len({r.mark for r in records}) == 200
    assert registry.names() == sorted(r.name for r in records)


def test_a_session_lives_as_long_as_its_process(registry: Registry, tmp_path: Path) -> None:
    record = registry.create("polecat", "none", tmp_path)
    program = (
        "import sys, pathlib\nfrom electrictown.sessions.registry import Registry\n"
        "lock = Registry(pathlib.Path(sys.argv[1])).lock(sys.argv[2])\nprint('held', flush=True)\ninput()\n"
    )
    folder = str(tmp_path / "state" / "sessions")
    with subprocess.Popen(
        [sys.executable, "-c", program, folder, record.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert registry.is_alive(record.name)
        registry.save(record.name, Status("working", line="so far"))
        assert registry.status(record).state == "working"
        with pytest.raises(SessionBusyError):
            registry.lock(record.name)
        process.kill()
        process.wait()
    assert not registry.is_alive(record.name)
    status = registry.status(record)
    assert (status.state, status.why, status.line) == ("failed", "its process is gone", "so far")
    registry.lock(record.name).release()


def test_a_session_that_never_came_up_has_failed_after_a_while(registry: Registry, tmp_path: Path) -> None:
    record = registry.create("polecat", "none", tmp_path)
    assert registry.status(record).state == "starting"
    old = replace(record, created=time.time() - 3600)
    registry.save(old.name, old)
    assert registry.status(registry.find(old.name)).state == "failed"


def test_an_end_that_was_told_stands(registry: Registry, tmp_path: Path) -> None:
    record = registry.create("polecat", "none", tmp_path)
    registry.save(record.name, Status("done", "quit"))
    assert registry.status(record).why == "quit"


def test_files_that_are_damaged_are_named(registry: Registry, tmp_path: Path) -> None:
    record = registry.create("polecat", "none", tmp_path)
    file = registry.folder(record.name) / "record.json"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b'{"name":')
    with pytest.raises(SessionError, match=r"record\.json"):
        registry.find(record.name)


@pytest.mark.parametrize("damaged", [b"", b"[]", b'{"state":"working","pi'])
def test_a_damaged_status_leaves_a_session_that_can_be_ended_and_gone_on_with(
    registry: Registry, tmp_path: Path, damaged: bytes
) -> None:
    record = registry.create("polecat", "none", tmp_path)
    (registry.folder(record.name) / "status.json").write_bytes(damaged)
    dead = registry.status(record)
    assert (dead.state, dead.pid) == ("failed", 0)
    assert "status.json cannot be read" in dead.why
    lock = registry.lock(record.name)
    assert registry.status(record).state == "ready"
    lock.release()


def test_a_copy_is_not_taken_for_the_session_it_was_copied_from(registry: Registry, tmp_path: Path) -> None:
    record = registry.create("polecat", "none", tmp_path)
    copy = f"{record.name}-old"
    shutil.copytree(registry.folder(record.name), registry.folder(copy))
    with pytest.raises(SessionError, match=f"holds the record of {record.name}"):
        registry.find(copy)
    assert registry.find(record.name) == record


def test_no_secret_of_a_first_message_is_on_record(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redact, "_known", [])
    key = Secret("sk-not-for-any-file").reveal()
    record = registry.create("polecat", "none", tmp_path, prompt=f"use {key} for it")
    assert registry.find(record.name).prompt == "use *** for it"


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SessionError, match="cannot be kept"):
        Registry(tmp_path / "file" / "sessions").create("polecat", "none", tmp_path)


def test_a_record_comes_back_as_it_was(registry: Registry, tmp_path: Path) -> None:
    record = registry.create(
        "polecat", "tmux", tmp_path, agent="gemini", socket="mine", prompt="do", config="c"
    )
    assert registry.find(record.name) == record
    assert isinstance(record, Record)
