"""The screen on a pseudo-terminal whose other end is in the test's own hands."""

from __future__ import annotations

import asyncio
import os
import termios
from collections.abc import Generator
from pathlib import Path
from typing import TextIO

import pytest
from pane_kit import NAME, Script

from electrictown.pane.screen import Screen
from electrictown.pane.terminal import TerminalOutput
from electrictown.sessions.log import Entry
from electrictown.sessions.records import Record


class Terminal:
    """A terminal: `screen` writes to it, `master` is what shows it."""

    def __init__(self) -> None:
        self.master, slave = os.openpty()
        os.set_blocking(self.master, False)
        self.file = os.fdopen(slave, "r+b", buffering=0)
        self.stdin: TextIO = os.fdopen(os.dup(slave), encoding="utf-8")
        self.shown = b""

    async def shows(self, text: str) -> None:
        async with asyncio.timeout(20):
            while text.encode() not in self.shown:
                try:
                    self.shown += os.read(self.master, 65536)
                except BlockingIOError:
                    await asyncio.sleep(0.01)

    def press(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def hang_up(self) -> None:
        if self.master >= 0:
            os.close(self.master)
        self.master = -1

    def close(self) -> None:
        self.hang_up()
        self.stdin.close()
        self.file.close()


@pytest.fixture
def terminal() -> Generator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


def screen(terminal: Terminal) -> Screen:
    return Screen(Record(NAME, "polecat", "byobu", "/", "mark"), terminal.stdin, terminal.stdin)


def descriptors() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


async def test_a_terminal_whose_other_end_closes_is_gone(terminal: Terminal, tmp_path: Path) -> None:
    shown = screen(terminal)
    running = asyncio.create_task(shown.run(Script(tmp_path)))
    await terminal.shows(NAME)
    terminal.hang_up()

    assert await asyncio.wait_for(running, 20) == "gone"
    shown.entry(Entry("text", "nobody sees it"))  # and nobody minds


async def test_a_terminal_that_is_gone_from_the_beginning_is_gone(terminal: Terminal, tmp_path: Path) -> None:
    terminal.hang_up()

    assert await asyncio.wait_for(screen(terminal).run(Script(tmp_path)), 20) == "gone"


async def test_all_is_given_back_however_it_ends(terminal: Terminal, tmp_path: Path) -> None:
    before, attributes = descriptors(), termios.tcgetattr(terminal.file)
    for end in ("cancelled", "quit"):
        terminal.shown = b""
        running = asyncio.create_task(screen(terminal).run(Script(tmp_path)))
        await terminal.shows(NAME)
        assert termios.tcgetattr(terminal.file) != attributes
        if end == "quit":
            terminal.press(b"/quit\r")
            assert await running == "quit"
        else:
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        await terminal.shows("\x1b[?2004l")

        assert terminal.shown.count(b"\x1b[?2004l") == 1  # pastes were marked as such until then
        assert termios.tcgetattr(terminal.file) == attributes
        assert descriptors() == before


async def test_what_breaks_ends_the_screen_and_is_raised(terminal: Terminal, tmp_path: Path) -> None:
    class Broken(Script):
        async def say(self, text: str) -> None:
            raise ZeroDivisionError(text)

    attributes = termios.tcgetattr(terminal.file)
    running = asyncio.create_task(screen(terminal).run(Broken(tmp_path)))
    await terminal.shows(NAME)
    terminal.press(b"x\r")

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(running, 20)
    assert termios.tcgetattr(terminal.file) == attributes


async def test_keys_make_new_lines_and_bytes_that_are_no_text_are_shown_as_such(
    terminal: Terminal, tmp_path: Path
) -> None:
    script = Script(tmp_path)
    running = asyncio.create_task(screen(terminal).run(script))
    await terminal.shows(NAME)
    terminal.press("é\nb\x1b\rc".encode() + b"\xff\r\x03\x03")
    await terminal.shows("F6 leaves it running")
    terminal.press(b"/quit\r")
    assert await running == "quit"

    assert ("say", "é\nb\nc\ufffd") in script.done


async def test_output_that_has_no_name_is_written_as_well() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as there, os.fdopen(writing, "w", encoding="utf-8") as here:
        output = TerminalOutput(here)
        output.write_raw("日本 \udcff")
        output.flush()
        assert (output.get_size().columns, output.get_size().rows) == (80, 24)
        await output.close()
        here.close()
        assert there.read().decode().startswith("日本 ?")
