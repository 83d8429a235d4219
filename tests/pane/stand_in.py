"""A session's screen without a session: what it shows comes over a socket, what is done at it goes there.

    python -P stand_in.py SOCKET FOLDER

One JSON line each way. In: a `Told`. Out: what the person did, as [verb, argument], and at the end what
`run` returned. Of a flood it tells the seconds it took, the frames drawn, and the seconds of the processor.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from prompt_toolkit.application import Application
from prompt_toolkit.layout import Layout
from prompt_toolkit.renderer import Renderer

sys.path.insert(0, str(Path(__file__).parent))

from pane_kit import NAME, Script

from electrictown.pane.screen import Screen
from electrictown.sessions.log import Entry
from electrictown.sessions.records import Record, Status


class Told(msgspec.Struct):
    """What the screen is to show, or what it is to meet with: `flood` comes fifty pieces a second."""

    entry: Entry | None = None
    status: Status | None = None
    flood: list[str] = []
    busy: bool = False
    asking: bool = False
    fails: bool = False
    end: bool = False


frames: Counter[str] = Counter()


def count_frames() -> None:
    """Have every frame counted that is drawn from here on."""
    render = Renderer.render

    def counted(self: Renderer, app: Application[Any], layout: Layout, is_done: bool = False) -> None:
        frames["drawn"] += 1
        render(self, app, layout, is_done)

    Renderer.render = counted


async def main(socket: str, folder: str) -> None:
    reader, writer = await asyncio.open_unix_connection(socket, limit=1 << 24)

    def tell(verb: str, argument: object) -> None:
        writer.write(json.dumps([verb, argument]).encode() + b"\n")

    script = Script(Path(folder), tell)
    screen = Screen(Record(NAME, "polecat", "tmux", folder, "mark"))
    decoder = msgspec.json.Decoder(Told)

    async def listen() -> None:
        while row := await reader.readline():
            told = decoder.decode(row)
            script.busy, script.asking, script.fails = told.busy, told.asking, told.fails
            if told.entry is not None:
                screen.entry(told.entry)
            if told.status is not None:
                screen.status(told.status)
            if told.flood:
                began = time.monotonic(), frames.total(), time.process_time()
                for piece in told.flood:
                    screen.entry(Entry("text", piece))
                    await asyncio.sleep(0.02)
                ended = time.monotonic(), frames.total(), time.process_time()
                tell("flooded", [after - before for before, after in zip(began, ended, strict=True)])
            if told.end:
                break
        running.cancel()

    listening = asyncio.create_task(listen())
    running = asyncio.create_task(screen.run(script))
    try:
        tell("over", await running)
    except asyncio.CancelledError:
        tell("over", "cancelled")
    finally:
        listening.cancel()
        await writer.drain()
        writer.close()


if __name__ == "__main__":
    count_frames()
    signal.signal(signal.SIGHUP, lambda *_: None)  # the screen is to find out by itself
    asyncio.run(main(*sys.argv[1:]))
