"""Plain tables for commands that list: aligned columns, no wrapping, safe to pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from electrictown.redact import mask

__all__ = ["print_json", "print_table"]


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print `rows` under `headings`, columns as wide as their widest cell."""
    from electrictown.console.text import line, width

    table = [list(headings), *([line(cell) for cell in row] for row in rows)]
    widths = [max(width(row[i]) for row in table) for i in range(len(headings))]
    for row in table:
        cells = [cell + " " * (space - width(cell)) for cell, space in zip(row, widths, strict=True)]
        click.echo(mask("  ".join(cells).rstrip()))


def print_json(value: object) -> None:
    """Print `value` as indented JSON."""
    import msgspec

    click.echo(mask(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))
