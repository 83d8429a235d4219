"""What can be wrong with the journal's file, as errors that say what to do about it."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from electrictown.errors import JournalError

__all__ = ["trouble"]

_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_KEPT = "what was committed is kept; "
_HINTS = {
    sqlite3.SQLITE_FULL: ("there is no space left for it", _KEPT + "free some space, then resume the run"),
    sqlite3.SQLITE_CORRUPT: (
        "the file is damaged",
        "move it and the files beside it away, or save what is left with `sqlite3 FILE .recover`",
    ),
    sqlite3.SQLITE_NOTADB: (
        "the file is no database",
        "move it away, or name another file: a new journal is made where there is none",
    ),
    sqlite3.SQLITE_READONLY: (
        "it cannot be written",
        "give yourself the right to write the file and its folder, or set XDG_STATE_HOME to another folder",
    ),
    sqlite3.SQLITE_CANTOPEN: (
        "it cannot be opened",
        "see that its folder exists and can be written, or set XDG_STATE_HOME to another folder",
    ),
    sqlite3.SQLITE_IOERR: (
        "reading or writing it failed",
        _KEPT + "see that the disk is sound, has space, and is not a network folder; then resume the run",
    ),
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


def trouble(error: sqlite3.Error | OSError, path: Path, patience: float) -> JournalError:
    """The error that a person reads. `patience` is how long a lock was waited for, in seconds."""
    if isinstance(error, OSError):
        code = _code_of(error)
    else:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in _LOCKED:
        return JournalError(
            f"the journal is locked by another program, since {patience:g} s and more: {path}",
            _KEPT + "end the program that holds it (`fuser FILE` names it), then resume the run",
        )
    what, hint = _HINTS.get(code, ("it failed", _KEPT + "resume the run"))
    return JournalError(f"the journal {path} cannot be used: {what} ({error})", hint)


def _code_of(error: OSError) -> int:
    if error.errno in _FULL:
        return sqlite3.SQLITE_FULL
    return sqlite3.SQLITE_READONLY if error.errno in _REFUSED else sqlite3.SQLITE_CANTOPEN
