"""A process that shares a host's slots with others: what tests of `MachineSlots` start several of.

python slots_program.py ask FOLDER URL LIMIT TASKS   asks a fake server so often, all at once
python slots_program.py hold FOLDER LIMIT            takes a slot, says so, and holds it
python slots_program.py wait FOLDER LIMIT            says that it comes, and waits for a slot
python slots_program.py child FOLDER LIMIT           takes a slot, starts a child that outlives it, and ends
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from electrictown.llm.admission import MemoryAdmission
from electrictown.llm.hosts import identity
from electrictown.llm.machine_slots import MachineSlots
from electrictown.llm.messages import ChatRequest, user
from electrictown.llm.provider import ProviderSettings, make_provider
from electrictown.llm.router import Router
from electrictown.llm.routes import Route, RouteTable, Target

HOST = "box:11434"


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


async def ask(folder: Path, url: str, limit: int, tasks: int) -> None:
    provider = make_provider(ProviderSettings(name="box", type="ollama", base_url=url))
    box = Target(
        alias="m",
        provider="box",
        model="m",
        address=identity("ollama", url),
        host_limit=limit,
        local=True,
    )
    route = Route("m", box)
    router = Router(
        {"box": provider}, RouteTable({}, {"m": box}, {}), admission=MemoryAdmission(MachineSlots(folder))
    )
    request = ChatRequest(messages=(user("why?"),))
    say("here")
    try:
        replies = await asyncio.gather(*(router.chat_completion(request, route) for _ in range(tasks)))
    finally:
        await provider.aclose()  # type: ignore[attr-defined]
    say(str(sum(bool(reply.text) for reply in replies)))


async def main(what: str, folder: Path, *rest: str) -> None:
    if what == "ask":
        await ask(folder, rest[0], int(rest[1]), int(rest[2]))
        return
    if what == "wait":
        say("here")
    await MachineSlots(folder).take(HOST, int(rest[0]))
    say("taken")
    if what == "child":
        await asyncio.create_subprocess_exec("sleep", "60", stdout=subprocess.DEVNULL, close_fds=False)
        say("started")
        return
    await asyncio.sleep(60)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
