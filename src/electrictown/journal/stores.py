"""Which store a run is kept in: a file of this machine, or a PostgreSQL that many share."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from electrictown.errors import UsageError
from electrictown.redact import mask

if TYPE_CHECKING:
    from electrictown.journal.journal import Store

__all__ = ["is_shared", "journal_file", "open_store", "state_folder"]

_POSTGRES = ("postgresql://", "postgres://")


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where et keeps what outlives a run: `$XDG_STATE_HOME/electrictown`, else in `~/.local/state`.

    A relative path in the variable counts as none, as the XDG specification wants it.
    """
    named = Path(environ.get("XDG_STATE_HOME", ""))
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    return (named if named.is_absolute() else home / ".local" / "state") / "electrictown"


def journal_file(environ: Mapping[str, str]) -> Path:
    """The file of the journal on this machine."""
    return state_folder(environ) / "journal.db"


def is_shared(db: str | None) -> bool:
    """Whether `db` names a store that several machines can share."""
    return bool(db and db.startswith(_POSTGRES))


async def open_store(db: str | None, environ: Mapping[str, str]) -> Store:
    """The store that `db` names: a URL of PostgreSQL, the path of a file, or None for this machine's own.

    Raises:
        UsageError: when `db` is none of them, or what it needs is not installed.
        JournalError: when the store cannot be used.
    """
    if db and is_shared(db):
        return await _postgres(db)
    if db and "://" in db:
        raise UsageError(
            f"{mask(db)} is no database et can keep a journal in",
            "name a URL that begins with postgresql://, or the path of a file",
        )
    from electrictown.journal.sqlite import SqliteStore

    return await SqliteStore.open(_file(db) if db else journal_file(environ))


def _file(name: str) -> Path:
    return Path(name).expanduser()


async def _postgres(url: str) -> Store:
    try:
        postgres = import_module("electrictown.journal.postgres")  # with it comes the driver of PostgreSQL
    except ImportError as error:
        raise UsageError(
            f"a journal in PostgreSQL needs a library that is not installed: {error.name or error}",
            "install it with `pip install 'electrictown[cluster]'`",
        ) from error
    store: Store = await postgres.PostgresStore.open(url)
    return store
