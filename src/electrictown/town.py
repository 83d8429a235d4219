"""Configuration -> running parts. The only module that knows every class.

async with Town.open(load_config("electrictown.yaml")) as town:
    report = await town.run(Task("implement binary search in Python"))
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from electrictown.budget.caps import Caps, check_prices
from electrictown.budget.errands import check_agents
from electrictown.budget.purse import Purse
from electrictown.budget.reservation import spent_before
from electrictown.engine.agent_relay import Seat
from electrictown.engine.calls import JournalledCalls
from electrictown.engine.chronicle import Chronicle
from electrictown.engine.crew import Crew, members_of
from electrictown.engine.delivery import Judgement
from electrictown.engine.relay import Station
from electrictown.engine.remote import Dispatch
from electrictown.engine.run import Run
from electrictown.engine.team import RunOptions, Team
from electrictown.engine.workshop import Workshop, crew_of
from electrictown.errors import AgentMissingError, ConfigError
from electrictown.events import Emit, ignore
from electrictown.journal.journal import Journal
from electrictown.journal.memory import MemoryJournal
from electrictown.journal.records import Answer, Header
from electrictown.llm.admission import Admission, MemoryAdmission
from electrictown.llm.costs import CostTracker
from electrictown.llm.prices import Prices
from electrictown.llm.provider import Provider
from electrictown.llm.router import Router
from electrictown.llm.slots import Slots
from electrictown.roles.mayor import Mayor
from electrictown.roles.polecat import Polecat
from electrictown.roles.refinery import Refinery
from electrictown.roles.role import Asker
from electrictown.roles.witness import Witness
from electrictown.town_parts import Agents, Providers
from electrictown.wiring import Routes, budget_of
from electrictown.work import Done, Plan, Report, Result, Subtask, Task
from electrictown.workspace.folder import Elsewhere

if TYPE_CHECKING:
    from electrictown.config import Config
    from electrictown.engine.agents import Agent

__all__ = ["Town", "new_run_id"]

_MAYOR, _POLECAT, _WITNESS, _REFINERY = "mayor", "polecat", "witness", "refinery"


class Town:
    """The running parts of one configuration: providers, routes, admission. `open()` also closes them."""

    def __init__(self, config: Config, slots: Slots | None = None) -> None:
        self.config = config
        self._providers = Providers(config)
        self._agents = Agents(config)
        self.providers: Mapping[str, Provider] = self._providers
        routes = Routes(config)
        self.routes = routes.table()
        self.specialists = routes.specialists()
        self.prices = Prices()
        self.admission = MemoryAdmission(slots=slots)

    @classmethod
    @asynccontextmanager
    async def open(cls, config: Config, slots: Slots | None = None) -> AsyncGenerator[Town]:
        """A town that closes its connections and child processes on leaving.

        `slots` keeps the in-flight limits of hosts that others may ask too (None: this process alone).
        """
        town = cls(config, slots)
        try:
            yield town
        finally:
            await town.aclose()

    async def aclose(self) -> None:
        """Close every provider that was used."""
        await self._providers.aclose()

    def agent(self, name: str) -> Agent:
        """The agent `name`: one under `agents`, or a preset.

        Raises:
            ConfigError: when there is none, or it wants variables that are not set.
        """
        return self._agents.seat(name).agent

    @property
    def engages_agents(self) -> bool:
        """Whether any worker of a run may be an agent."""
        worker = self.config.roles.get(_POLECAT)
        experts = self.config.specialists.values()
        return any(entry.agent for entry in (worker, *experts) if entry is not None)

    def router(
        self,
        *,
        emit: Emit = ignore,
        tracker: CostTracker | None = None,
        admission: Admission | None = None,
    ) -> Router:
        """A router over this town's hosts; routers of one town share slots, breakers and measured speed."""
        return Router(
            self.providers,
            self.routes,
            admission=admission or self.admission,
            tracker=tracker or CostTracker(),
            emit=emit,
            prices=self.prices,
        )

    async def run(
        self,
        task: Task,
        options: RunOptions | None = None,
        *,
        emit: Emit = ignore,
        journal: Journal | None = None,
    ) -> Report:
        """Turn `task` into a report; what happens on the way goes to `emit`.

        What `journal` knows is neither done nor paid for again; without one nothing outlives the process.

        Raises:
            ConfigError: when a role that the run needs has no model, or a budget cannot be kept.
            AgentMissingError: when the program of an agent is not there.
            CancelledError: when the run is interrupted; its report was emitted before.
        """
        options = options or RunOptions()
        await self.check_prices(options)
        self.check_agents(options)
        return await self.prepare(task, options, emit, journal).execute()

    def prepare(
        self,
        task: Task,
        options: RunOptions | None = None,
        emit: Emit = ignore,
        journal: Journal | None = None,
        dispatch: Dispatch | None = None,
    ) -> Run:
        """The run of `task`, ready to be executed; see `run`. `dispatch` has others work the subtasks.

        Raises:
            ConfigError: when a role that the run needs has no model.
        """
        options = options or RunOptions()
        journal = journal or MemoryJournal(new_run_id())
        chronicle = Chronicle(emit, journal)
        caps = self.caps(options)
        journal.note(f"budget.e{journal.epoch}", caps, kind="budget")
        purse = Purse(self.admission, journal, self.prices, caps, chronicle)
        return Run(task, self._shop(options, journal, chronicle, purse), chronicle, purse, dispatch)

    async def work(
        self,
        plan: Plan,
        subtask: Subtask,
        options: RunOptions,
        journal: Journal,
        crew: Crew | None = None,
        emit: Emit = ignore,
    ) -> Result:
        """Work one subtask of a run that somebody else drives; `journal` knows what it needs.

        Raises:
            ConfigError: when a role that it needs has no model, or its agent is not on this machine.
        """
        chronicle = Chronicle(emit, journal, subtask.id)
        purse = Purse(self.admission, journal, self.prices, self.caps(options), chronicle)
        shop = self._shop(options, journal, chronicle, purse)
        _check_here(shop.team.station(subtask.specialist))
        # A brief that could not be had is not asked for once more by every worker.
        briefed = journal.recorded("brief", Answer) is not None
        brief = await shop.team.mayor.brief(plan) if briefed else ""
        delivery = Judgement(Elsewhere(), journal, chronicle) if options.output_dir is not None else None
        needs = {name: journal.recorded(f"{name}.result", Done) for name in subtask.depends}
        worker = shop.worker(plan, brief, delivery, crew)
        return await worker.work(subtask, {name: done for name, done in needs.items() if done is not None})

    def crew(self, options: RunOptions, emit: Emit) -> Crew:
        """The places of work of a run, for all of its subtasks that are worked here."""
        router = self.router(emit=emit)
        return crew_of(self.team(router, options), router.admission, emit)

    def _shop(self, options: RunOptions, journal: Journal, chronicle: Chronicle, purse: Purse) -> Workshop:
        tracker = CostTracker()
        tracker.records.extend(spent_before(journal))
        router = self.router(emit=chronicle, tracker=tracker, admission=purse)
        team = self.team(router, options, JournalledCalls(router, journal))
        return Workshop(team, router, options, journal, chronicle, purse)

    def caps(self, options: RunOptions) -> Caps:
        """The budget of a run: its own, or the configuration's."""
        return budget_of(self.config) if options.caps is None else options.caps

    async def check_prices(self, options: RunOptions) -> None:
        """See to it that a budget in dollars can be kept by whoever the run may ask.

        Raises:
            ConfigError: when the price of a model is unknown, with all of them by name.
        """
        team = self.team(self.router(), options)
        roles = [options.supervisor] if team.worker.several else []
        workers = [station.route for station in team.stations if station.route is not None]
        roles += [_WITNESS] if options.witness and team.witness else []
        roles += [_REFINERY] if options.refinery and team.refinery else []
        asked = {role: self.routes.for_role(role).chain for role in roles}
        asked[_POLECAT] = tuple(t for w in workers for t in (*members_of(w), *w.fallbacks))
        await check_prices(asked, self.caps(options), self.prices)

    def check_agents(self, options: RunOptions, *, elsewhere: bool = False) -> None:
        """See to it that the agents whom the run may ask can be asked: `elsewhere` where others work it.

        Raises:
            ConfigError: when a budget is to hold what they spend, or one of them wants what is not set.
            AgentMissingError: when the program of one is not there.
        """
        stations = self.team(self.router(), options).stations
        agents = [station.agent.agent for station in stations if station.agent is not None]
        check_agents([agent.name for agent in agents], _POLECAT, self.caps(options))
        for agent in agents if not elsewhere else ():
            agent.check()

    def header(self, task: Task, options: RunOptions, program: str = "") -> Header:
        """All that is needed to take a run of `task` up again, without a secret.

        `program` is the version that begins it.
        """
        from electrictown.config.snapshot import snapshot

        return Header(
            task=task,
            config=snapshot(self.config.text),
            file=os.path.abspath(file) if os.path.exists(file := self.config.path) else "",  # noqa: PTH100, PTH110
            folder=os.getcwd(),  # noqa: PTH109  (text for people; pathlib is not otherwise needed here)
            settings=options.settings(),
            program=program,
        )

    def team(self, router: Router, options: RunOptions | None = None, calls: Asker | None = None) -> Team:
        """The four roles as they are configured.

        Workers ask through `router`, all others through `calls`, which remembers (None: the router).

        Raises:
            ConfigError: when a role that is needed has no model.
        """
        options = options or RunOptions()
        calls = calls or router
        supervisor = options.supervisor
        self._check_supervisor(supervisor)
        experts = self.config.specialists if options.specialists else {}
        worker = self._worker(router)
        leader = self.routes.for_role(supervisor) if worker.several else worker.route
        return Team(
            mayor=Mayor(
                calls,
                role=supervisor,
                system_prompt=self._prompt(supervisor),
                max_subtasks=options.max_subtasks,
                specialists={name: expert.description for name, expert in experts.items()},
            ),
            worker=worker,
            specialists={name: self._expert(router, name) for name in experts},
            witness=self._witness(calls, options.threshold) if self._has(_WITNESS) else None,
            refinery=Refinery(calls, system_prompt=self._prompt(_REFINERY)) if self._has(_REFINERY) else None,
            one_subtask_if_unplannable=leader is not None and leader.primary.provider_type == "local",
        )

    def _worker(self, router: Router) -> Station:
        entry = self.config.roles.get(_POLECAT)
        agent = entry.agent if entry is not None else ""
        # What stands in for a role that says nothing does not stand in for an agent.
        route = self.routes.roles.get(_POLECAT) if agent else self.routes.for_role(_POLECAT)
        return Station(Polecat(router, system_prompt=self._prompt(_POLECAT)), route, self._seat(agent))

    def _expert(self, router: Router, name: str) -> Station:
        entry = self.config.specialists[name]
        polecat = Polecat(router, system_prompt=entry.system_prompt or self._prompt(_POLECAT))
        return Station(polecat, self.specialists.get(name), self._seat(entry.agent))

    def _seat(self, agent: str) -> Seat | None:
        return self._agents.seat(agent) if agent else None

    def _witness(self, calls: Asker, threshold: float) -> Witness:
        return Witness(calls, system_prompt=self._prompt(_WITNESS), threshold=threshold)

    def _has(self, role: str) -> bool:
        return role in self.config.roles

    def _prompt(self, role: str) -> str | None:
        configured = self.config.roles.get(role)
        return (configured.system_prompt or None) if configured is not None else None

    def _check_supervisor(self, role: str) -> None:
        if role in self.routes.roles or role == _MAYOR:
            return
        if self._has(role):
            raise ConfigError(
                f"the role {role!r} is an agent's, and agents do not plan",
                f"give roles.{role} a model",
                file=self.config.path,
            )
        from difflib import get_close_matches

        near = get_close_matches(role, self.config.roles, n=1)
        known = ", ".join(self.config.roles) or "none"
        hint = f"did you mean {near[0]!r}?" if near else f"roles in {self.config.path}: {known}"
        raise ConfigError(f"there is no role {role!r}", hint, file=self.config.path)


def _check_here(station: Station) -> None:
    """See to it that somebody on this machine can work at `station`.

    Raises:
        ConfigError: when only an agent could, and its program is not here.
    """
    if station.agent is None or station.route is not None:
        return
    try:
        station.agent.agent.check()
    except AgentMissingError as error:
        raise ConfigError(error.message, error.hint) from None


def new_run_id() -> str:
    """A name for a run that sorts by time: 20261122-184207-3fa2."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
