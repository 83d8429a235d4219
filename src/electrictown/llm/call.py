"""One logical call: the loop that asks, over retries and fallbacks, until there is a reply."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

from msgspec.structs import replace

from electrictown.errors import (
    ConfigError,
    DeadlineError,
    IncompleteReplyError,
    OverloadedError,
    RateLimitError,
)
from electrictown.events import HopTaken, Waiting, ignore
from electrictown.llm.admission import Asking
from electrictown.llm.attempt import Attempt, Stack, failure_of
from electrictown.llm.chain import Chain, Step
from electrictown.llm.messages import ChatRequest, ChatResponse, Chunk, End, Reset
from electrictown.llm.provider import Batched
from electrictown.llm.routes import Target
from electrictown.llm.watch import Late, Watch
from electrictown.redact import mask
from electrictown.work import Failure

__all__ = ["Call"]


class Call:
    """One logical call over a chain of targets: `whole` or `stream` carries it out, once.

    Both go through one loop, which is the iteration over this object: it gives the attempts, each of
    them when its turn has come, until one has brought a reply.

    Raises:
        ConfigError: when a target's provider does not exist.
    """

    _loop: asyncio.AbstractEventLoop
    _watch: Watch

    def __init__(
        self, stack: Stack, request: ChatRequest, targets: tuple[Target, ...], asking: Asking
    ) -> None:
        self._stack = stack
        self._request = request
        self._targets = targets
        self._asking = asking
        self._emit = None if stack.emit is ignore else stack.emit
        self._chain = Chain(targets, stack.policy, stack.admission.delay, stack.admission.trouble)
        self._attempt: Attempt | None = None
        for target in targets:
            if target.provider not in stack.providers:
                raise ConfigError(
                    f"{target.label!r} is on the provider {target.provider!r}, which does not exist",
                    hint=f"providers: {', '.join(stack.providers) or 'none'}",
                )

    def _begin(self) -> Watch:
        loop = self._loop = asyncio.get_running_loop()
        seconds = self._stack.policy.deadline
        self._watch = Watch(loop, math.inf if seconds is None else loop.time() + seconds, self._late)
        return self._watch

    async def whole(self) -> ChatResponse:
        """The whole reply. (A coroutine of its own: an async generator would cost more than the loop.)

        Raises:
            ProviderError: when nobody could answer.
            DeadlineError: when the time is over.
        """
        with self._begin():
            async for attempt in self:
                async with attempt.leave as lease:
                    if lease is None:
                        continue
                    async with attempt.under(lease):
                        attempt.response = await attempt.provider.chat_completion(attempt.request)
                if attempt.response is not None:
                    return attempt.response
        raise IncompleteReplyError("the call ended without a reply")

    async def stream(self) -> AsyncGenerator[Chunk, None]:
        """The chunks of the reply, `End` last.

        Raises:
            ProviderError, DeadlineError: as `whole`.
        """
        with self._begin() as watch:
            async for attempt in self:
                async with attempt.leave as lease:
                    if lease is None:
                        continue
                    async with (
                        attempt.under(lease),
                        attempt.provider.stream_chat_completion(attempt.request) as reply,
                    ):
                        attempt.reply = reply
                        next_batch = _batches(reply)
                        while attempt.response is None and (batch := await next_batch()):
                            watch.rest()  # once a batch: this runs for every chunk
                            for chunk in batch:
                                if type(chunk) is End:
                                    attempt.response = chunk.response
                                    break
                                if attempt.first_token is None:
                                    attempt.answered()
                                yield chunk
                                if watch.over:
                                    raise Late
                            watch.work()
                watch.rest()
                if attempt.response is not None:
                    yield End(attempt.response)
                    return
                if attempt.first_token is not None:
                    yield Reset(attempt.reason)

    def __aiter__(self) -> Call:
        return self

    async def __anext__(self) -> Attempt:
        """Wait until somebody may be asked, and say who.

        Raises:
            ProviderError: when nobody is left to ask.
        """
        while True:
            self._watch.work()
            now = self._loop.time()
            step = self._chain.next(now, self._watch.at - now)
            if step is None:
                self._tell_hop(None)
                raise self._chain.verdict()
            if not step.wait:
                break
            self._tell_wait(step)
            await self._stack.admission.pause(self._targets, step.wait)
        self._tell_hop(step.target)
        self._attempt = Attempt(
            self._stack, self._asking, self._emit, self._chain, step, self._request, self._loop.time
        )
        return self._attempt

    def _late(self) -> DeadlineError:
        attempt = self._attempt
        pending = f"{attempt.target.label} {attempt.pending}" if attempt and attempt.pending else ""
        return self._chain.late(pending)

    def _tell_hop(self, target: Target | None) -> None:
        """Say that `target` takes over, unless it is who was asked before; None: nobody does."""
        if self._emit is None:
            return
        gone: list[tuple[Target, Failure]] = []
        if self._chain.failures:
            last, error = self._chain.failures[-1]
            gone = [(last, failure_of(error))]
        elif target is not None and target is not self._targets[0]:
            passed = self._targets[: self._targets.index(target)]
            gone = [(t, self._unavailable(t)) for t in passed]
        for before, failure in gone:
            if before is not target:
                self._emit(
                    HopTaken(
                        failed=before.label,
                        error=failure,
                        took_over="" if target is None else target.label,
                        role=self._asking.role,
                        subtask=self._asking.subtask,
                    )
                )

    def _tell_wait(self, step: Step) -> None:
        """Say that the call waits for `step.target`, and why."""
        if self._emit is None:
            return
        own = next((e for t, e in reversed(self._chain.failures) if t is step.target), None)
        why = self._unavailable(step.target) if own is None else failure_of(own)
        self._emit(
            Waiting(
                model=step.target.label,
                seconds=step.wait,
                reason=f"{why.type}: {why.message}",
                limited=why.type in (RateLimitError.__name__, OverloadedError.__name__),
                role=self._asking.role,
                subtask=self._asking.subtask,
            )
        )

    def _unavailable(self, target: Target) -> Failure:
        """Why nobody may ask `target` now."""
        trouble = self._stack.admission.trouble(target) or Failure("ProviderError", "it was not available")
        wait = self._stack.admission.delay(target)
        return replace(trouble, message=f"left alone for {wait:.0f} s more: {mask(trouble.message)}")


def _batches(reply: AsyncIterator[Chunk]) -> Callable[[], Awaitable[Sequence[Chunk]]]:
    """What gives the next chunks of `reply`: all that one read brought, where it can, else one."""
    if isinstance(reply, Batched):
        return reply.next_batch
    chunks = aiter(reply)

    async def next_chunk() -> list[Chunk]:
        async for chunk in chunks:
            return [chunk]
        return []

    return next_chunk
