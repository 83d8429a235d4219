"""Slots of one machine: locks that several processes share, and that die with them."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_kit import InstantLoop, question, target
from slots_program import HOST

from electrictown.errors import WorkspaceError
from electrictown.llm import machine_slots
from electrictown.llm.admission import MemoryAdmission
from electrictown.llm.machine_slots import MachineSlots
from electrictown.llm.slots import ProcessSlots, Slot, Slots
from fakes.fake_server import Reply
from fakes.town_kit import serving

PROGRAM = str(Path(__file__).with_name("slots_program.py"))


class Process:
    """A running `slots_program`, in a session of its own."""

    def __init__(self, *args: object) -> None:
        self.running = subprocess.Popen(
            [sys.executable, PROGRAM, *map(str, args)], stdout=subprocess.PIPE, start_new_session=True
        )

    def says(self) -> str:
        assert self.running.stdout is not None
        return self.running.stdout.readline().decode().strip()

    def signal(self, number: signal.Signals) -> None:
        self.running.send_signal(number)

    def end(self) -> None:
        """Kill it and all that it has started."""
        try:
            subprocess.run(["kill", "-KILL", "--", f"-{self.running.pid}"], check=False, capture_output=True)
        finally:
            self.running.wait(10)
            assert self.running.stdout is not None
            self.running.stdout.close()


@contextmanager
def process(*args: object) -> Generator[Process]:
    one = Process(*args)
    try:
        yield one
    finally:
        one.end()


def soon(slots: MachineSlots, limit: int = 1, seconds: float = 5.0) -> bool:
    """Whether a slot can be had, and given back, within so long; on a clock that does not jump."""

    async def main() -> bool:
        try:
            async with asyncio.timeout(seconds):
                (await slots.take(HOST, limit)).give()
        except TimeoutError:
            return False
        return True

    return asyncio.run(main())


def tickets(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("wait-*")]


def test_several_processes_never_ask_a_host_more_at_once_than_it_takes(tmp_path: Path) -> None:
    with serving(Reply(text="42", latency=0.005)) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        crowd = [Process("ask", tmp_path, (server.url, url)[n % 2], 2, 20) for n in range(3)]
        try:
            assert [one.says() for one in crowd] == ["here"] * 3
            assert [one.says() for one in crowd] == ["20"] * 3
        finally:
            for one in crowd:
                one.end()
        assert len(server.chats) == 60
        assert server.max_in_flight[""] == 2
    assert not tickets(tmp_path)


def test_a_process_that_is_killed_gives_its_slot_back(tmp_path: Path) -> None:
    slots = MachineSlots(tmp_path)
    with process("hold", tmp_path, 1) as holder:
        assert holder.says() == "taken"
        assert not soon(slots, seconds=0.05)
        holder.signal(signal.SIGKILL)
        assert soon(slots)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_waiter_that_died_or_was_stopped_holds_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: signal.Signals
) -> None:
    monkeypatch.setattr(machine_slots, "_STALE", 0.2)
    slots = MachineSlots(tmp_path)

    async def main() -> None:
        mine = await slots.take(HOST, 1)
        with process("wait", tmp_path, 1) as waiter:
            assert waiter.says() == "here"
            while not tickets(tmp_path):
                await asyncio.sleep(0.005)
            waiter.signal(how)
            mine.give()
            async with asyncio.timeout(5):
                (await slots.take(HOST, 1)).give()

    asyncio.run(main())


def test_a_stopped_waiter_goes_on_waiting_when_it_is_woken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_slots, "_STALE", 0.1)
    slots = MachineSlots(tmp_path)

    async def main() -> None:
        mine = await slots.take(HOST, 1)
        with process("wait", tmp_path, 1) as waiter:
            assert waiter.says() == "here"
            while not tickets(tmp_path):
                await asyncio.sleep(0.005)
            waiter.signal(signal.SIGSTOP)
            mine.give()
            async with asyncio.timeout(5):
                mine = await slots.take(HOST, 1)
            assert not tickets(tmp_path)
            waiter.signal(signal.SIGCONT)
            mine.give()
            assert waiter.says() == "taken"

    asyncio.run(main())


def test_a_child_that_outlives_its_parent_holds_no_slot(tmp_path: Path) -> None:
    with process("child", tmp_path, 1) as parent:
        assert [parent.says(), parent.says()] == ["taken", "started"]
        parent.running.wait(10)
        assert soon(MachineSlots(tmp_path))


async def test_cancelled_waiters_leave_nothing(tmp_path: Path) -> None:
    first, other = MachineSlots(tmp_path), MachineSlots(tmp_path)
    slot = await first.take(HOST, 1)
    waiting = [asyncio.create_task(s.take(HOST, 1)) for s in (first, other, first, other)]
    await asyncio.sleep(0.05)
    assert len(tickets(tmp_path)) == 2
    for one in waiting:
        one.cancel()
    assert all(
        isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*waiting, return_exceptions=True)
    )
    assert not tickets(tmp_path)
    slot.give()
    (await other.take(HOST, 1)).give()


async def test_a_busy_process_starves_nobody(tmp_path: Path) -> None:
    busy, late = MachineSlots(tmp_path), MachineSlots(tmp_path)
    served: list[str] = []

    async def call(name: str, slots: Slots) -> None:
        slot = await slots.take(HOST, 1)
        served.append(name)
        await asyncio.sleep(0.0337)  # never at the moment when the other looks
        slot.give()

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(call("busy", busy))
        await asyncio.sleep(0.1)
        before = len(served)
        for _ in range(3):
            group.create_task(call("late", late))
    after = served[before:]
    assert after.index("late") <= 1
    assert after[:7].count("late") == 3  # in turn: one of theirs, one of ours


async def test_each_keeps_to_its_own_limit_and_counts_the_calls_of_all(tmp_path: Path) -> None:
    narrow, wide = MachineSlots(tmp_path), MachineSlots(tmp_path)
    held = [await wide.take(HOST, 4) for _ in range(3)]
    held.pop(0).give()  # two are left, both on files beyond the first
    waiting = asyncio.create_task(narrow.take(HOST, 2))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    held.pop().give()
    async with asyncio.timeout(1):
        held.append(await waiting)
    held += [await wide.take(HOST, 4), await wide.take(HOST, 4)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await wide.take(HOST, 4)
    for slot in held:
        slot.give()


async def test_hosts_do_not_wait_for_each_other_and_names_are_no_paths(tmp_path: Path) -> None:
    slots = MachineSlots(tmp_path / "made" / "on demand")
    held = [await slots.take(host, 1) for host in ("a", "b", "../../c:80/d", "x" * 5000)]
    for slot in held:
        slot.give()
        slot.give()  # a second time does nothing
    assert [p.name for p in tmp_path.iterdir()] == ["made"]
    assert (tmp_path / "made" / "on demand").stat().st_mode & 0o077 == 0


async def test_somebody_who_cleans_up_costs_no_run(tmp_path: Path) -> None:
    slots = MachineSlots(tmp_path / "slots")
    slot = await slots.take(HOST, 1)
    waiting = asyncio.create_task(slots.take(HOST, 1))
    await asyncio.sleep(0.01)
    (tmp_path / "slots").rename(tmp_path / "gone")
    slot.give()
    async with asyncio.timeout(5):
        (await waiting).give()
        (await slots.take(HOST, 1)).give()


async def test_a_folder_that_cannot_be_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(WorkspaceError, match=r"file.*Not a directory"):
        await MachineSlots(tmp_path / "file").take(HOST, 1)


async def test_hosts_of_this_process_alone_leave_no_trace(tmp_path: Path) -> None:
    admission = MemoryAdmission(MachineSlots(tmp_path / "slots"))
    async with admission.admit(target("a", host="scripted", host_limit=1), question()):
        assert not (tmp_path / "slots").exists()
    async with admission.admit(target("a", host="a", address=HOST, host_limit=1), question()):
        waiting = asyncio.create_task(MachineSlots(tmp_path / "slots").take(HOST, 1))
        await asyncio.sleep(0.05)
        assert not waiting.done()
    (await waiting).give()


async def test_two_provider_entries_of_one_host_share_its_slots_but_not_their_health() -> None:
    admission = MemoryAdmission()
    one, other = (target(name, host=name, address=HOST, host_limit=1, model="m") for name in ("a", "b"))
    async with admission.admit(one, question()) as lease:
        assert lease is not None
        waiting = asyncio.create_task(admission.admit(other, question()).__aenter__())
        await asyncio.sleep(1)
        assert not waiting.done()
        lease.finished(None, None, 1.0)
    assert await waiting is not None
    assert (admission.speed(one) is None, admission.speed(other) is None) == (False, True)


_callers = st.lists(
    st.tuples(
        st.integers(0, 1),  # which process
        st.integers(1, 3),  # its limit
        st.integers(0, 4),  # when it comes
        st.integers(0, 4),  # how long it holds
        st.none() | st.integers(0, 8),  # when it is cancelled
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=60)
@given(st.booleans(), _callers)
def test_whatever_is_cancelled_limits_hold_and_everyone_is_served_in_turn(
    machine: bool, callers: list[tuple[int, int, int, int, int | None]]
) -> None:
    tick = 0.02
    widest = max(limit for _, limit, *_ in callers)

    async def main(folder: Path) -> None:
        in_memory = ProcessSlots()
        processes: list[Slots] = (
            [MachineSlots(folder), MachineSlots(folder)] if machine else [in_memory, in_memory]
        )
        running = 0
        came: list[list[int]] = [[], []]
        served: dict[int, float] = {}
        cancelled: set[int] = set()

        async def call(number: int, process: int, limit: int, comes: int, holds: int) -> None:
            nonlocal running
            slot: Slot | None = None
            try:
                await asyncio.sleep(comes * tick)
                came[process if machine else 0].append(number)
                slot = await processes[process].take(HOST, limit)
                served[number] = asyncio.get_running_loop().time()
                running += 1
                # In memory a slot is handed over before its caller runs, and a wider one may run first.
                assert running <= (limit if machine else widest)
                await asyncio.sleep(holds * tick)
            except asyncio.CancelledError:
                cancelled.add(number)
                raise
            finally:
                if slot is not None:
                    running -= 1
                    slot.give()

        tasks: list[asyncio.Task[None]] = []
        for number, (process, limit, comes, holds, cancel) in enumerate(callers):
            tasks.append(asyncio.create_task(call(number, process, limit, comes, holds)))
            if cancel is not None:
                asyncio.get_running_loop().call_later(cancel * tick, tasks[-1].cancel)
        async with asyncio.timeout(1000):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results), results
        for line in came:  # whose slots come in the same moment run in any order
            times = [served[n] for n in line if n not in cancelled]
            assert times == sorted(times)
        assert not tickets(folder)
        for slots in processes:  # every slot can be taken again
            for slot in [await slots.take(HOST, 3) for _ in range(3)]:
                slot.give()

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=InstantLoop) as runner:
        runner.run(main(Path(folder)))


async def test_a_free_slot_is_taken_without_waiting_for_anything(tmp_path: Path) -> None:
    slots = MachineSlots(tmp_path)
    for _ in range(3):
        taking = slots.take(HOST, 4)
        with pytest.raises(StopIteration) as ended:
            taking.send(None)  # it would give way here to the loop: to a timer, a thread, another task
        ended.value.value.give()
