"""One measurement in a process of its own: `python -m bench.client CLIENT SCENARIO WIRE URL COUNT`.

It prints one line of JSON. `requests`: microseconds of CPU a request, in the best of many batches, for
other programs on the machine only ever add to it. `events`: the same an event, in the best of COUNT long
streams. `paced`: COUNT streams at once, their share of a core, the memory, and what was lost.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import sys
import time
from pathlib import Path

from bench.clients import CLIENTS, Client
from bench.questions import LONG, SHORT, Shape

__all__ = ["main"]

_WARM, _BATCH = 50, 50


async def _requests(client: Client, count: int) -> dict[str, float]:
    for _ in range(_WARM):
        await client.ask()
    gc.collect()
    best = math.inf
    for _ in range(max(1, count // _BATCH)):
        began = time.process_time()
        for _ in range(_BATCH):
            await client.ask()
        best = min(best, time.process_time() - began)
    return {"us": best / _BATCH * 1e6}


async def _events(client: Client, count: int) -> dict[str, float]:
    for shape in (SHORT, LONG):
        await client.stream(shape)
    gc.collect()
    best = math.inf
    for _ in range(count):
        began = time.process_time()
        number, _text = await client.stream(LONG)
        best = min(best, time.process_time() - began)
        assert number == LONG.events
    return {"us": best / LONG.events * 1e6}


async def _paced(client: Client, count: int, shape: Shape) -> dict[str, float]:
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


async def _measure(name: str, scenario: str, wire: str, url: str, count: int) -> dict[str, float]:
    kind, _, shaped = scenario.partition(":")
    events, _, pause = shaped.partition(",")
    shape = Shape(int(events), int(pause)) if shaped else LONG
    client = CLIENTS[name](wire, url, (SHORT, LONG, shape))
    try:
        if kind == "paced":
            return await _paced(client, count, shape)
        return await (_requests if kind == "requests" else _events)(client, count)
    finally:
        await client.aclose()


def main() -> None:
    """Measure what the command line names."""
    name, scenario, wire, url, count = sys.argv[1:]
    print(json.dumps(asyncio.run(_measure(name, scenario, wire, url, int(count)))))


if __name__ == "__main__":
    main()
