"""`et session interrupt`: cut the reply that is under way."""

from __future__ import annotations

import asyncio

import click

from electrictown.cli.journals import json_option
from electrictown.cli.session.common import name_argument, told
from electrictown.cli.tables import print_json

__all__ = ["command"]


@click.command("interrupt", short_help="Cut the reply that is under way.")
@name_argument
@json_option
def command(name: str, as_json: bool) -> None:
    """Cut the reply that is under way in the session NAME, as Ctrl-C does at its
    screen. The session goes on with the next message.
    """
    from electrictown.sessions.messages import Interrupt

    asyncio.run(told(name, Interrupt()))
    if as_json:
        print_json({"name": name, "interrupted": True})
