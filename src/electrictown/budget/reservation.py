"""One request's reservation, from the leave to go to its bill; and what the journal says of earlier ones."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import suppress

from msgspec import Struct

from electrictown.budget.caps import DEAREST
from electrictown.budget.exchanges import exchange_of
from electrictown.budget.ledger import NANO, Amount, Ledger, Scope
from electrictown.budget.shared import SharedBudget
from electrictown.errors import JournalError, ProviderError
from electrictown.journal.journal import Journal
from electrictown.journal.records import Reserved, Settled
from electrictown.llm.admission import Asking, Lease
from electrictown.llm.billing import unbilled
from electrictown.llm.bounds import own_limit, replies
from electrictown.llm.costs import Spent
from electrictown.llm.messages import ChatRequest, Usage
from electrictown.llm.prices import Prices
from electrictown.llm.routes import Target
from electrictown.work import Failure

__all__ = ["Books", "Reservation", "charged_before", "nano_up", "spent_before"]

_NOTHING = Amount()
_UNKNOWN = Usage()

_NOISE = 0.001


def nano_up(usd: float | None) -> int:
    """US dollars in billionths, rounded up, but not for floats' noise: no bill of as much is above it."""
    return math.ceil(min(usd, DEAREST) * NANO - _NOISE) if usd else 0


def _nano(usd: float) -> int:
    """US dollars in billionths; never a negative figure, nor one that no journal could hold."""
    return round(min(max(usd, 0.0), DEAREST) * NANO)


class Books(Struct, frozen=True):
    """Where a reservation is settled; `settled` hears of it with what was charged.

    `shared` is the journal where many machines write it, None where one does.
    """

    journal: Journal
    shared: SharedBudget | None
    ledger: Ledger
    prices: Prices
    settled: Callable[[Reservation, Amount], None]

    def settle(self, key: str, settled: Settled, charged: Amount) -> None:
        """Write down what the reservation `key` came to.

        Raises:
            JournalError: when something before it could not be committed.
        """
        name, shared = f"{key}.settled", self.shared
        if shared is None:
            self.journal.note(name, settled, kind="settle")
        else:
            shared.settle(name, settled, of=key, nano=charged.nano, tokens=charged.tokens)


