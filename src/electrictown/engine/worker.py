"""The worker: a subtask becomes text, reviewed and, where a folder is given, files.

One subtask goes: a member of the crew answers (another one where it fails, the role's fallbacks last),
the witness scores, below the threshold the critique goes into a second attempt, the files are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from msgspec import Struct

from electrictown.engine.delivery import Delivery
from electrictown.engine.desk import Desk, Question
from electrictown.engine.relay import Relay
from electrictown.errors import ElectrictownError, HaltError, JournalError
from electrictown.events import Emit, Noted, SubtaskEnded, SubtaskReviewed
from electrictown.journal.journal import Journal
from electrictown.journal.records import Receipt
from electrictown.roles.witness import Witness
from electrictown.work import Attempt, Done, Failed, Failure, File, Plan, Result, Review, Subtask
from electrictown.workspace.files import FilesFound, Refused, files_of
from electrictown.workspace.folder import digest_of

__all__ = ["Guard", "TextWorker"]


class Guard(Struct, frozen=True):
    """What a worker's text must pass: the witness (None: nobody looks), and how often it may try again."""

    witness: Witness | None
    retries: int


class TextWorker:
    """Works the subtasks of one plan, with the brief as what all workers share.

    `witness_failure` is set when the witness could not be asked: then nothing it should have seen is
    accepted. `halted` is why nothing more may be begun, once something said so. A subtask that the
    journal knows to be done is not worked again.
    """

    def __init__(
        self,
        plan: Plan,
        brief: str,
        relay: Relay,
        guard: Guard,
        delivery: Delivery | None,
        journal: Journal,
        emit: Emit,
    ) -> None:
        self._plan = plan
        self._brief = brief
        self._relay = relay
        self._guard = guard
        self._delivery = delivery
        self._journal = journal
        self._emit = emit
        self.witness_failure: Failure | None = None
        self.halted: HaltError | None = None

    async def work(self, subtask: Subtask, needs: Mapping[str, Done]) -> Result:
        """Work `subtask` to a `Result`; an expected failure is `Failed`, never raised."""
        try:
            known = self._journal.recorded(f"{subtask.id}.result", Done)
            return await self._worked(subtask, needs) if known is None else await self._remembered(known)
        except ElectrictownError as error:
            if isinstance(error, HaltError):
                self.halted = error
            return Failed(subtask.id, Failure.of(error))

    async def _remembered(self, known: Done) -> Done:
        """A result from before the run was taken up again."""
        if self._delivery is not None:
            for step in self._journal.steps(("receipt",)):
                if step.key.startswith(f"{known.subtask}."):
                    await self._delivery.restore(known.subtask, known.files, step.read(Receipt))
        self._emit(SubtaskEnded(subtask=known.subtask, attempts=known.attempts, accepted=known.accepted))
        return known

    async def _worked(self, subtask: Subtask, needs: Mapping[str, Done]) -> Result:
        desk = Desk(self._plan, subtask, self._brief, tuple(needs.values()), files=self._delivery is not None)
        try:
            best = await self._guarded(desk)
            files = await self._delivered(desk, best)
        except ElectrictownError as error:
            failure = Failure.of(error)
            if isinstance(error, HaltError):
                self.halted = error
            self._emit(SubtaskEnded(subtask=subtask.id, attempts=tuple(desk.attempts), error=failure))
            return Failed(subtask.id, failure, tuple(desk.attempts))
        accepted = self._guard.witness is None or (best.review is not None and best.review.passed)
        if not accepted:
            self._warn(f"{subtask.id} was not accepted by the witness: {_verdict(best.review)}")
        done = Done(subtask.id, best.reply, files, tuple(desk.attempts), best.review, accepted)
        if not desk.unreviewed:  # who could not be reviewed is reviewed when the run is taken up again
            await self._journal.record(f"{subtask.id}.result", done, kind="result")
        self._emit(SubtaskEnded(subtask=subtask.id, attempts=tuple(desk.attempts), accepted=accepted))
        return done

    async def _guarded(self, desk: Desk) -> Attempt:
        """Attempts until one passes the witness; the best scored one where none does."""
        best = await self._judged(desk, await self._relay.attempt(desk, Question()))
        for _ in range(self._guard.retries):
            review = best.review
            if review is None or review.passed or not review.critique:
                return best
            try:
                again = await self._relay.attempt(desk, Question(best, review.critique))
            except HaltError as error:
                self._halt(desk, error)
                return best
            except ElectrictownError as error:
                self._warn(f"{desk.id}: the retry failed ({error.message}); the earlier text stands")
                return best
            if (again.reply, again.files) == (best.reply, best.files):
                self._warn(f"{desk.id}: the worker gave the same text twice and is not asked again")
                return best
            again = await self._judged(desk, again)
            best = max(best, again, key=_score)
        return best

    async def _judged(self, desk: Desk, attempt: Attempt) -> Attempt:
        """`attempt` with the witness's review of it; a guard that is away lets nothing through."""
        guard = self._guard
        if guard.witness is None:
            return attempt
        task = f"{self._plan.task}\n\nThe part under review: {desk.subtask.text}"
        call = f"{desk.id}.review{desk.answers}"
        ask = partial(guard.witness.review_with_context, task, attempt.reply, subtask=desk.id, call=call)
        desk.unreviewed = False
        try:
            review = await self._journal.step(call, ask, Review, kind="review")
        except HaltError as error:
            self._halt(desk, error)
            review = Review(text=f"not reviewed: {error.message}", passed=False, error=Failure.of(error))
        except ElectrictownError as error:
            desk.unreviewed = True
            failure = self.witness_failure = Failure.of(error)
            review = Review(text=f"not reviewed: {error.message}", passed=False, error=failure)
        retry = not review.passed and bool(review.critique) and desk.answers <= guard.retries
        self._emit(SubtaskReviewed(subtask=desk.id, review=review, retry=retry))
        return desk.judged(review)

    def _halt(self, desk: Desk, error: HaltError) -> None:
        """Nothing more may be begun: what `desk` has so far is handed over, and is not final.

        Raises:
            JournalError: when that is why; what cannot be written down is not done.
        """
        if isinstance(error, JournalError):
            raise error
        self.halted = error
        desk.unreviewed = True

    async def _delivered(self, desk: Desk, best: Attempt) -> tuple[File, ...]:
        """Write the files of `best`; what is refused is told to the model once."""
        delivery = self._delivery
        if delivery is None:
            return ()
        written, refused = await self._deliver(desk, delivery, best)
        if refused:
            try:
                mended = await self._relay.attempt(desk, Question(best, refused=tuple(refused)))
            except HaltError as error:
                self._halt(desk, error)
            except ElectrictownError as error:
                self._warn(f"{desk.id}: the worker could not be told of its refused files ({error.message})")
            else:
                more, _ = await self._deliver(desk, delivery, mended)
                written.update(more)
        if not written:
            self._warn(f"{desk.id} gave no file that could be written; its text is in the result")
        return tuple(written.values())

    async def _deliver(
        self, desk: Desk, delivery: Delivery, attempt: Attempt
    ) -> tuple[dict[str, File], list[str]]:
        """The files of an attempt, as written, and why others were not."""
        found = files_of(attempt.reply) if attempt.files is None else FilesFound(attempt.files)
        for note in found.notes:
            self._warn(f"{desk.id}: {note}")
        receipt = await delivery.deliver(
            f"{desk.id}.files{desk.answer(attempt)}", found.files, found.refused, replacing=desk.ancestors
        )
        texts = {digest_of(file.text): file.text for file in found.files}
        written = {w.path: File(w.path, texts.get(w.digest, "")) for w in receipt.written}
        return written, [str(Refused(path, reason, desk.id)) for path, reason in receipt.refused]

    def _warn(self, text: str) -> None:
        self._note(text, "warning")

    def _note(self, text: str, level: str = "info") -> None:
        self._emit(Noted(text=text, level=level))


def _score(attempt: Attempt) -> float:
    review = attempt.review
    return review.score if review is not None and review.score is not None else 0.0


def _verdict(review: Review | None) -> str:
    if review is None or review.score is None:
        return review.text if review is not None and review.error else "its review could not be read"
    return f"scored {review.score:g}, below {review.threshold or 0:g}"
