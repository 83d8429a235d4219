"""What every store keeps to, whatever it keeps its steps in."""

from __future__ import annotations

import asyncio
import os
import socket
import time

import msgspec
import pytest
from store_kinds import Place, header, report

from electrictown.errors import JournalError, RunBusyError, UnknownRunError
from electrictown.events import Noted, PhaseStarted, SubtaskProgress, TextReset, TextStreamed
from electrictown.journal.journal import Store
from electrictown.journal.records import Cancelled, Driver, Header
from electrictown.redact import Secret


class Counted:
    """A function that counts its runs."""

    def __init__(self, value: object = "value", failure: Exception | None = None) -> None:
        self.runs = 0
        self._value = value
        self._failure = failure

    async def __call__(self) -> object:
        self.runs += 1
        await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure
        return self._value


# --- steps ---


async def test_a_step_runs_once_and_is_remembered(store: Store) -> None:
    journal = await store.begin("r1", header())
    paid = Counted({"text": "hallo"})
    for _ in range(3):
        assert await journal.step("plan", paid, dict, kind="call") == {"text": "hallo"}
    assert paid.runs == 1
    assert journal.recorded("plan", dict) == {"text": "hallo"}
    await journal.aclose()


async def test_a_step_of_an_earlier_driver_is_not_run_again(place: Place, store: Store) -> None:
    journal = await store.begin("r1", header())
    await journal.step("plan", Counted(41), int, kind="call")
    await journal.aclose()
    other = await place.open()
    again = await other.resume("r1")
    paid = Counted(42)
    assert await again.step("plan", paid, int, kind="call") == 41
    assert paid.runs == 0
    await again.aclose()
    await other.aclose()


async def test_a_step_that_gave_nothing_is_remembered_too(store: Store) -> None:
    journal = await store.begin("r1", header())
    paid = Counted(None)
    assert await journal.step("empty", paid, type(None), kind="call") is None
    assert await journal.step("empty", paid, type(None), kind="call") is None
    assert paid.runs == 1
    await journal.aclose()


async def test_the_first_value_stands(store: Store) -> None:
    journal = await store.begin("r1", header())
    assert await journal.record("k", 1, kind="x")
    assert not await journal.record("k", 2, kind="x")
    journal.note("k", 3, kind="x")
    assert await journal.step("k", Counted(4), int, kind="x") == 1
    await journal.aclose()
    assert [step.read(int) for step in await store.steps("r1", kinds=("x",))] == [1]


async def test_a_value_that_was_recorded_meanwhile_wins(store: Store) -> None:
    journal = await store.begin("r1", header())

    async def slow() -> int:
        await journal.record("k", 1, kind="x")
        return 2

    assert await journal.step("k", slow, int, kind="x") == 1
    await journal.aclose()


async def test_a_noted_key_is_not_paid_for_again(store: Store) -> None:
    journal = await store.begin("r1", header())
    paid = Counted(2)
    journal.note("k", 1, kind="x")
    assert await journal.step("k", paid, int, kind="x") == 1
    assert paid.runs == 0
    await journal.aclose()


async def test_a_failure_records_nothing(store: Store) -> None:
    journal = await store.begin("r1", header())
    with pytest.raises(ValueError, match="no luck"):
        await journal.step("k", Counted(failure=ValueError("no luck")), int, kind="x")
    assert journal.recorded("k", int) is None
    assert await journal.step("k", Counted(5), int, kind="x") == 5
    await journal.aclose()


async def test_many_who_want_one_step_share_one_run(store: Store) -> None:
    journal = await store.begin("r1", header())
    paid = Counted(7)
    found = await asyncio.gather(*(journal.step("k", paid, int, kind="x") for _ in range(20)))
    assert found == [7] * 20
    assert paid.runs == 1
    await journal.aclose()


async def test_the_next_in_line_has_its_turn_when_the_first_fails(store: Store) -> None:
    journal = await store.begin("r1", header())
    first = journal.step("k", Counted(failure=ValueError("no luck")), int, kind="x")
    found = await asyncio.gather(first, journal.step("k", Counted(8), int, kind="x"), return_exceptions=True)
    assert isinstance(found[0], ValueError)
    assert found[1] == 8
    await journal.aclose()


