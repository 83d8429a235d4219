"""Who is free: the pool's members as places of work, and which of the free ones is best.

Every entry of a pool is one place (a model with `max_in_flight: 3` is three); members on one host
share that host's limit. Work goes to the free member that is fastest by measured speed, one that
was never measured before all others, so that every host is tried early.

A place that becomes free is handed to the longest waiting of those it suits, and nobody else is woken.
Callers who may be served by the same members wait in one line, so that only the first of each line
is looked at, however many wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from itertools import count

from electrictown.errors import ProviderError
from electrictown.events import Emit, HostBenched
from electrictown.llm.routes import Route, Target
from electrictown.work import Failure

__all__ = ["Crew", "members_of"]

_INSTANT = 0.001  # seconds: a loop's timers come early by its clock's resolution


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
        self._lines: dict[tuple[int, ...], _Line] = {}
        self._numbers = count()
        self._alarm: asyncio.TimerHandle | None = None

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
        chosen = await self._turn(candidates, tried)
        if chosen is None:
            yield None
            return
        try:
            yield chosen
        finally:
            self._give(chosen)

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
            self._line_up_anew()
            self._serve()

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
        return target.host_limit is None or self._host_busy[target.capacity] < target.host_limit

    async def _turn(self, candidates: Collection[Target], tried: Collection[str]) -> Target | None:
        """The member whose place the caller now has; None when there is nobody left for it."""
        turn: asyncio.Future[Target | None] = asyncio.get_running_loop().create_future()
        number = next(self._numbers)
        caller = _Caller(candidates, tried, turn)
        self._line_up(number, caller)
        self._serve()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(number, caller)
            elif (chosen := turn.result()) is not None:
                self._give(chosen)  # the place came in the same moment as the cancellation
            raise

    def _line_up(self, number: int, caller: _Caller) -> None:
        left = self._left(caller.candidates, caller.tried)
        if not left:
            if not caller.turn.done():
                caller.turn.set_result(None)
            return
        # By identity: a specialist may have settings of its own for a member of the same name.
        caller.line = tuple(map(id, left))
        line = self._lines.get(caller.line)
        if line is None:
            line = self._lines[caller.line] = _Line(left)
        line.callers[number] = caller

    def _line_up_anew(self) -> None:
        """Form the lines again, when a member is there no more."""
        callers = {number: caller for line in self._lines.values() for number, caller in line.callers.items()}
        self._lines.clear()
        for number in sorted(callers):
            self._line_up(number, callers[number])

    def _leave(self, number: int, caller: _Caller) -> None:
        line = self._lines.get(caller.line)
        if line is not None and line.callers.pop(number, None) is not None and not line.callers:
            del self._lines[caller.line]
            self._set_alarm()

    def _give(self, member: Target) -> None:
        """Take `member`'s place back, and hand it on."""
        self._busy[member.label] -= 1
        self._host_busy[member.capacity] -= 1
        self._serve()

    def _serve(self) -> None:
        """Hand every free place to the first caller it suits."""
        while (found := self._next()) is not None:
            line, chosen = found
            _, caller = line.callers.popitem(last=False)
            if not line.callers:
                del self._lines[caller.line]
            self._busy[chosen.label] += 1
            self._host_busy[chosen.capacity] += 1
            caller.turn.set_result(chosen)
        self._set_alarm()

    def _next(self) -> tuple[_Line, Target] | None:
        """Of the first in each line who can be served, the longest waiting, and by whom."""
        first: int | None = None
        found: tuple[_Line, Target] | None = None
        for line in tuple(self._lines.values()):
            number = self._first(line)
            if number is None or (first is not None and number > first):
                continue
            chosen = self._best(line.members)
            if chosen is not None:
                first, found = number, (line, chosen)
        return found

    def _first(self, line: _Line) -> int | None:
        """The number of the first caller in `line`; those who were cancelled a moment ago have left."""
        while line.callers:
            number, caller = next(iter(line.callers.items()))
            if not caller.turn.done():
                return number
            self._leave(number, caller)
        return None

    def _set_alarm(self) -> None:
        """Look again when the first member that somebody waits for has cooled down."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        waits = [s for line in self._lines.values() for m in line.members if (s := self._cooling(m))]
        if waits:
            self._alarm = asyncio.get_running_loop().call_later(min(waits) + _INSTANT, self._serve)


class _Caller:
    """Somebody who waits for a member: what it asked for, where it stands, what it is told."""

    __slots__ = ("candidates", "line", "tried", "turn")

    def __init__(
        self,
        candidates: Collection[Target],
        tried: Collection[str],
        turn: asyncio.Future[Target | None],
    ) -> None:
        self.candidates = candidates
        self.tried = tried
        self.turn = turn
        self.line: tuple[int, ...] = ()


class _Line:
    """Callers whom the same members can serve, by their numbers, which is the order they came in."""

    __slots__ = ("callers", "members")

    def __init__(self, members: list[Target]) -> None:
        self.members = members
        self.callers: OrderedDict[int, _Caller] = OrderedDict()
