"""What every command that looks at runs does first: find the store and read times; how times are told."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from electrictown.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from electrictown.journal.journal import Store

__all__ = [
    "Since",
    "age",
    "db_option",
    "json_option",
    "moment",
    "run_argument",
    "store_url",
    "with_store",
]

T = TypeVar("T")

db_option = click.option(
    "--db",
    metavar="URL",
    help="The journal: postgresql://..., or a file's path.  "
    "[default: cluster.db of the configuration, then this machine's own]",
)
run_argument = click.argument("name", metavar="RUN")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

_UNITS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Since(click.ParamType[float]):
    """`90m`, `12h`, `2d`, `1w` ago, or a date (`2026-11-22`). The value is a time as of `time.time()`."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read one."""
        if isinstance(value, float):  # click hands over what was converted before
            return value
        text = str(value).strip()
        found = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smhdw])", text)
        if found:
            return time.time() - float(found[1]) * _UNITS[found[2]]
        try:
            return datetime.fromisoformat(text).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{text!r} is no time; write 12h, 2d, 1w or 2026-11-22", param, ctx)


def with_store(db: str | None, look: Callable[[Store], Awaitable[T]]) -> T:
    """What `look` finds in the store that `db` or the configuration names, in an event loop of its own.

    Raises:
        JournalError: when the store cannot be read.
        ConfigError: when the configuration that may name the store is wrong.
        UsageError: when `db` names no store.
    """
    return asyncio.run(_looked(db, look))


async def _looked(db: str | None, look: Callable[[Store], Awaitable[T]]) -> T:
    from electrictown.journal.stores import open_store

    url = store_url(db, os.environ)
    _check_there(url)
    store = await open_store(url, os.environ)
    try:
        return await look(store)
    finally:
        await store.aclose()


def store_url(db: str | None, environ: Mapping[str, str]) -> str:
    """The store to look into: `db`, else the configuration's `cluster.db`, else "" for this machine's.

    Raises:
        ConfigError: when the configuration that may name the store is wrong.
        UsageError: when `db` is empty, as a shell's unset variable leaves it.
    """
    if db is not None:
        if not db.strip():
            raise UsageError("--db names no database", "give a postgresql:// URL or a file, or leave it out")
        return db
    from electrictown.config.load import find_config

    path = find_config(None, environ)
    if path is None or not _speaks_of_a_cluster(path):
        return ""
    from electrictown.config import load_config

    config = load_config(path, environ, require_keys=False)
    for note in config.notes:
        if "cluster.db wants" in note:  # this machine's own journal is not what was meant
            raise ConfigError(
                f"the journal is not known: {note}", "set the variable, or name another with --db"
            )
    return config.cluster.db


def _check_there(url: str) -> None:
    """Refuse a file that is not there: to look at runs is no reason to make one."""
    if url and "://" not in url and not Path(url).expanduser().exists():
        raise UsageError(f"there is no journal {url}", "check the path")


def _speaks_of_a_cluster(path: Path) -> bool:
    """Whether the file at `path` may name a store: a look at runs need not check a whole configuration."""
    try:
        return b"cluster" in path.read_bytes()
    except OSError:  # whoever needs the configuration will say so
        return False


def age(seconds: float) -> str:
    """How long ago, in one unit: "12s", "5m", "3h", "2d"."""
    whole = max(0, int(seconds))
    for unit, size, most in (("s", 1, 120), ("m", 60, 7200), ("h", 3600, 172_800)):
        if whole < most:
            return f"{whole // size}{unit}"
    return f"{whole // 86_400}d"


def moment(at: float) -> str:
    """A time as a person reads it where they are: "2026-11-22 18:42:07"."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
