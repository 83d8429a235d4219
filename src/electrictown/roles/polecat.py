"""The polecat: does the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from electrictown.llm.messages import ChatResponse, Message, user
from electrictown.replies import without_thinking
from electrictown.roles.role import Asker, Reply, Role, prompt, quoted
from electrictown.work import Done, Plan, Subtask

if TYPE_CHECKING:
    from electrictown.llm.costs import CostTracker
    from electrictown.llm.routes import Route

__all__ = ["Polecat", "worker_prompt"]


class Polecat(Role):
    """The worker: does exactly what it is asked, in one reply or over several turns.

    `route` of each call says which model is asked, where that is not the role's own; `subtask` is the
    id under which requests are counted, `call` the key of the call in the run's journal. The arguments
    of the constructor are those of `Role`.
    """

    def __init__(
        self,
        router: Asker,
        *,
        role: str = "polecat",
        cost_tracker: CostTracker | None = None,
        system_prompt: str | None = None,
    ) -> None:
        super().__init__(router, role=role, cost_tracker=cost_tracker, system_prompt=system_prompt)

    async def execute(
        self, task: str, *, route: Route | None = None, subtask: str = "", call: str = ""
    ) -> ChatResponse:
        """The whole reply to `task`.

        Raises:
            ProviderError: when no model of the route can answer.
        """
        return await self.execute_with_context((), task, route=route, subtask=subtask, call=call)

    def execute_stream(
        self, task: str, *, route: Route | None = None, subtask: str = "", call: str = ""
    ) -> Reply:
        """The reply to `task` in pieces: `async with polecat.execute_stream(task) as chunks: ...`."""
        return self.execute_with_context_stream((), task, route=route, subtask=subtask, call=call)

    async def execute_with_context(
        self,
        history: Sequence[Message],
        task: str,
        *,
        route: Route | None = None,
        subtask: str = "",
        call: str = "",
    ) -> ChatResponse:
        """The reply to `task` after the turns of `history` (without a system message).

        Raises:
            ProviderError: when no model of the route can answer.
        """
        return await self._ask((*history, user(task)), route=route, subtask=subtask, call=call)

    def execute_with_context_stream(
        self,
        history: Sequence[Message],
        task: str,
        *,
        route: Route | None = None,
        subtask: str = "",
        call: str = "",
    ) -> Reply:
        """As `execute_with_context`, in pieces."""
        return self._stream((*history, user(task)), route=route, subtask=subtask, call=call)


def worker_prompt(  # noqa: PLR0913  (all but plan and subtask are sections that may be absent)
    plan: Plan,
    subtask: Subtask,
    *,
    brief: str = "",
    done: Sequence[Done] = (),
    files: bool = False,
    folder: bool = False,
    earlier: str = "",
    critique: str = "",
    refused: Sequence[str] = (),
) -> str:
    """What a worker is told of its `subtask`.

    `brief` is the mayor's; of `done` only what the subtask depends on is shown. `files` asks for files
    by name in the reply, `folder` for files in the folder that the worker is in. For a retry, `earlier` is
    the reply before, `critique` what the reviewer said of it, and `refused` says of each file that could not
    be written why (see `workspace.folder.Refused`).
    """
    sections: list[str] = []
    if plan.task != subtask.text:
        sections.append(prompt("worker_task", task=quoted("The whole task", plan.task)))
    if brief:
        sections.append(quoted("## What all workers have agreed on", without_thinking(brief)))
    texts = {other.id: other.text for other in plan.subtasks}
    sections += [
        quoted(
            f"## Result of {result.subtask} ({texts.get(result.subtask, '').partition(chr(10))[0]}), "
            "which yours builds upon",
            without_thinking(result.text),
        )
        for result in done
        if result.subtask in subtask.depends
    ]
    sections.append(f"## Your subtask\n\n{subtask.text}")
    if subtask.paths:
        sections.append("Write these files: " + ", ".join(subtask.paths))
    if files or folder:
        sections.append(prompt("folder") if folder else prompt("files"))
    if earlier:
        sections.append(quoted("## Your earlier answer", without_thinking(earlier)))
    if critique:
        sections.append(quoted("## What the reviewer says of it", critique))
    if refused:
        reasons = "\n".join(f"- {reason}" for reason in refused)
        sections.append(f"## Files of yours that could not be written\n\n{reasons}")
    if earlier or critique or refused:
        sections.append(prompt("again") if folder else prompt("retry"))
    return "\n\n".join(sections)
