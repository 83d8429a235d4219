"""`et session logs`: what was said in a session, also while it is said."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from electrictown.cli.session.common import name_argument, registry
from electrictown.cli.tables import json_of

if TYPE_CHECKING:
    from electrictown.sessions.log import Entry
    from electrictown.sessions.tail import Tail

__all__ = ["TextLog", "command"]


@click.command("logs", short_help="Print what was said in a session.")
@name_argument
@click.option("--follow", "-f", is_flag=True, help="Go on until the session ends, or Ctrl-C.")
@click.option("--lines", "-n", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines.")
@click.option("--json", "as_json", is_flag=True, help="Print every entry as a JSON line.")
def command(name: str, follow: bool, lines: int | None, as_json: bool) -> None:
    """Print what was said in the session NAME, whether or not it has ended.

    What begins with > was said to it, with the sender before it; what begins
    with a dash is said by et, what begins with ? is asked by an agent.

    \b
      et session logs et-polecat-a3f2 --lines 20 --follow
      et session logs et-polecat-a3f2 --json | jq 'select(.kind == "end")'
    """
    from electrictown.sessions.tail import Tail

    sessions = registry()
    tail = Tail(sessions, sessions.find(name))
    write = _Json() if as_json else TextLog()
    try:
        write.begin(tail.more(), lines)
        if follow:
            asyncio.run(_follow(tail, write))
    finally:
        write.end()


async def _follow(tail: Tail, write: _Json | TextLog) -> None:
    async with aclosing(tail.follow()) as entries:
        async for entry in entries:
            write(entry)


class _Json:
    """Prints entries as JSON lines."""

    def begin(self, entries: Iterable[Entry], last: int | None) -> None:
        """Print those there are, the `last` only."""
        for entry in entries if last is None else deque(entries, last):
            self(entry)

    def __call__(self, entry: Entry) -> None:
        """Print one."""
        click.echo(json_of(entry))

    def end(self) -> None:
        """Nothing is left to be printed."""


class TextLog:
    """Prints entries as the session's screen shows them."""

    def __init__(self) -> None:
        from electrictown.pane.lines import Lines

        self._lines = Lines()
        self._open = False

    def begin(self, entries: Iterable[Entry], last: int | None) -> None:
        """Print those there are, the `last` lines only."""
        pieces = (self._lines.text(entry) for entry in entries)
        if last is None:
            for piece in pieces:
                self._print(piece)
        else:
            self._print("".join(_ending(pieces, last)))

    def __call__(self, entry: Entry) -> None:
        """Print one."""
        self._print(self._lines.text(entry))

    def end(self) -> None:
        """End the line of a reply that is under way."""
        if self._open:
            click.echo()

    def _print(self, text: str) -> None:
        if text:
            self._open = not text.endswith("\n")
            click.echo(text, nl=False)


def _ending(pieces: Iterable[str], last: int) -> deque[str]:
    """The last lines of a text that comes in pieces."""
    found: deque[str] = deque(maxlen=last)
    torn = ""
    for piece in pieces:
        *whole, torn = (torn + piece).split("\n")
        found.extend(f"{line}\n" for line in whole)
    if torn:
        found.append(torn)
    return found
