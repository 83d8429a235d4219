"""Who is free: the pool's members as places of work, and which of the free ones is best.

Every entry of a pool is one place (a model with `max_in_flight: 3` is three); members on one host
share that host's limit. Work goes to the free member that is fastest by measured speed, one that
was never measured before all others, so that every host is tried early.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import asynccontextmanager

from electrictown.errors import ProviderError
from electrictown.events import Emit, HostBenched
from electrictown.llm.routes import Route, Target
from electrictown.work import Failure

__all__ = ["Crew", "members_of"]


def members_of(route: Route) -> tuple[Target, ...]:
    """Those who work a route's subtasks at once: its pool, or its primary alone. No name twice."""
    return tuple({m.label: m for m in (route.pool or (route.primary,))}.values())


class Crew:
    """All places of work of one run. Places are taken with `member()` and always given back.

    `speed` is a target's measured output in tokens a second, None before the first; `cooling` the
    seconds it wants to be left alone, 0 when it may be asked now.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        *,
        speed: Callable[[Target], float | None],
        cooling: Callable[[Target], float],
        emit: Emit,
    ) -> None:
        self._places: Counter[str] = Counter()
        for route in routes:
            here: Counter[str] = Counter()
            for target in route.pool or (route.primary,):
                here[target.label] += target.limit
            self._places |= here
        self._speed = speed
        self._cooling = cooling
        self._emit = emit
        self._busy: Counter[str] = Counter()
        self._host_busy: Counter[str] = Counter()
        self._benched: dict[str, ProviderError] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def places(self) -> int:
        """How many subtasks can be worked at once."""
        return self._places.total()

    @asynccontextmanager
    async def member(
        self, candidates: Collection[Target], tried: Collection[str]
    ) -> AsyncGenerator[Target | None]:
        """The best free one of `candidates`, waiting until one is free; None when all are tried or benched.

        The place is held for the length of the `async with` block.
        """
        while True:
            left = self._left(candidates, tried)
            chosen = self._best(left)
            if chosen is not None or not left:
                break
            await self._change(left)
        if chosen is None:
            yield None
            return
        self._busy[chosen.label] += 1
        self._host_busy[chosen.host] += 1
        try:
            yield chosen
        finally:
            self._busy[chosen.label] -= 1
            self._host_busy[chosen.host] -= 1
            self._wake()

    def others_left(self, candidates: Collection[Target], tried: Collection[str], member: Target) -> bool:
        """Whether anyone but `member` could still take the subtask."""
        return any(c.label != member.label for c in self._left(candidates, tried))

    def benched(self, member: Target) -> ProviderError | None:
        """Why `member` takes no more work; None while it does."""
        return self._benched.get(member.label)

    def bench(self, member: Target, error: ProviderError) -> None:
        """Give `member` no more work in this run: it cannot do any (a wrong key, a missing model)."""
        if member.label not in self._benched:
            self._benched[member.label] = error
            self._emit(HostBenched(model=member.label, error=Failure.of(error)))
            self._wake()

    def _left(self, candidates: Collection[Target], tried: Collection[str]) -> list[Target]:
        return [c for c in candidates if c.label not in tried and c.label not in self._benched]

    def _best(self, left: Collection[Target]) -> Target | None:
        warm = [c for c in left if self._is_free(c) and not self._cooling(c)]
        if warm:
            return max(warm, key=self._promise)
        # Nobody warm is even busy: the least cold one waits for itself, in the router.
        if left and all(self._cooling(c) for c in left):
            cold = [c for c in left if self._is_free(c)]
            return min(cold, key=self._cooling) if cold else None
        return None

    def _promise(self, target: Target) -> float:
        measured = self._speed(target)
        return float("inf") if measured is None else measured

    def _is_free(self, target: Target) -> bool:
        if self._busy[target.label] >= self._places.get(target.label, target.limit):
            return False
        return target.host_limit is None or self._host_busy[target.host] < target.host_limit

    async def _change(self, left: Collection[Target]) -> None:
        """Wait until a place is given back, a member is benched, or one of `left` has cooled down."""
        loop = asyncio.get_running_loop()
        changed = loop.create_future()
        self._waiters.append(changed)
        soonest = min((seconds for c in left if (seconds := self._cooling(c))), default=None)
        timer = None if soonest is None else loop.call_later(soonest + 0.001, _resolve, changed)
        try:
            await changed
        finally:
            if timer is not None:
                timer.cancel()
            if changed in self._waiters:
                self._waiters.remove(changed)

    def _wake(self) -> None:
        for waiter in tuple(self._waiters):
            _resolve(waiter)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
