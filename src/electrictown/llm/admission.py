"""Admission: may this target be asked now, and how did it go?

A request needs the breaker's leave and a slot of its host (and, with a budget, a reservation): all
of them or none, and none is held while another is waited for. `Admission` is the contract;
`MemoryAdmission` keeps health in memory, and slots wherever its `Slots` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol

from msgspec import Struct

from electrictown.errors import ProviderError, RateLimitError
from electrictown.llm.costs import CostTracker
from electrictown.llm.messages import ChatRequest, Usage
from electrictown.llm.routes import Target
from electrictown.llm.slots import ProcessSlots, Slot, Slots
from electrictown.work import Failure

__all__ = ["Admission", "Asking", "Lease", "MemoryAdmission", "Speed"]

_INSTANT = 0.001  # seconds: a loop's timers come early by its clock's resolution


class Speed(Struct, frozen=True, gc=False):
    """What a target has shown so far: output tokens a second, seconds a call, calls measured.

    Both are exponentially weighted: the last few calls count most.
    """

    tokens_per_second: float
    seconds: float
    calls: int


class Asking(Struct, frozen=True):
    """On whose behalf a call is made; `call` is its key in the journal, `tracker` also wants its costs."""

    role: str = ""
    subtask: str = ""
    call: str = ""
    tracker: CostTracker | None = None


_NOBODY = Asking()


class Lease(Protocol):
    """The leave to make one request. Exactly one outcome is told; leaving without is an abandoned call.

    Every outcome carries what is known of the usage and its price in US dollars (None: unknown), so
    that a backend with a budget can settle its reservation. The methods return at once; what takes
    time is done on leaving the `async with`.
    """

    @property
    def request(self) -> ChatRequest:
        """The request that may go out: a backend with a budget may have limited its `max_tokens`."""
        ...

    def answered(self) -> None:
        """The host has begun to answer: it is well, however the reply ends."""
        ...

    def finished(self, usage: Usage | None, usd: float | None, seconds: float) -> None:
        """The whole reply came, `seconds` after the request."""
        ...

    def failed(
        self,
        error: ProviderError,
        usage: Usage | None = None,
        usd: float | None = None,
        *,
        pause: float = 0.0,
    ) -> None:
        """The request failed; nobody should ask this target for `pause` seconds."""
        ...

    def abandoned(self, usage: Usage | None = None, usd: float | None = None) -> None:
        """The caller left before the end; that says nothing about the host."""
        ...


class Admission(Protocol):
    """Who may ask which target when."""

    def admit(
        self, target: Target, request: ChatRequest, asking: Asking = _NOBODY, *, insist: bool = False
    ) -> AbstractAsyncContextManager[Lease | None]:
        """Wait for a slot of the target's host, in turn, and take everything the request needs.

        Yields None, with nothing held, when the target turned out not to be available (`delay`): the
        caller chooses again. `insist` asks in spite of a cooldown or an open breaker. Leaving, in
        whatever way, gives everything back.

        Raises:
            BudgetExceeded: by a backend with a budget, when the worst case does not fit.
        """
        ...

    def delay(self, target: Target) -> float:
        """Seconds until `target` may be asked again; 0.0 when it may be asked now."""
        ...

    def trouble(self, target: Target) -> Failure | None:
        """The failure that made `target` unavailable; None for a target that is well."""
        ...

    async def pause(self, targets: Iterable[Target], seconds: float) -> None:
        """Sleep for `seconds`, or until one of `targets` becomes available before that."""
        ...

    def speed(self, target: Target) -> Speed | None:
        """What was measured of `target`; None before its first complete reply."""
        ...


class _Breaker(Struct, frozen=True):
    """When a breaker opens and for how long; see `MemoryAdmission`."""

    failures: int
    pause: float
    longest_pause: float


class _Health:
    """One (host, model): its breaker, its cooldown, its speed.

    The breaker is closed while `opened` is 0, open until `open_until`, and half-open after that: one
    call, the probe, is let through and decides.
    """

    __slots__ = (
        "breaker",
        "cool_until",
        "failures",
        "open_until",
        "opened",
        "probing",
        "sleepers",
        "speed",
        "trouble",
    )

    def __init__(self, breaker: _Breaker) -> None:
        self.breaker = breaker
        self.failures = 0
        self.opened = 0
        self.open_until = 0.0
        self.cool_until = 0.0
        self.probing = False
        self.trouble: Failure | None = None
        self.speed: Speed | None = None
        self.sleepers: set[asyncio.Future[None]] = set()

    def wait(self) -> float:
        """Seconds until one more call may go out. A probe in flight is given the breaker's first pause."""
        if not self.opened and not self.cool_until:
            return 0.0
        now = asyncio.get_running_loop().time()
        wait = self.cool_until - now
        if wait < _INSTANT:
            wait = self.cool_until = 0.0
        if self.opened:
            shut = self.open_until - now
            if shut < _INSTANT:
                shut = self.breaker.pause if self.probing else 0.0
            wait = max(wait, shut)
        return wait

    def answered(self) -> None:
        """The host is there: the breaker closes."""
        self.failures = 0
        if self.opened:
            self.opened = 0
            self.probing = False
            self.wake()
        if not self.cool_until:
            self.trouble = None

    def failed(self, trouble: Failure, *, probe: bool) -> None:
        """The host failed: one more counts, and opens the breaker when it is enough."""
        self.trouble = trouble
        self.failures += 1
        if probe or (not self.opened and self.failures >= self.breaker.failures):
            pause = min(self.breaker.pause * 2**self.opened, self.breaker.longest_pause)
            self.opened += 1
            self.failures = 0
            self.probing = False
            self.open_until = asyncio.get_running_loop().time() + pause

    def cool(self, trouble: Failure, seconds: float) -> None:
        """The host asked to be left alone for so long."""
        self.trouble = trouble
        self.cool_until = max(self.cool_until, asyncio.get_running_loop().time() + seconds)

    def measure(self, seconds: float, tokens: int, weight: float) -> None:
        """Fold one complete call into the speed; `weight` is the share of the newest."""
        rate, old = tokens / max(seconds, 1e-6), self.speed
        if old is None:
            self.speed = Speed(rate, seconds, 1)
            return
        if not tokens or not old.tokens_per_second:
            rate = old.tokens_per_second or rate
        self.speed = Speed(
            old.tokens_per_second + weight * (rate - old.tokens_per_second),
            old.seconds + weight * (seconds - old.seconds),
            old.calls + 1,
        )

    def wake(self) -> None:
        """Tell everyone who waits for this target that it may be available."""
        for sleeper in self.sleepers:
            _wake(sleeper)


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


