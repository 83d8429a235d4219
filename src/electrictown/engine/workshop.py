"""What a run stands on, and the text worker that is made of it, with the crew it hands subtasks to."""

from __future__ import annotations

from msgspec import Struct

from electrictown.budget.errands import Errands
from electrictown.budget.purse import Purse
from electrictown.engine.agent_relay import AgentRelay
from electrictown.engine.crew import Crew
from electrictown.engine.delivery import Delivery
from electrictown.engine.relay import Relay
from electrictown.engine.team import RunOptions, Team
from electrictown.engine.worker import Guard, TextWorker
from electrictown.events import Emit
from electrictown.journal.journal import Journal
from electrictown.llm.admission import Admission
from electrictown.llm.router import Router
from electrictown.llm.routes import Target
from electrictown.work import Plan

__all__ = ["Workshop", "crew_of"]


class Workshop(Struct, frozen=True):
    """What a run stands on: who takes part, how they ask, how it is run, where it is written down, and what
    it spends.
    """

    team: Team
    router: Router
    options: RunOptions
    journal: Journal
    emit: Emit
    purse: Purse

    def crew(self) -> Crew:
        """All places of work there are, for every worker of the run in this process."""
        return crew_of(self.team, self.router.admission, self.emit)

    def worker(
        self, plan: Plan, brief: str, delivery: Delivery | None, crew: Crew | None = None
    ) -> TextWorker:
        """Who works the subtasks of `plan` here; `delivery` puts files where they belong (None: there are
        none).
        """
        team = self.team
        stream_as = "" if team.worker.several else "work"
        crew = crew or self.crew()
        errands = Errands(self.purse, self.journal, self.router.tracker, self.emit)
        agents = AgentRelay(self.purse, errands, self.journal, self.emit, stream_as)
        relay = Relay(team.worker, team.specialists, crew, agents, self.emit, stream_as, journal=self.journal)
        guard = Guard(team.witness if self.options.witness else None, self.options.retries)
        return TextWorker(plan, brief, relay, guard, delivery, self.journal, self.emit)


def crew_of(team: Team, admission: Admission, emit: Emit) -> Crew:
    """All places of work that the models of `team` have."""
    return Crew(
        [station.route for station in team.stations if station.route is not None],
        speed=lambda target: _promise(admission, target),
        cooling=admission.delay,
        emit=emit,
    )


def _promise(admission: Admission, target: Target) -> float | None:
    """Tokens a second that `target` can be expected to give: none where it has just failed, so that a
    host that is away is tried last and not with every subtask; None before it was ever asked.
    """
    if admission.trouble(target) is not None:
        return 0.0
    measured = admission.speed(target)
    return None if measured is None else measured.tokens_per_second
