"""A program that drives a run: told what to do by its arguments, it says each key that was committed.

driver_child.py FILE RUN write TASKS STEPS    begin or resume, write STEPS steps (0: for ever) in TASKS tasks
driver_child.py FILE RUN hold                 begin or resume, start a program that outlives it, and wait
driver_child.py FILE RUN small LIMIT          write until no file may grow beyond LIMIT bytes
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from itertools import count
from pathlib import Path

from electrictown.errors import JournalError, UnknownRunError
from electrictown.journal.journal import Journal, Store
from electrictown.journal.records import Header
from electrictown.journal.sqlite import SqliteStore
from electrictown.work import Task


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


async def drive(store: Store, run: str) -> Journal:
    try:
        return await store.resume(run)
    except UnknownRunError:
        return await store.begin(run, Header(Task("write a parser")))


async def write(journal: Journal, tasks: int, steps: int) -> None:
    async def work(task: int) -> None:
        for number in range(steps) if steps else count():
            key = f"e{journal.epoch}.t{task}.s{number}"
            await journal.record(key, {"key": key, "text": "x" * (number % 700)}, kind="call")
            say(key)

    await asyncio.gather(*(work(task) for task in range(tasks)))


async def hold() -> None:
    sleep = [sys.executable, "-S", "-c", "import time; time.sleep(60)"]
    outlives = subprocess.Popen(sleep, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, close_fds=False)
    say(str(outlives.pid))
    await asyncio.Event().wait()


async def small(journal: Journal, limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        for number in count():
            await journal.record(f"s{number}", "x" * 5000, kind="call")
            say(f"s{number}")
    except JournalError as error:
        say(f"stopped: {error}")
    try:
        journal.note("later", 1, kind="call")
    except JournalError as error:
        say(f"still: {error.message}")


async def main() -> None:
    file, run, what, *numbers = sys.argv[1:]
    store = await SqliteStore.open(Path(file))
    journal = await drive(store, run)
    say("driving")
    if what == "hold":
        await hold()
    elif what == "small":
        await small(journal, int(numbers[0]))
        return
    else:
        await write(journal, int(numbers[0]), int(numbers[1]))
    await journal.aclose()
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())
