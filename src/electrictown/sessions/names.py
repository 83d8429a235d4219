"""Names of sessions: `et-{role}-{short hex}`. Always meant exactly, never as a beginning."""

from __future__ import annotations

import re
import secrets
from typing import Final

from electrictown.errors import UnknownSessionError

__all__ = ["PREFIX", "checked", "is_name", "new_name"]

PREFIX: Final = "et-"
_NAME = re.compile(r"et-[A-Za-z0-9][A-Za-z0-9_-]{0,79}")
_LONGEST_ROLE = 32
_DIGITS = 4


def new_name(role: str, digits: int = _DIGITS) -> str:
    """A name for a session of `role`, as a file, tmux and a shell can bear it."""
    slug = re.sub(r"[^a-z0-9]+", "-", role.lower())[:_LONGEST_ROLE].strip("-") or "agent"
    return f"{PREFIX}{slug}-{secrets.token_hex(digits)[:digits]}"


def is_name(name: str) -> bool:
    """Whether `name` can be a session's."""
    return _NAME.fullmatch(name) is not None


def checked(name: str) -> str:
    """`name`, which can be a session's.

    Raises:
        UnknownSessionError: when it cannot.
    """
    if not is_name(name):
        raise UnknownSessionError(
            f"{name!r} is no name of a session", "`et session list` lists the sessions there are"
        )
    return name
