"""What OpenAI's two APIs share: usage, finish reasons, the list of models, strict schemas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import cast

import msgspec
from msgspec import Struct

from electrictown.errors import BadReplyError, BadRequestError, ProviderError
from electrictown.llm.billing import as_usd
from electrictown.llm.messages import FinishReason, Json, Model, Usage
from electrictown.llm.wire.base import HttpCall, ModelsPage
from electrictown.llm.wire.common import as_int, disjoint_usage, excerpt, parse_json, read_leniently
from electrictown.llm.wire.faults import read_fault
from electrictown.llm.wire.verdict import make_error

__all__ = [
    "OpenAIUsage",
    "counts_anything",
    "decode_models",
    "finish_reason",
    "http_error",
    "is_reasoning_model",
    "is_strict",
    "models_call",
    "read_usage",
]


class _Details(Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None  # OpenAI, OpenRouter
    cache_creation_tokens: int | None = None  # LiteLLM
    cache_creation_input_tokens: int | None = None  # DashScope
    reasoning_tokens: int | None = None


class OpenAIUsage(Struct):
    """The usage object of both APIs and of every compatible server we know."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int | None = None  # the responses API
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek
    num_cached_tokens: int | None = None  # Mistral
    cached_tokens: int | None = None  # Together, Moonshot
    cache_read_input_tokens: int | None = None  # LiteLLM
    cache_creation_input_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: Json = None  # OpenRouter: US dollars; Perplexity: an object
    is_byok: bool | None = None
    cost_details: dict[str, Json] | None = None


_NO_DETAILS = _Details()


def read_usage(found: OpenAIUsage | None) -> Usage | None:
    """Usage in our disjoint buckets: the vendor's prompt count includes what its cache gave or took."""
    if found is None or (found.prompt_tokens is None and not counts_anything(found)):
        return None
    into = found.prompt_tokens_details or found.input_tokens_details or _NO_DETAILS
    out = found.completion_tokens_details or found.output_tokens_details or _NO_DETAILS
    prompt = found.prompt_tokens or found.input_tokens or 0
    output = found.completion_tokens or found.output_tokens or 0
    reasoning = out.reasoning_tokens or found.reasoning_tokens or 0
    # xAI alone counts reasoning beside the completion, as its total shows.
    if reasoning and found.total_tokens == prompt + output + reasoning:
        output += reasoning
    return disjoint_usage(
        prompt=prompt,
        output=output,
        cache_read=into.cached_tokens
        or found.prompt_cache_hit_tokens
        or found.num_cached_tokens
        or found.cached_tokens
        or found.cache_read_input_tokens
        or 0,
        cache_write=into.cache_write_tokens
        or into.cache_creation_tokens
        or into.cache_creation_input_tokens
        or found.cache_creation_input_tokens
        or 0,
        reasoning=reasoning,
        cost_usd=None if found.cost is None else _cost(found),
    )


def counts_anything(found: OpenAIUsage) -> bool:
    """Whether a usage object holds a count at all: some servers send an empty one in every chunk."""
    return not (
        found.prompt_tokens is None
        and found.completion_tokens is None
        and found.input_tokens is None
        and found.output_tokens is None
    )


def _cost(found: OpenAIUsage) -> float | None:
    cost = cast(dict[str, Json], found.cost).get("total_cost") if isinstance(found.cost, dict) else found.cost
    usd = as_usd(cost)
    if usd is not None and found.is_byok and found.cost_details:
        # With the user's own key `cost` is OpenRouter's fee; the model's price comes on top.
        usd += as_usd(found.cost_details.get("upstream_inference_cost")) or 0.0
    return usd


_FINISH: dict[str, FinishReason] = {
    **dict.fromkeys(
        (
            *("length", "max_tokens", "max_output_tokens", "model_length", "max_tool_calls", "max_length"),
            "model_context_window_exceeded",  # z.ai
        ),
        "length",
    ),
    **dict.fromkeys(("tool_calls", "function_call", "tool_use", "tool_call"), "tool_calls"),
    **dict.fromkeys(
        ("content_filter", "safety", "sensitive", "refusal", "recitation", "blocklist", "prohibited_content"),
        "content_filter",
    ),
    **dict.fromkeys(
        (
            *("error", "network_error", "insufficient_system_resource", "abort", "failed", "cancelled"),
            *("malformed_function_call", "function_call_filter: malformed_function_call"),  # Google
        ),
        "error",
    ),
}


