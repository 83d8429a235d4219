"""Plain tables for commands that list: aligned columns, no wrapping, safe to pipe."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

import click

from electrictown.redact import mask

__all__ = ["print_json", "print_table", "table_lines"]


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


def _set(cell: str, space: int, *, flush: bool) -> str:
    from electrictown.console.text import width

    pad = " " * (space - width(cell))
    return pad + cell if flush else cell + pad


def print_json(value: object) -> None:
    """Print `value` as indented JSON."""
    import msgspec

    click.echo(mask(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))
