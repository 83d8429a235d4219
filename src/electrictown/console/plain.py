"""Plain lines, for pipes, logs and dumb terminals: no colours, no cursor movements."""

from __future__ import annotations

from typing import TextIO

from electrictown.console.closing import closing_lines
from electrictown.console.lines import UNTOLD, Line, Narrator
from electrictown.events import Event, RunEnded
from electrictown.work import Report

__all__ = ["Plain"]


class Plain:
    """Writes a line for every event a person cares about; with `quiet`, errors only."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._narrator = Narrator()
        self._report: Report | None = None

    def __call__(self, event: Event) -> None:
        """Write what `event` is worth. Never raises: a reader that went away stops the writing."""
        if type(event) in UNTOLD:  # two events of every request
            return
        if isinstance(event, RunEnded):
            self._report = event.report
        for told in self._narrator(event):
            self._write(told)

    def close(self) -> None:
        """Write the bill and what failed over to what, once."""
        report, self._report = self._report, None
        if report is not None:
            for told in closing_lines(report):
                self._write(told)

    def _write(self, told: Line) -> None:
        if self._quiet and told.level != "error":
            return
        prefix = f"{told.level}: " if told.level in ("warning", "error") else ""
        try:
            self._stream.write(f"{prefix}{told.text}\n")
            self._stream.flush()
        except (OSError, ValueError):  # the reader went away, or the stream is closed
            self._quiet = True
