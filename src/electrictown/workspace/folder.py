"""The output folder: files of workers are written whole, and never outside it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Coroutine, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct

from electrictown.errors import WorkspaceError
from electrictown.work import File
from electrictown.workspace.files import Refused
from electrictown.workspace.paths import RefusalError, parts_of
from electrictown.workspace.placing import entered, placed, sweep, temporary_file

__all__ = ["Elsewhere", "Folder", "Refused", "Written", "digest_of"]


_T = TypeVar("_T")


class Written(Struct, frozen=True):
    """A file that lies in the folder. `path` is relative to it, `bytes` the file's size.

    `unchanged` says that it lay there already, just so; `kept` names the copy of a different file that
    was in its place before the run ("" when there was none).
    """

    path: str
    subtask: str
    bytes: int
    unchanged: bool = False
    kept: str = ""


class _Owned(Struct, frozen=True):
    """Who wrote a path in this run, under which spelling, and what."""

    subtasks: frozenset[str]
    path: str
    digest: bytes


class Folder:
    """The folder `root` that the files of one run are written to; made when it is not there.

    A file is written beside its place and then moved there, so that a reader, or a crash, meets the
    old file or the new one and never half of either. No path leads out of the folder: every step of
    the way is opened relative to the one before, and a symbolic link is not followed.

    Nothing is lost. What one subtask has written in this run, another does not overwrite, unless it
    says so (`replacing`). A file that lay there before the run and differs is kept as `NAME.orig`, or
    `NAME.orig.2` and so on where that is taken, and then replaced: runs on the same folder can follow
    each other. One object serves all workers of the run `run`.
    """

    def __init__(self, root: Path | str, run: str = "") -> None:
        self.root = Path(root)
        self._run = run
        self._ours: defaultdict[str, set[bytes]] = defaultdict(set)
        self._left: set[tuple[str, ...]] = {()}
        self._owned: dict[str, _Owned] = {}
        self._lock = threading.Lock()

    async def prepare(self) -> None:
        """Makes the folder, checks that files can be written to it, and clears away what a crash of this
        run has left half-written (see `adopt`).

        Raises:
            WorkspaceError: when it is no folder, or cannot be made or written to.
        """
        await _to_its_end(asyncio.to_thread(self._prepare))

    async def write(
        self, file: File, subtask: str = "", *, replacing: Collection[str] = ()
    ) -> Written | Refused:
        """Writes `file` for `subtask`, which may also replace what the subtasks `replacing` have written.

        A path that leads out of the folder, is no path for a file, or is another subtask's, is refused,
        with the reason. A call that is cancelled ends when its file is whole, a moment later.

        Raises:
            WorkspaceError: when the disk is full or the folder may not be written to; nothing is left
                half-written.
        """
        return await _to_its_end(asyncio.to_thread(self._write, file, subtask, frozenset(replacing)))

    async def lacks(self, path: str) -> bool:
        """Whether nothing at all lies at `path`: no file, no link, no folder."""
        return not await asyncio.to_thread(os.path.lexists, self.root / path)

    def adopt(self, path: str, digest: str, subtask: str) -> None:
        """Takes `path` for a file that `subtask` wrote before the run was taken up again.

        `digest` is what it wrote, or was about to write, as `digest_of` tells it: a file with other contents
        in that place is still nobody's, and is kept.
        """
        try:
            parts = parts_of(path)
        except RefusalError:
            return
        whole = "/".join(parts)
        self._left.add(tuple(parts[:-1]))
        self._owned[_key(whole)] = _Owned(frozenset({subtask}), whole, bytes.fromhex(digest))
        self._ours[_key(whole)].add(bytes.fromhex(digest))

    # Below here everything runs in a thread, and one file at a time.

    def _prepare(self) -> None:
        try:
            with self._opened(()) as folder:
                os.unlink(temporary_file(folder, b"", None, self._run), dir_fd=folder)
            for parts in self._left if self._run else ():
                with suppress(RefusalError), self._opened(parts) as folder:
                    sweep(folder, self._run)
        except OSError as error:
            raise _broken(error, self.root) from error

    def _write(self, file: File, subtask: str, replacing: frozenset[str]) -> Written | Refused:
        try:
            parts = parts_of(file.path)
            data = _data(file.text)
            path = "/".join(parts)
            digest = hashlib.sha256(data).digest()
            with self._lock:
                key = _key(path)
                owned = self._owned.get(key)
                if owned is not None and owned.digest != digest:
                    _check_owner(owned, path, subtask, replacing)
                with self._opened(parts[:-1]) as folder:
                    written = placed(folder, parts[-1], data, self._ours[key], self._run)
                self._ours[key].add(digest)
                also = owned.subtasks if owned is not None and owned.digest == digest else frozenset[str]()
                self._owned[key] = _Owned(also | {subtask}, path, digest)
        except RefusalError as refusal:
            return Refused(file.path, str(refusal), subtask)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0)
            if reason is None:
                raise _broken(error, self.root / file.path) from error
            return Refused(file.path, reason, subtask)
        unchanged, name = written
        kept = "/".join([*parts[:-1], name]) if name else ""
        return Written(path, subtask, len(data), unchanged, kept)

    @contextmanager
    def _opened(self, folders: tuple[str, ...]) -> Generator[int]:
        """A descriptor of the folder that the names lead to, made where it is missing."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _broken(error, self.root) from error
        try:
            for name in folders:
                outer, folder = folder, entered(folder, name)
                os.close(outer)
            yield folder
        finally:
            os.close(folder)


