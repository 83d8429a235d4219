"""The parts of a plan as a model wrote them, before anybody has asked whether they fit together.

JSON first; where there is none, the list: what is an item, what belongs to it, what stands around it.
"""

from __future__ import annotations

import re
from typing import Any, cast

from msgspec import Struct

from electrictown.replies import json_values, plain

__all__ = ["Draft", "Item", "draft_of"]


class Item(Struct, frozen=True):
    """One subtask as written: dependencies are references still, in the reply's own terms."""

    text: str
    id: str = ""
    depends: tuple[str, ...] = ()
    specialist: str = ""
    paths: tuple[str, ...] = ()


class Draft(Struct, frozen=True):
    """What a reply lists, and what it says around the list."""

    items: tuple[Item, ...]
    summary: str = ""


def draft_of(text: str) -> Draft:
    """The items in `text`; none when it lists nothing."""
    listed = _from_list(text)
    for value in json_values(text):
        draft = _from_json(value, strings=not listed.items)
        if draft is not None:
            return draft
    return listed


# JSON

_LISTS = ("subtasks", "sub_tasks", "tasks", "steps", "plan", "items")
_TEXTS = ("text", "task", "subtask", "description", "instructions", "prompt", "content", "goal", "step")
_TITLES = ("title", "name")
_DEPENDS = ("depends", "depends_on", "dependson", "dependencies", "dependency", "requires", "needs")
_SPECIALISTS = ("specialist", "agent")
_PATHS = ("paths", "files", "path", "file", "outputs")
_SILENT = {"number", "index", "order", "priority", "status", "type", *_LISTS}


def _from_json(value: object, *, strings: bool) -> Draft | None:
    """The draft in a JSON value; None when it is no plan. A bare list of strings counts if `strings`."""
    summary = ""
    if isinstance(value, dict):
        fields = _lower(cast("dict[str, Any]", value))
        found = next((fields[key] for key in _LISTS if isinstance(fields.get(key), list | dict)), None)
        if isinstance(found, dict):
            inner = cast("dict[str, Any]", found)
            found = _from_json(inner, strings=True) or list(inner.values())
            if isinstance(found, Draft):
                return found
        summary = _line(fields.get("summary"))
        value, strings = found, True
    if not isinstance(value, list):
        return None
    items: list[Item] = []
    for entry in cast("list[Any]", value):
        item = _entry(entry, strings=strings)
        if item is None:
            return None
        items.append(item)
    return Draft(tuple(items), summary)


def _entry(entry: object, *, strings: bool) -> Item | None:
    if isinstance(entry, str) and strings:
        return _item(entry)
    if not isinstance(entry, dict):
        return None
    fields = _lower(cast("dict[str, Any]", entry))
    number = _line(fields.get("id"))
    depends = _several(fields, _DEPENDS)
    specialist = next((_line(fields[key]) for key in _SPECIALISTS if fields.get(key)), "")
    paths = _several(fields, _PATHS)
    title = next((_line(fields[key]) for key in _TITLES if fields.get(key)), "")
    text = next((_line(fields[key]) for key in _TEXTS if fields.get(key)), "")
    if not text and not title:
        return None
    said = f"{title}: {text}" if title and text and not text.startswith(title) else text or title
    known = {"id", *_DEPENDS, *_SPECIALISTS, *_PATHS, *_TITLES, *_TEXTS[:1], *_SILENT}
    used = next((key for key in _TEXTS if fields.get(key)), "")
    more = [
        f"{key}: {line}"
        for key, inside in fields.items()
        if key not in known and key != used and (line := _line(inside))
    ]
    more += [f"- {line}" for key in _LISTS for inside in _values(fields.get(key)) if (line := _line(inside))]
    return _item("\n".join([said, *more]), number, depends, specialist, paths)


def _lower(fields: dict[str, Any]) -> dict[str, Any]:
    return {key.strip().lower().replace(" ", "_").replace("-", "_"): value for key, value in fields.items()}


def _values(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _line(value: object) -> str:
    """What a value says, when it is one a plan can hold as text."""
    if isinstance(value, str):
        return plain(value).strip()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.9g}"
    if isinstance(value, list):
        return "; ".join(line for inside in cast("list[Any]", value) if (line := _line(inside)))
    if isinstance(value, dict):
        inside = cast("dict[str, Any]", value)
        return next((line for key in (*_TEXTS, *_TITLES, "id") if (line := _line(inside.get(key)))), "")
    return ""


def _several(fields: dict[str, Any], keys: tuple[str, ...]) -> tuple[str, ...]:
    """The strings under the first of `keys` that is there: a list, or one text with commas."""
    value = next((fields[key] for key in keys if fields.get(key) is not None), None)
    parts = [_line(inside) for inside in _values(value)] or _line(value).split(",")
    return tuple(part.strip() for part in parts if part.strip())


# markers in an item's text

