"""The system's certificates, read when a host first speaks TLS instead of when a library is imported.

aiohttp makes its context for TLS while it is imported, and the context reads every certificate that the
system trusts: a tenth of the program's start, and for nothing where all hosts are on the own network.
"""

from __future__ import annotations

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

__all__ = ["read_when_needed"]

_read = ssl.SSLContext.load_default_certs
_HANDSHAKES = ("wrap_bio", "wrap_socket")


@contextmanager
def read_when_needed() -> Generator[None]:
    """Contexts that are made inside the block read the system's certificates before their first handshake.

    In every other way they are what they would have been, whoever makes them and whoever uses them.
    """
    ssl.SSLContext.load_default_certs = _read_later
    try:
        yield
    finally:
        ssl.SSLContext.load_default_certs = _read


def _read_later(self: ssl.SSLContext, purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH) -> None:
    if _HANDSHAKES[0] in self.__dict__:  # those for one purpose wait already
        _read(self, purpose)
        return
    for name in _HANDSHAKES:
        self.__dict__[name] = partial(_read_and_shake, self, purpose, name)


def _read_and_shake(
    context: ssl.SSLContext, purpose: ssl.Purpose, name: str, /, *args: object, **settings: object
) -> object:
    _read(context, purpose)  # before the names go: a thread that finds them gone relies on it
    for hidden in _HANDSHAKES:
        context.__dict__.pop(hidden, None)
    return getattr(context, name)(*args, **settings)