def finish_reason(word: str, *, calls: bool, refused: bool = False) -> FinishReason:
    """The vendor's word in our vocabulary; an unknown one is a stop.

    A reply that holds tool calls was stopped by them, whatever a compatible server says, and a
    refusal is the content filter's.
    """
    reason: FinishReason = _FINISH.get(word.lower(), "stop") if word else ""
    if reason in ("stop", "") and calls:
        return "tool_calls"
    return "content_filter" if refused and reason in ("stop", "") else reason


_REASONING_MODEL = re.compile(r"(?:^|/)(?:o\d|gpt-(?:[5-9]|\d\d)|codex)(?!.*chat)", re.I)


@lru_cache(256)  # a program has few models
def is_reasoning_model(model: str) -> bool:
    """Whether OpenAI's model of this name takes `max_completion_tokens` and no temperature."""
    return _REASONING_MODEL.search(model) is not None


def is_strict(schema: Json) -> bool:
    """Whether `schema` keeps the rules of OpenAI's strict mode, which refuses a schema that does not.

    Every object names all its properties as required and allows no others.
    https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    if isinstance(schema, list):
        return all(is_strict(item) for item in cast(list[Json], schema))
    if not isinstance(schema, dict):
        return True
    node = cast(dict[str, Json], schema)
    properties: Json = node.get("properties")
    if node.get("type") == "object" or isinstance(properties, dict):
        names = set(cast(dict[str, Json], properties or {}))
        if node.get("additionalProperties") is not False or names != set(node.get("required") or ()):
            return False
    return all(is_strict(value) for key, value in node.items() if key not in ("required", "enum", "const"))


# --- models ----------------------------------------------------------------------------------------


class _Provider(Struct):
    context_length: int | None = None
    max_completion_tokens: int | None = None


class _Meta(Struct):
    n_ctx: int | None = None


class _Model(Struct):
    id: str = ""
    name: str | None = None
    owned_by: str | None = None
    context_length: int | None = None  # OpenRouter, Together
    context_window: int | None = None  # Groq
    max_model_len: int | None = None  # vLLM
    max_context_length: int | None = None  # Mistral, LM Studio
    loaded_context_length: int | None = None  # LM Studio
    max_completion_tokens: int | None = None
    top_provider: _Provider | None = None  # OpenRouter
    meta: _Meta | None = None  # llama.cpp


class _Models(Struct):
    data: list[_Model] | None = None
    models: list[_Model] | None = None


_decode_models = msgspec.json.Decoder(_Models).decode
_decode_model_list = msgspec.json.Decoder(list[_Model]).decode


def models_call() -> HttpCall:
    """The one page of models these APIs have."""
    return HttpCall("/models", method="GET")


def decode_models(body: bytes) -> ModelsPage:
    """The models on offer, with the window where a compatible server tells it.

    Raises:
        BadReplyError: for a body that holds no list of models.
    """
    if body.lstrip()[:1] == b"[":  # Together
        try:
            return ModelsPage([_model(m) for m in _decode_model_list(body) if m.id])
        except msgspec.DecodeError:
            return decode_models(b'{"data":' + body + b"}")
    try:
        page = _decode_models(body)
    except msgspec.DecodeError:
        page = read_leniently(_Models, parse_json(body))
    found = page.data if page.data is not None else page.models
    if found is None:
        raise BadReplyError(f"the reply holds no list of models: {excerpt(body)}")
    return ModelsPage([_model(m) for m in found if m.id])


def _model(m: _Model) -> Model:
    top = m.top_provider or _Provider()
    window = (
        m.loaded_context_length
        or (m.meta and m.meta.n_ctx)
        or top.context_length
        or m.context_length
        or m.context_window
        or m.max_model_len
        or m.max_context_length
    )
    return Model(
        m.id,
        name=m.name or "",
        context_window=as_int(window) or None,
        max_output=as_int(top.max_completion_tokens or m.max_completion_tokens) or None,
        owner=m.owned_by or "",
    )


# --- errors ----------------------------------------------------------------------------------------


def http_error(status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """The typed error of an answer with `status` >= 400."""
    error = make_error(status, headers, read_fault(body))
    # The newest reasoning models take function tools on one of the two APIs only.
    if isinstance(error, BadRequestError) and "/v1/responses" in error.message:
        error.hint = "set `api: responses` for this provider"
    return error
