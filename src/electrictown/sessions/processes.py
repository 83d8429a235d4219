"""The processes of a session: found by the mark in their environment, and signalled without mistake.

Who has the session's mark is the session's, and so are what it started and those in a process group or
terminal session that it leads, unless they have the mark of another session. What the session's own process
led is the session's after its end too, as long as one with the mark is in it: its pid is not given anew
before. A process is known by its pid and the moment it started: a pid that was given anew is somebody else.
Without /proc (macOS), the session's process is known by its pid and the session's name among its arguments.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from electrictown.sessions.registry import MARK

__all__ = ["Known", "Process", "members", "send"]

PROC: Final = Path("/proc")
_KEY: Final = f"{MARK}=".encode()
_INSTANTS: Final = 20
_INSTANT: Final = 0.002
_ENDED: Final = "ZX"
"""States of a process that has ended, and only waits to be looked at."""


class Process(Struct, frozen=True):
    """A process as it was seen. `mark` is None where it has none, or none that may be read."""

    pid: int
    start: str
    parent: int
    group: int
    session: int
    state: str
    mark: str | None = None

    @property
    def known(self) -> Known:
        """Who it is."""
        return (self.pid, self.start)


Known = tuple[int, str]
"""A process and no other: its pid, and when it started."""


def members(mark: str, name: str, pid: int = 0, known: Iterable[Known] = ()) -> list[Process]:
    """The processes that run now and are of the session `name` with `mark`; never the one that asks.

    `known` were of it before: they still are, whoever their parent is now. `pid` is what the session says,
    or said, that its process is.
    """
    seen = _by_proc() if PROC.joinpath("self", "environ").exists() else _by_ps(mark, name, pid)
    there = {one.pid: one for one in seen if one.state not in _ENDED}
    before = set(known)
    ours = {one.pid: one for one in there.values() if one.mark == mark or one.known in before}
    of: dict[int, list[Process]] = defaultdict(list)
    for one in there.values():
        if one.mark is None:
            for origin in (one.parent, one.group, one.session):
                of[origin].append(one)
    led = pid not in there and any(one.session == pid for one in ours.values())
    new = [*ours, *((pid,) if led else ())]
    while new:
        found = {one.pid: one for one in of[new.pop()] if one.pid not in ours}
        ours |= found
        new += found
    return [one for one in ours.values() if one.pid != os.getpid()]


def send(process: Known, number: signal.Signals) -> bool:
    """Send the signal to this very process; False when it is gone.

    Raises:
        PermissionError: when it belongs to another user.
    """
    pid, start = process
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except (AttributeError, OSError):  # no Linux, or an old one
        return _is_there(pid, start) and _kill(pid, number)
    try:
        # The handle is of whoever has the pid now, and stays so: what is found out now is of the same one.
        if not _is_there(pid, start):
            return False
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _kill(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _is_there(pid: int, start: str) -> bool:
    if PROC.joinpath("self", "stat").exists():
        one = _read(PROC / str(pid))
        return one is not None and one.start == start
    return _ps("-o", "lstart=", "-p", str(pid)).split() == start.split()


def _by_proc() -> list[Process]:
    seen = (_read(entry) for entry in PROC.iterdir() if entry.name.isdigit())
    return [one for one in seen if one is not None]


def _read(entry: Path) -> Process | None:
    """The process whose folder in /proc is `entry`; None when it is gone."""
    try:
        fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    state, parent, group, session = fields[0], *map(int, fields[1:4])
    mark = None
    with suppress(OSError):  # another user's, or it is gone
        for assignment in _environ(entry).split(b"\0") if state not in _ENDED else ():
            if assignment.startswith(_KEY):
                mark = assignment.removeprefix(_KEY).decode(errors="replace")
                break
    return Process(int(entry.name), fields[19], parent, group, session, state, mark)


def _environ(entry: Path) -> bytes:
    """The environment of a process; in the instant in which it becomes another program, it has none."""
    for _ in range(_INSTANTS):
        if (environ := (entry / "environ").read_bytes()) or (entry / "cmdline").read_bytes():
            return environ
        (entry / "exe").readlink()  # what the kernel runs for itself has no file: an OSError
        time.sleep(_INSTANT)
    return b""


def _by_ps(mark: str, name: str, pid: int) -> list[Process]:
    """What ps tells. `mark` is said of the process `pid` only, and only if `name` is among its arguments."""
    seen: list[Process] = []
    for line in _ps("-A", "-ww", "-o", "pid=,ppid=,pgid=,stat=,lstart=,args=").splitlines():
        fields = line.split()
        one, parent, group = map(int, fields[:3])
        its = mark if one == pid and name in fields[9:] else None
        seen.append(Process(one, " ".join(fields[4:9]), parent, group, group, fields[3][0], its))
    return seen


def _ps(*arguments: str) -> str:
    environ = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False, env=environ).stdout  # noqa: S603, S607
