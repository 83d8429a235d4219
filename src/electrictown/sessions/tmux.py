"""Sessions in tmux: each a tmux session of its own, in which one program runs. byobu is tmux, set up anew.

tmux reads more into its arguments than it is told: a ";" at the end of one begins another command, "-t"
takes the beginning of a name for the name, "-c" expands formats, and "#(...)" in them runs a command. So a
";" is escaped, targets are "=name:" or an id of tmux's own, and a folder is where tmux is started, no
argument. More than one argument after "--" is a program with its arguments; tmux's shell sees none of it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from electrictown.errors import SessionError, UsageError
from electrictown.journal.through import through
from electrictown.redact import mask
from electrictown.sessions.daemon_threads import in_daemon
from electrictown.sessions.exact import exact
from electrictown.sessions.launching import Command, Pane
from electrictown.sessions.names import checked, is_name
from electrictown.sessions.records import BackendName
from electrictown.sessions.registry import MARK

if TYPE_CHECKING:
    from libtmux.common import tmux_cmd

__all__ = ["TmuxExecutor"]

_PASSED: Final = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLORTERM", "TZ", "TMPDIR", "TMUX_TMPDIR"),
    *("LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LC_COLLATE", "LC_MESSAGES", "LC_NUMERIC", "LC_TIME"),
    *("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"),
    *("BYOBU_CONFIG_DIR", "BYOBU_PREFIX", "BYOBU_RUN_DIR"),
)
"""Of the environment, what a tmux server that is started here gets: it hands all of it on."""

_OURS: Final = "@electrictown"
"""The option of a tmux session that says it was started here, and of which session it is."""

_SIZE: Final = ("-x", "200", "-y", "50")
"""Columns and lines until somebody looks, whose terminal counts then."""

_ABOVE: Final = ("-S", "-50")
"""tmux scrolls the last lines of a program away to say that it is dead."""

_SOCKET: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_NOBODY: Final = re.compile(
    r"no server running|server exited|lost server|error connecting to .*\((No such file|Connection refused)"
)
_NOT_THERE: Final = re.compile(r"can't find (session|window|pane)|no such (session|window|pane)|no current")
_PATIENCE: Final = 20.0
"""Seconds that tmux has for anything; it needs a thousandth of that, and byobu half a second."""


class TmuxExecutor:
    """Programs in sessions of the tmux server whose socket is `socket` ("" for tmux's default).

    With `byobu` they are started and attached to through byobu.

    Raises:
        UsageError: when no socket can have this name.
    """

    def __init__(self, socket: str = "", *, byobu: bool = False) -> None:
        if socket and _SOCKET.fullmatch(socket) is None:
            raise UsageError(
                f"{socket!r} is no name of a tmux socket", "letters, digits, '.', '_' and '-' make one"
            )
        self._socket = socket
        self._byobu = byobu

    @property
    def backend(self) -> BackendName:
        """What it is."""
        return "byobu" if self._byobu else "tmux"

    @property
    def socket(self) -> str:
        """The tmux server it speaks to; "" is tmux's default."""
        return self._socket

    async def launch(self, name: str, command: Command, folder: Path, log: Path) -> None:
        """Start `command` in a tmux session `name`. Its terminal has all that it says: `log` is not used.

        Raises:
            SessionError: when it cannot be started, or tmux has a session of this name.
        """
        target = f"={checked(name)}:"
        environ = {key: value for key, value in command.environ.items() if key != "TERM"}
        program = exact(replace(command, environ=environ), folder)
        arguments = (
            *("new-session", "-d", "-s", name, "-n", name, *_SIZE, "--"),
            *(_escaped(part) for part in program),
            # In the same breath, so that a program that ends at once is not gone before.
            *(";", "set-option", "-t", target, _OURS, _escaped(command.environ.get(MARK) or name)),
            *(";", "set-option", "-t", target, "destroy-unattached", "off"),
            *(";", "set-option", "-w", "-t", target, "remain-on-exit", "on"),
        )
        trouble = await through(asyncio.ensure_future(self._start(arguments, folder)))
        if "duplicate session" in trouble:
            raise SessionError(
                f"tmux has a session {name} already",
                f"{self._spelled('kill-session', '-t', f'={name}')} ends it",
            )
        if trouble:
            raise SessionError(f"{self.backend} could not start the session {name}: {mask(trouble)}")

    async def _start(self, arguments: tuple[str, ...], folder: Path) -> str:
        """Start a session, and the server if there is none; what was wrong, or ""."""
        process = await asyncio.create_subprocess_exec(
            self._program(),
            *("-L", self._socket or "default", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env=_environment(os.environ),
            start_new_session=True,  # a Ctrl-C at the terminal is not for the server
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                _, said = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.communicate()
            return f"it did not answer for {_PATIENCE:.0f} s"
        if process.returncode:
            return " ".join(said.decode(errors="replace").split()) or f"exit {process.returncode}"
        return ""

    async def settle(self, name: str) -> None:
        """From now on the pane closes when its program ends; one whose program has ended closes now."""
        await self._ask("set-option", "-w", "-t", f"={checked(name)}:", "remain-on-exit", "off")
        if name not in await self.panes():
            await self.close(name)

    async def screen(self, name: str) -> str:
        """The lines that the program's pane shows, and some above them.

        tmux loses what a program says in the very instant of its end, if it has not read it yet.
        """
        for pane in await self._panes():
            if pane["session_name"] == checked(name):
                shown = await self._ask("capture-pane", "-p", "-J", *_ABOVE, "-t", pane["pane_id"])
                lines = [line.rstrip() for line in shown]
                return "\n".join(line for line in lines if not line.startswith("Pane is dead")).strip("\n")
        return ""

    async def panes(self) -> dict[str, Pane]:
        """The sessions with names like ours whose program runs.

        Raises:
            SessionError: when tmux does not say.
        """
        return {
            pane["session_name"]: Pane(
                pane["session_name"],
                int(pane["pane_pid"]),
                pane["session_attached"] != "0",
                float(pane["session_created"]),
            )
            for pane in await self._panes()
            if pane["pane_dead"] != "1"
        }

    async def _panes(self) -> list[Mapping[str, str]]:
        """Of each session with a name like ours, the first pane: the one that it was made with."""
        fields = ("session_name", "pane_id", "pane_pid", "pane_dead", "session_attached", "session_created")
        # A session's name never holds a colon, and the rest are numbers.
        lines = await self._ask("list-panes", "-a", "-F", ":".join(f"#{{{field}}}" for field in fields))
        rows = [dict(zip(map(str, fields), line.split(":"), strict=True)) for line in lines]
        first: dict[str, Mapping[str, str]] = {}
        for row in sorted(rows, key=lambda row: int(row["pane_id"][1:])):
            if is_name(row["session_name"]):
                first.setdefault(row["session_name"], row)
        return list(first.values())

    def attach_command(self, name: str) -> tuple[str, ...]:
        """What shows the session in this terminal; in one of the same server, what changes over to it."""
        target = ("-t", f"={checked(name)}")
        here = os.environ.get("TMUX", "").partition(",")[0]
        if here and _is_same(Path(here), self._path()):
            return (*self._spelling("tmux"), "switch-client", *target)
        outside = (
            ("env", "-u", "TMUX", "-u", "TMUX_PANE") if here else ()
        )  # tmux in another tmux, as was asked
        return (*outside, *self._spelling(self._program()), "attach-session", *target)

    async def close(self, name: str, mark: str = "") -> None:
        """End the tmux session `name` if it was started here, as that of `mark`; any other one stays."""
        form = f"#{{session_id}}:#{{session_name}}:#{{{_OURS}}}"
        for line in await self._ask("list-sessions", "-F", form):
            session, found, ours = line.split(":", 2)
            if found == checked(name) and ours and mark in ("", ours):
                await self._ask("kill-session", "-t", session)

    async def _ask(self, command: str, *arguments: str) -> list[str]:
        """The lines that tmux answers; none where there is no server, or nothing of what is meant.

        Raises:
            SessionError: when it does not answer, or complains.
        """

        def ask() -> tmux_cmd:
            from libtmux import Server
            from libtmux.exc import TmuxCommandNotFound

            try:
                return Server(socket_name=self._socket or "default").cmd(command, *arguments)
            except TmuxCommandNotFound:
                raise _missing("tmux") from None

        try:
            async with asyncio.timeout(_PATIENCE):
                answer = await in_daemon(ask)
        except TimeoutError:
            raise SessionError(
                f"tmux does not answer to {command}",
                f"is its server stopped? {self._spelled('list-sessions')}",
            ) from None
        if not answer.stderr:
            return answer.stdout
        said = " ".join(answer.stderr)
        if _NOBODY.search(said) or _NOT_THERE.search(said):
            return []
        raise SessionError(f"tmux: {mask(said)}")

    def _program(self) -> str:
        # byobu's own name for itself with tmux, whatever the user's choice of byobu's backend is
        program = shutil.which("byobu-tmux" if self._byobu else "tmux")
        if program is None or shutil.which("tmux") is None:
            raise _missing(self.backend)
        return program

    def _path(self) -> Path:
        folder = os.environ.get("TMUX_TMPDIR") or "/tmp"  # noqa: S108  (where tmux itself looks)
        return Path(folder, f"tmux-{os.getuid()}", self._socket or "default")

    def _spelling(self, program: str) -> tuple[str, ...]:
        return (program, "-L", self._socket or "default")

    def _spelled(self, *arguments: str) -> str:
        return f"`{' '.join((*self._spelling('tmux'), *arguments))}`"


def _missing(program: str) -> SessionError:
    return SessionError(f"{program} is not installed", f"apt-get install {program}, or --backend none")


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    passed = {name: value for name in _PASSED if (value := environ.get(name)) is not None}
    return {name: value for name, value in passed.items() if mask(value) == value} | (
        {} if passed.get("SHELL") else {"SHELL": "/bin/sh"}  # byobu's set-up is wrong without one
    )


def _escaped(argument: str) -> str:
    """`argument` as tmux is to be given it, which takes a ";" at the end for the end of the command."""
    return f"{argument[:-1]}\\;" if argument.endswith(";") else argument


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
