"""One measurement in a process of its own: `python -m bench.client CLIENTS SCENARIO WIRE URL COUNT`.

It prints one line of JSON. `requests` and `events` compare `raw,routed`: the CPU of a request, of an
event of a long stream. `paced:EVENTS,PAUSE` drives COUNT streams of one client at once: their share of a
core, the memory, and what was lost.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import TypeAlias

from bench.clients import CLIENTS, Client
from bench.questions import LONG, SHORT, Shape

__all__ = ["main"]

_WARM, _BATCH = 50, 25

Row: TypeAlias = dict[str, float]


async def _requests(clients: Sequence[Client], count: int) -> Row:
    for client in clients:
        for _ in range(_WARM):
            await client.ask()

    async def batch(client: Client) -> None:
        for _ in range(_BATCH):
            await client.ask()

    return await _taking_turns(clients, batch, max(2, count // _BATCH), _BATCH)


async def _events(clients: Sequence[Client], count: int) -> Row:
    for client in clients:
        for shape in (SHORT, LONG):
            await client.stream(shape)

    async def batch(client: Client) -> None:
        number, _text = await client.stream(LONG)
        assert number == LONG.events

    return await _taking_turns(clients, batch, max(2, count), LONG.events)


async def _taking_turns(
    clients: Sequence[Client], batch: Callable[[Client], Awaitable[None]], times: int, size: int
) -> Row:
    """Microseconds of CPU of one of `size` things in a batch: each client's best, and the usual ratio.

    Batch by batch the clients take turns, so that what else the machine does meets both alike.
    """
    gc.collect()
    spent: dict[Client, list[float]] = {client: [] for client in clients}
    for number in range(times):
        for client in clients if number % 2 else reversed(clients):
            began = time.process_time()
            await batch(client)
            spent[client].append((time.process_time() - began) / size * 1e6)
    raw, routed = spent.values()
    ratios = [ours / by_hand for ours, by_hand in zip(routed, raw, strict=True)]
    return {"raw": min(raw), "routed": min(routed), "ratio": median(ratios)}


async def _paced(client: Client, count: int, shape: Shape) -> Row:
    await client.stream(SHORT)
    gc.collect()
    whole = (shape.events, "".join(shape.pieces))
    wall, began = time.perf_counter(), time.process_time()
    got = await asyncio.gather(*(client.stream(shape) for _ in range(count)))
    cpu, wall = time.process_time() - began, time.perf_counter() - wall
    return {
        "share": cpu / wall,
        "wall": wall,
        "us": cpu / count / shape.events * 1e6,
        "rss_mb": _peak_rss(),
        "lost": count * shape.events - sum(number for number, _ in got),
        "whole": sum(reply == whole for reply in got),
    }


def _peak_rss() -> float:
    """The most memory this process ever held, in MB. (`ru_maxrss` would count the parent's before exec.)"""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


async def _measure(names: str, scenario: str, wire: str, url: str, count: int) -> Row:
    kind, _, shaped = scenario.partition(":")
    events, _, pause = shaped.partition(",")
    shape = Shape(int(events), int(pause)) if shaped else LONG
    clients = [CLIENTS[name](wire, url, (SHORT, LONG, shape)) for name in names.split(",")]
    try:
        if kind == "paced":
            return await _paced(clients[0], count, shape)
        return await (_requests if kind == "requests" else _events)(clients, count)
    finally:
        for client in clients:
            await client.aclose()


def main() -> None:
    """Measure what the command line names."""
    name, scenario, wire, url, count = sys.argv[1:]
    print(json.dumps(asyncio.run(_measure(name, scenario, wire, url, int(count)))))


if __name__ == "__main__":
    main()
