"""`et session answer`: what a person says when an agent asks for leave."""

from __future__ import annotations

import asyncio

import click

from electrictown.cli.journals import json_option
from electrictown.cli.session.common import name_argument, told
from electrictown.cli.tables import print_json

__all__ = ["command"]


@click.command("answer", short_help="Allow or deny what an agent asks leave for.")
@name_argument
@click.argument("answer", metavar="allow|deny", type=click.Choice(["allow", "deny"]))
@json_option
def command(name: str, answer: str, as_json: bool) -> None:
    """Allow or deny what the agent in the session NAME asks leave for.

    What it asks stands in `et session list`, and in full in `et session logs`.
    It waits for the answer however long it takes.
    """
    from electrictown.sessions.messages import Answer

    asyncio.run(told(name, Answer(allow=answer == "allow")))
    if as_json:
        print_json({"name": name, "answer": answer})
