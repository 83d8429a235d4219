"""The state a live view shows: subtasks, phases, money and the text so far. Knows no screen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from electrictown import events as e
from electrictown.console.text import STOPS, blocks, failure, line, money, who

__all__ = ["Board", "Phase", "Row", "State"]

State: TypeAlias = Literal["waiting", "active", "done", "doubted", "failed"]
"""`doubted`: done, but the last review stayed below the threshold."""

_TAIL = 16_384
"""Characters of the streamed text that are kept: more than any screen holds."""


@dataclass
class Row:
    """One subtask; `doing` is the word for what happens to it now."""

    id: str
    text: str = ""
    who: str = ""
    state: State = "waiting"
    doing: str = "waiting"
    tokens: int = 0
    rate: float = 0.0
    started: float | None = None
    ended: float | None = None
    worker: str = ""

    def elapsed(self, now: float) -> float | None:
        """Seconds since the first attempt began, None before."""
        if self.started is None:
            return None
        return (self.ended if self.ended is not None else now) - self.started


@dataclass
class Phase:
    """One phase of the run."""

    name: str
    who: str = ""
    started: float = 0.0
    seconds: float | None = None
    failed: bool = False


@dataclass
class Board:
    """Follows a run; call it with every event."""

    rows: dict[str, Row] = field(default_factory=dict[str, Row])
    phases: dict[str, Phase] = field(default_factory=dict[str, Phase])
    started: float | None = None
    text: str = ""
    writing: str = ""
    tokens: int = 0
    known_usd: float = 0.0
    unpriced: bool = False

    def __call__(self, event: e.Event) -> None:  # noqa: C901, PLR0912  (one case an event)
        """Take `event` in."""
        if self.started is None:
            self.started = event.time
        match event:
            case e.PhaseStarted():
                self.phases[event.phase] = Phase(line(event.phase), line(event.model), event.time)
            case e.PhaseEnded():
                phase = self.phases.setdefault(event.phase, Phase(line(event.phase)))
                phase.seconds, phase.failed = event.seconds, event.error is not None
            case e.PlanMade():
                self.rows = {s.id: Row(line(s.id), line(s.text, 200)) for s in event.plan.subtasks}
            case e.SubtaskStarted():
                row = self._row(event.subtask)
                row.state, row.who, row.worker = "active", who(event.model, event.provider), ""
                row.doing = "working" if event.attempt == 1 else f"attempt {event.attempt}"
                row.started = event.time if row.started is None else row.started
                row.tokens, row.rate = 0, 0.0
            case e.SubtaskProgress():
                row = self._row(event.subtask)
                row.tokens, row.rate = event.tokens, event.tokens_per_second
            case e.SubtaskReviewed():
                row = self._row(event.subtask)
                row.doing = "retry" if event.retry else "reviewed"
            case e.SubtaskEnded():
                self._ended(event)
            case e.CallStarted() if event.subtask:
                self._asked(event)
            case e.CallEnded():
                self._paid(event)
            case e.Waiting() if event.subtask:
                self._row(event.subtask).doing = "on hold"
            case e.TextStreamed():
                self._wrote(event.phase, event.text)
            case e.TextReset():
                self.writing, self.text = event.phase, ""
            case _:
                pass

    def _row(self, subtask: str) -> Row:
        return self.rows.setdefault(subtask, Row(line(subtask)))

    def _asked(self, event: e.CallStarted) -> None:
        row = self._row(event.subtask)
        # The first call of an attempt is the worker's own; another role is at it later.
        row.worker = row.worker or event.role
        if event.role == row.worker:
            row.who = who(event.alias or event.model, event.provider)
            if row.doing == "on hold":
                row.doing = "working"
        else:
            row.doing = line(event.role)

    def _ended(self, event: e.SubtaskEnded) -> None:
        row = self._row(event.subtask)
        row.ended = event.time
        row.tokens = sum(attempt.output_tokens for attempt in event.attempts) or row.tokens
        row.rate = 0.0
        review = event.attempts[-1].review if event.attempts else None
        if event.error is not None and event.error.type in STOPS:
            row.state, row.doing = "waiting", "not done"
        elif event.error is not None:
            row.state, row.doing, row.text = "failed", "failed", failure(event.error)
        elif review is not None and review.error is not None:
            row.state, row.doing = "doubted", "no review"
        else:
            row.state = "done" if event.accepted else "doubted"
            row.doing = "done" if event.accepted else "below par"

    def _paid(self, event: e.CallEnded) -> None:
        spent = event.input_tokens + event.output_tokens + event.cache_read + event.cache_write
        self.tokens += spent
        if event.usd is not None:
            self.known_usd += event.usd
        elif spent or event.error is None:  # a request refused before it began costs nothing
            self.unpriced = True

    def _wrote(self, phase: str, text: str) -> None:
        if phase != self.writing:
            self.writing, self.text = phase, ""
        self.text = (self.text + text)[-_TAIL:]

    @property
    def safe_text(self) -> str:
        """The end of the text being written, safe to show."""
        return blocks(self.text)

    @property
    def money(self) -> str:
        """The money so far."""
        return money(None if self.unpriced else self.known_usd, self.known_usd)
