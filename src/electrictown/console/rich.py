"""The live view of a terminal: phases, one line a subtask, the money so far, the text as it comes.

Drawn on stderr, at most eight times a second and never for a token. What must last (warnings, hops,
refused files) is printed above it. When the run ends the view stays as it was, without the text: the
result is the caller's to print, once, on stdout.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import Lock
from typing import TextIO

from rich.cells import chop_cells
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from electrictown.console.board import Board, Phase, Row, State
from electrictown.console.closing import HEADINGS, budget_line, hops, outcome, row, sections
from electrictown.console.lines import Level, Line, Narrator
from electrictown.console.text import duration, line
from electrictown.events import Event, RunEnded
from electrictown.work import Report

__all__ = ["LiveView"]

_STYLES: Mapping[State, str] = {
    "waiting": "dim",
    "active": "cyan",
    "done": "green",
    "doubted": "yellow",
    "failed": "red",
}
_LEVELS: Mapping[Level, str] = {"detail": "", "info": "", "warning": "yellow", "error": "red"}
_WIDE = 90
_ROOMY = 72
_NARROW = 50
_AROUND = 6
"""Lines of the view that are neither subtask nor text."""


class LiveView:
    """Draws a run on a terminal. `shows_text` is False where the text has another place to appear."""

    def __init__(
        self,
        stream: TextIO,
        *,
        shows_text: bool = True,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        refresh: bool = True,
    ) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, _environ=environ)
        self._shows_text = shows_text
        self._clock = clock
        self._board = Board()
        self._narrator = Narrator()
        self._report: Report | None = None
        self._over = False
        # The view is drawn by rich's own thread, so that a busy loop does not freeze it.
        self._lock = Lock()
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            auto_refresh=refresh,
            refresh_per_second=8,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )

    def __call__(self, event: Event) -> None:
        """Take `event` in; the screen follows within an eighth of a second."""
        with self._lock:
            self._board(event)
        lasting = [told for told in self._narrator(event) if told.level != "detail"]
        if isinstance(event, RunEnded):
            self._report = event.report
        if not self._over:
            with suppress(OSError):  # the terminal went away: nobody is left to tell
                self._show(lasting, last=isinstance(event, RunEnded))

    def close(self) -> None:
        """Leave the terminal as it should be and print the bill, once."""
        with suppress(OSError):
            self._stop()
            report, self._report = self._report, None
            if report is not None:
                self._close(report)

    def _close(self, report: Report) -> None:
        if self._shows_text and report.text:
            self._console.print()  # below the result, which has come on stdout
        self._console.print(*_bill(report, self._console.width), sep="\n", end="")
        for text in hops(report.hops):
            self._console.print(Text(f"failed over: {text}", "yellow"))
        if report.budget is not None:
            self._console.print(Text(budget_line(report.budget)))
        last = outcome(report)
        self._console.print(Text(last.text, "red" if last.level == "error" else "bold"))

    def refresh(self) -> None:
        """Draw now; without `refresh` in the constructor nobody else does."""
        self._live.refresh()

    def _show(self, lasting: list[Line], *, last: bool) -> None:
        if not self._live.is_started:
            self._live.start()
        for told in lasting:
            prefix = f"{told.level}: " if told.level in ("warning", "error") else ""
            self._console.print(Text(prefix + told.text, _LEVELS[told.level]))
        if last:
            self._stop()
            if self._shows_text and self._report is not None and self._report.text:
                self._console.print()  # above the result, which comes on stdout

    def _stop(self) -> None:
        self._over = True
        if self._live.is_started:
            self._live.stop()

    def _render(self) -> RenderableType:
        width, height = self._console.size
        with self._lock:
            return view(self._board, self._clock(), width, height, text=self._shows_text and not self._over)


def view(board: Board, now: float, width: int, height: int, *, text: bool) -> RenderableType:
    """The whole view for a screen of `width` columns and `height` lines."""
    room = max(3, height - _AROUND)
    writing = text and bool(board.text)
    rows, hidden = _fitting(list(board.rows.values()), room // 2 if writing else room)
    parts: list[RenderableType] = []
    if board.phases:
        parts.append(_phases(list(board.phases.values()), now))
    if rows:
        parts.append(_table(rows, now, width))
    if hidden:
        parts.append(Text(f"  and {hidden} more", "dim"))
    if writing:
        parts.append(_tail(board.safe_text, width, max(3, room - len(rows))))
    elapsed = duration(now - board.started) if board.started is not None else "0.0s"
    parts.append(Text(f"{board.money}  {board.tokens:,} tokens  {elapsed}", "dim", no_wrap=True))
    return Group(*parts)


def _fitting(rows: list[Row], room: int) -> tuple[list[Row], int]:
    """The rows that fit, in their order: what moves first, then what failed, then what waits."""
    if len(rows) <= room:
        return rows, 0
    order: Mapping[State, int] = {"active": 0, "failed": 1, "doubted": 2, "waiting": 3, "done": 4}
    chosen = sorted(range(len(rows)), key=lambda n: (order[rows[n].state], n))[: max(1, room - 1)]
    return [rows[n] for n in sorted(chosen)], len(rows) - len(chosen)


def _phases(phases: list[Phase], now: float) -> Text:
    shown = Text(overflow="fold")
    for phase in phases:
        if shown:
            shown.append("  ")
        if phase.seconds is None:
            asked = f" {phase.who}" if phase.who else ""
            shown.append(f"{phase.name}{asked} {duration(now - phase.started)}", "bold cyan")
        else:
            shown.append(f"{phase.name} {duration(phase.seconds)}", "red" if phase.failed else "green")
    return shown


def _table(rows: list[Row], now: float, width: int) -> Table:
    wide, narrow = width >= _WIDE, width < _NARROW
    table = Table.grid(padding=(0, 1 if width < _ROOMY else 2), expand=True)
    table.add_column(no_wrap=True)
    if not narrow:
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=24, ratio=1 if narrow else None)
    # Least widths: the columns stay where they are while the work goes on.
    table.add_column(no_wrap=True, overflow="ellipsis", min_width=9, max_width=12)
    if not narrow:
        table.add_column(no_wrap=True, justify="right", min_width=9)
    if wide:
        table.add_column(no_wrap=True, justify="right", min_width=6)
    table.add_column(no_wrap=True, justify="right", min_width=5)
    for shown in rows:
        style = _STYLES[shown.state]
        elapsed = shown.elapsed(now)
        cells = [Text(shown.id)]
        if not narrow:
            cells.append(Text(shown.text, "red" if shown.state == "failed" else ""))
        cells += [Text(shown.who, "dim"), Text(shown.doing, style)]
        if not narrow:
            cells.append(Text(f"{shown.tokens:,} tok" if shown.tokens else ""))
        if wide:
            cells.append(Text(f"{shown.rate:.1f}/s" if shown.rate else ""))
        cells.append(Text(duration(elapsed) if elapsed is not None else ""))
        table.add_row(*cells)
    return table


def _tail(text: str, width: int, room: int) -> Text:
    """The last lines of `text` that fit; only as much of it is wrapped as can matter."""
    recent = text[-width * room :].expandtabs(4)
    lines: list[str] = []
    for paragraph in recent.split("\n")[-room:]:
        lines += chop_cells(paragraph, width) or [""]
    return Text("\n".join(lines[-room:]), no_wrap=True, overflow="crop")


def _bill(report: Report, width: int) -> list[RenderableType]:
    parts = sections(report.costs, report.total)
    if not parts:
        return []
    # A narrow terminal gets what counts: how many requests, how much money.
    shown = range(len(HEADINGS)) if width >= _NARROW else (0, len(HEADINGS) - 1)
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for _ in shown:
        table.add_column(no_wrap=True, justify="right")
    for title, costs in parts:
        if title == "total":
            table.add_row(Text("total", "bold"), *(Text(row(costs[0])[n], "bold") for n in shown))
            continue
        table.add_row(Text(title, "bold"), *(Text(HEADINGS[n], "dim") for n in shown))
        for cost in costs:
            table.add_row(Text(f"  {line(cost.name, 40)}"), *(Text(row(cost)[n]) for n in shown))
    return [table]
