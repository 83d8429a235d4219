"""Cuts a stream of bytes into events: server-sent events and newline-delimited JSON.

Both work on bytes and break lines at `\\n` and `\\r\\n` only (SSE, as its standard asks, also at a lone
`\\r`): text lines would also break at U+2028 and U+0085, which are legal inside JSON strings. Reads
may be cut anywhere, inside a UTF-8 sequence too.

SSE: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from typing import Protocol

from electrictown.errors import BadReplyError

__all__ = ["MAX_EVENT", "NdjsonSplitter", "Splitter", "SseSplitter"]

MAX_EVENT = 64 << 20
"""The largest single event in bytes; more is not a reply but a fault."""

_BOM = b"\xef\xbb\xbf"


class Splitter(Protocol):
    """Takes the bytes of one stream as they come and gives the payloads of the events in them."""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that `data` completes.

        Raises:
            BadReplyError: for an event over the limit.
        """
        ...

    def finish(self) -> list[bytes]:
        """The payload of a last event that nothing ended, at the end of the stream."""
        ...


class SseSplitter:
    """Server-sent events: the joined `data:` lines of each event.

    Comments and the fields event, id and retry are ignored, and so is an event without data.
    """

    __slots__ = ("_after_cr", "_limit", "_pieces", "_size")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []  # the event that is not complete yet
        self._size = 0
        self._after_cr = False  # the last read ended in \r: a \n that follows belongs to it

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads of the events that `data` completes; see `Splitter`."""
        if self._after_cr or b"\r" in data:
            data = self._plain_lines(data)
        if not data:
            return []
        if self._pieces:
            # Joining only when an event ends keeps a large event in small reads linear.
            ends = b"\n\n" in data or (data[:1] == b"\n" and self._pieces[-1][-1:] == b"\n")
            self._pieces.append(data)
            self._size += len(data)
            if not ends:
                _check(self._size, self._limit)
                return []
            data = b"".join(self._pieces)
            self._pieces = []
            self._size = 0
        end = data.rfind(b"\n\n")
        rest = data[end + 2 :] if end >= 0 else data
        if rest:
            self._pieces.append(rest)
            self._size = len(rest)
        if end < 0:
            _check(self._size, self._limit)
            return []
        events = data[:end]
        if len(data) > self._limit:
            _check(max(map(len, events.split(b"\n\n"))), self._limit)
            _check(self._size, self._limit)
        return _alike(events) or [p for event in events.split(b"\n\n") for p in _payloads(event)]

    def finish(self) -> list[bytes]:
        """The payload of a last event without its blank line."""
        rest = b"".join(self._pieces)
        self._pieces = []
        self._size = 0
        return _payloads(rest)

    def _plain_lines(self, data: bytes) -> bytes:
        """`data` with every line ending as `\\n`."""
        if not data:
            return data
        if self._after_cr and data[0] == 0x0A:
            data = data[1:]
        self._after_cr = data[-1:] == b"\r"
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _alike(events: bytes) -> list[bytes]:
    """The payloads where every event is one line of data, or a line `event:` and one of data; else nothing.

    So are nearly all. Their lines make a table, which is read by columns: lines are found several times as
    fast as blank lines, and nothing is done event by event.
    """
    lines = events.split(b"\n")
    lines.append(b"")
    height = lines.index(b"") + 1
    if height not in (2, 3) or any(lines[height - 1 :: height]) or len(lines) % height:
        return []
    if height == 3 and not all(line[:6] == b"event:" for line in lines[::3]):
        return []
    payloads = [line[6:] for line in lines[height - 2 :: height] if line[:6] == b"data: "]
    return payloads if len(payloads) * height == len(lines) and all(payloads) else []


def _payloads(event: bytes) -> list[bytes]:
    """The data lines of `event`, joined by newlines; each for itself where blank lines were forgotten."""
    data: list[bytes] = []
    for line in event.removeprefix(_BOM).split(b"\n"):
        if line[:5] == b"data:":
            data.append(line[6:] if line[5:6] == b" " else line[5:])
    if len(data) > 1 and all(line[:1] + line[-1:] in (b"{}", b"[]") for line in data):
        return data
    payload = b"\n".join(data)
    return [payload] if payload else []


class NdjsonSplitter:
    """One JSON value a line; blank lines are ignored."""

    __slots__ = ("_limit", "_pieces", "_size")

    def __init__(self, limit: int = MAX_EVENT) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes; see `Splitter`."""
        if b"\n" not in data:
            if data:
                self._pieces.append(data)
                self._size += len(data)
                _check(self._size, self._limit)
            return []
        if self._pieces:
            self._pieces.append(data)
            data = b"".join(self._pieces)
            self._pieces = []
            self._size = 0
        lines = data.split(b"\n")
        rest = lines.pop()
        if rest:
            self._pieces.append(rest)
            self._size = len(rest)
        if len(data) > self._limit:
            _check(max(map(len, lines), default=0), self._limit)
            _check(self._size, self._limit)
        if data[:3] == _BOM:
            lines[0] = lines[0][3:]
        if b"\r" in data:
            lines = [line.removesuffix(b"\r") for line in lines]
        return [line for line in lines if line and not line.isspace()]

    def finish(self) -> list[bytes]:
        """A last line without its newline."""
        rest = b"".join(self._pieces).removeprefix(_BOM).removesuffix(b"\r")
        self._pieces = []
        self._size = 0
        return [rest] if rest and not rest.isspace() else []


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise BadReplyError(f"an event of the reply is larger than {limit} bytes")
