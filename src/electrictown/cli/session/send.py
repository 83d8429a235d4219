"""`et session send`: say something to a session, byte for byte and once."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

import click

from electrictown.cli.journals import json_option
from electrictown.cli.session.common import name_argument, open_journal, registry
from electrictown.cli.tables import print_json
from electrictown.errors import DeadlineError, UsageError

if TYPE_CHECKING:
    from electrictown.sessions.messages import Accepted, Say
    from electrictown.sessions.records import Record, Turn
    from electrictown.sessions.registry import Registry

__all__ = ["command"]

_PATIENCE: Final = 30.0
"""Seconds that a session has to accept a message, where the command line says nothing of it."""


class _Given(TypedDict):
    """What the command line says, by the names of the options below."""

    name: str
    text: tuple[str, ...]
    file: str | None
    stdin: bool
    wait: bool
    timeout: float | None
    message: str | None
    as_json: bool


class _Send(click.Command):
    """A command whose arguments are text, unless they are exactly one of its options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; what begins with a dash and is no option here is part of the text."""
        flags = {name for o in self.get_params(ctx) if isinstance(o, click.Option) for name in o.opts}
        valued = {
            name for o in self.params if isinstance(o, click.Option) and not o.is_flag for name in o.opts
        }
        options: list[str] = []
        words: list[str] = []
        rest = iter(args)
        for word in rest:
            if word == "--":
                words += rest
            elif word in valued:
                value = next(rest, None)
                if value is None:  # it is the last word: click says what is missing
                    return super().parse_args(ctx, [word])
                options += [word, value]
            elif word in flags or word.partition("=")[0] in valued:
                options.append(word)
            else:
                words.append(word)
        return super().parse_args(ctx, [*options, "--", *words])


@click.command("send", cls=_Send, short_help="Say something to a session.")
@name_argument
@click.argument("text", nargs=-1)
@click.option("--file", metavar="FILE", help="Send what is in FILE.")
@click.option("--stdin", is_flag=True, help="Send what comes from standard input; a text of - does, too.")
@click.option("--wait", is_flag=True, help="Wait for the reply, and print it.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="The longest to wait.  [default: 30 until it is accepted, no end to the reply]",
)
@click.option(
    "--id",
    "message",
    metavar="ID",
    help="The message's own name: sent again under it, it is not said twice.  [default: a new one]",
)
@json_option
def command(**given: Unpack[_Given]) -> None:
    """Say TEXT to the session NAME.

    Returns as soon as the session has written it down: from then on it is
    answered, after a crash or a reboot too. TEXT arrives byte for byte, several
    words with one space between them. A word that begins with a dash is text,
    unless it is one of the options below; after -- everything is text.

    \b
      et session send et-polecat-a3f2 "add error handling"
      et session send et-polecat-a3f2 --wait -- "--wait is a flag. Why?"
      git diff | et session send et-polecat-a3f2 -

    Exit codes: 0 accepted (with --wait: answered), 1 not, 2 no such session,
    4 a key was refused, 75 not within the time.
    """
    from electrictown.console.text import count
    from electrictown.sessions.messages import Say
    from electrictown.sessions.sending import new_id

    sessions = registry()
    name, message = given["name"], given["message"]
    record = sessions.find(name)
    data = _data(given["text"], given["file"], stdin=given["stdin"])
    say = Say(new_id() if message is None else _id(message), data, "send", given["wait"])
    ahead, turn = asyncio.run(_said(sessions, record, say, given["timeout"]))
    if given["as_json"]:
        import msgspec

        print_json({"name": name, "id": say.id, "ahead": ahead, "turn": msgspec.to_builtins(turn)})
    elif turn is None:
        after = f" after {count(ahead, 'message')} before it" if ahead else ""
        print(f"{name} has the message and answers it{after}", file=sys.stderr)
    if turn is not None:
        _show(name, turn, quiet=given["as_json"])


def _id(message: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", message) is None:
        raise UsageError(
            f"{message!r} is no name for a message", "letters, digits, dots, dashes; 80 at the most"
        )
    return message


def _data(text: tuple[str, ...], file: str | None, *, stdin: bool) -> bytes:
    """The message.

    Raises:
        UsageError: when there is none, or more than one, or it is too long.
    """
    from electrictown.sessions.messages import LARGEST

    stdin = stdin or text == ("-",)
    text = () if text == ("-",) else text
    if bool(text) + (file is not None) + stdin > 1:
        raise UsageError("there is more than one message", "give a TEXT, or --file, or --stdin")
    if file is not None:
        try:
            with Path(file).expanduser().open("rb") as stream:
                data = stream.read(LARGEST + 1)
        except (OSError, RuntimeError) as error:  # RuntimeError: ~somebody who has no home here
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"the file {file} cannot be read: {reason}", "check the path") from None
    elif stdin:
        data = sys.stdin.buffer.read(LARGEST + 1)
    else:
        data = os.fsencode(" ".join(text))
    if not data:
        raise UsageError("there is no message", 'et session send NAME "what is to be said"')
    if len(data) > LARGEST:
        raise UsageError(f"the message is longer than {LARGEST >> 20} MiB", "is it the right one?")
    return data


async def _said(
    sessions: Registry, record: Record, say: Say, seconds: float | None
) -> tuple[int, Turn | None]:
    """How many messages were before it when it was accepted, and what became of it if `say` waits.

    Raises:
        SessionError: when the session has ended, or refuses it.
        DeadlineError: when the time is over.
    """
    from electrictown.sessions.sending import deliver

    ahead: list[int] = []
    loop = asyncio.get_running_loop()
    name = record.name
    end = None if seconds is None else loop.time() + seconds
    try:
        async with asyncio.timeout_at(end or loop.time() + _PATIENCE) as clock:

            def accepted(reply: Accepted) -> None:
                ahead.append(reply.ahead)
                clock.reschedule(end)

            turn = await deliver(sessions, record, say, open_journal, accepted)
    except TimeoutError:
        if ahead:
            raise DeadlineError(
                f"the session {name} has accepted the message, and not answered it in time",
                f"et session wait {name}",
            ) from None
        raise DeadlineError(
            f"the session {name} does not answer: it may yet accept the message",
            f"say it again with --id {say.id}, and it is not said twice",
        ) from None
    return ahead[0] if ahead else 0, turn


def _show(name: str, turn: Turn, *, quiet: bool) -> None:
    """Print the reply.

    Raises:
        ElectrictownError: why there is none.
    """
    if turn.outcome == "done":
        if not quiet:
            from electrictown.console.text import blocks
            from electrictown.redact import mask

            # A model's words may hold escape sequences: a file gets them as they are, a terminal does not.
            click.echo(blocks(turn.text) if sys.stdout.isatty() else mask(turn.text))
        return
    from electrictown.engine.calls import error_of
    from electrictown.errors import SessionError

    if turn.error is not None:
        raise error_of(turn.error)
    raise SessionError(f"the reply was {turn.outcome}", f"et session logs {name}")
