"""One logical call: the loop that asks, over retries and fallbacks, until there is a reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

from msgspec.structs import replace

from electrictown.errors import ConfigError, DeadlineError
from electrictown.events import HopTaken, Waiting, ignore
from electrictown.llm.admission import Asking
from electrictown.llm.attempt import Attempt, Stack, failure_of
from electrictown.llm.chain import Chain, Step
from electrictown.llm.messages import ChatRequest, Chunk, End, Reset
from electrictown.llm.provider import Batched
from electrictown.llm.routes import Target
from electrictown.llm.watch import Late, Watch
from electrictown.redact import mask
from electrictown.work import Failure

__all__ = ["Call"]


class Call:
    """One logical call over a chain of targets. `ask` is iterated once.

    Raises:
        ConfigError: when a target's provider does not exist.
    """

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

    async def ask(self, *, whole: bool) -> AsyncGenerator[Chunk, None]:
        """The chunks of the reply, `End` last; nothing but `End` when `whole`.

        A whole reply and a stream are two ways of carrying out one attempt; all else is the same.

        Raises:
            ProviderError: when nobody could answer.
            DeadlineError: when the time is over.
        """
        loop = asyncio.get_running_loop()
        with Watch(loop, self._stack.policy.deadline, self._late) as watch:
            while True:
                watch.work()
                step = await self._next(watch.at, loop)
                attempt = self._attempt = Attempt(
                    self._stack, self._asking, self._emit, self._chain, step.target, self._request, loop.time
                )
                provider = self._stack.providers[step.target.provider]
                async with self._stack.admission.admit(
                    step.target, attempt.request, self._asking, insist=step.insist
                ) as lease:
                    if lease is None:
                        continue
                    async with attempt.under(lease):
                        if whole:
                            attempt.response = await provider.chat_completion(attempt.request)
                        else:
                            async with provider.stream_chat_completion(attempt.request) as reply:
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

    async def _next(self, deadline: float, loop: asyncio.AbstractEventLoop) -> Step:
        """Wait until somebody may be asked, and say who.

        Raises:
            ProviderError: when nobody is left to ask.
        """
        while True:
            now = loop.time()
            step = self._chain.next(now, deadline - now)
            if step is None:
                self._tell_hop(None)
                raise self._chain.verdict()
            if not step.wait:
                self._tell_hop(step.target)
                return step
            self._tell_wait(step)
            await self._stack.admission.pause(self._targets, step.wait)

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
