"""What a bill can hold: which of a vendor's figures can be true, and which requests are never billed.

The bill and the budget judge by the same rules, so that they tell of the same requests.
"""

from __future__ import annotations

from msgspec.structs import replace

from electrictown.errors import AuthError, ProviderError
from electrictown.llm.messages import ChatResponse, Json, Usage

__all__ = ["MOST_TOKENS", "MOST_USD", "as_usd", "plausible", "told_usage", "unbilled"]

MOST_TOKENS = 10**12
"""More tokens than any request has: a larger count is nonsense."""

MOST_USD = 1e6
"""More US dollars than any request costs: a larger figure is nonsense."""

_WAITED = frozenset({408, 504, 524})
"""Statuses of a gateway that would not wait any longer: behind it the model may have gone on writing."""


def plausible(usage: Usage) -> Usage | None:
    """`usage`, or None where a count is negative or beyond all measure: nothing was told then.

    Whoever takes nonsense for a figure gives the budget back what is spent.
    """
    counts = (
        *(usage.input, usage.cache_read, usage.cache_write, usage.output),
        *(usage.reasoning, usage.cache_write_1h),
    )
    return usage if min(counts) >= 0 and max(counts) <= MOST_TOKENS else None


def as_usd(value: Json) -> float | None:
    """US dollars as a vendor tells them; None for anything that cannot be the price of a request."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= MOST_USD else None  # false for NaN


def told_usage(response: ChatResponse) -> Usage | None:
    """What a whole reply used, marked partial where it cannot be all: a prompt has tokens, and a text."""
    usage = response.usage
    if usage is None or usage.partial:
        return usage
    if usage.prompt and (usage.output or not _says(response)):
        return usage
    return replace(usage, partial=True) if usage.total else None


def _says(response: ChatResponse) -> bool:
    return bool(response.text or response.tool_calls or response.reasoning)


def unbilled(error: BaseException | None) -> bool:
    """Whether it is certain that no bill comes for a request that failed so, before any reply."""
    if not isinstance(error, ProviderError):
        return False
    if not error.sent or isinstance(error, AuthError):
        return True
    return error.status >= 300 and error.status not in _WAITED
