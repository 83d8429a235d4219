"""The things that flow through a run: task, plan, subtask, result, review, report.

Data only, frozen. It flows one way: task, plan, subtask, result, review, report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from msgspec import Struct, field

if TYPE_CHECKING:
    from electrictown.errors import ElectrictownError

__all__ = [
    "Attempt",
    "Budget",
    "Cost",
    "Done",
    "Failed",
    "Failure",
    "File",
    "Hop",
    "Outcome",
    "Plan",
    "Planned",
    "Report",
    "Result",
    "Review",
    "Subtask",
    "Task",
]


class Task(Struct, frozen=True):
    """What a person asks for. `source` says where it came from: argument, stdin, or a file's name."""

    text: str
    source: str = "argument"


class Subtask(Struct, frozen=True, omit_defaults=True):
    """A node of the plan. `depends` names subtask ids; `paths` the files it means to write."""

    id: str
    text: str
    depends: tuple[str, ...] = ()
    specialist: str = ""
    paths: tuple[str, ...] = ()


class Plan(Struct, frozen=True, omit_defaults=True):
    """A task as a directed acyclic graph of subtasks, in the order the mayor named them.

    `notes` says what was changed on the way (a specialist's name corrected, a plan repaired).
    """

    task: str
    subtasks: tuple[Subtask, ...]
    summary: str = ""
    notes: tuple[str, ...] = ()
    version: int = 1


class File(Struct, frozen=True):
    """A file a worker gave, by its path relative to the output folder."""

    path: str
    text: str


class Failure(Struct, frozen=True, omit_defaults=True):
    """An error as data: its type's name, what happened, what to do about it."""

    type: str
    message: str
    hint: str = ""
    exit_code: int = 1

    @classmethod
    def of(cls, error: ElectrictownError) -> Failure:
        """The data of a typed error."""
        return cls(type(error).__name__, error.message, error.hint, error.exit_code)


class Hop(Struct, frozen=True, omit_defaults=True):
    """One step of a fallback: who failed, why, and who took over ("" when nobody did)."""

    failed: str
    error: str
    took_over: str = ""
    message: str = ""
    role: str = ""
    subtask: str = ""


class Attempt(Struct, frozen=True, omit_defaults=True):
    """One try of a subtask: who worked, for how long, and what came of it.

    `reply` is the text the model gave, `review` what the witness said of it. `files` are what an agent
    made in its folder, byte for byte; None: they are those in the reply.
    """

    number: int
    model: str
    provider: str
    seconds: float = 0.0
    output_tokens: int = 0
    reply: str = ""
    review: Review | None = None
    error: Failure | None = None
    files: tuple[File, ...] | None = None


class Review(Struct, frozen=True, omit_defaults=True):
    """What a reviewer says. `score` is 1 to 10, None where the reply named none: then it is no pass.

    `critique` is the concrete part that a retry is told. `error` is why nobody could be asked.
    """

    text: str
    passed: bool
    score: float | None = None
    critique: str = ""
    threshold: float | None = None
    error: Failure | None = None


class Done(Struct, frozen=True, tag="done", omit_defaults=True):
    """A finished subtask. `accepted` is False when the last review stayed below the threshold."""

    subtask: str
    text: str
    files: tuple[File, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    review: Review | None = None
    accepted: bool = True


class Failed(Struct, frozen=True, tag="failed", omit_defaults=True):
    """A subtask that could not be done, and why."""

    subtask: str
    error: Failure
    attempts: tuple[Attempt, ...] = ()


Result: TypeAlias = Done | Failed


class Cost(Struct, frozen=True, omit_defaults=True):
    """One line of the bill. `usd` is None where a price is unknown: unknown, never 0.

    `known_usd` is what the priced part of an unknown total comes to.
    """

    name: str
    requests: int = 0
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    usd: float | None = 0.0
    known_usd: float = 0.0
    partial: int = 0

    @property
    def tokens(self) -> int:
        """All tokens of the line."""
        return self.input + self.cache_read + self.cache_write + self.output


class Budget(Struct, frozen=True, omit_defaults=True):
    """What a run was allowed to spend and how much of it is gone, in US dollars and in tokens.

    `usd` and `tokens` are the run's own caps, None where there is none. What was `spent` counts a request
    whose bill nobody knows at the most it can have cost. `reserved` is what was still set aside when the
    run ended, for requests that were under way.
    """

    usd: float | None = None
    tokens: int | None = None
    spent_usd: float = 0.0
    spent_tokens: int = 0
    reserved_usd: float = 0.0
    reserved_tokens: int = 0


class Planned(Struct, frozen=True, omit_defaults=True):
    """What a phase of a run that was not made yet would ask, at the most.

    `models` are those that may answer, in the order they are tried; `usd` is the worst case, None where
    a price or a limit is unknown.
    """

    phase: str
    models: tuple[str, ...]
    calls: int
    usd: float | None = None


Outcome: TypeAlias = Literal["done", "failed", "interrupted", "dry-run"]


class Report(Struct, frozen=True, omit_defaults=True):
    """The end of a run: what came of it, what it cost, what was noticed.

    `text` is the result; `exit_code` is what the process ends with. `files` are the paths written,
    `refused` the paths a worker asked for and did not get, with the reason. `planned` is what a dry run
    foresees, `budget` how much of what was allowed is gone (None: nothing was said of it).
    """

    run: str
    task: str
    outcome: Outcome
    exit_code: int
    text: str = ""
    plan: Plan | None = None
    brief: str = ""
    results: tuple[Result, ...] = ()
    files: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    costs: dict[str, tuple[Cost, ...]] = field(default_factory=dict[str, tuple[Cost, ...]])
    total: Cost | None = None
    hops: tuple[Hop, ...] = ()
    notes: tuple[str, ...] = ()
    planned: tuple[Planned, ...] = ()
    budget: Budget | None = None
    error: Failure | None = None
    seconds: float = 0.0
