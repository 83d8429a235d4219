"""Subtasks that other processes work: what becomes of them when those die, freeze, or are asked to stop."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from electrictown.engine.cluster import Job, JobQueue, make_queue
from electrictown.engine.dispatch import Dispatcher, failed_key
from electrictown.engine.fleet import Janitor, Registration
from electrictown.engine.working import WorkerLoop
from electrictown.errors import BudgetExceeded, ElectrictownError, PlanError
from electrictown.events import Event
from electrictown.journal.postgres import PostgresStore
from electrictown.journal.postgres_journal import PostgresJournal
from electrictown.journal.records import Header
from electrictown.postgres import Link
from electrictown.work import Done, Failed, Result, Task
from fakes.postgres import PostgresCluster

PROGRAM = Path(__file__).with_name("worker_program.py")
HEARTBEAT = 1.0


class Fleet:
    """A run with its driver here, and workers that are processes."""

    def __init__(self, url: str, log: Path, store: PostgresStore, journal: PostgresJournal) -> None:
        self.url = url
        self.log = log
        self.store = store
        self.journal = journal
        self.processes: dict[str, Process] = {}
        self.events: list[Event] = []
        self.dispatcher = Dispatcher(store.database, journal, heartbeat=HEARTBEAT, emit=self.events.append)

    async def start(self, name: str, *, seconds: float = 0.0, heartbeat: float = HEARTBEAT) -> None:
        self.processes[name] = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), self.url, name, str(heartbeat), str(self.log), str(seconds)
        )
        await self.says(f"here {name}")

    def send(self, name: str, number: signal.Signals) -> None:
        self.processes[name].send_signal(number)

    def lines(self, begin: str) -> list[str]:
        text = self.log.read_text() if self.log.exists() else ""
        return [line for line in text.splitlines() if line.startswith(begin)]

    async def says(self, begin: str) -> str:
        async with asyncio.timeout(30):
            while not (found := self.lines(begin)):
                await asyncio.sleep(0.02)
        return found[0]

    async def ended(self, name: str) -> int:
        async with asyncio.timeout(30):
            return await self.processes[name].wait()

    async def results(self, *subtasks: str) -> list[Result]:
        async with asyncio.timeout(60):
            return list(await asyncio.gather(*(self.dispatcher.hand_out(subtask) for subtask in subtasks)))


@pytest.fixture
async def fleet(url: str, tmp_path: Path) -> AsyncGenerator[Fleet]:
    store = await PostgresStore.open(url, owner="driver", patience=30.0)
    journal = await store.begin("r1", Header(Task("much")))
    fleet = Fleet(url, tmp_path / "log", store, journal)
    async with fleet.dispatcher:
        yield fleet
        for process in fleet.processes.values():
            if process.returncode is None:
                process.kill()
                process.send_signal(signal.SIGCONT)
                await process.wait()
    await journal.aclose()
    await store.aclose()


async def jobs(fleet: Fleet, cluster: PostgresCluster) -> list[tuple[object, ...]]:
    return cluster.execute("SELECT lock, status FROM electrictown_jobs.procrastinate_jobs", fleet.url)


async def test_subtasks_are_worked_elsewhere_and_their_results_heard(
    fleet: Fleet, cluster: PostgresCluster
) -> None:
    await fleet.start("w1")
    await fleet.start("w2")
    subtasks = [f"t{n}" for n in range(12)]
    results = await fleet.results(*subtasks)
    assert [result.subtask for result in results] == subtasks
    assert all(isinstance(result, Done) for result in results)
    assert len(fleet.lines("paid")) == 12
    async with asyncio.timeout(10):
        while await jobs(fleet, cluster):
            await asyncio.sleep(0.02)
    tables = cluster.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", fleet.url)
    assert tables == [(0,)]


async def test_one_subtask_that_is_handed_out_twice_is_worked_once(fleet: Fleet) -> None:
    first = asyncio.create_task(fleet.dispatcher.hand_out("t1"))
    second = asyncio.create_task(fleet.dispatcher.hand_out("t1"))
    await asyncio.sleep(0.1)
    await fleet.start("w1", seconds=0.2)
    assert await first == await second
    again = await fleet.dispatcher.hand_out("t1")
    assert again == await first
    assert len(fleet.lines("paid")) == 1


async def test_the_work_of_a_killed_worker_is_taken_up(
    fleet: Fleet, record_property: Callable[[str, object], None]
) -> None:
    await fleet.start("w1", seconds=60)
    working = asyncio.create_task(fleet.dispatcher.hand_out("t1"))
    await fleet.says("paid t1 w1")
    await fleet.start("w2")
    fleet.send("w1", signal.SIGKILL)
    killed = time.monotonic()
    await fleet.says("paid t1 w2")
    heartbeats = (time.monotonic() - killed) / HEARTBEAT
    result = await working
    assert isinstance(result, Done)
    assert result.text == "done by w2"
    record_property("taken up after", f"{heartbeats:.1f} heartbeats")


async def test_a_worker_that_freezes_and_wakes_changes_nothing_any_more(
    fleet: Fleet, cluster: PostgresCluster
) -> None:
    await fleet.start("w1", seconds=1.0)
    working = asyncio.create_task(fleet.dispatcher.hand_out("t1"))
    await fleet.says("paid t1 w1")
    fleet.send("w1", signal.SIGSTOP)
    await fleet.start("w2")
    result = await working
    assert isinstance(result, Done)
    assert result.text == "done by w2"
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'et w1 %'"
    assert cluster.execute(left, fleet.url) == [(0,)]
    fleet.send("w1", signal.SIGCONT)
    await fleet.says("# w1 this worker waits")  # it has noticed, and begins anew
    assert not fleet.lines("committed t1 w1")
    await fleet.start("w3", seconds=0.5)
    fleet.send("w2", signal.SIGTERM)
    fleet.send("w3", signal.SIGTERM)
    await fleet.ended("w2")
    await fleet.ended("w3")
    assert isinstance((await fleet.results("t2"))[0], Done)  # by w1, which lives again
    assert fleet.lines("paid t2") == ["paid t2 w1"]
    steps = [(step.key, step.kind) for step in await fleet.store.steps("r1", kinds=("attempt", "result"))]
    assert sorted(steps) == [
        ("t1.attempt1", "attempt"),
        ("t1.result", "result"),
        ("t2.attempt1", "attempt"),
        ("t2.result", "result"),
    ]


async def test_a_restart_of_the_database_costs_no_work(fleet: Fleet, cluster: PostgresCluster) -> None:
    await fleet.start("w1", seconds=0.5)
    await fleet.start("w2", seconds=0.5)
    subtasks = [f"t{n}" for n in range(8)]
    working = asyncio.create_task(fleet.results(*subtasks))
    await fleet.says("committed")
    await cluster.restarted()
    results = await working
    assert [result.subtask for result in results if isinstance(result, Done)] == subtasks
    paid = [line.split()[1] for line in fleet.lines("paid")]
    committed = {line.split()[1] for line in fleet.lines("committed")}
    assert sorted(set(paid)) == sorted(committed) == sorted(subtasks)
    attempts = await fleet.store.steps("r1", kinds=("attempt",))
    assert sorted(step.key for step in attempts) == sorted(f"{subtask}.attempt1" for subtask in subtasks)


async def test_a_worker_drains_and_leaves_the_rest_to_others(fleet: Fleet, cluster: PostgresCluster) -> None:
    await fleet.start("w1", seconds=0.7)
    working = [asyncio.create_task(fleet.dispatcher.hand_out(f"t{n}")) for n in range(3)]
    await fleet.says("paid")
    fleet.send("w1", signal.SIGTERM)
    assert await fleet.ended("w1") == 0
    assert fleet.lines("ended w1")
    begun = {line.split()[1] for line in fleet.lines("paid")}
    assert begun == {line.split()[1] for line in fleet.lines("committed")}
    assert len(begun) < 3
    assert cluster.execute("SELECT count(*) FROM electrictown.workers", fleet.url) == [(0,)]
    await fleet.start("w2")
    await asyncio.gather(*working)
    assert len(fleet.lines("paid")) == 3


async def test_a_second_wish_lets_go_of_what_is_under_way_for_others_at_once(fleet: Fleet) -> None:
    await fleet.start("w1", seconds=60)
    working = asyncio.create_task(fleet.dispatcher.hand_out("t1"))
    await fleet.says("paid t1 w1")
    fleet.send("w1", signal.SIGTERM)
    await asyncio.sleep(0.2)
    assert fleet.processes["w1"].returncode is None
    fleet.send("w1", signal.SIGTERM)
    assert await fleet.ended("w1") == 0
    await fleet.start("w2")
    result = await working
    assert isinstance(result, Done)
    assert result.text == "done by w2"


async def test_a_driver_that_stops_withdraws_what_nobody_has_begun(
    fleet: Fleet, cluster: PostgresCluster
) -> None:
    tasks = [asyncio.create_task(fleet.dispatcher.hand_out(f"t{n}")) for n in range(3)]
    async with asyncio.timeout(10):
        while len(await jobs(fleet, cluster)) < 3:
            await asyncio.sleep(0.02)
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    assert len(await jobs(fleet, cluster)) == 2
    for task in tasks[1:]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await jobs(fleet, cluster) == []


async def test_a_job_that_was_lost_is_put_again(fleet: Fleet, cluster: PostgresCluster) -> None:
    working = asyncio.create_task(fleet.dispatcher.hand_out("t1"))
    async with asyncio.timeout(10):
        while not await jobs(fleet, cluster):
            await asyncio.sleep(0.02)
    cluster.execute("SET search_path TO electrictown_jobs; DELETE FROM procrastinate_jobs", fleet.url)
    await fleet.start("w1")
    assert isinstance(await working, Done)


async def test_workers_leave_a_cancelled_run_alone(fleet: Fleet, cluster: PostgresCluster) -> None:
    await fleet.store.cancel("r1")
    working = asyncio.create_task(fleet.dispatcher.hand_out("t1"))
    await fleet.start("w1")
    async with asyncio.timeout(10):
        while await jobs(fleet, cluster):
            await asyncio.sleep(0.02)
    assert not fleet.lines("paid")
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_a_worker_cuts_off_what_belongs_to_a_run_that_is_cancelled(
    fleet: Fleet, cluster: PostgresCluster
) -> None:
    await fleet.start("w1", seconds=60)
    handed = asyncio.create_task(fleet.dispatcher.hand_out("t1"))
    await fleet.says("paid t1 w1")
    await fleet.store.cancel("r1")
    async with asyncio.timeout(10):
        while await jobs(fleet, cluster):
            await asyncio.sleep(0.02)
    assert not fleet.lines("committed")
    assert await fleet.store.steps("r1", kinds=("outcome", "result")) == []
    handed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handed


async def test_a_worker_drains_though_the_database_is_away(fleet: Fleet, cluster: PostgresCluster) -> None:
    await fleet.start("w1")
    await fleet.results("t1")
    await asyncio.to_thread(cluster.stop)
    try:
        await fleet.says("# w1 this worker waits")
        fleet.send("w1", signal.SIGTERM)
        assert await fleet.ended("w1") == 0
    finally:
        await cluster.started()


# --- a worker in this process


@asynccontextmanager
async def working(url: str, perform: object, **settings: float) -> AsyncGenerator[WorkerLoop]:
    store = await PostgresStore.open(url, owner="here", patience=30.0)
    loop = WorkerLoop(store, perform, heartbeat=HEARTBEAT, **settings)  # type: ignore[arg-type]
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        loop.stop()
        await task
        await store.aclose()


async def test_a_subtask_that_fails_is_told_and_may_be_tried_by_the_next_driver(fleet: Fleet) -> None:
    errors: list[ElectrictownError] = [PlanError("no luck", "try harder"), BudgetExceeded("spent", "more")]

    async def perform(journal: PostgresJournal, subtask: str) -> Result:
        raise errors.pop(0)

    async with working(fleet.url, perform) as loop:
        result = await fleet.dispatcher.hand_out("t1")
        assert isinstance(result, Failed)
        assert (result.error.type, result.error.hint) == ("PlanError", "try harder")
        with pytest.raises(BudgetExceeded, match="spent"):
            await fleet.dispatcher.hand_out("t2")
        assert (loop.state.failed, loop.state.done) == (2, 0)
    assert fleet.journal.recorded(failed_key("t1", 1), Failed) == result
    assert failed_key("t1", 1) != failed_key("t1", 2)


async def test_a_defect_in_the_work_is_tried_again_and_then_told(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("electrictown.engine.working._TRIES", 2)
    begun = 0

    async def perform(journal: PostgresJournal, subtask: str) -> Result:
        nonlocal begun
        begun += 1
        raise ZeroDivisionError("a defect")

    async with working(fleet.url, perform):
        result = await fleet.dispatcher.hand_out("t1")
    assert isinstance(result, Failed)
    assert (begun, result.error.type) == (2, "ZeroDivisionError")


async def test_what_may_not_go_on_here_is_let_go_of_and_fetched_anew(fleet: Fleet) -> None:
    begun = asyncio.Event()
    times = 0

    async def perform(journal: PostgresJournal, subtask: str) -> Result:
        nonlocal times
        times += 1
        begun.set()
        if times == 1:
            await asyncio.Event().wait()
        return Done(subtask, "fine")

    async with working(fleet.url, perform) as loop:
        handed = asyncio.create_task(fleet.dispatcher.hand_out("t1"))
        await begun.wait()
        assert loop.state.running == (("r1", "t1"),)
        loop.abandon(ElectrictownError("slots are lost"))
        assert await handed == Done("t1", "fine")
        assert (times, loop.state.abandoned) == (2, 1)


async def test_a_worker_that_cannot_say_that_it_lives_lets_go_of_its_work(
    fleet: Fleet, cluster: PostgresCluster
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def perform(journal: PostgresJournal, subtask: str) -> Result:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async with working(fleet.url, perform) as loop:
        handed = asyncio.create_task(fleet.dispatcher.hand_out("t1"))
        await begun.wait()
        await asyncio.to_thread(cluster.stop)
        try:
            async with asyncio.timeout(10):
                await ended.wait()
        finally:
            await cluster.started()
        begun.clear()
        async with asyncio.timeout(30):
            await begun.wait()  # it came back by itself, and fetched the work again
        loop.stop()
        handed.cancel()
        await asyncio.gather(handed, return_exceptions=True)


async def test_two_janitors_clear_away_once(url: str, fleet: Fleet, cluster: PostgresCluster) -> None:
    row = Registration(fleet.store.database.named("dead"), "dead")
    await row.enter()
    await row.beat(None)
    assert await row.beat(None)
    job = Job("r1", "t1")
    notes: list[str] = []
    async with JobQueue(fleet.store.database) as queue:
        await queue.put(job)
        cluster.execute(
            "SET search_path TO electrictown_jobs;"
            " UPDATE procrastinate_jobs SET status = 'doing', worker_id ="
            " (SELECT worker_id FROM procrastinate_register_worker_v1());"
            " UPDATE electrictown.workers SET fetcher = (SELECT worker_id FROM procrastinate_jobs)",
            url,
        )
        janitors = [Janitor(fleet.store.database, queue, 0.0, notes.append) for _ in range(2)]
        counts = await asyncio.gather(*(janitor.sweep() for janitor in janitors))
        counts += [await janitor.sweep() for janitor in janitors]
        assert sum(counts) == 1
        assert not await row.beat(None)
        assert await queue.missing([job]) == []
        for janitor in janitors:
            await janitor.aclose()
    await row.aclose()
    assert await jobs(fleet, cluster) == [("r1/t1", "todo")]
    assert [note for note in notes if "given up" in note] == [
        "the worker dead was silent for 0 s and is given up"
    ]


async def test_the_queue_is_made_once_by_however_many(url: str) -> None:
    store = await PostgresStore.open(url)
    links = [Link(store.database, "setup") for _ in range(4)]
    await asyncio.gather(*(make_queue(link) for link in links))
    await make_queue(links[0])
    for link in links:
        await link.aclose()
    await store.aclose()
