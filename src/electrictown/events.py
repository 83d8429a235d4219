"""What happened, for people and tools: the only side channel of a run.

Events are tagged Structs; `emit` takes one and returns at once. Where OpenTelemetry's GenAI
conventions name an attribute, the JSON field bears that name. Console, `--jsonl` and traces are
subscribers; nothing in the engine prints, and nothing reads events back to decide what to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

from msgspec import Struct, field

from electrictown.work import Attempt, Failure, Plan, Report, Review

__all__ = [
    "CallEnded",
    "CallStarted",
    "Emit",
    "Event",
    "FileRefused",
    "FileWritten",
    "HopTaken",
    "HostBenched",
    "Noted",
    "PhaseEnded",
    "PhaseStarted",
    "PlanMade",
    "RunEnded",
    "RunStarted",
    "SubtaskEnded",
    "SubtaskProgress",
    "SubtaskReviewed",
    "SubtaskStarted",
    "TextReset",
    "TextStreamed",
    "Waiting",
    "ignore",
]


class _Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    time: float = field(default_factory=time.time)


class RunStarted(_Event, frozen=True, tag="run.started"):
    """A run begins. `config` says what was chosen and from where."""

    run: str
    task: str
    config: str = ""


class PhaseStarted(_Event, frozen=True, tag="phase.started"):
    """A phase begins: plan, brief, work, synthesize, refine. `model` is who is asked, where one is."""

    phase: str
    model: str = ""


class PhaseEnded(_Event, frozen=True, tag="phase.ended"):
    """A phase is over; `error` is set when it failed."""

    phase: str
    seconds: float = 0.0
    error: Failure | None = None


class PlanMade(_Event, frozen=True, tag="plan.made"):
    """The plan stands."""

    plan: Plan


class SubtaskStarted(_Event, frozen=True, tag="subtask.started"):
    """A worker begins an attempt at a subtask."""

    subtask: str
    attempt: int
    model: str = field(name="gen_ai.request.model")
    provider: str = field(name="gen_ai.provider.name")


class SubtaskProgress(_Event, frozen=True, tag="subtask.progress"):
    """A worker has produced this much so far (about twice a second at the most)."""

    subtask: str
    tokens: int
    tokens_per_second: float = 0.0


class SubtaskReviewed(_Event, frozen=True, tag="subtask.reviewed"):
    """The witness has scored a subtask; `retry` says whether the worker is asked again."""

    subtask: str
    review: Review
    retry: bool = False


class SubtaskEnded(_Event, frozen=True, tag="subtask.ended"):
    """A subtask is done, or failed with `error`."""

    subtask: str
    attempts: tuple[Attempt, ...] = ()
    accepted: bool = True
    error: Failure | None = None


class CallStarted(_Event, frozen=True, tag="call.started"):
    """A request goes out to a host."""

    role: str
    model: str = field(name="gen_ai.request.model")
    provider: str = field(name="gen_ai.provider.name")
    alias: str = ""
    subtask: str = ""


class CallEnded(_Event, frozen=True, tag="call.ended"):
    """A request is over. `usd` is None where the price is unknown."""

    role: str
    model: str = field(name="gen_ai.request.model")
    provider: str = field(name="gen_ai.provider.name")
    alias: str = ""
    subtask: str = ""
    seconds: float = 0.0
    first_token: float | None = None
    input_tokens: int = field(default=0, name="gen_ai.usage.input_tokens")
    output_tokens: int = field(default=0, name="gen_ai.usage.output_tokens")
    cache_read: int = 0
    cache_write: int = 0
    usd: float | None = None
    partial: bool = False
    finish_reason: str = field(default="", name="gen_ai.response.finish_reason")
    error: Failure | None = None


class HopTaken(_Event, frozen=True, tag="hop"):
    """A host failed; `took_over` is asked next ("" when nobody is left)."""

    failed: str
    error: Failure
    took_over: str = ""
    role: str = ""
    subtask: str = ""


class Waiting(_Event, frozen=True, tag="waiting"):
    """A request waits `seconds` before it is tried again on the same host: waiting is not failing.

    `limited` is whether the host wants it so, since it is asked too much.
    """

    model: str
    seconds: float
    reason: str
    limited: bool = False
    role: str = ""
    subtask: str = ""


class HostBenched(_Event, frozen=True, tag="host.benched"):
    """A pool member takes no more work in this run, and why."""

    model: str
    error: Failure


class TextStreamed(_Event, frozen=True, tag="text"):
    """A piece of the run's own text (single worker, synthesis, polish), in order. `phase` says whose."""

    text: str
    phase: str


class TextReset(_Event, frozen=True, tag="text.reset"):
    """The text of `phase` starts again from nothing."""

    phase: str
    reason: str


class FileWritten(_Event, frozen=True, tag="file.written"):
    """A worker's file lies in the output folder."""

    path: str
    subtask: str = ""
    bytes: int = 0


class FileRefused(_Event, frozen=True, tag="file.refused"):
    """A worker's file was not written, and why."""

    path: str
    reason: str
    subtask: str = ""


class Noted(_Event, frozen=True, tag="note"):
    """Something a person should know. `level` is "info", "warning", or "detail": that is not kept for the
    report.
    """

    text: str
    level: str = "info"


class RunEnded(_Event, frozen=True, tag="run.ended"):
    """The run is over."""

    report: Report


Event: TypeAlias = (
    RunStarted
    | PhaseStarted
    | PhaseEnded
    | PlanMade
    | SubtaskStarted
    | SubtaskProgress
    | SubtaskReviewed
    | SubtaskEnded
    | CallStarted
    | CallEnded
    | HopTaken
    | Waiting
    | HostBenched
    | TextStreamed
    | TextReset
    | FileWritten
    | FileRefused
    | Noted
    | RunEnded
)

Emit: TypeAlias = Callable[[Event], None]
"""Takes an event and returns at once; it never raises and never blocks."""


def ignore(event: Event) -> None:
    """The subscriber that listens to nothing."""
