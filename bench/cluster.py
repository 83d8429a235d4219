"""What remembering costs a run, and what handing subtasks to other processes costs.

The cluster is a real one on this machine: a PostgreSQL of its own, `et worker` processes, and the driver's
side in this one. The models answer at once, so that nothing is measured but the program.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import cast

from msgspec.structs import replace

from bench.figures import Effort, Figure
from bench.host import FakeServer, Reply, Seen, children_cpu
from electrictown.budget.caps import Caps
from electrictown.config import Config, load_config
from electrictown.engine.dispatch import Dispatcher
from electrictown.engine.team import RunOptions
from electrictown.journal.journal import Journal
from electrictown.journal.memory import MemoryJournal
from electrictown.journal.postgres import PostgresStore
from electrictown.journal.records import Header
from electrictown.journal.sqlite import SqliteStore
from electrictown.town import Town
from electrictown.work import Done, Plan, Subtask, Task
from tests.fakes.postgres import PostgresCluster, programs

__all__ = ["cluster", "remembered"]

_TASK = Task("measure what is not the models'")
_REVIEW = '{"critique": "It does what was asked.", "score": 9}'
_WORK = "def main() -> None:\n    print('a part of the program')\n" * 8
_WORKERS, _AT_ONCE = 3, 4
_OPTIONS = RunOptions(brief=False, synthesize=False, refinery=False)


async def remembered(effort: Effort) -> list[Figure]:
    """CPU of a run of 200 subtasks, worked and reviewed, with a journal on disk and with one in memory."""
    plan = _plan("", effort.subtasks)
    kept: list[float] = []
    forgotten: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        config = _scripted(Path(folder))
        for number in range(effort.rounds + 1):  # the first of each warms up
            forgotten.append(await _cpu(config, plan, MemoryJournal(f"forgotten{number}")))
            store = await SqliteStore.open(Path(folder) / "journal.db")
            header = _header(config, plan)
            kept.append(await _cpu(config, plan, await store.begin(f"kept{number}", header)))
            await store.aclose()
    costs = [(disk - memory) / effort.subtasks for disk, memory in zip(kept[1:], forgotten[1:], strict=True)]
    return [
        Figure(
            name=f"journal of a run of {effort.subtasks} subtasks, CPU each",
            value=median(costs),
            unit="ms",
            goal=5,
            note=f"the whole run {median(kept[1:]) / effort.subtasks:.2f} ms each, "
            f"without a journal {median(forgotten[1:]) / effort.subtasks:.2f}",
        )
    ]


async def _cpu(config: Config, plan: Plan, journal: Journal) -> float:
    """CPU in milliseconds, of all threads, from before the run to after its last commit."""
    async with Town.open(config) as town:
        began = time.process_time()
        report = await town.run(_TASK, _with(plan), journal=journal)
        await journal.aclose()
        spent = (time.process_time() - began) * 1e3
    assert report.exit_code == 0, report.error
    return spent


async def cluster(effort: Effort) -> list[Figure]:
    """From a subtask's being ready to a worker's having begun it, and how many three workers do a second."""
    if programs() is None:
        note = "PostgreSQL is not installed: scripts/debian-packages.sh test"
        return [Figure(name="cluster", value=math.nan, unit="", note=note)]
    before = children_cpu()
    with PostgresCluster(fsync="on") as server, tempfile.TemporaryDirectory() as name:
        async with FakeServer(_reply, remember=False) as models, _workers(server.database()) as store:
            config = load_config(str(_served(Path(name), models.url)))
            async with _driven(store, config, _plan("w", _WORKERS * _AT_ONCE * 2)) as warm:
                await _worked(warm)
            one: list[float] = []
            begun: list[float] = []
            async with _driven(store, config, _plan("d", max(3, effort.subtasks // 4))) as lonely:
                for subtask in lonely.plan.subtasks:
                    ready = time.time()
                    await lonely.dispatcher.hand_out(subtask.id)
                    one.append((time.time() - ready) * 1e3)
                    begun.append((await lonely.begun(subtask.id) - ready) * 1e3)
            async with _driven(store, config, _plan("t", effort.subtasks)) as many:
                spent, began = time.process_time(), time.perf_counter()
                await _worked(many)
                wall = time.perf_counter() - began
                driver = (time.process_time() - spent) * 1e3 / effort.subtasks
        others = children_cpu() - before
    begun.sort()
    return [
        Figure(
            name="cluster, from ready to begun",
            value=median(begun),
            unit="ms",
            note=f"nine of ten within {begun[len(begun) * 9 // 10]:.1f}; "
            f"ready to result with two calls {median(one):.1f}",
        ),
        Figure(
            name=f"cluster, subtasks of {_WORKERS} workers",
            value=effort.subtasks / wall,
            unit="subtasks/s",
            note=f"{_AT_ONCE} at once each; driver and models {driver:.1f} ms CPU a subtask; "
            f"all of PostgreSQL and the workers {others:.1f} s CPU in all",
        ),
    ]


class _Driven:
    """One run in the hands of a driver that only hands out."""

    def __init__(self, plan: Plan, dispatcher: Dispatcher, database: PostgresStore, run: str) -> None:
        self.plan = plan
        self.dispatcher = dispatcher
        self._database = database.database
        self._run = run

    async def begun(self, subtask: str) -> float:
        """When a worker has taken the subtask, by the clock of the server, which is this machine's."""
        connection = await self._database.connect("bench")
        try:
            query = "SELECT at FROM electrictown.leases WHERE run = %s AND subtask = %s"
            row = await (await connection.execute(query, (self._run, subtask))).fetchone()
        finally:
            await connection.close()
        return cast("tuple[float]", row)[0]


