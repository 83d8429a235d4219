"""Requests to agents, which have accounts of their own: in the run's books, and beyond every cap.

What one comes to is known only when the agent tells it, after; so nothing is set aside, and a run that has a
cap for them is refused before it begins (`check_agents`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from copy import copy

from electrictown.budget.caps import Cap, Caps
from electrictown.budget.purse import Purse
from electrictown.budget.shared import Charge, SharedBudget
from electrictown.errors import AuthError, ConfigError, ElectrictownError
from electrictown.events import CallEnded, CallStarted, Emit
from electrictown.journal.journal import Journal
from electrictown.journal.records import Reserved, Settled
from electrictown.llm.admission import Asking
from electrictown.llm.billing import as_usd, plausible
from electrictown.llm.costs import CostTracker
from electrictown.llm.messages import Usage
from electrictown.work import Failure

__all__ = ["UNKNOWN", "Errand", "Errands", "check_agents"]

UNKNOWN = "unknown"
"""The model of an agent that does not say which it works with."""

_NOTHING = Usage()
_RUN = ""


class Errand:
    """One request to an agent. `told` is called when its reply has come."""

    def __init__(self, model: str) -> None:
        self.model = model or UNKNOWN
        self.usage: Usage | None = None
        self.usd: float | None = None
        self.over = False

    def told(self, model: str, usage: Usage | None, usd: float | None) -> None:
        """The whole reply came; `usage` and `usd` are None where the agent does not tell them."""
        self.model = model or self.model
        self.usage = plausible(usage) if usage is not None else None
        self.usd = as_usd(usd)
        self.over = True


class Errands:
    """Writes down what is asked of agents in one run, for its bill and for who takes it up again."""

    def __init__(self, purse: Purse, journal: Journal, tracker: CostTracker, emit: Emit) -> None:
        self._purse = purse
        self._journal = journal
        self._shared = journal if isinstance(journal, SharedBudget) else None
        self._tracker = tracker
        self._emit = emit
        self._requests: Counter[str] = Counter()

    @asynccontextmanager
    async def errand(self, agent: str, asking: Asking, model: str = "") -> AsyncGenerator[Errand]:
        """The leave to ask `agent` once; on leaving, what it came to is in the books.

        Raises:
            HaltError: when nothing more may be begun.
            JournalError: when it cannot be written down; then nothing may be asked.
        """
        if self._purse.refusal is not None:
            raise copy(self._purse.refusal)
        errand = Errand(model)
        key = await self._begun(agent, asking, errand.model)
        role, subtask = asking.role, asking.subtask
        self._emit(CallStarted(role=role, model=errand.model, provider=agent, alias=agent, subtask=subtask))
        started = time.monotonic()
        error: BaseException | None = None
        try:
            yield errand
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = time.monotonic() - started
            settled = _settled(agent, asking, errand, error, seconds)
            self._settle(key, settled, errand)
            usage = errand.usage or _NOTHING
            self._emit(
                CallEnded(
                    role=role,
                    model=errand.model,
                    provider=agent,
                    alias=agent,
                    subtask=subtask,
                    seconds=seconds,
                    input_tokens=usage.input,
                    output_tokens=usage.output,
                    cache_read=usage.cache_read,
                    cache_write=usage.cache_write,
                    usd=errand.usd,
                    partial=settled.partial,
                    error=settled.error,
                )
            )

    async def _begun(self, agent: str, asking: Asking, model: str) -> str:
        """The key under which the request is written down, before it is made."""
        reserved = Reserved(asking.call, asking.role, agent, model, alias=agent, subtask=asking.subtask)
        while True:
            self._requests[asking.call] += 1
            key = f"{asking.call}.e{self._journal.epoch}.r{self._requests[asking.call]}"
            if self._shared is None:
                fresh = await self._journal.record(key, reserved, kind="reserve")
            else:
                charges = [Charge(_RUN, None, None)]
                fresh = await self._shared.reserve(key, reserved, charges, nano=0, tokens=0)
            if fresh is True:
                return key

    def _settle(self, key: str, settled: Settled, errand: Errand) -> None:
        if settled.billed:
            self._tracker.record(
                settled.role,
                settled.provider,
                settled.model,
                errand.usage,
                errand.usd,
                partial=settled.partial,
            )
        nano = self._purse.spend(settled.role, settled.subtask, settled.usd, settled.charged_tokens)
        name = f"{key}.settled"
        if self._shared is None:
            self._journal.note(name, settled, kind="settle")
        else:
            self._shared.settle(name, settled, of=key, nano=nano, tokens=settled.charged_tokens)


def _settled(
    agent: str, asking: Asking, errand: Errand, error: BaseException | None, seconds: float
) -> Settled:
    failed = isinstance(error, ElectrictownError)
    outcome = "done" if errand.over else "failed" if failed else "abandoned"
    usage = errand.usage or _NOTHING
    return Settled(
        call=asking.call,
        role=asking.role,
        provider=agent,
        model=errand.model,
        outcome=outcome,
        alias=agent,
        subtask=asking.subtask,
        seconds=seconds,
        input=usage.input,
        cache_read=usage.cache_read,
        cache_write=usage.cache_write,
        output=usage.output,
        reasoning=usage.reasoning,
        usd=errand.usd,
        charged_usd=errand.usd or 0.0,
        charged_tokens=usage.total,
        # An agent that nobody has logged in asks no model.
        billed=errand.over or not isinstance(error, AuthError),
        partial=not errand.over,
        error=Failure.of(error) if failed and not errand.over else None,
    )


def check_agents(agents: Collection[str], role: str, caps: Caps) -> None:
    """See to it that no cap is to hold what `agents` spend, who work as `role`.

    Raises:
        ConfigError: when one is, with their names and what to do about it.
    """
    bound = [
        what
        for what, cap in (
            ("the run", caps.run),
            (f"the role {role}", caps.per_role.get(role, Cap())),
            ("each subtask", caps.per_subtask),
        )
        if cap
    ]
    if agents and bound:
        names = ", ".join(dict.fromkeys(agents))
        raise ConfigError(
            f"there is a budget for {' and '.join(bound)}, and it cannot hold what agents spend, who have "
            f"accounts of their own: {names}",
            "run it with --budget none (one for other roles alone, such as mayor=1, may stay), or have "
            "models work",
        )
