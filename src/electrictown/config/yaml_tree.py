"""YAML text to plain data that remembers its lines; every oddity of YAML is dealt with here.

Built from the parser's events, not with PyYAML's composer: that one recurses in C, and a file of a
few thousand brackets ends the process. Nothing is constructed from tags, so nothing can be run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeGuard

import yaml
from yaml.events import (
    AliasEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

__all__ = [
    "Data",
    "Key",
    "Plain",
    "Problem",
    "Tree",
    "as_json",
    "is_list",
    "is_table",
    "line_of",
    "read_yaml",
]

Data: TypeAlias = Any
"""What YAML holds, not yet checked: tables, lists, text and None."""

Key: TypeAlias = tuple[str | int, ...]
"""Where a value stands: ("providers", "openai", "base_url")."""

_DEPTH = 40  # deeper than any configuration; guards every recursion after this one
_VALUES = 20_000  # what a file may grow to when its aliases are written out
_TAGS = {
    None,
    "!",
    *(f"tag:yaml.org,2002:{t}" for t in ("str", "int", "float", "bool", "null", "map", "seq")),
}
_NULLS = {"", "~", "null", "Null", "NULL"}
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class Plain(str):
    """A scalar written without quotes: text, or a number or boolean, as its reader wants it.

    The Go original reads `model: 4.10` as the text "4.10"; the type is the field's to decide.
    """

    __slots__ = ()


class Problem(NamedTuple):
    """One finding: the line (0: the file as a whole), what is wrong, and what to do about it."""

    line: int
    what: str
    remedy: str


class Tree(NamedTuple):
    """The data, the line of each of its values, what is worth a note, and where in the text each scalar
    stands, from its first character to behind its last.
    """

    data: Any
    lines: dict[Key, int]
    notes: list[str]
    spans: dict[Key, tuple[int, int]]


class _Node:
    """A value and the line it begins on; a scalar's span."""

    __slots__ = ("line", "span", "value")

    def __init__(self, value: Data, line: int, span: tuple[int, int] | None = None) -> None:
        self.value = value
        self.line = line
        self.span = span


class _Stop(Exception):
    """Reading cannot go on; carries the problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.what)
        self.problem = problem


def read_yaml(text: str, problems: list[Problem]) -> Tree:
    """The first document of `text`; what is wrong with it is appended to `problems`."""
    reader = _Reader(text, problems)
    lines: dict[Key, int] = {}
    spans: dict[Key, tuple[int, int]] = {}
    try:
        root = reader.document()
        data = _Expander(lines, spans).expand(root, ()) if root else None
    except _Stop as stop:
        problems.append(stop.problem)
        data = None
    return Tree(data, lines, reader.notes, spans)


def is_table(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether `value` is a mapping; its keys are text, or reading it would have said so."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether `value` is a list."""
    return isinstance(value, list)


def line_of(at: Key, lines: Mapping[Key, int]) -> int:
    """The line of the value at `at`, or of the nearest mapping around it that is in the file; else 0."""
    while at and at not in lines:
        at = at[:-1]
    return lines.get(at, 0)


def as_json(value: Data) -> Data:
    """`value` with its unquoted scalars as the numbers, booleans and nulls they spell in JSON."""
    if isinstance(value, Plain):
        if value in {"true", "True", "TRUE"}:
            return True
        if value in {"false", "False", "FALSE"}:
            return False
        if _INTEGER.fullmatch(value) and len(value) < 20:
            return int(value)
        return float(value) if _NUMBER.fullmatch(value) else str(value)
    if is_table(value):
        return {str(name): as_json(entry) for name, entry in value.items()}
    return [as_json(entry) for entry in value] if is_list(value) else value


