"""The lock of a run's driver, among many who want it and many who only look."""

from __future__ import annotations

import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from electrictown.errors import RunBusyError
from electrictown.journal.driver_lock import DriverLock, driven


def test_it_is_held_once_and_leaves_nothing_behind(tmp_path: Path) -> None:
    first, second = DriverLock(tmp_path, "r1"), DriverLock(tmp_path, "r1")
    first.take()
    assert driven(tmp_path) == {"r1"}
    with pytest.raises(RunBusyError, match=f"process {os.getpid()} on"):
        second.take()
    second.release()  # what it does not hold it does not release
    assert driven(tmp_path) == {"r1"}
    first.release()
    first.release()
    assert list(tmp_path.iterdir()) == []
    second.take()
    second.release()


@pytest.mark.parametrize("run", ["../escape", "a/b", "..", "with space", "r%41", "\u00fc"])
def test_any_name_stays_in_the_folder(tmp_path: Path, run: str) -> None:
    folder = tmp_path / "runs"
    lock = DriverLock(folder, run)
    lock.take()
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert len(list(folder.iterdir())) == 1
    assert driven(folder) == {run}
    lock.release()


def test_a_holder_that_did_not_say_who_it_is_stays_unknown(tmp_path: Path) -> None:
    lock = DriverLock(tmp_path, "r1")
    lock.take()
    next(tmp_path.iterdir()).write_bytes(b"")
    with pytest.raises(RunBusyError, match="another process"):
        DriverLock(tmp_path, "r1").take()
    lock.release()


def test_a_file_that_a_crash_left_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "r1.lock").write_bytes(b'{"pid":1,"host":"gone"}')
    assert driven(tmp_path) == set()
    lock = DriverLock(tmp_path, "r1")
    lock.take()
    lock.release()


def test_who_looks_takes_nobody_who_looks_for_a_driver(tmp_path: Path) -> None:
    left = tmp_path / "r1.lock"
    left.write_bytes(b"")
    with left.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert driven(tmp_path) == set()


def test_a_file_that_goes_between_opening_and_locking_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = DriverLock(tmp_path, "r1"), DriverLock(tmp_path, "r1")
    first.take()
    flock = fcntl.flock

    def slow(opened: int, how: int) -> None:
        first.release()
        flock(opened, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    second.take()
    assert driven(tmp_path) == {"r1"}
    second.release()


def test_a_folder_that_is_not_there_has_no_drivers(tmp_path: Path) -> None:
    assert driven(tmp_path / "runs") == set()


def test_many_who_take_it_in_turn_never_hold_it_together(tmp_path: Path) -> None:
    held: list[int] = []
    together: list[int] = []
    turns = 0

    def drive(number: int) -> None:
        nonlocal turns
        for _ in range(30):
            lock = DriverLock(tmp_path, "r1")
            try:
                lock.take()
            except RunBusyError:
                continue
            held.append(number)
            together.append(len(held))
            turns += 1
            held.remove(number)
            lock.release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(drive, range(4)))
    assert turns > 4
    assert set(together) == {1}
    assert list(tmp_path.iterdir()) == []


def test_who_only_looks_is_in_nobody_s_way(tmp_path: Path) -> None:
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            driven(tmp_path)

    with ThreadPoolExecutor(3) as pool:
        lookers = [pool.submit(look) for _ in range(3)]
        try:
            for _ in range(100):
                lock = DriverLock(tmp_path, "r1")
                lock.take()
                lock.release()
        finally:
            over.set()
        for looker in lookers:
            looker.result()
