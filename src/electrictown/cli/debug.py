"""`et debug`: look into what a provider sent."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click

from electrictown.errors import UsageError

__all__ = ["command"]


@click.group("debug", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Look into what a provider sent."""


@command.command("decode", short_help="Print what a recorded exchange decodes to.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def decode(files: Sequence[str]) -> None:
    """Print what recorded exchanges decode to, one JSON line a file.

    A FILE is a JSON object with provider, api, path, stream, status,
    response_headers, and response_body or response_text; - is standard input.
    The line holds text, reasoning, tool calls, finish reason, usage, model and
    the typed error: with the FILE it makes a good bug report.

    A file that cannot be read or holds no exchange is an error, and then
    nothing is printed.
    """
    from electrictown.llm.exchange import decode_exchange
    from electrictown.llm.wire.common import encode_json

    records = [_read(name) for name in files]
    for record in records:
        click.echo(encode_json(decode_exchange(record)))


def _read(name: str) -> dict[str, Any]:
    import msgspec

    shown = "standard input" if name == "-" else name
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{shown} cannot be read: {error.strerror or error}", hint="check the path and its permissions"
        ) from error
    try:
        record: object = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{shown} is not JSON: {error}", hint="a recorded exchange is one JSON object a file"
        ) from error
    if not isinstance(record, dict) or not _FIELDS.intersection(cast(dict[str, Any], record)):
        raise UsageError(
            f"{shown} is no recorded exchange",
            hint=f"it wants a JSON object with provider, path, status and {' or '.join(sorted(_FIELDS))}",
        )
    return cast(dict[str, Any], record)


_FIELDS = frozenset({"response_body", "response_text"})
