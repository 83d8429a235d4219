"""The contract of a provider, and how one is found by its type.

A third party adds a provider with one class and one entry point in the group
`electrictown.providers`; docs/providers.md holds a worked example.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct, field

from electrictown.errors import ConfigError
from electrictown.llm.messages import ChatRequest, ChatResponse, Chunk, Json, Model
from electrictown.redact import Secret

__all__ = [
    "Batched",
    "Inspectable",
    "Node",
    "Provider",
    "ProviderSettings",
    "Timeouts",
    "make_provider",
    "provider_types",
]


class Timeouts(Struct, frozen=True):
    """The four limits of one request, in seconds; None is no limit.

    `connect`: until the connection stands. `first_token`: from the request to the first byte of the
    reply. `idle`: between two pieces of a stream. `total`: the whole request.
    """

    connect: float | None = 10.0
    first_token: float | None = 120.0
    idle: float | None = 60.0
    total: float | None = 1800.0


class ProviderSettings(Struct, frozen=True, kw_only=True):
    """What a provider is made from: one entry of `providers:`.

    `api_key_source` names where the key came from ("$OPENAI_API_KEY"), for hints; never its value.
    `num_ctx` is the context window in tokens that a host is asked to load its models with.
    `extra` holds the entry's keys that only this type understands, such as `script` of `scripted`.
    `folder` is the folder of the configuration file: relative paths in `extra` start there.
    """

    name: str
    type: str
    base_url: str = ""
    api_key: Secret = field(default_factory=lambda: Secret(""))
    api_key_source: str = ""
    auth_type: str = ""
    org: str = ""
    api: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    timeouts: Timeouts = field(default_factory=Timeouts)
    allow_incomplete: bool = False
    num_ctx: int | None = None
    extra: dict[str, Json] = field(default_factory=dict[str, Json])
    folder: str = "."


@runtime_checkable
class Provider(Protocol):
    """An endpoint that answers. `name` is its entry in the configuration.

    A provider may also have `async aclose()`; whoever made it calls that once, at the end. It makes
    no retries of its own: the router has the one retry loop of the program.
    """

    name: str

    async def chat_completion(self, request: ChatRequest) -> ChatResponse:
        """The whole reply to `request`.

        Raises:
            ProviderError: in the subclass that says what the router may do about it.
        """
        ...

    def stream_chat_completion(
        self, request: ChatRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """The reply in pieces: `async with p.stream_chat_completion(r) as reply: async for chunk in reply`.

        The last chunk is always `End`, with the whole reply; a stream that cannot get there raises.
        Leaving the `async with`, however it happens, frees the connection.

        Raises:
            ProviderError: on entering or while iterating.
        """
        ...

    async def list_models(self) -> list[Model]:
        """All models on offer, every page.

        Raises:
            ProviderError: when the endpoint cannot say.
        """
        ...


@runtime_checkable
class Batched(Protocol):
    """A reply that can be taken in batches too: a step for every read instead of one for every chunk."""

    async def next_batch(self) -> Sequence[Chunk]:
        """The next chunks, at least one; nothing at the end.

        Raises:
            ProviderError: as iterating does.
        """
        ...


class Node(Struct, frozen=True):
    """What a host says of itself: version, models it holds, models loaded now."""

    version: str = ""
    models: tuple[str, ...] = ()
    loaded: tuple[str, ...] = ()


@runtime_checkable
class Inspectable(Protocol):
    """A provider that can tell more about its host than the contract asks."""

    async def inspect(self) -> Node:
        """Version, models and loaded models of the host.

        Raises:
            ProviderError: when the host cannot be reached.
        """
        ...

    async def context_window(self, model: str) -> int | None:
        """The real context window of `model` in tokens, None where the host does not say."""
        ...


class ProviderFactory(Protocol):
    """Anything that makes a provider of its settings; a class with this constructor will do."""

    def __call__(self, settings: ProviderSettings) -> Provider: ...


_BUILT_IN = {
    "openai": "electrictown.llm.endpoint:openai",
    "anthropic": "electrictown.llm.endpoint:anthropic",
    "gemini": "electrictown.llm.endpoint:gemini",
    "ollama": "electrictown.llm.endpoint:ollama",
    "lmstudio": "electrictown.llm.endpoint:lmstudio",
    "local": "electrictown.llm.local:LocalProvider",
    "scripted": "electrictown.llm.scripted:ScriptedProvider",
}


def provider_types() -> dict[str, str]:
    """Every known provider type and the `module:name` that makes it; the built-in ones win."""
    from importlib.metadata import entry_points

    found = {e.name: e.value for e in entry_points(group="electrictown.providers")}
    return {**found, **_BUILT_IN}


def make_provider(settings: ProviderSettings) -> Provider:
    """The provider that `settings.type` names.

    Raises:
        ConfigError: for a type nobody registered.
    """
    from importlib import import_module

    target = _BUILT_IN.get(settings.type) or provider_types().get(settings.type)
    if target is None:
        raise ConfigError(
            f"provider {settings.name!r} has the unknown type {settings.type!r}",
            hint=f"known types: {', '.join(sorted(provider_types()))}",
        )
    module, _, attribute = target.partition(":")
    made: Any = import_module(module)
    for step in attribute.split("."):
        made = getattr(made, step)
    factory: ProviderFactory = made
    return factory(settings)
