from __future__ import annotations

import json
from typing import Any

import pytest

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
from electrictown.llm.messages import Json
from electrictown.llm.wire.common import retry_after, seconds
from electrictown.llm.wire.faults import fault_of, read_fault
from electrictown.llm.wire.openai import OpenAIWire
from electrictown.redact import Secret

WIRE = OpenAIWire("a")


def error(status: int, body: Json = None, **headers: str) -> ProviderError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WIRE.error(status, {k.replace("_", "-"): v for k, v in headers.items()}, raw)


def openai(message: str, *, code: Json = None, kind: Json = None, param: Json = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


# --- the shapes of a body --------------------------------------------------------------------------

SHAPES: list[tuple[Any, str]] = [
    (openai("no such thing"), "no such thing"),
    ({"error": "no such thing"}, "no such thing"),
    ([{"error": {"message": "no such thing"}}], "no such thing"),
    ("no such thing", "no such thing"),
    ({"detail": "no such thing"}, "no such thing"),
    ({"message": "no such thing", "object": "error"}, "no such thing"),
    ({"detail": {"error": {"message": "no such thing"}}}, "no such thing"),
    ({"errors": ["no such thing"]}, "no such thing"),
    ({"error": {"message": json.dumps(openai("no such thing"))}}, "no such thing"),
    (b"no such thing\n", "no such thing"),
    (b'data: {"error": {"message": "no such thing"}}\n\n', "no such thing"),
    (b"<html><head><title>no such thing</title></head><body>x</body></html>", "no such thing"),
    (b"<!DOCTYPE html><body><h1>no such</h1><script>x()</script> thing</body>", "no such thing"),
    (b"", "the provider answered with status 400 and no explanation"),
    (b"{}", "the provider answered with status 400 and no explanation"),
    (b"null", "the provider answered with status 400 and no explanation"),
    (b"\xff\xfe", "\ufffd\ufffd"),
]


@pytest.mark.parametrize(("body", "message"), SHAPES)
def test_the_vendors_words_are_found_in_every_shape(body: Json, message: str) -> None:
    found = error(400, body)
    assert (type(found), found.message, found.status) == (BadRequestError, message, 400)


def test_a_validators_answer_names_the_place() -> None:
    body = {"detail": [{"type": "extra_forbidden", "loc": ["body", "top_k"], "msg": "Extra inputs are bad"}]}
    found = error(422, body)
    assert (type(found), found.message, found.param) == (
        BadRequestError,
        "top_k: Extra inputs are bad",
        "top_k",
    )


def test_openrouter_gives_the_upstreams_error_too() -> None:
    raw = json.dumps(openai("This model's maximum context length is 10", code="context_length_exceeded"))
    body = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": raw}}}
    found = error(400, body)
    assert isinstance(found, ContextWindowError)
    assert found.message == "Provider returned error: This model's maximum context length is 10"


def test_the_request_id_is_kept() -> None:
    assert error(500, b"", x_request_id="req_1").request_id == "req_1"
    assert error(500, {"error": {"message": "x"}, "request_id": "req_2"}).request_id == "req_2"


def test_a_key_in_the_vendors_words_is_masked() -> None:
    Secret("sk-very-secret-key")
    assert "sk-very" not in str(error(401, openai("Incorrect API key provided: sk-very-secret-key")))


def test_a_very_long_message_is_trimmed() -> None:
    assert len(error(400, openai("x" * 100_000)).message) == 2000


@pytest.mark.parametrize("word", ["x", "model ", "x.y ", "try again ", "'a' and ", "<script ", "[", "1 "])
def test_a_hostile_body_is_read_in_no_time(word: str) -> None:
    assert error(400, (word * 100_000).encode()).message
    assert error(400, openai(word * 100_000)).message


def test_a_body_nested_without_end_is_read_to_a_limit() -> None:
    body: Json = "deep"
    for _ in range(100):
        body = {"error": body}
    assert fault_of(body).message == ""


# --- which error it is -----------------------------------------------------------------------------

OVERFLOWS: list[tuple[int, Any]] = [
    (400, openai("anything", code="context_length_exceeded")),
    (500, openai("anything", code="context_length_exceeded")),
    # llama-server, llama-cpp-python, vLLM, SGLang, TGI, LM Studio, Ollama
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "request (4031 tokens) exceeds the available context size (2048 tokens)",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 4031,
                "n_ctx": 2048,
            }
        },
    ),
    (400, {"error": {"message": "request (9 tokens) exceeds the available context size (2 tokens)"}}),
    (400, openai("Requested tokens (4031) exceed context window of 2048")),
    (400, openai("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens")),
    (
        400,
        {"object": "error", "message": "The input (9 tokens) is longer than the model's context length (4)."},
    ),
    (422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"}),
    (
        400,
        {"error": "Trying to keep the first 9 tokens when context the overflows. The model"},
    ),
    (400, {"error": "prompt too long; exceeded max context length by 4 tokens"}),
    (500, {"error": "the prompt exceeds the context window"}),
    # OpenRouter, Groq, Cerebras, Mistral, DeepSeek, z.ai, Moonshot, xAI, DashScope, GitHub, Fireworks
    (400, openai("This endpoint's maximum context length is 8192 tokens. However, you requested about 9000")),
    (400, openai("Please reduce the length of the messages or completion.")),
    (
        400,
        openai(
            "Please reduce the length of the messages or completion. Current length is 9 while limit is 8"
        ),
    ),
    (
        400,
        {"message": "Prompt contains 9 tokens, too large for model with 8 maximum context length"},
    ),
    (400, openai("This model's maximum context length is 65536 tokens. However, you requested 70000 tokens")),
    (400, openai("Prompt exceeds max length", code="1261")),
    (400, openai("Your request exceeded model token limit: 262144")),
    (
        400,
        {
            "code": "x",
            "error": "This model's maximum prompt length is 131072 but the request contains 537812",
        },
    ),
    (400, openai("Range of input length should be [1, 30720]")),
    (400, openai("invalid params, context window exceeds limit (2013)")),
    (
        413,
        openai(
            "Request body too large for gpt-4o model. Max size: 8000 tokens.", code="tokens_limit_reached"
        ),
    ),
    (400, openai("The prompt is too long: 9, model maximum context length: 8")),
    (
        400,
        openai(
            "Your input exceeds the context window of this model. Please adjust your input and try again."
        ),
    ),
    (400, openai("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000")),
    (413, b"<html><title>413 Request Entity Too Large</title></html>"),
]
NOT_OVERFLOWS: list[tuple[int, Any]] = [
    (400, openai("max_tokens is too large: 100000. This model supports at most 16384 completion tokens")),
    (400, openai("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]")),
    (400, openai("Please provide more context")),
    (400, openai("messages: text content blocks must be non-empty")),
]