class MemoryAdmission:
    """Admission for one event loop: breakers, cooldowns and speeds are this process's own experience.

    `slots` keeps the limits of hosts that others may ask too (default: in memory, this process alone);
    those of hosts that only this process has are always kept in memory.

    `failures` consecutive failures of a host open the breaker of that (host, model) for `pause`
    seconds; each failed probe doubles that, up to `longest_pause`. `weight` is the newest call's share
    in the measured speed.
    """

    def __init__(
        self,
        slots: Slots | None = None,
        *,
        failures: int = 5,
        pause: float = 5.0,
        longest_pause: float = 60.0,
        weight: float = 0.3,
    ) -> None:
        self._breaker = _Breaker(failures, pause, longest_pause)
        self._weight = weight
        self._own = ProcessSlots()
        self._shared = slots or self._own
        self._targets: dict[tuple[str, str], _Health] = {}

    def admit(
        self, target: Target, request: ChatRequest, asking: Asking = _NOBODY, *, insist: bool = False
    ) -> _MemoryLease:
        """A slot and the breaker's leave; see `Admission.admit`."""
        slots = self._shared if target.address else self._own
        return _MemoryLease(target, request, self._health(target), slots, self._weight, insist=insist)

    def delay(self, target: Target) -> float:
        """Seconds until the target may be asked; see `Admission.delay`."""
        return self._health(target).wait()

    def trouble(self, target: Target) -> Failure | None:
        """What made the target unavailable; see `Admission.trouble`."""
        return self._health(target).trouble

    def speed(self, target: Target) -> Speed | None:
        """What was measured; see `Admission.speed`."""
        return self._health(target).speed

    async def pause(self, targets: Iterable[Target], seconds: float) -> None:
        """Sleep, but wake when a target becomes available; see `Admission.pause`."""
        loop = asyncio.get_running_loop()
        sleeper: asyncio.Future[None] = loop.create_future()
        watched = [self._health(t) for t in targets]
        alarm = loop.call_later(seconds, _wake, sleeper)
        for health in watched:
            health.sleepers.add(sleeper)
        try:
            await sleeper
        finally:
            alarm.cancel()
            for health in watched:
                health.sleepers.discard(sleeper)

    def _health(self, target: Target) -> _Health:
        key = (target.host or target.provider, target.model)
        health = self._targets.get(key)
        if health is None:
            health = self._targets[key] = _Health(self._breaker)
        return health


class _MemoryLease:
    """One request's slot and leave."""

    __slots__ = ("_health", "_insist", "_probe", "_slot", "_slots", "_target", "_weight", "request")

    def __init__(
        self,
        target: Target,
        request: ChatRequest,
        health: _Health,
        slots: Slots,
        weight: float,
        *,
        insist: bool,
    ) -> None:
        self.request = request
        self._target = target
        self._health = health
        self._slots = slots
        self._slot: Slot | None = None
        self._weight = weight
        self._insist = insist
        self._probe = False

    async def __aenter__(self) -> _MemoryLease | None:
        target = self._target
        if target.host_limit is not None:
            self._slot = await self._slots.take(target.capacity, target.host_limit)
        # The slot was waited for with nothing in hand; the breaker's leave is given or refused at once.
        health = self._health
        if not self._insist and health.wait() > 0:
            self._release()
            return None
        if health.opened and not health.probing:
            self._probe = health.probing = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandoned()
        self._release()

    def _release(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.give()

    def answered(self) -> None:
        """See `Lease.answered`."""
        self._probe = False
        if self._insist:
            self._health.cool_until = 0.0
        self._health.answered()

    def finished(self, usage: Usage | None, usd: float | None, seconds: float) -> None:
        """See `Lease.finished`."""
        self.answered()
        self._health.measure(seconds, usage.output if usage is not None else 0, self._weight)

    def failed(
        self,
        error: ProviderError,
        usage: Usage | None = None,
        usd: float | None = None,
        *,
        pause: float = 0.0,
    ) -> None:
        """See `Lease.failed`."""
        probe, self._probe = self._probe, False
        if error.retry_same and not isinstance(error, RateLimitError):
            self._health.failed(Failure.of(error), probe=probe)
        else:
            self._health.answered()  # a refusal is an answer too: the host is there
        if pause > 0:
            self._health.cool(Failure.of(error), pause)

    def abandoned(self, usage: Usage | None = None, usd: float | None = None) -> None:
        """See `Lease.abandoned`; a probe that was left gives way to the next."""
        if self._probe:
            self._probe = self._health.probing = False
            self._health.wake()
