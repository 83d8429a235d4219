"""Where a configured value came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, field

if TYPE_CHECKING:
    from electrictown.config.schema import Config
    from electrictown.config.yaml_tree import Data, Key

__all__ = ["Origin", "Source", "origins"]


class Origin(Struct, frozen=True):
    """A value as it may be shown (secrets masked), and where it came from.

    `kind` is "file", "environment" or "default"; `where` says it for a person: "town.yaml:12",
    "$OPENAI_API_KEY (town.yaml:12)", "default".
    """

    value: Any
    kind: Literal["file", "environment", "default"]
    where: str


class Source(Struct):
    """What a file was beyond its values: text, environment, lines, variables used, what was filled in.

    `missing` are the variables that providers want and that are not set, `lacking` those of agents.
    """

    file: str = ""
    text: str = ""
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    lines: dict[Key, int] = field(default_factory=dict[Any, int])
    variables: dict[Key, str] = field(default_factory=dict[Any, str])
    filled: dict[Key, str] = field(default_factory=dict[Any, str])
    notes: list[str] = field(default_factory=list[str])
    missing: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


def origins(config: Config, source: Source) -> dict[str, Origin]:
    """Every value of `config` by its dotted name, with where it came from, in the order of the schema."""
    return dict(_walk(config, (), source))


def _walk(value: Data, at: Key, source: Source) -> Iterator[tuple[str, Origin]]:
    from electrictown.config.parts import Part
    from electrictown.config.yaml_tree import is_table

    if isinstance(value, Part):
        for name, entry in value.entries().items():
            yield from _walk(entry, (*at, name), source)
    elif is_table(value) and value:
        for name, entry in value.items():
            yield from _walk(entry, (*at, str(name)), source)
    else:
        yield ".".join(str(step) for step in at), _origin(value, at, source)


def _origin(value: Data, at: Key, source: Source) -> Origin:
    from electrictown.config.variables import sensitive
    from electrictown.redact import Secret, mask

    if isinstance(value, Secret):
        shown: Any = "***" if value else None
    elif isinstance(value, str):
        shown = "***" if value and any(sensitive(str(step)) for step in at[2:]) else mask(value)
    else:
        shown = [*value] if type(value) is tuple else value
    if at in source.filled:
        return Origin(shown, "file", source.filled[at])
    if at not in source.lines:
        return Origin(shown, "default", "default")
    place = f"{source.file}:{source.lines[at]}"
    if at in source.variables:
        return Origin(shown, "environment", f"{source.variables[at]} ({place})")
    return Origin(shown, "file", place)