@pytest.mark.parametrize(("status", "body"), OVERFLOWS)
def test_an_overflow_is_known_by_code_and_by_phrase(status: int, body: Json) -> None:
    assert isinstance(error(status, body), ContextWindowError)


@pytest.mark.parametrize(("status", "body"), NOT_OVERFLOWS)
def test_other_bad_requests_are_no_overflow(status: int, body: Json) -> None:
    assert isinstance(error(status, body), BadRequestError)


KINDS: list[tuple[int, Any, type[ProviderError]]] = [
    # quota or rate limit
    (429, openai("You exceeded your current quota", kind="insufficient_quota"), QuotaError),
    (400, openai("anything", kind="insufficient_quota"), QuotaError),
    (429, openai("x", code="credit_balance_exhausted"), QuotaError),
    (429, openai("x", code="organization_spend_limit_exceeded"), QuotaError),
    (429, openai("x", code="project_spend_limit_exceeded"), QuotaError),
    (429, openai("x", code="organization_usage_limit_exceeded"), QuotaError),
    (402, openai("Insufficient Balance"), QuotaError),
    (402, openai("This request requires more credits, or fewer max_tokens."), QuotaError),
    (403, openai("Key limit exceeded (monthly limit)."), QuotaError),
    (
        403,
        {"error": "Your team has used all available credits or reached its monthly spending limit"},
        QuotaError,
    ),
    (429, openai("Insufficient balance or no resource package. Please recharge.", code="1113"), QuotaError),
    (429, openai("Usage limit reached for 5 hour", code="1308"), QuotaError),
    (429, openai("slow down", code="slow_down"), RateLimitError),
    (429, openai("Rate limit reached for gpt-4.1 on tokens per min", kind="tokens"), RateLimitError),
    (429, openai("Rate limit exceeded: free-models-per-day"), RateLimitError),
    (429, b"", RateLimitError),
    # the model
    (404, openai("The model `x` does not exist or you do not have access to it."), ModelNotFoundError),
    (
        400,
        openai("The requested model 'x' does not exist.", param="model", code="model_not_found"),
        ModelNotFoundError,
    ),
    (400, openai("x is not a valid model ID"), ModelNotFoundError),
    (400, openai("Model Not Exist"), ModelNotFoundError),
    (404, openai("No endpoints found for x/y."), ModelNotFoundError),
    (400, {"message": "Invalid model: x", "type": "invalid_model", "code": "1500"}, ModelNotFoundError),
    (400, openai("The model `x` has been decommissioned"), ModelNotFoundError),
    (400, openai("No models loaded. Please load a model"), ModelNotFoundError),
    (404, {"detail": "Not Found"}, BadRequestError),
    (405, {"detail": "Method Not Allowed"}, BadRequestError),
    # the key
    (401, openai("Incorrect API key provided"), AuthError),
    (403, {"error": "forbidden"}, AuthError),
    (403, b"<html><title>403 Forbidden</title></html>", AuthError),
    (400, {"code": "invalid argument", "error": "Incorrect API key provided: ab***cd."}, AuthError),
    # the content
    (400, openai("x", code="content_policy_violation"), RefusedError),
    (400, openai("The response was filtered due to Azure's content management policy"), RefusedError),
    (400, openai("Content Exists Risk"), RefusedError),
    (
        400,
        openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy"),
        RefusedError,
    ),
    (
        403,
        {"error": {"message": "requires moderation", "code": 403, "metadata": {"flagged_input": "x"}}},
        RefusedError,
    ),
    # the vendor
    (408, b"", ServerError),
    (409, b"", ServerError),
    (500, openai("boom", kind="server_error"), ServerError),
    (502, b"<html><title>502 Bad Gateway</title></html>", ServerError),
    (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, OverloadedError),
    (529, b"", OverloadedError),
    (498, b"", OverloadedError),
    (500, {"error": {"type": "overloaded_error", "message": "busy"}}, OverloadedError),
    (422, openai("bad field"), BadRequestError),
    (418, b"", BadRequestError),
]


