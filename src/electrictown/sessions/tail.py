"""Reading a session's log while it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from electrictown.errors import SessionError
from electrictown.sessions.log import LOG, Entry, entries
from electrictown.sessions.records import LIVE, Record
from electrictown.sessions.registry import Registry

__all__ = ["Tail"]

_LOOK: Final = 0.2
"""Seconds between two looks for more."""

_BLOCK: Final = 1 << 20


class Tail:
    """The log of the session of `record`, from its beginning on. One reader reads it once."""

    def __init__(self, registry: Registry, record: Record) -> None:
        self._registry = registry
        self._record = record
        self._path = registry.folder(record.name) / LOG
        self._at = 0
        self._torn = b""

    def more(self) -> Iterator[Entry]:
        """What was written since the last call; a line that is not complete waits for its end.

        Raises:
            SessionError: when the log cannot be read. One that is not there yet is empty.
        """
        while block := self._block():
            self._at += len(block)
            whole, end, rest = block.rpartition(b"\n")
            if end:
                yield from entries(self._torn + whole)
                self._torn = rest
            else:
                self._torn += rest

    def _block(self) -> bytes:
        try:
            if self._path.stat().st_size == self._at:
                return b""
            with self._path.open("rb") as file:
                file.seek(self._at)
                return file.read(_BLOCK)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise SessionError(
                f"the log of {self._record.name} cannot be read: {error.strerror or error}"
            ) from error

    async def follow(self) -> AsyncGenerator[Entry]:
        """The entries, also those to come, until the session has ended.

        Raises:
            SessionError: when it cannot be read.
        """
        while True:
            # Whether it lives first: what was written before the end is then among what is read.
            lives = self._registry.status(self._record).state in LIVE
            for entry in self.more():
                yield entry
            if not lives:
                return
            await asyncio.sleep(_LOOK)
