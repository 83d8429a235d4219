"""The lock that says who drives a run: held by the process, gone with it however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec
from msgspec import Struct

from electrictown.errors import RunBusyError

__all__ = ["DriverLock", "driven", "is_driven"]

_SUFFIX = ".lock"
_PATIENCE = 0.3
"""Seconds until a lock counts as held: who only looks whether a run is driven holds it for an instant."""
_PAUSE = 0.02


class _Holder(Struct):
    pid: int = 0
    host: str = ""


class DriverLock:
    """A `flock` on a file of the run's in `folder`. The file goes when the lock is released.

    The descriptor is closed in every program that is started from here, so none outlives the lock.
    """

    def __init__(self, folder: Path, run: str) -> None:
        self._run = run
        self._path = _path(folder, run)
        self._held: int | None = None

    def take(self) -> None:
        """Take the lock.

        Raises:
            RunBusyError: when somebody drives the run; it names the process and the host.
            OSError: when the file cannot be made.
        """
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        end = time.monotonic() + _PATIENCE
        while self._held is None:
            if not self._try() and time.monotonic() > end:
                raise self._busy()
            if self._held is None:
                time.sleep(_PAUSE)

    def release(self) -> None:
        """Let go of the lock, if it is held."""
        if self._held is not None:
            held, self._held = self._held, None
            self._path.unlink(missing_ok=True)  # while it is locked: nobody else can hold this very file
            os.close(held)

    def _try(self) -> bool:
        opened = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self._is_there(opened):
                os.close(opened)  # its last holder took it away between the two calls
                return False
            os.ftruncate(opened, 0)
            os.write(opened, msgspec.json.encode(_Holder(os.getpid(), socket.gethostname())))
        except BlockingIOError:
            os.close(opened)
            return False
        except BaseException:
            os.close(opened)
            raise
        self._held = opened
        return True

    def _is_there(self, opened: int) -> bool:
        try:
            return os.path.samestat(os.fstat(opened), self._path.stat())
        except FileNotFoundError:
            return False

    def _busy(self) -> RunBusyError:
        try:
            holder = msgspec.json.decode(self._path.read_bytes(), type=_Holder)
        except (OSError, msgspec.DecodeError):
            holder = _Holder()  # it is just being written, or gone: who it is stays unknown
        who = f"process {holder.pid} on {holder.host}" if holder.pid else "another process"
        return RunBusyError(
            f"the run {self._run} is driven by {who}",
            f"wait for it to end, or end it with `et cancel {self._run}`",
        )


def driven(folder: Path) -> set[str]:
    """The runs that somebody drives now."""
    try:
        found = [path for path in folder.iterdir() if path.name.endswith(_SUFFIX)]
    except FileNotFoundError:
        return set()
    return {unquote(path.name.removesuffix(_SUFFIX)) for path in found if _is_held(path)}


def is_driven(folder: Path, run: str) -> bool:
    """Whether somebody drives `run` now."""
    return _is_held(_path(folder, run))


def _path(folder: Path, run: str) -> Path:
    return folder / (quote(run, safe="") + _SUFFIX)


def _is_held(path: Path) -> bool:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(opened)
    return False
