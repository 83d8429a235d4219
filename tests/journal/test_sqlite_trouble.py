"""A journal's file that cannot be used: each trouble is said, with what to do about it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from store_kinds import header

from electrictown.errors import JournalError, UsageError
from electrictown.events import Noted
from electrictown.journal.journal import SCHEMA
from electrictown.journal.memory import MemoryJournal
from electrictown.journal.sqlite import SqliteStore
from electrictown.journal.stores import journal_file, open_store
from electrictown.journal.tables import connect
from electrictown.journal.writer import Gate, Writer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


async def a_run(file: Path, steps: int = 0) -> None:
    store = await SqliteStore.open(file)
    journal = await store.begin("r1", header())
    for number in range(steps):
        journal.note(f"s{number}", "x" * 3000, kind="x")
    await journal.aclose()
    await store.aclose()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_nobody_else_may_read_the_journal(file: Path) -> None:
    store = await SqliteStore.open(file)
    journal = await store.begin("r1", header())
    found = {path.name: mode_of(path) for path in [file.parent, *file.parent.iterdir()]}
    assert found == {
        "state": 0o700, "runs": 0o700, "journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600,
    }  # fmt: skip
    assert [mode_of(path) for path in (file.parent / "runs").iterdir()] == [0o600]
    await journal.aclose()
    await store.aclose()


async def test_every_commit_is_brought_to_the_disk(file: Path) -> None:
    with closing(connect(file, 1.0)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_a_newer_journal_is_refused(file: Path) -> None:
    await a_run(file)
    with closing(sqlite3.connect(file)) as plain, plain:
        plain.execute("UPDATE meta SET value = ?", (SCHEMA + 1,))
    with pytest.raises(JournalError, match=f"version {SCHEMA + 1}.* up to {SCHEMA}") as caught:
        await SqliteStore.open(file)
    assert "newer et" in caught.value.hint


async def test_another_program_s_database_is_left_alone(file: Path) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as plain, plain:
        plain.execute("CREATE TABLE meta(name TEXT, value TEXT)")
    with pytest.raises(JournalError, match="not a journal of et"):
        await SqliteStore.open(file)


async def test_a_file_that_is_no_database_is_named(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("dear diary, " * 400)
    with pytest.raises(JournalError, match="no database") as caught:
        await SqliteStore.open(file)
    assert str(file) in caught.value.message
    assert "move it away" in caught.value.hint
    assert file.read_text().startswith("dear diary")


async def test_a_damaged_file_is_named(file: Path) -> None:
    await a_run(file, 40)
    whole = file.read_bytes()
    file.write_bytes(whole[:60_000] + b"\xa5" * (len(whole) - 60_000))
    store = await SqliteStore.open(file)
    with pytest.raises(JournalError, match="damaged") as caught:
        await store.steps("r1")
    assert ".recover" in caught.value.hint
    await store.aclose()


async def test_a_file_that_is_taken_away_is_said(file: Path) -> None:
    store = await SqliteStore.open(file)
    file.rename(file.with_name("elsewhere.db"))
    with pytest.raises(JournalError, match="cannot be opened"):
        await store.runs()
    await store.aclose()


async def test_a_path_through_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(JournalError, match="cannot be opened") as caught:
        await SqliteStore.open(tmp_path / "state" / "journal.db")
    assert "XDG_STATE_HOME" in caught.value.hint


@contextmanager
def as_nobody() -> Generator[None]:
    """Root may write everywhere: then be somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with as_nobody(), pytest.raises(JournalError, match="cannot be written") as caught:
        await SqliteStore.open(tmp_path / "state" / "journal.db")
    assert "XDG_STATE_HOME" in caught.value.hint


async def test_a_disk_that_is_read_only_is_said(disk: Path) -> None:
    await a_run(disk / "journal.db")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(JournalError, match="cannot be written"):
        await SqliteStore.open(disk / "journal.db")


async def test_a_lock_s_folder_that_cannot_be_made_is_said(file: Path) -> None:
    store = await SqliteStore.open(file)
    (file.parent / "runs").write_text("")
    with pytest.raises(JournalError, match="runs"):
        await store.begin("r1", header())
    await store.aclose()


# --- the thread that writes ---


async def test_those_who_wait_together_share_a_commit(file: Path) -> None:
    statements: list[str] = []
    connection = connect(file, 1.0)
    connection.set_trace_callback(statements.append)
    writer = Writer(connection, file, 1.0)
    start = threading.Event()
    waiting = [writer.submit(lambda found: start.wait(5))]  # the rest gathers meanwhile
    waiting += [writer.submit(lambda found: found.in_transaction) for _ in range(2500)]
    start.set()
    assert await asyncio.gather(*waiting) == [True] * 2501
    await writer.aclose()
    # One group for the first, and at least three because others want to write between two groups, too.
    assert 3 <= statements.count("COMMIT") <= 5
    assert statements.count("BEGIN IMMEDIATE") == statements.count("COMMIT")


async def test_a_refusal_fails_alone_and_a_failure_fails_its_group(file: Path) -> None:
    writer = await Writer.open(file, 1.0)
    gates = Gate(), Gate()

    def refuse(found: sqlite3.Connection) -> None:
        raise JournalError("no")

    def fail(found: sqlite3.Connection) -> None:
        found.execute("INSERT INTO runs VALUES ('half', 1)")
        raise ZeroDivisionError("by zero")

    def runs(found: sqlite3.Connection) -> list[tuple[str]]:
        return found.execute("SELECT run FROM runs").fetchall()

    def put(found: sqlite3.Connection) -> None:
        found.execute("INSERT INTO runs VALUES ('whole', 1)")

    refused, good = writer.submit(refuse, gates[0]), writer.submit(put, gates[0])
    with pytest.raises(JournalError, match="no"):
        await refused
    await good
    with pytest.raises(JournalError, match="ZeroDivisionError: by zero"):
        await writer.submit(fail, gates[1])
    with pytest.raises(JournalError, match="ZeroDivisionError"):  # nothing of this run overtakes it
        await writer.submit(runs, gates[1])
    assert await writer.submit(runs, gates[0]) == [("whole",)]
    await writer.aclose()
    await writer.aclose()
    with pytest.raises(JournalError, match="closed"):
        await writer.submit(runs)


