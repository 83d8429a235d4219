"""What a reply costs, in US dollars: from the configuration, the vendor's own figure, or a price list.

Unknown is None, never 0. The list is genai-prices' bundled data (no network); loading it takes some
hundred milliseconds of CPU, so it is loaded in a thread, once, and only when a target needs it.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from msgspec import Struct

from electrictown.llm.bounds import most_input, own_limit, replies
from electrictown.llm.messages import ChatRequest, Usage
from electrictown.llm.routes import Price, Target

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

__all__ = ["Prices", "Rates", "Tiered"]

_MILLION = 1e6

_VENDORS = {"openai": "openai", "anthropic": "anthropic", "gemini": "google"}
"""Who bills for a provider type, as the price list calls it, where `Target.price_provider` is empty."""

_LOAD_DELAY = 0.05
"""Seconds until a load that is not urgent begins: the request that needs the price goes out first."""

_LONGEST = timedelta(hours=1)
"""How long a request may take at the most: a price that depends on the time of day may change meanwhile."""


class Tiered(Struct, frozen=True):
    """US dollars per million tokens; above `start` prompt tokens a tier's price holds for all of them."""

    base: float
    tiers: tuple[tuple[int, float], ...] = ()

    def at(self, prompt: int) -> float:
        """The price for a prompt of so many tokens."""
        price = self.base
        for start, tier in self.tiers:
            if prompt > start:
                price = tier
        return price

    @property
    def highest(self) -> float:
        """The most a token can cost."""
        return max(self.base, *(price for _, price in self.tiers)) if self.tiers else self.base


class Rates(Struct, frozen=True):
    """The prices of one model by bucket, and the fee of a request in US dollars."""

    input: Tiered
    output: Tiered
    cache_read: Tiered
    cache_write: Tiered
    cache_write_1h: Tiered
    reasoning: Tiered
    request: float = 0.0

    def usd(self, usage: Usage) -> float:
        """What `usage` costs."""
        prompt = usage.prompt
        thought = min(usage.reasoning, usage.output)  # some vendors tell more
        total = usage.input * self.input.at(prompt) + (usage.output - thought) * self.output.at(prompt)
        if thought:
            total += thought * self.reasoning.at(prompt)
        if usage.cache_read:
            total += usage.cache_read * self.cache_read.at(prompt)
        if usage.cache_write:
            hour = min(usage.cache_write_1h, usage.cache_write)
            total += (usage.cache_write - hour) * self.cache_write.at(prompt)
            total += hour * self.cache_write_1h.at(prompt)
        return total / _MILLION + self.request

    def highest(self, input_tokens: int, output_tokens: int) -> float:
        """The most that so many tokens can cost."""
        into = max(
            self.input.highest,
            self.cache_read.highest,
            self.cache_write.highest,
            self.cache_write_1h.highest,
        )
        out = max(self.output.highest, self.reasoning.highest)
        return (input_tokens * into + output_tokens * out) / _MILLION + self.request


class Prices:
    """The price of every target.

    The first question about a listed target loads the list, which takes a while: inside an event loop
    `await load()` before asking for a target that is not `ready`.
    """

    def __init__(self) -> None:
        self._loading: Future[DataSnapshot] | None = None
        self._soon = False
        self._loaded = False
        self._listed: dict[tuple[str, str, str], _Listed | None] = {}

    def ready(self, target: Target) -> bool:
        """Whether the target's price can be told at once."""
        if not self._loaded:  # a future's done() takes a lock: asked until it is true, not for ever
            self._loaded = self._loading is not None and self._loading.done()
        return self._loaded or _is_own(target) or not _vendor(target)

    async def load(self) -> None:
        """Load the price list in a thread, unless it is there."""
        await asyncio.wrap_future(self._load())

    def load_soon(self) -> None:
        """Begin loading in a moment, so that it is there when the first reply is."""
        if not self._soon and self._loading is None:
            self._soon = True
            loop = asyncio.get_running_loop()
            # Counted from the loop's next turn: the first request imports its transport before that.
            loop.call_soon(loop.call_later, _LOAD_DELAY, self._load)

    def usd(self, target: Target, usage: Usage | None) -> float | None:
        """What a reply of `target` cost in US dollars; None where price or usage are unknown."""
        if target.price is None:
            if _is_local(target):
                return 0.0
            if usage is not None and usage.cost_usd is not None:
                return usage.cost_usd
        rates = self.rates(target) if usage is not None else None
        return rates.usd(usage) if rates is not None and usage is not None else None

    def charged(self, target: Target, usage: Usage, usd: float) -> float:
        """What a budget counts for a reply that costs `usd`: our own price where the vendor tells less.

        A vendor's own figure may be a fee, or zero for what is billed elsewhere.
        """
        if usage.cost_usd is None or not self.ready(target) or (rates := self.rates(target)) is None:
            return usd
        return max(usd, rates.usd(usage))

    def is_free(self, target: Target) -> bool:
        """Whether no reply of `target` can cost anything."""
        return self.highest(target, 1, 1) == 0

    def worst_case(self, request: ChatRequest, target: Target) -> float | None:
        """The most that one request can cost, in US dollars; None where it has no known bound.

        The prompt is bounded by its bytes (`bounds.most_input`), the reply by the limit that is sent.
        """
        if _is_local(target) and target.price is None:
            return 0.0
        output = own_limit(request, target)
        if output is None:
            return None
        return self.highest(target, most_input(request), output * replies(request))

    def highest(self, target: Target, input_tokens: int, output_tokens: int) -> float | None:
        """The most that so many tokens of `target` can cost, in US dollars; None for an unknown price."""
        if not _is_own(target):
            listed = self._listing(target)
            return listed.highest(input_tokens, output_tokens) if listed is not None else None
        rates = self.rates(target)
        return rates.highest(input_tokens, output_tokens) if rates is not None else None

    def rates(self, target: Target) -> Rates | None:
        """The prices in force now; None where they are unknown."""
        if target.price is not None:
            return _configured(target.price)
        if _is_local(target):
            return _FREE
        listed = self._listing(target)
        return listed.rates(datetime.now(UTC)) if listed is not None else None

    def _listing(self, target: Target) -> _Listed | None:
        key = (target.provider_type, target.price_provider, target.model)
        try:
            return self._listed[key]
        except KeyError:
            listed = self._listed[key] = self._look_up(target)
            return listed

    def _look_up(self, target: Target) -> _Listed | None:
        """The list's entry: of whoever is at the base URL, else of the vendor whose protocol is spoken.

        A gateway at an address of its own passes on its vendor's models under their vendor's names.
        """
        for vendor in (target.price_provider, _VENDORS.get(target.provider_type, "")):
            if vendor and (found := _find(self._load().result(), vendor, target.model)) is not None:
                return found
        return None

    def _load(self) -> Future[DataSnapshot]:
        if self._loading is None:
            self._loading = Future()
            self._loading.set_running_or_notify_cancel()  # nobody who waits may cancel it
            # A daemon: a program that ends need not wait for prices.
            threading.Thread(target=_load_list, args=(self._loading,), name="prices", daemon=True).start()
        return self._loading


