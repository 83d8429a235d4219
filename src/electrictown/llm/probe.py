"""What a model really does: streams? calls tools? how large is its window? how fast is it?

Asked with two tiny requests and remembered, so that a doctor's visit is paid for once. What a model is
called says nothing of what it can do; these answers do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from electrictown.errors import BadRequestError, ElectrictownError, ProviderError
from electrictown.llm.messages import (
    ChatRequest,
    ChatResponse,
    End,
    ReasoningDelta,
    TextDelta,
    ToolSpec,
    Usage,
    user,
)
from electrictown.llm.provider import Inspectable, Provider

__all__ = ["Pace", "Probe", "ProbeCache", "pace", "probe"]

_WEEK = 7 * 24 * 3600.0
_COUNTING = "Write the numbers from 1 to 20, separated by spaces, and nothing else."
_ADDING = "Use the tool to add 17 and 25. Do not answer yourself."
_ADD = ToolSpec(
    "add",
    "Adds two whole numbers.",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    },
)


class Pace(Struct, frozen=True):
    """How a short reply came: seconds to the first token, tokens a second after it, in how many pieces.

    `tokens_per_second` is None where the reply came at once, so that there was nothing to measure.
    """

    first_token: float
    tokens_per_second: float | None
    pieces: int
    usage: Usage | None = None


class Probe(Struct, frozen=True):
    """What was found of one model. None is unknown; `error` says why the probe stopped.

    `time` is when it was found (seconds since the epoch), `usage` what finding it used.
    """

    streams: bool | None = None
    tools: bool | None = None
    context_window: int | None = None
    tokens_per_second: float | None = None
    first_token: float | None = None
    error: str = ""
    time: float = 0.0


async def pace(provider: Provider, model: str, *, max_tokens: int = 64) -> Pace:
    """Let `model` write a short reply and measure it.

    Raises:
        ProviderError: when it does not answer.
    """
    request = ChatRequest(model=model, messages=(user(_COUNTING),), max_tokens=max_tokens)
    started = time.monotonic()
    first = started
    pieces = characters = 0
    usage: Usage | None = None
    async with provider.stream_chat_completion(request) as reply:
        async for chunk in reply:
            if isinstance(chunk, TextDelta | ReasoningDelta):
                first = first if pieces else time.monotonic()
                pieces += 1
                characters += len(chunk.text)
            elif isinstance(chunk, End):
                usage = chunk.response.usage
    writing = time.monotonic() - first
    tokens = usage.output if usage is not None and usage.output else characters / 4
    rate = tokens / writing if pieces > 1 and writing > 0.001 else None
    return Pace(first - started, rate, pieces, usage)


async def probe(provider: Provider, model: str) -> Probe:
    """What `model` on `provider` can do; a failure is part of the answer."""
    found = Probe(time=time.time())
    try:
        measured = await pace(provider, model)
        found = msgspec.structs.replace(
            found,
            streams=measured.pieces > 1,
            tokens_per_second=measured.tokens_per_second,
            first_token=measured.first_token,
        )
        found = msgspec.structs.replace(found, tools=await _calls_tools(provider, model))
        if isinstance(provider, Inspectable):
            window = await provider.context_window(model)
            found = msgspec.structs.replace(found, context_window=window)
    except ElectrictownError as error:
        return msgspec.structs.replace(found, error=f"{type(error).__name__}: {error.message}")
    return found


async def _calls_tools(provider: Provider, model: str) -> bool:
    request = ChatRequest(
        model=model, messages=(user(_ADDING),), tools=(_ADD,), tool_choice="auto", max_tokens=256
    )
    try:
        response = await provider.chat_completion(request)
    except BadRequestError:
        return False  # it takes the same request without tools: it was asked before
    except ProviderError as error:
        if error.status in (400, 404, 422, 501):
            return False
        raise
    return any(_adds(response))


def _adds(response: ChatResponse) -> list[bool]:
    found: list[bool] = []
    for call in response.tool_calls:
        try:
            arguments = msgspec.json.decode(call.arguments)
        except msgspec.DecodeError:
            continue
        found.append(call.name == "add" and isinstance(arguments, dict))
    return found


class ProbeCache:
    """Remembers probes for a week in the user's cache folder. A cache that cannot be used is no cache."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        home = Path(environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".cache")
        self.path = home / "electrictown" / "probes.json"
        self._known = self._read()

    def get(self, key: str) -> Probe | None:
        """What was found under `key` within the last week, if that was an answer."""
        known = self._known.get(key)
        fresh = known is not None and not known.error and 0 <= time.time() - known.time < _WEEK
        return known if fresh else None

    def put(self, key: str, found: Probe) -> None:
        """Remember `found` under `key`."""
        self._known[key] = found

    def save(self) -> None:
        """Write the cache, whole or not at all.

        Raises:
            OSError: when the folder cannot be written; nothing but the cache is lost.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_bytes(msgspec.json.encode(self._known))
        fresh.replace(self.path)

    def _read(self) -> dict[str, Probe]:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=dict[str, Probe])
        except (OSError, msgspec.DecodeError):
            return {}
