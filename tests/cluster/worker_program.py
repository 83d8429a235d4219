"""A worker of a cluster, as a process that can be killed and frozen.

python worker_program.py URL NAME HEARTBEAT LOG [SECONDS]

Each subtask is one call that takes SECONDS and is "paid" when it begins: a line of LOG says who paid what.
It drains on SIGTERM, and stops on a second one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial

from electrictown.engine.working import WorkerLoop
from electrictown.events import Event
from electrictown.journal.postgres import PostgresStore
from electrictown.journal.postgres_journal import PostgresJournal
from electrictown.work import Done


def say(log: str, *words: object) -> None:
    """One line, in one write: several processes write to one file."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, (" ".join(map(str, words)) + "\n").encode())
    os.close(file)


async def perform(name: str, log: str, seconds: float, journal: PostgresJournal, subtask: str) -> Done:
    async def paid() -> str:
        say(log, "paid", subtask, name)
        await asyncio.sleep(seconds)
        return f"done by {name}"

    text = await journal.step(f"{subtask}.attempt1", paid, str, kind="attempt")
    say(log, "committed", subtask, name)
    done = Done(subtask, text)
    await journal.record(f"{subtask}.result", done, kind="result")
    return done


async def main(url: str, name: str, heartbeat: float, log: str, seconds: float) -> None:
    def emit(event: Event) -> None:
        say(log, "#", name, getattr(event, "text", event))

    store = await PostgresStore.open(url, owner=name)
    loop = WorkerLoop(
        store, partial(perform, name, log, seconds), concurrency=2, heartbeat=heartbeat, emit=emit
    )

    def term() -> None:
        loop.stop() if loop.state.draining else loop.drain()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, term)
    say(log, "here", name)
    await loop.run()
    await store.aclose()
    say(log, "ended", name)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4], float(sys.argv[5])))
