"""Which renderer a run gets: by what was asked for and what the streams are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol, TextIO

from electrictown.events import Event

__all__ = ["Console", "choose"]


class Console(Protocol):
    """A subscriber of events that draws them.

    The result itself is the caller's to print on stdout, once, between the last event and `close()`:
    the bill follows it then.
    """

    def __call__(self, event: Event) -> None:
        """Take one event; never raises, never blocks for long."""
        ...

    def close(self) -> None:
        """Restore the terminal and print what comes last. May be called more than once."""
        ...


def choose(
    stdout: TextIO,
    stderr: TextIO,
    *,
    quiet: bool = False,
    jsonl: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Console:
    """The renderer for these streams.

    `jsonl` sends events to stdout as JSON lines. Otherwise progress goes to stderr: a live view where
    that is a terminal, plain lines where it is not or the terminal is dumb, with `quiet` errors alone.
    The live view shows streamed text only where stdout is a terminal too. `environ` is read for
    TERM, NO_COLOR and the like.
    """
    environ = os.environ if environ is None else environ
    if jsonl:
        from electrictown.console.jsonl import Jsonl

        return Jsonl(stdout)
    if quiet or not stderr.isatty() or environ.get("TERM", "") in ("", "dumb", "unknown"):
        from electrictown.console.plain import Plain

        return Plain(stderr, quiet=quiet)
    from electrictown.console.rich import LiveView

    return LiveView(stderr, shows_text=stdout.isatty(), environ=environ)
