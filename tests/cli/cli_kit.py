"""`et` as people and programs call it: in this process for speed, in one of its own where that matters."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch

import msgspec

from electrictown.cli.app import app
from electrictown.work import Report

__all__ = ["ET", "Said", "Shell", "until"]

ET = (sys.executable, "-c", "from electrictown.cli.main import main; main()")
"""What the entry point `et` runs, wherever its script may lie."""


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err

    @property
    def json(self) -> Any:  # noqa: ANN401  (any JSON value)
        return msgspec.json.decode(self.out)

    @property
    def report(self) -> Report:
        return msgspec.json.decode(self.out, type=Report)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in self.out.splitlines()]


class Shell:
    """A folder to work in, a home and an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder.parent / "home"

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def configure(self, text: str) -> None:
        """The configuration that every command here finds."""
        self.write("electrictown.yaml", text)

    def files(self, under: str = "") -> list[str]:
        found = (self.folder / under).rglob("*")
        return sorted(str(path.relative_to(self.folder)) for path in found if path.is_file())

    def et(self, *arguments: str, stdin: str | bytes = b"") -> Said:
        """`et` in this process, its streams no terminal."""
        given = io.TextIOWrapper(io.BytesIO(stdin.encode() if isinstance(stdin, str) else stdin), "utf-8")
        out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
        with patch("sys.stdin", given), redirect_stdout(out), redirect_stderr(err):
            code = app(arguments)
        return Said(code, _text(out), _text(err))

    def start(
        self, *arguments: str, stdout: int | IO[bytes] = subprocess.PIPE, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """`et` in a process and a process group of its own, with pipes for its streams."""
        return subprocess.Popen(
            [*ET, *arguments],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=env,
            start_new_session=True,
        )

    def process(self, *arguments: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Said:
        """`et` in a process of its own, to its end."""
        return finished(self.start(*arguments, env=env), stdin)


def finished(process: subprocess.Popen[bytes], stdin: bytes = b"") -> Said:
    with process:
        try:
            out, err = process.communicate(stdin or None, timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Said(process.returncode, out.decode(), err.decode())


def _text(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def children(pid: int) -> Sequence[int]:
    """The processes that `pid` started and that still run."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
