"""Agents from elsewhere as workers of a run: what the engine asks of one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from electrictown.events import Emit
from electrictown.llm.messages import Usage
from electrictown.work import File

__all__ = ["Agent", "AgentReply", "Consent", "Engagement"]

Consent = Callable[[str], Awaitable[bool]]
"""Asks a person for leave to do what it is given in words: True allows it."""


class AgentReply(Struct, frozen=True, omit_defaults=True):
    """What an agent came back with.

    `text` is what it said; `files` are those of its folder that it made or changed, `deleted` the paths
    of those it removed, `left` says of each changed file that is no text why it is not among them.
    `usage` and `usd` are None unless the agent tells them; `model` is "" where it does not say. `stopped`
    is why it ended before it was done ("max_tokens", "refusal", ...), "" where it was.
    """

    text: str
    files: tuple[File, ...] = ()
    deleted: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    model: str = ""
    usage: Usage | None = None
    usd: float | None = None
    stopped: str = ""


class Engagement(Protocol):
    """An agent at work in one folder, over as many turns as it is asked."""

    @property
    def id(self) -> str:
        """What the agent calls this engagement; "" where it cannot take one up again."""
        ...

    @property
    def models(self) -> tuple[str, ...]:
        """The models that can be chosen, as far as the agent tells."""
        ...

    async def use(self, model: str) -> str:
        """Have `model` answer from now on; its name.

        Raises:
            AgentError: when the agent has no such model, or no choice.
        """
        ...

    async def ask(self, text: str, emit: Emit) -> AgentReply:
        """What the agent makes of `text`; its words go out as `TextStreamed` of the phase "reply".

        Cancelling cancels the agent's turn, and waits until it has let go.

        Raises:
            AgentError, AuthError, RateLimitError: when it cannot work.
        """
        ...


class Agent(Protocol):
    """An agent's program, which can be engaged in any number of folders."""

    @property
    def name(self) -> str:
        """Its name under `agents:`."""
        ...

    def check(self) -> None:
        """See to it that its program is there.

        Raises:
            AgentMissingError: when it is not.
        """
        ...

    def engage(
        self, folder: Path, *, consent: Consent | None = None, resume: str = "", model: str = ""
    ) -> AbstractAsyncContextManager[Engagement]:
        """Start it for the work in `folder`. Left, it has ended with all that it started.

        What the policy says to ask about is asked of `consent` (None: it is denied). `resume` is the id of
        an engagement to take up again, where the agent can; `model` chooses one of its models.

        Raises:
            AgentMissingError, AgentError, AuthError: when it cannot be started.
        """
        ...
