"""A provider that plays a script: for tests, demonstrations and rehearsals without a model.

In YAML, `script` is a file (YAML or JSON, relative to the configuration) or the list itself:

    providers:
      stage:
        type: scripted
        models: [actor]                     # what list_models says; optional
        script:
          - when: {system: "/^You are the Mayor/"}
            text: "1. write the parser\\n2. write its tests"
          - error: {type: RateLimitError, status: 429, retry_after: 2}
          - text: "You asked: {prompt}"
            reasoning: "Let me think."
            latency: 0.2                    # seconds before the first token
            pace: 50                        # tokens a second; without it all at once
            repeat: true

A request plays the first step that matches and is not used up; `electrictown.llm.script` explains the
fields of a step.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise

import msgspec
from msgspec import UnsetType

from electrictown.errors import (
    BadRequestError,
    ConnectError,
    FirstTokenTimeout,
    IdleTimeout,
    IncompleteReplyError,
    ProviderError,
)
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    Chunk,
    End,
    Message,
    Model,
    Part,
    Reasoning,
    ReasoningDelta,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    Usage,
)
from electrictown.llm.provider import Node, ProviderSettings
from electrictown.llm.script import ERRORS, Call, Fault, Line, Step, When, pattern, read_script

__all__ = ["Call", "Fault", "Line", "ScriptedProvider", "Step", "When"]

_TOKEN = 4
"""Characters a token, for usage and for the pieces of a stream."""


class ScriptedProvider:
    """Plays the script of `settings.extra["script"]`, the same way every time.

    `requests` are the requests received, in order; `peak` is the most that were in flight at once.

    Raises:
        ConfigError: for a script that cannot be read, naming the file, the step and the field.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self.name = settings.name
        self.requests: list[ChatRequest] = []
        self.in_flight = 0
        self.peak = 0
        self._timeouts = settings.timeouts
        self._models = [str(m) for m in settings.extra.get("models") or ["scripted"]]
        owner = f"provider {settings.name!r}"
        self._steps = read_script(settings.extra.get("script"), settings.folder, owner)
        self._played = [0] * len(self._steps)

    @classmethod
    def of(cls, name: str, steps: Iterable[Line]) -> ScriptedProvider:
        """A provider of this name that plays `steps`.

        Raises:
            ConfigError: as the constructor does.
        """
        return cls(ProviderSettings(name=name, type="scripted", extra={"script": list(steps)}))

    async def chat_completion(self, request: ChatRequest) -> ChatResponse:
        """The whole reply of the next step.

        Raises:
            ProviderError: the step's own, or BadRequestError when the script has run out.
        """
        async with self.stream_chat_completion(request) as reply:
            async for chunk in reply:
                if isinstance(chunk, End):
                    return chunk.response
        raise IncompleteReplyError(
            "the script ended the reply early", provider=self.name, model=request.model
        )

    @asynccontextmanager
    async def stream_chat_completion(self, request: ChatRequest) -> AsyncGenerator[AsyncIterator[Chunk]]:
        """The reply of the next step, in pieces of four characters.

        Raises:
            ProviderError: as `chat_completion` does.
        """
        self.requests.append(request)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            step = self._next(request)
            silence = step.latency if step.after else step.latency + _seconds(step.stall)
            await self._silence(silence, self._timeouts.first_token, FirstTokenTimeout, request)
            if step.error is not None and not step.after:
                error = self._error(step.error, request)
                error.sent = not isinstance(error, ConnectError)  # a host that is not there gets nothing
                raise error
            async with aclosing(self._play(step, request)) as chunks:
                yield chunks
        finally:
            self.in_flight -= 1

    async def list_models(self) -> list[Model]:
        """The models the configuration names, or one called `scripted`."""
        return [Model(id=name, owner="scripted") for name in self._models]

    async def inspect(self) -> Node:
        """A host that is always there."""
        return Node(version="scripted", models=tuple(self._models), loaded=tuple(self._models))

    async def context_window(self, model: str) -> int | None:
        """Nobody knows: a script reads nothing."""
        return None

    def _next(self, request: ChatRequest) -> Step:
        for number, step in enumerate(self._steps):
            spent = step.repeat is not True and self._played[number] >= step.repeat
            if not spent and _matches(step.when, request):
                self._played[number] += 1
                return step
        raise BadRequestError(
            f"the script of {self.name!r} has no step left for request {len(self.requests)}: "
            f"{_prompt(request)[:80]!r}",
            hint="add a step, or `repeat: true` to the last one",
            provider=self.name,
            model=request.model,
        )

    async def _play(self, step: Step, request: ChatRequest) -> AsyncGenerator[Chunk]:
        response = _response(step, request, self.name)
        strikes = step.after > 0 or not step.end
        sent = 0
        for chunk, length in _chunks(response, step.after):
            if strikes and sent >= step.after:
                strikes = False
                if await self._strike(step, request):
                    return
            await asyncio.sleep(1 / step.pace if step.pace else 0)
            yield chunk
            sent += length
        if strikes and await self._strike(step, request):
            return
        yield End(response)

    async def _strike(self, step: Step, request: ChatRequest) -> bool:
        """What the step does in mid-stream; True when the stream is over."""
        if step.after:
            await self._silence(_seconds(step.stall), self._timeouts.idle, IdleTimeout, request)
            if step.error is not None:
                raise self._error(step.error, request)
        return not step.end

    async def _silence(
        self, seconds: float, limit: float | None, kind: type[ProviderError], request: ChatRequest
    ) -> None:
        if limit is not None and seconds > limit:
            await asyncio.sleep(limit)
            raise kind(f"silent for {limit:g} s", provider=self.name, model=request.model)
        if seconds == float("inf"):
            await asyncio.Event().wait()
        await asyncio.sleep(seconds)

    def _error(self, fault: str | Fault, request: ChatRequest) -> ProviderError:
        if isinstance(fault, str):
            fault = Fault(type=fault)
        return ERRORS[fault.type](
            fault.message or f"scripted {fault.type}",
            fault.hint,
            status=fault.status,
            retry_after=fault.retry_after,
            code=fault.code,
            param=fault.param,
            provider=self.name,
            model=request.model,
        )


