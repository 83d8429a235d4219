"""A session's log: everything that was said, as it was said, one JSON line each. For people and tools.

The log is no truth: what a session goes on from is its journal. It holds what a screen showed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from electrictown.journal.values import to_json
from electrictown.redact import settled

__all__ = ["LOG", "Entry", "Listener", "Log", "entries"]

_TAIL: Final = 64 << 10
"""Bytes of the log that a session which is taken up again shows of before."""

LOG: Final = "log.jsonl"
"""The log's name in the session's folder."""


class Entry(Struct, frozen=True, omit_defaults=True):
    """One thing that happened.

    `said` is a message whose turn begins (`sender` who sent it), `text` a piece of the reply, `reset` voids
    the reply so far, `end` is the end of the turn, `note` what a person should know, `ask` what an agent
    asks leave for. `turn` is the message's id. At the end `text` is why it did not end well, `hint` what to
    do about it, `model` who answered; `tokens` and `usd` are this turn's own, `usd` None where it is unknown.
    """

    kind: Literal["said", "text", "reset", "end", "note", "ask"]
    text: str = ""
    turn: str = ""
    sender: str = ""
    outcome: str = ""
    hint: str = ""
    model: str = ""
    tokens: int = 0
    usd: float | None = None
    seconds: float = 0.0
    at: float = field(default_factory=time.time)


Listener: TypeAlias = Callable[[Entry], None]
"""Takes an entry and returns at once; it never raises."""


class Log:
    """The log in `folder`, to be written. Closed by who opened it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":  # whoever wrote last was killed in a line
            os.write(self._file, b"\n")
        self._held = Entry("text")

    def __call__(self, entry: Entry) -> None:
        """Append `entry`, without any secret. A full disk costs the entry, not the session.

        The end of a piece of text that may be the beginning of a secret waits for what comes next.
        """
        if entry.kind == "text":
            text = self._held.text + entry.text
            cut = settled(text)
            self._held = replace(entry, text=text[cut:])
            entry = replace(entry, text=text[:cut])
        else:
            self._flush()
        self._write(entry)

    def _flush(self) -> None:
        held, self._held = self._held, Entry("text")
        self._write(held)

    def _write(self, entry: Entry) -> None:
        if entry.text or entry.kind != "text":
            with suppress(OSError):
                os.write(self._file, to_json(entry) + b"\n")

    def last(self) -> list[Entry]:
        """What was shown last, from the beginning of a turn on."""
        with self._path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, end - _TAIL))
            found = list(entries(stream.read()))
        begins = next((n for n, entry in enumerate(found) if entry.kind == "said"), len(found))
        return found[begins:]

    def close(self) -> None:
        """Write what still waits, and close the file."""
        self._flush()
        os.close(self._file)


def entries(data: bytes) -> Iterator[Entry]:
    """The entries in whole lines of a log; lines that are torn or foreign are left out."""
    for line in data.splitlines():
        try:
            yield msgspec.json.decode(line, type=Entry)
        except msgspec.DecodeError:
            continue
