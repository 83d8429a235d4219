"""What the report must say of a run: a subscriber that keeps it and hands every event on.

Hops and notes are decisions: they go into the journal too, so that a run that is taken up again still
knows them.
"""

from __future__ import annotations

from contextlib import suppress

from electrictown.errors import JournalError
from electrictown.events import (
    Emit,
    Event,
    FileRefused,
    FileWritten,
    HopTaken,
    Noted,
    PlanMade,
    SubtaskEnded,
    ignore,
)
from electrictown.journal.journal import Journal
from electrictown.work import Hop

__all__ = ["Chronicle"]

_KEPT = frozenset({PlanMade, HopTaken, Noted, FileWritten, FileRefused})


class Chronicle:
    """Keeps hops, notes and files of one run. It is an `Emit` itself.

    `scope` is the subtask whose worker keeps it, "" for the driver of the run.
    """

    def __init__(self, emit: Emit = ignore, journal: Journal | None = None, scope: str = "") -> None:
        self._emit = emit
        self._journal = journal
        self._scope = f"{scope}." if scope else ""
        self._decisions = 0
        self._hops: list[Hop] = []
        self._notes: dict[str, None] = {}
        self._files: dict[str, None] = {}
        self._refused: dict[str, None] = {}
        if journal is not None:
            for step in journal.steps(("hop", "note")):
                self._keep(step.read(HopTaken if step.kind == "hop" else Noted))

    def __call__(self, event: Event) -> None:
        """Keep what the report needs of `event` and hand it on."""
        if type(event) in _KEPT and not _passing(event):  # most are not, and every request makes two
            self._keep(event)
            if self._journal is not None and isinstance(event, HopTaken | Noted):
                self._decide(self._journal, event)
        self._emit(event)
        if self._journal is not None and not (self._scope and isinstance(event, SubtaskEnded)):
            self._journal.tell(event)  # the end of a subtask is told by the driver of the run

    def _decide(self, journal: Journal, event: HopTaken | Noted) -> None:
        self._decisions += 1
        kind = "hop" if isinstance(event, HopTaken) else "note"
        with suppress(JournalError):  # a journal that is broken says so to whoever waits for a commit
            journal.note(f"{self._scope}{kind}.e{journal.epoch}.{self._decisions}", event, kind=kind)

    def _keep(self, event: Event) -> None:
        match event:
            case HopTaken():
                error = event.error
                self._hops.append(
                    Hop(event.failed, error.type, event.took_over, error.message, event.role, event.subtask)
                )
            case PlanMade():
                self._notes.update(dict.fromkeys(event.plan.notes))
            case Noted():
                self._notes[event.text] = None
            case FileWritten():
                self._files[event.path] = None
            case FileRefused():
                self._refused[f"{event.path}: {event.reason}"] = None
            case _:
                pass

    @property
    def hops(self) -> tuple[Hop, ...]:
        """What failed over to what, in order."""
        return tuple(self._hops)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know, in order, nothing twice."""
        return tuple(self._notes)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths written."""
        return tuple(self._files)

    @property
    def refused(self) -> tuple[str, ...]:
        """The paths that were not written, each with its reason."""
        return tuple(self._refused)


def _passing(event: Event) -> bool:
    """Whether a note is of this moment only: what an agent just does, say."""
    return isinstance(event, Noted) and event.level == "detail"
