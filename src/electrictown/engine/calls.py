"""Logical model calls as steps of the journal: asked and paid for once, then remembered.

One step is one logical call, however many hosts it took. Of failures only those are recorded that would
come again however often one asked; all others get another chance when the run is taken up again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from hashlib import sha256

import msgspec

from electrictown import errors
from electrictown.errors import (
    BadReplyError,
    BadRequestError,
    ElectrictownError,
    IncompleteReplyError,
    RefusedError,
)
from electrictown.journal.journal import Journal
from electrictown.journal.records import Answer
from electrictown.llm.attempt import failure_of
from electrictown.llm.costs import CostTracker
from electrictown.llm.messages import ChatRequest, ChatResponse, Chunk, End, TextDelta
from electrictown.llm.routes import Route
from electrictown.redact import mask
from electrictown.roles.role import Asker, Reply, text_of
from electrictown.work import Done, Failure, Result

__all__ = ["PERMANENT", "JournalledCalls", "error_of", "key_of_all"]

PERMANENT = (BadRequestError, RefusedError)
"""Failures that would come again however often one asked."""


class JournalledCalls:
    """An `Asker` that remembers: a call that the journal knows is not made again.

    A call without a key is passed on. A remembered reply comes as one piece. A reply in which nothing is
    said is not kept: the call failed.
    """

    def __init__(self, router: Asker, journal: Journal) -> None:
        self._router = router
        self._journal = journal

    async def chat_completion_for_role(
        self,
        role: str,
        request: ChatRequest,
        *,
        route: Route | None = None,
        subtask: str = "",
        call: str = "",
        tracker: CostTracker | None = None,
    ) -> ChatResponse:
        """The whole reply of whoever fills `role`, or the one that was recorded.

        Raises:
            ProviderError: as the router raises it, or as it was recorded.
            HaltError: when nothing more may be begun, or the reply cannot be recorded.
        """
        known = self._recall(call)
        if known is not None:
            return known
        try:
            response = await self._router.chat_completion_for_role(
                role, request, route=route, subtask=subtask, call=call, tracker=tracker
            )
        except PERMANENT as error:
            await self._keep(call, Answer(failure=failure_of(error)))
            raise
        await self._keep_reply(call, response)
        return response

    def stream_chat_completion_for_role(
        self,
        role: str,
        request: ChatRequest,
        *,
        route: Route | None = None,
        subtask: str = "",
        call: str = "",
        tracker: CostTracker | None = None,
    ) -> Reply:
        """The reply of whoever fills `role` in pieces; its `End` comes when it is recorded.

        Raises:
            ProviderError, HaltError: as `chat_completion_for_role`, while iterating.
        """
        reply = self._router.stream_chat_completion_for_role(
            role, request, route=route, subtask=subtask, call=call, tracker=tracker
        )
        return aclosing(self._stream(reply, call))

    async def _stream(self, reply: Reply, call: str) -> AsyncGenerator[Chunk, None]:
        known = self._recall(call)
        if known is not None:
            yield TextDelta(known.text)
            yield End(known)
            return
        try:
            async with reply as chunks:
                async for chunk in chunks:
                    if isinstance(chunk, End):
                        await self._keep_reply(call, chunk.response)
                        yield chunk
                        return
                    yield chunk
        except PERMANENT as error:
            await self._keep(call, Answer(failure=failure_of(error)))
            raise
        raise IncompleteReplyError("the reply ended without its end")

    def _recall(self, call: str) -> ChatResponse | None:
        answer = self._journal.recorded(call, Answer) if call else None
        if answer is None:
            return None
        if answer.failure is not None:
            raise error_of(answer.failure)
        return msgspec.convert(answer.response, ChatResponse)

    async def _keep_reply(self, call: str, response: ChatResponse) -> None:
        try:
            text_of(response)
        except BadReplyError:
            return
        except RefusedError:
            pass  # whoever asked hears of it from the reply, now and ever again
        await self._keep(call, Answer(response))

    async def _keep(self, call: str, answer: Answer) -> None:
        if call:
            await self._journal.record(call, answer, kind="call")


def key_of_all(call: str, results: Iterable[Result], journal: Journal) -> str:
    """The key of a `call` that is made of all `results`.

    While some of them may still change when the run is taken up again (they failed, or were not
    reviewed), it is one for just these: the reply to them is none to what they may become.
    """
    open_ = [r for r in results if journal.recorded(f"{r.subtask}.result", Done) is None]
    if not open_:
        return call
    told = msgspec.json.encode([(r.subtask, mask(r.text) if isinstance(r, Done) else None) for r in open_])
    return f"{call}.{sha256(told).hexdigest()[:12]}"


def error_of(failure: Failure) -> ElectrictownError:
    """The error that `failure` is the data of."""
    kind = getattr(errors, failure.type, None)
    if not (isinstance(kind, type) and issubclass(kind, ElectrictownError)):
        kind = ElectrictownError
    return kind(failure.message, failure.hint)