class Elsewhere:
    """A folder on another machine: judges names and texts as a `Folder` does, and writes nothing."""

    async def write(
        self, file: File, subtask: str = "", *, replacing: Collection[str] = ()
    ) -> Written | Refused:
        """What would become of `file`, as far as its path and its text can tell."""
        del replacing
        try:
            path, data = "/".join(parts_of(file.path)), _data(file.text)
        except RefusalError as refusal:
            return Refused(file.path, str(refusal), subtask)
        return Written(path, subtask, len(data))

    async def lacks(self, path: str) -> bool:
        """Never: what lies elsewhere is for those there to see to."""
        del path
        return False


async def _to_its_end(work: Coroutine[Any, Any, _T]) -> _T:
    """What `work` returns. A thread cannot be stopped, so a cancellation waits for its end."""
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # the caller is gone; what became of the file is for nobody
        raise


_REASONS = {
    errno.ENAMETOOLONG: "the name is too long",
    errno.EINVAL: "the file system does not take this name",
    errno.EILSEQ: "the file system does not take this name",
    errno.EISDIR: "a folder is in its place",
}
_HINTS = {
    errno.ENOSPC: "the disk is full: free some space, then run again",
    errno.EDQUOT: "your disk quota is used up: free some space, then run again",
    errno.EACCES: "you may not write there: choose another --output-dir, or change its permissions",
    errno.EPERM: "you may not write there: choose another --output-dir, or change its permissions",
    errno.EROFS: "the file system is read-only: choose another --output-dir",
    errno.ENOTDIR: "a file is in the folder's place: choose another --output-dir",
    errno.EEXIST: "a file is in the folder's place: choose another --output-dir",
}


def _broken(error: OSError, path: Path) -> WorkspaceError:
    hint = _HINTS.get(error.errno or 0, "see that the output folder can be written to")
    return WorkspaceError(f"cannot write {path}: {error.strerror or error}", hint=hint)


def _key(path: str) -> str:
    """One name for all spellings of `path` that some file system takes for the same."""
    return unicodedata.normalize("NFC", path).casefold()


def digest_of(text: str) -> str:
    """The SHA-256, in hex, of a file with `text`; "" for text that no file can hold."""
    try:
        return hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError:
        return ""


def _data(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise RefusalError("the contents are not valid Unicode") from None


def _check_owner(owned: _Owned, path: str, subtask: str, replacing: frozenset[str]) -> None:
    others = sorted(owned.subtasks - replacing - {subtask})
    if others:
        alike = "" if owned.path == path else f" (as {owned.path}, which differs only in case)"
        raise RefusalError(f"{others[0]} has already written it with other contents{alike}; use another name")
