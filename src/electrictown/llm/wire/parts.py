"""What the Anthropic, Gemini and Ollama wires share: reading objects, arguments, names, ids and schemas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from electrictown.llm.messages import Json, Message, ToolCall

__all__ = [
    "Numbered",
    "arguments_object",
    "as_list",
    "as_object",
    "as_objects",
    "call_names",
    "merged",
    "set_at_path",
    "strict_schema",
]

_decode = msgspec.json.Decoder().decode


def as_object(value: Json) -> dict[str, Json]:
    """`value` where it is an object, else an empty one."""
    return cast(dict[str, Json], value) if isinstance(value, dict) else {}


def as_list(value: Json) -> list[Json]:
    """`value` where it is a list, else an empty one."""
    return cast(list[Json], value) if isinstance(value, list) else []


def as_objects(value: Json) -> list[dict[str, Json]]:
    """The objects in `value` where it is a list, else nothing."""
    return [cast(dict[str, Json], item) for item in as_list(value) if isinstance(item, dict)]


def merged(body: dict[str, Json], options: Mapping[str, Json]) -> dict[str, Json]:
    """`body` with `options` laid over it; objects inside objects are merged, all else is replaced."""
    if not options:
        return body
    result = dict(body)
    for key, value in options.items():
        mine = result.get(key)
        if isinstance(mine, dict) and isinstance(value, dict):
            result[key] = merged(cast(dict[str, Json], mine), cast(dict[str, Json], value))
        else:
            result[key] = value
    return result


def arguments_object(arguments: str) -> Json:
    """A tool call's arguments for vendors that want an object: verbatim where they are one.

    What a model wrote badly is kept, under a key of its own, so that the model can see it.
    """
    if not arguments.strip():
        return {}
    try:
        value: Json = _decode(arguments)
    except msgspec.DecodeError:
        return {"invalid_arguments": arguments}
    return msgspec.Raw(arguments.encode()) if isinstance(value, dict) else {"value": value}


def call_names(messages: Iterable[Message]) -> dict[str, str]:
    """The name of each tool call by its id, for results that carry only the id."""
    return {p.id: p.name for m in messages for p in m.parts if isinstance(p, ToolCall)}


class Numbered:
    """Ids for tool calls of vendors that give none: `call_0`, `call_1` ... within one reply."""

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = 0

    def id(self, given: str | None) -> str:
        """`given`, or the id of the next number."""
        number = self._count
        self._count += 1
        return given or f"call_{number}"

    @staticmethod
    def made(call_id: str) -> bool:
        """Whether `call_id` is one of these, which the vendor never saw."""
        return call_id.startswith("call_") and call_id[5:].isdigit() and len(call_id) < 10


_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d{1,4})\]|\[(["'])(.*?)\3\]""")


def set_at_path(root: Json, path: str, value: Json) -> None:
    """Sets `value` in `root` at a JSON path (`$.a[0].b`), making what is missing on the way.

    Text that meets text is appended: so Gemini streams the arguments of a call. A path that contradicts
    what is there changes nothing.
    """
    steps: list[str | int] = [int(m[2]) if m[2] else (m[1] or m[4]) for m in _STEP.finditer(path)]
    for number, step in enumerate(steps):
        if not isinstance(root, list if isinstance(step, int) else dict):
            return
        box = cast(Any, root)
        if isinstance(step, int):
            box.extend([None] * (step + 1 - len(box)))
        held: Any = box[step] if isinstance(step, int) else box.get(step)
        if number == len(steps) - 1:
            box[step] = held + value if isinstance(held, str) and isinstance(value, str) else value
        elif held is None:
            box[step] = cast(Any, [] if isinstance(steps[number + 1], int) else {})
        root = box[step]


_LIMITS = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "uniqueItems",
        "minProperties",
        "maxProperties",
    }
)
_NAMED = frozenset({"properties", "$defs", "definitions"})


def strict_schema(schema: Mapping[str, Json]) -> dict[str, Json] | None:
    """`schema` as constrained decoding takes it: closed objects, no limits on size.

    None where it holds an object of free keys, which cannot be closed without emptying it.
    """
    try:
        return _strict(schema)
    except _OpenObjectError:
        return None


class _OpenObjectError(Exception):
    """The schema allows keys it does not name."""


def _strict(schema: Mapping[str, Json]) -> dict[str, Json]:
    result: dict[str, Json] = {}
    for key, value in schema.items():
        if key in _LIMITS:
            continue
        if key in _NAMED and isinstance(value, dict):
            named = cast(dict[str, Json], value)
            result[key] = {
                name: _strict(cast(dict[str, Json], s)) if isinstance(s, dict) else s
                for name, s in named.items()
            }
        elif key in ("enum", "const", "default", "required", "examples"):
            result[key] = value
        else:
            result["anyOf" if key == "oneOf" else key] = _nested(value)
    if result.get("type") == "object" or "properties" in result:
        if "properties" not in result or result.get("additionalProperties", False) not in (False, True):
            raise _OpenObjectError
        result["additionalProperties"] = False
    return result


def _nested(value: Json) -> Json:
    if isinstance(value, dict):
        return _strict(cast(dict[str, Json], value))
    if isinstance(value, list):
        return [_nested(item) for item in cast(list[Json], value)]
    return value
