"""Sessions that live without a program of their own: a lock and an inbox, in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from msgspec.structs import replace

from electrictown.errors import SessionError
from electrictown.journal.records import Header
from electrictown.journal.sqlite import SqliteStore
from electrictown.sessions.inbox import Tell, listening
from electrictown.sessions.messages import (
    Accepted,
    Answer,
    Answered,
    Interrupt,
    Look,
    Okay,
    Request,
    Say,
    Seen,
    Stop,
)
from electrictown.sessions.records import Record, Said, Status, Turn
from electrictown.sessions.registry import Registry
from electrictown.work import Task

__all__ = ["Live", "living", "recorded", "written"]


class Live:
    """A session that answers every message with its own text.

    `heard` are its messages as they were accepted, each once; `told` are other requests. `cuts` says of
    each message to come whether the connection breaks "before" or "after" it was accepted. One that is
    `deaf` answers nothing, one that is `mute` no message.
    """

    def __init__(self, status: Status) -> None:
        self.status = status
        self.heard: dict[str, bytes] = {}
        self.senders: list[str] = []
        self.told: list[Request] = []
        self.deaf = False
        self.cuts: list[str] = []
        self.mute = False
        self.turn: Callable[[Say], Turn] = lambda say: Turn(say.id, "done", say.data.decode(errors="replace"))

    async def respond(self, request: Request, tell: Tell) -> None:
        """Answer one request."""
        if self.deaf:
            await asyncio.sleep(3600)
        match request:
            case Say():
                await self._hear(request, tell)
            case Look():
                await tell(Seen(self.status))
            case Interrupt() | Answer():
                self.told.append(request)
                if self.status.state != "working":
                    raise SessionError("nothing is under way")
                await tell(Okay())
            case Stop():
                self.told.append(request)
                await tell(Okay())
            case _:
                raise AssertionError(request)

    async def _hear(self, say: Say, tell: Tell) -> None:
        if self.status.state == "starting":
            raise SessionError("it has not begun yet")
        cut = self.cuts.pop(0) if self.cuts else ""
        if cut == "before":
            raise asyncio.CancelledError  # ends the talk: the connection is closed
        if say.id not in self.heard:
            self.heard[say.id] = say.data
            self.senders.append(say.sender)
        if cut == "after":
            raise asyncio.CancelledError
        await tell(Accepted(say.id, len(self.heard) - 1))
        if say.wait:
            await asyncio.sleep(3600 if self.mute else 0)
            await tell(Answered(self.turn(say)))


def recorded(registry: Registry, folder: Path, role: str = "polecat", **facts: object) -> Record:
    """A record as `et session spawn` makes one, with `facts` in place of its own."""
    record = replace(registry.create(role, "none", folder), **facts)
    registry.folder(record.name).mkdir(exist_ok=True)
    registry.save(record.name, record)
    return record


@contextmanager
def living(registry: Registry, record: Record, status: Status | None = None) -> Generator[Live]:
    """The session of `record` lives until the block ends."""
    live = Live(status or Status("ready", model="qwen"))
    started, ended = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def live_on() -> None:
        lock = registry.lock(record.name)
        try:
            registry.save(record.name, live.status)
            async with listening(registry.folder(record.name), live.respond):
                started.set()
                await ended.wait()
        finally:
            lock.release()

    def run() -> None:
        try:
            loop.run_until_complete(live_on())
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(10)
        yield live
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


def written(state: Path, name: str, *, said: tuple[Said, ...] = (), turns: tuple[Turn, ...] = ()) -> None:
    """The journal of a session that has ended, as its own process wrote it."""

    async def write() -> None:
        store = await SqliteStore.open(state / "journal.db")
        try:
            header = Header(Task("a session"), settings={"session": {"role": "polecat", "agent": ""}})
            journal = await store.begin(name, header)
            for one in said:
                await journal.record(f"said.{one.id}", one, kind="said")
            for turn in turns:
                await journal.record(f"turn.{turn.said}", turn, kind="turn")
            await journal.aclose()
        finally:
            await store.aclose()

    asyncio.run(write())
