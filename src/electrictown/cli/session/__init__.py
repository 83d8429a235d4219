"""`et session`: agents that keep working in terminals of their own. One module a command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import click

from electrictown.cli.lazy import LazyGroup

__all__ = ["command"]


class _Commands(LazyGroup):
    """All of `et session`."""

    prefix = "electrictown.cli.session."
    aliases: ClassVar[Mapping[str, str]] = {"ls": "list"}
    table: ClassVar[Mapping[str, str]] = {
        "spawn": "Start a session, or go on with one that has ended.",
        "list": "List the sessions and how they do (also: ls).",
        "attach": "Show a session in this terminal.",
        "send": "Say something to a session.",
        "wait": "Wait until sessions have nothing left to do.",
        "logs": "Print what was said in a session.",
        "interrupt": "Cut the reply that is under way.",
        "answer": "Allow or deny what an agent asks leave for.",
        "kill": "End sessions, with all that they started.",
    }


@click.group("session", cls=_Commands)
def command() -> None:
    """Keep agents at work in terminals of their own, and talk to them.

    A session is a conversation with a role of the town, or with an agent of
    others (--agent). It goes on when you close the terminal; what it has
    accepted is answered, after a reboot too.

    \b
      et session spawn "port the parser to Rust"
      et session list
      et session send et-polecat-a3f2 "add error handling"
      et session attach et-polecat-a3f2

    A name is always meant in full, never as the beginning of another.
    """