@asynccontextmanager
async def _driven(store: PostgresStore, config: Config, plan: Plan) -> AsyncGenerator[_Driven]:
    run = f"measured-{plan.subtasks[0].id}"
    journal = await store.begin(run, _header(config, plan))
    journal.note(f"budget.e{journal.epoch}", Caps(), kind="budget")
    await journal.record("plan", plan, kind="plan")
    try:
        async with Dispatcher(store.database, journal) as dispatcher:
            yield _Driven(plan, dispatcher, store, run)
    finally:
        await journal.aclose()


async def _worked(driven: _Driven) -> None:
    """All subtasks at once."""
    results = await asyncio.gather(*(driven.dispatcher.hand_out(s.id) for s in driven.plan.subtasks))
    assert all(isinstance(result, Done) for result in results), results


@asynccontextmanager
async def _workers(url: str) -> AsyncGenerator[PostgresStore]:
    """The store of a database where three workers wait for work."""
    store = await PostgresStore.open(url)
    environ = {**os.environ, "ELECTRICTOWN_DB": url, "NO_PROXY": "*"}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    processes = [await _worker(number, environ) for number in range(_WORKERS)]
    try:
        await asyncio.gather(*(_ready(process) for process in processes))
        yield store
    finally:
        await store.aclose()
        for process in processes:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(process.communicate() for process in processes))


async def _worker(number: int, environ: dict[str, str]) -> Process:
    et = Path(sys.executable).with_name("et")
    words = ("worker", "--name", f"bench{number}", "--concurrency", str(_AT_ONCE))
    return await asyncio.create_subprocess_exec(et, *words, env=environ, stderr=asyncio.subprocess.PIPE)


async def _ready(worker: Process) -> None:
    assert worker.stderr is not None
    told = await worker.stderr.readline()
    assert b" subtasks at once" in told, told.decode() + (await worker.stderr.read()).decode()


def _plan(name: str, subtasks: int) -> Plan:
    parts = (Subtask(f"{name}t{n:03}", f"write part {n} of the program") for n in range(1, subtasks + 1))
    return Plan(_TASK.text, tuple(parts))


def _with(plan: Plan) -> RunOptions:
    return replace(_OPTIONS, plan=plan)


def _header(config: Config, plan: Plan) -> Header:
    return Town(config).header(_TASK, _with(plan))


def _reply(seen: Seen) -> Reply:
    return Reply(text=_REVIEW if "Review this work." in seen.prompt else _WORK)


def _served(folder: Path, url: str) -> Path:
    """Four hosts of one server, each with four calls in flight, and a fifth for the reviews."""
    return _configured(
        folder, [f"{{type: ollama, base_url: {url}/host{n}, max_in_flight: 4}}" for n in range(5)]
    )


def _scripted(folder: Path) -> Config:
    """Models that answer within the process."""
    (folder / "script.yaml").write_text(
        f"- when: {{user: Review this work.}}\n  repeat: true\n  text: '{_REVIEW}'\n"
        f"- repeat: true\n  text: |\n    {_WORK.replace(chr(10), chr(10) + '    ').rstrip()}\n"
    )
    hosts = ["{type: scripted, script: script.yaml, max_in_flight: 4}"] * 5
    return load_config(str(_configured(folder, hosts)))


def _configured(folder: Path, hosts: Sequence[str]) -> Path:
    file = folder / "electrictown.yaml"
    workers = range(len(hosts) - 1)
    lines = ["providers:", *(f"  host{n}: {host}" for n, host in enumerate(hosts)), "models:"]
    lines += [
        f"  model{n}: {{provider: host{n}, model: fake-model, max_in_flight: 4}}" for n in range(len(hosts))
    ]
    lines += [
        "roles:",
        f"  mayor: {{model: model{len(workers)}}}",
        f"  witness: {{model: model{len(workers)}}}",
    ]
    lines += [f"  polecat: {{model: model0, pool: [{', '.join(f'model{n}' for n in workers)}]}}", ""]
    file.write_text("\n".join(lines))
    return file
