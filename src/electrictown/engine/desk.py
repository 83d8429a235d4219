"""One subtask's papers while it is worked: what is asked, and what was tried."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from msgspec import Struct
from msgspec.structs import replace

from electrictown.roles.polecat import worker_prompt
from electrictown.work import Attempt, Done, Plan, Review, Subtask

__all__ = ["Desk", "Question", "ancestors_of"]


def ancestors_of(plan: Plan, subtask: Subtask) -> tuple[str, ...]:
    """All subtasks of `plan` that `subtask` builds upon, however far back."""
    depends = {s.id: s.depends for s in plan.subtasks}
    found: dict[str, None] = dict.fromkeys(subtask.depends)
    line = [*found]
    for name in line:
        line += [need for need in depends[name] if need not in found]
        found.update(dict.fromkeys(depends[name]))
    return tuple(found)


class Question(Struct, frozen=True):
    """What a worker is asked: its subtask, and on a retry its `earlier` attempt and what was wrong with it:
    what the reviewer says, and the files that could not be written.
    """

    earlier: Attempt | None = None
    critique: str = ""
    refused: tuple[str, ...] = ()


class Desk:
    """The papers of one subtask. `needs` are the results it depends on, `answers` counts the replies.

    `unreviewed` says that what there is is not final: a review, or another attempt, is still to come.
    """

    def __init__(
        self, plan: Plan, subtask: Subtask, brief: str, needs: Sequence[Done], *, files: bool
    ) -> None:
        self._plan = plan
        self._brief = brief
        self.needs = needs
        self._files = files
        self.subtask = subtask
        self.id = subtask.id
        self.attempts: list[Attempt] = []
        self.answers = 0
        self.unreviewed = False

    @cached_property
    def ancestors(self) -> tuple[str, ...]:
        """All subtasks that this one builds upon, however far back: their files are its own to extend."""
        return ancestors_of(self._plan, self.subtask)

    @cached_property
    def lineage(self) -> tuple[str, ...]:
        """The ancestors, each after all that it builds upon itself."""
        from graphlib import TopologicalSorter

        mine = {*self.ancestors}
        return tuple(
            TopologicalSorter({s.id: s.depends for s in self._plan.subtasks if s.id in mine}).static_order()
        )

    def told(self, question: Question, *, folder: bool = False) -> str:
        """What a worker is told, who gives its files in the reply, or leaves them in its `folder`."""
        return worker_prompt(
            self._plan,
            self.subtask,
            brief=self._brief,
            done=self.needs,
            files=self._files,
            folder=folder,
            earlier=question.earlier.reply if question.earlier is not None else "",
            critique=question.critique,
            refused=question.refused,
        )

    def answered(self, attempt: Attempt) -> Attempt:
        """Keep an attempt that brought a reply."""
        self.attempts.append(attempt)
        self.answers += 1
        return attempt

    def answer(self, attempt: Attempt) -> int:
        """Which of the replies `attempt` brought, from 1: the same when the run is taken up again."""
        return [a.number for a in self.attempts if a.error is None].index(attempt.number) + 1

    @property
    def next_number(self) -> int:
        """The number of the next attempt; those that failed before a run was taken up again count too."""
        return self.attempts[-1].number + 1 if self.attempts else 1

    def judged(self, review: Review) -> Attempt:
        """The last attempt, with what the witness says of it."""
        self.attempts[-1] = replace(self.attempts[-1], review=review)
        return self.attempts[-1]