# Possessive, and not begun in the middle of a run of blanks: a model that is stuck may write a
# hundred thousand of them, and no pattern may try each of their divisions.
_MARK = re.compile(
    r"(?<![ \t])[ \t]*+\[\s*+(depends?(?:[\s_]++on)?|dependenc(?:y|ies)|specialist|files?|paths?)"
    r"\s*+:\s*+((?:[^\[\]\n]|\[[^\[\]\n]*+\])*+)\]",
    re.IGNORECASE,
)
_ASIDE = re.compile(
    r"(?<![ \t])[ \t]*+\(\s*+(?:depends?(?:[\s_]++on)?|dependenc(?:y|ies))(?:\s*+:\s++|\s++)([^()\n]*+)\)"
    r"|^[ \t]*+(?:[-*+\N{BULLET}][ \t]++)?(?:\*\*)?(?:depends?(?:[ _]++on)?|dependenc(?:y|ies))"
    r"(?:\*\*)?[ \t]*+:[ \t]*+(?:\*\*)?([^\n]*+)$",
    re.IGNORECASE | re.MULTILINE,
)
_REFERENCE = re.compile(
    r"(?:(?:(?:sub)?tasks?|steps?|items?|t)[\s_#-]*|#\s*)?[0-9]{1,6}"
    r"(?:\s*(?:-|\N{EN DASH}|to)\s*[0-9]{1,6})?$|(?:none|no|nothing|n/a|-|)$",
    re.IGNORECASE,
)


def _item(
    text: str,
    number: str = "",
    depends: tuple[str, ...] = (),
    specialist: str = "",
    paths: tuple[str, ...] = (),
) -> Item:
    """An item, with the markers in its text taken out and heeded."""
    marked = {"d": list(depends), "s": [specialist] if specialist else [], "p": list(paths)}

    def heed(found: re.Match[str]) -> str:
        kind = found[1].lower()[0].replace("f", "p")
        values = [found[2]] if kind == "s" else _references(found[2]) if kind == "d" else found[2].split(",")
        marked[kind] += [value.strip().strip("`\"'") for value in values if value.strip()]
        return ""

    def heed_aside(found: re.Match[str]) -> str:
        references = _references((found[1] if found[1] is not None else found[2]).strip(" \t*."))
        if not all(_REFERENCE.match(reference) for reference in references):
            return found[0]
        marked["d"] += references
        return ""

    text = _ASIDE.sub(heed_aside, _MARK.sub(heed, text))
    named = marked["s"][0] if marked["s"] else ""
    return Item(_tidy(text), number, tuple(marked["d"]), named, tuple(dict.fromkeys(marked["p"])))


def _references(value: str) -> list[str]:
    if re.fullmatch(r"[0-9\s]+", value):
        return value.split()
    return [part.strip() for part in re.split(r",|;|&|\band\b", value) if part.strip()]


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in plain(text).split("\n")).strip()


# lists

_NUMBERED = re.compile(
    r"([ \t]*)(?:#{1,6}[ \t]+)?(\*\*|__)?"
    r"(?:(?:(?:sub-?)?task|step)[ \t]*#?[0-9]{1,4}"
    r"(?:[.):]|[ \t]+[-\N{EN DASH}\N{EM DASH}](?=[ \t])|(?=(?:\*\*|__)?[ \t]*$))"
    r"|[0-9]{1,4}[.):](?![0-9])|\([0-9]{1,4}\)|\[[0-9]{1,4}\])"
    r"(\*\*|__)?[ \t]*",
    re.IGNORECASE,
)
_BULLET = re.compile(
    r"([ \t]*)()[-*+\N{BULLET}\N{TRIANGULAR BULLET}\N{WHITE BULLET}\N{EN DASH}\N{EM DASH}\N{MIDDLE DOT}]()"
    r"[ \t]+(?:\[[ xX]?\][ \t]+)?"
)
_RULE = re.compile(r"[ \t]*([-*_])[ \t]*(?:\1[ \t]*){2,}$")
_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t#:*]*$")
_LABEL = re.compile(r"\*\*(.+?):?\*\*:?[ \t]*$|([\w ]+):[ \t]*$")
_SUBTASKS = re.compile(r"\W*(?:the |list of )?(?:sub-?tasks?|tasks|steps|plan)(?: list)?$", re.IGNORECASE)
_SUMMARY = re.compile(r"\W*(?:the |plan )?(?:summary|overview)$", re.IGNORECASE)
_FENCE = re.compile(r"[ \t]*(`{3,}(?=[^`]*$)|~{3,})")


class _Line(Struct, frozen=True):
    """A line of a reply and what it may be. Lines of a fenced block are only text."""

    text: str
    indent: int
    code: bool = False
    marker: re.Match[str] | None = None
    rank: int = 0  # of the marker: a bullet 1, a number 2, a number in a heading 3
    heading: int = 0

    @property
    def blank(self) -> bool:
        return not self.text.strip()


class _Grown(Struct):
    """An item while it grows; `width` is how far its marker moves the lines that belong to it."""

    width: int
    lines: list[str]


