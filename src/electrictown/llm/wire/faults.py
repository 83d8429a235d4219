"""Reading a vendor's error body: the same few facts, in whatever shape they come."""

from __future__ import annotations

import re
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from electrictown.llm.messages import Json
from electrictown.llm.wire.common import as_int, excerpt, json_or_text, seconds

__all__ = ["Fault", "fault_of", "read_fault"]


class Fault(Struct, frozen=True):
    """What an error body says, whatever its shape.

    `codes` are all its machine-readable words (code, type, status, reason), lower case, outermost
    first; `code` is the first of them as the vendor wrote it. `param` is the vendor's own, or the place
    a validator names. `status` is an HTTP status named inside the body (0: none). `retry_after` comes
    from a google.rpc.RetryInfo, `headers` are those an upstream sent (OpenRouter), in lower case.
    """

    message: str = ""
    code: str = ""
    codes: tuple[str, ...] = ()
    param: str = ""
    status: int = 0
    request_id: str = ""
    retry_after: float | None = None
    headers: dict[str, str] = {}


def read_fault(body: bytes) -> Fault:
    """The facts in an error body: JSON of any known shape, one SSE event, HTML, plain text, or nothing."""
    text = body.decode("utf-8", "replace").strip()
    value = json_or_text(text)
    if isinstance(value, str) and (framed := _EVENT.search(text)):
        # A stream that fails at once may frame its error as an event in spite of the status.
        value = json_or_text(framed.group(1))
    fault = fault_of(value)
    # Words of no known shape are better than none.
    return fault if fault.message or not value else replace(fault, message=excerpt(text))


_EVENT = re.compile(r"^data:[ ]?(\{.*\})\s*$", re.M)


def fault_of(value: Json) -> Fault:
    """The facts in an error that is already decoded: an object, a list of them, or a bare string."""
    reader = _Reader()
    reader.read(value, 0)
    # Of two texts that repeat each other the longer one says it all.
    texts = list(dict.fromkeys(reader.texts))
    kept = [t for t in texts if not any(t != other and t in other for other in texts)]
    return Fault(
        message=": ".join(kept),
        code=reader.words[0] if reader.words else "",
        codes=tuple(word.lower() for word in reader.words),
        param=reader.param,
        status=reader.status,
        request_id=reader.request_id,
        retry_after=reader.retry_after,
        headers=reader.headers,
    )


# Read in this order: the message of a level stands before what is nested below it.
_TEXTS = (
    *("message", "Message", "msg", "title", "error", "errors", "error_message", "errorMessage", "detail"),
    *("details", "response", "raw", "metadata", "base_resp", "status_msg"),
)
_WORDS = ("code", "type", "__type", "status", "status_code", "reason", "error_type", "error_code")
_DEPTH = 8


class _Reader:
    """Walks an error body and collects what it finds."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.words: list[str] = []
        self.param = ""
        self.status = 0
        self.request_id = ""
        self.retry_after: float | None = None
        self.headers: dict[str, str] = {}

    def read(self, value: Json, depth: int) -> None:
        if depth > _DEPTH:
            return
        if isinstance(value, str):
            self._text(value, depth)
        elif isinstance(value, list):
            for item in cast(list[Json], value):
                self.read(item, depth + 1)
        elif isinstance(value, dict):
            self._object(cast(dict[str, Json], value), depth)

    def _text(self, text: str, depth: int) -> None:
        text = text.strip()
        if text[:1] in ("{", "["):  # an upstream's whole body, quoted (OpenRouter's raw, Gemini's message)
            before = len(self.texts)
            self.read(inner if not isinstance(inner := json_or_text(text), str) else None, depth + 1)
            if len(self.texts) > before:
                return
        if text:
            self.texts.append(_plain(text))

    def _object(self, found: dict[str, Json], depth: int) -> None:
        for key in _WORDS:
            self._word(key, found.get(key))
        self.param = self.param or _string(found.get("param"))
        self.request_id = self.request_id or _string(found.get("request_id"))
        if _string(found.get("@type")).endswith("google.rpc.RetryInfo"):
            self.retry_after = seconds(_string(found.get("retryDelay")))
        if isinstance(headers := found.get("headers"), dict):
            told = cast(dict[str, Json], headers).items()
            self.headers |= {name.lower(): v for name, v in told if isinstance(v, str)}
        if found.get("flagged_input"):  # OpenRouter's moderation
            self.words.append("content_filter")
        if isinstance(found.get("loc"), list):
            self._validation(found)
            return
        for key in _TEXTS:
            self.read(found.get(key), depth + 1)

    def _word(self, key: str, word: Json) -> None:
        if isinstance(word, int | float) or (isinstance(word, str) and word.isdigit()):
            if 400 <= as_int(word) < 600:
                self.status = self.status or as_int(word)
            elif key == "code":
                self.words.append(str(word))
        elif isinstance(word, str) and word and word != "error":
            self.words.append(word)

    def _validation(self, found: dict[str, Json]) -> None:
        # FastAPI and pydantic servers: {"loc": ["body", "top_k"], "msg": "...", "type": "extra_forbidden"}
        where = [str(part) for part in found["loc"] if part != "body"]
        text = _string(found.get("msg"))
        self.texts.append(f"{'.'.join(where)}: {text}" if where else text)
        if where:
            self.param = self.param or where[0]


def _string(value: Json) -> str:
    return value if isinstance(value, str) else ""


_PAGE = 5_000  # characters of a web page that are worth reading
_HTML = re.compile(r"\s*<(?:!doctype|html|head|body|\?xml|h\d|center)", re.I)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.I | re.S)
_NOT_TEXT = re.compile(r"<(script|style)\b.*?</\1>|<[^>]+>", re.I | re.S)


def _plain(text: str) -> str:
    """A sentence out of HTML; other text as it is."""
    if not _HTML.match(text):
        return text
    from html import unescape

    text = text[:_PAGE]
    title = _TITLE.search(text)
    return " ".join(unescape(title.group(1) if title else _NOT_TEXT.sub(" ", text)).split())[:300]
