"""A journal that keeps nothing beyond the process: for library users and dry runs."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from electrictown.events import Event
from electrictown.journal.driving import DrivenJournal, Put
from electrictown.journal.journal import Line, Step

__all__ = ["MemoryJournal"]

T = TypeVar("T")


class MemoryJournal(DrivenJournal):
    """The journal of a run that cannot be resumed. Its events go nowhere, and nobody else can cancel it."""

    def __init__(self, run: str) -> None:
        super().__init__(_Memory(), run, 1)

    def tell(self, event: Event) -> None:
        """Nothing: nobody could read it."""


class _Memory:
    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def put(self, step: Step) -> asyncio.Future[Put]:
        fresh = step.key not in self._steps
        if fresh:
            seq = len(self._steps) + 1
            self._steps[step.key] = Step(seq, step.run, step.key, step.kind, step.at, step.epoch, step.value)
        return _done((self._steps[step.key], fresh))

    def feed(self, lines: list[Line]) -> asyncio.Future[None]:
        return _done(None)

    async def wanted(self, key: str) -> bool:
        return key in self._steps

    async def let_go(self) -> None:
        pass


def _done(value: T) -> asyncio.Future[T]:
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    future.set_result(value)
    return future
