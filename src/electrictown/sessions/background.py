"""Sessions without a terminal: programs in the background, each with a session of processes of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

from msgspec import Struct

from electrictown.errors import SessionError
from electrictown.sessions.exact import exact
from electrictown.sessions.launching import Command, Pane
from electrictown.sessions.names import checked
from electrictown.sessions.records import BackendName

__all__ = ["BackgroundExecutor"]

_TAIL: Final = 16 << 10
"""Bytes of a program's last words."""
_RESTORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores, and programs do not expect to be ignored."""


class _Child(Struct, frozen=True):
    pid: int
    log: Path
    begins: int


class BackgroundExecutor:
    """Programs that go on when who started them ends. It knows those only that it started itself.

    They are no children of asyncio's, which would have to outlive them.
    """

    def __init__(self) -> None:
        self._running: dict[str, _Child] = {}
        self._said: dict[str, _Child] = {}

    @property
    def backend(self) -> BackendName:
        """What it is."""
        return "none"

    @property
    def socket(self) -> str:
        """There is no tmux server."""
        return ""

    async def launch(self, name: str, command: Command, folder: Path, log: Path) -> None:
        """Start `command` with nothing to read; what it says is appended to the file `log`.

        Raises:
            SessionError: when it cannot be started, or runs already.
        """
        self._look(checked(name))
        if name in self._running:
            raise SessionError(f"the session {name} runs already")
        try:
            child = _spawned(exact(command, folder), log)
        except OSError as error:
            raise SessionError(f"the session {name} cannot be started: {error.strerror or error}") from error
        self._running[name] = self._said[name] = child

    async def settle(self, name: str) -> None:
        """Nothing: what a program says stays in its file."""

    async def screen(self, name: str) -> str:
        """The end of what the program has written since it was started here."""
        if (child := self._said.get(name)) is None:
            return ""
        with child.log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(child.begins, end - _TAIL))
            return stream.read().decode(errors="replace")

    async def panes(self) -> dict[str, Pane]:
        """The programs that were started here and still run."""
        for name in list(self._running):
            self._look(name)
        return {name: Pane(name, child.pid) for name, child in self._running.items()}

    def attach_command(self, name: str) -> tuple[str, ...]:
        """There is nothing to be seen."""
        return ()

    async def close(self, name: str, mark: str = "") -> None:
        """Nothing is left of a program that has ended."""
        self._look(name)

    def _look(self, name: str) -> None:
        """Take note if the program has ended."""
        if (child := self._running.get(name)) is not None:
            try:
                ended, _ = os.waitpid(child.pid, os.WNOHANG)
            except ChildProcessError:  # this program has its children looked after by somebody else
                ended = child.pid
            if ended:
                del self._running[name]


def _spawned(program: tuple[str, ...], log: Path) -> _Child:
    begins = log.stat().st_size if log.exists() else 0
    pid = os.posix_spawn(
        program[0],
        program,
        {},
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ),
        setsid=True,
        setsigmask=(),
        setsigdef=_RESTORED,
    )
    return _Child(pid, log, begins)
