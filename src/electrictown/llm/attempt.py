"""One request to one target: measured, billed, and told of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol

from msgspec.structs import replace

from electrictown.errors import ElectrictownError, IncompleteReplyError, ProviderError
from electrictown.events import CallEnded, CallStarted, Emit
from electrictown.llm.admission import Admission, Asking, Lease
from electrictown.llm.billing import told_usage, unbilled
from electrictown.llm.chain import Chain, RetryPolicy, Step
from electrictown.llm.costs import CostTracker
from electrictown.llm.messages import ChatRequest, ChatResponse, Usage
from electrictown.llm.prices import Prices
from electrictown.llm.provider import Provider
from electrictown.llm.routes import Target
from electrictown.redact import mask
from electrictown.work import Failure

__all__ = ["Attempt", "Stack", "addressed", "failure_of"]

_NO_USAGE = Usage()


class Stack(Protocol):
    """What a call stands on: the router's parts."""

    @property
    def providers(self) -> Mapping[str, Provider]:
        """The endpoints by name."""
        ...

    @property
    def admission(self) -> Admission:
        """Who may ask which target when."""
        ...

    @property
    def tracker(self) -> CostTracker:
        """The ledger."""
        ...

    @property
    def emit(self) -> Emit:
        """Who hears of it."""
        ...

    @property
    def policy(self) -> RetryPolicy:
        """How long a call goes on."""
        ...

    @property
    def prices(self) -> Prices:
        """What a reply costs."""
        ...


def addressed(request: ChatRequest, target: Target) -> ChatRequest:
    """`request` as `target` gets it: its model id, and its settings where the request leaves them open."""
    return replace(
        request,
        model=target.model,
        max_tokens=target.max_tokens if request.max_tokens is None else request.max_tokens,
        temperature=target.temperature if request.temperature is None else request.temperature,
        effort=request.effort or target.effort,
        options={**target.options, **request.options} if target.options else request.options,
    )


def failure_of(error: ElectrictownError) -> Failure:
    """The data of an error, with no secret in it."""
    return Failure(type(error).__name__, mask(error.message), mask(error.hint), error.exit_code)


