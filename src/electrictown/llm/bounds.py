"""How many tokens one request can come to: what has to be set aside for it before it goes out.

The prompt is bounded by its bytes, the reply by the limit that is sent with the request. A vendor's own
tools (a web search), which bring text into the prompt that nobody here has seen, are not bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

import msgspec
from msgspec.structs import replace

from electrictown.llm.messages import ChatRequest, Json
from electrictown.llm.routes import Target

__all__ = ["LEAST_OUTPUT", "limited", "most_input", "own_limit", "replies", "usual_limit"]

LEAST_OUTPUT = 1_024
"""The smallest limit that is put on a reply unasked: less is hardly an answer."""

_USUAL_OUTPUT = 16_000

_SMALLER = (
    # The largest reply that older models allow; more is refused. Sources: platform.openai.com/docs/models,
    # docs.claude.com/en/docs/about-claude/models, ai.google.dev/gemini-api/docs/models.
    (re.compile(r"claude-(?:2|instant|3-(?:opus|sonnet|haiku))|gpt-3\.5|gpt-4(?:-|$)"), 4_096),
    (re.compile(r"claude-3[-.]5|gemini-(?:1|2\.0)|deepseek-chat"), 8_000),
)

_PART = 32
"""Tokens that a chat template may put around one part, message or tool: more than any known to us."""

_TOOLING = 1_024
"""Tokens of the instructions that a vendor adds where there are tools or a schema (Anthropic: up to 530)."""

_LIMITS = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"}) | {
    "maxOutputTokens",
    "num_predict",
}
_REPLIES = frozenset({"n", "best_of", "candidateCount"})

_Options = dict[str, Json]


def most_input(request: ChatRequest) -> int:
    """A bound of the prompt's tokens: a token is at least one byte of UTF-8, and a template adds its own.

    JSON has every text in it, escaped or as it is, and is never shorter. `options` are counted too, since
    they may hold anything that a vendor reads.
    """
    parts = sum(len(message.parts) + 1 for message in request.messages) + len(request.tools) + 1
    held = (request.messages, request.tools, request.schema, request.schema_name, request.options)
    added = _TOOLING if request.tools or request.schema is not None else 0
    return len(msgspec.json.encode(held)) + parts * _PART + added


def own_limit(request: ChatRequest, target: Target) -> int | None:
    """The limit of the reply in tokens that will be sent with `request`; None where there is none.

    Options are laid over the request, so what they say comes first.
    """
    told = [value for name, value in _fields(request.options) if name in _LIMITS]
    if told:
        counts = [value for value in told if isinstance(value, int) and value > 0]
        return max(counts) if len(counts) == len(told) else None  # -1 and null are no limit
    return (target.max_tokens if request.max_tokens is None else request.max_tokens) or None


def usual_limit(target: Target) -> int:
    """The limit for a target of which nothing is said: room for a long reply that it will not refuse."""
    model = target.model.lower()
    usual = next((most for named, most in _SMALLER if named.search(model)), _USUAL_OUTPUT)
    window = target.context_window
    return usual if window is None else max(1, min(usual, max(LEAST_OUTPUT, window // 2), window))


def replies(request: ChatRequest) -> int:
    """How many replies are asked for at once, each of them as long as the limit allows."""
    asked = [v for name, v in _fields(request.options) if name in _REPLIES and isinstance(v, int)]
    return max(1, *asked) if asked else 1


def limited(request: ChatRequest, tokens: int) -> ChatRequest:
    """`request` with a reply of at most `tokens`, wherever else it said so, and no way around it."""
    return replace(request, max_tokens=tokens, options=_unlimited(request.options), capped=True)


def _fields(options: _Options) -> Iterator[tuple[str, Json]]:
    """The fields of a vendor's body, and those of the objects in it."""
    for name, value in options.items():
        yield name, value
        if isinstance(value, dict):
            yield from cast(_Options, value).items()


def _unlimited(options: _Options) -> _Options:
    if not any(name in _LIMITS for name, _ in _fields(options)):
        return options
    return {
        name: _unlimited(cast(_Options, value)) if isinstance(value, dict) else value
        for name, value in options.items()
        if name not in _LIMITS
    }
