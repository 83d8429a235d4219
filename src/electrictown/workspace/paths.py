"""Which paths a worker may name: pure text, the same rules on every system."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["RefusalError", "parts_of"]

_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}
_LONGEST_NAME = 240  # bytes: a file system takes 255, and NAME.orig must fit as well
_LONGEST_PATH = 1024


class RefusalError(Exception):
    """Why a file is not written, in words that a model can act upon."""


def parts_of(path: str) -> tuple[str, ...]:
    """The steps of a relative path, when every one of them may be taken.

    Raises:
        RefusalError: when the path leads out of its folder, or no file should have such a name.
    """
    if not path.strip():
        raise RefusalError("the path is empty")
    if any(unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for letter in path):
        raise RefusalError("the path has a control character or an invisible one in it")
    if "\\" in path:
        raise RefusalError("the path has a backslash in it; use forward slashes")
    if path.startswith(("/", "~")) or re.match("[A-Za-z]:", path):
        raise RefusalError("the path is absolute; use one relative to the output folder")
    if path.endswith("/"):
        raise RefusalError("the path names a folder; name a file")
    parts = tuple(part for part in path.split("/") if part not in {"", "."})
    if ".." in parts:
        raise RefusalError('the path leads out of the output folder; use no ".."')
    if not parts or len(path.encode()) > _LONGEST_PATH:
        raise RefusalError("the path is too long" if parts else "the path names no file")
    for part in parts:
        _check_name(part)
    return parts


def _check_name(name: str) -> None:
    folded = unicodedata.normalize("NFKC", name).casefold()
    if len(name.encode()) > _LONGEST_NAME:
        raise RefusalError("a name in the path is too long")
    if name != name.strip() or name.endswith("."):
        raise RefusalError(f"the name {name!r} begins or ends with a space, or ends with a dot")
    plain = folded.partition(":")[0].rstrip(" .")  # NTFS: what follows a colon is a stream of the same file
    if plain in {".git", "git~1"}:
        raise RefusalError("files of git's own are not written")
    if plain == "electrictown.yaml":
        raise RefusalError("the town's own configuration is not written: it says where keys are sent")
    if folded.partition(".")[0].strip() in _DEVICES:
        raise RefusalError(f"the name {name!r} is reserved on some systems")
    if "/" in folded or "\\" in folded or folded.strip(".") == "":
        raise RefusalError(f"the name {name!r} is no file name on some systems")