async def test_a_store_that_was_closed_stops_its_journals(file: Path) -> None:
    store = await SqliteStore.open(file)
    journal = await store.begin("r1", header())
    await store.aclose()
    with pytest.raises(JournalError, match="closed"):
        await journal.record("k", 1, kind="x")
    with pytest.raises(JournalError, match="closed"):
        await journal.aclose()
    again = await SqliteStore.open(file)
    await (await again.resume("r1")).aclose()  # it has let go of the run all the same
    await again.aclose()


def test_a_loop_that_ended_does_not_hold_up_the_thread(file: Path) -> None:
    ended = threading.Event()

    async def leave() -> Writer:
        writer = await Writer.open(file, 1.0)
        writer.submit(lambda found: ended.wait(5))
        return writer

    writer = asyncio.run(leave())
    ended.set()

    async def use() -> None:
        assert await writer.submit(lambda found: found.execute("SELECT 1").fetchone()) == (1,)
        await writer.aclose()

    asyncio.run(use())
    assert not any(thread.name == "journal" and thread.is_alive() for thread in threading.enumerate())


async def test_who_is_cancelled_while_the_file_is_opened_leaves_nothing_open(file: Path) -> None:
    for pause in (0, 0, 0.001, 0.01):
        opening = asyncio.create_task(SqliteStore.open(file))
        await asyncio.sleep(pause)
        opening.cancel()
        await asyncio.wait((opening,))
        if not opening.cancelled():  # it was faster
            await opening.result().aclose()
        assert not any(thread.name == "journal" for thread in threading.enumerate())


async def test_more_than_one_transaction_takes_come_in_order(file: Path) -> None:
    store = await SqliteStore.open(file)
    journal = await store.begin("r1", header())
    for number in range(2500):
        journal.note(f"n{number}", number, kind="x")
    await journal.aclose()
    assert [step.read(int) for step in await store.steps("r1", kinds=("x",))] == list(range(2500))
    await store.aclose()


async def test_a_file_that_is_being_made_is_waited_for(file: Path) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")  # and no write-ahead log yet: nobody else can even read
        other.execute("CREATE TABLE unrelated(x)")
        with pytest.raises(JournalError, match="locked by another program"):
            await SqliteStore.open(file, patience=0.1)
        opening = asyncio.create_task(SqliteStore.open(file, patience=5))
        await asyncio.sleep(0.1)
        assert not opening.done()
        other.execute("COMMIT")
    await (await opening).aclose()


async def test_an_event_that_cannot_be_kept_leaves_a_word(file: Path) -> None:
    store = await SqliteStore.open(file)
    journal = await store.begin("r1", header())
    journal.tell(Noted(text=object()))  # pyright: ignore[reportArgumentType]
    await journal.aclose()
    assert b"the event Noted could not be kept" in (await store.lines("r1"))[0].event
    await store.aclose()


async def test_a_journal_in_memory_has_no_feed_and_can_be_cancelled() -> None:
    journal = MemoryJournal("r1")
    journal.tell(Noted(text="nobody hears it"))
    hears = asyncio.create_task(journal.cancelled())
    await asyncio.sleep(0)
    assert not hears.done()
    await journal.record("cancel.e1", None, kind="cancel")
    async with asyncio.timeout(2):
        await hears
    assert (journal.run, journal.epoch, len(journal.steps())) == ("r1", 1, 1)
    await journal.aclose()


# --- which store ---


def test_the_file_lies_where_programs_keep_their_state(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    usual = tmp_path / ".local" / "state" / "electrictown" / "journal.db"
    assert journal_file(home) == usual
    assert journal_file({**home, "XDG_STATE_HOME": "relative"}) == usual
    assert (
        journal_file({**home, "XDG_STATE_HOME": str(tmp_path / "x")})
        == tmp_path / "x/electrictown/journal.db"
    )


async def test_a_store_by_its_name(tmp_path: Path) -> None:
    store = await open_store(None, {"HOME": str(tmp_path)})
    await store.aclose()
    assert journal_file({"HOME": str(tmp_path)}).exists()
    store = await open_store(str(tmp_path / "own.db"), {})
    await store.aclose()
    assert (tmp_path / "own.db").exists()


async def test_a_database_of_another_kind_is_refused_without_its_password() -> None:
    with pytest.raises(UsageError, match=r"mysql://\*\*\*@host/db") as caught:
        await open_store("mysql://me:very-secret@host/db", {})
    assert "postgresql://" in caught.value.hint


async def test_what_postgresql_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "electrictown.journal.postgres", None)
    for url in ("postgresql://host/db", "postgres://host/db"):
        with pytest.raises(UsageError, match="not installed") as caught:
            await open_store(url, {})
        assert "electrictown[cluster]" in caught.value.hint


def test_sqlite_is_not_loaded_before_it_is_needed() -> None:
    code = (
        "import sys, electrictown.journal.journal, electrictown.journal.records, electrictown.journal.memory,"
        " electrictown.journal.stores; print('sqlite3' in sys.modules)"
    )
    # Who measures coverage loads it too.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    assert done.stdout.strip() == "False"