class Attempt:
    """One request under a lease: `async with attempt.under(lease)`, and set `response` inside.

    `leave` is how to get the lease: `async with attempt.leave as lease`, None where it is refused.

    A provider's failure ends the block quietly, noted in the chain: then `response` is None. However
    the block ends, the lease hears of it, the usage is billed and `CallEnded` is told.
    """

    __slots__ = (
        "_asking",
        "_chain",
        "_clock",
        "_emit",
        "_lease",
        "_stack",
        "_started",
        "first_token",
        "leave",
        "pending",
        "provider",
        "reason",
        "reply",
        "request",
        "response",
        "target",
    )

    def __init__(
        self,
        stack: Stack,
        asking: Asking,
        emit: Emit | None,
        chain: Chain,
        step: Step,
        request: ChatRequest,
        clock: Callable[[], float],
    ) -> None:
        self._stack = stack
        self._clock = clock
        self._asking = asking
        self._emit = emit
        self._chain = chain
        self._lease: Lease | None = None
        self._started = 0.0
        self.target = step.target
        self.provider = stack.providers[step.target.provider]
        self.request = addressed(request, step.target)
        self.leave = stack.admission.admit(step.target, self.request, asking, insist=step.insist)
        self.reply: object = None
        self.response: ChatResponse | None = None
        self.first_token: float | None = None
        self.reason = ""
        self.pending = "had no free slot on its host"

    def under(self, lease: Lease) -> Attempt:
        """The same attempt, now with the leave to go."""
        self._lease = lease
        self.request = lease.request
        self.pending = "had not ended its reply"
        return self

    async def __aenter__(self) -> None:
        target, prices = self.target, self._stack.prices
        self._started = self._clock()
        if not prices.ready(target):
            prices.load_soon()
        if self._emit is not None:
            self._emit(
                CallStarted(
                    role=self._asking.role,
                    model=target.model,
                    provider=target.provider,
                    alias=target.alias,
                    subtask=self._asking.subtask,
                )
            )

    def answered(self) -> None:
        """The first chunk is here."""
        self.first_token = self._clock() - self._started
        if self._lease is not None:
            self._lease.answered()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        now = self._clock()
        if error is None and self.response is None:
            error = IncompleteReplyError("the stream ended without its end")
        if error is None and self.response is not None:
            usage, billed = told_usage(self.response), True
        else:
            usage = self._partial_usage()
            billed = usage is not None or self.first_token is not None or not unbilled(error)
        usd = None
        try:
            usd = await self._usd(usage) if billed else 0.0
        finally:
            self._settle(error, usage, usd, now, billed=billed)
        return error is None or isinstance(error, ProviderError)

    async def _usd(self, usage: Usage | None) -> float | None:
        """What is known of the price; None where nothing is: a part that costs nothing tells nothing."""
        target, prices = self.target, self._stack.prices
        if usage is not None and not prices.ready(target):
            await prices.load()
        usd = prices.usd(target, usage)
        if not usd and usage is not None and usage.partial and not prices.is_free(target):
            return None
        return usd

    def _settle(
        self, error: BaseException | None, usage: Usage | None, usd: float | None, now: float, *, billed: bool
    ) -> None:
        """Tell everyone concerned how it ended."""
        lease, self._lease = self._lease, None
        seconds = now - self._started
        failure: Failure | None = None
        if lease is None:
            return
        if error is None:
            lease.finished(usage, usd, seconds)
        elif isinstance(error, ProviderError):
            self.response, self.pending = None, ""
            failure = failure_of(error)
            self.reason = f"{self.target.label}: {failure.type}: {failure.message}"
            lease.failed(error, usage, usd, pause=self._chain.failed(self.target, error, now))
        else:
            # The caller left, was cancelled, or something broke that is no failure of the host.
            failure = _broken(error)
            lease.abandoned(usage, usd)
        if billed:
            self._bill(usage, usd, partial=error is not None)
        if self._emit is not None:
            self._tell(self._emit, usage or _NO_USAGE, usd, seconds, failure)

    def _bill(self, usage: Usage | None, usd: float | None, *, partial: bool) -> None:
        role, target = self._asking.role, self.target
        ledger, own = self._stack.tracker, self._asking.tracker
        ledger.record(role, target.provider, target.model, usage, usd, partial=partial)
        if own is not None and own is not ledger:
            own.record(role, target.provider, target.model, usage, usd, partial=partial)

    def _tell(
        self, emit: Emit, usage: Usage, usd: float | None, seconds: float, failure: Failure | None
    ) -> None:
        target, response = self.target, self.response
        emit(
            CallEnded(
                role=self._asking.role,
                model=target.model,
                provider=target.provider,
                alias=target.alias,
                subtask=self._asking.subtask,
                seconds=seconds,
                first_token=self.first_token,
                input_tokens=usage.input,
                output_tokens=usage.output,
                cache_read=usage.cache_read,
                cache_write=usage.cache_write,
                usd=usd,
                partial=response is None,
                finish_reason=response.finish_reason if response is not None else "",
                error=failure,
            )
        )

    def _partial_usage(self) -> Usage | None:
        """What a reply that was cut is known to have used; a provider's stream may tell."""
        usage = self.response.usage if self.response is not None else getattr(self.reply, "usage", None)
        return replace(usage, partial=True) if isinstance(usage, Usage) else None


def _broken(error: BaseException | None) -> Failure | None:
    """The data of what broke an attempt; None where the reader just left."""
    if isinstance(error, ElectrictownError):
        return failure_of(error)
    if isinstance(error, Exception):
        return Failure(type(error).__name__, mask(str(error)))
    if isinstance(error, asyncio.CancelledError):
        return Failure("CancelledError", "the call was cancelled", exit_code=130)
    return None
