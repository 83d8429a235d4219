"""Text that is given to a command: as words, from standard input (-), or from a file (@FILE)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from electrictown.errors import UsageError

__all__ = ["read_text", "typed_text"]

_LARGEST = 16 << 20
"""Bytes that a text may have: more than any model reads."""


def typed_text(words: tuple[str, ...], what: str) -> tuple[str, str]:
    """The text that `words` mean, and where it is from; ("", "") when there are none.

    `what` is what it is called in an error.

    Raises:
        UsageError: when it cannot be read, is empty, too long, or no UTF-8.
    """
    typed = " ".join(words).strip()
    if not typed:
        return "", ""
    source = "argument"
    if typed == "-":
        source = "stdin"
        typed = _decoded(sys.stdin.buffer.read(_LARGEST + 1), f"the {what} from stdin")
    elif typed.startswith("@"):
        source = typed[1:]
        typed = read_text(source, what)
    else:
        typed = _decoded(os.fsencode(typed), f"the {what}")
    if not typed.strip():
        raise UsageError(f"the {what} from {source} is empty", "say what is to be done")
    return typed.strip(), source


def read_text(file: str, what: str) -> str:
    """The text in `file`.

    Raises:
        UsageError: when it cannot be read, is too long, or no UTF-8.
    """
    shown = f"the {what} file {file}"
    try:
        with Path(file).expanduser().open("rb") as stream:
            data = stream.read(_LARGEST + 1)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~somebody who has no home here
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{shown} cannot be read: {reason}", "check the path") from None
    return _decoded(data, shown)


def _decoded(data: bytes, what: str) -> str:
    if len(data) > _LARGEST:
        raise UsageError(f"{what} is larger than {_LARGEST >> 20} MiB", "is it the right one?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UsageError(f"{what} is not UTF-8 text", "save it as UTF-8") from None
    return text
