"""`et session attach`: a session in this terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from electrictown.cli.session.common import executor_for, name_argument, registry
from electrictown.cli.tables import print_json
from electrictown.errors import ElectrictownError, SessionError, UsageError

if TYPE_CHECKING:
    from electrictown.sessions.records import Record
    from electrictown.sessions.registry import Registry

__all__ = ["attach", "check_terminal", "command"]

_LINES: Final = 40
"""Lines of what was said before, where there is no screen that still shows them."""


@click.command("attach", short_help="Show a session in this terminal.")
@name_argument
@click.option(
    "--json", "as_json", is_flag=True, help="Print the program that shows it instead of running it."
)
def command(name: str, as_json: bool) -> int:
    """Show the session NAME in this terminal, and type to it.

    In tmux Ctrl-b d leaves it running, in byobu F6. A session without a terminal
    of its own is followed here: each line you type is sent to it, and Ctrl-C or
    Ctrl-D leaves it running.
    """
    sessions = registry()
    record = sessions.find(name)
    if as_json:
        program = executor_for(_living(sessions, record)).attach_command(name)
        print_json({"name": name, "backend": record.backend, "command": program})
        return 0
    check_terminal("et session attach")
    return attach(sessions, record)


def check_terminal(what: str) -> None:
    """See to it that there is a terminal.

    Raises:
        UsageError: when there is none.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            f"{what} wants a terminal", "from a program, use et session send and et session logs --follow"
        )


def attach(sessions: Registry, record: Record) -> int:
    """Show the session of `record` in this terminal, until the person leaves it, or it ends.

    Raises:
        SessionError: when it cannot be shown.
        SessionEndedError: when it has ended.
    """
    program = executor_for(_living(sessions, record)).attach_command(record.name)
    if program:
        sys.stdout.flush()
        try:
            os.execvp(program[0], program)  # noqa: S606  (exactly these arguments, and no shell)
        except OSError as error:
            raise SessionError(f"{program[0]} cannot be run: {error.strerror or error}") from error
    with suppress(KeyboardInterrupt):
        asyncio.run(_conversed(sessions, record))
    after = "goes on" if sessions.is_alive(record.name) else "has ended"
    print(f"\n{record.name} {after}", file=sys.stderr)
    return 0


def _living(sessions: Registry, record: Record) -> Record:
    """`record`, whose session lives.

    Raises:
        SessionEndedError: when it does not.
    """
    from electrictown.errors import SessionEndedError
    from electrictown.sessions.records import LIVE

    status = sessions.status(record)
    if status.state not in LIVE:
        why = f" ({status.why})" if status.why else ""
        raise SessionEndedError(
            f"the session {record.name} has ended{why}",
            f"`et session spawn --resume {record.name}` goes on with it; `et session logs` shows it",
        )
    return record


async def _conversed(sessions: Registry, record: Record) -> None:
    """Show what is said, and send what is typed, until the input or the session ends."""
    typed = _Typed(sessions, record)
    tasks = {asyncio.create_task(typed.shown()), asyncio.create_task(typed.sent())}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


class _Typed:
    """A conversation that is typed line by line."""

    def __init__(self, sessions: Registry, record: Record) -> None:
        self._sessions = sessions
        self._record = record
        self._mine: set[str] = set()

    async def shown(self) -> None:
        """Show what is said, but not what was typed here: the terminal has shown it."""
        from contextlib import aclosing

        from electrictown.cli.session.logs import TextLog
        from electrictown.sessions.tail import Tail

        tail, write = Tail(self._sessions, self._record), TextLog()
        write.begin(tail.more(), _LINES)
        async with aclosing(tail.follow()) as entries:
            async for entry in entries:
                if entry.kind != "said" or entry.turn not in self._mine:
                    write(entry)

    async def sent(self) -> None:
        """Send what is typed, until the input ends."""
        lines = asyncio.StreamReader()
        loop, fd = asyncio.get_running_loop(), sys.stdin.fileno()

        def read() -> None:
            # Of a terminal one line, when there is one: this does not wait, and the terminal stays as it is.
            if data := os.read(fd, 1 << 16):
                lines.feed_data(data)
            else:
                lines.feed_eof()

        loop.add_reader(fd, read)
        try:
            async for line in lines:
                if text := line.rstrip(b"\r\n"):
                    await self._said(text)
        finally:
            loop.remove_reader(fd)

    async def _said(self, data: bytes) -> None:
        from electrictown.cli.session.common import open_journal
        from electrictown.pane.commands import Command, Mistake, parse
        from electrictown.pane.lines import TYPED
        from electrictown.sessions.messages import Say
        from electrictown.sessions.sending import deliver, new_id

        try:
            match parse(os.fsdecode(data)):
                case Mistake(why=why):
                    click.echo(why)
                case Command(name=name):
                    await self._obeyed(name)
                case message:
                    say = Say(new_id(), os.fsencode(message.text), TYPED)
                    self._mine.add(say.id)
                    await deliver(self._sessions, self._record, say, open_journal)
        except ElectrictownError as error:
            from electrictown.cli.app import show_error

            show_error(error)

    async def _obeyed(self, name: str) -> None:
        """Do what a command says, as far as that can be done from outside."""
        from electrictown.cli.session.common import told
        from electrictown.sessions.messages import Answer, Interrupt, Stop

        requests = {
            "interrupt": Interrupt(),
            "allow": Answer(allow=True),
            "deny": Answer(allow=False),
            "quit": Stop("quit"),
        }
        if name in requests:
            await told(self._record.name, requests[name])
        else:
            click.echo(f"/{name} is for a session with a terminal of its own; here: /{', /'.join(requests)}")
