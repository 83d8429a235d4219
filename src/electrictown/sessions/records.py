"""What is known of a session: who it is, how it does, and what its journal's steps hold.

    kind      key             value
    run       run             Header     how the session was begun
    said      said.ID         Said       a message that the session accepted, in the order it was accepted
    turn      turn.ID         Turn       what became of that message
    switch    switch.eE.N     Switched   another model was chosen
    engaged   engaged.eE.N    Engaged    an agent of others was engaged

ID is the message's own; E counts the starts of the session, N within one. The other kinds (reserve,
settle, hop, note, failure, end) are those of any run: see `journal.records`.
"""

from __future__ import annotations

import time
from typing import Final, Literal, TypeAlias

from msgspec import Struct, field

from electrictown.work import Cost, Failure

__all__ = [
    "LIVE",
    "TYPED",
    "BackendName",
    "Engaged",
    "Record",
    "Said",
    "SessionRow",
    "State",
    "Status",
    "Switched",
    "Turn",
]

BackendName: TypeAlias = Literal["tmux", "byobu", "none"]

State: TypeAlias = Literal[
    "starting",
    "ready",
    "working",
    "waiting for input",
    "rate-limited",
    "stuck",
    "done",
    "failed",
    "foreign",
]
"""How a session does. "foreign" is a tmux session with a name like ours that nobody recorded."""

LIVE: Final[frozenset[State]] = frozenset(
    {"starting", "ready", "working", "waiting for input", "rate-limited", "stuck"}
)
"""States of a session that has not ended."""

TYPED: Final = "typed"
"""The sender of what was typed at the session's own screen."""


class Record(Struct, frozen=True, omit_defaults=True):
    """A session as it was spawned; written before anything is started.

    `agent` is "" for a conversation with the model of `role`, else a name under `agents:`. `socket` names
    the tmux server ("" for tmux's own default), `folder` is where the agent works, `config` the file that
    says with what ("" where there was none); `prompt` is the beginning of the first message. `mark` is in the
    environment of every process that the session started, and of no other.
    """

    name: str
    role: str
    backend: BackendName
    folder: str
    mark: str
    agent: str = ""
    socket: str = ""
    created: float = 0.0
    config: str = ""
    prompt: str = ""


class Status(Struct, frozen=True, omit_defaults=True):
    """How a session does, as its own process says it.

    `why` says more of the state (what is waited for, what failed, "killed"). `until` is when a rate
    limit ends, `heard` when the model or agent was last heard of, both as of `time.time()`. `queued` are
    messages that are accepted and not yet answered. `line` is the last line of the conversation.
    """

    state: State
    why: str = ""
    until: float | None = None
    model: str = ""
    turns: int = 0
    queued: int = 0
    cost: Cost = field(default_factory=lambda: Cost("total"))
    line: str = ""
    pid: int = 0
    at: float = field(default_factory=time.time)
    heard: float = 0.0


class SessionRow(Struct, frozen=True, omit_defaults=True):
    """A session in a list: its record (None for one that is found in tmux alone) and its status."""

    name: str
    status: Status
    record: Record | None = None
    attached: bool = False


class Said(Struct, frozen=True, omit_defaults=True):
    """A message as it was accepted. `raw` holds its bytes where they are no UTF-8 text, and `text` shows
    them then, every byte that is none as `\\xNN`. `sender` is "typed", or who sent it.
    """

    id: str
    text: str
    sender: str = ""
    raw: bytes | None = None

    @classmethod
    def of(cls, id: str, data: bytes, sender: str = "") -> Said:
        """The message whose bytes are `data`."""
        try:
            return cls(id, data.decode(), sender)
        except UnicodeDecodeError:
            return cls(id, data.decode(errors="backslashreplace"), sender, data)

    @property
    def data(self) -> bytes:
        """Its bytes, exactly as they were sent."""
        return self.text.encode() if self.raw is None else self.raw


class Turn(Struct, frozen=True, omit_defaults=True):
    """What became of a message: `text` is the reply, as far as it came where `outcome` is not "done".

    `files` are the paths an agent changed. `model` is who answered, `tokens` and `usd` are what it took;
    `usd` is None where that is not known.
    """

    said: str
    outcome: Literal["done", "failed", "interrupted"]
    text: str = ""
    model: str = ""
    seconds: float = 0.0
    tokens: int = 0
    usd: float | None = None
    files: tuple[str, ...] = ()
    error: Failure | None = None


class Switched(Struct, frozen=True):
    """From here on `model` answers."""

    model: str


class Engaged(Struct, frozen=True):
    """The agent calls this engagement `id`; "" where it cannot take one up again."""

    id: str
