"""Frames over a unix socket: four bytes of length, then JSON; and sockets in folders with long names."""

from __future__ import annotations

import asyncio
import struct
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from electrictown.errors import SessionError
from electrictown.sessions.messages import LARGEST

__all__ = ["read", "short_path", "write"]

T = TypeVar("T")
_LENGTH: Final = struct.Struct(">I")
_MOST: Final = LARGEST // 3 * 4 + (1 << 20)
"""Bytes of a frame: a message in base 64, and room for what is said of it."""
_LONGEST_PATH: Final = 100
"""Bytes that the path of a unix socket may have on every system."""


async def read(reader: asyncio.StreamReader, decode: Callable[[bytes], T]) -> T | None:
    """The next frame, decoded; None where the other side has closed, in the middle of one too.

    Raises:
        SessionError: for a frame that is too long, or none of ours.
    """
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > _MOST:
            raise SessionError(f"a frame of {length} bytes is longer than any message may be")
        body = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    try:
        return decode(body)
    except msgspec.DecodeError as error:
        raise SessionError(
            f"what came over the inbox cannot be read: {error}", "do both sides run the same version of et?"
        ) from None


async def write(writer: asyncio.StreamWriter, value: object) -> None:
    """Send `value` as one frame.

    Raises:
        ConnectionError: when the other side has gone.
    """
    body = msgspec.json.encode(value)
    writer.write(_LENGTH.pack(len(body)) + body)
    await writer.drain()


@contextmanager
def short_path(folder: Path, name: str) -> Generator[str]:
    """A path of the socket `name` in `folder` that is short enough for one, while it is used.

    A unix socket's path may have about a hundred bytes; a longer one is reached by a link that nobody else
    can write to.
    """
    path = str(folder / name)
    if len(path.encode()) <= _LONGEST_PATH:
        yield path
        return
    parent = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(dir=parent if len(parent) < _LONGEST_PATH // 2 else "/tmp") as short:  # noqa: S108
        link = Path(short, "s")
        link.symlink_to(folder.absolute(), target_is_directory=True)
        yield str(link / name)
