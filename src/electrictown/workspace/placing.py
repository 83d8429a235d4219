"""Putting one file in its place: whole or not at all, relative to an open folder, through no link."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Collection
from contextlib import suppress
from io import BufferedReader

from electrictown.workspace.paths import RefusalError

__all__ = ["entered", "placed", "sweep", "temporary_file"]

_MOST_COPIES = 1000


def entered(folder: int, name: str) -> int:
    """A descriptor of the folder `name` in the open `folder`, made where it is missing.

    Raises:
        RefusalError: when it is a symbolic link or a file.
    """
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=folder)
    try:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        # With both flags Linux says ENOTDIR of a link and macOS ELOOP.
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        there = _there(folder, name)
        link = there is not None and stat.S_ISLNK(there.st_mode)
        what = "a symbolic link" if link else "a file"
        raise RefusalError(f"{name!r} on its way is {what}, not a folder") from None


def _there(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def placed(folder: int, name: str, data: bytes, ours: Collection[bytes], run: str = "") -> tuple[bool, str]:
    """Puts `data` in the place of `name` in `folder`, an open descriptor.

    Returns whether it lay there already, and the name of the copy that was kept of a different file
    ("" for none). A file whose digest is one of `ours` needs no copy.

    Raises:
        RefusalError: when something other than a file is in the place.
        OSError: when it cannot be written; then all is as it was.
    """
    there = _there(folder, name)
    kept = ""
    if there is not None:
        if stat.S_ISLNK(there.st_mode):
            raise RefusalError("a symbolic link is in its place")
        if not stat.S_ISREG(there.st_mode):
            raise RefusalError(f"a {'folder' if stat.S_ISDIR(there.st_mode) else 'device'} is in its place")
        digest = _digest(folder, name)
        if digest == hashlib.sha256(data).digest():
            return True, ""
        kept = "" if digest is not None and digest in ours else _kept(folder, name)
    temporary = ""
    try:
        temporary = temporary_file(folder, data, there, run)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        for leftover in (temporary, kept):
            if leftover:
                os.unlink(leftover, dir_fd=folder)
        raise
    with suppress(OSError):  # the file is in its place; not every file system can sync a folder
        os.fsync(folder)
    return False, kept


def temporary_file(folder: int, data: bytes, like: os.stat_result | None, run: str = "") -> str:
    """A new file with `data`, safely on disk, with the permissions of the one it will replace.

    Its name tells whose it is, so that `run` can remove it when a crash has left it behind.
    """
    name = f".et-{run or 'one'}.{secrets.token_hex(8)}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(name, flags, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if like is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode) & 0o777)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(name, dir_fd=folder)
        raise
    return name


def sweep(folder: int, run: str) -> None:
    """Removes the temporary files that a crash of `run` has left behind in the open `folder`."""
    for name in os.listdir(folder):
        if name.startswith(f".et-{run}.") and name.endswith(".tmp"):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)


def _kept(folder: int, name: str) -> str:
    """Gives the file `name` a second name beside it, which no other file has."""
    for number in range(1, _MOST_COPIES):
        copy = f"{name}.orig" if number == 1 else f"{name}.orig.{number}"
        if _there(folder, copy) is not None:
            if _digest(folder, copy) == _digest(folder, name):
                return copy  # kept before, by a run that was ended before it could replace the file
            continue
        try:
            os.link(name, copy, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES}:
                raise
            return _copied(folder, name, copy)
        return copy
    raise RefusalError(f"another file is in its place, and there are {_MOST_COPIES} copies of it already")


def _copied(folder: int, name: str, copy: str) -> str:
    """As `_kept`, where the file system has no hard links."""
    with _reading(folder, name) as original:
        temporary = temporary_file(folder, original.read(), _there(folder, name))
    os.rename(temporary, copy, src_dir_fd=folder, dst_dir_fd=folder)
    return copy


def _digest(folder: int, name: str) -> bytes | None:
    """The digest of a file's contents, None when it may not be read."""
    try:
        with _reading(folder, name) as file:
            return hashlib.file_digest(file, "sha256").digest()
    except PermissionError:
        return None


def _reading(folder: int, name: str) -> BufferedReader:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    return os.fdopen(descriptor, "rb")
