"""The provider type `local`: llama.cpp on this machine, in a child process, through xllamacpp.

    providers:
      here:
        type: local
        slots: 2              # requests answered at once, a model (2)
        threads: 4            # CPU threads (llama.cpp's choice)
        num_ctx: 4096         # tokens a slot; a model's own limit wins

`model:` is "smollm2" (or left out), a path to a .gguf file, or `hf:owner/repo/file.gguf`. Each model file
is loaded at its first request into a child of its own, which serves the OpenAI protocol on loopback with
a random port and key. A native crash ends the child, not the run: the request that met it fails with
ServerError, and the next one starts a new child.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from msgspec.structs import replace

from electrictown.errors import (
    BadReplyError,
    ConfigError,
    ConnectError,
    IncompleteReplyError,
    ServerError,
)
from electrictown.llm.gguf import DEFAULT_MODEL, find_model, label, packaged_model
from electrictown.llm.llama import Llama, Order
from electrictown.llm.messages import ChatRequest, ChatResponse, Chunk, Model
from electrictown.llm.provider import Node, ProviderSettings

__all__ = ["LocalProvider"]

_CONTEXT = 4096
_SLOTS = 2


class LocalProvider:
    """Answers with llama.cpp on this machine; the module's docstring explains its settings.

    `aclose()` ends the child processes.

    Raises:
        ConfigError: for slots, threads or num_ctx that are no positive numbers.
    """

    def __init__(self, settings: ProviderSettings) -> None:
        self.name = settings.name
        self._settings = settings
        self._slots = _positive(settings, "slots", _SLOTS)
        self._threads = _positive(settings, "threads", -1)
        self._context = settings.num_ctx or _CONTEXT
        self._children: dict[Path, Llama] = {}
        self._files: dict[str, Path] = {}
        self._starting = asyncio.Lock()

    async def chat_completion(self, request: ChatRequest) -> ChatResponse:
        """The whole reply.

        Raises:
            ConfigError: where xllamacpp, its libraries or the model's package are missing.
            ModelNotFoundError: for a model file that is not there or cannot be loaded.
            ServerError: when the child process died; the next request starts a new one.
            ProviderError: as any OpenAI-compatible endpoint.
        """
        async with self._asking(request.model) as child:
            return await child.http.chat_completion(replace(request, model=child.label))

    @asynccontextmanager
    async def stream_chat_completion(self, request: ChatRequest) -> AsyncGenerator[AsyncIterator[Chunk]]:
        """The reply in pieces.

        Raises:
            ElectrictownError: as `chat_completion` does.
        """
        async with (
            self._asking(request.model) as child,
            child.http.stream_chat_completion(replace(request, model=child.label)) as reply,
        ):
            yield reply

    async def list_models(self) -> list[Model]:
        """The embedded default, where its package is installed, and the models in use."""
        known = {DEFAULT_MODEL: self._context} if packaged_model() else {}
        known |= {child.label: child.context for child in self._children.values()}
        return [Model(id=name, context_window=window, owner="local") for name, window in known.items()]

    async def inspect(self) -> Node:
        """xllamacpp's version, the models at hand and those in memory.

        Raises:
            ConfigError: where xllamacpp is not installed.
        """
        from importlib.metadata import version

        _require_xllamacpp()
        loaded = tuple(child.label for child in self._children.values() if child.alive)
        models = tuple(model.id for model in await self.list_models())
        return Node(version=f"xllamacpp {version('xllamacpp')}", models=models, loaded=loaded)

    async def context_window(self, model: str) -> int | None:
        """Tokens a slot holds; loads the model to know.

        Raises:
            ElectrictownError: as `chat_completion` does.
        """
        return (await self._child(model)).context

    async def aclose(self) -> None:
        """End the child processes and wait for them."""
        while self._children:
            _, child = self._children.popitem()
            await child.aclose()

    @asynccontextmanager
    async def _asking(self, model: str) -> AsyncGenerator[Llama]:
        child = await self._child(model)
        # Waiting for a slot happens here, where no first-token timeout counts it.
        async with child.slots:
            try:
                yield child
            except (ConnectError, IncompleteReplyError, BadReplyError) as error:
                if not await child.died():
                    raise
                raise ServerError(
                    f"the embedded model's process died ({child.ending})",
                    hint=child.last_words or "the next request starts a new one",
                    provider=self.name,
                    model=model,
                ) from error

    async def _child(self, model: str) -> Llama:
        if found := self._running(model):
            return found
        async with self._starting:
            if found := self._running(model):
                return found
            _require_xllamacpp()
            path = self._files[model] = await find_model(model, self._settings.folder)
            if found := self._running(model):  # another name of the same file
                return found
            if dead := self._children.pop(path, None):
                await dead.aclose()
            order = Order(
                path=str(path),
                label=label(model),
                slots=self._slots,
                threads=self._threads,
                context=self._context,
            )
            child = self._children[path] = await Llama.start(order, self._settings)
            return child

    def _running(self, model: str) -> Llama | None:
        file = self._files.get(model)
        child = self._children.get(file) if file else None
        return child if child is not None and child.alive else None


def _positive(settings: ProviderSettings, key: str, default: int) -> int:
    value = settings.extra.get(key, default)
    if value != default and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise ConfigError(
            f"provider {settings.name!r}: {key} must be a whole number above 0, not {value!r}",
            hint=f"leave {key} out for the default",
        )
    return value


def _require_xllamacpp() -> None:
    if find_spec("xllamacpp") is None:
        raise ConfigError(
            "the type `local` needs xllamacpp, which is not installed",
            hint="pip install 'electrictown[local]'",
        )
