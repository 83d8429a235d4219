"""What an agent is given leave for: a policy for each kind of tool call, and which paths are its own.

An agent that asks can be refused; one that does not ask is not held back by this. It is no sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, TypeAlias

from msgspec import Struct

__all__ = ["KINDS", "Decision", "Permissions", "decide", "place_of"]

Decision: TypeAlias = Literal["allow", "deny", "ask"]

_WRITING: Final = frozenset({"edit", "delete", "move"})
_GUARDED: Final = frozenset({".git", "electrictown.yaml"})
"""What is in these is obeyed by programs of ours and others: writing there is more than writing a file."""


class Permissions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is decided about each kind of tool call, in the protocol's words.

    `edit`, `delete` and `move` are for what lies in the agent's folder; nothing outside it may be written,
    whatever they say. "ask" is "deny" where nobody can be asked.
    """

    read: Decision = "allow"
    search: Decision = "allow"
    think: Decision = "allow"
    edit: Decision = "allow"
    delete: Decision = "allow"
    move: Decision = "allow"
    execute: Decision = "ask"
    fetch: Decision = "ask"
    switch_mode: Decision = "ask"
    other: Decision = "ask"


KINDS: Final = Permissions.__struct_fields__


def decide(permissions: Permissions, kind: str, paths: Iterable[str], folder: Path) -> Decision:
    """What becomes of a tool call of `kind` at `paths`, as the agent names them, for work in `folder`.

    A kind that is unknown is "other". A call that writes is denied where one path leads out of the folder,
    through `..` or a link too, and is a question where it names none, the folder itself, or one that is
    guarded.
    """
    decision: Decision = getattr(permissions, kind) if kind in KINDS else permissions.other
    if kind not in _WRITING or decision == "deny":
        return decision
    places = [place_of(path, folder) for path in paths]
    if None in places:
        return "deny"
    if not places or any(_guarded(place) for place in places if place is not None):
        return "ask"
    return decision


def place_of(path: str, folder: Path) -> Path | None:
    """Where `path` leads when every link is followed, relative to `folder`; None when it leads out of it.

    Many programs take `..` off a path before they follow its links: that way, too, it must stay inside.
    """
    root = folder.resolve()
    try:
        named = root / Path(path).expanduser()
        Path(os.path.normpath(named)).resolve().relative_to(root)
        return named.resolve().relative_to(root)
    except (ValueError, OSError, RuntimeError):  # a NUL, a loop of links, a home that nobody has
        return None


def _guarded(place: Path) -> bool:
    return not place.parts or any(part.casefold() in _GUARDED for part in place.parts)
