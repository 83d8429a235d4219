"""Where subtasks of other people's runs are worked: the towns of those runs, opened here and kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from msgspec.structs import replace

from electrictown.budget.caps import Caps
from electrictown.config.snapshot import restore
from electrictown.engine.crew import Crew
from electrictown.engine.desk import ancestors_of
from electrictown.engine.team import RunOptions
from electrictown.errors import JournalError
from electrictown.events import CallEnded, Emit, Event
from electrictown.journal.records import Header
from electrictown.llm.slots import Slots
from electrictown.town import Town
from electrictown.work import Plan, Result

if TYPE_CHECKING:
    from electrictown.journal.postgres_journal import PostgresJournal

__all__ = ["Workplace"]

_KEPT = 64
"""So many runs' crews are kept: what is measured of hosts stays with their town."""


class Workplace:
    """Works subtasks with the configuration of their run and the keys of this machine.

    Runs with one configuration share a town: its connections, its breakers, its measured speeds. `slots`
    keeps the in-flight limits of all machines, `emit` hears of hosts that are benched. `aclose` closes
    every town. `requests`, `tokens` and `usd` are what all of it came to so far, as far as prices are known.
    """

    def __init__(self, environ: Mapping[str, str], slots: Slots, emit: Emit) -> None:
        self._environ = environ
        self._slots = slots
        self._emit = emit
        self._towns: dict[tuple[str, str], Town] = {}
        self._crews: OrderedDict[str, Crew] = OrderedDict()
        self._open = AsyncExitStack()
        self.requests = 0
        self.tokens = 0
        self.usd = 0.0

    async def perform(self, journal: PostgresJournal, subtask: str) -> Result:
        """The result of one subtask of the journal's run.

        Raises:
            ConfigError: when its configuration wants what this machine does not have.
            JournalError: when the run was not begun as it should be.
        """
        header, plan = journal.recorded("run", Header), journal.recorded("plan", Plan)
        part = next((s for s in plan.subtasks if s.id == subtask), None) if plan is not None else None
        if header is None or plan is None or part is None:
            raise JournalError(f"the run {journal.run} has no subtask {subtask}", "was its plan recorded?")
        town = await self._town(header)
        # An agent is given the files of all that its subtask builds upon, however far back.
        needs = ancestors_of(plan, part) if town.engages_agents else part.depends
        budget = f"budget.e{journal.driver}"
        await journal.fetch(budget, *(f"{need}.result" for need in needs))
        options = replace(RunOptions.of(header.settings), caps=journal.recorded(budget, Caps))
        crew = self._crew(journal.run, town, options)
        return await town.work(plan, part, options, journal, crew, self._count)

    async def aclose(self) -> None:
        """Close every town."""
        await self._open.aclose()

    def _count(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            self.requests += 1
            self.tokens += event.input_tokens + event.cache_read + event.cache_write + event.output_tokens
            self.usd += event.usd or 0.0

    async def _town(self, header: Header) -> Town:
        key = (header.config, header.file)
        town = self._towns.get(key)
        if town is None:
            config = restore(header.config, header.file, self._environ)
            town = self._towns[key] = await self._open.enter_async_context(Town.open(config, self._slots))
        return town

    def _crew(self, run: str, town: Town, options: RunOptions) -> Crew:
        crew = self._crews.pop(run, None)
        if crew is None:
            crew = town.crew(options, self._emit)
            if len(self._crews) >= _KEPT:
                self._crews.popitem(last=False)
        self._crews[run] = crew
        return crew
