"""The mappings of the file as structs, and what their annotations say of each key.

A field's annotation says it all: what may stand there, its bounds in a `Meta`, its meaning in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, TypeGuard, Union, get_args, get_origin

from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import fields

__all__ = ["Part", "Shape", "is_part", "keys_of", "shape_of"]


class Part(Struct, frozen=True):
    """A mapping of the file. A field that begins with an underscore is no key of it.

    Keys that no field has are kept in `_extra` where there is one, and wrong elsewhere.
    """

    bare: ClassVar[str] = ""
    """The key that a single value in the place of the mapping stands for."""

    unshown: ClassVar[frozenset[str]] = frozenset()
    """Keys whose values may be secrets: left out of what is printed."""

    def entries(self) -> dict[str, Any]:
        """Its keys with their values, those of `_extra` last."""
        return {name: getattr(self, name) for name in keys_of(type(self))} | getattr(self, "_extra", {})

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in keys_of(type(self)) if name not in self.unshown]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.__rich_repr__())})"


class Shape(Struct, frozen=True):
    """What may stand in one place; for a key, its default too (`...`: none, or one made anew each time)."""

    kind: Any
    optional: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    description: str = ""
    required: bool = False
    default: Any = ...


def _bounds(meta: Meta) -> dict[str, float]:
    return {name: limit for name in ("ge", "gt", "le") if (limit := getattr(meta, name)) is not None}


def shape_of(hint: Any, **known: Any) -> Shape:  # noqa: ANN401  (a type annotation has no type of its own)
    """The shape that the annotation `hint` spells."""
    while (origin := get_origin(hint)) in (Annotated, Union, UnionType):
        if origin is Annotated:
            hint, *metas = get_args(hint)
            for meta in metas:
                known |= {"description": meta} if isinstance(meta, str) else _bounds(meta)
        else:
            (hint,) = (choice for choice in get_args(hint) if choice is not NoneType)
            known["optional"] = True
    return Shape(hint, **known)


@cache
def keys_of(part: type[Part]) -> Mapping[str, Shape]:
    """The keys that the mapping `part` may have."""
    return {
        field.name: shape_of(
            field.type,
            required=field.required,
            default=... if field.default is NODEFAULT else field.default,
        )
        for field in fields(part)
        if not field.name.startswith("_")
    }


def is_part(kind: object) -> TypeGuard[type[Part]]:
    """Whether `kind` is a mapping with keys of its own."""
    return isinstance(kind, type) and issubclass(kind, Part)
