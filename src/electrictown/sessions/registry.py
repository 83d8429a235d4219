"""Which sessions there are: a folder each, with its record, its last status, and a lock while it lives.

sessions/NAME/record.json     who it is
sessions/NAME/status.json     how it did when it last said so
sessions/NAME/log.jsonl       what was said (`sessions.log`)
sessions/NAME/inbox           the socket of its process
sessions/NAME.lock            held by its process, gone with it however it ends
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from electrictown.errors import RunBusyError, SessionBusyError, SessionError, UnknownSessionError
from electrictown.journal.driver_lock import DriverLock, is_driven
from electrictown.redact import mask
from electrictown.sessions.names import checked, is_name, new_name
from electrictown.sessions.records import LIVE, BackendName, Record, Status

__all__ = ["GONE", "MARK", "Registry"]

T = TypeVar("T")

MARK: Final = "ELECTRICTOWN_SESSION"
"""The variable that every process of a session has in its environment, with the record's `mark`."""

GONE: Final = "its process is gone"
"""Why a session has failed whose end nobody saw: it was killed, or the machine stopped."""

_RECORD, _STATUS = "record.json", "status.json"
_PATIENCE: Final = 60.0
"""Seconds after which a session that never took its lock will not take it any more."""


class Registry:
    """The sessions below `folder`, which is made when the first is recorded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(
        self,
        role: str,
        backend: BackendName,
        folder: Path,
        *,
        agent: str = "",
        socket: str = "",
        config: str = "",
        prompt: str = "",
    ) -> Record:
        """Record a new session, under a name that no other has or had.

        Raises:
            SessionError: when it cannot be written down.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = self._claimed(role)
            record = Record(
                name=name,
                role=role,
                backend=backend,
                folder=str(folder.absolute()),
                mark=f"{name}.{secrets.token_hex(8)}",
                agent=agent,
                socket=socket,
                created=time.time(),
                config=config,
                prompt=mask(prompt),
            )
            self._write(name, _RECORD, record)
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        return record

    def _claimed(self, role: str) -> str:
        for digits in (4, 4, 4, 8):
            name = new_name(role, digits)
            try:
                self.folder(name).mkdir(mode=0o700)
            except FileExistsError:
                continue
            return name
        raise SessionError(f"no name is free for a session of {role}")

    def folder(self, name: str) -> Path:
        """The folder of the session `name`."""
        return self._folder / checked(name)

    def names(self) -> list[str]:
        """The sessions that are recorded, by name, whether or not their records can be read."""
        try:
            found = [path.parent.name for path in self._folder.glob(f"*/{_RECORD}")]
        except OSError:
            return []
        return sorted(name for name in found if is_name(name))

    def find(self, name: str) -> Record:
        """The record of the session of exactly this name.

        Raises:
            UnknownSessionError: when there is none; a near one is named.
            SessionError: when it cannot be read, or is another's.
        """
        found = self._read(checked(name), _RECORD, Record)
        if found is None:
            from difflib import get_close_matches

            near = get_close_matches(name, self.names(), n=1, cutoff=0.75)
            hint = f"did you mean {near[0]}?" if near else "`et session list` lists the sessions there are"
            raise UnknownSessionError(f"there is no session {name!r}", hint)
        if found.name != name:  # or what is done to the copy would be done to that other session
            raise SessionError(
                f"{self.folder(name)} holds the record of {found.name}",
                "it was copied, or renamed: a session is known by the name it was given",
            )
        return found

    def save(self, name: str, value: Record | Status) -> None:
        """Write a record, or a status, whole or not at all.

        Raises:
            SessionError: when it cannot be written.
        """
        try:
            self._write(name, _RECORD if isinstance(value, Record) else _STATUS, value)
        except OSError as error:
            raise _unwritable(self.folder(name), error) from error

    def status(self, record: Record) -> Status:
        """How the session does, as far as its files tell. A process that went without a word has failed.

        A status that cannot be read keeps nobody from ending the session, or from going on with it.
        """
        try:
            last = self._read(record.name, _STATUS, Status)
        except SessionError as error:
            return Status("ready" if self.is_alive(record.name) else "failed", error.message)
        if self.is_alive(record.name):
            return last or Status("starting", at=record.created)
        if last is None:
            young = time.time() - record.created < _PATIENCE
            return Status(
                "starting" if young else "failed", "" if young else "it never started", at=record.created
            )
        if last.state in LIVE:
            return replace(last, state="failed", why=GONE)
        return last

    def is_alive(self, name: str) -> bool:
        """Whether the session's process lives."""
        return is_driven(self._folder, name)

    def lock(self, name: str) -> DriverLock:
        """Take the session's lock, for the process that is the session. It goes with the process.

        Raises:
            SessionBusyError: when another process has it.
            SessionError: when it cannot be made.
        """
        lock = DriverLock(self._folder, checked(name))
        try:
            lock.take()
        except RunBusyError:
            raise SessionBusyError(
                f"the session {name} is alive already", f"et session attach {name}"
            ) from None
        except OSError as error:
            raise _unwritable(self._folder, error) from error
        return lock

    def _read(self, name: str, file: str, of: type[T]) -> T | None:
        path = self.folder(name) / file
        try:
            return msgspec.json.decode(path.read_bytes(), type=of)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise SessionError(
                f"{path} cannot be read: {error}", "another version of et may have written it"
            ) from error

    def _write(self, name: str, file: str, value: object) -> None:
        path = self.folder(name) / file
        fresh = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "wb") as stream:  # noqa: PTH123  (a descriptor is no path)
                stream.write(msgspec.json.encode(value))
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise


def _unwritable(folder: Path, error: OSError) -> SessionError:
    return SessionError(
        f"sessions cannot be kept in {folder}: {error.strerror or error}",
        "make the folder writable, or name another with XDG_STATE_HOME",
    )
