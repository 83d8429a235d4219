"""Launching: a session is recorded, set up, started and waited for; what fails on the way leaves nothing."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from electrictown.errors import (
    AgentMissingError,
    ElectrictownError,
    RunBusyError,
    SessionBusyError,
    SessionEndedError,
    SessionError,
)
from electrictown.journal.driver_lock import DriverLock
from electrictown.journal.through import in_thread, through
from electrictown.redact import mask
from electrictown.sessions.background import BackgroundExecutor
from electrictown.sessions.ending import end
from electrictown.sessions.launching import Command, Executor, ProviderAdapter
from electrictown.sessions.records import BackendName, Record
from electrictown.sessions.registry import MARK, Registry
from electrictown.sessions.tmux import TmuxExecutor

__all__ = ["OUTPUT", "ProgramAdapter", "SessionLauncher", "choose_backend", "executor_of"]

OUTPUT: Final = "output.log"
"""The file in the session's folder with what a program says that has no terminal."""

_PAUSE: Final = 0.05
_WORD: Final = 0.5
"""Seconds in which an agent that has ended may still be heard to say why."""
_UNDOING: Final = 1.0
"""Seconds that what is left of a start or a former life has to end by itself."""
_LINES: Final = 12
_LEGIBLE: Final = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b.?")
"""Sequences that a terminal obeys."""


def choose_backend(wanted: BackendName | None, environ: Mapping[str, str]) -> BackendName:
    """`wanted`, or else the best there is: byobu, then tmux, then none.

    Raises:
        SessionError: when what is wanted is not installed.
    """
    if wanted == "none":
        return "none"
    path = environ.get("PATH")
    has_tmux = shutil.which("tmux", path=path) is not None
    has_byobu = has_tmux and shutil.which("byobu-tmux", path=path) is not None
    if wanted is None:
        # byobu refuses to run in the home of another user, as under sudo
        own = _is_own(environ.get("HOME", ""))
        return "byobu" if has_byobu and own else "tmux" if has_tmux else "none"
    if not (has_byobu if wanted == "byobu" else has_tmux):
        raise SessionError(
            f"{wanted} is not installed", f"apt-get install {wanted}, or choose another --backend"
        )
    return wanted


def executor_of(backend: BackendName, socket: str = "") -> Executor:
    """Where sessions of `backend` run, with the tmux server whose socket is `socket`.

    Raises:
        SessionError: when no socket can have this name.
    """
    return BackgroundExecutor() if backend == "none" else TmuxExecutor(socket, byobu=backend == "byobu")


def _is_own(home: str) -> bool:
    try:
        return Path(home).stat().st_uid == os.geteuid()
    except OSError:
        return False


