"""Sessions as people have them: the real `et`, real tmux and byobu, in a home of the test's own."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pytest

from electrictown.cli.app import app
from electrictown.journal.journal import Step
from electrictown.journal.tables import look_in, steps
from electrictown.sessions.records import Record, Said, Turn
from electrictown.sessions.registry import MARK, Registry

__all__ = ["BACKENDS", "SECRET", "Home", "at_home", "until", "yaml_for"]

BACKENDS = ("tmux", "byobu", "none")
SECRET = "sk-not-to-be-seen-anywhere-7261"


def until(true: Callable[[], object], what: str = "it", seconds: float = 30.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what} did not happen"
        time.sleep(0.02)


class Home:
    """A home with a configuration, a folder to work in, and a tmux server."""

    def __init__(self, folder: Path, run: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        self.state = folder / ".local" / "state" / "electrictown"
        self.registry = Registry(self.state / "sessions")
        self.socket = "et-proof"
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "TMUX_TMPDIR": str(run),
            "USER": "somebody",
            "BYOBU_RUN_DIR": str(run),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "THEIR_KEY": SECRET,
        }

    def configure(self, text: str) -> None:
        (self.work / "electrictown.yaml").write_text(text)

    def et(self, *arguments: str | bytes, stdin: bytes = b"", ok: bool = True) -> str:
        """What `et session ...` prints; `ok` expects it to end well."""
        done = self.run(*arguments, stdin=stdin)
        assert not ok or done.returncode == 0, done.stderr.decode()
        return (done.stdout if done.returncode == 0 else done.stderr).decode()

    def run(self, *arguments: str | bytes, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """`et session ...` in this process, in that environment and folder: quick, and just the same."""
        given = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with (
            patch.dict(os.environ, self.environ, clear=True),
            chdir(self.work),
            patch("sys.stdin", given),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            code = app(["session", *map(os.fsdecode, arguments)])
        said = [stream.buffer.getvalue() for stream in (out, err)]  # type: ignore[attr-defined]
        return subprocess.CompletedProcess(arguments, code, *said)

    def spawn(self, backend: str, *more: str) -> str:
        """A session that is ready; its name."""
        if backend != "none" and shutil.which({"tmux": "tmux", "byobu": "byobu-tmux"}[backend]) is None:
            pytest.skip(f"{backend} is not installed")
        on = ("--socket", self.socket) if backend != "none" else ()
        return self.et("spawn", "--backend", backend, *on, *more).strip()

    def record(self, name: str) -> Record:
        return self.registry.find(name)

    def list(self, *more: str) -> dict[str, dict[str, Any]]:
        """`et session list`, by name."""
        rows = msgspec.json.decode(self.et("list", "--socket", self.socket, "--json", *more))
        return {row["name"]: row for row in rows}

    def state_of(self, name: str) -> str:
        return self.list("--all")[name]["state"]

    def idle(self, name: str) -> None:
        self.et("wait", name, "--timeout", "90")

    # --- what is kept

    def steps(self, name: str, kind: str) -> list[Step]:
        file = look_in(self.state / "journal.db", 10)
        try:
            return steps(file, name, (kind,), None)
        finally:
            file.close()

    def said(self, name: str) -> list[Said]:
        return [step.read(Said) for step in self.steps(name, "said")]

    def turns(self, name: str) -> list[Turn]:
        return [step.read(Turn) for step in self.steps(name, "turn")]

    # --- what runs

    def processes(self, name: str = "") -> dict[int, str]:
        """The processes of the session, or of all sessions of this home, with their command lines."""
        names = [name] if name else self.registry.names()
        marks = {f"{MARK}={self.record(one).mark}".encode() for one in names}
        found: dict[int, str] = {}
        for folder in Path("/proc").iterdir():
            with suppress(OSError):
                ours = folder.name.isdecimal() and marks & set((folder / "environ").read_bytes().split(b"\0"))
                if ours and (folder / "stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z":
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
        return found

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self.socket, *arguments], env=self.environ, capture_output=True, check=False
        )
        return done.stdout.decode()

    def tmux_pid(self) -> int:
        return int(self.tmux("display-message", "-p", "#{pid}"))

    def close(self) -> None:
        """End all that is left; a test that leaves something running has failed."""
        for name in self.registry.names():
            self.run("kill", name)
        left = self.processes()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.tmux("kill-server")
        assert not left


@contextmanager
def at_home(folder: Path) -> Generator[Home]:
    """A home below `folder`. A socket's path must be short, so the tmux server's is elsewhere."""
    with tempfile.TemporaryDirectory(prefix="et") as run:
        home = Home(folder, Path(run))
        try:
            yield home
        finally:
            home.close()


def yaml_for(url: str, more: Mapping[str, str] | None = None) -> str:
    """One model on an OpenAI-compatible server, its key in a variable."""
    extra = "".join(f"{key}: {value}\n" for key, value in (more or {}).items())
    return (
        f"providers:\n  here: {{type: openai, base_url: {url}/v1, api_key: $THEIR_KEY}}\n"
        "models:\n  small: {provider: here, model: little, price: {input: 1, output: 2}}\n"
        f"roles:\n  polecat: {{model: small}}\n{extra}"
    )
