"""A provider for electrictown: the type `rot13` answers with the question in ROT13.

One class and the entry point in pyproject.toml are all there is. The class keeps the contract of
`electrictown.Provider`: three methods, no retries of its own, errors of `electrictown.errors` only.
"""

from __future__ import annotations

import asyncio
import codecs
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from electrictown import ChatRequest, ChatResponse, Message, ProviderSettings
from electrictown.errors import ConfigError, ContextWindowError
from electrictown.llm.messages import Chunk, End, Model, Text, TextDelta, Usage

__all__ = ["Rot13Provider"]


class Rot13Provider:
    """Answers with the question in ROT13. Its own key in the configuration: `longest`, in characters."""

    def __init__(self, settings: ProviderSettings) -> None:
        self.name = settings.name
        self._longest = settings.extra.get("longest", 100_000)
        if not isinstance(self._longest, int):
            raise ConfigError(f"provider {self.name!r}: longest is no number", hint="longest: 100000")

    async def chat_completion(self, request: ChatRequest) -> ChatResponse:
        """The whole reply."""
        async with self.stream_chat_completion(request) as reply:
            async for chunk in reply:
                if isinstance(chunk, End):
                    return chunk.response
        raise AssertionError("a stream ends with End")

    @asynccontextmanager
    async def stream_chat_completion(self, request: ChatRequest) -> AsyncGenerator[AsyncIterator[Chunk]]:
        """The reply word by word; whoever leaves the `async with` early ends it."""
        async with aclosing(self._words(request)) as chunks:
            yield chunks

    async def list_models(self) -> list[Model]:
        """The only model there is."""
        return [Model(id="caesar", owner="rot13")]

    async def _words(self, request: ChatRequest) -> AsyncGenerator[Chunk]:
        question = request.messages[-1].text
        if len(question) > self._longest:
            raise ContextWindowError(f"{len(question)} characters are more than {self._longest}")
        answer = codecs.encode(question, "rot13")
        for word in re.findall(r"\s*\S+|\s+", answer):
            await asyncio.sleep(0)  # a real provider waits for its host here
            yield TextDelta(word)
        yield End(
            ChatResponse(
                message=Message("assistant", (Text(answer),), origin=self.name),
                finish_reason="stop",
                usage=Usage(input=len(question), output=len(answer)),
                model=request.model,
                provider=self.name,
            )
        )
