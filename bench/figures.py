"""What a measure gives, and how much effort it takes."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from bench.questions import MODELS

__all__ = ["QUICK", "Effort", "Figure", "Row"]


class Figure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One result. `goal` is the most it should be; `raw` what the same costs by hand, in the same run."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    raw: float | None = None
    routed: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        return None if self.goal is None else self.value <= self.goal


class Effort(Struct, frozen=True):
    """How often, and how much each time."""

    rounds: int = 5
    requests: int = 1500
    streams: int = 8
    wires: tuple[str, ...] = tuple(MODELS)
    starts: int = 9
    paced_seconds: int = 4
    many: int = 1000
    steps: int = 5000
    subtasks: int = 200


QUICK = Effort(
    rounds=1,
    requests=20,
    streams=1,
    wires=("openai",),
    starts=1,
    paced_seconds=1,
    many=20,
    steps=100,
    subtasks=8,
)

Row: TypeAlias = dict[str, float]
