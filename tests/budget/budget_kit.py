"""Parts for the tests of the budget: a journal whose commits take time and which a crash can freeze."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

from msgspec.structs import replace

from electrictown.budget.caps import Caps
from electrictown.budget.purse import Purse
from electrictown.events import Event, Noted
from electrictown.journal.driving import DrivenJournal, Put
from electrictown.journal.journal import Line, Step
from electrictown.journal.records import Reserved, Settled
from electrictown.llm.admission import MemoryAdmission
from electrictown.llm.prices import Prices
from electrictown.llm.routes import Price, Target
from router.router_kit import InstantLoop, question, target

__all__ = ["Lane", "Till", "instantly", "question", "target"]

T = TypeVar("T")

CHEAP = target("cheap", local=False, price=Price(1.0, 2.0))
DEAR = target("dear", local=False, price=Price(10.0, 30.0, cache_write=12.5), host_limit=2)
FREE = target("free", host_limit=1)
UNKNOWN = target("nameless", local=False, provider_type="openai", model="no-such-model-at-all")


def instantly(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives, on a loop whose clock jumps instead of waiting."""
    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        return runner.run(work)


class Lane:
    """Commits each step `delay` seconds after it was put, in order; a dead one commits nothing any more."""

    def __init__(self, steps: Iterable[Step] = (), delay: float = 0.0) -> None:
        self.steps = {step.key: step for step in steps}
        self.delay = delay
        self.dead = False
        self.committed: Callable[[], None] = lambda: None

    def put(self, step: Step) -> asyncio.Future[Put]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Put] = loop.create_future()
        if self.delay:
            loop.call_later(self.delay, self._commit, step, future)
        else:
            self._commit(step, future)
        return future

    def _commit(self, step: Step, future: asyncio.Future[Put]) -> None:
        if self.dead:
            return
        fresh = step.key not in self.steps
        if fresh:
            self.steps[step.key] = replace(step, seq=len(self.steps) + 1)
        future.set_result((self.steps[step.key], fresh))
        self.committed()

    def feed(self, lines: list[Line]) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    async def wanted(self, key: str) -> bool:
        return False

    async def let_go(self) -> None:
        pass


class Till:
    """A purse over memory, with all that it says and writes down."""

    def __init__(
        self,
        caps: Caps | None = None,
        lane: Lane | None = None,
        *,
        epoch: int = 1,
        prices: Prices | None = None,
    ) -> None:
        self.lane = lane or Lane()
        self.journal = DrivenJournal(self.lane, "r1", epoch, self.lane.steps.values())
        self.events: list[Event] = []
        self.admission = MemoryAdmission()
        self.purse = Purse(
            self.admission, self.journal, prices or Prices(), caps or Caps(), self.events.append
        )

    def again(self, caps: Caps | None = None) -> Till:
        """The same run, taken up by another process."""
        lane = Lane(self.lane.steps.values(), self.lane.delay)
        return Till(caps or self.purse.caps, lane, epoch=self.journal.epoch + 1)

    @property
    def warnings(self) -> list[str]:
        return [e.text for e in self.events if isinstance(e, Noted) and e.level == "warning"]

    @property
    def spent(self) -> tuple[float, int]:
        """Charged so far: US dollars and tokens."""
        run = self.purse._ledger.run
        return run.spent.usd, run.spent.tokens

    @property
    def reserved(self) -> tuple[float, int]:
        run = self.purse._ledger.run
        return run.reserved.usd, run.reserved.tokens

    @property
    def idle(self) -> bool:
        """Whether nothing is set aside and nobody waits."""
        ledger = self.purse._ledger
        scopes = [ledger.run, *ledger._scopes.values()]
        return not ledger._waiting and all(not s.open and not s.reserved.tokens for s in scopes)

    def reservations(self) -> list[Reserved]:
        return [s.read(Reserved) for s in self.journal.steps(("reserve",))]

    def settlements(self) -> list[Settled]:
        return [s.read(Settled) for s in self.journal.steps(("settle",))]


def capped(one: Target, **settings: object) -> Target:
    return replace(one, **settings)