async def test_who_is_cancelled_at_work_records_nothing(store: Store) -> None:
    journal = await store.begin("r1", header())
    task = asyncio.create_task(journal.step("k", asyncio.Event().wait, bool, kind="x"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await journal.step("k", Counted(9), int, kind="x") == 9
    await journal.aclose()


async def test_who_is_cancelled_in_the_commit_is_cancelled_after_it(store: Store) -> None:
    journal = await store.begin("r1", header())
    task: asyncio.Task[int] | None = None

    async def pay() -> int:
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        return 10

    task = asyncio.create_task(journal.step("k", pay, int, kind="x"))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert journal.recorded("k", int) == 10
    await journal.aclose()


async def test_notes_are_committed_before_what_is_recorded_later(store: Store) -> None:
    journal = await store.begin("r1", header())
    for number in range(50):
        journal.note(f"n{number}", number, kind="x")
    await journal.record("last", 50, kind="x")
    found = await store.steps("r1", kinds=("x",))
    assert [step.read(int) for step in found] == list(range(51))
    assert [step.seq for step in found] == sorted(step.seq for step in found)
    assert [step.key for step in journal.steps(("x",))] == [step.key for step in found]
    await journal.aclose()


async def test_closing_commits_what_was_noted(store: Store) -> None:
    journal = await store.begin("r1", header())
    journal.note("k", 1, kind="x")
    await journal.aclose()
    await journal.aclose()
    assert [step.key for step in await store.steps("r1", kinds=("x",))] == ["k"]
    with pytest.raises(JournalError, match="closed"):
        await journal.record("late", 1, kind="x")
    with pytest.raises(JournalError, match="closed"):
        journal.note("late", 1, kind="x")


async def test_a_step_tells_run_kind_epoch_and_time(store: Store) -> None:
    began = time.time()
    journal = await store.begin("r1", header())
    await journal.record("t07.attempt1", {"n": 1}, kind="attempt")
    step = journal.steps(("attempt",))[0]
    assert (step.run, step.key, step.kind, step.epoch) == ("r1", "t07.attempt1", "attempt", 1)
    assert began - 60 < step.at < time.time() + 60
    assert await store.steps("r1", kinds=("attempt",)) == [step]
    await journal.aclose()


async def test_a_value_of_another_type_is_named(store: Store) -> None:
    journal = await store.begin("r1", header())
    await journal.record("k", "text", kind="x")
    with pytest.raises(JournalError, match=r"step k of the run r1") as caught:
        journal.recorded("k", int)
    assert caught.value.hint
    await journal.aclose()


async def test_what_json_cannot_hold_is_refused_and_the_run_goes_on(store: Store) -> None:
    journal = await store.begin("r1", header())
    with pytest.raises(JournalError, match="type object"):
        await journal.record("k", object(), kind="x")
    assert await journal.record("k", 1, kind="x")
    await journal.aclose()


@pytest.mark.parametrize(
    "text", ["", "ein \u00fc, \U0001f600 and \u2028", "a\nb\t\x01", "x" * 200_000, '"\\"']
)
async def test_text_comes_back_as_it_was(place: Place, store: Store, text: str) -> None:
    journal = await store.begin("r1", header())
    await journal.record("k", {"text": text}, kind="x")
    await journal.aclose()
    again = await store.resume("r1")
    assert again.recorded("k", dict) == {"text": text}
    await again.aclose()


async def test_half_an_emoji_does_not_cost_the_reply(store: Store) -> None:
    journal = await store.begin("r1", header())
    await journal.record("k", {"text": "fine \ud83d but for this"}, kind="x")
    assert journal.recorded("k", dict) == {"text": "fine ? but for this"}
    await journal.aclose()


# --- secrets ---


@pytest.mark.parametrize(
    "secret", ["sk-very-secret", 'with "quotes" and \\', "two\nlines of it", '","key":"']
)
async def test_no_secret_is_kept(store: Store, secret: str) -> None:
    Secret(secret)
    journal = await store.begin("r1", header(f"my key is {secret}!"))
    value = {"text": f"the key {secret} it is", secret: ["a", "b", 12], "more": {"deep": [secret]}}
    await journal.record("k", value, kind="x")
    journal.tell(Noted(text=f"they said {secret}."))
    await journal.aclose()
    kept = [step.value for step in await store.steps("r1")] + [line.event for line in await store.lines("r1")]
    assert len(kept) == 4
    for raw in kept:
        assert secret not in str(msgspec.json.decode(raw))
    assert msgspec.json.decode(kept[2]) == {
        "text": "the key *** it is",
        "***": ["a", "b", 12],
        "more": {"deep": ["***"]},
    }


async def test_what_only_looks_like_a_secret_across_two_values_breaks_nothing(store: Store) -> None:
    Secret("123456")
    journal = await store.begin("r1", header())
    value = {"urls": ["http://a", "b@c"], "number": 1234567}
    await journal.record("k", value, kind="x")
    assert journal.recorded("k", dict) == value
    await journal.aclose()


# --- drivers ---


async def test_every_driver_is_a_step_and_an_epoch(store: Store) -> None:
    journal = await store.begin("r1", header())
    assert (journal.run, journal.epoch) == ("r1", 1)
    await journal.aclose()
    for epoch in (2, 3):
        journal = await store.resume("r1")
        assert journal.epoch == epoch
        await journal.aclose()
    drivers = await store.steps("r1", kinds=("driver",))
    assert [(step.key, step.epoch) for step in drivers] == [(f"driver.{n}", n) for n in (1, 2, 3)]
    driver = drivers[0].read(Driver)
    assert (driver.pid, driver.host) == (os.getpid(), socket.gethostname())
    assert (await store.find("r1")).drivers == 3


async def test_the_header_is_the_first_step(store: Store) -> None:
    journal = await store.begin("r1", header())
    assert journal.recorded("run", Header) == header()
    assert [step.key for step in journal.steps()] == ["run", "driver.1"]
    await journal.aclose()


async def test_a_run_has_one_driver(place: Place, store: Store) -> None:
    journal = await store.begin("r1", header())
    other = await place.open()
    for busy in (store, other):
        with pytest.raises(RunBusyError, match=f"{os.getpid()} on {socket.gethostname()}") as caught:
            await busy.resume("r1")
        assert "et cancel r1" in caught.value.hint
    await journal.aclose()
    again = await other.resume("r1")
    assert again.epoch == 2
    await again.aclose()
    await other.aclose()


async def test_of_many_who_resume_at_once_one_drives(place: Place, store: Store) -> None:
    await (await store.begin("r1", header())).aclose()
    stores = [await place.open() for _ in range(4)]
    found = await asyncio.gather(*(each.resume("r1") for each in stores), return_exceptions=True)
    drivers = [each for each in found if not isinstance(each, BaseException)]
    assert len(drivers) == 1
    assert all(isinstance(each, RunBusyError) for each in found if isinstance(each, BaseException))
    await drivers[0].aclose()
    for each in stores:
        await each.aclose()


async def test_a_run_begins_once(store: Store) -> None:
    await (await store.begin("r1", header())).aclose()
    with pytest.raises(JournalError, match="r1") as caught:
        await store.begin("r1", header("another"))
    assert "et resume r1" in caught.value.hint
    again = await store.resume("r1")  # who failed to begin it does not hold it
    assert again.recorded("run", Header) == header()
    await again.aclose()


async def test_a_run_that_is_not_there_is_unknown(store: Store) -> None:
    with pytest.raises(UnknownRunError, match="nothing"):
        await store.resume("nothing")
    with pytest.raises(UnknownRunError, match="nothing"):
        await store.cancel("nothing")
    assert await store.steps("nothing") == []
    assert await store.lines("nothing") == []


async def test_who_is_cancelled_while_it_begins_drives_nothing(store: Store) -> None:
    for wait in range(6):
        task = asyncio.create_task(store.begin(f"r{wait}", header()))
        for _ in range(wait):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not [row for row in await store.runs() if row.state == "running"]


# --- the feed ---


async def test_events_are_numbered_over_all_drivers(store: Store) -> None:
    journal = await store.begin("r1", header())
    for number in range(150):
        journal.tell(Noted(text=str(number)))
    await journal.aclose()
    journal = await store.resume("r1")
    journal.tell(Noted(text="150", time=5.0))
    await journal.aclose()
    lines = await store.lines("r1")
    assert [line.seq for line in lines] == list(range(1, 152))
    assert [msgspec.json.decode(line.event, type=Noted).text for line in lines] == [
        str(n) for n in range(151)
    ]
    assert lines[-1].at == 5.0
    assert [line.seq for line in await store.lines("r1", after=100, limit=3)] == [101, 102, 103]


async def test_pieces_of_text_and_progress_are_not_kept(store: Store) -> None:
    journal = await store.begin("r1", header())
    journal.tell(TextStreamed(text="a", phase="work"))
    journal.tell(TextReset(phase="work", reason="x"))
    journal.tell(SubtaskProgress(subtask="t1", tokens=3))
    journal.tell(PhaseStarted(phase="plan"))
    await journal.aclose()
    assert [b"phase.started" in line.event for line in await store.lines("r1")] == [True]


async def test_events_are_there_soon_without_anybody_waiting(store: Store) -> None:
    journal = await store.begin("r1", header())
    journal.tell(Noted(text="hallo"))
    async with asyncio.timeout(5):
        while not await store.lines("r1"):
            await asyncio.sleep(0.05)
    await journal.aclose()
    journal.tell(Noted(text="too late"))
    assert len(await store.lines("r1")) == 1


# --- looking ---


async def test_runs_are_listed_newest_first(store: Store) -> None:
    for number in range(4):
        await (await store.begin(f"r{number}", header(f"task {number}"))).aclose()
    rows = await store.runs()
    assert [(row.run, row.task) for row in rows] == [(f"r{n}", f"task {n}") for n in (3, 2, 1, 0)]
    assert [row.run for row in await store.runs(limit=2)] == ["r3", "r2"]
    assert [row.run for row in await store.runs(since=rows[1].started)] == ["r3", "r2"]
    assert await store.runs(since=time.time() + 60) == []


async def test_the_order_does_not_depend_on_the_clock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = await store.begin("later", header())
    await journal.record("k1", 1, kind="x")
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: 1000.0)  # an hour, or fifty years, back
        await journal.record("k2", 2, kind="x")
        await journal.aclose()
        await (await store.begin("newest", header())).aclose()
    again = await store.resume("later")
    assert [step.read(int) for step in again.steps(("x",))] == [1, 2]
    assert again.epoch == 2
    await again.aclose()
    assert [row.run for row in await store.runs()] == ["newest", "later"]
    assert (await store.find("last")).run == "newest"


async def test_a_run_is_found_by_its_beginning(store: Store) -> None:
    for run in ("amber-fox", "amber-owl", "blue", "blue-jay"):
        await (await store.begin(run, header())).aclose()
    for name, run in {
        "amber-f": "amber-fox",
        "blue": "blue",
        "blue-": "blue-jay",
        "last": "blue-jay",
    }.items():
        assert (await store.find(name)).run == run
    for name in ("amber", "b", "red", "", "%", "AMBER-F"):
        with pytest.raises(UnknownRunError):
            await store.find(name)


async def test_no_run_is_last_of_none(store: Store) -> None:
    assert await store.runs() == []
    with pytest.raises(UnknownRunError):
        await store.find("last")


@pytest.mark.parametrize("outcome", ["done", "failed", "interrupted"])
async def test_the_end_of_a_run_gives_its_state(store: Store, outcome: str) -> None:
    journal = await store.begin("r1", header())
    await journal.record("end.e1", report("r1", outcome, 3), kind="end")
    assert (await store.find("r1")).state == "running"
    await journal.aclose()
    row = await store.find("r1")
    assert (row.state, row.exit_code) == (outcome, 3)
    assert row.ended is not None
    assert row.ended >= row.started


async def test_a_run_without_an_end_that_nobody_drives_is_stopped(store: Store) -> None:
    journal = await store.begin("r1", header())
    await journal.record("end.e1", report("r1", "interrupted", 130), kind="end")
    await journal.aclose()
    await (await store.resume("r1")).aclose()  # this driver wrote no end
    row = await store.find("r1")
    assert (row.state, row.ended, row.exit_code, row.drivers) == ("stopped", None, None, 2)


async def test_steps_of_all_runs_by_kind_and_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in ("r1", "r2"):
        journal = await store.begin(run, header())
        await journal.record("a.e1.r1.settled", {"usd": 1}, kind="settle")
        await journal.record("old", 1, kind="x")
        await journal.aclose()
    found = await store.steps(kinds=("settle", "x"))
    assert [(step.run, step.kind) for step in found] == [
        ("r1", "settle"), ("r1", "x"), ("r2", "settle"), ("r2", "x"),
    ]  # fmt: skip
    assert await store.steps(kinds=("settle",), since=found[2].at) == [found[2]]
    assert await store.steps(since=time.time() + 60) == []


# --- to cancel ---


async def test_the_driver_hears_that_it_is_to_stop(place: Place, store: Store) -> None:
    journal = await store.begin("r1", header())
    hears = asyncio.create_task(journal.cancelled())
    await asyncio.sleep(0.02)
    assert not hears.done()
    other = await place.open()
    await other.cancel("r1")
    await other.cancel("r1")
    async with asyncio.timeout(1.5):
        await hears
    assert (await store.find("r1")).state == "running"
    await journal.aclose()
    assert (await store.find("r1")).state == "cancelled"
    step = (await store.steps("r1", kinds=("cancel",)))[0]
    assert (step.key, step.read(Cancelled).at) == ("cancel.e1", step.at)
    await other.aclose()


async def test_who_goes_on_with_a_cancelled_run_is_not_stopped_by_the_old_wish(store: Store) -> None:
    journal = await store.begin("r1", header())
    await store.cancel("r1")
    await journal.aclose()
    again = await store.resume("r1")
    hears = asyncio.create_task(again.cancelled())
    await asyncio.sleep(0.7)
    assert not hears.done()
    await store.cancel("r1")
    await asyncio.wait_for(hears, 2)
    await again.aclose()
    assert (await store.find("r1")).state == "cancelled"


async def test_who_no_longer_listens_leaves_nothing_open(store: Store) -> None:
    journal = await store.begin("r1", header())
    for wait in range(5):
        hears = asyncio.create_task(journal.cancelled())
        for _ in range(wait):
            await asyncio.sleep(0.001)
        hears.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hears
    await journal.aclose()


async def test_what_is_done_stays_done(store: Store) -> None:
    journal = await store.begin("r1", header())
    await journal.record("end.e1", report("r1"), kind="end")
    await journal.aclose()
    await store.cancel("r1")
    assert (await store.find("r1")).state == "done"
