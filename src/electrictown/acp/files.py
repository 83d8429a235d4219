"""An agent's files as it reads and writes them through us: regular files, and writing only in its folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from electrictown.acp.jsonrpc import INTERNAL, INVALID, NO_RESOURCE, RpcError
from electrictown.acp.policy import place_of
from electrictown.workspace.paths import RefusalError
from electrictown.workspace.placing import entered, temporary_file

__all__ = ["read_text", "write_text"]

_LARGEST: Final = 16 << 20
"""Bytes of the largest file that is read in one piece."""


def read_text(path: str, line: int | None, limit: int | None) -> str:
    """The text of the regular file at `path`, from `line` (the first is 1) and at most `limit` lines.

    Raises:
        RpcError: when there is none, or it cannot be read.
    """
    if not Path(path).is_absolute():
        raise RpcError(INVALID, f"{path!r} is not absolute")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor is no path)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise RpcError(INVALID, f"{path} is no regular file")
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error
    if len(data) > _LARGEST:
        raise RpcError(INVALID, f"{path} is larger than {_LARGEST >> 20} MiB")
    text = data.decode(errors="replace")
    if line is None and limit is None:
        return text
    first = max((line or 1) - 1, 0)
    return "".join(text.splitlines(keepends=True)[first : None if limit is None else first + limit])


def write_text(path: str, text: str, folder: Path) -> None:
    """Put `text` into the place of the file at `path`, whole or not at all; folders on its way are made.

    No step of the way is a link by the time it is taken, so none leads out of `folder`.

    Raises:
        RpcError: when it leads out of the folder, something other than a file is there, or it cannot be
            written.
    """
    place = place_of(path, folder) if Path(path).is_absolute() else None
    if place is None or not place.parts:
        raise RpcError(INVALID, f"{path} is not in {folder}: it is not written")
    try:
        with _opened(folder.resolve(), place.parts[:-1]) as parent:
            like = _there(parent, place.name)
            if like is not None and not stat.S_ISREG(like.st_mode):
                raise RpcError(INVALID, f"{path} is no regular file")
            fresh = temporary_file(parent, text.encode(), like)
            try:
                os.replace(fresh, place.name, src_dir_fd=parent, dst_dir_fd=parent)
            except BaseException:
                os.unlink(fresh, dir_fd=parent)
                raise
    except RefusalError as refusal:
        raise RpcError(INVALID, f"{path} is not written: {refusal}") from None
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error


@contextmanager
def _opened(root: Path, names: tuple[str, ...]) -> Generator[int]:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            outer, folder = folder, entered(folder, name)
            os.close(outer)
        yield folder
    finally:
        os.close(folder)


def _there(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _refusal(path: str, error: OSError | ValueError) -> RpcError:
    if isinstance(error, OSError) and error.errno == errno.ENOENT:
        return RpcError(NO_RESOURCE, f"Resource not found: {path}")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return RpcError(INTERNAL, f"{path}: {reason}")