class Reservation:
    """The `Lease` of one request under a budget: tells the inner lease how it ended, and settles, once.

    `amount` is what is set aside in `scopes`; `key` the reservation's in the journal, "" until it is there.
    """

    def __init__(
        self,
        books: Books,
        inner: Lease,
        target: Target,
        request: ChatRequest,
        asking: Asking,
        scopes: tuple[Scope, ...],
        amount: Amount,
    ) -> None:
        self.request = request
        self.scopes = scopes
        self.amount = amount
        self.key = ""
        self._books = books
        self._inner = inner
        self._target = target
        self._asking = asking
        self._answered = False
        self._over = False
        self._started = asyncio.get_running_loop().time()

    @property
    def call(self) -> str:
        """The key of the logical call that this request belongs to."""
        asking = self._asking
        return asking.call or ".".join(filter(None, (asking.subtask, asking.role))) or "request"

    @property
    def label(self) -> str:
        """Who is asked, for messages."""
        return self._target.label

    def reserved(self) -> Reserved:
        """The reservation as the journal has it."""
        target, known = self._target, self._books.prices.ready(self._target)
        unknown = not known or self._books.prices.highest(target, 1, 1) is None
        return Reserved(
            call=self.call,
            role=self._asking.role,
            provider=target.provider,
            model=target.model,
            alias=target.alias,
            subtask=self._asking.subtask,
            usd=None if unknown else self.amount.usd,
            tokens=self.amount.tokens,
        )

    # --- the outcomes

    def answered(self) -> None:
        """See `Lease.answered`."""
        self._answered = True
        self._inner.answered()

    def finished(self, usage: Usage | None, usd: float | None, seconds: float) -> None:
        """See `Lease.finished`: settles with the real usage, the worst case where not all of it was told."""
        self._inner.finished(usage, usd, seconds)
        self._settle("done", self._bill(usage, usd), usage, usd)

    def failed(
        self,
        error: ProviderError,
        usage: Usage | None = None,
        usd: float | None = None,
        *,
        pause: float = 0.0,
    ) -> None:
        """See `Lease.failed`: settles with what is known, nothing where no bill can come, else the worst."""
        self._inner.failed(error, usage, usd, pause=pause)
        billed = usage is not None or self._answered or not unbilled(error)
        charged = self._cut_bill(usage, usd) if billed else _NOTHING
        exchange = exchange_of(self._target, self.request, self._asking, error)
        self._settle("failed", charged, usage, usd, error=exchange.error, partial=True, billed=billed)
        self._books.journal.note(f"{self.key}.failed", exchange, kind="failure")

    def abandoned(self, usage: Usage | None = None, usd: float | None = None) -> None:
        """See `Lease.abandoned`: who left does not know what the host went on to write."""
        self._inner.abandoned(usage, usd)
        self._settle("abandoned", self._cut_bill(usage, usd), usage, usd, partial=True)

    def end(self) -> None:
        """The leave is over: whoever has told no outcome has abandoned the request."""
        if not self._over:
            self.abandoned()

    def withdraw(self) -> None:
        """Nothing went out: nobody waited for the reservation any longer, or it could not be written down."""
        with suppress(JournalError):  # the one that is on its way says the same
            self._settle("abandoned", _NOTHING, None, 0.0, billed=False)

    def undo(self) -> None:
        """It was not written down, since there is no room for it: nothing is set aside."""
        self._over = True
        self._books.ledger.release(self.scopes, self.amount)

    # --- the bill

    def _bill(self, usage: Usage | None, usd: float | None) -> Amount:
        if usage is None:
            return self.amount
        known = self._known(usage, usd)
        return _most(known, self.amount) if usage.partial else known

    def _known(self, usage: Usage, usd: float | None) -> Amount:
        """What was told, at the dearer of the vendor's price and ours; nobody tells a price: the worst."""
        if usd is None or math.isnan(usd):
            return Amount(self.amount.nano, max(usage.total, 0))
        charged = self._books.prices.charged(self._target, usage, usd)
        return Amount(_nano(charged), max(usage.total, 0))

    def _cut_bill(self, usage: Usage | None, usd: float | None) -> Amount:
        """The bill of a reply that was cut: the prompt as it was counted, the reply as if it had been full.

        What a stream has told of its output until then is what came, not what is billed.
        """
        if usage is None or not usage.prompt:
            return self.amount
        if usd is None:
            return Amount(self.amount.nano, max(usage.total, self.amount.tokens))
        known = self._known(usage, usd)
        limit = own_limit(self.request, self._target)
        if limit is None:
            return _most(known, self.amount)
        rest = max(limit * replies(self.request) - usage.output, 0)
        most = self._books.prices.highest(self._target, 0, rest)
        full = known + Amount(nano_up(most), rest)
        capped = Amount(min(full.nano, self.amount.nano), min(full.tokens, self.amount.tokens))
        return _most(known, capped)

    def _settle(
        self,
        outcome: str,
        charged: Amount,
        usage: Usage | None,
        usd: float | None,
        *,
        billed: bool = True,
        partial: bool = False,
        error: Failure | None = None,
    ) -> None:
        if self._over:
            return
        self._over = True
        asking, target, tokens = self._asking, self._target, usage or _UNKNOWN
        self._books.ledger.settle(self.scopes, self.amount, charged)
        self._books.settled(self, charged)
        settled = Settled(
            call=self.call,
            role=asking.role,
            provider=target.provider,
            model=target.model,
            outcome=outcome,
            alias=target.alias,
            subtask=asking.subtask,
            seconds=asyncio.get_running_loop().time() - self._started,
            input=tokens.input,
            cache_read=tokens.cache_read,
            cache_write=tokens.cache_write,
            output=tokens.output,
            reasoning=tokens.reasoning,
            usd=usd,
            charged_usd=charged.usd,
            charged_tokens=charged.tokens,
            billed=billed,
            partial=partial or tokens.partial,
            error=error,
        )
        self._books.settle(self.key, settled, charged)


def _most(one: Amount, other: Amount) -> Amount:
    return Amount(max(one.nano, other.nano), max(one.tokens, other.tokens))


def charged_before(journal: Journal) -> Iterator[tuple[str, str, Amount]]:
    """Role, subtask and charge of every request that the run has made so far.

    One that was never settled, since its process died, is taken to have cost its worst case.
    """
    for reserved, settled in _requests(journal):
        if settled is not None:
            yield (
                settled.role,
                settled.subtask,
                Amount(_nano(settled.charged_usd), max(settled.charged_tokens, 0)),
            )
        elif reserved is not None:
            yield (
                reserved.role,
                reserved.subtask,
                Amount(_nano(reserved.usd or 0.0), reserved.tokens),
            )


def spent_before(journal: Journal) -> list[Spent]:
    """The lines of the bill that the run has so far, for the `CostTracker` of whoever takes it up again.

    A request that was never settled is one whose tokens and price nobody knows, unless it was free.
    """
    lines: list[Spent] = []
    for reserved, settled in _requests(journal):
        if settled is not None:
            if settled.billed:
                s = settled
                usage = Usage(s.input, s.cache_read, s.cache_write, s.output, s.reasoning, partial=s.partial)
                lines.append(Spent(s.role, s.provider, s.model, usage, s.usd, s.partial))
        elif reserved is not None:
            usd = 0.0 if reserved.usd == 0 else None
            lines.append(Spent(reserved.role, reserved.provider, reserved.model, _UNKNOWN, usd, partial=True))
    return lines


def _requests(journal: Journal) -> Iterator[tuple[Reserved | None, Settled | None]]:
    settled = {step.key.removesuffix(".settled"): step.read(Settled) for step in journal.steps(("settle",))}
    for step in journal.steps(("reserve",)):
        yield step.read(Reserved), settled.get(step.key)
