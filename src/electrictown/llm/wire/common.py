"""What the wires share: tolerant readers of JSON values, usage, and when to come back.

Error bodies are read in `faults` and typed in `verdict`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_origin

import msgspec
from msgspec import Struct

from electrictown.errors import BadReplyError, IncompleteReplyError
from electrictown.llm.billing import plausible
from electrictown.llm.messages import Json, Usage
from electrictown.redact import mask

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "as_int",
    "as_text",
    "disjoint_usage",
    "encode_json",
    "excerpt",
    "json_or_text",
    "parse_json",
    "read_leniently",
    "read_struct",
    "retry_after",
    "seconds",
]

T = TypeVar("T", bound=Struct)

encode_json = msgspec.json.Encoder().encode
"""Any value of ours or of JSON as compact JSON bytes."""

_decode = msgspec.json.Decoder().decode


def parse_json(body: bytes | str) -> Json:
    """`body` as JSON.

    Raises:
        BadReplyError: when it is not JSON; the message quotes its beginning.
        IncompleteReplyError: when it is JSON that was cut.
    """
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        if body and "truncated" in str(error):
            raise IncompleteReplyError("the reply was cut in the middle of an event") from error
        raise BadReplyError(f"the reply is not JSON: {excerpt(body) or '(empty)'}") from error
    except RecursionError as error:
        raise BadReplyError("the reply is JSON nested without end") from error


def read_struct(decode: Callable[[bytes], T], kind: type[T], payload: bytes) -> T:
    """`payload` as `kind` by its prebuilt decoder, and leniently where that refuses it.

    Raises:
        BadReplyError: when it is no JSON object.
        IncompleteReplyError: when it is JSON that was cut.
    """
    try:
        return decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return read_leniently(kind, parse_json(payload))


def json_or_text(text: str) -> Json:
    """`text` as JSON where it is JSON, else itself."""
    try:
        return _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def read_leniently(kind: type[T], value: Json) -> T:
    """`value` as `kind`, field by field: what has another type is converted or, failing that, left out.

    The second chance of a reply that a strict decoder refused: vendors send counts as text, objects
    where text belongs, null where nothing may be.

    Raises:
        BadReplyError: when `value` is no JSON object.
    """
    if not isinstance(value, dict):
        raise BadReplyError(f"the reply is not the protocol's: {excerpt(encode_json(value))}")
    found = cast(dict[str, Json], value)
    known: dict[str, Any] = {}
    for item in msgspec.structs.fields(kind):
        if item.encode_name in found:
            try:
                known[item.name] = _read_as(item.type, found[item.encode_name])
            except (msgspec.ValidationError, BadReplyError):
                continue
    return kind(**known)


def _read_as(kind: object, value: Json) -> Json:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        for choice in get_args(kind):  # the members of a union
            if isinstance(choice, type) and issubclass(choice, Struct) and isinstance(value, dict):
                return read_leniently(choice, value)
            if get_origin(choice) is list and isinstance(value, list):
                return _read_items(get_args(choice)[0], cast(list[Json], value))
            if choice is str and type(value) is int:  # ids that are numbers
                return str(value)
        raise


def _read_items(kind: type, values: list[Json]) -> list[Json]:
    """The items of a list that can be read as `kind`; one bad item does not spoil the others."""
    items: list[Json] = []
    for value in values:
        try:
            items.append(_read_as(kind | None, value))
        except (msgspec.ValidationError, BadReplyError):
            continue
    return [item for item in items if item is not None]


def excerpt(body: bytes | str, limit: int = 200) -> str:
    """The beginning of `body` as one line of text, secrets masked, for error messages."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    line = " ".join(text[: limit * 4].split())
    return mask(line if len(line) <= limit else line[:limit] + "...")


