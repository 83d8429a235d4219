"""What sessions cost: a start, a message until it is accepted, memory, idleness. Beside `tmux send-keys`."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from bench.figures import Effort, Figure
from bench.host import serving
from electrictown.pane.adapter import TownAdapter
from electrictown.sessions.background import BackgroundExecutor
from electrictown.sessions.ending import end
from electrictown.sessions.inbox import connected
from electrictown.sessions.launcher import SessionLauncher
from electrictown.sessions.messages import Accepted, Say
from electrictown.sessions.records import Record
from electrictown.sessions.registry import Registry
from electrictown.sessions.sending import new_id

__all__ = ["sessions"]

_TICK = os.sysconf("SC_CLK_TCK")
_LINE = b"add error handling"


async def sessions(effort: Effort) -> list[Figure]:
    """Starts, messages and an idle session, in the background; the same line as keys into a tmux pane."""
    async with serving() as host, _place() as place:
        launcher = SessionLauncher(place.registry, BackgroundExecutor())
        starts: list[float] = []
        for _ in range(effort.rounds):
            began = time.perf_counter()
            record = await _started(launcher, place, host.server.url)
            starts.append((time.perf_counter() - began) * 1e3)
            await end(record, place.registry, BackgroundExecutor())
        record = await _started(launcher, place, host.server.url)
        try:
            accepted = await _accepted(place.registry, record, effort.steps // 50)
            pid = place.registry.status(record).pid
            idle = await _cpu_share(pid, seconds=max(1, effort.rounds))
            memory = _memory(pid)
        finally:
            await end(record, place.registry, BackgroundExecutor())
        typed = await _typed(place.folder, effort.steps // 250)
    most = sorted(accepted)[len(accepted) * 9 // 10]
    beside = "" if typed is None else f"; tmux send-keys, which acknowledges nothing: {typed:.3g} ms"
    return [
        Figure(name="session, from spawn to ready", value=median(starts), unit="ms"),
        Figure(
            name="session, a message until it is accepted",
            value=median(accepted),
            unit="ms",
            note=f"on the disk then, nine of ten within {most:.3g}{beside}",
        ),
        Figure(name="session, memory", value=memory, unit="MB"),
        Figure(name="session that is idle, share of a core", value=idle, unit="%"),
    ]


class _Place:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry = Registry(folder / "sessions")


@asynccontextmanager
async def _place() -> AsyncGenerator[_Place]:
    with tempfile.TemporaryDirectory() as folder:
        yield _Place(Path(folder))


async def _started(launcher: SessionLauncher, place: _Place, url: str) -> Record:
    file = place.folder / "electrictown.yaml"
    file.write_text(
        f"providers:\n  here: {{type: openai, base_url: {url}/v1, api_key: none-needed}}\n"
        "models:\n  m: {provider: here, model: m}\nroles:\n  polecat: {model: m}\n"
    )
    adapter = TownAdapter(place.folder, os.environ, config=file)
    return await launcher.launch(adapter, role="polecat", folder=place.folder, config=str(file))


async def _accepted(registry: Registry, record: Record, count: int) -> list[float]:
    """Milliseconds until each of so many messages is accepted, every one on a connection of its own."""
    taken: list[float] = []
    for _ in range(max(10, count)):
        began = time.perf_counter()
        async with connected(record.name, registry.folder(record.name)) as line:
            await line.ask(Say(new_id(), _LINE), Accepted)
        taken.append((time.perf_counter() - began) * 1e3)
        await asyncio.sleep(0.02)  # so that it is answered meanwhile, and not only accepted
    return taken


async def _typed(folder: Path, count: int) -> float | None:
    """Milliseconds that `tmux send-keys` takes for the same line; None where there is no tmux."""
    tool = ("tmux", "-S", str(folder / "t"))
    try:
        await _run(*tool, "new-session", "-d", "-s", "keys", "--", "cat", "-")
    except FileNotFoundError:
        return None
    try:
        taken: list[float] = []
        for _ in range(max(5, count)):
            began = time.perf_counter()
            await _run(*tool, "send-keys", "-t", "=keys:", "--", _LINE.decode(), "Enter")
            taken.append((time.perf_counter() - began) * 1e3)
    finally:
        await _run(*tool, "kill-server")
    return median(taken)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    await process.wait()


async def _cpu_share(pid: int, seconds: float) -> float:
    began = _ticks(pid)
    await asyncio.sleep(seconds)
    return (_ticks(pid) - began) / _TICK / seconds * 100


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
