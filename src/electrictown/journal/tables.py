"""The tables of the journal in SQLite, and every statement that touches them.

All of it runs in threads, never in the event loop's.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Collection
from pathlib import Path

from electrictown.errors import JournalError
from electrictown.journal.driving import cancel_key
from electrictown.journal.journal import SCHEMA, Line, Step
from electrictown.journal.rows import RunFacts, unknown

__all__ = [
    "connect",
    "drivers",
    "facts",
    "has",
    "ids",
    "insert_lines",
    "insert_run",
    "insert_step",
    "last_line",
    "lines",
    "look_in",
    "steps",
]

_TABLES = """
CREATE TABLE runs(run TEXT PRIMARY KEY, created REAL NOT NULL);
CREATE TABLE steps(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  run TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL,
  at REAL NOT NULL, epoch INTEGER NOT NULL, value BLOB NOT NULL,
  UNIQUE(run, key));
CREATE INDEX steps_of_kind ON steps(kind, run);
CREATE TABLE events(run TEXT NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, event BLOB NOT NULL,
  PRIMARY KEY(run, seq));
CREATE TABLE meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_STEPS = "SELECT seq, run, key, kind, at, epoch, value FROM steps"
_ONE = _STEPS + " WHERE run = ? AND key = ?"


def connect(path: Path, patience: float) -> sqlite3.Connection:
    """Open the journal's file to write it, and make it where there is none.

    Raises:
        JournalError: when it is of a newer version, or cannot be kept safely where it is.
        sqlite3.Error, OSError: when it cannot be opened.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    # Opened in one thread, used and closed in another, never in two at once.
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous=FULL")
        _ahead(connection, path, patience)
        _make(connection)
        _check(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def look_in(path: Path, patience: float) -> sqlite3.Connection:
    """Open the journal's file to read it, in the thread that reads.

    Raises:
        sqlite3.Error: when it cannot be opened.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", timeout=patience, uri=True)
    connection.execute("PRAGMA query_only=1")
    return connection


def _ahead(connection: sqlite3.Connection, path: Path, patience: float) -> None:
    """Switch to write-ahead logging. SQLite does not wait when two programs do it at once."""
    end = time.monotonic() + patience
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.02)
            continue
        if mode != "wal":
            raise JournalError(
                f"the journal cannot be kept in {path.parent}: the disk there has no shared memory",
                "set XDG_STATE_HOME to a folder on a disk of this machine",
            )
        return


def _make(connection: sqlite3.Connection) -> None:
    if _is_made(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _is_made(connection):  # another program may have been faster
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA),))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_made(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'")
    return found.fetchone() is not None


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()
    version = str(found[0]) if found else ""
    if not version.isdecimal():
        raise JournalError(f"{path} is not a journal of et", "name another file")
    if int(version) > SCHEMA:
        raise JournalError(
            f"the journal {path} is of version {version}; this et knows versions up to {SCHEMA}",
            "a newer et has written it: use that one",
        )


# --- writing, inside a transaction that the writer has begun ---


def insert_run(connection: sqlite3.Connection, run: str, at: float) -> bool:
    """A new run; False where there is one of that id."""
    return connection.execute("INSERT OR IGNORE INTO runs VALUES (?, ?)", (run, at)).rowcount == 1


def insert_step(connection: sqlite3.Connection, step: Step) -> tuple[Step, bool]:
    """The step that stands under the key, and whether it is this one."""
    row = (step.run, step.key, step.kind, step.at, step.epoch, step.value)
    done = connection.execute(
        "INSERT INTO steps(run, key, kind, at, epoch, value) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT(run, key) DO NOTHING",
        row,
    )
    if done.rowcount == 1:
        return Step(done.lastrowid or 0, *row), True
    found = connection.execute(_ONE, (step.run, step.key))
    return Step(*found.fetchone()), False


def insert_lines(connection: sqlite3.Connection, run: str, lines: list[Line]) -> None:
    """Events; one whose number is there already is left alone."""
    rows = [(run, line.seq, line.at, line.event) for line in lines]
    connection.executemany("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)", rows)


# --- reading ---


def steps(
    connection: sqlite3.Connection, run: str | None, kinds: Collection[str], since: float | None
) -> list[Step]:
    """The steps of a run, or of all, in order."""
    given: list[object] = []
    terms: list[str] = []
    if run is not None:
        terms.append("run = ?")
        given.append(run)
    if kinds:
        terms.append(f"kind IN ({', '.join('?' * len(kinds))})")
        given += kinds
    if since is not None:
        terms.append("at >= ?")
        given.append(since)
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    return [Step(*row) for row in connection.execute(_STEPS + where + " ORDER BY seq", given)]


def lines(connection: sqlite3.Connection, run: str, after: int, limit: int) -> list[Line]:
    """The events of a run after number `after`, in order."""
    found = connection.execute(
        "SELECT seq, at, event FROM events WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?",
        (run, after, limit),
    )
    return [Line(*row) for row in found]


def last_line(connection: sqlite3.Connection, run: str) -> int:
    """The number of a run's last event; 0 where there is none."""
    return connection.execute("SELECT coalesce(max(seq), 0) FROM events WHERE run = ?", (run,)).fetchone()[0]


def drivers(connection: sqlite3.Connection, run: str) -> int:
    """How many drivers a run has had.

    Raises:
        UnknownRunError: when there is no such run.
    """
    if connection.execute("SELECT 1 FROM runs WHERE run = ?", (run,)).fetchone() is None:
        raise unknown(run)
    found = connection.execute("SELECT count(*) FROM steps WHERE run = ? AND key GLOB 'driver.*'", (run,))
    return found.fetchone()[0]


def has(connection: sqlite3.Connection, run: str, key: str) -> bool:
    """Whether the run has a step of that key."""
    found = connection.execute("SELECT 1 FROM steps WHERE run = ? AND key = ?", (run, key))
    return found.fetchone() is not None


def ids(connection: sqlite3.Connection) -> list[str]:
    """The ids of all runs, newest first."""
    found = connection.execute(
        "SELECT r.run FROM runs r CROSS JOIN steps h ON h.run = r.run AND h.key = 'run' ORDER BY h.seq DESC"
    )
    return [row[0] for row in found]


def facts(
    connection: sqlite3.Connection,
    *,
    run: str | None = None,
    since: float | None = None,
    limit: int | None = None,
) -> list[RunFacts]:
    """What is known of the runs, newest first; of `run` only, where one is named."""
    found = connection.execute(
        "SELECT r.run, r.created, h.value,"
        " (SELECT count(*) FROM steps d WHERE d.run = r.run AND d.key GLOB 'driver.*')"
        " FROM runs r CROSS JOIN steps h ON h.run = r.run AND h.key = 'run'"  # CROSS: runs first
        " WHERE r.run = coalesce(?, r.run) AND r.created >= coalesce(?, r.created)"
        " ORDER BY h.seq DESC LIMIT ?",
        (run, since, -1 if limit is None else limit),
    ).fetchall()
    return [
        RunFacts(
            *row,
            cancelled=has(connection, row[0], cancel_key(row[3])),
            end=_end(connection, row[0], row[3]),
        )
        for row in found
    ]


def _end(connection: sqlite3.Connection, run: str, epoch: int) -> Step | None:
    found = connection.execute(_ONE, (run, f"end.e{epoch}")).fetchone()
    return None if found is None else Step(*found)
