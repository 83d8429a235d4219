"""A session in the hand of its screen, without a session; and a screen in a tmux of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from electrictown.errors import JournalError, ModelNotFoundError
from electrictown.llm.costs import Summary
from electrictown.work import Cost

__all__ = ["NAME", "Pane", "Script", "gone", "until"]

NAME = "et-polecat-a3f2"
STAND_IN = Path(__file__).with_name("stand_in.py")


class Script:
    """`Controls` that write down in `done` what they are told; what is under way, asked or broken is set."""

    def __init__(self, folder: Path, tell: Callable[[str, object], None] | None = None) -> None:
        self.done: list[tuple[str, object]] = []
        self.busy = False
        self.asking = False
        self.fails = False
        self._folder = folder
        self._tell = tell or (lambda verb, argument: self.done.append((verb, argument)))

    @property
    def name(self) -> str:
        return NAME

    @property
    def folder(self) -> Path:
        return self._folder

    async def say(self, text: str) -> None:
        if self.fails:
            raise JournalError("the disk is full", "make room")
        self._tell("say", text)

    def interrupt(self) -> bool:
        self._tell("interrupt", self.busy)
        return self.busy

    def answer(self, *, allow: bool) -> bool:
        self._tell("answer", allow)
        asking, self.asking = self.asking, False
        return asking

    def models(self) -> tuple[str, ...]:
        return ("qwen", "gpt-mini", "gpt-large")

    async def use(self, model: str) -> str:
        if model not in self.models():
            raise ModelNotFoundError(f"there is no model {model!r}", "did you mean 'qwen'?")
        self._tell("use", model)
        return model

    def costs(self) -> Summary:
        return Summary(
            Cost("total", requests=3, input=1100, output=234, usd=None, known_usd=0.0123),
            by_model=(
                Cost("qwen", requests=2, input=1000, output=234, usd=0.0123, known_usd=0.0123),
                Cost("gpt", requests=1, input=100, usd=None),
            ),
        )

    def transcript(self) -> str:
        return "# A conversation\n\nwith é and 日本\n"

    def quit(self) -> None:
        self._tell("quit", None)


def until(true: Callable[[], bool], why: Callable[[], str] = lambda: "", seconds: float = 20.0) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"it did not happen: {why()}"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Pane:
    """The screen of a stand-in: what is shown on it, and the hands of the person before it."""

    def __init__(self, folder: Path, columns: int = 80, rows: int = 24) -> None:
        self.folder = folder
        self._tmux = ("tmux", "-S", str(folder / "tmux"), "-f", "/dev/null")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / "s"))
            server.listen(1)
            server.settimeout(20)
            self.tmux(
                *("new-session", "-d", "-s", "town", "-x", str(columns), "-y", str(rows), "--"),
                *("sh", "-c", '"$@" 2>"$0"; echo "left with $?"; stty -a >"$0.stty"; cat'),
                *(
                    str(folder / "errors"),
                    sys.executable,
                    "-P",
                    str(STAND_IN),
                    str(folder / "s"),
                    str(folder),
                ),
            )
            self.server = int(self.tmux("display", "-p", "#{pid}"))
            self._line, _ = server.accept()
        self._line.settimeout(20)
        self._heard = self._line.makefile("r")

    def tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        )
        return done.stdout

    def tell(self, **told: object) -> None:
        self._line.sendall(json.dumps(told).encode() + b"\n")

    def show(self, kind: str, text: str = "", **entry: object) -> None:
        self.tell(entry={"kind": kind, "text": text, **entry}, busy=kind != "end", asking=kind == "ask")

    def heard(self) -> tuple[str, Any]:
        """The next thing that the person did, as the session was told of it."""
        verb, argument = json.loads(self._heard.readline())
        return verb, argument

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-t", "=town:", "-l", "--", text)

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", "=town:", *keys)

    def paste(self, text: str) -> None:
        self.tmux("set-buffer", "--", text)
        self.tmux("paste-buffer", "-p", "-t", "=town:")

    def screen(self, *options: str) -> str:
        """What is to be seen, with `-S -` in the scrollback too."""
        return self.tmux("capture-pane", "-p", "-t", "=town:", *options)

    def sees(self, *texts: str) -> str:
        """The screen, as soon as all of `texts` are on it."""
        shown = ""

        def there() -> bool:
            nonlocal shown
            shown = self.screen()
            return all(text in shown for text in texts)

        until(there, lambda: f"{texts} not in:\n{shown}\n{self.errors}")
        return shown

    @property
    def errors(self) -> str:
        return (self.folder / "errors").read_text()

    @property
    def program(self) -> int:
        """The stand-in's process."""
        shell = int(self.tmux("display", "-p", "-t", "=town:", "#{pane_pid}"))
        found: list[int] = []

        def there() -> bool:
            found[:] = map(int, Path(f"/proc/{shell}/task/{shell}/children").read_text().split())
            return bool(found)

        until(there)
        return found[0]

    def close(self) -> None:
        self._heard.close()
        self._line.close()
        with suppress(ProcessLookupError):
            os.kill(self.server, signal.SIGCONT)
        with suppress(subprocess.CalledProcessError):
            self.tmux("kill-server")
