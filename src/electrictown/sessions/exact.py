"""How a program is started with exactly its arguments and its environment, whatever is around it.

What starts it is a fixed line of shell that is given everything as arguments: it goes to the folder, or
fails, and becomes `env -i`, which becomes the program. So a tmux server that has keys in its environment
hands none on, and a folder that cannot be entered is never silently another.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from electrictown.errors import SessionError
from electrictown.sessions.launching import Command

__all__ = ["exact"]

_LINE: Final = 'cd -- "$1" && shift && exec /usr/bin/env -i -- ${TERM+TERM="$TERM"} "$@"'


def exact(command: Command, folder: Path) -> tuple[str, ...]:
    """The arguments that run `command` in `folder`, with the terminal's name beside its environment.

    Raises:
        SessionError: when there is no such folder or program, or something holds a NUL.
    """
    if not folder.is_dir():
        raise SessionError(f"there is no folder {folder}", "a session needs a folder to work in")
    program, *rest = command.arguments
    found = shutil.which(program, path=command.environ.get("PATH"))
    if found is None:
        raise SessionError(f"there is no program {program!r}", "install it, or give its whole path")
    environ = [f"{name}={value}" for name, value in command.environ.items()]
    line = ("/bin/sh", "-c", _LINE, "sh", str(folder.absolute()), *environ, *_named(found), *rest)
    if any("\0" in part for part in line):
        raise SessionError("an argument or a variable of a program cannot hold a NUL character")
    return line


def _named(program: str) -> tuple[str, ...]:
    """`program` as `env` is to be given it, which takes what holds a "=" for a variable."""
    path = str(Path(program).absolute())
    return (shutil.which("nice") or "/usr/bin/nice", "-n", "0", path) if "=" in path else (path,)