def as_int(value: Json) -> int:
    """A count a vendor sent as number, float, text or null; 0 for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, bool):
        return 0
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        return 0


def as_text(value: Json) -> str:
    """Text as it is, None as "", any other JSON value as JSON text (tool arguments sent as objects)."""
    if isinstance(value, str):
        return value
    return "" if value is None else encode_json(value).decode()


def disjoint_usage(
    *,
    prompt: int,
    output: int,
    cache_read: int = 0,
    cache_write: int = 0,
    reasoning: int = 0,
    cost_usd: float | None = None,
) -> Usage | None:
    """Usage from a vendor whose prompt count includes what came from, or went into, its cache.

    None where a count is nonsense.
    """
    usage = Usage(
        input=prompt if prompt < 0 else max(prompt - cache_read - cache_write, 0),
        cache_read=cache_read,
        cache_write=cache_write,
        output=output,
        reasoning=reasoning,
        cost_usd=cost_usd,
    )
    return plausible(usage)


_DURATION = re.compile(
    r"(\d+(?:\.\d+)?)\s*(ms|milliseconds?|h|hours?|m|min|minutes?|s|sec|seconds?)(?![a-z])", re.I
)
_PER_SECOND = {"ms": 1000.0, "mi": 1 / 60, "h": 1 / 3600, "m": 1 / 60, "s": 1.0}
_TRY_AGAIN = re.compile(
    r"(?:try again|retry|wait|available|resets?)[^.\n]{0,30}?\s(?:in|after|for)\s+"
    r"((?:\d+(?:\.\d+)?\s*(?:ms|milliseconds?|hours?|minutes?|min|seconds?|sec|h|m|s)\s*)+)",
    re.I,
)
_EPOCH = 1_000_000_000.0


def seconds(text: str) -> float | None:
    """A duration such as `34.4s`, `6m0s`, `174ms`, `20 seconds` or `7` in seconds; None if it is none."""
    text = text.strip()
    if not text:
        return None
    try:
        plain = float(text)
    except ValueError:
        found = _DURATION.findall(text)
        return sum(float(n) / _per_second(u) for n, u in found) if found else None
    return plain if math.isfinite(plain) and plain >= 0 else None


def _per_second(word: str) -> float:
    word = word.lower().replace("milli", "m")
    return _PER_SECOND.get(word[:2], _PER_SECOND[word[0]])


def retry_after(headers: Mapping[str, str], message: str = "", *, busy: bool = False) -> float | None:
    """How many seconds the vendor asks to wait, None where it does not say.

    In this order: `retry-after-ms`, `retry-after` (seconds or a date), the reset of whichever
    `x-ratelimit-*` allowance is used up, and a sentence like "try again in 174ms" in `message`.
    `busy`: an allowance must be used up, so one that tells only its reset is.
    """
    if (ms := seconds(headers.get("retry-after-ms", ""))) is not None:
        return ms / 1000
    if value := headers.get("retry-after", "").strip():
        plain = seconds(value) if value[0].isdigit() else None
        if plain is not None:
            return plain
        if (moment := _http_date(value) or _iso_date(value)) is not None:
            return _until(moment, headers)
    if (reset := _allowance_reset(headers, busy=busy)) is not None:
        return reset
    said = _TRY_AGAIN.search(message)
    return seconds(said.group(1)) if said else None


def _allowance_reset(headers: Mapping[str, str], *, busy: bool) -> float | None:
    waits: list[float] = []
    for name, value in headers.items():
        if "ratelimit" not in name or "reset" not in name:
            continue
        left = headers.get(name.replace("reset", "remaining"), "0" if busy else "")
        if seconds(left) != 0:
            continue
        wait = seconds(value) if "T" not in value else None
        if wait is None:
            moment = _iso_date(value)
            wait = None if moment is None else _until(moment, headers)
        elif wait > _EPOCH:  # a moment, in seconds or (OpenRouter) in milliseconds
            wait = _until(wait / 1000 if wait > _EPOCH * 100 else wait, headers)
        if wait is not None:
            waits.append(wait)
    return max(waits, default=None)


def _http_date(value: str) -> float | None:
    from email.utils import parsedate_to_datetime

    try:
        return _timestamp(parsedate_to_datetime(value))
    except (TypeError, ValueError, OverflowError):
        return None


def _iso_date(value: str) -> float | None:
    from datetime import datetime

    try:
        return _timestamp(datetime.fromisoformat(value.strip()))
    except (ValueError, OverflowError):
        return None


def _timestamp(moment: datetime) -> float:
    from datetime import UTC

    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _until(moment: float, headers: Mapping[str, str]) -> float | None:
    """Seconds until `moment` by the `date` of the answer: the vendor's clock, or our endpoint's.

    A wire has no clock of its own: ours may differ from the vendor's, and a recorded exchange stays true.
    """
    now = _http_date(headers.get("date", ""))
    return None if now is None else max(0.0, moment - now)
