"""A program that is a session without a model: it holds the lock, listens, and ends when it is asked.

stand_in.py STATE NAME [WAYS]: the ways are letters: "t" starts a tree of processes, "a" one that has gone
its own way, with no mark and in a terminal session of its own, "d" is deaf to what it
is asked and to signals, "s" stops itself once it is there, "q" never says how it does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from electrictown.sessions.inbox import Tell, listening
from electrictown.sessions.messages import Look, Okay, Request, Seen, Stop
from electrictown.sessions.records import Status
from electrictown.sessions.registry import Registry

SLEEP = ("sleep", "1000")
DEAF = """
import signal, time
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
print(flush=True)
time.sleep(1000)
"""


def tree() -> list[int]:
    """A child; one that is a daemon; one without the mark; one that ignores signals; one that is stopped."""
    child = subprocess.Popen(SLEEP)
    daemon = "import os, sys\nif os.fork(): os._exit(0)\nos.setsid()\npid = os.fork()\n"
    daemon += (
        "if pid: print(pid, flush=True); os._exit(0)\nos.close(1); os.execvp('sleep', ['sleep', '1000'])"
    )
    said = subprocess.run([sys.executable, "-S", "-c", daemon], stdout=subprocess.PIPE, check=True)
    bare = subprocess.Popen(SLEEP, env={"PATH": os.environ["PATH"]})
    deaf = subprocess.Popen([sys.executable, "-S", "-c", DEAF], stdout=subprocess.PIPE)
    assert deaf.stdout is not None
    deaf.stdout.readline()
    stopped = subprocess.Popen(SLEEP)
    os.kill(stopped.pid, signal.SIGSTOP)
    return [child.pid, int(said.stdout), bare.pid, deaf.pid, stopped.pid]


def apart() -> list[int]:
    """One that nothing but its parent tells of."""
    return [subprocess.Popen(SLEEP, env={"PATH": os.environ["PATH"]}, start_new_session=True).pid]


async def main(state: str, name: str, ways: str = "") -> None:
    registry = Registry(Path(state))
    folder = registry.folder(name)
    lock = registry.lock(name)
    over = asyncio.Event()

    async def respond(request: Request, tell: Tell) -> None:
        match request:
            case Look() if "q" not in ways:
                await tell(Seen(Status("ready", pid=os.getpid())))
            case Stop() if "d" not in ways:
                await tell(Okay())
                over.set()
            case _:
                await asyncio.Event().wait()

    if "d" in ways:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    async with listening(folder, respond):
        registry.save(name, Status("ready", pid=os.getpid(), line="I am here"))
        there = folder / "there.json"
        pids = [os.getpid(), *(tree() if "t" in ways else ()), *(apart() if "a" in ways else ())]
        there.with_suffix(".tmp").write_text(json.dumps(pids))
        there.with_suffix(".tmp").rename(there)
        print("I am here", flush=True)
        if "s" in ways:
            os.kill(os.getpid(), signal.SIGSTOP)
        await over.wait()
    registry.save(name, Status("done", why="stopped"))
    lock.release()


asyncio.run(main(*sys.argv[1:]))
