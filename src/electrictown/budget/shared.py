"""What a budget needs of a journal that the workers of many machines write at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from electrictown.journal.postgres_ledger import Charge, Shortage, Spent

__all__ = ["Charge", "SharedBudget", "Shortage", "Spent"]


@runtime_checkable
class SharedBudget(Protocol):
    """A journal that adds up what all who work the run have spent, and lets nobody pass a cap."""

    @property
    def driver(self) -> int:
        """The epoch of the run's driver, for whom this machine works perhaps."""
        ...

    async def fetch(self, *keys: str) -> None:
        """Read the steps under `keys`, where others have recorded them.

        Raises:
            JournalError: when they cannot be read.
        """
        ...

    async def reserve(
        self, key: str, value: object, charges: Sequence[Charge], *, nano: int, tokens: int
    ) -> bool | Shortage:
        """Commit a reservation, its worst case set aside in all of its scopes; or, with a Shortage, nothing.

        False where the key has its value already.

        Raises:
            JournalError: when it cannot be committed.
        """
        ...

    def settle(self, key: str, value: object, *, of: str, nano: int, tokens: int) -> None:
        """Settle the reservation `of` with what was charged, without waiting.

        Raises:
            JournalError: when something before it could not be committed.
        """
        ...

    async def spent(self) -> Mapping[str, Spent]:
        """What has become of the scopes, over all who work the run.

        Raises:
            JournalError: when that cannot be read.
        """
        ...
