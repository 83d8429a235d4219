"""A whole run from Python: the same pipeline as `et run`, its events as they happen, its report at the end.

python examples/whole_run.py [electrictown.yaml]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from electrictown import Done, RunOptions, Task, Town, load_config
from electrictown.events import Event, SubtaskEnded

REHEARSAL = Path(__file__).parent / "rehearsal" / "electrictown.yaml"


def show(event: Event) -> None:
    """Tell when a subtask ends."""
    if isinstance(event, SubtaskEnded):
        print(f"{event.subtask} ended: {event.error.message if event.error else 'done'}")


async def main(path: str | Path = REHEARSAL) -> int:
    """Run a task; the value is what `et run` would exit with."""
    async with Town.open(load_config(path)) as town:
        options = RunOptions(max_subtasks=4, refinery=False, timeout=600)
        report = await town.run(Task("write a word counter"), options, emit=show)
    for result in report.results:
        if isinstance(result, Done):
            print(f"{result.subtask}: {len(result.attempts)} attempts, accepted: {result.accepted}")
        else:
            print(f"{result.subtask}: {result.error.type}: {result.error.message}")
    for hop in report.hops:
        print(f"{hop.failed} -> {hop.took_over}: {hop.message}")
    print(report.text)
    return report.exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
