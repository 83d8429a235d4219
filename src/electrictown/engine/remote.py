"""A subtask that other machines work: handed out, waited for, and its files put into the folder here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from electrictown.engine.delivery import Delivery
from electrictown.engine.desk import ancestors_of
from electrictown.errors import ElectrictownError, HaltError
from electrictown.events import Emit, Noted, SubtaskEnded
from electrictown.journal.journal import Journal
from electrictown.work import Done, Failed, Failure, Plan, Result, Subtask
from electrictown.workspace.folder import digest_of

__all__ = ["Dispatch", "RemoteWorker"]


class Dispatch(Protocol):
    """Whoever finds a machine for a subtask."""

    async def hand_out(self, subtask: str) -> Result:
        """Have `subtask` worked somewhere, once, and wait for its result.

        Raises:
            HaltError: when nothing more may be begun, or nobody can be reached.
        """
        ...

    def close(self, why: HaltError) -> None:
        """Begin nothing more: what nobody has begun yet is taken back, and who waits for it is told `why`."""
        ...

    async def caught_up(self) -> None:
        """Have the journal know all that was written elsewhere."""
        ...


class RemoteWorker:
    """A `Worker` that works nothing itself. `halted` is why nothing more may be begun, `witness_failure`
    why a worker could not have its work reviewed.

    Workers do not see the output folder: a file that collides here is reported, and stays in the result.
    """

    def __init__(
        self, dispatch: Dispatch, delivery: Delivery | None, plan: Plan, journal: Journal, emit: Emit
    ) -> None:
        self._dispatch = dispatch
        self._delivery = delivery
        self._plan = plan
        self._journal = journal
        self._emit = emit
        self.witness_failure: Failure | None = None
        self.halted: HaltError | None = None

    async def work(self, subtask: Subtask, needs: Mapping[str, Done]) -> Result:
        """The result of `subtask`; an expected failure is `Failed`, never raised."""
        try:
            result: Result | None = self._journal.recorded(f"{subtask.id}.result", Done)
            if result is None:
                result = await self._dispatch.hand_out(subtask.id)
            if isinstance(result, Done) and self._delivery is not None:
                await self._place(self._delivery, subtask, result)
        except ElectrictownError as error:
            if isinstance(error, HaltError):
                self.halted = error
            result = Failed(subtask.id, Failure.of(error))
        self._tell(result)
        return result

    async def _place(self, delivery: Delivery, subtask: Subtask, done: Done) -> None:
        mine = ancestors_of(self._plan, subtask)
        # Where the work was not done for good, the next driver may get other files from it.
        digest = digest_of("\0".join(text for file in done.files for text in (file.path, file.text)))
        receipt = await delivery.deliver(f"{subtask.id}.placed.{digest[:12]}", done.files, replacing=mine)
        for path, reason in receipt.refused:
            self._warn(f"{subtask.id}: {path} is not in the folder: {reason}")

    def _tell(self, result: Result) -> None:
        error = result.error if isinstance(result, Failed) else None
        accepted = isinstance(result, Done) and result.accepted
        review = result.review if isinstance(result, Done) else None
        if isinstance(result, Done) and not accepted and review is not None:
            self.witness_failure = self.witness_failure or review.error
            self._warn(f"{result.subtask} was not accepted by the witness: {review.critique or review.text}")
        self._emit(
            SubtaskEnded(subtask=result.subtask, attempts=result.attempts, accepted=accepted, error=error)
        )

    def _warn(self, text: str) -> None:
        self._emit(Noted(text=text, level="warning"))
