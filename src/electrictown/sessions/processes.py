"""The processes of a session: found by the mark in their environment, and signalled without mistake.

Who has the session's mark is the session's, and so are what it started and those in a process group or
terminal session that it leads, unless they have the mark of another session. A process is known by its pid
and the moment it started: a pid that was given anew is somebody else. Without /proc (macOS), the session's
process is known by its pid and the session's name among its arguments.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from electrictown.sessions.registry import MARK

__all__ = ["Known", "Process", "members", "send"]

PROC: Final = Path("/proc")
_KEY: Final = f"{MARK}=".encode()
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

    `known` were of it before: they still are, whoever their parent is now. `pid` is what the session says
    its process is; it counts only where there is no /proc.
    """
    there = _by_proc() if PROC.joinpath("self", "environ").exists() else _by_ps(mark, name, pid)
    before = set(known)
    ours = {one.pid: one for one in there.values() if one.mark == mark or one.known in before}
    of: dict[int, list[Process]] = defaultdict(list)
    for one in there.values():
        if one.mark is None:
            for origin in (one.parent, one.group, one.session):
                of[origin].append(one)
    new = list(ours)
    while new:
        found = {one.pid: one for one in of[new.pop()] if one.pid not in ours}
        ours |= found
        new += found
    return [one for one in ours.values() if one.pid != os.getpid() and one.state not in _ENDED]


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
    return _ps("-o", "lstart=", "-p", str(pid)).strip() == start


def _by_proc() -> Mapping[int, Process]:
    seen = (_read(entry) for entry in PROC.iterdir() if entry.name.isdigit())
    return {one.pid: one for one in seen if one is not None}


def _read(entry: Path) -> Process | None:
    """The process whose folder in /proc is `entry`; None when it is gone."""
    try:
        fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    mark = None
    with suppress(OSError):  # another user's
        for assignment in (entry / "environ").read_bytes().split(b"\0"):
            if assignment.startswith(_KEY):
                mark = assignment.removeprefix(_KEY).decode(errors="replace")
                break
    state, parent, group, session = fields[0], *map(int, fields[1:4])
    return Process(int(entry.name), fields[19], parent, group, session, state, mark)


def _by_ps(mark: str, name: str, pid: int) -> Mapping[int, Process]:
    """What ps tells. `mark` is said of the process `pid` only, and only if `name` is among its arguments."""
    there: dict[int, Process] = {}
    for line in _ps("-A", "-o", "pid=,ppid=,pgid=,stat=,lstart=,args=").splitlines():
        fields = line.split()
        one, parent, group = map(int, fields[:3])
        is_it = one == pid and name in fields[9:]
        there[one] = Process(
            one, " ".join(fields[4:9]), parent, group, group, fields[3][:1], mark if is_it else None
        )
    return there


def _ps(*arguments: str) -> str:
    environ = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False, env=environ).stdout  # noqa: S603, S607