def _seconds(stall: bool | float) -> float:
    return float("inf") if stall is True else float(stall)


# What a request holds


def _prompt(request: ChatRequest) -> str:
    return next((m.text for m in reversed(request.messages) if m.role == "user"), "")


def _matches(when: str | When, request: ChatRequest) -> bool:
    prompt = _prompt(request)
    system = "\n".join(m.text for m in request.messages if m.role == "system")
    if isinstance(when, str):
        return any(_found(when, where) for where in (prompt, system, request.model))
    return _found(when.user, prompt) and _found(when.system, system) and _found(when.model, request.model)


def _found(wanted: str, where: str) -> bool:
    expression = pattern(wanted)
    return wanted in where if expression is None else re.search(expression, where, re.MULTILINE) is not None


# What a step answers


def _response(step: Step, request: ChatRequest, provider: str) -> ChatResponse:
    parts: list[Part] = []
    if step.reasoning:
        parts.append(Reasoning(step.reasoning))
    if step.text:
        parts.append(Text(step.text.replace("{prompt}", _prompt(request))))
    for number, call in enumerate(step.tool_calls, 1):
        given = call.arguments
        arguments = given if isinstance(given, str) else msgspec.json.encode(given).decode()
        parts.append(ToolCall(call.id or f"call_{number}", call.name, arguments))
    asked = sum(_length(part) for message in request.messages for part in message.parts)
    estimate = Usage(
        input=-(-asked // _TOKEN),
        output=-(-sum(map(_length, parts)) // _TOKEN),
        reasoning=-(-len(step.reasoning) // _TOKEN),
    )
    return ChatResponse(
        message=Message("assistant", tuple(parts), origin=provider),
        finish_reason=step.finish_reason or ("tool_calls" if step.tool_calls else "stop"),
        stopped=step.stopped,
        usage=estimate if isinstance(step.usage, UnsetType) else step.usage,
        model=step.model or request.model,
        provider=provider,
    )


def _length(part: Part) -> int:
    if isinstance(part, Text | Reasoning | ToolResult):
        return len(part.text)
    return len(part.name) + len(part.arguments) if isinstance(part, ToolCall) else 0


def _chunks(response: ChatResponse, cut: int) -> Iterator[tuple[Chunk, int]]:
    """The reply in pieces, each with the number of its characters; one piece ends at character `cut`."""
    calls = 0
    for part in response.message.parts:
        if isinstance(part, Text | Reasoning):
            kind = TextDelta if isinstance(part, Text) else ReasoningDelta
            for piece in _pieces(part.text, cut):
                yield kind(piece), len(piece)
            cut -= len(part.text)
        elif isinstance(part, ToolCall):
            yield ToolCallDelta(calls, id=part.id, name=part.name), 0
            for piece in _pieces(part.arguments, cut):
                yield ToolCallDelta(calls, arguments=piece), len(piece)
            cut -= len(part.arguments)
            calls += 1


def _pieces(text: str, cut: int) -> Iterator[str]:
    bounds = {*range(0, len(text), _TOKEN), len(text)}
    if 0 < cut < len(text):
        bounds.add(cut)
    return (text[a:b] for a, b in pairwise(sorted(bounds)))
