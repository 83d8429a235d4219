"""Plain tables for commands that list: aligned columns, no wrapping, safe to pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from electrictown.redact import mask

__all__ = ["print_json", "print_table"]


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `rows` under `headings`, columns as wide as their widest cell.

    What a row ends with widens no column: the reason why a host is down may be long, and nothing follows it.
    """
    from electrictown.console.text import line, width

    table = [list(headings), *([line(cell) for cell in row] for row in rows)]
    for row in table:
        while row and not row[-1]:
            row.pop()
    widths = [
        max((width(row[i]) for row in table[1:] if i < len(row) - 1), default=0) for i in range(len(headings))
    ]
    widths = [max(space, width(heading)) for space, heading in zip(widths, headings, strict=True)]
    for row in table:
        cells = [cell + " " * (space - width(cell)) for cell, space in zip(row, widths, strict=False)]
        click.echo(mask("  ".join(cells).rstrip()))


def print_json(value: object) -> None:
    """Print `value` as indented JSON."""
    import msgspec

    click.echo(mask(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))