def _from_list(text: str) -> Draft:
    before, body, after = _sections(_lines(text))
    edge = min((line.indent for line in body if line.marker is not None), default=0) + 1
    rank = max((line.rank for line in body if line.indent <= edge), default=0)
    inner = 0  # headings from this level on belong to the item they stand in
    items: list[_Grown] = []
    around: list[str] = []
    stray: list[str] = []  # a paragraph at the margin: of the item above if another item follows
    outside, loose, previous_blank = True, False, True
    for line in body:
        marker = line.marker
        if marker is not None and line.indent <= edge and line.rank == rank:
            loose = loose or bool(stray)
            if stray:
                items[-1].lines += stray
            stray, outside, inner = [], False, line.heading + 1 if line.heading else 4
            items.append(_begun(line.text, marker))
        elif outside or (0 < line.heading < inner and marker is None):
            around += [*stray, line.text]
            stray, outside = [], True
        elif stray or (previous_blank and not (line.blank or line.indent or line.code or marker)):
            stray.append(line.text)
        else:
            items[-1].lines.append(_unindented(line.text, items[-1].width))
        previous_blank = line.blank
    if loose:
        items[-1].lines += stray
    else:
        around += stray
    summary = _tidy("\n".join([*before, *around, *after]))
    return Draft(tuple(_item("\n".join(item.lines)) for item in items), summary)


def _begun(line: str, marker: re.Match[str]) -> _Grown:
    first = line[marker.end() :]
    if marker[2] and not marker[3]:
        first = first.replace(marker[2], "", 1)
    return _Grown(marker.end(), [first])


def _unindented(line: str, width: int) -> str:
    if line.startswith("\t"):
        return line[1:]
    return line[min(width, len(line) - len(line.lstrip(" "))) :]


def _sections(lines: list[_Line]) -> tuple[list[str], list[_Line], list[str]]:
    """What stands before the list, the part that holds it, and what stands after."""
    start = next((n for n in range(len(lines)) if _begins(lines, n)), None)
    summary = next((n for n, line in enumerate(lines[:start]) if _titled(line, _SUMMARY)), None)
    if start is not None:
        level = lines[start].heading
        ends = (
            n for n in range(start + 1, len(lines)) if 0 < lines[n].heading <= level and not lines[n].marker
        )
        end = next(ends, len(lines))
        before = [line.text for n, line in enumerate(lines[:start]) if n != summary]
        return before, lines[start + 1 : end], [line.text for line in lines[end:]]
    if summary is None:
        return [], lines, []
    end = next((n for n in range(summary + 1, len(lines)) if lines[n].heading), len(lines))
    before = [line.text for n, line in enumerate(lines[:end]) if n != summary]
    return before, lines[end:], []


def _begins(lines: list[_Line], at: int) -> bool:
    """Whether the line is the title of the list, rather than one that stands in an item ("Steps:")."""
    if not _titled(lines[at], _SUBTASKS):
        return False
    return not any(before.rank > (2 if lines[at].heading else 0) for before in lines[:at])


def _titled(line: _Line, name: re.Pattern[str]) -> bool:
    """Whether a line is the title of the section that `name` names."""
    if line.indent or line.code:
        return False
    found = _HEADING.match(line.text) if line.heading else _LABEL.match(line.text)
    return found is not None and name.match((found[2] or found[1]).strip()) is not None


def _lines(text: str) -> list[_Line]:
    lines = text.split("\n")
    indents = [len(line[: len(line) - len(line.lstrip(" \t"))].expandtabs(4)) for line in lines]
    code = _code(lines, indents)
    return [_line_of(line, indents[n], code=n in code) for n, line in enumerate(lines)]


def _line_of(text: str, indent: int, *, code: bool) -> _Line:
    if code:
        return _Line(text, indent, code=True)
    heading = _HEADING.match(text)
    level = len(heading[1]) if heading else 0
    numbered = _NUMBERED.match(text)
    if numbered is not None:
        return _Line(text, indent, marker=numbered, rank=3 if level else 2, heading=level)
    bullet = None if _RULE.match(text) else _BULLET.match(text)
    return _Line(text, indent, marker=bullet, rank=1 if bullet else 0, heading=level)


def _code(lines: list[str], indents: list[int]) -> set[int]:
    """The numbers of the lines in fenced blocks. A fence inside an item ends with the item at the latest."""
    code: set[int] = set()
    hopeless: dict[str, tuple[int, int]] = {}  # no fence of this kind and length closes before that line
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        at += 1
        if fence is None:
            continue
        kind, length = fence[1][0], len(fence[1])
        shortest, until = hopeless.get(kind, (0, 0))
        if at <= until and length >= shortest:
            continue
        closing = re.compile(rf"[ \t]*{kind}{{{length},}}[ \t]*$")
        end = at
        while end < len(lines) and not closing.match(lines[end]):
            if indents[at - 1] > 1 and indents[end] <= 1 and lines[end].strip():
                break
            end += 1
        if end < len(lines) and closing.match(lines[end]):
            code.update(range(at - 1, end + 1))
            at = end + 1
        else:
            hopeless[kind] = (length, end)
    return code
