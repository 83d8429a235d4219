"""What was asked and what came when a request failed: without secrets, and no longer than is useful."""

from __future__ import annotations

from typing import cast

import msgspec

from electrictown.errors import ProviderError
from electrictown.journal.records import Exchange
from electrictown.llm.admission import Asking
from electrictown.llm.messages import ChatRequest, Json
from electrictown.llm.routes import Target
from electrictown.redact import mask
from electrictown.work import Failure

__all__ = ["exchange_of"]

_TEXT = 8_000
"""Characters of one text that are kept: its beginning and its end."""

_WHOLE = 64_000
"""Characters of a whole request that are kept."""


def exchange_of(target: Target, request: ChatRequest, asking: Asking, error: ProviderError) -> Exchange:
    """The failed exchange as it may be written down."""
    failure = Failure.of(error)
    message = _kept(mask(error.message))
    return Exchange(
        role=asking.role,
        provider=target.provider,
        model=target.model,
        error=msgspec.structs.replace(failure, message=message, hint=mask(error.hint)),
        request=_redacted(request),
        reply=message,
        subtask=asking.subtask,
    )


def _redacted(request: ChatRequest) -> Json:
    shown = {name: value for name, value in msgspec.to_builtins(request).items() if value not in _UNSET}
    shown = _clean(shown)
    size = len(msgspec.json.encode(shown))
    if size <= _WHOLE:
        return shown
    messages = cast(list[Json], shown["messages"])
    return {
        **{name: value for name, value in shown.items() if not isinstance(value, dict | list)},
        "cut": f"{size:,} bytes; the first and the last of {len(messages)} messages are here, as text",
        "first": _kept(msgspec.json.encode(messages[0]).decode()),
        "last": _kept(msgspec.json.encode(messages[-1]).decode()),
    }


_UNSET: tuple[Json, ...] = (None, "", [], {}, False)


def _clean(value: Json) -> Json:
    """`value` with every text masked, then cut: what is cut first might hide a secret's half."""
    if isinstance(value, str):
        return _kept(mask(value))
    if isinstance(value, dict):
        return {name: _clean(inner) for name, inner in cast(dict[str, Json], value).items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in cast(list[Json], value)]
    return value


def _kept(text: str) -> str:
    if len(text) <= _TEXT:
        return text
    half = _TEXT // 2
    return f"{text[:half]}\n... ({len(text) - 2 * half:,} characters are left out here) ...\n{text[-half:]}"
