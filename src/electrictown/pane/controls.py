"""What a person at a session's screen can do, whoever draws the screen."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from electrictown.llm.costs import Summary

__all__ = ["Controls"]


class Controls(Protocol):
    """The session, as its screen has it in hand."""

    @property
    def name(self) -> str:
        """The session's name."""
        ...

    @property
    def folder(self) -> Path:
        """The folder it works in: where `/save` without a path writes."""
        ...

    async def say(self, text: str) -> None:
        """Say `text` as a typed message; returns when it is accepted.

        Raises:
            JournalError: when it cannot be written down; the text was not accepted.
        """
        ...

    def interrupt(self) -> bool:
        """Cut the reply that is under way; False when there is none."""
        ...

    def answer(self, *, allow: bool) -> bool:
        """Answer what an agent asks leave for; False when nothing is asked."""
        ...

    def models(self) -> tuple[str, ...]:
        """What `/model` can be given: aliases of the configuration, or the agent's models."""
        ...

    async def use(self, model: str) -> str:
        """Have `model` answer from now on; its full name.

        Raises:
            ElectrictownError: when there is no such model, or the agent has no choice.
        """
        ...

    def costs(self) -> Summary:
        """What the session has cost so far."""
        ...

    def transcript(self) -> str:
        """The conversation so far, as Markdown."""
        ...

    def quit(self) -> None:
        """End the session; what is under way is cut."""
        ...
