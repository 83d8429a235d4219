"""Which step of a run's journal a request to the fake town is made for."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from fakes.fake_server import Seen
from fakes.town_kit import phase_of

__all__ = ["Steps", "timeless"]

Json: TypeAlias = Any

_CHANCE = frozenset(
    {"seconds", "model", "provider", "number", "id", "attempts", "usage", "output_tokens", "bytes", "origin"}
)


class Steps:
    """Knows the keys of a run's calls from its plan, as the mayor replied it.

    A worker that is sent back must say "attempt 2" in its second answer: so its review is known from
    that of the first.
    """

    def __init__(self, plan: str) -> None:
        lines = re.findall(r"^(\d+)\. (.+?)(?: \[.*\])?$", plan, re.MULTILINE)
        self.names = {f"t{int(number):02}": text for number, text in lines}

    def worked(self, seen: Seen) -> tuple[str, int]:
        """The subtask that a worker is asked for, and the number of the attempt."""
        return self._subtask(seen.prompt), 2 if "## Your earlier answer" in seen.prompt else 1

    def reviewed(self, seen: Seen) -> tuple[str, int]:
        """The subtask that the witness is asked about, and the number of the attempt."""
        return self._subtask(seen.prompt), 2 if "attempt 2" in seen.prompt else 1

    def key_of(self, seen: Seen) -> str:
        """The key of the step that a request is made for."""
        match phase_of(seen):
            case "work":
                name, number = self.worked(seen)
                return f"{name}.attempt{number}"
            case "review":
                name, number = self.reviewed(seen)
                return f"{name}.review{number}.call1"
            case phase:
                return "plan.call1" if phase == "plan" else phase

    def _subtask(self, prompt: str) -> str:
        return next(
            name
            for name, text in self.names.items()
            if re.search(rf"(Your subtask\s+|under review: ){re.escape(text)}(?!\w)", prompt)
        )


def timeless(value: Json) -> Json:
    """`value` without what depends on the clock, or on which host was free."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in _CHANCE}
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return value
