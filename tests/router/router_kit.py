"""Small parts for the tests of the router: a loop without waiting, an actor, a stage."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from msgspec.structs import replace

from electrictown.errors import IncompleteReplyError, ProviderError
from electrictown.events import Event
from electrictown.llm.admission import MemoryAdmission
from electrictown.llm.costs import CostTracker
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Chunk,
    End,
    Model,
    TextDelta,
    Usage,
    assistant,
    user,
)
from electrictown.llm.router import RetryPolicy, Router
from electrictown.llm.routes import Route, RouteTable, Target


class _Clock(selectors.SelectSelector):
    now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout > 0:
            self.now += timeout
            timeout = 0
        return super().select(timeout)


class InstantLoop(asyncio.SelectorEventLoop):
    """Whenever it would sleep, its clock has already moved on."""

    def __init__(self) -> None:
        self._clock = _Clock()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


USAGE = Usage(input=100, output=50)


def reply(text: str, usage: Usage | None = USAGE) -> ChatResponse:
    return ChatResponse(message=assistant(text), finish_reason="stop", usage=usage, model="vendor-id")


class _Pieces:
    """A stream as an endpoint gives it: an iterator that knows its usage so far."""

    def __init__(self, chunks: AsyncIterator[Chunk], usage: Usage | None) -> None:
        self._chunks = chunks
        self.usage = usage

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self._chunks

    async def __anext__(self) -> Chunk:
        return await anext(self._chunks)


Act: TypeAlias = str | Exception | float | ChatResponse | list[Any]


class Actor:
    """Plays one act a request, the last one for ever.

    An exception is raised, a string is the reply, a number makes it silent for so many seconds, and a
    list is a stream: pieces of text, pauses, an exception in the middle.
    """

    def __init__(self, *acts: Act, usage: Usage | None = USAGE, so_far: Usage | None = None) -> None:
        self.name = ""
        self.acts = list(acts)
        self.usage = usage
        self.so_far = so_far
        self.requests: list[ChatRequest] = []
        self.times: list[float] = []
        self.in_flight = 0
        self.peak = 0

    @asynccontextmanager
    async def _on_stage(self, request: ChatRequest) -> AsyncGenerator[Act]:
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await asyncio.sleep(0)
            act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
            if isinstance(act, Exception):
                raise act
            yield act
        finally:
            self.in_flight -= 1

    async def chat_completion(self, request: ChatRequest) -> ChatResponse:
        async with self._on_stage(request) as act:
            if isinstance(act, ChatResponse):
                return act
            text = ""
            for piece in act if isinstance(act, list) else [act]:
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, str):
                    text += piece
                else:
                    await asyncio.sleep(piece)
            return reply(text, self.usage)

    @asynccontextmanager
    async def stream_chat_completion(self, request: ChatRequest) -> AsyncGenerator[AsyncIterator[Chunk]]:
        async with self._on_stage(request) as act:
            chunks = self._pieces([act.text] if isinstance(act, ChatResponse) else act)
            try:
                yield _Pieces(chunks, self.so_far)
            finally:
                await chunks.aclose()

    async def _pieces(self, act: Act) -> AsyncGenerator[Chunk]:
        text = ""
        for piece in act if isinstance(act, list) else [act]:
            await asyncio.sleep(piece if isinstance(piece, float) else 0)
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, str):
                if piece == "EOF":
                    return
                text += piece
                yield TextDelta(piece)
        yield End(reply(text, self.usage))

    async def list_models(self) -> list[Model]:
        return []


def target(name: str, **settings: object) -> Target:
    usual = Target(alias=name, provider=name, model=f"{name}-model", local=True)
    return replace(usual, **settings)


class Stage:
    """Actors by name behind a router; the first is the primary, the others are its fallbacks."""

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        admission: MemoryAdmission | None = None,
        settings: dict[str, dict[str, Any]] | None = None,
        **actors: Actor,
    ) -> None:
        for name, actor in actors.items():
            actor.name = name
        self.actors = actors
        self.targets = {name: target(name, **(settings or {}).get(name, {})) for name in actors}
        first, *others = self.targets.values()
        self.route = Route("cast", first, (), tuple(others))
        self.events: list[Event] = []
        self.admission = admission or MemoryAdmission()
        self.router = Router(
            actors,
            RouteTable({"cast": self.route}, self.targets, {}),
            admission=self.admission,
            emit=self.events.append,
            policy=policy or RetryPolicy(),
        )

    async def ask(
        self,
        request: ChatRequest | None = None,
        *,
        role: str = "",
        subtask: str = "",
        tracker: CostTracker | None = None,
    ) -> str:
        response = await self.router.chat_completion(
            request or question(), self.route, role=role, subtask=subtask, tracker=tracker
        )
        return response.text

    async def listen(self, request: ChatRequest | None = None) -> list[Chunk]:
        async with self.router.stream_chat_completion(request or question(), self.route) as reply:
            return [chunk async for chunk in reply]

    def told(self, kind: type[Any]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]

    def idle(self) -> bool:
        """Whether nothing is held anywhere."""
        return (
            all(a.in_flight == 0 for a in self.actors.values())
            and self.admission._own.idle
            and all(not h.probing and not h.sleepers for h in self.admission._targets.values())
        )


def question(model: str = "", **settings: object) -> ChatRequest:
    return replace(ChatRequest(messages=(user("why?"),), model=model), **settings)


def texts(chunks: Iterable[Chunk]) -> Sequence[str]:
    return [c.text if isinstance(c, TextDelta) else type(c).__name__ for c in chunks]


def now() -> float:
    return asyncio.get_running_loop().time()


__all__ = [
    "USAGE",
    "Actor",
    "IncompleteReplyError",
    "InstantLoop",
    "ProviderError",
    "Stage",
    "now",
    "question",
    "reply",
    "target",
    "texts",
]
