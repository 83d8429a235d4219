"""An agent's program: started on its leash, read, written to, and ended with all that it started."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from electrictown.errors import AgentError
from electrictown.redact import mask

__all__ = ["Program"]

_LEASH: Final = Path(__file__).with_name("leash.py")
_PATIENCE: Final = 2.0
"""Seconds a program has to end by itself when its input has ended; then it is asked to."""
_GRACE: Final = 2.0
"""Seconds between asking and killing."""
_LINES, _WIDTH = 12, 400
"""How much is kept of what a program prints beside the protocol."""


class Program(asyncio.SubprocessProtocol):
    """A running program. `hear` takes what it prints on stdout; `lost` is called once, when it has ended.

    Ended by `aclose`; gone with this process, however that ends.
    """

    def __init__(self, name: str, hear: Callable[[bytes], None], lost: Callable[[AgentError], None]) -> None:
        self._name = name
        self._hear = hear
        self._lost = lost
        self._words: deque[str] = deque(maxlen=_LINES)
        self._torn = b""
        self._room = asyncio.Event()
        self._room.set()
        self._open = 0
        self._exited = asyncio.Event()
        self._ended = asyncio.Event()
        self._tether = -1
        self._transport: asyncio.SubprocessTransport | None = None

    async def start(self, command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> None:
        """Start `command` in `folder` with this environment and no other.

        Raises:
            AgentError: when it cannot be started.
        """
        reading, self._tether = os.pipe()
        try:
            self._transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: self,
                sys.executable,
                *("-I", "-S", str(_LEASH), str(reading), str(_GRACE), *command),
                cwd=folder,
                env=dict(environ),
                pass_fds=(reading,),
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        except OSError as error:
            raise AgentError(f"{self._name} cannot be started in {folder}: {error.strerror}") from error
        finally:
            os.close(reading)

    # --- what the loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The program runs, with its three streams."""
        del transport
        self._open = 2

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """It printed something."""
        if fd == 1:
            self._hear(data)
        else:
            *lines, self._torn = (self._torn + data).split(b"\n")
            self._torn = self._torn[-_WIDTH:]
            for line in lines:
                self.note(line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """A stream is closed, at whichever end."""
        del exc
        if fd == 0:
            self._room.set()
        else:
            self._open -= 1
            self._over()

    def pause_writing(self) -> None:
        """It does not read as fast as we write."""
        self._room.clear()

    def resume_writing(self) -> None:
        """It has read."""
        self._room.set()

    def process_exited(self) -> None:
        """It is gone, with all that it started; the last of what it printed may still be on its way."""
        self._exited.set()
        self._room.set()
        self._over()

    def _over(self) -> None:
        # Where descendants escape the leash (not on Linux) one may hold a stream: it is not waited for.
        if (
            self._exited.is_set()
            and (self._open <= 0 or sys.platform != "linux")
            and not self._ended.is_set()
        ):
            self.note(self._torn)
            self._ended.set()
            words = f", saying:\n{self.last_words}" if self._words else ""
            self._lost(AgentError(f"{self._name} has ended ({self._ending()}){words}"))

    def _ending(self) -> str:
        code = self._transport.get_returncode() if self._transport else None
        return f"signal {code - 128}" if code is not None and code > 128 else f"exit code {code}"

    # --- what we do

    def note(self, line: bytes) -> None:
        """Keep a line that it printed and that is none of the protocol."""
        text = line[:_WIDTH].decode(errors="replace")
        text = "".join(letter if letter.isprintable() else " " for letter in text).strip()
        if text:
            self._words.append(text)

    @property
    def last_words(self) -> str:
        """The last lines it printed beside the protocol; no secret is in them."""
        return mask("\n".join(self._words))

    def write(self, data: bytes) -> None:
        """Send `data` to its stdin."""
        stdin = self._stdin()
        if stdin is not None and not stdin.is_closing():
            stdin.write(data)

    async def drained(self) -> None:
        """Return when it has read enough for more to be written, or reads no more."""
        await self._room.wait()

    def _stdin(self) -> asyncio.WriteTransport | None:
        pipe = self._transport.get_pipe_transport(0) if self._transport else None
        return pipe if isinstance(pipe, asyncio.WriteTransport) else None

    def release(self) -> None:
        """Have it ended, politely and then not; does not wait."""
        if self._tether >= 0:
            os.close(self._tether)
            self._tether = -1

    async def aclose(self) -> None:
        """End it, and return when nothing is left of it."""
        try:
            if self._transport is not None and not self._exited.is_set():
                stdin = self._stdin()
                if stdin is not None:
                    stdin.close()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PATIENCE):
                        await self._exited.wait()
        finally:
            self.release()
        if self._transport is not None:
            await self._exited.wait()  # the leash sees to it that this has an end
            self._transport.close()
