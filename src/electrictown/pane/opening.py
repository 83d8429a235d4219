"""A session's parts, made of its record and of what it is told: town, journal, who answers, screen."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from electrictown.budget.caps import Caps, check_prices
from electrictown.budget.errands import Errands
from electrictown.budget.purse import Purse
from electrictown.budget.reservation import spent_before
from electrictown.engine.chronicle import Chronicle
from electrictown.engine.team import RunOptions
from electrictown.errors import JournalError, UnknownRunError
from electrictown.journal.sqlite import SqliteStore
from electrictown.llm.costs import CostTracker
from electrictown.llm.machine_slots import MachineSlots
from electrictown.pane.casting import ROLES, agent_of, caps_of, configured, role_of
from electrictown.pane.talk import Talk
from electrictown.roles.polecat import Polecat
from electrictown.roles.role import prompt
from electrictown.sessions.conversation import Conversation
from electrictown.sessions.log import Entry, Log
from electrictown.sessions.messages import Begin
from electrictown.sessions.partners import AgentPartner, Partner, RolePartner
from electrictown.sessions.records import TYPED, Record, Said, Status
from electrictown.sessions.sending import new_id
from electrictown.town import Town
from electrictown.work import Report, Task

if TYPE_CHECKING:
    from electrictown.journal.journal import Journal
    from electrictown.pane.screen import Screen

__all__ = ["opened"]


@asynccontextmanager
async def opened(
    record: Record, begin: Begin, state: Path, log: Log, changed: Callable[[Status], None]
) -> AsyncGenerator[Talk]:
    """The session of `record`, ready to converse; `state` is where et keeps its state.

    Left, it has written its end into its journal, and all it started has ended.

    Raises:
        ElectrictownError: why it cannot begin.
    """
    config, origin = await configured(record, begin)
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
        tracker = CostTracker()
        tracker.records.extend(spent_before(journal))
        screen = _screen(record, log)

        def show(entry: Entry) -> None:
            log(entry)
            if screen is not None:
                screen.entry(entry)

        def tell(status: Status) -> None:
            changed(status)
            if screen is not None:
                screen.status(status)

        conversation = Conversation(journal, tracker, show, tell)
        books = _Books(town, journal, caps, tracker, conversation)
        if who:
            partner: Partner = await stack.enter_async_context(books.agent(who, record))
        else:
            partner = books.role(record)
        conversation.begin(partner.model, priced=not who)
        conversation.note(origin)
        if begin.prompt is not None:
            await conversation.accept(Said.of(new_id(), begin.prompt, TYPED))
        started = time.monotonic()
        talk = Talk(record, journal, conversation, partner, tracker, screen)
        try:
            yield talk
        finally:
            with suppress(JournalError):  # where the journal failed, that is what ends the session
                await _write_end(record, talk, journal, time.monotonic() - started)


class _Books:
    """Who answers, and all that is asked written down: what it costs, who took over, what was noted."""

    def __init__(
        self, town: Town, journal: Journal, caps: Caps, tracker: CostTracker, conversation: Conversation
    ) -> None:
        journal.note(f"budget.e{journal.epoch}", caps, kind="budget")
        self._town = town
        self._journal = journal
        self._tracker = tracker
        self._conversation = conversation
        self._chronicle = Chronicle(conversation.hear, journal)
        anew = f"et session kill {journal.run} && et session spawn --resume {journal.run}"
        self._purse = Purse(town.admission, journal, town.prices, caps, self._chronicle, anew)

    def role(self, record: Record) -> RolePartner:
        """The model in the record's role.

        Raises:
            ElectrictownError: when there is none.
        """
        router = self._town.router(emit=self._chronicle, tracker=self._tracker, admission=self._purse)
        route, own = role_of(self._town, record.role)
        # The town's own roles have a prompt of their own; others work as a polecat does.
        words = own or (prompt(record.role) if record.role in ROLES else None)
        polecat = Polecat(router, role=record.role, system_prompt=words)
        return RolePartner(polecat, route, router, self._journal, self._chronicle)

    def agent(self, name: str, record: Record) -> AgentPartner:
        """The agent `name` in the record's folder; to be entered.

        Raises:
            ElectrictownError: when there is none.
        """
        return AgentPartner(
            self._town.agent(name),
            Path(record.folder),
            self._journal,
            self._chronicle,
            self._conversation.consent,
            Errands(self._purse, self._journal, self._tracker, self._chronicle),
            record.role,
        )


async def _journal(store: SqliteStore, town: Town, record: Record, begin: Begin) -> Journal:
    """The session's journal, begun or taken up again."""
    if begin.resume:
        try:
            return await store.resume(record.name)
        except UnknownRunError:  # it ended before it had begun
            pass
    task = Task(_task_of(record), "session")
    header = replace(
        town.header(task, RunOptions()),
        folder=record.folder,
        settings={"session": {"role": record.role, "agent": record.agent}},
    )
    return await store.begin(record.name, header)


def _task_of(record: Record) -> str:
    """What the session is for, as its run is listed."""
    return record.prompt or f"a session with {record.agent or record.role}"


def _screen(record: Record, log: Log) -> Screen | None:
    """The screen with what was said before, where there is a terminal to draw it on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    from electrictown.pane.screen import Screen

    screen = Screen(record)
    for entry in log.last():
        screen.entry(entry)
    return screen


async def _write_end(record: Record, talk: Talk, journal: Journal, seconds: float) -> None:
    """Write down how the session ended, as any run does."""
    costs = talk.costs()
    ending, why = talk.ended or ("failed", "it was cut")
    report = Report(
        run=journal.run,
        task=_task_of(record),
        outcome="done" if ending == "done" else "interrupted",
        exit_code=0 if ending == "done" else 130,
        costs={"role": costs.by_role, "provider": costs.by_provider, "model": costs.by_model},
        total=costs.total,
        notes=(why,),
        seconds=seconds,
    )
    await journal.record(f"end.e{journal.epoch}", report, kind="end")
