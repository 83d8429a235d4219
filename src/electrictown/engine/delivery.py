"""Files of a reply on their way into the output folder: meant, written, and known for good."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import Protocol

from electrictown.events import Emit, FileRefused, FileWritten, Noted
from electrictown.journal.journal import Journal
from electrictown.journal.records import Receipt, WrittenFile
from electrictown.work import File
from electrictown.workspace.folder import Refused, Written, digest_of

__all__ = ["Delivery", "Judgement", "Place"]


class Place(Protocol):
    """Where files go: a `workspace.folder.Folder`, or somebody who only judges them."""

    async def write(
        self, file: File, subtask: str = "", *, replacing: Collection[str] = ()
    ) -> Written | Refused:
        """Write `file` for `subtask`, which may also replace what the subtasks `replacing` have written."""
        ...

    async def lacks(self, path: str) -> bool:
        """Whether nothing at all lies at `path`."""
        ...


class Delivery:
    """Puts files into a place, once: what the journal knows to be there is not written again, unless it
    is there no more.
    """

    def __init__(self, place: Place, journal: Journal, emit: Emit) -> None:
        self._place = place
        self._journal = journal
        self._emit = emit
        self._put_back: set[str] = set()

    async def deliver(
        self,
        key: str,
        files: Sequence[File],
        refused: Sequence[Refused] = (),
        *,
        replacing: Collection[str] = (),
    ) -> Receipt:
        """Write `files` and say so; `refused` are those that could not be used. `key` begins with the
        subtask's id.

        Raises:
            WorkspaceError: when the folder cannot be written to.
            JournalError: when what was done cannot be recorded.
        """
        known = self._journal.recorded(key, Receipt)
        if known is not None:
            await self.restore(key.partition(".")[0], files, known)
            return known
        write = partial(self._write, key, files, refused, replacing)
        receipt = await self._journal.step(key, write, Receipt, kind="receipt")
        self.tell(key.partition(".")[0], receipt)
        return receipt

    async def restore(self, subtask: str, files: Sequence[File], receipt: Receipt) -> None:
        """See to it that those of `files` that were written, by `receipt`, are still there, and say so.

        What somebody has changed since is theirs, and is left alone.

        Raises:
            WorkspaceError: when the folder cannot be written to.
        """
        ours = {(written.path, written.digest) for written in receipt.written}
        for file in files:
            mine = (file.path, digest_of(file.text)) in ours
            if not mine or not (file.path in self._put_back or await self._place.lacks(file.path)):
                continue
            # Refused is what another subtask has written since: it is that one's to put back.
            if isinstance(await self._place.write(file, subtask), Written):
                self._put_back.add(file.path)
                self._emit(Noted(text=f"{file.path} was there no more, and is put back"))
        self.tell(subtask, receipt)

    async def _write(
        self, key: str, files: Sequence[File], cannot: Sequence[Refused], replacing: Collection[str]
    ) -> Receipt:
        # What is meant to be written is recorded first: after a crash it is known to be this run's own.
        meant = tuple(WrittenFile(f.path, digest) for f in files if (digest := digest_of(f.text)))
        if meant:
            await self._journal.record(f"{key}.begun", Receipt(meant), kind="intent")
        written: list[WrittenFile] = []
        refused = [(r.path, r.reason) for r in cannot]
        for file in files:
            outcome = await self._place.write(file, key.partition(".")[0], replacing=replacing)
            if isinstance(outcome, Written):
                written.append(WrittenFile(outcome.path, digest_of(file.text), outcome.bytes, outcome.kept))
            else:
                refused.append((outcome.path, outcome.reason))
        return Receipt(tuple(written), tuple(refused))

    def tell(self, subtask: str, receipt: Receipt) -> None:
        """Say what lies in the folder, and what does not."""
        for path, reason in receipt.refused:
            self._emit(FileRefused(path=path, reason=reason, subtask=subtask))
        for file in receipt.written:
            self._emit(FileWritten(path=file.path, subtask=subtask, bytes=file.bytes))
            if file.kept:
                note = f"{file.path} was there before; the old one is kept as {file.kept}"
                self._emit(Noted(text=note))


class Judgement(Delivery):
    """Judges files for a folder on another machine: who has the folder writes, records and tells."""

    async def deliver(
        self,
        key: str,
        files: Sequence[File],
        refused: Sequence[Refused] = (),
        *,
        replacing: Collection[str] = (),
    ) -> Receipt:
        """What would become of `files`, as far as can be told from here."""
        written: list[WrittenFile] = []
        cannot = [(r.path, r.reason) for r in refused]
        for file in files:
            outcome = await self._place.write(file, key.partition(".")[0], replacing=replacing)
            if isinstance(outcome, Written):
                written.append(WrittenFile(outcome.path, digest_of(file.text), outcome.bytes))
            else:
                cannot.append((outcome.path, outcome.reason))
        return Receipt(tuple(written), tuple(cannot))
