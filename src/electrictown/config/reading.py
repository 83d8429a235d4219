"""Plain data -> the structs of the schema; everything that is wrong is told, each with its line.

Whether a scalar is text, a number or a boolean is the field's to decide, quoted or not.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from electrictown.config.parts import Part, Shape, is_part, keys_of, shape_of
from electrictown.config.yaml_tree import Data, Key, Problem, as_json, is_list, is_table, line_of
from electrictown.redact import Hidden, Secret

__all__ = ["read", "suggest"]

_P = TypeVar("_P", bound=Part)


def suggest(name: str, known: Iterable[str]) -> str:
    """The remedy for a name that is not known: the nearest one, or all of them."""
    from difflib import get_close_matches

    names = [str(k) for k in known]
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "none is defined"


def read(part: type[_P], data: Data, lines: Mapping[Key, int], problems: list[Problem]) -> _P | None:
    """`data` as a `part`; None where it is none, and `problems` then says why, the values never shown."""
    reader = _Reader(lines)
    found = reader.part(part, data, ())
    problems += reader.problems
    return None if reader.problems else found


class _Reader:
    """Goes on after a problem, with None in the place of what is wrong."""

    def __init__(self, lines: Mapping[Key, int]) -> None:
        self.problems: list[Problem] = []
        self._lines = lines

    def part(self, part: type[_P], data: Data, at: Key) -> _P | None:
        if part.bare and isinstance(data, str):
            data = {part.bare: data}
        if not is_table(data):
            return self._wrong(at, _MAPPING)
        keys = keys_of(part)
        values: dict[str, Any] = {}
        for name, shape in keys.items():
            if name in data:
                values[name] = self._value(shape, data[name], (*at, name))
            elif shape.required:
                values[name] = None
                self._say(at, f"{_named(at)} has no {name}", f"add `{name}: ...` there")
        more = {str(name): value for name, value in data.items() if name not in keys}
        if "_extra" in part.__struct_fields__:
            values["_extra"] = more
        else:
            for name in more:
                what = f"unknown key {name!r} in {_named(at)}"
                self._say((*at, name), what, suggest(name, keys))
        return part(**values)

    def _value(self, shape: Shape, data: Data, at: Key) -> object:
        kind = shape.kind
        if is_part(kind):
            return self.part(kind, data, at)
        origin, inner = get_origin(kind), get_args(kind)
        if origin is dict:
            return self._table(inner[1], data, at)
        if origin is tuple:
            return self._list(inner[0], data, at)
        return self._choice(inner, data, at) if origin is Literal else self._scalar(shape, data, at)

    def _table(self, inner: Any, data: Data, at: Key) -> object:  # noqa: ANN401  (a type annotation)
        if not is_table(data):
            return self._wrong(at, _MAPPING)
        if inner is Any:
            return as_json(data)
        each = shape_of(inner)
        return {str(name): self._value(each, entry, (*at, name)) for name, entry in data.items()}

    def _list(self, inner: Any, data: Data, at: Key) -> object:  # noqa: ANN401  (a type annotation)
        if not is_list(data):
            return self._wrong(at, "a list, such as [one, two]")
        each = shape_of(inner)
        return tuple(self._value(each, item, (*at, i)) for i, item in enumerate(data))

    def _choice(self, choices: tuple[str, ...], data: Data, at: Key) -> object:
        if isinstance(data, str) and data in choices:
            return str(data)
        *most, last = map(repr, choices)
        known = f"one of: {', '.join(most)} or {last}"
        return self._say(at, f"{_named(at)} has a value that is not known", known)

    def _scalar(self, shape: Shape, data: Data, at: Key) -> object:
        reader, expected = _SCALARS[shape.kind]
        if not isinstance(data, str):
            return self._wrong(at, expected)
        try:
            value = reader(str(data))
        except ValueError as error:
            return self._wrong(at, str(error))
        for name, holds, word in _BOUNDS:
            limit = getattr(shape, name)
            if limit is not None and not holds(value, limit):
                return self._say(at, f"{_named(at)} is out of range", f"it should be {word} {limit:g}")
        return value

    def _wrong(self, at: Key, expected: str) -> None:
        self._say(at, f"{_named(at)} is of the wrong kind", f"it should be {expected}")

    def _say(self, at: Key, what: str, remedy: str) -> None:
        self.problems.append(Problem(line_of(at, self._lines), what, remedy))


def _named(at: Key) -> str:
    return ".".join(str(step) for step in at) or "the file"


_MAPPING = "a mapping of `name: value` lines"
_WHOLE = re.compile(r"([-+]?[0-9]+(?:_[0-9]+)*)(?:\.0+)?")
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "off", "0"})


def _whole(text: str) -> int:
    found = _WHOLE.fullmatch(text.strip())
    if found is None:
        raise ValueError("a whole number")
    try:
        return int(found[1])
    except ValueError:  # Python reads 4,300 digits
        raise ValueError("a smaller whole number") from None


def _number(text: str) -> float:
    try:
        value = float(text) if text.strip().isascii() else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("a number")
    return value


def _truth(text: str) -> bool:
    if text.lower() in _TRUE | _FALSE:
        return text.lower() in _TRUE
    raise ValueError("true or false")


_SCALARS: Mapping[type, tuple[Any, str]] = {
    str: (str, "text"),
    Secret: (Secret, "text"),
    Hidden: (Hidden, "text"),
    int: (_whole, "a whole number"),
    float: (_number, "a number"),
    bool: (_truth, "true or false"),
}
_BOUNDS = (
    ("le", operator.le, "at most"),
    ("ge", operator.ge, "at least"),
    ("gt", operator.gt, "more than"),
)