class _Reader:
    """Turns the events of the first document into nodes."""

    def __init__(self, text: str, problems: list[Problem]) -> None:
        self.notes: list[str] = []
        self._text = text
        self._problems = problems
        self._anchors: dict[str, _Node] = {}
        self._events = self._parse()

    def document(self) -> _Node | None:
        """The root node, None for a file without one."""
        root: _Node | None = None
        for event in self._events:
            if isinstance(event, ScalarEvent | AliasEvent | SequenceStartEvent | MappingStartEvent):
                if root:
                    self.notes.append(
                        f"line {_line(event)}: only the first YAML document of the file is read"
                    )
                    break
                root = self._node(event, 0)
            elif isinstance(event, StreamEndEvent):
                break
        return root

    def _parse(self) -> Iterator[Event]:
        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            parser: Any = loader(self._text)
            while parser.check_event():
                yield parser.get_event()
        except (yaml.YAMLError, UnicodeError) as error:
            raise _Stop(self._explain(error)) from None

    def _explain(self, error: Exception) -> Problem:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        if mark is None:
            position = getattr(error, "position", 0)
            line = self._text.count("\n", 0, position if isinstance(position, int) else 0) + 1
            return Problem(line, "the text holds a character that YAML does not allow", "remove it")
        said = str(getattr(error, "problem", "") or "not valid YAML")
        lines = self._text.splitlines()
        near = "\n".join(lines[max(0, mark.line - 1) : mark.line + 1])
        if re.search(r"^ *\t", near, re.MULTILINE):
            remedy = "a tab indents this line: YAML wants spaces"
        elif "mapping values" in said:
            remedy = "put text that holds ': ' in quotes, and check the indentation"
        elif "alias" in said:
            remedy = "define the anchor (&name) before the line that uses it (*name)"
        else:
            remedy = "check indentation, quotes and brackets here and on the line above"
        return Problem(mark.line + 1, f"not valid YAML at column {mark.column + 1}: {said}", remedy)

    def _node(self, event: Event, depth: int) -> _Node:
        line = _line(event)
        if depth > _DEPTH:
            raise _Stop(Problem(line, f"nested more than {_DEPTH} levels deep", "a configuration needs four"))
        if isinstance(event, AliasEvent):
            known = self._anchors.get(event.anchor)
            if known is None:
                what = f"the alias *{event.anchor} has no anchor before it"
                raise _Stop(Problem(line, what, f"define &{event.anchor} on an earlier value"))
            return known
        tag: str | None = getattr(event, "tag", None)
        if tag not in _TAGS:
            self._problems.append(Problem(line, f"the YAML tag {tag!r} is not understood", "remove the tag"))
        if isinstance(event, ScalarEvent):
            node = _Node(_scalar(event), line, (event.start_mark.index, event.end_mark.index))
        elif isinstance(event, SequenceStartEvent):
            node = _Node(self._sequence(depth), line)
        else:
            node = _Node(self._mapping(depth), line)
        anchor: str | None = getattr(event, "anchor", None)
        if anchor:
            self._anchors[anchor] = node
        return node

    def _sequence(self, depth: int) -> list[_Node]:
        items: list[_Node] = []
        for event in self._events:
            if isinstance(event, SequenceEndEvent):
                break
            items.append(self._node(event, depth + 1))
        return items

    def _mapping(self, depth: int) -> dict[str, tuple[int, _Node]]:
        own: dict[str, tuple[int, _Node]] = {}
        merged: list[_Node] = []
        for event in self._events:
            if isinstance(event, MappingEndEvent):
                break
            line = _line(event)
            key = self._node(event, depth + 1).value
            value = self._node(next(self._events), depth + 1)
            if not isinstance(key, str) or not key:
                self._problems.append(Problem(line, "a key is not text", "write it as `name: value`"))
            elif key == "<<" and isinstance(key, Plain):
                merged.append(value)
            elif key in own:
                what = f"the key {key!r} is given twice, first on line {own[key][0]}"
                self._problems.append(Problem(line, what, "keep one of the two"))
            else:
                own[key] = (line, value)
        for node in merged:
            self._merge(node, own)
        return own

    def _merge(self, node: _Node, into: dict[str, tuple[int, _Node]]) -> None:
        """`<<`: what the merged mappings hold and `into` does not."""
        for source in node.value if is_list(node.value) else [node]:
            if is_table(source.value):
                into.update({name: entry for name, entry in source.value.items() if name not in into})
            else:
                what = "<< merges something that is not a mapping"
                self._problems.append(Problem(source.line, what, "remove it, or name a mapping"))


class _Expander:
    """Writes nodes out as data, with the line of each value under the path it came to stand at."""

    def __init__(self, lines: dict[Key, int], spans: dict[Key, tuple[int, int]]) -> None:
        self._lines = lines
        self._spans = spans
        self._left = _VALUES

    def expand(self, node: _Node, path: Key) -> Data:
        self._left -= 1
        if self._left < 0:
            what = f"the aliases of this file write out to more than {_VALUES} values"
            raise _Stop(Problem(0, what, "use fewer of them"))
        self._lines.setdefault(path, node.line)
        if node.span is not None:
            self._spans[path] = node.span
        if is_table(node.value):
            data: dict[str, Any] = {}
            for name, (line, value) in node.value.items():
                self._lines[(*path, name)] = line
                data[name] = self.expand(value, (*path, name))
            return data
        if is_list(node.value):
            return [self.expand(item, (*path, i)) for i, item in enumerate(node.value)]
        return node.value


def _scalar(event: ScalarEvent) -> str | None:
    if not event.implicit[0] or event.tag == "!":
        return str(event.value)
    return None if event.value in _NULLS else Plain(event.value)


def _line(event: Event) -> int:
    line: int = event.start_mark.line
    return line + 1
