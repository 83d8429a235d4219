"""What is measured, and what it should come to."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from bench.cluster import cluster, remembered
from bench.figures import QUICK, Effort, Figure, Row
from bench.host import ROOT, Host, Reply, cpu_of, serving
from bench.journals import resumed, steps
from bench.questions import Shape
from bench.sessions import sessions
from tests.fakes.town_kit import FakeTown

__all__ = ["MEASURES", "QUICK", "Effort", "Figure"]


async def _client(host: Host, name: str, scenario: str, wire: str, count: int) -> Row:
    command = [sys.executable, "-m", "bench.client", name, scenario, wire, host.server.url, str(count)]
    row: Row = json.loads((await host.run(command)).stdout)
    return row


# --- the Router against a client by hand ------------------------------------------------------------


async def per_request(effort: Effort) -> list[Figure]:
    """CPU of one whole reply, in the process that asks."""
    return await _compare(effort, "requests", effort.requests, "request", 1.4)


async def per_event(effort: Effort) -> list[Figure]:
    """CPU of one event of a stream of 5,000."""
    return await _compare(effort, "events", effort.streams, "stream event", 1.3)


async def _compare(effort: Effort, scenario: str, count: int, what: str, goal: float) -> list[Figure]:
    """The usual ratio of the two clients, for every wire; every round is a new process that runs both."""
    rows: dict[str, list[Row]] = {wire: [] for wire in effort.wires}
    async with serving() as host:
        await _client(host, "raw,routed", scenario, effort.wires[0], 1)  # modules are compiled once
        for number in range(effort.rounds):
            for wire in effort.wires if number < 3 else effort.wires[:1]:
                rows[wire].append(await _client(host, "raw,routed", scenario, wire, count))
    return [
        Figure(
            name=f"CPU per {what}, {wire}",
            value=median(row["ratio"] for row in found),
            unit="x raw",
            goal=goal,
            raw=min(row["raw"] for row in found),
            routed=min(row["routed"] for row in found),
            note=f"at best {min(row['routed'] for row in found):.1f} us, "
            f"raw {min(row['raw'] for row in found):.1f} us",
        )
        for wire, found in rows.items()
    ]


async def busy(effort: Effort) -> list[Figure]:
    """64 streams of 50 events a second."""
    rows, raw = await _paced(effort, 64, Shape(50 * effort.paced_seconds, 20), max(1, effort.rounds - 2))
    best, by_hand = min(rows, key=_share), min(raw, key=_share)
    note = f"raw {by_hand['share']:.1%} and {by_hand['rss_mb']:.0f} MB"
    return [
        Figure(
            name="64 streams of 50/s, share of a core",
            value=best["share"] * 100,
            unit="%",
            goal=15,
            note=note,
        ),
        Figure(
            name="64 streams of 50/s, peak memory", value=max(r["rss_mb"] for r in rows), unit="MB", goal=60
        ),
    ]


async def many(effort: Effort) -> list[Figure]:
    """1,000 streams of 10 events a second."""
    shape = Shape(20 * effort.paced_seconds, 100)
    rows, raw = await _paced(effort, effort.many, shape, min(2, effort.rounds))
    best, by_hand = min(rows, key=_share), min(raw, key=_share)
    whole = min(r["whole"] for r in rows)
    return [
        Figure(
            name=f"{effort.many} streams of 10/s, events lost",
            value=max(r["lost"] for r in rows),
            unit="events",
            goal=0,
            note=f"{whole:.0f} of {effort.many} replies whole, {best['share']:.0%} of a core, "
            f"raw {by_hand['share']:.0%}",
        ),
        Figure(
            name=f"{effort.many} streams of 10/s, peak memory",
            value=max(r["rss_mb"] for r in rows),
            unit="MB",
            goal=150,
            note=f"raw {by_hand['rss_mb']:.0f} MB",
        ),
    ]


def _share(row: Row) -> float:
    return row["share"]


async def _paced(effort: Effort, count: int, shape: Shape, rounds: int) -> tuple[list[Row], list[Row]]:
    rows: dict[str, list[Row]] = {"routed": [], "raw": []}
    async with serving() as host:
        await _client(host, "routed", "paced:2,1", "openai", 1)
        for _ in range(rounds):
            for name, found in rows.items():
                scenario = f"paced:{shape.events},{shape.pause}"
                found.append(await _client(host, name, scenario, "openai", count))
    return rows["routed"], rows["raw"]


# --- the start of the program -----------------------------------------------------------------------

_ET = Path(sys.executable).with_name("et")
_ONE_FILE = ROOT / "build" / "et"
_HEAVY = (
    "aiohttp",
    "httpx",
    "httpx2",
    "requests",
    "http",
    "yaml",
    "pydantic",
    "rich",
    "genai_prices",
    "libtmux",
    "prompt_toolkit",
)
_TASK = "implement binary search in Python"


async def version(effort: Effort) -> list[Figure]:
    """`et version`: the CPU of the whole process, and what it loads."""
    async with serving() as host:
        runs = [await host.run([_ET, "version"]) for _ in range(effort.starts + 1)][1:]
        bare = [await host.run([sys.executable, "-c", ""]) for _ in range(effort.starts)]
        told = await host.run([sys.executable, "-X", "importtime", _ET, "version"])
    modules = [line.rpartition("|")[2].strip() for line in told.stderr.splitlines() if "|" in line][1:]
    heavy = sorted({m.partition(".")[0] for m in modules}.intersection(_HEAVY))
    return [
        Figure(
            name="et version, CPU",
            value=median(r.cpu_ms for r in runs),
            unit="ms",
            goal=50,
            note=f"an empty Python {median(r.cpu_ms for r in bare):.0f} ms, "
            f"wall {median(r.wall_ms for r in runs):.0f} ms",
        ),
        Figure(
            name="et version, heavy libraries loaded",
            value=len(heavy),
            unit="modules",
            goal=0,
            note=", ".join(heavy) or f"{len(modules)} modules, no HTTP, YAML, pydantic, rich",
        ),
    ]


async def first_request(effort: Effort) -> list[Figure]:
    """`et run`: the CPU that the process has used when its first request is at the server."""
    runs = [await _first_request([_ET]) for _ in range(effort.starts + 1)][1:]
    async with serving() as host:
        alone = [await host.run([sys.executable, "-c", "import aiohttp"]) for _ in range(effort.starts)]
    return [
        Figure(
            name="et run to its first request, CPU",
            value=median(cpu for cpu, _ in runs),
            unit="ms",
            goal=400,
            note=f"best {min(cpu for cpu, _ in runs):.0f}, wall {median(wall for _, wall in runs):.0f} ms, "
            f"a bare import of aiohttp {median(r.cpu_ms for r in alone):.0f} ms",
        )
    ]


async def _first_request(et: list[Path], environ: dict[str, str] | None = None) -> tuple[float, float]:
    """CPU and wall in ms until the first request has arrived."""
    async with _config(_single) as (host, folder):
        loop = asyncio.get_running_loop()
        process, began = 0, 0.0
        found: list[tuple[float, float]] = []

        def started(pid: int) -> None:
            nonlocal process, began
            process, began = pid, loop.time()

        def arrived(_seen: object) -> None:
            if not found:
                found.append((cpu_of(process), (loop.time() - began) * 1e3))

        host.server.on_request = arrived
        await host.run([*et, "run", _TASK], folder=folder, started=started, environ=environ)
        return found[0]


async def one_file(effort: Effort) -> list[Figure]:
    """How much slower the one-file `et` starts."""
    if not _ONE_FILE.exists():
        return [Figure(name="one-file et", value=math.nan, unit="", note="not built: `make build` makes it")]
    with tempfile.TemporaryDirectory() as cache:
        environ = {"PEX_ROOT": cache}
        async with serving() as host:
            first = await host.run([_ONE_FILE, "version"], environ=environ)
            packed = [await host.run([_ONE_FILE, "version"], environ=environ) for _ in range(effort.starts)]
            plain = [await host.run([_ET, "version"]) for _ in range(effort.starts)]
        await _first_request([_ONE_FILE], environ)
        runs = [await _first_request([_ONE_FILE], environ) for _ in range(effort.starts)]
    return [
        Figure(
            name="one-file et version, CPU",
            value=median(r.cpu_ms for r in packed),
            unit="ms",
            note=f"installed {median(r.cpu_ms for r in plain):.0f} ms; "
            f"the very first start unpacks: {first.wall_ms / 1e3:.1f} s wall",
        ),
        Figure(
            name="one-file et run to its first request, CPU",
            value=median(cpu for cpu, _ in runs),
            unit="ms",
        ),
    ]


# --- a whole run ------------------------------------------------------------------------------------

_HOSTS, _SUBTASKS, _CALL = 4, 8, 0.3


async def pool_run(effort: Effort) -> list[Figure]:
    """Eight subtasks on four hosts: plan, brief, work, review on a fifth host, synthesis; 300 ms a call."""
    walls: list[float] = []
    calls = 0
    for _ in range(max(1, effort.rounds - 1)):
        async with _config(_pool) as (host, folder):
            await host.run([_ET, "run", _TASK], folder=folder)
            seen = host.server.chats
            calls = len(seen)
            walls.append(max(s.ended for s in seen) - min(s.started for s in seen))
    return [
        Figure(
            name="pool run, first request to last reply",
            value=median(walls),
            unit="s",
            goal=2.1,
            note=f"{calls} calls; the bound is {(1 + 1 + _SUBTASKS / _HOSTS + 1 + 1) * _CALL:.1f} s, "
            f"worst {max(walls):.2f} s",
        )
    ]


def _reply(text: str) -> Reply:
    return Reply(text=text, latency=_CALL, output_tokens=len(text.split()))


def _town() -> FakeTown:
    subtasks = (
        f"{n}. write part {n} of the program, which depends on no other" for n in range(1, _SUBTASKS + 1)
    )
    return FakeTown(
        plan=_reply("\n".join(subtasks)),
        brief=_reply("Name the parts part1 to part8; each has one function main()."),
        work=_reply("def main() -> None:\n    print('a part of the program')\n" * 8),
        review=_reply('{"critique": "It does what was asked.", "score": 9}'),
        synthesize=_reply("The whole program, put together from its parts. " * 8),
    )


def _pool(url: str) -> str:
    hosts = range(_HOSTS)
    lines = ["providers:"]
    lines += [f"  host{n}: {{type: ollama, base_url: {url}/host{n}}}" for n in hosts]
    lines += [f"  fifth: {{type: ollama, base_url: {url}/fifth, max_in_flight: 4}}", "models:"]
    lines += [f"  worker{n}: {{provider: host{n}, model: fake-model}}" for n in hosts]
    lines += ["  chief: {provider: fifth, model: fake-model}", "roles:", "  mayor: {model: chief}"]
    lines += [f"  polecat: {{model: worker0, pool: [{', '.join(f'worker{n}' for n in hosts)}]}}"]
    return "\n".join([*lines, "  witness: {model: chief}", ""])


def _single(url: str) -> str:
    return (
        f"providers:\n  main: {{type: openai, base_url: {url}/v1, api_key: sk-bench}}\n"
        "models:\n  worker: {provider: main, model: gpt-4o}\n"
        "roles:\n  mayor: {model: worker}\n  polecat: {model: worker}\n"
    )


@asynccontextmanager
async def _config(write: Callable[[str], str]) -> AsyncGenerator[tuple[Host, Path]]:
    """A fake town and a folder with the configuration of it."""
    async with serving(_town()) as host:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            folder.joinpath("electrictown.yaml").write_text(write(host.server.url))
            yield host, folder


MEASURES: dict[str, Callable[[Effort], Awaitable[list[Figure]]]] = {
    "requests": per_request,
    "events": per_event,
    "busy": busy,
    "many": many,
    "version": version,
    "start": first_request,
    "pool": pool_run,
    "onefile": one_file,
    "steps": steps,
    "resume": resumed,
    "remembered": remembered,
    "cluster": cluster,
    "sessions": sessions,
}
