"""Values as the JSON that is kept: without secrets, and valid whatever a model wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec

from electrictown.errors import JournalError
from electrictown.redact import mask

__all__ = ["to_json"]


def to_json(value: object) -> bytes:
    """`value` as JSON, every known secret in it replaced by `***`.

    Strings are masked one by one where the text as a whole holds a secret: to replace in the text itself
    could break it. Half a surrogate pair, which no UTF-8 can hold, becomes a question mark.

    Raises:
        JournalError: when it is nothing that JSON can hold.
    """
    try:
        try:
            raw = msgspec.json.encode(value)
        except UnicodeEncodeError:
            raw = msgspec.json.encode(_each_string(msgspec.to_builtins(value), _whole))
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(
            f"a value of type {type(value).__name__} cannot be kept in the journal: {error}",
            "what is recorded must be plain data that JSON can hold",
        ) from error
    text = raw.decode()
    if mask(text) == text:
        return raw
    return msgspec.json.encode(_each_string(msgspec.json.decode(raw), mask))


def _whole(text: str) -> str:
    return text.encode(errors="replace").decode()


def _each_string(value: object, change: Callable[[str], str]) -> object:
    match value:
        case str():
            return change(value)
        case list() | tuple():
            return [_each_string(item, change) for item in cast("list[object]", value)]
        case dict():
            items = cast("dict[object, object]", value).items()
            return {_each_string(key, change): _each_string(item, change) for key, item in items}
        case _:
            return value