def _load_list(done: Future[DataSnapshot]) -> None:
    try:
        from genai_prices import data_snapshot

        done.set_result(data_snapshot.get_snapshot())
    except BaseException as error:
        done.set_exception(error)


def _is_local(target: Target) -> bool:
    return target.local or target.provider_type == "local"


def _is_own(target: Target) -> bool:
    return target.price is not None or _is_local(target)


def _vendor(target: Target) -> str:
    return target.price_provider or _VENDORS.get(target.provider_type, "")


def _find(prices: DataSnapshot, vendor: str, model: str) -> _Listed | None:
    """The list's entry of a model; `vendor` is the list's own id or the base URL of an API."""
    url = vendor if "://" in vendor else None
    try:
        _, found = prices.find_provider_model(model, None, None if url else vendor, url)
    except LookupError:
        return None
    return _Listed(found)


class _Listed:
    """A model of the price list. Its prices may depend on the date and the time of day."""

    __slots__ = ("_fixed", "_model", "_read")

    def __init__(self, model: ModelInfo) -> None:
        self._model = model
        self._read: dict[int, Rates | None] = {}
        self._fixed = None if isinstance(model.prices, list) else _read(model.prices)

    def highest(self, input_tokens: int, output_tokens: int) -> float | None:
        """The most that a request which goes out now can cost; None where that is not known."""
        now = datetime.now(UTC)
        rates = (self.rates(now), self.rates(now + _LONGEST))
        costs = [r.highest(input_tokens, output_tokens) for r in rates if r is not None]
        return max(costs) if len(costs) == len(rates) else None

    def rates(self, at: datetime) -> Rates | None:
        if self._fixed is not None or not isinstance(self._model.prices, list):
            return self._fixed
        prices = self._model.get_prices(at)
        key = id(prices)  # the list keeps it alive
        if key not in self._read:
            self._read[key] = _read(prices)
        return self._read[key]


def _read(prices: ModelPrice) -> Rates | None:
    """The list's prices in our buckets; None for a model that is not billed by tokens in and out.

    A bucket without a price of its own costs what its parent costs.
    """
    into, out = _tiered(prices.input_mtok), _tiered(prices.output_mtok)
    if into is None or out is None:
        return None
    write = _tiered(prices.cache_write_mtok) or into
    fee = _tiered(prices.requests_kcount)
    return Rates(
        input=into,
        output=out,
        cache_read=_tiered(prices.cache_read_mtok) or into,
        cache_write=write,
        cache_write_1h=_tiered(prices.cache_write_1h_mtok) or write,
        reasoning=_tiered(prices.output_reasoning_mtok) or out,
        request=fee.base / 1000 if fee is not None else 0.0,
    )


def _tiered(price: Decimal | TieredPrices | None) -> Tiered | None:
    if price is None:
        return None
    if isinstance(price, Decimal):
        return Tiered(float(price))
    return Tiered(float(price.base), tuple((t.start, float(t.price)) for t in price.tiers))


@cache
def _configured(price: Price) -> Rates:
    into, out = Tiered(price.input), Tiered(price.output)
    read = Tiered(price.cache_read) if price.cache_read is not None else into
    write = Tiered(price.cache_write) if price.cache_write is not None else into
    return Rates(into, out, read, write, write, out)


_FREE = _configured(Price(0.0, 0.0))
