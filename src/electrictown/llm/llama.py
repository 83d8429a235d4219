"""A llama.cpp in a process of its own: how it is started, asked, found dead and ended."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
from contextlib import suppress
from typing import IO

from msgspec import Struct

from electrictown.errors import ConfigError, ModelNotFoundError, ServerError
from electrictown.llm.endpoint import HttpProvider, openai
from electrictown.llm.messages import Json
from electrictown.llm.provider import ProviderSettings
from electrictown.redact import Secret, mask

__all__ = ["Llama", "Order"]

_LOAD_LIMIT = 900.0
"""Seconds a model may take to load: tens of GiB from a slow disk."""

_GRACE = 3.0
"""Seconds between a broken connection and the news of the process's end: freeing its memory takes a while."""

_ENVIRONMENT = (
    *("PATH", "HOME", "LANG", "LC_ALL", "USER", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
    "ELECTRICTOWN_SESSION",  # so that a session knows all it has started
)
_ACCELERATORS = ("OMP_", "CUDA_", "HIP_", "ROCR_", "GGML_")


class Order(Struct, frozen=True):
    """What a child is told to load, but for its key."""

    path: str
    label: str
    slots: int
    threads: int
    context: int


class Llama:
    """A running llama.cpp: its process, its log, and the provider that talks to it.

    `context` is the tokens a slot holds; whoever asks takes one of `slots` first.
    """

    def __init__(
        self,
        *,
        process: asyncio.subprocess.Process,
        log: IO[bytes],
        http: HttpProvider,
        order: Order,
        context: int,
    ) -> None:
        self.http = http
        self.label = order.label
        self.context = context
        self.slots = asyncio.Semaphore(order.slots)
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, order: Order, settings: ProviderSettings) -> Llama:
        """Start a process, and return when the model is loaded.

        Raises:
            ConfigError: where xllamacpp or a library it needs cannot be loaded.
            ModelNotFoundError: for a file that is no model llama.cpp can load.
            ServerError: when the process died while loading.
        """
        key = Secret(secrets.token_urlsafe(32))
        log = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        process = None
        try:
            process = await _spawn(log)
            ready = await _hello(process, order, key)
            if "address" in ready:
                http = openai(_endpoint(settings, f"{ready['address']}/v1", key))
                return cls(process=process, log=log, http=http, order=order, context=ready["context"])
            error = _load_error(order, str(ready.get("error", "")), process.returncode, _tail(log))
        except BaseException:
            await _discard(process, log)
            raise
        await _discard(process, log)
        raise error

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.returncode is None

    async def died(self) -> bool:
        """Whether the process has ended; a connection breaks a moment before the exit is known."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _GRACE)
        return not self.alive

    @property
    def ending(self) -> str:
        """How the process ended: a signal's name or an exit code."""
        return _ending(self._process.returncode)

    @property
    def last_words(self) -> str:
        """The last lines of llama.cpp's log."""
        return "" if self._log.closed else _tail(self._log)

    async def aclose(self) -> None:
        """Close the connections, kill the process and wait for its end."""
        try:
            await self.http.aclose()
        finally:
            await _discard(self._process, self._log)


async def _spawn(log: IO[bytes]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # the working folder may hold files a model wrote: none of them is imported
        "-m",
        "electrictown.llm.llama_child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env=_environment(),
        start_new_session=True,  # Ctrl-C is the parent's to handle
    )


def _endpoint(settings: ProviderSettings, base_url: str, key: Secret) -> ProviderSettings:
    return ProviderSettings(
        name=settings.name,
        type="openai",
        base_url=base_url,
        api_key=key,
        # llama.cpp promises to keep a connection, and closes it at the end of every stream.
        headers={"Connection": "close"},
        timeouts=settings.timeouts,
        allow_incomplete=settings.allow_incomplete,
    )


async def _hello(process: asyncio.subprocess.Process, order: Order, key: Secret) -> dict[str, Json]:
    """Send the order and wait for the child's one line; {} when it ended without a word."""
    assert process.stdin is not None  # noqa: S101  (both are pipes)
    assert process.stdout is not None  # noqa: S101
    fields = {name: getattr(order, name) for name in order.__struct_fields__}
    # A child that dies at once breaks the pipe; its end is reported below.
    with suppress(ConnectionError):
        process.stdin.write(json.dumps({**fields, "key": key.reveal()}).encode() + b"\n")
        await process.stdin.drain()
    try:
        async with asyncio.timeout(_LOAD_LIMIT):
            line = await process.stdout.readline()
    except TimeoutError:
        return {"error": f"still loading after {_LOAD_LIMIT:g} s"}
    if not line:
        await process.wait()
    return json.loads(line) if line else {}


def _load_error(
    order: Order, error: str, code: int | None, log: str
) -> ConfigError | ModelNotFoundError | ServerError:
    if "libgomp" in error:
        return ConfigError("llama.cpp needs the library libgomp", hint="apt-get install libgomp1")
    if "ImportError" in error or "ModuleNotFoundError" in error:
        return ConfigError(f"xllamacpp cannot be loaded: {error}", hint="pip install 'electrictown[local]'")
    if error:
        return ModelNotFoundError(
            f"{order.path} cannot be loaded: {error}", log or "is it a whole GGUF file?", model=order.label
        )
    return ServerError(
        f"the embedded model's process died while loading {order.path} ({_ending(code)})",
        log or "is there memory enough for the model?",
        model=order.label,
    )


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _tail(log: IO[bytes], lines: int = 5) -> str:
    size = os.fstat(log.fileno()).st_size
    text = os.pread(log.fileno(), 4096, max(0, size - 4096)).decode(errors="replace")
    return mask("\n".join(text.splitlines()[-lines:]))


async def _discard(process: asyncio.subprocess.Process | None, log: IO[bytes]) -> None:
    """Kill the process's group and reap it, even while being cancelled."""
    log.close()
    if process is None:
        return
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    waiting = asyncio.ensure_future(process.wait())
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        await waiting
        raise


def _environment() -> dict[str, str]:
    allowed = {
        name: value
        for name, value in os.environ.items()
        if name in _ENVIRONMENT or name.startswith(_ACCELERATORS)
    }
    # On a machine that has other work, threads that spin while they wait cost four fifths of the speed.
    return {"OMP_WAIT_POLICY": "passive", **allowed, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
