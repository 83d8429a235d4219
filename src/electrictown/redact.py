"""Secrets: a value that cannot be printed by accident, and the mask that catches what others echo.

`Secret` hides its value from repr, str, format, pickle and msgspec. Every secret made is remembered
for the life of the process, so that `mask` can blot it out of text that came from elsewhere: a
vendor's error that repeats the key, a URL with credentials, a model that was shown one.
"""

from __future__ import annotations

import base64
import json
import re
from typing import NoReturn

__all__ = ["Hidden", "Secret", "mask"]

_MASK = "***"
_SHORTEST = 6
_WORDS = frozenset({"ollama", "openai", "anthropic", "gemini"})
"""What servers that want any key at all are given: no secret, and words that messages and files need."""
_known: list[str] = []
"""Every secret made so far, the longest first: one may be the beginning of another."""

_userinfo = re.compile(
    r"(?<=://)[^/\s:@]+:[^/\s@]*(?=@)"
    # A name alone may be a token; the user of a database is none, and a command without it is no use.
    r"|(?<=://)(?<!postgres://)(?<!postgresql://)[^/\s:@]+(?=@)"
)

_unended_userinfo = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:/(?:/[^/\s@]*)?)?\Z")
_LONGEST_USERINFO = 256


def _remember(value: str) -> None:
    in_json = json.dumps(value, ensure_ascii=False)[1:-1]
    for form in {value, in_json}.difference(_known):
        _known.append(form)
    _known.sort(key=len, reverse=True)


class Secret:
    """A credential; `reveal()` is the one way to its value."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        # Very short values would blot out ordinary words.
        if len(value) >= _SHORTEST and value not in _WORDS:
            _remember(value)
            _remember(base64.b64encode(value.encode()).decode())
            user, colon, password = value.partition(":")
            if colon and user and len(password) >= _SHORTEST:
                _remember(password)

    def reveal(self) -> str:
        """The value itself, for the one header it belongs in."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(***)" if self._value else "Secret()"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not serialised")


class Hidden(Secret):
    """A value that is not shown either, but may be an ordinary word: `mask` leaves it alone."""

    __slots__ = ()

    def __init__(self, value: str) -> None:  # pyright: ignore[reportMissingSuperCall]  (it would be remembered)
        self._value = value


def mask(text: str) -> str:
    """`text` with every known secret and every URL credential replaced by `***`."""
    for value in _known:
        if value in text:
            text = text.replace(value, _MASK)
    return _userinfo.sub(_MASK, text) if "://" in text and "@" in text else text


def settled(text: str) -> int:
    """How many characters of `text` can be masked by themselves.

    What follows them may be the beginning of a secret, and waits for the text that comes next.
    """
    end = len(text)
    for value in _known:
        at = text.find(value[0], max(0, len(text) - len(value) + 1))
        while at >= 0 and not value.startswith(text[at:]):
            at = text.find(value[0], at + 1)
        end = min(end, at) if at >= 0 else end
    if found := _unended_userinfo.search(text, max(0, len(text) - _LONGEST_USERINFO)):
        end = min(end, found.start())
    while (before := _uncut(text, end)) < end:
        end = before
    return end


def _uncut(text: str, end: int) -> int:
    """`end`, or where a secret begins that it would cut through."""
    for value in _known:
        at = text.rfind(value, 0, end + len(value) - 1)
        if 0 <= at < end < at + len(value):
            return at
    return end
