"""The terminal under a session's screen, as prompt_toolkit draws on it. It may stall, and it may vanish.

Loads prompt_toolkit: import it where there is a terminal.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Size
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout.screen import Screen as Cells
from prompt_toolkit.output.color_depth import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.renderer import print_formatted_text

__all__ = ["Drawing", "TerminalOutput"]

_LAST_WORDS: Final = 0.5
"""Seconds that a terminal is given at the end to take what is still to be written."""


class TerminalOutput(Vt100_Output):
    """What is drawn. Writing never waits for the terminal, and never raises: that it has vanished is told
    by the input, which ends. Only while the event loop runs. Closed by who made it.
    """

    def __init__(self, stdout: TextIO) -> None:
        super().__init__(
            stdout,
            self._columns_and_rows,
            term=os.environ.get("TERM"),
            default_color_depth=ColorDepth.from_env(),
            enable_bell=False,
            enable_cpr=False,
        )
        self._waiting = bytearray()
        self._taken = asyncio.Event()
        self._taken.set()
        self._held = False
        self._watched = False
        self._fd = _own(stdout.fileno())

    @property
    def behind(self) -> bool:
        """Whether the terminal has not taken all that was written."""
        return bool(self._waiting)

    def flush(self) -> None:
        """Write what was drawn, unless a frame is under way."""
        if self._held or not self._buffer:
            return
        self._waiting += "".join(self._buffer).encode("utf-8", "replace")
        self._buffer.clear()
        self._taken.clear()
        if not self._watched:
            self._write()

    @contextmanager
    def frame(self) -> Generator[None]:
        """What is drawn within goes out at once, so that nobody sees it half done."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self.flush()

    def erase_down(self) -> None:
        """Erase from the beginning of this row on; it is only asked for there."""
        # From its first cell on, tmux takes it for the whole screen, and keeps what is erased as history.
        self.write_raw("\x1b[K \x1b[J\r")

    def disable_bracketed_paste(self) -> None:
        """Nothing: it stays until the end. A text pasted between two frames would be many messages."""

    async def close(self) -> None:
        """Leave the terminal as it was. One that takes nothing more is waited for only briefly."""
        super().disable_bracketed_paste()
        self.flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await self._taken.wait()
        self._waiting.clear()
        self._unwatch()
        os.close(self._fd)

    def _write(self) -> None:
        while self._waiting:
            try:
                del self._waiting[: os.write(self._fd, self._waiting[:65536])]
            except BlockingIOError:
                if not self._watched:
                    asyncio.get_running_loop().add_writer(self._fd, self._write)
                    self._watched = True
                return
            except OSError:
                self._waiting.clear()
        self._unwatch()
        self._taken.set()

    def _unwatch(self) -> None:
        if self._watched:
            asyncio.get_running_loop().remove_writer(self._fd)
            self._watched = False

    def _columns_and_rows(self) -> Size:
        columns = rows = 0
        with suppress(OSError):
            columns, rows = os.get_terminal_size(self._fd)
        return Size(rows=rows or 24, columns=columns or 80)


def _own(fd: int) -> int:
    """The terminal of `fd` once more, so that its being non-blocking is nobody else's."""
    try:
        return os.open(os.ttyname(fd), os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # it has no name here: then it is waited for
        return os.dup(fd)


class Drawing(Application[str]):
    """An application at the bottom of the terminal, with text going up above it into the scrollback."""

    output: TerminalOutput

    def above(self, text: StyleAndTextTuples) -> None:
        """Write `text`, which ends with a line break, above what is drawn."""
        with self.output.frame():
            self.renderer.erase(leave_alternate_screen=False)
            self.write(text)
            self._redraw()

    def write(self, text: StyleAndTextTuples) -> None:
        """Write `text` where the cursor is."""
        print_formatted_text(self.output, text, self.renderer.style, color_depth=self.color_depth)

    def _on_resize(self) -> None:
        # A terminal that has become narrower has broken the rows that were drawn, the cursor's among them,
        # into more rows; prompt_toolkit goes up by those it drew.
        with self.output.frame():
            cells = self.renderer.last_rendered_screen
            if cells is not None:
                self.output.cursor_up(self._rows_more(cells, self.output.get_size().columns))
            super()._on_resize()

    def _rows_more(self, cells: Cells, columns: int) -> int:
        cursor = cells.get_cursor_position(self.layout.current_window)
        more = cursor.x // columns
        for y in range(cursor.y):
            row = cells.data_buffer[y]
            width = max((x + cell.width for x, cell in row.items() if cell.char.strip()), default=0)
            more += max(0, width - 1) // columns
        return more
