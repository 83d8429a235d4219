"""The other side: the fake server in this process, the measured programs in processes of their own.

The server has one core and whoever is measured the other, where there are two.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from msgspec import Struct

from bench.questions import shape_of

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from tests.fakes.fake_server import FakeServer, Reply, Seen  # noqa: E402  (its own imports want the path)

__all__ = ["ROOT", "FakeServer", "Finished", "Host", "Reply", "Seen", "children_cpu", "cpu_of", "serving"]

_LIMIT = 120.0
"""Seconds that one measurement may take."""


class Finished(Struct, frozen=True):
    """A program that has ended: its output, and its CPU and wall time in milliseconds."""

    stdout: str
    stderr: str
    cpu_ms: float
    wall_ms: float


class Host:
    """The server, and a way to run programs beside it. One program at a time."""

    def __init__(self, server: FakeServer, core: int | None) -> None:
        self.server = server
        self._core = core

    async def run(
        self,
        command: Sequence[str | Path],
        *,
        environ: Mapping[str, str] | None = None,
        folder: Path = ROOT,
        started: Callable[[int], None] = lambda pid: None,
    ) -> Finished:
        """Run `command` on the measured core; `started` hears its process id.

        Raises:
            RuntimeError: when it fails; the message holds what it said.
        """
        loop = asyncio.get_running_loop()
        spent, began = children_cpu(), loop.time()
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={**_environment(), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if self._core is not None:
            os.sched_setaffinity(process.pid, {self._core})
        started(process.pid)
        try:
            async with asyncio.timeout(_LIMIT):
                out, told = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        wall = loop.time() - began
        if process.returncode:
            raise RuntimeError(f"{' '.join(map(str, command))}: exit {process.returncode}\n{told.decode()}")
        return Finished(out.decode(), told.decode(), (children_cpu() - spent) * 1e3, wall * 1e3)


@asynccontextmanager
async def serving(reply: Callable[[Seen], str | Reply] | None = None) -> AsyncGenerator[Host]:
    """The server with `reply`, by default what the path asks for, on a core of its own."""
    cores = sorted(os.sched_getaffinity(0))
    measured = cores[0] if len(cores) > 1 else None
    if measured is not None:
        os.sched_setaffinity(0, set(cores[1:]))
    try:
        async with FakeServer(reply or _as_the_path_says, remember=reply is not None) as server:
            yield Host(server, measured)
    finally:
        os.sched_setaffinity(0, set(cores))


def cpu_of(pid: int) -> float:
    """The CPU time of a running process so far, all its threads, in milliseconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6


@cache
def _reply(path: str) -> Reply:
    shape = shape_of(path)
    if shape is None:
        return Reply(text="def search(items, wanted): ... " * 20, output_tokens=180)
    return Reply(pieces=shape.pieces, pause=shape.pause / 1e3, output_tokens=shape.events)


def _as_the_path_says(seen: Seen) -> Reply:
    return _reply(seen.host)


def children_cpu() -> float:
    """CPU in seconds of all processes that this one has started and seen end."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _environment() -> dict[str, str]:
    """This environment, with compiled modules allowed, as in an installed program."""
    kept = {
        n: v for n, v in os.environ.items() if n not in {"PYTHONDONTWRITEBYTECODE", "PYTHONPROFILEIMPORTTIME"}
    }
    return {**kept, "NO_PROXY": "*"}