@pytest.mark.parametrize(("status", "body", "kind"), KINDS)
def test_an_error_is_typed_by_code_status_and_phrase(
    status: int, body: Json, kind: type[ProviderError]
) -> None:
    assert type(error(status, body)) is kind


def test_a_rate_limit_that_must_not_be_retried_is_a_spent_quota() -> None:
    assert type(error(429, b"", x_should_retry="false")) is QuotaError
    assert type(error(429, b"", x_should_retry="true")) is RateLimitError


def test_a_wrong_address_says_where_to_look() -> None:
    assert "base_url" in error(404, {"detail": "Not Found"}).hint


def test_a_model_that_wants_the_other_api_says_so() -> None:
    said = "Function tools are not supported for x in /v1/chat/completions. Please use /v1/responses."
    assert "api: responses" in error(400, openai(said, kind="invalid_request_error")).hint


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (
            openai(
                "Unsupported parameter: 'max_tokens' is not supported with this model.", param="max_tokens"
            ),
            "max_tokens",
        ),
        (openai("Unsupported value: 'temperature' does not support 0.2 with this model."), "temperature"),
        (openai("x", param="reasoning_effort", code="unsupported_value"), "reasoning_effort"),
        (openai("Unrecognized request argument supplied: reasoning_effort"), "reasoning_effort"),
        (openai("Unknown parameter: 'foo'."), "foo"),
        (openai("property 'store' is unsupported"), "store"),
        (openai("`reasoning_effort` is not supported with this model"), "reasoning_effort"),
        (openai("Argument not supported on this model: stop"), "stop"),
        (openai("stream_options: Extra inputs are not permitted"), "stream_options"),
        (openai("Encrypted content is not supported with this model.", param="include"), "include"),
        (openai("unexpected keyword argument 'seed'"), "seed"),
        (openai("`temperature` and `top_p` cannot both be specified for this model."), "top_p"),
        # these name no parameter that could be dropped
        (openai("Invalid 'temperature': decimal below minimum value.", param="temperature"), ""),
        (openai("images are not supported"), ""),
        (openai("registry.ollama.ai/library/x does not support tools"), ""),
        (openai("Unsupported parameter: 'tools'"), ""),
        (openai("something else", param="messages"), ""),
    ],
)
def test_an_unsupported_parameter_is_named(body: Json, param: str) -> None:
    found = error(400, body)
    assert (type(found), found.param) == (BadRequestError, param)


