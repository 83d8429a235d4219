"""A session's parts, made of its record and of what it is told: town, journal, who answers, screen."""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec.structs import replace

from electrictown.budget.caps import check_prices
from electrictown.budget.errands import Errands
from electrictown.budget.purse import Purse
from electrictown.budget.reservation import spent_before
from electrictown.engine.chronicle import Chronicle
from electrictown.engine.team import RunOptions
from electrictown.errors import JournalError, UnknownRunError
from electrictown.journal.sqlite import SqliteStore
from electrictown.llm.costs import CostTracker, Summary
from electrictown.llm.machine_slots import MachineSlots
from electrictown.pane.casting import ROLES, agent_of, caps_of, configured, role_of
from electrictown.roles.polecat import Polecat
from electrictown.roles.role import prompt
from electrictown.sessions.conversation import Conversation
from electrictown.sessions.log import Entry, Log
from electrictown.sessions.messages import Begin
from electrictown.sessions.partners import AgentPartner, Partner, RolePartner
from electrictown.sessions.records import Record, Said, Status, Turn
from electrictown.sessions.transcript import transcript
from electrictown.town import Town
from electrictown.work import Report, Task

if TYPE_CHECKING:
    from electrictown.journal.journal import Journal
    from electrictown.pane.screen import Screen

__all__ = ["Ending", "Talk", "opened"]

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
        await self.accept(Said(new_id(), text, "typed"))

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
        return transcript([(one, turns.get(one.id)) for one in said])

    def quit(self) -> None:
        """End the session."""
        self._quit.set()


@asynccontextmanager
async def opened(
    record: Record, begin: Begin, state: Path, log: Log, changed: Callable[[Status], None]
) -> AsyncGenerator[Talk]:
    """The session of `record`, ready to converse; `state` is where et keeps its state.

    Left, it has written its end into its journal, and all it started has ended.

    Raises:
        ElectrictownError: why it cannot begin.
    """
    config, origin = await configured(begin)
    who = agent_of(config, record)
    caps = caps_of(config, begin.budget, record)
    async with AsyncExitStack() as stack:
        town = await stack.enter_async_context(Town.open(config, MachineSlots(state / "slots")))
        if not who:
            route, _ = role_of(town, record.role)
            await check_prices({record.role: route.chain}, caps, town.prices)
        store = await SqliteStore.open(state / "journal.db")
        stack.push_async_callback(store.aclose)
        journal = await _journal(store, town, record, begin)
        stack.push_async_callback(journal.aclose)
        journal.note(f"budget.e{journal.epoch}", caps, kind="budget")
        tracker = CostTracker()
        tracker.records.extend(spent_before(journal))
        screen = _screen(record)

        def show(entry: Entry) -> None:
            log(entry)
            if screen is not None:
                screen.entry(entry)

        def tell(status: Status) -> None:
            changed(status)
            if screen is not None:
                screen.status(status)

        conversation = Conversation(journal, tracker, show, tell)
        chronicle = Chronicle(conversation.hear, journal)
        purse = Purse(town.admission, journal, town.prices, caps, chronicle)
        router = town.router(emit=chronicle, tracker=tracker, admission=purse)
        if who:
            agent, folder = town.agent(who), Path(record.folder)
            errands = Errands(purse, journal, tracker, chronicle)
            partner: Partner = await stack.enter_async_context(
                AgentPartner(agent, folder, journal, chronicle, conversation.consent, errands, record.role)
            )
        else:
            route, own = role_of(town, record.role)
            polecat = Polecat(router, role=record.role, system_prompt=own or _prompt(record.role))
            partner = RolePartner(polecat, route, router, journal, chronicle)
        conversation.begin(partner.model)
        conversation.note(origin)
        if begin.prompt is not None:
            await conversation.accept(Said.of(new_id(), begin.prompt, "spawn"))
        started = time.monotonic()
        talk = Talk(record, journal, conversation, partner, tracker, screen)
        try:
            yield talk
        finally:
            with suppress(JournalError):  # where the journal failed, that is what ends the session
                await _write_end(talk, journal, time.monotonic() - started)


def new_id() -> str:
    """A message's id: no other message has it."""
    return secrets.token_hex(8)


async def _journal(store: SqliteStore, town: Town, record: Record, begin: Begin) -> Journal:
    """The session's journal, begun or taken up again."""
    if begin.resume:
        try:
            return await store.resume(record.name)
        except UnknownRunError:  # it ended before it had begun
            pass
    task = Task(record.prompt or f"a session with {record.agent or record.role}", "session")
    header = replace(
        town.header(task, RunOptions()),
        folder=record.folder,
        settings={"session": {"role": record.role, "agent": record.agent}},
    )
    return await store.begin(record.name, header)


def _prompt(role: str) -> str | None:
    """The built-in prompt of a role that the town knows by itself; others work as a polecat does."""
    return prompt(role) if role in ROLES else None


def _screen(record: Record) -> Screen | None:
    """The screen, where there is a terminal to draw it on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    from electrictown.pane.screen import Screen

    return Screen(record)


async def _write_end(talk: Talk, journal: Journal, seconds: float) -> None:
    """Write down how the session ended, as any run does."""
    costs = talk.costs()
    ending, why = talk.ended or ("failed", "it was cut")
    report = Report(
        run=journal.run,
        task=talk.status.line,
        outcome="done" if ending == "done" else "interrupted",
        exit_code=0 if ending == "done" else 130,
        costs={"role": costs.by_role, "provider": costs.by_provider, "model": costs.by_model},
        total=costs.total,
        notes=(why,),
        seconds=seconds,
    )
    await journal.record(f"end.e{journal.epoch}", report, kind="end")
