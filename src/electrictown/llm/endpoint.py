"""The built-in provider types of the network: their addresses, their credentials, their wires."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from electrictown.errors import AuthError, ConfigError
from electrictown.llm.hosts import DEFAULT_URLS
from electrictown.llm.http_provider import HttpProvider
from electrictown.llm.provider import ProviderSettings
from electrictown.llm.wire.base import Wire
from electrictown.redact import Secret

__all__ = ["anthropic", "gemini", "lmstudio", "ollama", "openai"]

# Hosts that serve the OpenAI API without a version in the path.
# Source: https://docs.perplexity.ai/api-reference/chat-completions-post
_UNVERSIONED = frozenset({"api.perplexity.ai"})


def openai(settings: ProviderSettings) -> HttpProvider:
    """OpenAI and every compatible server; `api: responses` speaks the responses API."""
    return _openai(settings, DEFAULT_URLS["openai"])


def lmstudio(settings: ProviderSettings) -> HttpProvider:
    """LM Studio: the OpenAI API on this machine."""
    return _openai(settings, DEFAULT_URLS["lmstudio"])


def _openai(settings: ProviderSettings, default: str) -> HttpProvider:
    url, login = _address(settings, default)
    path = _without(url.path, "/chat/completions", "/responses", "/models")
    if not path and url.hostname not in _UNVERSIONED:
        path = "/v1"
    if settings.api == "responses":
        from electrictown.llm.wire.responses import ResponsesWire

        wire: Wire = ResponsesWire(origin=settings.name)
    else:
        from electrictown.llm.wire.openai import OpenAIWire

        wire = OpenAIWire(origin=settings.name)

    def credentials() -> Mapping[str, str]:
        organization = {"openai-organization": settings.org} if settings.org else {}
        return {**_basic(settings, login), **_bearer(settings), **organization}

    return HttpProvider(settings, wire, urlunsplit(url._replace(path=path)), credentials)


def anthropic(settings: ProviderSettings) -> HttpProvider:
    """Anthropic."""
    from electrictown.llm.wire.anthropic import AnthropicWire

    url, login = _address(settings, DEFAULT_URLS["anthropic"])
    path = _without(url.path, "/messages", "/v1")
    return HttpProvider(
        settings,
        AnthropicWire(origin=settings.name),
        urlunsplit(url._replace(path=path)),
        lambda: {**_basic(settings, login), **_key(settings, "x-api-key")},
    )


def gemini(settings: ProviderSettings) -> HttpProvider:
    """Google Gemini; the key goes in a header, never in the URL."""
    from electrictown.llm.wire.gemini import GeminiWire

    url, login = _address(settings, DEFAULT_URLS["gemini"])
    path = _without(url.path, "/models", "/v1beta", "/v1")
    return HttpProvider(
        settings,
        GeminiWire(origin=settings.name),
        urlunsplit(url._replace(path=path)),
        lambda: {**_basic(settings, login), **_key(settings, "x-goog-api-key")},
    )


def ollama(settings: ProviderSettings) -> HttpProvider:
    """Ollama: this machine's, one behind a proxy, or the cloud; `auth_type` is bearer, basic or none."""
    from electrictown.llm.ollama_provider import OllamaProvider

    url, login = _address(settings, DEFAULT_URLS["ollama"])
    # The cloud answers at ollama.com/api. Source: https://docs.ollama.com/cloud
    host = "ollama.com" if url.hostname == "api.ollama.com" else url.netloc
    path = _without(url.path, "/chat", "/api", "/v1")

    def credentials() -> Mapping[str, str]:
        match settings.auth_type:
            case "none":
                return {}
            case "basic":
                return _basic(settings, settings.api_key)
            case _:
                return {**_basic(settings, login), **_bearer(settings)}

    return OllamaProvider(settings, urlunsplit(url._replace(netloc=host, path=path)), credentials)


# --- addresses


def _address(settings: ProviderSettings, default: str) -> tuple[SplitResult, Secret]:
    """The base URL, without the user and password in it, and those.

    Raises:
        ConfigError: when the base URL is none.
    """
    written = settings.base_url.strip() or default
    if "://" not in written:
        written = f"{urlsplit(default).scheme}://{written}"
    try:
        url = urlsplit(written)
        sound = bool(url.hostname) and url.scheme in {"http", "https"} and url.port != 0
    except ValueError:
        sound = False
        url = urlsplit(default)
    if not sound:
        raise ConfigError(
            f"provider {settings.name!r}: base_url is not an http:// or https:// address",
            f"for example {default}",
        )
    userinfo, _, netloc = url.netloc.rpartition("@")
    return url._replace(netloc=netloc, path=url.path.rstrip("/"), fragment=""), Secret(unquote(userinfo))


def _without(path: str, *ends: str) -> str:
    """`path` without what the wire's own paths begin with, if somebody wrote it."""
    for end in ends:
        path = path.removesuffix(end).rstrip("/")
    return path


# --- credentials


def _key(settings: ProviderSettings, header: str, prefix: str = "") -> dict[str, str]:
    key = settings.api_key.reveal().strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()):
        raise AuthError(
            "the key holds characters that no key has",
            f"look at {settings.api_key_source or 'api_key'}: a line break, a quotation mark?",
            provider=settings.name,
        )
    return {header: prefix + key}


def _bearer(settings: ProviderSettings) -> dict[str, str]:
    return _key(settings, "authorization", "Bearer ")


def _basic(settings: ProviderSettings, login: Secret) -> dict[str, str]:
    """HTTP basic authentication from `user:password` (RFC 7617)."""
    pair = login.reveal().strip()
    if not pair:
        return {}
    if ":" not in pair:
        raise AuthError(
            f"provider {settings.name!r}: basic authentication needs user:password",
            f"look at {settings.api_key_source or 'api_key'}: it holds no colon",
            provider=settings.name,
        )
    return {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
