"""A session in conversation: what its inbox and its screen have in hand."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from electrictown.llm.costs import CostTracker, Summary
from electrictown.sessions.conversation import Conversation
from electrictown.sessions.partners import Partner
from electrictown.sessions.records import TYPED, Record, Said, Status, Turn
from electrictown.sessions.sending import new_id
from electrictown.sessions.transcript import transcript

if TYPE_CHECKING:
    from electrictown.journal.journal import Journal
    from electrictown.pane.screen import Screen

__all__ = ["Ending", "Talk"]

Ending: TypeAlias = Literal["done", "failed"]


class Talk:
    """A session in conversation. The `Controls` of its screen; what comes over the inbox uses it too.

    `ended` is how it ended by itself, and why; None until then.
    """

    def __init__(
        self,
        record: Record,
        journal: Journal,
        conversation: Conversation,
        partner: Partner,
        tracker: CostTracker,
        screen: Screen | None,
    ) -> None:
        self._record = record
        self._journal = journal
        self._conversation = conversation
        self._partner = partner
        self._tracker = tracker
        self._screen = screen
        self._quit = asyncio.Event()
        self.ended: tuple[Ending, str] | None = None

    async def run(self) -> tuple[Ending, str]:
        """Converse until somebody ends it: how it ended, and why.

        Raises:
            JournalError: when what is said can no longer be written down.
        """
        talking = asyncio.create_task(self._conversation.run(self._partner), name="conversation")
        quitting = asyncio.create_task(self._quit.wait(), name="quit")
        cancelled = asyncio.create_task(self._journal.cancelled(), name="cancellation")
        tasks: set[asyncio.Task[object]] = {talking, quitting, cancelled}
        shown: asyncio.Task[object] | None = None
        if self._screen is not None:
            shown = asyncio.create_task(self._screen.run(self), name="screen")
            tasks.add(shown)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            talking.cancel()  # first, so that the screen still shows how it was cut
            await asyncio.wait((talking,))
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in (talking, cancelled, shown):
            if task is not None and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if not cancelled.cancelled():
            self.ended = ("done", "somebody wanted it cancelled")
        elif shown is not None and not shown.cancelled() and not self._quit.is_set():
            self.ended = ("failed", "its terminal went away")
        else:
            self.ended = ("done", "quit")
        return self.ended

    # --- what comes over the inbox

    @property
    def status(self) -> Status:
        """How it does now."""
        return self._conversation.status

    async def accept(self, said: Said) -> int:
        """Commit a message; see `Conversation.accept`."""
        return await self._conversation.accept(said)

    async def answer_to(self, message: str) -> Turn:
        """What became of an accepted message, when its turn is over."""
        return await self._conversation.answer_to(message)

    # --- what a person at the screen does

    @property
    def name(self) -> str:
        """The session's name."""
        return self._record.name

    @property
    def folder(self) -> Path:
        """The folder it works in."""
        return Path(self._record.folder)

    async def say(self, text: str) -> None:
        """Say `text` as a typed message; returns when it is accepted."""
        await self.accept(Said(new_id(), text, TYPED))

    def interrupt(self) -> bool:
        """Cut the reply that is under way."""
        return self._conversation.interrupt()

    def answer(self, *, allow: bool) -> bool:
        """Answer what an agent asks leave for."""
        return self._conversation.answer(allow=allow)

    def models(self) -> tuple[str, ...]:
        """What `/model` can be given."""
        return self._partner.models()

    async def use(self, model: str) -> str:
        """Have `model` answer from now on."""
        shown = await self._partner.use(model)
        await self._conversation.switched(model, shown)
        return shown

    def costs(self) -> Summary:
        """What the session has cost so far."""
        return self._tracker.summary()

    def transcript(self) -> str:
        """The conversation so far, as Markdown."""
        turns = {turn.said: turn for turn in (step.read(Turn) for step in self._journal.steps(("turn",)))}
        said = [step.read(Said) for step in self._journal.steps(("said",))]
        return transcript([(one, turns.get(one.id)) for one in said], self.name)

    def quit(self) -> None:
        """End the session."""
        self._quit.set()
