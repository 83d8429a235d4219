"""Slots: how many calls a host has in flight, and whose turn is next.

`Slots` is the contract, `ProcessSlots` keeps it for one process, `MachineSlots`
(`llm/machine_slots.py`) for all processes of one machine.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

__all__ = ["ProcessSlots", "Slot", "Slots"]


class Slot(Protocol):
    """One call in flight at a host, until it is given back."""

    def give(self) -> None:
        """Give the slot back, once. Returns at once and never raises; what takes time goes on by itself."""
        ...


class Slots(Protocol):
    """The slots of every host. They belong to the one event loop that takes them."""

    async def take(self, host: str, limit: int) -> Slot:
        """Wait until `host` has fewer than `limit` (at least 1) calls in flight, and count one more.

        `host` is its identity (`Target.capacity`), the same wherever the same host is meant. Callers of
        one process are served strictly in turn, and no process waits for ever while others are served.
        Whoever holds a slot and dies gives it back by dying. Where callers name different limits for
        one host, each waits for its own, counting the calls of all. A take that is cancelled has taken
        nothing.

        Raises:
            ElectrictownError: when slots cannot be kept: a folder that is not writable, a lost database.
        """
        ...


class ProcessSlots:
    """The slots of one process, in memory. Nobody waits while a slot is free."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    async def take(self, host: str, limit: int) -> Slot:
        """A slot of `host`, in turn; see `Slots.take`."""
        line = self._lines.get(host)
        if line is None:
            line = self._lines[host] = _Line()
        if line.in_use < limit and not line.waiters:
            line.in_use += 1
            return line
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiters.append((turn, limit))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                line.leave(turn, limit)
            else:
                line.give()  # the slot came in the same moment as the cancellation
            raise
        return line

    @property
    def idle(self) -> bool:
        """Whether no slot is taken and nobody waits for one."""
        return all(not line.in_use and not line.waiters for line in self._lines.values())


class _Line:
    """The calls of one host in flight, and who waits. As slots do not differ, it is each of its own."""

    __slots__ = ("in_use", "waiters")

    def __init__(self) -> None:
        self.in_use = 0
        self.waiters: deque[tuple[asyncio.Future[None], int]] = deque()

    def give(self) -> None:
        """Hand the slot to the longest waiting, or put it back."""
        self.in_use -= 1
        if self.waiters:
            self._serve()

    def leave(self, turn: asyncio.Future[None], limit: int) -> None:
        """Wait no longer; whoever was behind may have a larger limit."""
        if (turn, limit) in self.waiters:
            self.waiters.remove((turn, limit))
        self._serve()

    def _serve(self) -> None:
        while self.waiters:
            turn, limit = self.waiters[0]
            if not turn.done():
                if self.in_use >= limit:
                    return
                self.in_use += 1
                turn.set_result(None)
            self.waiters.popleft()
