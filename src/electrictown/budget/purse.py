"""The purse: every request's worst case is set aside before its bytes go out, and settled after.

`Purse` is an `Admission` around another one, which has the slots and the breakers. A reservation is in the
journal before the leave to go is given; one that a crash left unsettled counts as spent when the run is
taken up again. So N workers at once cannot overshoot, whatever becomes of them, or of the process.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from typing import TypeVar

from electrictown.budget.caps import Caps, unpriced
from electrictown.budget.halts import halt_key, halted_by
from electrictown.budget.ledger import Amount, Claim, Ledger, Scope
from electrictown.budget.reservation import Books, Reservation, charged_before, nano_up
from electrictown.budget.shared import Charge, SharedBudget, Shortage
from electrictown.errors import BudgetExceeded, HaltError
from electrictown.events import Emit, Noted, ignore
from electrictown.journal.journal import Journal
from electrictown.llm.admission import Admission, Asking, Lease, Speed
from electrictown.llm.bounds import LEAST_OUTPUT, limited, most_input, own_limit, replies, usual_limit
from electrictown.llm.messages import ChatRequest
from electrictown.llm.prices import Prices
from electrictown.llm.routes import Target
from electrictown.work import Budget, Failure

__all__ = ["Purse"]

T = TypeVar("T")

_NEARLY = 0.8
"""The share of a cap at which it is said that it is nearly spent."""

_LOOK = 0.5
"""Seconds between two looks at what other machines have settled, for who waits for it."""

_NOBODY = Asking()


class Purse:
    """Admission with a budget, for one run and one event loop.

    `inner` has the slots, `journal` what was spent before and what is spent now, `caps` say how much may
    be. Without any cap nothing is refused, and everything is written down all the same. A journal that
    many machines write (`SharedBudget`) has the last word: the caps hold for all of them together.
    `resume` is the command that goes on with a larger budget (left out: `et resume`).
    """

    def __init__(
        self,
        inner: Admission,
        journal: Journal,
        prices: Prices,
        caps: Caps = Caps(),  # noqa: B008  (frozen)
        emit: Emit = ignore,
        resume: str = "",
    ) -> None:
        self.caps = caps
        self._resume = resume or f"et resume {journal.run}"
        self._inner = inner
        self._journal = journal
        self._prices = prices
        self._emit = emit
        self._shared = journal if isinstance(journal, SharedBudget) else None
        self._ledger = Ledger(caps, self._worded)
        self._requests: Counter[str] = Counter()
        for role, subtask, amount in charged_before(journal):
            self._ledger.spend(self._ledger.scopes(role, subtask), amount)
        self._driver = journal.epoch if self._shared is None else self._shared.driver
        self._heed()

    # --- what the engine asks

    def close(self, error: HaltError) -> None:
        """Let nothing new begin: who asks from now on, or waits, gets `error`. What is under way goes on."""
        self._ledger.stop(error)

    @property
    def refusal(self) -> HaltError | None:
        """Why nothing more is begun in this run; None while something may be."""
        return self._ledger.halt

    @property
    def budget(self) -> Budget | None:
        """What of the budget is gone; None for a run without any cap."""
        if not self.caps:
            return None
        run = self._ledger.run
        return Budget(
            usd=self.caps.usd,
            tokens=self.caps.tokens,
            spent_usd=run.spent.usd,
            spent_tokens=run.spent.tokens,
            reserved_usd=run.reserved.usd,
            reserved_tokens=run.reserved.tokens,
        )

    async def unless_halted(self, waiting: Awaitable[T]) -> T:
        """What `waiting` comes to, for who waits for something else than a model.

        Raises:
            HaltError: as soon as nothing new may begin.
        """
        return await self._ledger.unless_halted(waiting)

    def spend(self, role: str, subtask: str, usd: float | None, tokens: int) -> int:
        """Something was spent for which nothing was set aside; the money in billionths of a dollar."""
        amount = Amount(nano_up(usd), tokens)
        self._ledger.spend(self._ledger.scopes(role, subtask), amount)
        return amount.nano

    # --- the contract of Admission

    @asynccontextmanager
    async def admit(
        self, target: Target, request: ChatRequest, asking: Asking = _NOBODY, *, insist: bool = False
    ) -> AsyncGenerator[Lease | None]:
        """A slot, the breaker's leave, and the request's worst case set aside; see `Admission.admit`.

        The budget is waited for with nothing in hand, and everything is given back where it has no room.

        Raises:
            BudgetExceeded: when the worst case does not fit.
            HaltError: when nothing new may begin (`close`).
            ConfigError: when there is a cap in dollars and nobody knows what the target costs.
            JournalError: when the reservation cannot be written down.
        """
        claim = await self._claim(target, request, asking)
        try:
            while True:
                await self._turn(claim)
                async with AsyncExitStack() as hands:
                    leave = self._inner.admit(target, request, asking, insist=insist)
                    lease = await self._ledger.unless_halted(hands.enter_async_context(leave))
                    if lease is None:
                        yield None
                        return
                    taken = self._ledger.take(claim)
                    if taken is None:
                        continue
                    amount, limit = taken
                    capped = any(scope.cap for scope in claim.scopes)
                    asked = limited(request, limit) if capped else request
                    reservation = Reservation(
                        self._books(), lease, target, asked, asking, claim.scopes, amount
                    )
                    if not await self._written(reservation):
                        continue  # others were faster to set something aside
                    try:
                        yield reservation
                    finally:
                        reservation.end()
                    return
        finally:
            self._ledger.leave(claim)

    def delay(self, target: Target) -> float:
        """Seconds until `target` may be asked; see `Admission.delay`."""
        return self._inner.delay(target)

    def trouble(self, target: Target) -> Failure | None:
        """What made `target` unavailable; see `Admission.trouble`."""
        return self._inner.trouble(target)

    def speed(self, target: Target) -> Speed | None:
        """What was measured of `target`; see `Admission.speed`."""
        return self._inner.speed(target)

    async def pause(self, targets: Iterable[Target], seconds: float) -> None:
        """Sleep, but wake when a target becomes available; see `Admission.pause`.

        Raises:
            HaltError: as soon as nothing new may begin.
        """
        await self._ledger.unless_halted(self._inner.pause(targets, seconds))
        if self._ledger.halt is not None:
            raise copy(self._ledger.halt)

    # --- one request

    async def _claim(self, target: Target, request: ChatRequest, asking: Asking) -> Claim:
        """What `request` wants: with its own limit, or with one that may be shortened to what is left."""
        scopes = self._ledger.scopes(asking.role, asking.subtask)
        if self.caps and not self._prices.ready(target):
            await self._prices.load()
        priced = self._prices.ready(target)
        if any(s.nano is not None for s in scopes) and self._prices.highest(target, 1, 1) is None:
            raise unpriced(target)
        prompt, times = most_input(request), replies(request)

        def amount(limit: int) -> Amount:
            usd = self._prices.highest(target, prompt, limit * times) if priced else None
            return Amount(nano_up(usd), prompt + limit * times)

        own = own_limit(request, target)
        limit = usual_limit(target) if own is None else own
        return Claim(target.label, scopes, amount, limit, LEAST_OUTPUT if own is None else limit)

    async def refresh(self) -> None:
        """Know what all who work the run have spent, and whether it is halted, where several machines do.

        Raises:
            JournalError: when that cannot be read.
        """
        if self._shared is not None:
            await self._shared.fetch(halt_key(self._driver))
            self._heed()
            self._ledger.learn(await self._shared.spent())

    async def _turn(self, claim: Claim) -> None:
        """Wait until `claim` may be taken. What other machines settle is looked up, now and then."""
        if self._shared is None:
            await self._ledger.turn(claim)
            return None
        while True:
            await self.refresh()
            patience = asyncio.timeout(_LOOK)
            try:
                async with patience:
                    return await self._ledger.turn(claim)
            except TimeoutError:
                if not patience.expired():
                    raise

    async def _written(self, reservation: Reservation) -> bool:
        """Put `reservation` into the journal under a key of its own; without that nothing goes out.

        False where other machines have set so much aside meanwhile that there is no room for it.
        """
        call = reservation.call
        try:
            while True:
                self._requests[call] += 1
                reservation.key = f"{call}.e{self._journal.epoch}.r{self._requests[call]}"
                came = await self._reserve(reservation)
                if isinstance(came, Shortage):
                    reservation.undo()
                    return False
                if came:
                    return True
        except BaseException:
            reservation.withdraw()
            raise

    async def _reserve(self, reservation: Reservation) -> bool | Shortage:
        key, value, amount = reservation.key, reservation.reserved(), reservation.amount
        if self._shared is None:
            return await self._journal.record(key, value, kind="reserve")
        charges = [Charge(s.name, s.nano, s.cap.tokens) for s in reservation.scopes]
        return await self._shared.reserve(key, value, charges, nano=amount.nano, tokens=amount.tokens)

    def _books(self) -> Books:
        return Books(self._journal, self._shared, self._ledger, self._prices, self._settled)

    def _settled(self, reservation: Reservation, charged: Amount) -> None:
        """Something was paid: say what a person should know."""
        for scope in reservation.scopes:
            if not scope.warned and (what := scope.nearly(_NEARLY)):
                scope.warned = True
                spent, cap = _sums(scope, what, scope.spent)
                self._warn(f"{_NEARLY:.0%} of the budget{_of(scope)} is spent: {spent} of {cap}")
        for scope in reservation.scopes:
            what = _above(scope, charged, reservation.amount)
            if what and self._ledger.halt is None:
                billed, most = _words(what, charged), _words(what, reservation.amount)
                error = BudgetExceeded(
                    f"{reservation.label} billed {billed} for a request that was to be {most} at the most",
                    "nothing more is asked, since its bills have no known bound: correct its price or "
                    "max_tokens, or take another model, in a new run; or go on all the same: "
                    f"{self._resume} --budget AMOUNT",
                )
                self._warn(error.message)
                self._journal.note(halt_key(self._driver), Failure.of(error), kind="halt")
                self.close(error)

    def _heed(self) -> None:
        """Stop where this run was halted under its driver, by another machine perhaps."""
        if (halt := halted_by(self._journal, self._driver)) is not None:
            self.close(halt)

    def _worded(self, scope: Scope, what: str, claim: Claim) -> BudgetExceeded:
        """The error of a scope that has no room for `claim`; the run's own ends everything."""
        spent, cap = _sums(scope, what, scope.spent)
        more = "MORE" if what == "usd" else "MOREt"
        if scope is not self._ledger.run:
            more = f"{scope.name.split()[0 if scope.name.startswith('subtask') else 1]}={more}"
        return BudgetExceeded(
            f"the budget{_of(scope)} of {cap} is reached: {spent} spent, and the next request, to "
            f"{claim.label}, could come to {_words(what, claim.least)}",
            f"{self._resume} --budget {more}",
            detail={
                "cap": float((scope.cap.usd if what == "usd" else scope.cap.tokens) or 0),
                "spent": scope.spent.usd if what == "usd" else scope.spent.tokens,
                "needed": claim.least.usd if what == "usd" else claim.least.tokens,
            },
        )

    def _warn(self, text: str) -> None:
        self._emit(Noted(text=text, level="warning"))


def _above(scope: Scope, charged: Amount, reserved: Amount) -> str:
    """Which figure of a bill is above its reservation, of those that `scope` has a cap for."""
    if scope.nano is not None and charged.nano > reserved.nano:
        return "usd"
    return "tokens" if scope.cap.tokens is not None and charged.tokens > reserved.tokens else ""


def _sums(scope: Scope, what: str, spent: Amount) -> tuple[str, str]:
    cap = Amount(scope.nano or 0, scope.cap.tokens or 0)
    return _words(what, spent), _words(what, cap)


def _words(what: str, amount: Amount) -> str:
    if what == "tokens":
        return f"{amount.tokens:,} tokens"
    if amount.usd >= 1 or not amount.nano:
        return f"${amount.usd:,.2f}"
    # Two figures that count: of a tiny cap nothing would be left otherwise.
    whole = len(str(amount.nano))
    return f"${amount.usd:.{min(max(4, 11 - whole), 9)}f}"


def _of(scope: Scope) -> str:
    return f" of the {scope.name}" if scope.name else ""
