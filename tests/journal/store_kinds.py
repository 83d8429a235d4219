"""The kinds of store that the contract's tests run on: one list, so that they all keep one contract."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

from electrictown.journal.journal import Store
from electrictown.journal.postgres import PostgresStore
from electrictown.journal.records import Header
from electrictown.journal.sqlite import SqliteStore
from electrictown.work import Report, Task
from fakes.postgres import shared_cluster

__all__ = ["KINDS", "Place", "header", "report"]


class Place(Protocol):
    """Where the journals of one test are kept. Each `open` is what another program would open."""

    async def open(self) -> Store: ...


class SqlitePlace:
    def __init__(self, path: Path) -> None:
        self.path = path

    async def open(self) -> SqliteStore:
        return await SqliteStore.open(self.path, patience=2.0)


@asynccontextmanager
async def _sqlite(folder: Path) -> AsyncGenerator[SqlitePlace]:
    yield SqlitePlace(folder / "state" / "electrictown" / "journal.db")


class PostgresPlace:
    def __init__(self, url: str) -> None:
        self.url = url

    async def open(self) -> PostgresStore:
        return await PostgresStore.open(self.url, patience=2.0)


@asynccontextmanager
async def _postgres(folder: Path) -> AsyncGenerator[PostgresPlace]:
    yield PostgresPlace(shared_cluster().emptied())


KINDS: dict[str, Callable[[Path], AbstractAsyncContextManager[Place]]] = {
    "postgres": _postgres,
    "sqlite": _sqlite,
}
"""A place by its kind, made in an empty folder and taken down afterwards. May skip the test."""


def header(text: str = "write a parser") -> Header:
    return Header(Task(text), config="models: {}\n", settings={"budget": 2.5})


def report(run: str, outcome: str = "done", exit_code: int = 0) -> Report:
    return Report(run, "write a parser", outcome, exit_code)  # pyright: ignore[reportArgumentType]
