"""What every wire has in common: its contract.

A wire turns a `ChatRequest` into an HTTP call and the answer's bytes into our messages. It owns no
socket, no clock and no key: it can be tested against recorded exchanges alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from msgspec import Struct

from electrictown.errors import ProviderError
from electrictown.llm.messages import ChatRequest, ChatResponse, Chunk, End, Model, Usage

__all__ = ["HttpCall", "ModelsPage", "StreamDecoder", "Wire"]


class HttpCall(Struct, frozen=True):
    """One HTTP request, without host and without credentials: `path` is appended to the base URL."""

    path: str
    body: bytes = b""
    method: Literal["GET", "POST"] = "POST"
    headers: dict[str, str] = {}


class ModelsPage(Struct, frozen=True):
    """One page of a list of models; `next` asks for the following page, None at the last."""

    models: list[Model]
    next: HttpCall | None = None


class StreamDecoder(Protocol):
    """Turns the payloads of one stream's events into chunks. One object a stream."""

    def feed(self, payload: bytes, out: list[Chunk]) -> None:
        """Decode one event's payload (the `data:` of SSE, a line of NDJSON) and append its chunks to `out`.

        Appends `End` when the protocol's terminal event has come.

        Raises:
            ProviderError: for an error event, typed as `Wire.error` would.
            BadReplyError: for a payload that is not the protocol's.
        """
        ...

    def feed_all(self, payloads: Iterable[bytes], out: list[Chunk]) -> None:
        """`feed` for each of `payloads`: the events of one read, where a call for each would cost most."""
        ...

    def finish(self, *, allow_incomplete: bool = False) -> End | None:
        """Called at the end of the body. None when `End` was already given.

        A protocol that ends by closing after a finish reason, or `allow_incomplete`, yields `End` here.

        Raises:
            IncompleteReplyError: when the protocol's terminal event never came.
        """
        ...

    @property
    def usage(self) -> Usage | None:
        """What is known of the usage so far: a cut stream still costs."""
        ...

    def partial(self) -> ChatResponse:
        """The reply as far as it came, its usage marked partial."""
        ...


class Wire(Protocol):
    """One vendor's protocol."""

    framing: Literal["sse", "ndjson"]

    def encode(self, request: ChatRequest, *, stream: bool) -> HttpCall:
        """The HTTP call that asks `request`."""
        ...

    def decode(self, body: bytes) -> ChatResponse:
        """The reply in a complete body.

        Raises:
            ProviderError: for an error that came with status 200.
            BadReplyError: for a body that is not the protocol's.
        """
        ...

    def decoder(self) -> StreamDecoder:
        """A new decoder for one stream."""
        ...

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """The typed error of an answer with `status` >= 400 (`headers` keys in lower case)."""
        ...

    def list_models(self) -> HttpCall:
        """The call for the first page of models."""
        ...

    def decode_models(self, body: bytes) -> ModelsPage:
        """One page of models.

        Raises:
            BadReplyError: for a body that is not the protocol's.
        """
        ...
