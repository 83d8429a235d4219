"""What changed in a folder between two moments: files as text, and what is no text by name."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from msgspec import Struct

from electrictown.work import File

__all__ = ["Changes", "Snapshot", "changes_since", "snapshot"]

_IGNORED: Final = frozenset(
    {
        *(".git", ".hg", ".svn", ".jj", "node_modules", "__pycache__", ".venv", ".tox", ".nox"),
        *(".mypy_cache", ".ruff_cache", ".pytest_cache", ".gradle", ".next", ".DS_Store"),
    }
)
"""Folders, at any depth, of what programs make and people do not read."""
_LARGEST, _ALTOGETHER = 1 << 20, 8 << 20
"""Bytes of the largest file that is taken for text, and of all of them."""
_MOST: Final = 200_000
"""Files of the largest folder that is looked through at every turn."""
_RECENT: Final = 50_000_000
"""Nanoseconds in which a file can change twice and show the same times."""


class _Seen(Struct, frozen=True):
    """A file as it was. `digest` is known only where the times cannot tell a change."""

    kind: int
    inode: int
    size: int
    modified: int
    changed: int
    digest: bytes = b""


Snapshot: TypeAlias = Mapping[str, _Seen] | None
"""The files of a folder by their paths relative to it; None where there are too many."""


class Changes(Struct, frozen=True):
    """The files that are new or different, the paths that are gone, and of what is no text why not."""

    files: tuple[File, ...]
    deleted: tuple[str, ...]
    left: tuple[str, ...]


def snapshot(folder: Path) -> Snapshot:
    """The files of `folder` now. No link is followed."""
    recent = time.time_ns() - _RECENT
    found: dict[str, _Seen] = {}
    for path, info in _walk(folder, ""):
        if len(found) == _MOST:
            return None
        fresh = stat.S_ISREG(info.st_mode) and max(info.st_mtime_ns, info.st_ctime_ns) > recent
        digest = _digest(folder / path) if fresh else b""
        found[path] = _Seen(
            stat.S_IFMT(info.st_mode), info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, digest
        )
    return found


def _walk(folder: Path, below: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = sorted(os.scandir(folder / below), key=lambda entry: entry.name)
    except OSError:
        return  # it is gone by now, or nobody may look
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        if entry.name in _IGNORED:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder, path)
            continue
        try:
            yield path, entry.stat(follow_symlinks=False)
        except OSError:
            continue


def changes_since(folder: Path, before: Snapshot) -> Changes:
    """What is different in `folder` now."""
    now = snapshot(folder)
    if before is None or now is None:
        return Changes((), (), (f"the folder has more than {_MOST} files: nobody looked what changed",))
    files: list[File] = []
    left: list[str] = []
    room = _ALTOGETHER
    for path, seen in now.items():
        if not _differs(folder / path, before.get(path), seen):
            continue
        text = _text(folder / path, seen, room)
        if isinstance(text, bytes):
            files.append(File(path, text.decode()))
            room -= len(text)
        else:
            left.append(f"{_shown(path)}: {text}")
    return Changes(tuple(files), tuple(_shown(path) for path in before if path not in now), tuple(left))


def _differs(path: Path, before: _Seen | None, now: _Seen) -> bool:
    if before is None:
        return True
    if before.digest:
        return before.kind != now.kind or before.digest != (now.digest or _digest(path))
    known = (before.kind, before.inode, before.size, before.modified, before.changed)
    return known != (now.kind, now.inode, now.size, now.modified, now.changed)


def _text(path: Path, seen: _Seen, room: int) -> bytes | str:
    """The bytes of a file that is UTF-8 text, or why it is none."""
    if seen.kind != stat.S_IFREG:
        return "a symbolic link" if seen.kind == stat.S_IFLNK else "no regular file"
    data = _content(path, _LARGEST + 1)
    if data is None:
        return "it cannot be read"
    if len(data) > _LARGEST:
        return f"larger than {_LARGEST >> 20} MiB"
    if len(data) > room:
        return "there is too much of it altogether"
    try:
        str(path).encode()
        data.decode()
    except UnicodeError:
        return "no text"
    return "no text" if b"\0" in data else data


def _content(path: Path, limit: int) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as file:  # noqa: PTH123  (a descriptor is no path)
        return file.read(limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def _digest(path: Path) -> bytes:
    content = _content(path, 64 * _LARGEST)
    return b"" if content is None else hashlib.blake2b(content, digest_size=16).digest()


def _shown(path: str) -> str:
    return path.encode(errors="surrogateescape").decode(errors="backslashreplace")
