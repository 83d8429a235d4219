"""The entry point: `et`, a table of commands whose modules load when they are called."""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]


def main() -> None:
    """Run `et` and leave with its exit code."""
    arguments = sys.argv[1:]
    # The one answer that must be instant: click alone costs more than the interpreter's own start.
    if arguments in (["version"], ["--version"]):
        from electrictown.cli.version import version_line

        print(version_line())
        return
    # Imports make thousands of objects that live as long as the program: looking for rubbish among
    # them costs a tenth of the start.
    gc.set_threshold(100_000)
    from electrictown.cli.app import app

    sys.exit(app(arguments))
