"""What the journal on this machine costs: steps a second, and how long a long run takes to take up again."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from bench.figures import Effort, Figure
from electrictown.journal.journal import Journal
from electrictown.journal.records import Header
from electrictown.journal.sqlite import SqliteStore
from electrictown.work import Task

__all__ = ["resumed", "steps"]

_TASKS = 64
_VALUE = {
    "response": {"text": "def main() -> None:\n    print('a part of the program')\n" * 30, "model": "fake"}
}
"""A reply of about two kilobytes, as a call of a worker's gives."""


async def steps(effort: Effort) -> list[Figure]:
    """Steps that are on the disk when they return: one after the other, and by 64 tasks at once."""
    alone: list[float] = []
    together: list[float] = []
    async with _file() as file:
        store = await SqliteStore.open(file)
        journal = await store.begin("measured", Header(Task("a task")))
        for number in range(effort.rounds):
            alone.append(await _rate(journal, f"alone{number}", 1, max(1, effort.steps // 10)))
            together.append(await _rate(journal, f"together{number}", _TASKS, max(1, effort.steps // _TASKS)))
        await journal.aclose()
        await store.aclose()
    return [
        Figure(name="journal, steps one after the other", value=median(alone), unit="steps/s"),
        Figure(name=f"journal, steps of {_TASKS} tasks", value=median(together), unit="steps/s"),
    ]


async def _rate(journal: Journal, name: str, tasks: int, each: int) -> float:
    async def write(task: int) -> None:
        for number in range(each):
            await journal.record(f"{name}.t{task}.call{number}", _VALUE, kind="call")

    began = time.perf_counter()
    await asyncio.gather(*(write(task) for task in range(tasks)))
    return tasks * each / (time.perf_counter() - began)


async def resumed(effort: Effort) -> list[Figure]:
    """From opening the file to a journal that answers, for a run of 5,000 steps."""
    found: list[float] = []
    async with _file() as file:
        store = await SqliteStore.open(file)
        journal = await store.begin("measured", Header(Task("a task")))
        for number in range(effort.steps):
            journal.note(f"t{number}.call", _VALUE, kind="call")
        await journal.aclose()
        await store.aclose()
        for _ in range(effort.rounds):
            began = time.perf_counter()
            store = await SqliteStore.open(file)
            journal = await store.resume("measured")
            found.append(time.perf_counter() - began)
            await journal.aclose()
            await store.aclose()
    return [
        Figure(
            name=f"resume of a run of {effort.steps} steps",
            value=median(found),
            unit="s",
            goal=0.5,
            note=f"worst {max(found):.3f} s",
        )
    ]


@asynccontextmanager
async def _file() -> AsyncGenerator[Path]:
    """A journal's file that goes with the measure, on the disk of TMPDIR."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "journal.db"
