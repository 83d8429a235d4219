"""What both clients ask, and how a path tells the server what to answer with."""

from __future__ import annotations

import re

from msgspec import Struct

__all__ = ["KEY", "LONG", "MODELS", "SHORT", "SYSTEM", "USER", "Shape", "shape_of"]

KEY = "sk-bench-0123456789"
SYSTEM = "You are a careful engineer who reads before writing. " * 12
USER = "Implement binary search in Python, with tests and a note on its limits. " * 8

MODELS = {
    "openai": "gpt-4o",
    "anthropic": "claude-sonnet-4-5-20250929",
    "gemini": "gemini-2.5-flash",
    "ollama": "qwen3-coder:30b",
}
"""The wires that are measured, and a model of each."""


class Shape(Struct, frozen=True):
    """A streamed reply: so many events of text, so many milliseconds apart."""

    events: int
    pause: int = 0

    @property
    def path(self) -> str:
        """The path in front of the protocol's own that asks for this."""
        return f"/n{self.events}p{self.pause}"

    @property
    def pieces(self) -> tuple[str, ...]:
        """The text of the events."""
        return tuple(f" piece{number}" for number in range(self.events))


def shape_of(path: str) -> Shape | None:
    """The reply that a path asks for; None where it asks for none in particular."""
    found = re.fullmatch(r"/n(\d+)p(\d+)", path)
    return Shape(int(found[1]), int(found[2])) if found else None


SHORT, LONG = Shape(300), Shape(5000)