# --- when to come back -----------------------------------------------------------------------------

DATE = "Sun, 22 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT", "date": DATE}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 09:00:00 GMT", "date": DATE}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-5"}, None),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "0"}, 360.0),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-remaining-tokens": "9"}, None),
        (
            {
                "x-ratelimit-reset-requests": "20ms",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "7.66s",
                "x-ratelimit-remaining-tokens": "0",
            },
            7.66,
        ),
        ({"x-ratelimit-reset": "1795341660000", "x-ratelimit-remaining": "0", "date": DATE}, 60.0),
        ({"x-ratelimit-reset": "1795341660", "x-ratelimit-remaining": "0", "date": DATE}, 60.0),
        (
            {
                "anthropic-ratelimit-requests-reset": "2026-11-22T10:00:05Z",
                "anthropic-ratelimit-requests-remaining": "0",
                "date": DATE,
            },
            5.0,
        ),
        ({}, None),
    ],
)
def test_the_wait_is_read_from_headers(headers: dict[str, str], wait: float | None) -> None:
    assert retry_after(headers) == pytest.approx(wait) if wait is not None else retry_after(headers) is None


def test_a_date_without_a_clock_beside_it_says_nothing() -> None:
    assert retry_after({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}) is None
    assert retry_after({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "4102444800"}) is None


@pytest.mark.parametrize(
    ("message", "wait"),
    [
        ("Please try again in 174ms. Visit", 0.174),
        ("Please try again in 7m12.5s.", 432.5),
        ("Please retry after 20 seconds", 20.0),
        ("retry in 2 minutes", 120.0),
        ("please try again later", None),
    ],
)
def test_the_wait_is_read_from_the_vendors_words(message: str, wait: float | None) -> None:
    found = error(429, openai(f"Rate limit reached. {message}")).retry_after
    assert found == pytest.approx(wait) if wait is not None else found is None


def test_googles_retry_info_is_a_wait_and_no_spent_quota() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}]
    body = {"error": {"code": 429, "message": "You exceeded your current quota", "details": details}}
    found = error(429, body)
    assert (type(found), found.retry_after) == (RateLimitError, 34.4)


def test_headers_win_over_words() -> None:
    assert error(429, openai("try again in 5s"), retry_after="9").retry_after == 9


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1h2m3s", 3723.0),
        ("1m30s", 90.0),
        ("20 milliseconds", 0.02),
        ("2 hours", 7200.0),
        ("x", None),
        ("inf", None),
    ],
)
def test_durations_are_read_in_every_spelling(text: str, value: float | None) -> None:
    assert seconds(text) == value


def test_an_error_inside_a_good_answer_is_typed_by_its_own_words() -> None:
    from electrictown.llm.wire.verdict import make_error

    def inside(body: Json) -> tuple[type[ProviderError], int]:
        found = make_error(200, {}, read_fault(json.dumps(body).encode()))
        return type(found), found.status

    assert inside(openai("x", code=502)) == (ServerError, 502)
    assert inside(openai("x", code=429)) == (RateLimitError, 429)
    assert inside(openai("x", kind="rate_limit_error")) == (RateLimitError, 200)
    assert inside(openai("x", kind="overloaded_error")) == (OverloadedError, 200)
    assert inside(openai("x", kind="authentication_error")) == (AuthError, 200)
    assert inside(openai("x", kind="invalid_request_error")) == (BadRequestError, 200)
    assert inside({"error": {"message": "x", "status_code": 400, "type": "y"}}) == (BadRequestError, 400)
    assert inside(openai("the prompt is too long")) == (ContextWindowError, 200)
    assert inside(openai("something broke")) == (ServerError, 200)
