"""The budget's arithmetic: what is spent, what is set aside, and who may have how much. No I/O, no clock.

Money is counted in billionths of a dollar, so that sums are exact. A *scope* is what a cap holds for: the
run, a role, a subtask. What is set aside and what is spent never come to more than any scope's cap,
because a request's worst case is set aside before it goes out, in all of its scopes or in none.

A claim that does not fit now waits for what others have set aside, with nothing in hand. Who came later
gets only what those before do not need, so that nobody waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from enum import Enum, auto
from typing import TypeVar

from msgspec import Struct

from electrictown.budget.caps import Cap, Caps
from electrictown.budget.shared import Spent
from electrictown.errors import BudgetExceeded, HaltError

__all__ = ["NANO", "Amount", "Claim", "Ledger", "Scope"]

T = TypeVar("T")

_NOW = 0.0
"""A moment that is over, by the clock of any event loop."""

NANO = 1_000_000_000
"""Units in one US dollar."""


class Amount(Struct, frozen=True):
    """Money in billionths of a dollar, and tokens."""

    nano: int = 0
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.nano + other.nano, self.tokens + other.tokens)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.nano - other.nano, self.tokens - other.tokens)

    @property
    def usd(self) -> float:
        """The money in US dollars."""
        return self.nano / NANO


_NOTHING = Amount()
_UNSPENT = Spent()


class Scope:
    """One cap and what has become of it. `refusal` is set when it was reached: then it is closed.

    `open` counts what is set aside here; `elsewhere` says that other machines may have set something aside.
    """

    __slots__ = ("cap", "elsewhere", "name", "nano", "open", "refusal", "reserved", "spent", "warned")

    def __init__(self, name: str, cap: Cap) -> None:
        self.name = name
        self.cap = cap
        self.nano = None if cap.usd is None else round(cap.usd * NANO)
        self.spent = _NOTHING
        self.reserved = _NOTHING
        self.open = 0
        self.elsewhere = False
        self.refusal: BudgetExceeded | None = None
        self.warned = False

    def lacks(self, taken: Amount, wanted: Amount) -> str:
        """For which of its caps `wanted` is too much beside `taken`: "usd", "tokens", or "" for none.

        Who wants none of a thing is never in need of it.
        """
        if self.nano is not None and wanted.nano and taken.nano + wanted.nano > self.nano:
            return "usd"
        tokens = self.cap.tokens
        return "tokens" if tokens is not None and taken.tokens + wanted.tokens > tokens else ""

    def nearly(self, share: float) -> str:
        """Which of its caps is spent to `share` or more; "" for none."""
        if self.nano is not None and self.spent.nano >= share * self.nano:
            return "usd"
        tokens = self.cap.tokens
        return "tokens" if tokens is not None and self.spent.tokens >= share * tokens else ""


class Claim:
    """What one request wants: `need`, or, where its reply may be shortened, at least `least`.

    `amount` tells what a reply of so many tokens comes to; `limit` is the reply's length that `need`
    stands for, `shortest` that of `least`.
    """

    __slots__ = ("amount", "label", "least", "limit", "need", "scopes", "shortest", "sleeper")

    def __init__(
        self,
        label: str,
        scopes: tuple[Scope, ...],
        amount: Callable[[int], Amount],
        limit: int,
        shortest: int,
    ) -> None:
        self.label = label
        self.scopes = scopes
        self.amount = amount
        self.limit = limit
        self.shortest = min(shortest, limit)
        self.need = amount(limit)
        self.least = self.need if self.shortest == limit else amount(self.shortest)
        self.sleeper: asyncio.Future[None] | None = None


class _Verdict(Enum):
    GOES = auto()
    WAITS = auto()
    SHRINKS = auto()
    REFUSED = auto()


class Ledger:
    """All scopes of a run and who waits for them. For one event loop.

    `refuse` words the error of a scope that is reached. `halt` is why nobody gets anything any more.
    """

    def __init__(self, caps: Caps, refuse: Callable[[Scope, str, Claim], BudgetExceeded]) -> None:
        self.caps = caps
        self.halt: HaltError | None = None
        self._alarms: set[asyncio.Timeout] = set()
        self.run = Scope("", caps.run)
        self._refuse = refuse
        self._scopes: dict[tuple[str, str], Scope] = {}
        self._waiting: dict[Claim, None] = {}

    def scopes(self, role: str, subtask: str) -> tuple[Scope, ...]:
        """The scopes of a request: the run's, and those of its role and subtask that have a cap."""
        found = [self.run]
        if cap := self.caps.per_role.get(role):
            found.append(self._scope(("role", role), cap))
        if subtask and (cap := self.caps.per_subtask):
            found.append(self._scope(("subtask", subtask), cap))
        return tuple(found)

    def _scope(self, key: tuple[str, str], cap: Cap) -> Scope:
        scope = self._scopes.get(key)
        if scope is None:
            scope = self._scopes[key] = Scope(" ".join(key), cap)
        return scope

    async def turn(self, claim: Claim) -> None:
        """Wait until `claim` may be taken, with nothing in hand. Who has waited keeps the place (`leave`).

        Raises:
            BudgetExceeded: when it never will be.
            HaltError: when nobody gets anything any more.
        """
        while (verdict := self._judge(claim, self._ahead(claim))) is _Verdict.WAITS:
            self._waiting.setdefault(claim)
            claim.sleeper = asyncio.get_running_loop().create_future()
            await claim.sleeper
        if verdict is _Verdict.REFUSED:
            raise self._refused(claim)

    def take(self, claim: Claim) -> tuple[Amount, int] | None:
        """Set the worst case of `claim` aside: the amount and the reply's limit. None: it has to wait.

        Raises:
            BudgetExceeded: when it never will fit.
            HaltError: when nobody gets anything any more.
        """
        match self._judge(claim, self._ahead(claim)):
            case _Verdict.WAITS:
                return None
            case _Verdict.REFUSED:
                raise self._refused(claim)
            case _Verdict.GOES:
                amount, limit = claim.need, claim.limit
            case _Verdict.SHRINKS:
                limit = self._longest(claim)
                amount = claim.amount(limit)
        self._waiting.pop(claim, None)
        for scope in claim.scopes:
            scope.reserved += amount
            scope.open += 1
        self.wake()
        return amount, limit

    def settle(self, scopes: Iterable[Scope], reserved: Amount, charged: Amount) -> None:
        """What was `reserved` came to `charged`."""
        for scope in scopes:
            scope.reserved -= reserved
            scope.open -= 1
            scope.spent += charged
        self.wake()

    def release(self, scopes: Iterable[Scope], reserved: Amount) -> None:
        """What was `reserved` is not wanted after all."""
        self.settle(scopes, reserved, _NOTHING)

    def learn(self, sums: Mapping[str, Spent]) -> None:
        """What has become of the scopes, by name, over all the machines that work the run."""
        for scope in (self.run, *self._scopes.values()):
            known = sums.get(scope.name, _UNSPENT)
            scope.spent = Amount(known.nano, known.tokens)
            scope.reserved = Amount(known.open_nano, known.open_tokens)
            scope.elsewhere = bool(known.open_nano or known.open_tokens)
        self.wake()

    def spend(self, scopes: Iterable[Scope], charged: Amount) -> None:
        """Something that was spent before, or is taken for spent."""
        for scope in scopes:
            scope.spent += charged

    def leave(self, claim: Claim) -> None:
        """`claim` wants nothing any more, or has what it wants."""
        if claim in self._waiting:
            del self._waiting[claim]
            self.wake()

    def stop(self, error: HaltError) -> None:
        """Give nobody anything from now on: who asks, or waits, gets `error`. The first one stands."""
        if self.halt is None:
            self.halt = error
            for alarm in self._alarms:
                alarm.reschedule(_NOW)
        self.wake()

    async def unless_halted(self, waiting: Awaitable[T]) -> T:
        """What `waiting` comes to. It is cancelled as soon as nobody gets anything any more.

        Raises:
            HaltError: when it was.
        """
        alarm = asyncio.timeout(None)
        try:
            async with alarm:
                if self.halt is not None:
                    alarm.reschedule(_NOW)
                self._alarms.add(alarm)
                try:
                    return await waiting
                finally:
                    self._alarms.discard(alarm)
        except TimeoutError:
            if self.halt is None or not alarm.expired():
                raise
            raise copy(self.halt) from None

    def wake(self) -> None:
        """Wake those who wait and may go, or must go, now."""
        ahead: dict[Scope, Amount] = {}
        for claim in self._waiting:
            waits = self._judge(claim, ahead) is _Verdict.WAITS
            if not waits and claim.sleeper is not None and not claim.sleeper.done():
                claim.sleeper.set_result(None)
            for scope in claim.scopes:
                ahead[scope] = ahead.get(scope, _NOTHING) + claim.need

    def _ahead(self, claim: Claim) -> dict[Scope, Amount]:
        """What those who came before `claim` still want, by scope."""
        ahead: dict[Scope, Amount] = {}
        for earlier in self._waiting:
            if earlier is claim:
                break
            for scope in earlier.scopes:
                ahead[scope] = ahead.get(scope, _NOTHING) + earlier.need
        return ahead

    def _judge(self, claim: Claim, ahead: Mapping[Scope, Amount]) -> _Verdict:
        if self.halt is not None:
            return _Verdict.REFUSED
        verdict = _Verdict.GOES
        for scope in claim.scopes:
            # What is spent only grows: what does not fit beside it never will.
            if scope.refusal is not None or scope.lacks(scope.spent, claim.least):
                return _Verdict.REFUSED
            others = ahead.get(scope, _NOTHING)
            if scope.lacks(scope.spent + scope.reserved + others, claim.need):
                if scope.open or scope.elsewhere or scope in ahead:
                    verdict = _Verdict.WAITS
                elif verdict is _Verdict.GOES:
                    verdict = _Verdict.SHRINKS
        return verdict

    def _refused(self, claim: Claim) -> HaltError:
        """Why `claim` gets nothing. A scope that has no room for it is closed from now on."""
        if self.halt is not None:
            return copy(self.halt)
        for scope in claim.scopes:
            if scope.refusal is not None:
                return copy(scope.refusal)
            if lack := scope.lacks(scope.spent, claim.least):
                return copy(self.close(scope, self._refuse(scope, lack, claim)))
        raise AssertionError("a claim that fits was refused")

    def close(self, scope: Scope, refusal: BudgetExceeded) -> BudgetExceeded:
        """Nothing more is given out in `scope`."""
        scope.refusal = refusal
        if scope is self.run:
            self.stop(refusal)
        else:
            self.wake()
        return refusal

    def _longest(self, claim: Claim) -> int:
        """The longest reply that there is room for. At `shortest` there is, by the verdict."""
        low, high = claim.shortest, claim.limit
        while low < high:
            middle = (low + high + 1) // 2
            amount = claim.amount(middle)
            if any(s.lacks(s.spent + s.reserved, amount) for s in claim.scopes):
                high = middle - 1
            else:
                low = middle
        return low
