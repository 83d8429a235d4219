"""A conversation: messages are accepted and committed one after another, and worked in that order.

Whoever works them is a `Worker`: each message is a subtask of its own, and its result the reply. What was
accepted is answered, by this process or by the one that takes the session up again after it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

from msgspec.structs import replace

from electrictown import events as e
from electrictown.engine.schedule import Worker
from electrictown.errors import ElectrictownError, JournalError
from electrictown.journal.journal import Journal
from electrictown.llm.costs import CostTracker, summed
from electrictown.redact import mask
from electrictown.sessions.log import Entry, Listener
from electrictown.sessions.records import Said, State, Status, Switched, Turn
from electrictown.work import Attempt, Cost, Done, Failure, Result, Subtask

__all__ = ["REPLY", "Conversation"]

REPLY: Final = "reply"
"""The phase of the text that is the reply."""

_LINE: Final = 200
"""Characters of the last line that a status tells."""


class Conversation:
    """One session's conversation, in the hands of its process. For one event loop.

    `journal` keeps it, `show` takes what happens as it happens, `changed` hears of every new status, and
    `tracker` knows what was spent.
    """

    def __init__(
        self,
        journal: Journal,
        tracker: CostTracker,
        show: Listener,
        changed: Callable[[Status], None],
    ) -> None:
        self._journal = journal
        self._tracker = tracker
        self._show = show
        self._changed = changed
        turns = {turn.said: turn for turn in (step.read(Turn) for step in journal.steps(("turn",)))}
        said = [step.read(Said) for step in journal.steps(("said",))]
        self._turns = turns
        self._accepted = {one.id for one in said}
        self._queue = deque(one for one in said if one.id not in turns)
        self._arrived = asyncio.Event()
        self._accepting = asyncio.Lock()
        self._failed: JournalError | None = None
        self._waiters: dict[str, list[asyncio.Future[Turn]]] = {}
        self._now: Said | None = None
        self._working: asyncio.Task[Result] | None = None
        self._asking = asyncio.Lock()
        self._leave: asyncio.Future[bool] | None = None
        self._pieces: list[str] = []
        self._switches = 0
        self._status = Status(
            "waiting for input" if turns else "ready",
            turns=len(turns),
            cost=tracker.summary().total,
            line=_last_line([*turns.values()][-1].text if turns else ""),
        )

    # --- what others do with it

    @property
    def status(self) -> Status:
        """How the session does now."""
        return replace(self._status, queued=len(self._queue) + (self._now is not None))

    def begin(self, model: str, *, priced: bool = True) -> None:
        """Say that `model` answers, as it is shown, and that the session is ready.

        What one that is not `priced` costs is unknown until it tells, and not nothing.
        """
        unknown = not priced and not self._tracker.records
        cost = Cost("total", usd=None) if unknown else self._status.cost
        self._status = replace(self._status, model=model, cost=cost)
        self._changed(self.status)

    async def accept(self, said: Said) -> int:
        """Commit a message; the number of those that are before it. One accepted before is not said twice.

        Raises:
            JournalError: when it cannot be committed; then it was not accepted.
        """
        async with self._accepting:  # so that the order of the journal is that of the answers
            if said.id not in self._accepted:
                await self._keep(f"said.{said.id}", said, "said")
                self._accepted.add(said.id)
                self._queue.append(said)
                self._arrived.set()
        ahead = next((n for n, one in enumerate(self._queue) if one.id == said.id), 0)
        self._changed(self.status)
        return ahead + (self._now is not None and self._now.id != said.id)

    async def _keep(self, key: str, value: object, kind: Literal["said", "switch"]) -> None:
        """Commit `value`. A journal that fails takes nothing more: then the conversation ends, too."""
        try:
            await self._journal.record(key, value, kind=kind)
        except JournalError as error:
            self._failed = error
            self._arrived.set()
            raise

    async def answer_to(self, message: str) -> Turn:
        """What became of a message that was accepted, as soon as its turn is over."""
        if (turn := self._turns.get(message)) is not None:
            return turn
        waiter = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(message, [])
        waiters.append(waiter)
        try:
            return await waiter
        finally:
            waiters.remove(waiter)

    def interrupt(self) -> bool:
        """Cut the reply that is under way; False when there is none."""
        if self._working is None or self._working.done():
            return False
        self._working.cancel()
        return True

    def answer(self, *, allow: bool) -> bool:
        """Answer what an agent asks leave for; False when nothing is asked."""
        if self._leave is None or self._leave.done():
            return False
        self._leave.set_result(allow)
        return True

    async def consent(self, question: str) -> bool:
        """Ask the person at the session for leave; waits for the answer however long it takes.

        An agent may want several things at once: they are asked one after another.
        """
        async with self._asking:
            self._show(Entry("ask", question, turn=self._turn_now))
            self._leave = asyncio.get_running_loop().create_future()
            self._change("waiting for input", f"may it? {_last_line(question)}")
            try:
                allowed = await self._leave
            finally:
                self._leave = None
                self._change("working", heard=time.time())  # while a person was waited for, nobody was silent
            self._show(Entry("note", "allowed" if allowed else "denied", turn=self._turn_now))
            return allowed

    async def switched(self, model: str, shown: str) -> None:
        """Write down that `model` answers from now on.

        Raises:
            JournalError: when it cannot be committed.
        """
        self._switches += 1
        key = f"switch.e{self._journal.epoch}.{self._switches}"
        await self._keep(key, Switched(model), "switch")
        self._status = replace(self._status, model=shown)
        self.note(f"from here on {shown} answers")

    def note(self, text: str) -> None:
        """Show something that a person should know."""
        self._show(Entry("note", text, turn=self._turn_now))
        self._changed(self.status)

    def hear(self, event: e.Event) -> None:
        """Take what happens while a message is worked; an `Emit`."""
        self._status = replace(self._status, heard=time.time())
        match event:
            case e.TextStreamed(text=text, phase=phase) if phase == REPLY:
                self._pieces.append(text)
                self._show(Entry("text", text, turn=self._turn_now))
                if self._status.state == "rate-limited":
                    self._change("working")
            case e.TextReset(reason=reason, phase=phase) if phase == REPLY:
                self._pieces.clear()
                self._show(Entry("reset", reason, turn=self._turn_now))
            case e.Noted(text=text):
                self.note(text)
            case e.HopTaken(failed=failed, error=error, took_over=next_one) if next_one:
                self.note(f"{failed} failed ({error.message}); {next_one} takes over")
            case e.Waiting(limited=True, model=model, seconds=seconds, reason=reason):
                self._change("rate-limited", f"{model}: {reason}", until=time.time() + seconds)
            case e.Waiting(model=model, seconds=seconds, reason=reason):
                self._change("working", f"waits {seconds:.0f} s for {model}: {reason}")
            case e.CallStarted():
                self._change("working")
            case e.CallEnded():
                self._status = replace(self._status, cost=self._tracker.summary().total)
                self._changed(self.status)
            case _:
                pass

    # --- the conversation itself

    async def run(self, worker: Worker) -> None:
        """Have `worker` work one message after another, for ever.

        A cut leaves the message that is under way unanswered: whoever takes the session up again answers it.

        Raises:
            JournalError: when what was said can no longer be written down, or what is to be said.
        """
        while True:
            while not self._queue:
                if self._failed is not None:
                    raise self._failed
                self._arrived.clear()
                await self._arrived.wait()
            await self._take_turn(worker, self._queue.popleft())

    async def _take_turn(self, worker: Worker, said: Said) -> None:
        self._now = said
        self._pieces.clear()
        spent = len(self._tracker.records)
        started = time.monotonic()
        self._show(Entry("said", said.text, turn=said.id, sender=said.sender))
        self._change("working", heard=time.time())
        self._working = asyncio.create_task(worker.work(Subtask(said.id, said.text), {}), name="reply")
        try:
            await asyncio.wait((self._working,))
        except asyncio.CancelledError:
            self._working.cancel()
            await asyncio.wait((self._working,))
            self._show(Entry("end", "cut: it is answered when the session is taken up again", said.id))
            raise
        finally:
            self._now = None
        bill = summed("turn", self._tracker.records[spent:])
        turn = self._turn_of(said, self._working)
        turn = replace(turn, seconds=time.monotonic() - started, tokens=bill.tokens, usd=bill.usd)
        await self._journal.record(f"turn.{said.id}", turn, kind="turn")
        self._turns[said.id] = turn
        self._end(turn)
        for waiter in self._waiters.get(said.id, ()):
            if not waiter.done():
                waiter.set_result(turn)

    def _turn_of(self, said: Said, work: asyncio.Task[Result]) -> Turn:
        """What became of `said`.

        Raises:
            JournalError: when the work could not be written down.
        """
        outcome: Literal["failed", "interrupted"] = "failed"
        if work.cancelled():
            outcome, failure, attempts = "interrupted", None, ()
        elif (error := work.exception()) is not None:
            if isinstance(error, JournalError) or not isinstance(error, ElectrictownError):
                raise error
            failure, attempts = Failure.of(error), ()
        elif isinstance(result := work.result(), Done):
            files = tuple(file.path for file in result.files)
            model = _model(result.attempts) or self._status.model
            return Turn(said.id, "done", mask(result.text), model, files=files)
        else:
            failure, attempts = result.error, result.attempts
        text = mask("".join(self._pieces))
        model = _model(attempts) or self._status.model
        return Turn(said.id, outcome, text, model, error=failure)

    def _end(self, turn: Turn) -> None:
        why = turn.error.message if turn.error is not None else ""
        self._show(
            Entry(
                "end",
                why,
                turn=turn.said,
                outcome=turn.outcome,
                hint=turn.error.hint if turn.error is not None else "",
                model=turn.model,
                tokens=turn.tokens,
                usd=turn.usd,
                seconds=turn.seconds,
            )
        )
        self._status = replace(
            self._status,
            turns=len(self._turns),
            cost=self._tracker.summary().total,
            line=_last_line(turn.text or why or turn.outcome),
        )
        self._change("waiting for input", f"the last message was not answered: {why}" if why else "")

    @property
    def _turn_now(self) -> str:
        return self._now.id if self._now is not None else ""

    def _change(
        self, state: State, why: str = "", *, until: float | None = None, heard: float | None = None
    ) -> None:
        self._status = replace(
            self._status,
            state=state,
            why=mask(why),
            until=until,
            at=time.time(),
            heard=self._status.heard if heard is None else heard,
        )
        self._changed(self.status)


def _model(attempts: tuple[Attempt, ...]) -> str:
    return attempts[-1].model if attempts else ""


def _last_line(text: str) -> str:
    lines = mask(text).strip().splitlines()
    return lines[-1][:_LINE] if lines else ""
