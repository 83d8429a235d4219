"""What a person is told of a run, line by line: events in, short sentences out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from msgspec import Struct

from electrictown import events as e
from electrictown.console.text import STOPS, count, duration, failure, line, who
from electrictown.work import Plan, Review

__all__ = ["UNTOLD", "Level", "Line", "Narrator"]

Level: TypeAlias = Literal["detail", "info", "warning", "error"]
"""`detail` is what a live view shows by itself; `error` is what even --quiet shows."""


_NOTES: Mapping[str, Level] = {"warning": "warning", "detail": "detail"}


class Line(Struct, frozen=True):
    """One line for a person; `text` is safe to print."""

    text: str
    level: Level = "info"


UNTOLD = frozenset({e.CallStarted, e.CallEnded, e.TextStreamed, e.SubtaskProgress})
"""What no line is worth. The most frequent events are among them, so it is asked for at once."""


class Narrator:
    """Tells a run: call it with an event, print what it returns."""

    def __init__(self) -> None:
        self._started: dict[str, float] = {}

    def __call__(self, event: e.Event) -> list[Line]:  # noqa: C901, PLR0911, PLR0912  (one case an event)
        """The lines `event` is worth; most are worth none."""
        if type(event) in UNTOLD:
            return []
        match event:
            case e.RunStarted():
                return [Line(line(event.config))] if event.config else []
            case e.PhaseStarted():
                return [Line(line(f"{event.phase}: asking {event.model}"), "detail")] if event.model else []
            case e.PhaseEnded():
                return _phase(event)
            case e.PlanMade():
                return _plan(event.plan)
            case e.SubtaskStarted():
                self._started.setdefault(event.subtask, event.time)
                again = f" (attempt {event.attempt})" if event.attempt > 1 else ""
                at = who(event.model, event.provider)
                return [Line(f"{line(event.subtask)} started on {at}{again}", "detail")]
            case e.SubtaskReviewed():
                return [_review(event)]
            case e.SubtaskEnded():
                return [self._ended(event)]
            case e.HopTaken():
                return [_hop(event)]
            case e.Waiting():
                asker = _asker(event.role, event.subtask)
                wait = f"{asker} waits {duration(event.seconds)} for {event.model}: {event.reason}"
                return [Line(line(wait))]
            case e.HostBenched():
                benched = f"{line(event.model)} gets no more work in this run: {failure(event.error)}"
                return [Line(benched, "warning")]
            case e.TextReset():
                return [Line(line(f"{event.phase} starts again: {event.reason}"))]
            case e.FileWritten():
                return [Line(line(f"wrote {event.path} ({count(event.bytes, 'byte')})"))]
            case e.FileRefused():
                asker = f" from {event.subtask}" if event.subtask else ""
                return [Line(line(f"refused {event.path}{asker}: {event.reason}"), "warning")]
            case e.Noted():
                return [Line(line(event.text), _NOTES.get(event.level, "info"))]
            case _:
                return []

    def _ended(self, event: e.SubtaskEnded) -> Line:
        name = line(event.subtask)
        start = self._started.get(event.subtask)
        took = duration(event.time - start) if start is not None else ""
        if event.error is not None and event.error.type in STOPS:
            return Line(f"{name} is not done: {line(event.error.message)}", "detail")
        if event.error is not None:
            return Line(f"{name} failed{took and f' after {took}'}: {failure(event.error)}", "error")
        tokens = sum(attempt.output_tokens for attempt in event.attempts)
        done = f"{name} done{took and f' in {took}'}" + (f", {count(tokens, 'token')}" if tokens else "")
        if event.accepted:
            return Line(done, "detail")
        review = event.attempts[-1].review if event.attempts else None
        if review is not None and review.error is not None:
            return Line(f"{done}, {line(review.text)}", "warning")
        return Line(f"{done}, but its last review stayed below the threshold", "warning")


def _phase(event: e.PhaseEnded) -> list[Line]:
    if event.error is not None:
        return [Line(f"{line(event.phase)} failed: {failure(event.error)}", "error")]
    return [Line(f"{line(event.phase)} done in {duration(event.seconds)}", "detail")]


def _plan(plan: Plan) -> list[Line]:
    lines = [Line(f"plan: {count(len(plan.subtasks), 'subtask')}", "detail")]
    for subtask in plan.subtasks:
        by = f" [{subtask.specialist}]" if subtask.specialist else ""
        after = f" (after {', '.join(subtask.depends)})" if subtask.depends else ""
        lines.append(Line(f"  {line(f'{subtask.id}{by} {subtask.text}{after}', 160)}", "detail"))
    return lines + [Line(line(f"plan: {note}")) for note in plan.notes]


def _review(event: e.SubtaskReviewed) -> Line:
    review = event.review
    verdict = "passed" if review.passed else "not passed"
    then = ", asked again" if event.retry else ""
    return Line(f"{line(event.subtask)} review: {verdict}{_score(review)}{then}", "detail")


def _score(review: Review) -> str:
    return ", no score named" if review.score is None else f", {review.score:g} of 10"


def _hop(event: e.HopTaken) -> Line:
    asker = _asker(event.role, event.subtask)
    then = f"{event.took_over} takes over" if event.took_over else "nobody is left to take over"
    return Line(f"{asker}: {line(event.failed)} failed ({failure(event.error)}); {line(then)}", "warning")


def _asker(role: str, subtask: str) -> str:
    return line(" ".join(filter(None, (role, subtask)))) or "a request"
