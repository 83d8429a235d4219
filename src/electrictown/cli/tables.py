"""Plain tables for commands that list: aligned columns, no wrapping, safe to pipe."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Container, Iterable, Sequence
from typing import Final

import click

from electrictown.redact import mask

__all__ = ["fitted", "json_of", "print_json", "print_table", "table_lines"]

_OBEYED: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal or an editor obeys, and JSON need not escape."""


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `rows` under `headings`, columns as wide as their widest cell.

    What a row ends with widens no column: the reason why a host is down may be long, and nothing follows it.
    """
    for text in table_lines([headings, *rows]):
        click.echo(mask(text))


def table_lines(rows: Iterable[Sequence[str]], *, indent: str = "", right: Container[int] = ()) -> list[str]:
    """`rows` as lines safe to print, the first one the headings, none of which may be missing.

    The columns in `right` are set flush right.
    """
    from electrictown.console.text import line, width

    table = [[line(cell) for cell in row] for row in rows]
    for row in table[1:]:
        while row and not row[-1]:
            row.pop()
    widths = [
        max((width(row[i]) for row in table if i < len(row) - (row is not table[0])), default=0)
        for i in range(len(table[0]))
    ]
    return [
        (indent + "  ".join(_set(cell, widths[n], flush=n in right) for n, cell in enumerate(row))).rstrip()
        for row in table
    ]


def fitted(
    rows: Sequence[Sequence[str]], least: Iterable[tuple[int, int]], width: int | None = None
) -> list[tuple[str, ...]]:
    """`rows`, their cells cut until they fit the terminal, or so many columns; as they are where nothing is
    a terminal.

    `least` says which columns are cut, in this order, and how much at least is left of each; one of which
    nothing is left is left out, and the others are whole again.
    """
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    if not width:
        return [tuple(row) for row in rows]
    from electrictown.console import text

    whole = {n: [text.line(cell) for cell in column] for n, column in enumerate(zip(*rows, strict=True))}
    columns = dict(whole)
    for column, left in least:
        widest = {n: max(text.width(cell) for cell in cells) for n, cells in columns.items()}
        over = sum(widest.values()) + 2 * (len(widest) - 1) - width
        if over > 0 and left:
            columns[column] = [_cut(cell, max(left, widest[column] - over)) for cell in columns[column]]
        elif over > 0:
            del whole[column]
            columns = dict(whole)  # there is more room for the others now
    return list(zip(*columns.values(), strict=True))


def _cut(cell: str, most: int) -> str:
    """`cell` in at most so many columns of a terminal."""
    from electrictown.console.text import width

    if width(cell) <= most:
        return cell
    while width(cell) >= most:
        cell = cell[:-1]
    return f"{cell.rstrip()}…"


def _set(cell: str, space: int, *, flush: bool) -> str:
    from electrictown.console.text import width

    pad = " " * (space - width(cell))
    return pad + cell if flush else cell + pad


def print_json(value: object) -> None:
    """Print `value` as indented JSON."""
    click.echo(json_of(value, indent=2))


def json_of(value: object, indent: int = 0) -> str:
    """`value` as JSON without secrets, in one line without `indent`; what a terminal obeys is escaped."""
    import msgspec

    from electrictown.journal.values import to_json

    raw = to_json(value)
    text = (msgspec.json.format(raw, indent=indent) if indent else raw).decode()
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
