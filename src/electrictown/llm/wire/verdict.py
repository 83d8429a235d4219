"""Which error of our tree a vendor's error is: `make_error`.

Codes first; then the HTTP status together with a table of phrases, since most compatible servers
have a status and a sentence and nothing else. Every phrase of the table has a test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from electrictown.errors import (
    AuthError,
    BadRequestError,
    ContextWindowError,
    ModelNotFoundError,
    OverloadedError,
    ProviderError,
    QuotaError,
    RateLimitError,
    RefusedError,
    ServerError,
)
from electrictown.llm.wire.common import retry_after
from electrictown.llm.wire.faults import Fault
from electrictown.redact import mask

__all__ = ["make_error"]

_MESSAGE_LIMIT = 2000

_CODES: dict[str, type[ProviderError]] = {
    **dict.fromkeys(
        (
            "context_length_exceeded",
            "exceed_context_size_error",  # llama.cpp
            "context_window_exceeded",
            "model_context_window_exceeded",
            "tokens_limit_reached",  # GitHub Models
            "model_max_prompt_tokens_exceeded",  # GitHub Copilot
            "request_too_large",
            "1261",  # z.ai
        ),
        ContextWindowError,
    ),
    **dict.fromkeys(
        (
            "insufficient_quota",
            "credit_balance_exhausted",
            "organization_usage_limit_exceeded",
            "billing_error",
            "billing_hard_limit_reached",
            "billing_not_active",
            "insufficient_balance",
            "insufficient_credits",
            "payment_required",
            "arrearage",  # DashScope
            "exceeded_current_quota_error",  # Moonshot
            "budget_exceeded",  # LiteLLM
            *("1113", "1308", "1309", "1310"),  # z.ai: no balance, plan used up, plan expired
        ),
        QuotaError,
    ),
    **dict.fromkeys(
        (
            "content_policy_violation",
            "content_filter",
            "content_policy",
            "moderation_blocked",
            "image_content_policy_violation",
            "data_inspection_failed",
            "responsibleaipolicyviolation",
            "1301",  # z.ai
        ),
        RefusedError,
    ),
    **dict.fromkeys(
        (
            "model_not_found",
            "model_not_supported",
            "model_decommissioned",
            "model_not_available",
            "unknown_model",
            "invalid_model",
            "deploymentnotfound",
            "1211",  # z.ai
        ),
        ModelNotFoundError,
    ),
    **dict.fromkeys(("invalid_api_key", "incorrect_api_key", "api_key_invalid"), AuthError),
    "throttlingexception": RateLimitError,  # AWS, with status 400
}

# Weaker words: they decide only where there is no status to go by (an error inside a 200 stream).
_WEAK_CODES: dict[str, type[ProviderError]] = {
    **dict.fromkeys(
        ("rate_limit_error", "rate_limit_exceeded", "too_many_requests", "tokens", "requests", "slow_down"),
        RateLimitError,
    ),
    **dict.fromkeys(
        ("overloaded_error", "overloaded", "engine_overloaded", "service_unavailable", "unavailable_error"),
        OverloadedError,
    ),
    **dict.fromkeys(
        ("authentication_error", "permission_error", "permission_denied", "unauthorized"), AuthError
    ),
    **dict.fromkeys(("not_found_error", "notfounderror"), ModelNotFoundError),
    **dict.fromkeys(
        (
            "invalid_request_error",
            "badrequesterror",
            "bad_request",
            "invalid_argument",
            "unprocessable_entity",
        ),
        BadRequestError,
    ),
}

_OVERFLOW = (
    r"maximum context length|context[_ ]length[_ ]exceeded|context length (?:of only|\(\d)"
    r"|model's context length"
    r"|(?:exceed\w*|(?:larg|long|great)er than|over) (?:the |its |your )?(?:\w+ |\w+'s ){0,2}context"
    r"|exceed context|context (?:window|size|length|limit) (?:is )?exceed|exceed\w* max(?:imum)? context"
    r"|context (?:window )?exceeds|context[_ ]overflow|context the overflows"
    r"|prompt (?:is )?too long|input (?:is )?too long|input token length too long|prompt exceeds max"
    r"|longer than the maximum model length|token count[^.]{0,30} exceeds the limit of"
    r"|maximum prompt length|exceeded model token limit|exceeds the maximum number of (?:input )?tokens"
    r"|reduce the length of (?:the |your )?(?:messages|prompt|input)|too large for model with \d+ maximum"
    r"|range of input length should be|`?inputs`? tokens \+ `?max_new_tokens|`?inputs`? must have less than"
    r"|number of tokens in the prompt cannot exceed|request body too large for .* model"
    r"|tokens? (?:is |are )?(?:greater|larger|more) than (?:the )?(?:max\w* )?(?:context|model)"
)
_SPENT = (
    r"exceeded your current quota|insufficient (?:account )?(?:balance|credits?|funds|quota)"
    r"|credit balance is (?:too low|exhausted)"
    r"|(?:out of|no|requires? more|used all available|have any) credits"
    r"|spend(?:ing)?[ _]limit|key limit exceeded|billing (?:hard )?limit|monthly included credits"
    r"|reached (?:your|the) (?:specified )?(?:api )?usage limit"
    r"|usage limit (?:has been )?(?:reached|exceeded)"
    r"|overdue[- ]payment|please recharge|not active, please check your billing"
)
_REFUSED = (
    r"flagged (?:as|for|by)|content management policy|content (?:policy|exists risk)|content[_ ]filter"
    r"|violat\w+ (?:our |the |of )?(?:usage|safety|content)"
    r"|rejected (?:as a result of|by) (?:our|the) safety"
)
_NO_MODEL = (
    r"\bmodel\b[^.]{0,120}?(?:not (?:be )?(?:found|exist|available|supported|loaded)"
    r"|does(?: not|n't) exist|unknown|decommissioned|not a valid model)"
    r"|not a valid model|(?:unknown|invalid|no such) model\b"
    r"|no endpoints found|no models? loaded|failed to load model"
)
_BAD_KEY = r"(?:incorrect|invalid|missing|no) api[- _]?key|api[- _]?key (?:is )?(?:not valid|invalid)"


def _says(phrase: str, text: str) -> bool:
    """Whether `text` holds `phrase`, which is compiled when the first error asks: a good start has none."""
    return re.search(phrase, text, re.I) is not None


def _kind(status: int, fault: Fault, headers: Mapping[str, str]) -> type[ProviderError]:
    for code in fault.codes:
        if code in _CODES:
            return _CODES[code]
        if code.endswith("_spend_limit_exceeded"):
            return QuotaError
    if status < 400:
        found = next((_WEAK_CODES[c] for c in fault.codes if c in _WEAK_CODES), None)
        return found or next(_phrased(fault.message), _by_prefix(fault))
    return _kind_by_status(status, fault, headers)


def _by_prefix(fault: Fault) -> type[ProviderError]:
    # invalid_image_format, unsupported_image_media_type ... of a response that failed.
    named = any(
        code.startswith(("invalid_", "unsupported_", "image_", "empty_image")) for code in fault.codes
    )
    return BadRequestError if named else ServerError


_BY_STATUS: dict[int, type[ProviderError]] = {
    401: AuthError,
    402: QuotaError,
    413: ContextWindowError,
    **dict.fromkeys((408, 409, 425, 499), ServerError),
    **dict.fromkeys((498, 503, 529), OverloadedError),  # 498: Groq, no capacity in this tier
}


def _kind_by_status(status: int, fault: Fault, headers: Mapping[str, str]) -> type[ProviderError]:
    text = fault.message
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status == 403:
        return QuotaError if _says(_SPENT, text) else RefusedError if _says(_REFUSED, text) else AuthError
    if status == 404:
        named = fault.param == "model" or re.search(r"\bmodels?\b|no endpoints found", text, re.I)
        return ModelNotFoundError if named else BadRequestError
    if status == 429:
        told_off = headers.get("x-should-retry", "").strip().lower() == "false"
        spent = _says(_SPENT, text) and fault.retry_after is None  # a wait that is told can be waited
        return QuotaError if told_off or spent else RateLimitError
    if status >= 500:
        busy = any("overloaded" in code for code in fault.codes)
        return OverloadedError if busy else ContextWindowError if _says(_OVERFLOW, text) else ServerError
    return next(_phrased(text), BadRequestError)


def _phrased(text: str) -> Iterator[type[ProviderError]]:
    for phrase, kind in (
        (_OVERFLOW, ContextWindowError),
        (_SPENT, QuotaError),
        (_BAD_KEY, AuthError),
        (_REFUSED, RefusedError),
        (_NO_MODEL, ModelNotFoundError),
    ):
        if _says(phrase, text):
            yield kind


_NAME = r"[`'\"]?\b([A-Za-z_][\w.\[\]]{0,79})[`'\"]?"
_UNSUPPORTED = (
    rf"(?:unsupported|unknown|unrecognized) (?:request )?(?:parameter|argument|field|property|value|name)"
    rf"(?:\(?s\)?)?(?: supplied)?:? {_NAME}",
    rf"unexpected (?:keyword )?argument:? {_NAME}",
    rf"argument not supported on this model: {_NAME}",
    rf"(?:property|parameter|argument|field) {_NAME} is (?:not (?:supported|allowed)|unsupported)",
    rf"{_NAME} (?:parameter )?(?:is|are) (?:not (?:yet )?supported|unsupported|deprecated|not allowed)",
    r"does(?: not|n't) support (?:the )?(?:parameter )?[`']([\w.]+)[`']",
    rf"{_NAME}: extra inputs are not permitted",
    rf"{_NAME} (?:and {_NAME} cannot both be specified|may only be set to)",
)
_UNSUPPORTED_CODES = frozenset(
    {"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden"}
)
# What a sentence may name that is no option: without it the request would be another request.
_ESSENTIAL = frozenset({"model", "messages", "input", "contents", "tools", "stream"})


def _unsupported(fault: Fault) -> str:
    """The request parameter the vendor calls unknown or unsupported, "" when it says no such thing."""
    for pattern in _UNSUPPORTED:
        if found := re.search(pattern, fault.message, re.I):
            name = [n for n in found.groups() if n][-1].rstrip(".")
            quoted = found.group(0)[found.group(0).find(name) - 1] in "`'\""
            # A bare word is a parameter only if it looks like one: "images are not supported" names none.
            if fault.param or quoted or "_" in name or name in ("temperature", "stop", "seed"):
                return "" if (fault.param or name) in _ESSENTIAL else fault.param or name
    return fault.param if _UNSUPPORTED_CODES.intersection(fault.codes) else ""


_HINTS: dict[type[ProviderError], str] = {
    AuthError: "check the provider's api_key",
    QuotaError: "add credit or raise the limit at the provider, or give the role a fallback",
    ContextWindowError: "use a model with a larger context window, or ask for less at a time",
    ModelNotFoundError: "`et models` lists what the provider has",
}


def make_error(
    status: int,
    headers: Mapping[str, str],
    fault: Fault,
    kind: type[ProviderError] | None = None,
) -> ProviderError:
    """The typed error for `fault`; `kind` overrides the choice where a wire knows better.

    `status` is the HTTP status; below 400 (an error inside a good answer) the body's own counts.
    `headers` keys are in lower case.
    """
    # Trimmed first: no phrase is looked for in a megabyte.
    fault = replace(fault, message=fault.message.strip()[:_MESSAGE_LIMIT])
    effective = status if status >= 400 else fault.status or status
    chosen = kind or _kind(effective, fault, headers)
    message = fault.message or f"the provider answered with status {status} and no explanation"
    busy = issubclass(chosen, RateLimitError | OverloadedError)
    wait = retry_after({**fault.headers, **headers}, message if busy else "", busy=busy)
    hint = _HINTS.get(chosen, "")
    if chosen is BadRequestError and effective in (404, 405):
        hint = "nothing answers at this path: check the provider's base_url"
    return chosen(
        mask(message),
        hint,
        status=effective,
        retry_after=wait if wait is not None else fault.retry_after,
        code=fault.code,
        param=_unsupported(fault) if chosen is BadRequestError else "",
        request_id=fault.request_id
        or next(
            (headers[n] for n in ("x-request-id", "request-id", "x-goog-request-id") if n in headers), ""
        ),
    )
