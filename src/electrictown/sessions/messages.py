"""What is said over a session's inbox: one frame a message, each a tagged struct.

A frame is four bytes of length, most significant first, and so many bytes of JSON. A request is answered
by one reply, but `Say` with `wait` by two: `Accepted` when the message is committed, `Answered` when its
turn is over.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from msgspec import Struct, field

from electrictown.sessions.records import Status, Turn
from electrictown.work import Failure

__all__ = [
    "LARGEST",
    "Accepted",
    "Answer",
    "Answered",
    "Begin",
    "Interrupt",
    "Look",
    "Okay",
    "Refused",
    "Reply",
    "Request",
    "Say",
    "Seen",
    "Stop",
]

LARGEST: Final = 64 << 20
"""Bytes of the longest message: far more than any model reads."""


class Begin(Struct, frozen=True, tag="begin", omit_defaults=True):
    """The first request of all: what the session's process is to work with.

    The environment comes here, and in no process's environment block or command line. `config` is the
    file (None: what is found), `prompt` the first message (None: none). `resume` goes on with what the
    journal holds. `budget` is what the command line said of it.
    """

    environ: dict[str, str]
    config: str | None = None
    prompt: bytes | None = None
    resume: bool = False
    budget: str | None = None


class Say(Struct, frozen=True, tag="say", omit_defaults=True):
    """A message. One whose `id` was accepted before is accepted again, and not said twice."""

    id: str
    data: bytes
    sender: str = ""
    wait: bool = False


class Look(Struct, frozen=True, tag="look"):
    """How does it do? Answered by `Seen`."""


class Interrupt(Struct, frozen=True, tag="interrupt"):
    """Cut the reply that is under way."""


class Answer(Struct, frozen=True, tag="answer"):
    """The answer to what an agent asks leave for."""

    allow: bool


class Stop(Struct, frozen=True, tag="stop", omit_defaults=True):
    """End: what is under way is cut, what was accepted is kept for a resumption."""

    why: str = ""


Request: TypeAlias = Begin | Say | Look | Interrupt | Answer | Stop


class Okay(Struct, frozen=True, tag="okay"):
    """It is done."""


class Refused(Struct, frozen=True, tag="refused"):
    """It cannot be done, and why."""

    error: Failure


class Accepted(Struct, frozen=True, tag="accepted"):
    """The message is committed; so many messages are before it."""

    id: str
    ahead: int = 0


class Answered(Struct, frozen=True, tag="answered"):
    """The message's turn is over."""

    turn: Turn


class Seen(Struct, frozen=True, tag="seen"):
    """How it does."""

    status: Status = field(default_factory=lambda: Status("starting"))


Reply: TypeAlias = Okay | Refused | Accepted | Answered | Seen
