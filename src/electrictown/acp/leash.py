"""A program of its own that stays between et and an agent's program, and ends it with all that it started.

    python -I -S leash.py DESCRIPTOR SECONDS PROGRAM [ARGUMENT ...]

The program gets our stdin, stdout and stderr, and a process group of its own. DESCRIPTOR is the reading end
of a pipe whose other end et holds: when it is closed, because et wants the end or is gone, however it went,
the program and everything that descends from it is asked to end, and killed after so many seconds. So it is
when the program ends by itself: nothing that it left behind stays. The exit code is the program's, 128 and
the number for one that a signal ended.

Agents run commands in sessions of their own, and daemons leave their parents. On Linux they all come back
to us: we are a subreaper. Elsewhere the program's process group is all that can be reached.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress

__all__ = ["main"]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LAST = 5.0
"""Seconds after which what cannot be killed is left: it hangs in the kernel."""
_LOOK = 0.02
"""Seconds between two looks at what still runs."""


def main(arguments: list[str]) -> int:
    """Run the program to its end or ours; its exit code."""
    tether, grace, command = int(arguments[0]), float(arguments[1]), arguments[2:]
    os.set_inheritable(tether, False)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    news = _signals()
    child = _start(command)
    # From here on the streams are the program's alone: it can close them, and be seen to.
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    code = _watch(tether, news, child)
    ended = _end(child, grace, news)
    code = ended if code is None else code
    return 128 - code if code < 0 else code


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3)


def _signals() -> int:
    """A descriptor that tells the numbers of the signals that come."""
    news, teller = os.pipe()
    os.set_blocking(news, False)
    os.set_blocking(teller, False)
    signal.set_wakeup_fd(teller, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _wake)
    return news


def _wake(number: int, frame: object) -> None:
    """The descriptor tells it."""


def _start(command: list[str]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        with suppress(OSError):  # it has done so itself
            os.setpgid(child, child)
        return child
    try:
        os.setpgid(0, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and that is inherited
                signal.signal(number, signal.SIG_DFL)
            os.execvp(command[0], command)  # noqa: S606  (no shell is wanted)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _watch(tether: int, news: int, child: int) -> int | None:
    """The program's exit code; None when it is to be ended."""
    while True:
        ready = select.select([tether, news], [], [])[0]
        ended = _reaped()
        if child in ended:
            return ended[child]
        if tether in ready or any(number != signal.SIGCHLD for number in _read(news)):
            return None


def _read(news: int) -> bytes:
    try:
        return os.read(news, 4096)
    except BlockingIOError:
        return b""


def _reaped() -> dict[int, int]:
    """The exit codes of the children that have ended."""
    found: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found[pid] = os.waitstatus_to_exitcode(status)


def _end(child: int, grace: float, news: int) -> int:
    """End what is left, and return only when nothing is. The program's exit code, where it ends here."""
    begun = time.monotonic()
    asked: set[int] = set()
    code = -signal.SIGKILL
    while True:
        code = _reaped().get(child, code)
        left = _left(child)
        waited = time.monotonic() - begun
        if not left or waited > grace + _LAST:
            return code
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                if waited >= grace:
                    os.kill(pid, signal.SIGKILL)
                elif pid not in asked:
                    os.kill(pid, signal.SIGTERM)
        asked.update(left)
        select.select([news], [], [], _LOOK)
        _read(news)


def _left(child: int) -> list[int]:
    """What still runs: everything below us, or the program's group, which is a negative number."""
    try:
        pids = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  (as above)
    except OSError:
        pids = []
    if not pids:
        try:
            os.killpg(child, 0)
        except OSError:
            return []
        return [-child]
    below: dict[int, list[int]] = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  (pathlib takes long to import)
                state, parent = file.read().rpartition(b")")[2].split()[:2]
        except OSError:
            continue
        if state != b"Z":
            below.setdefault(int(parent), []).append(int(pid))
    found = list(below.get(os.getpid(), ()))
    for pid in found:  # grows as it goes
        found += below.get(pid, ())
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
