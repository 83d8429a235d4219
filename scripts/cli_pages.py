"""docs/cli.md: the help page of every command on 80 columns. `python -m scripts.cli_pages` writes it."""

from __future__ import annotations

import io
import os
from collections.abc import Generator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from electrictown.cli.app import app

__all__ = ["COMMANDS", "page"]

COMMANDS = (
    *("", "run", "resume", "runs", "show", "log", "cost", "cancel", "replay", "session"),
    *("session spawn", "session list", "session attach", "session send", "session wait", "session logs"),
    *("session interrupt", "session answer", "session kill", "worker"),
    *("init", "models", "nodes", "doctor", "config", "schema", "debug decode", "version"),
)
WIDTH = 80
TARGET = Path(__file__).parents[1] / "docs" / "cli.md"

_HEAD = """\
# The command line

<!-- Made from the help of every command by `python -m scripts.cli_pages`. -->

Every page below is what `et COMMAND --help` prints. Results go to stdout, everything else to stderr. The Go
original's flags work too, also with one dash (`et run -role mayor`); see
[migrating-from-go.md](migrating-from-go.md).
"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for command in COMMANDS:
        parts.append(f"\n## `{f'et {command}'.strip()}`\n\n```text\n{help_of(command)}```\n")
    return "".join(parts)


def help_of(command: str) -> str:
    """What `et COMMAND --help` prints on a terminal of 80 columns."""
    with _columns(WIDTH), redirect_stdout(io.StringIO()) as printed:
        app([*command.split(), "--help"])
    return printed.getvalue()


@contextmanager
def _columns(width: int) -> Generator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


if __name__ == "__main__":
    TARGET.write_text(page())
