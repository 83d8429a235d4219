"""Google's Gemini API, refusing: https://ai.google.dev/gemini-api/docs/troubleshooting.

`{error: {code, message, status, details[]}}`, sometimes inside a list. The details carry google.rpc types:
RetryInfo (when to come back), QuotaFailure (which quota), ErrorInfo (a reason such as API_KEY_INVALID).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from electrictown.errors import (
    AuthError,
    BadRequestError,
    ContextWindowError,
    ProviderError,
    QuotaError,
    RateLimitError,
)
from electrictown.llm.messages import Json
from electrictown.llm.wire.common import as_text
from electrictown.llm.wire.faults import Fault, fault_of
from electrictown.llm.wire.parts import as_object, as_objects
from electrictown.llm.wire.verdict import make_error

__all__ = ["typed_error"]

_CONTEXT = re.compile(r"context is too long|input is too long|prompt is too long", re.I)
_THINKING = re.compile(r"thinking|^budget \d+ is invalid", re.I)
_NO_ACCESS = re.compile(r"api key (?:not valid|expired|not found)|location is not supported", re.I)
_SCHEMA = re.compile(r"response[_ ]?(?:json[_ ]?)?schema", re.I)
_JSON_MODE = re.compile(r"response[_ ]?mime[_ ]?type|json mode", re.I)


def typed_error(value: Json, status: int = 200, headers: Mapping[str, str] | None = None) -> ProviderError:
    """The error of our tree for an error body, decoded; inside a good answer its `code` is the status."""
    fault = fault_of(value)
    status = status if status >= 400 else fault.status or status
    error = make_error(status, headers or {}, fault, _kind(status, fault, value))
    if isinstance(error, BadRequestError) and not error.param:
        if _THINKING.search(error.message):
            error.param = "thinkingConfig"
        elif _SCHEMA.search(error.message):
            error.param = "responseJsonSchema"
        elif _JSON_MODE.search(error.message):
            error.param = "responseMimeType"
    return error


def _kind(status: int, fault: Fault, value: Json) -> type[ProviderError] | None:
    """Where this vendor says more than the status: quotas by the day, keys, billing, places."""
    text = fault.message.lower()
    if status == 429 or "resource_exhausted" in fault.codes:
        quotas = _quotas(value)
        if any("PerDay" in q for q in quotas) or re.search(r"limit: 0\b|prepa\w+ credits|depleted", text):
            return QuotaError
        told = quotas or fault.retry_after is not None or "please retry in" in text
        return RateLimitError if told else None
    if status == 400 and re.search(
        r"api key (?:not valid|expired|not found)|location is not supported", text
    ):
        return AuthError
    if status in (400, 403) and "billing" in text:
        return QuotaError
    if status in (400, 500) and _CONTEXT.search(text):
        return ContextWindowError
    return None


def _quotas(value: Json) -> list[str]:
    """The ids of the quotas that a QuotaFailure in the details names."""
    body = as_object(value[0] if isinstance(value, list) and value else value)
    details = as_objects(as_object(body.get("error")).get("details"))
    return [
        as_text(v.get("quotaId")) or as_text(v.get("subject"))
        for d in details
        if as_text(d.get("@type")).endswith("QuotaFailure")
        for v in as_objects(d.get("violations"))
    ]
