"""The journal on this machine among other programs, which come, write at the same time, and are killed."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest
from store_kinds import header

from electrictown.errors import JournalError, RunBusyError
from electrictown.events import Noted
from electrictown.journal.sqlite import SqliteStore

CHILD = Path(__file__).with_name("driver_child.py")


async def start(file: Path, run: str, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), str(file), run, *arguments, stdout=PIPE, stderr=PIPE
    )


async def said(child: Process) -> str:
    assert child.stdout is not None
    async with asyncio.timeout(30):
        line = await child.stdout.readline()
    assert line, "the child has ended"
    return line.decode().strip()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


async def test_every_acknowledged_step_survives_being_killed(file: Path) -> None:
    acknowledged: list[str] = []
    chance = random.Random(7)
    for _ in range(6):
        child = await start(file, "r1", "write", "8", "0")
        assert await said(child) == "driving"
        await asyncio.sleep(chance.random() * 0.15)
        child.kill()
        rest, _ = await child.communicate()
        # The last line may have been cut by the kill: what was not said whole is not acknowledged.
        acknowledged += rest.decode().split("\n")[:-1]
    store = await SqliteStore.open(file)
    assert (await store.find("r1")).state == "stopped"
    journal = await store.resume("r1")
    assert journal.epoch == 7
    assert len(acknowledged) > 50
    for key in acknowledged:
        found = journal.recorded(key, dict)
        assert found is not None, key
        assert found["key"] == key
    await journal.aclose()
    await store.aclose()


async def test_programs_share_a_file_from_its_first_moment(file: Path) -> None:
    children = [await start(file, f"r{number}", "write", "5", "20") for number in range(4)]
    for child in children:
        _, errors = await child.communicate()
        assert child.returncode == 0, errors.decode()
    store = await SqliteStore.open(file)
    for number in range(4):
        steps = await store.steps(f"r{number}", kinds=("call",))
        assert len({step.key for step in steps}) == 100
    assert {row.run for row in await store.runs()} == {"r0", "r1", "r2", "r3"}
    await store.aclose()


async def test_the_lock_dies_with_its_process_whatever_that_has_started(file: Path) -> None:
    child = await start(file, "r1", "hold")
    await said(child)
    outlives = int(await said(child))
    store = await SqliteStore.open(file)
    try:
        with pytest.raises(RunBusyError, match=f"process {child.pid} on "):
            await store.resume("r1")
        assert (await store.find("r1")).state == "running"
        child.kill()
        await child.wait()
        os.kill(outlives, 0)  # it lives
        assert (await store.find("r1")).state == "stopped"
        journal = await store.resume("r1")
        assert journal.epoch == 2
        await journal.aclose()
    finally:
        os.kill(outlives, signal.SIGKILL)
        await store.aclose()
    assert list((file.parent / "runs").iterdir()) == []


async def test_a_file_that_may_not_grow_stops_the_run_and_loses_nothing(file: Path) -> None:
    child = await start(file, "r1", "small", "300000")
    out, errors = await child.communicate()
    assert child.returncode == 0, errors.decode()
    lines = out.decode().splitlines()
    kept = [line for line in lines if line.startswith("s") and line[1:].isdecimal()]
    assert len(kept) > 3
    assert any(line.startswith("stopped: the journal") for line in lines)
    assert any("what was committed is kept" in line for line in lines)
    assert lines[-1].startswith("still: the journal")
    store = await SqliteStore.open(file)
    journal = await store.resume("r1")
    assert [step.key for step in journal.steps(("call",))][: len(kept)] == kept
    assert journal.recorded("later", int) is None
    assert await journal.record("more", 1, kind="call")
    await journal.aclose()
    await store.aclose()


async def test_a_full_disk_stops_the_run_and_loses_nothing(disk: Path) -> None:
    ballast = disk / "ballast"
    store = await SqliteStore.open(disk / "journal.db")
    journal = await store.begin("r1", header())
    ballast.write_bytes(b"x" * 500_000)
    kept: list[str] = []

    async def fill() -> None:
        for number in range(1000):
            await journal.record(f"s{number}", "x" * 8000, kind="call")
            kept.append(f"s{number}")

    with pytest.raises(JournalError, match="no space left") as caught:
        await fill()
    assert "free some space" in caught.value.hint
    for _ in range(2):
        with pytest.raises(JournalError, match="no space left"):
            await journal.record("later", 1, kind="call")
    with pytest.raises(JournalError):
        await journal.aclose()
    ballast.unlink()
    again = await store.resume("r1")
    assert [step.key for step in again.steps(("call",))] == kept
    assert kept
    assert await again.record("later", 1, kind="call")
    await again.aclose()
    await store.aclose()


async def test_a_torn_tail_costs_nothing_that_was_whole(file: Path, tmp_path: Path) -> None:
    store = await SqliteStore.open(file)
    journal = await store.begin("r1", header())
    wal = file.with_name("journal.db-wal")
    sizes = [wal.stat().st_size]
    for number in range(12):
        await journal.record(f"s{number}", "x" * 3000, kind="call")
        sizes.append(wal.stat().st_size)
    chance = random.Random(3)
    for attempt in range(12):
        whole = chance.randrange(12)
        cut = chance.randrange(sizes[whole], sizes[whole + 1])
        copy = tmp_path / f"copy{attempt}"
        copy.mkdir()
        shutil.copy(file, copy)
        torn = copy / wal.name
        shutil.copy(wal, torn)
        if attempt % 2:
            os.truncate(torn, cut)
        else:  # the length is there, the bytes are not
            torn.write_bytes(torn.read_bytes()[:cut] + b"\0" * (sizes[-1] - cut))
        found = await SqliteStore.open(copy / file.name)
        again = await found.resume("r1")
        assert [step.key for step in again.steps(("call",))] == [f"s{n}" for n in range(whole)]
        assert await again.record("more", 1, kind="call")
        await again.aclose()
        await found.aclose()
    await journal.aclose()
    await store.aclose()


@pytest.fixture
def lock_holder() -> str:
    return (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.readline(); c.execute('ROLLBACK')"
    )


async def hold(holder: str, file: Path) -> Process:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-S", "-c", holder, str(file), stdin=PIPE, stdout=PIPE
    )
    assert await said(child) == "held"
    return child


async def let_go(child: Process) -> None:
    await child.communicate(b"\n")


async def test_a_lock_that_is_soon_gone_only_delays(file: Path, lock_holder: str) -> None:
    store = await SqliteStore.open(file, patience=5)
    journal = await store.begin("r1", header())
    holder = await hold(lock_holder, file)
    recording = asyncio.create_task(journal.record("k", 1, kind="x"))
    await asyncio.sleep(0.1)  # the loop is free meanwhile
    assert not recording.done()
    assert (await store.find("r1")).state == "running"  # and reading waits for nobody
    await let_go(holder)
    assert await recording
    await journal.aclose()
    await store.aclose()


async def test_a_lock_that_stays_is_said_and_stops_the_run(file: Path, lock_holder: str) -> None:
    store = await SqliteStore.open(file, patience=0.2)
    journal = await store.begin("r1", header())
    await journal.record("before", 1, kind="x")
    holder = await hold(lock_holder, file)
    with pytest.raises(JournalError, match="locked by another program") as caught:
        await journal.record("k", 1, kind="x")
    assert "fuser" in caught.value.hint
    await let_go(holder)
    with pytest.raises(JournalError, match="locked by another program"):
        await journal.step("k", pytest.fail, int, kind="x")  # nothing is paid that could not be kept
    assert journal.recorded("before", int) == 1
    with pytest.raises(JournalError, match="locked by another program"):
        await journal.aclose()
    again = await store.resume("r1")
    assert [step.key for step in again.steps(("x",))] == ["before"]
    await again.aclose()
    await store.aclose()


async def test_events_wait_until_a_lock_is_gone(file: Path, lock_holder: str) -> None:
    store = await SqliteStore.open(file, patience=0.1)
    journal = await store.begin("r1", header())
    holder = await hold(lock_holder, file)
    for number in range(70):  # so many are written at once
        journal.tell(Noted(text=str(number)))
    await asyncio.sleep(0.3)
    await let_go(holder)
    assert await journal.record("k", 1, kind="x")
    await journal.aclose()
    assert [line.seq for line in await store.lines("r1")] == list(range(1, 71))
    await store.aclose()


async def test_a_wal_that_nobody_closed_is_read_by_who_only_looks(file: Path) -> None:
    child = await start(file, "r1", "write", "1", "0")
    for _ in range(20):
        await said(child)
    child.kill()
    await child.communicate()
    assert file.with_name("journal.db-wal").stat().st_size > 0
    with sqlite3.connect(file) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    plain.close()
