"""Launching for real, on a tmux server of the test's own: nothing is left of it, and it is looked for."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from electrictown.errors import SessionEndedError
from electrictown.sessions.inbox import call
from electrictown.sessions.launcher import SessionLauncher, executor_of
from electrictown.sessions.launching import Command, Executor
from electrictown.sessions.messages import Look, Seen
from electrictown.sessions.records import BackendName, Record
from electrictown.sessions.registry import MARK, Registry

__all__ = ["KINDS", "Place", "StandIn", "alive", "environment", "needs", "place", "until"]

KINDS: Final[tuple[BackendName, ...]] = ("tmux", "byobu", "none")
PATH: Final = os.environ["PATH"]
_STAND_IN: Final = Path(__file__).with_name("stand_in.py")
_SOURCES: Final = Path(__file__).parents[2] / "src"


def needs(kind: BackendName) -> None:
    """Skip where the backend is not installed."""
    for program in {"tmux": ["tmux"], "byobu": ["tmux", "byobu-tmux"], "none": []}[kind]:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


async def until(true: Callable[[], object] | Callable[[], Awaitable[object]], seconds: float = 30.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while True:
        result = true()
        if await result if isinstance(result, Awaitable) else result:
            return
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def environment(pid: int) -> dict[str, str]:
    """The environment that the process was started with, as anybody may see it."""
    block = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(line.split("=", 1) for line in block if line)


class StandIn:
    """The stand-in program as an agent, ready when it answers."""

    name = "stand-in"

    def __init__(self, place: Place, ways: str = "") -> None:
        self._place = place
        self._ways = ways

    def resolve_config(self, record: Record) -> None: ...

    def provision_hooks(self, record: Record, folder: Path) -> None: ...

    def build_command(self, record: Record) -> Command:
        arguments = (sys.executable, "-P", str(_STAND_IN), str(self._place.state), record.name, self._ways)
        return Command(arguments, {"PATH": PATH, "PYTHONPATH": str(_SOURCES), "PYTHONDONTWRITEBYTECODE": "1"})

    async def readiness(self, record: Record) -> None:
        folder = self._place.registry.folder(record.name)
        await until((folder / "there.json").exists)
        if "s" in self._ways:
            (pid, *_) = self._place.pids(record)
            await until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
            return
        while True:
            try:
                await call(record.name, folder, Look(), Seen)
            except SessionEndedError:
                await asyncio.sleep(0.01)
            else:
                return


class Place:
    """A home, a registry and a tmux server, all of this test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "sessions"
        self.registry = Registry(self.state)
        self.work = folder / "work"
        self.work.mkdir()
        self.socket = "et-test"
        self._executors: dict[BackendName, Executor] = {}

    def executor(self, kind: BackendName) -> Executor:
        needs(kind)
        return self._executors.setdefault(kind, executor_of(kind, "" if kind == "none" else self.socket))

    def launcher(self, kind: BackendName) -> SessionLauncher:
        return SessionLauncher(self.registry, self.executor(kind))

    async def start(self, kind: BackendName = "tmux", ways: str = "", role: str = "polecat") -> Record:
        """A session with the stand-in."""
        return await self.launcher(kind).launch(StandIn(self, ways), role=role, folder=self.work)

    def pids(self, record: Record) -> list[int]:
        """The stand-in's process, and those of its tree."""
        return json.loads((self.registry.folder(record.name) / "there.json").read_bytes())

    def named(self, name: str) -> Record:
        """A record with just this name, as if it had been made by chance."""
        self.registry.folder(name).mkdir(parents=True)
        mark = f"{name}.{secrets.token_hex(8)}"
        record = Record(name, "polecat", "tmux", str(self.work), mark, socket=self.socket)
        self.registry.save(record.name, record)
        return record

    def tmux(self, *arguments: str, **environ: str) -> str:
        """What the user's own tmux says on this server."""
        return subprocess.run(
            ["tmux", "-L", self.socket, *arguments],
            env={**os.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()

    def server(self) -> int:
        """The pid of the tmux server; 0 where there is none."""
        return int(self.tmux("display-message", "-p", "#{pid}") or 0)

    def marked(self) -> list[int]:
        """All processes that have the mark of a session of this place."""
        marks = {self.registry.find(name).mark for name in self.registry.names()}
        return [pid for pid, environ in _environments() if environ.get(MARK) in marks]

    def others(self) -> list[int]:
        """Programs that have this place for their home, or work in it: tmux's, byobu's, the user's."""
        home = str(self.folder)
        return [
            pid
            for pid, environ in _environments()
            if environ.get("HOME") == home or _works_in(pid).is_relative_to(home)
        ]


def _environments() -> Generator[tuple[int, dict[str, str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and alive(int(entry.name)):
            try:
                environ = environment(int(entry.name))
            except (OSError, ValueError):  # it has ended, or is another user's
                continue
            yield int(entry.name), environ


def _works_in(pid: int) -> Path:
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return Path()


@contextmanager
def place(monkeypatch: pytest.MonkeyPatch) -> Generator[Place]:
    """A place to launch in. Whatever the test leaves there is an error, once it is ended."""
    # A socket's path is short: the folders of pytest are too deep for one.
    folder = Path(tempfile.mkdtemp(prefix="et-"))
    for name, value in {
        "HOME": str(folder),
        "TMUX_TMPDIR": str(folder),
        "SHELL": "/bin/sh",
        "USER": folder.name,  # byobu looks for what belongs to the user in folders that all share
        "BYOBU_RUN_DIR": str(folder / "run"),
    }.items():
        monkeypatch.setenv(name, value)
    (folder / "run").mkdir()
    # What byobu has to say of the machine takes longer than all else.
    (folder / ".byobu").mkdir()
    (folder / ".byobu" / "status.disable").touch()
    for name in ("TMUX", "TMUX_PANE", "XDG_CONFIG_HOME", "BYOBU_CONFIG_DIR", MARK):
        monkeypatch.delenv(name, raising=False)
    here = Place(folder)
    left: list[int] = []
    try:
        yield here
        left = here.marked()
    finally:
        if shutil.which("tmux"):
            here.tmux("kill-server")
        end = time.monotonic() + 10
        while (pids := [*here.marked(), *here.others()]) and time.monotonic() < end:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        shutil.rmtree(folder)
    assert not left, "processes of a session were left running"
