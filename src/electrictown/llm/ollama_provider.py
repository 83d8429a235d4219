"""What Ollama has beyond the common contract: a host that tells of itself, and a window it cuts to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from electrictown.errors import ContextWindowError, ProviderError
from electrictown.llm.http_provider import HttpProvider
from electrictown.llm.messages import ChatRequest, ChatResponse
from electrictown.llm.provider import Node, ProviderSettings
from electrictown.llm.wire import ollama
from electrictown.llm.wire.base import HttpCall

if TYPE_CHECKING:
    from electrictown.llm.answer import Answer

__all__ = ["OllamaProvider"]

# Newer servers answer with an error instead of cutting silently; older ones do not look.
# Source: `truncate` and `shift` of https://docs.ollama.com/api/chat
_WHOLE_PROMPTS = {"truncate": False, "shift": False}


class OllamaProvider(HttpProvider):
    """An Ollama host; `settings.num_ctx` is the window asked of it, the same in every request."""

    def __init__(
        self, settings: ProviderSettings, base_url: str, credentials: Callable[[], Mapping[str, str]]
    ) -> None:
        wire = ollama.OllamaWire(origin=settings.name, num_ctx=settings.num_ctx)
        super().__init__(settings, wire, base_url, credentials)
        self._cloud = "//ollama.com" in base_url

    async def ask(self, request: ChatRequest, *, stream: bool) -> tuple[Answer, tuple[str, ...]]:
        """The answer to `request`, which is never to be cut without a word; see `HttpProvider.ask`."""
        whole = replace(request, options={**_WHOLE_PROMPTS, **request.options})
        return await super().ask(whole, stream=stream)

    def accepted(self, request: ChatRequest, response: ChatResponse, notes: tuple[str, ...]) -> ChatResponse:
        """`response`, unless the host cut the prompt to its window and answered what was left.

        Raises:
            ContextWindowError: when it did.
        """
        if ollama.truncated(request, self.settings.num_ctx, response.usage):
            raise ContextWindowError(
                f"the prompt does not fit the {self.settings.num_ctx} tokens of {request.model}; "
                "Ollama has cut it and answered the rest",
                "raise num_ctx of the provider, or give the role a fallback with a larger window",
                model=request.model,
            )
        return super().accepted(request, response, notes)

    async def inspect(self) -> Node:
        """Version, models and loaded models of the host; see `Inspectable`."""
        models = tuple(model.id for model in await self.list_models())
        version = await self._if_told(ollama.VERSION)
        loaded = await self._if_told(ollama.LOADED)
        return Node(
            version=ollama.decode_version(version) if version else "",
            models=models,
            loaded=tuple(ollama.decode_loaded(loaded)) if loaded else (),
        )

    async def context_window(self, model: str) -> int | None:
        """The window `model` really gets, in tokens.

        That is `num_ctx` where the configuration sets one, else the one it is loaded with, else its
        Modelfile's; models in the cloud have all of theirs. A host that would choose by its memory does
        not say.
        """
        shown = ollama.decode_shown(await self.fetch(ollama.show(model)))
        most = shown.context_window
        if self._cloud or model.endswith(("-cloud", ":cloud")):
            return most
        if self.settings.num_ctx:
            return min(self.settings.num_ctx, most or self.settings.num_ctx)
        loaded = await self._if_told(ollama.LOADED)
        window = ollama.decode_loaded(loaded).get(model) if loaded else None
        return window or shown.num_ctx

    async def _if_told(self, call: HttpCall) -> bytes:
        """The answer to `call`, nothing from a host that has no such call (the cloud, some proxies)."""
        try:
            return await self.fetch(call)
        except ProviderError as error:
            if not error.status:
                raise
        return b""
