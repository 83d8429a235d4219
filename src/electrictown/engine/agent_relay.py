"""An agent's answer to a subtask: it works in a folder of its own, and what it changes there counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from copy import copy
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from electrictown.budget.errands import Errands
from electrictown.budget.purse import Purse
from electrictown.engine.agents import Agent, AgentReply
from electrictown.engine.desk import Desk, Question
from electrictown.engine.progress import Progress
from electrictown.engine.scratch import scratch
from electrictown.errors import AgentError, AgentMissingError, AuthError, ElectrictownError
from electrictown.events import (
    Emit,
    Event,
    HostBenched,
    Noted,
    SubtaskStarted,
    TextReset,
    TextStreamed,
)
from electrictown.journal.journal import Journal
from electrictown.llm.admission import Asking
from electrictown.replies import fenced
from electrictown.roles.polecat import Polecat
from electrictown.work import Attempt, Done, Failure, File
from electrictown.workspace.files import files_of

__all__ = ["AgentRelay", "Seat"]

_SHOWN: Final = 200_000
"""Characters of an agent's files that its reply shows to the others; its files themselves are whole."""


class Seat(Struct, frozen=True):
    """An agent, and the seats it has: `places` of it work at once, over all runs of one town."""

    agent: Agent
    places: int
    free: asyncio.Semaphore

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.agent.name

    @classmethod
    def of(cls, agent: Agent, places: int) -> Seat:
        """So many seats for `agent`, all free."""
        return cls(agent, places, asyncio.Semaphore(places))


class AgentRelay:
    """Asks agents. One that cannot work at all (nobody is logged in, its program is gone) is benched: it is
    not asked again in this run.
    """

    def __init__(
        self, purse: Purse, errands: Errands, journal: Journal, emit: Emit, stream_as: str = ""
    ) -> None:
        self._purse = purse
        self._errands = errands
        self._journal = journal
        self._emit = emit
        self._stream_as = stream_as
        self._benched: dict[str, ElectrictownError] = {}

    def benched(self, seat: Seat) -> bool:
        """Whether the agent is asked no more in this run."""
        return seat.name in self._benched

    async def answer(
        self, desk: Desk, question: Question, call: str, seat: Seat, polecat: Polecat
    ) -> Attempt:
        """What the agent makes of `question`, once it has a free seat; its files are those of its folder.

        Cancelled, it has ended the agent's turn, its program, and its folder.

        Raises:
            AgentError, AuthError: when it cannot.
            HaltError: when nothing more may be begun.
            WorkspaceError: when it cannot be given a folder.
        """
        async with self._seated(seat):
            if (known := self._benched.get(seat.name)) is not None:
                raise copy(known)
            started = time.monotonic()
            attempt = Attempt(desk.next_number, seat.name, seat.name)
            self._emit(
                SubtaskStarted(subtask=desk.id, attempt=attempt.number, model=seat.name, provider=seat.name)
            )
            if self._stream_as and desk.attempts:
                self._emit(TextReset(phase=self._stream_as, reason="another attempt"))
            hearing = _Hearing(desk.id, self._emit, self._stream_as)
            asking = Asking(polecat.role, desk.id, call)
            try:
                reply = await self._asked(desk, question, seat.agent, asking, polecat.system_prompt, hearing)
            except ElectrictownError as error:
                seconds = time.monotonic() - started
                desk.attempts.append(replace(attempt, seconds=seconds, error=Failure.of(error)))
                self._bench(seat, error)
                raise
        files = _kept(question.earlier, reply)
        whole = _shown(reply.text, files, reply.deleted)
        hearing.whole(whole)
        done = replace(
            attempt,
            model=reply.model or seat.name,
            seconds=time.monotonic() - started,
            output_tokens=reply.usage.output if reply.usage is not None else 0,
            reply=whole,
            files=files,
        )
        return desk.answered(done)

    async def _asked(
        self,
        desk: Desk,
        question: Question,
        agent: Agent,
        asking: Asking,
        instruction: str,
        hearing: _Hearing,
    ) -> AgentReply:
        needed = {file.path: file for file in self._needed(desk)}
        mine = {file.path: file for file in _files_of(question.earlier)}
        text = "\n\n".join(filter(None, (instruction, desk.told(question, folder=True))))
        async with (
            scratch((needed | mine).values(), self._emit) as folder,
            agent.engage(folder) as engagement,
            self._errands.errand(agent.name, asking) as errand,
        ):
            reply = await engagement.ask(text, hearing)
            errand.told(reply.model, reply.usage, reply.usd)
        self._remark(desk, reply, {*needed} - {*mine})
        if not (reply.text.strip() or reply.files):
            why = f" ({reply.stopped})" if reply.stopped else ""
            raise AgentError(f"{agent.name} ended without a word and without a file{why}")
        return reply

    def _remark(self, desk: Desk, reply: AgentReply, of_others: set[str]) -> None:
        """Say what a person should know of a reply."""
        if reply.stopped:
            self._warn(f"{desk.id}: the agent stopped before it was done: {reply.stopped}")
        for left in reply.left:
            self._warn(f"{desk.id}: {left}")
        for path in reply.deleted:
            if path in of_others:
                self._warn(f"{desk.id}: the agent removed {path}, which is another subtask's: it stays")

    def _needed(self, desk: Desk) -> Iterator[File]:
        """The files of all that the subtask builds upon, those that build upon others last."""
        known = {done.subtask: done for done in desk.needs}
        for name in desk.lineage:
            done = known.get(name) or self._journal.recorded(f"{name}.result", Done)
            if done is not None:
                yield from done.files or _files_of(_taken(done))

    @asynccontextmanager
    async def _seated(self, seat: Seat) -> AsyncGenerator[None]:
        """Wait for a free seat, with nothing in hand.

        Raises:
            HaltError: when nothing more may be begun.
        """
        await self._purse.unless_halted(seat.free.acquire())
        try:
            if self._purse.refusal is not None:
                raise copy(self._purse.refusal)
            yield
        finally:
            seat.free.release()

    def _bench(self, seat: Seat, error: ElectrictownError) -> None:
        if isinstance(error, AuthError | AgentMissingError) and seat.name not in self._benched:
            self._benched[seat.name] = error
            self._emit(HostBenched(model=seat.name, error=Failure.of(error)))

    def _warn(self, text: str) -> None:
        self._emit(Noted(text=text, level="warning"))