class SessionLauncher:
    """Starts sessions that `registry` records, where `executor` says."""

    def __init__(self, registry: Registry, executor: Executor) -> None:
        self._registry = registry
        self._executor = executor

    async def launch(
        self,
        adapter: ProviderAdapter,
        *,
        role: str,
        folder: Path,
        agent: str = "",
        config: str = "",
        prompt: str = "",
        seconds: float = 60.0,
    ) -> Record:
        """Start a new session with the agent of `adapter`, and return when it is ready.

        It has so many `seconds` for that. Whatever goes wrong, nothing of it is left running, and its
        status says why; so it is when the call is cancelled.

        Raises:
            SessionError: when it cannot be started, or ends before it is ready, with its last words.
            ElectrictownError: what the agent says why it cannot work.
        """
        record = self._registry.create(
            role,
            self._executor.backend,
            folder,
            agent=agent,
            socket=self._executor.socket,
            config=config,
            prompt=prompt,
        )
        async with self._undoing(record), self._starting(record.name):
            await self._start(record, adapter, seconds)
        return record

    async def relaunch(self, record: Record, adapter: ProviderAdapter, *, seconds: float = 60.0) -> Record:
        """Start a session once more that has ended, under its name; what is left of before is ended first.

        Raises:
            SessionBusyError: when it is alive, or is just being started.
            SessionError, ElectrictownError: as `launch`.
        """
        name = record.name
        async with self._starting(name):
            if self._registry.is_alive(name):
                raise SessionBusyError(f"the session {name} is alive already", f"et session attach {name}")
            await end(record, self._registry, executor_of(record.backend, record.socket), grace=_UNDOING)
            record = replace(record, backend=self._executor.backend, socket=self._executor.socket)
            self._registry.save(record.name, record)
            async with self._undoing(record):
                await self._start(record, adapter, seconds)
        return record

    @asynccontextmanager
    async def _starting(self, name: str) -> AsyncGenerator[None]:
        """Nobody else starts the session meanwhile: what has gone wrong here would be undone there."""
        lock = DriverLock(self._registry.folder(name).parent, f"{name}.start")
        try:
            try:
                await in_thread(lock.take)
            except RunBusyError:
                raise SessionBusyError(f"the session {name} is just being started") from None
            except OSError as error:
                raise SessionError(f"{name} cannot be started: {error.strerror or error}") from error
            yield
        finally:
            lock.release()

    @asynccontextmanager
    async def _undoing(self, record: Record) -> AsyncGenerator[None]:
        """Whatever goes wrong, the session is ended, and its status says why."""
        try:
            yield
        except BaseException as error:
            await through(asyncio.ensure_future(self._undo(record, error)))
            raise

    async def _start(self, record: Record, adapter: ProviderAdapter, seconds: float) -> None:
        folder = self._registry.folder(record.name)
        adapter.resolve_config(record)
        adapter.provision_hooks(record, folder)
        command = adapter.build_command(record)
        command = replace(command, environ={**command.environ, MARK: record.mark})
        await self._executor.launch(record.name, command, Path(record.folder), folder / OUTPUT)
        await self._ready(record, adapter, seconds)
        await self._executor.settle(record.name)

    async def _ready(self, record: Record, adapter: ProviderAdapter, seconds: float) -> None:
        """Wait until the agent is ready, but not for one that has ended."""
        ready = asyncio.ensure_future(adapter.readiness(record))
        gone = asyncio.ensure_future(self._gone(record.name))
        try:
            await asyncio.wait((ready, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if ready.done() and not gone.done():
                return ready.result()
            if gone.done():
                gone.result()
                await asyncio.wait((ready,), timeout=_WORD)
            raise await self._failure(record.name, adapter.name, ready, seconds)
        finally:
            for task in (ready, gone):
                task.cancel()
            await asyncio.gather(ready, gone, return_exceptions=True)

    async def _failure(
        self, name: str, agent: str, ready: asyncio.Future[None], seconds: float
    ) -> BaseException:
        """Why the agent did not get ready: what it says of it itself, or else its last words."""
        said = ready.exception() if ready.done() else None
        if said is not None and not isinstance(said, SessionEndedError):
            return said
        running = name in await self._executor.panes()
        what = f"was not ready within {seconds:g} s" if running else "ended before it was ready"
        words = _legible(await self._executor.screen(name))
        return SessionError(f"{agent} {what}" + (f"; it said:\n{words}" if words else ""))

    async def _gone(self, name: str) -> None:
        """Return as soon as the program has ended."""
        while name in await self._executor.panes():  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(_PAUSE)

    async def _undo(self, record: Record, error: BaseException) -> None:
        cancelled = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
        said = error.message if isinstance(error, ElectrictownError) else str(error)
        why = "its start was cancelled" if cancelled else " ".join(mask(said).split())
        try:
            await end(record, self._registry, self._executor, grace=_UNDOING)
            last = self._registry.status(record)
            self._registry.save(record.name, replace(last, state="failed", why=why))
        except SessionError as trouble:
            error.add_note(f"and it could not be undone: {trouble.message}")


class ProgramAdapter:
    """Any program as an agent, for others that launch agents.

    `arguments` are the program's, each as it stands, `environ` all of its environment. It is ready when it
    has run for so many `seconds`; with `shows`, when this text is among what `executor`, which runs it,
    has of it on the screen.
    """

    def __init__(
        self,
        name: str,
        arguments: tuple[str, ...],
        environ: Mapping[str, str],
        *,
        seconds: float = 0.5,
        shows: tuple[str, Executor] | None = None,
    ) -> None:
        self._name = name
        self._command = Command(arguments, dict(environ))
        self._seconds = seconds
        self._shows = shows

    @property
    def name(self) -> str:
        """What it is called."""
        return self._name

    def resolve_config(self, record: Record) -> None:
        """See to it that the program is installed.

        Raises:
            AgentMissingError: when it is not.
        """
        program = self._command.arguments[0]
        if shutil.which(program, path=self._command.environ.get("PATH")) is None:
            raise AgentMissingError(f"the program of {self._name}, {program}, is not installed")

    def provision_hooks(self, record: Record, folder: Path) -> None:
        """Nothing: the program knows nothing of sessions."""

    def build_command(self, record: Record) -> Command:
        """The program."""
        return self._command

    async def readiness(self, record: Record) -> None:
        """Return when it has run for a moment, or shows what is waited for."""
        if self._shows is None:
            await asyncio.sleep(self._seconds)
            return
        text, executor = self._shows
        while text not in await executor.screen(record.name):  # noqa: ASYNC110  (nobody tells)
            await asyncio.sleep(_PAUSE)


def _legible(text: str) -> str:
    """The last lines of `text`, as a terminal may show them: without a secret, and nothing to be obeyed."""
    plain = _LEGIBLE.sub("", mask(text)).expandtabs(4)
    lines = ["".join(c for c in line if c.isprintable()).rstrip() for line in plain.splitlines()]
    return "\n".join(f"  {line}" for line in [line for line in lines if line][-_LINES:])
