"""Who is asked next: the decisions of one call over a chain of targets. No I/O, no clock of its own."""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Callable

from msgspec import Struct

from electrictown.errors import (
    ContextWindowError,
    DeadlineError,
    OverloadedError,
    ProviderError,
    RateLimitError,
)
from electrictown.llm.routes import Target
from electrictown.redact import mask
from electrictown.work import Failure

__all__ = ["Chain", "RetryPolicy", "Step"]

_BUSY = frozenset({RateLimitError.__name__, OverloadedError.__name__})
_INSTANT = 0.001  # seconds: timers come early by a clock's resolution


class RetryPolicy(Struct, frozen=True):
    """How long one call goes on. Times in seconds.

    A target is asked `tries` times at the most, `rate_limit_tries` times when it answers that it is
    asked too often. Between two tries of one target passes a random time of up to
    `base_delay * 2 ** (tries - 1)`, at the most `longest_delay`, or what Retry-After says. A host that
    asks for time is waited for up to `retry_after_cap`, one that just fails up to `patience`, each time.
    `deadline` ends the whole call, whatever it is doing; None: never.
    """

    tries: int = 5
    rate_limit_tries: int = 8
    base_delay: float = 0.5
    longest_delay: float = 30.0
    retry_after_cap: float = 60.0
    patience: float = 15.0
    deadline: float | None = 3600.0

    def backoff(self, tries: int) -> float:
        """A random wait after `tries` failures in a row."""
        most = min(self.base_delay * 2 ** (tries - 1), self.longest_delay)
        return random.uniform(0.0, most)  # noqa: S311  (spreads load, keeps no secret)


class _Place:
    """One target's standing in the call."""

    __slots__ = ("error", "out", "ready_at", "target", "tries")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.tries = 0
        self.error: ProviderError | None = None
        self.ready_at = 0.0
        self.out = False


class Step(Struct, frozen=True):
    """Ask `target` now, or, with `wait` > 0, choose again after so many seconds.

    `insist` asks although the target is known to be unavailable: nothing else is left to try.
    """

    target: Target
    wait: float = 0.0
    insist: bool = False


class Chain:
    """The targets of one call, in the order of preference, and what came of each.

    `delay` tells the seconds until a target is available for anybody (`Admission.delay`), `trouble`
    what made it unavailable (`Admission.trouble`).
    """

    def __init__(
        self,
        targets: tuple[Target, ...],
        policy: RetryPolicy,
        delay: Callable[[Target], float],
        trouble: Callable[[Target], Failure | None],
    ) -> None:
        self.policy = policy
        self.failures: list[tuple[Target, ProviderError]] = []
        self._targets = targets
        self._standing: list[_Place] | None = None
        self._delay = delay
        self._trouble = trouble
        self._final: ProviderError | None = None

    def next(self, now: float, left: float) -> Step | None:
        """What to do at the time `now` with `left` seconds to the deadline; None: give up.

        A target that was not asked yet and is available comes first, in order; then whichever may be
        asked (again) soonest.
        """
        if self._final is not None:
            return None
        if self._standing is None and self._delay(self._targets[0]) < _INSTANT:
            return Step(self._targets[0])  # nearly every call begins and ends with this
        best, shortest = None, 0.0
        for place in self._places:
            if place.out:
                continue
            wait = max(self._delay(place.target), place.ready_at - now)
            if wait < _INSTANT:
                wait = 0.0
                if not place.tries:
                    return Step(place.target)
            if best is None or wait < shortest:
                best, shortest = place, wait
        if best is None:
            return None
        longest = self.policy.retry_after_cap if self._asks_for_time(best) else self.policy.patience
        if shortest <= min(longest, left):
            return Step(best.target, shortest)
        return None if self.failures else Step(best.target, insist=True)

    @property
    def _places(self) -> list[_Place]:
        """How the targets stand, each once."""
        if self._standing is None:
            targets = self._targets
            self._standing = [_Place(t) for i, t in enumerate(targets) if t not in targets[:i]]
        return self._standing

    def _asks_for_time(self, place: _Place) -> bool:
        """Whether the target is there and wants to be left alone for a while, rather than away."""
        if place.error is not None:
            return isinstance(place.error, RateLimitError) or place.error.retry_after is not None
        trouble = self._trouble(place.target)
        return trouble is not None and trouble.type in _BUSY

    def failed(self, target: Target, error: ProviderError, now: float) -> float:
        """Note a failure; returns the seconds for which nobody should ask `target` (0.0: no reason known)."""
        # Kept without its traceback: that holds every frame, and so what was read of a giant reply.
        self.failures.append((target, error.with_traceback(None)))
        if not error.try_next:
            self._final = error
        place = next(p for p in self._places if p.target is target)
        place.error = error
        place.tries += 1
        limited = isinstance(error, RateLimitError)
        tries = self.policy.rate_limit_tries if limited else self.policy.tries
        place.out = not error.retry_same or place.tries >= tries
        if isinstance(error, ContextWindowError):
            self._rule_out(target.context_window)
        wait = self.policy.backoff(place.tries)
        told = error.retry_after
        place.ready_at = now + (wait if told is None else told)
        return told if told is not None else wait if limited else 0.0

    def _rule_out(self, window: int | None) -> None:
        """Drop every target whose window is known to be no larger than one that was too small."""
        for place in self._places:
            known = place.target.context_window
            if window is not None and known is not None and known <= window:
                place.out = True

    def verdict(self) -> ProviderError:
        """The error of the whole call: the one that ended it, or the most preferred target's own.

        Its message tells of every failure on the way.
        """
        error = self._final or next(p.error for p in self._places if p.error is not None)
        if len(self.failures) == 1:
            return error
        told = copy.copy(error)
        story = self._story()
        more = f"asked: {'; '.join(story)}" if len(story) > 1 else f"{len(self.failures)} times"
        told.message = f"{mask(error.message)} ({more})"
        told.__cause__ = error
        return told

    def late(self, pending: str) -> DeadlineError:
        """The error of a call whose time is over; `pending` says what it was doing."""
        message = f"no reply within {self.policy.deadline:g} s"
        if pending:
            message += f": {pending}"
        if self.failures:
            message += f" (asked: {'; '.join(self._story())})"
        return DeadlineError(message, hint="give it more time, or add a fallback that answers faster")

    def _story(self) -> list[str]:
        """What failed, in the order of its first time; the same failure is told once, with its count."""
        told = Counter(f"{t.label}: {type(e).__name__}: {mask(e.message)}" for t, e in self.failures)
        return [text if times == 1 else f"{text} ({times} times)" for text, times in told.items()]