class _Hearing:
    """An agent's words as they come, told as the run's own where they are."""

    def __init__(self, subtask: str, emit: Emit, stream_as: str) -> None:
        self._subtask = subtask
        self._emit = emit
        self._stream_as = stream_as
        self._progress = Progress(subtask, emit)
        self._said: list[str] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, TextStreamed):
            self._progress(len(event.text))
            self._say(event.text)
        elif isinstance(event, TextReset):
            self._progress.restart()
            self._reset(event.reason)
        elif isinstance(event, Noted):  # what it does is told of its subtask, and only trouble is kept
            level = event.level if event.level == "warning" else "detail"
            self._emit(Noted(text=f"{self._subtask}: {event.text}", level=level))
        else:
            self._emit(event)

    def whole(self, text: str) -> None:
        """The reply as it stands: what was not told of it yet is told now."""
        said = "".join(self._said)
        if not text.startswith(said):
            self._reset("the reply as it stands")
            said = ""
        if rest := text[len(said) :]:
            self._say(rest)

    def _say(self, text: str) -> None:
        self._said.append(text)
        if self._stream_as:
            self._emit(TextStreamed(text=text, phase=self._stream_as))

    def _reset(self, reason: str) -> None:
        self._said.clear()
        if self._stream_as:
            self._emit(TextReset(phase=self._stream_as, reason=reason))


def _files_of(attempt: Attempt | None) -> tuple[File, ...]:
    """The files that an attempt gave."""
    if attempt is None:
        return ()
    return files_of(attempt.reply).files if attempt.files is None else attempt.files


def _taken(done: Done) -> Attempt | None:
    """The attempt whose reply is the result."""
    return next((a for a in reversed(done.attempts) if a.error is None and a.reply == done.text), None)


def _kept(earlier: Attempt | None, reply: AgentReply) -> tuple[File, ...]:
    """All files of the subtask: those of the attempt before, as far as they are left, and the new ones."""
    files = {file.path: file for file in _files_of(earlier)}
    for path in reply.deleted:
        files.pop(path, None)
    return tuple((files | {file.path: file for file in reply.files}).values())


def _shown(text: str, files: tuple[File, ...], deleted: tuple[str, ...]) -> str:
    """The reply as reviewers, other workers and the one who merges see it: the words, then the files."""
    parts = [text] if text.strip() else []
    left = _SHOWN
    for file in files:
        left -= len(file.text)
        shown = fenced(file.text, "") if left >= 0 else f"({len(file.text):,} characters, not shown here)"
        parts.append(f"### FILE: {file.path}\n{shown}")
    if deleted:
        parts.append(f"Removed: {', '.join(deleted)}")
    return "\n\n".join(parts)
