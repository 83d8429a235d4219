"""The entry point: `et`, a table of commands whose modules load when they are called."""

from __future__ import annotations

import gc
import io
import os
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
    _prepare_streams()
    # Imports make thousands of objects that live as long as the program: looking for rubbish among
    # them costs a tenth of the start.
    gc.set_threshold(100_000)
    try:
        from electrictown.cli.app import app
    except KeyboardInterrupt:  # app answers for those that come later
        sys.exit(130)
    sys.exit(app(arguments))


def _prepare_streams() -> None:
    """Let no text stop at a stream's encoding, and give a stream that was closed at the start a place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123  (for good)
        elif name == "stdout" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # as stderr has it
