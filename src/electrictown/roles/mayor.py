"""The mayor: breaks a task into subtasks, tells workers what they must share, and merges what they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from electrictown.errors import DependencyError, PlanError
from electrictown.llm.messages import ChatResponse, Message, assistant, user
from electrictown.replies import without_thinking
from electrictown.roles.plans import parse, plan_schema, render
from electrictown.roles.role import Asker, Reply, Role, prompt, quoted, text_of
from electrictown.work import Done, Failed, Plan, Result

if TYPE_CHECKING:
    from electrictown.llm.costs import CostTracker

__all__ = ["Mayor"]


class Mayor(Role):
    """The supervisor.

    `max_subtasks` is the most a plan may have: beyond it the model is asked to merge, and nothing is
    ever cut off. `specialists` maps the names of specialised workers to what they are good at.
    The other arguments are those of `Role`.
    """

    def __init__(
        self,
        router: Asker,
        *,
        role: str = "mayor",
        cost_tracker: CostTracker | None = None,
        system_prompt: str | None = None,
        max_subtasks: int = 10,
        specialists: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(router, role=role, cost_tracker=cost_tracker, system_prompt=system_prompt)
        self.max_subtasks = max_subtasks
        self.specialists = dict(specialists or {})

    async def decompose(self, task: str, *, call: str = "plan") -> Plan:
        """`task` as a plan of subtasks that workers can take on, in parallel where they may.

        A reply that is no plan (see `plans.parse`), or was cut, is handed back once with what is wrong.
        `call` names the two calls in a run's journal.

        Raises:
            PlanError: when the second reply is none either; `reply` is its text.
            ProviderError: when the model cannot answer.
        """
        question = user(
            prompt("decompose", task=task, limit=self.max_subtasks, specialists=self._specialists_told())
        )
        first = await self._planned(f"{call}.call1", question)
        try:
            return self._read(first, task)
        except PlanError as error:
            wrong = error.message
        answer = assistant(first.text if first.text.strip() else "(an empty reply)")
        again = user(prompt("repair", error=wrong))
        second = await self._planned(f"{call}.call2", question, answer, again)
        try:
            plan = self._read(second, task)
        except PlanError as error:
            raise PlanError(
                f"the {self.role} made no usable plan in two tries: {error.message}",
                hint=error.hint
                or f"give the role {self.role} a larger model, or bring a plan with --plan FILE",
                reply=error.reply,
            ) from None
        return replace(plan, notes=(f"the first plan was sent back: {wrong}", *plan.notes))

    async def plan(self, task: str) -> str:
        """How `task` should be gone about, in prose, with a summary and a list of subtasks.

        Raises:
            ProviderError: when the model cannot answer, or says nothing.
        """
        return text_of(await self._ask((user(prompt("plan", task=task)),), call="outline"))

    async def brief(self, plan: Plan) -> str:
        """What all workers of `plan` must agree on: shared names, interfaces, who writes which file.

        Raises:
            ProviderError: when the model cannot answer, or says nothing.
        """
        said = prompt("brief", task=plan.task, plan=quoted("The subtasks", render(plan)))
        return text_of(await self._ask((user(said),), call="brief"))

    async def synthesize(
        self, task: str, results: Sequence[Result | str], *, plan: Plan | None = None
    ) -> str:
        """One answer to `task` made of the workers' `results`.

        A `Failed` result is listed as not done, with its reason, and never as work. With `plan` each
        result stands under the text of its subtask.

        Raises:
            DependencyError: when nothing was done, so that there is nothing to merge.
            ProviderError: when the model cannot answer, or says nothing.
        """
        return text_of(await self._ask(self._synthesis(task, results, plan), call="synthesize"))

    def synthesize_stream(
        self,
        task: str,
        results: Sequence[Result | str],
        *,
        plan: Plan | None = None,
        call: str = "synthesize",
    ) -> Reply:
        """As `synthesize`, in pieces: `async with mayor.synthesize_stream(...) as chunks: ...`.

        `call` is the key of the call in the run's journal.

        Raises:
            DependencyError: at once, when nothing was done.
        """
        return self._stream(self._synthesis(task, results, plan), call=call)

    async def _planned(self, call: str, *messages: Message) -> ChatResponse:
        return await self._ask(messages, call=call, schema=plan_schema(self.specialists), schema_name="plan")

    def _read(self, response: ChatResponse, task: str) -> Plan:
        plan = parse(response.text, task=task, max_subtasks=self.max_subtasks, specialists=self.specialists)
        if response.finish_reason == "length":
            raise PlanError(
                "the reply was cut off before the plan was complete: answer more briefly",
                hint=f"raise max_tokens for the model of the role {self.role}",
                reply=response.text,
            )
        return plan

    def _specialists_told(self) -> str:
        if not self.specialists:
            return ""
        names = "\n".join(f"- {name}: {what or 'a specialist'}" for name, what in self.specialists.items())
        return prompt("specialists", names=names)

    def _synthesis(
        self, task: str, results: Sequence[Result | str], plan: Plan | None
    ) -> tuple[Message, ...]:
        if not any(isinstance(result, Done | str) for result in results):
            raise DependencyError(
                "every subtask failed, so there is nothing to synthesize",
                hint="see why the subtasks failed",
            )
        texts = {subtask.id: subtask.text for subtask in plan.subtasks} if plan else {}
        told = "\n\n".join(_told(number, result, texts) for number, result in enumerate(results, 1))
        return (user(prompt("synthesize", task=task, results=told)),)


def _told(number: int, result: Result | str, texts: Mapping[str, str]) -> str:
    """One result as the mayor sees it."""
    if isinstance(result, str):
        return quoted(f"### Result {number}", without_thinking(result))
    title = f"### {result.subtask}: {texts.get(result.subtask, '').partition(chr(10))[0]}".rstrip(": ")
    if isinstance(result, Failed):
        return f"{title}\n\nNOT DONE: {result.error.type}: {result.error.message}"
    doubt = ""
    if not result.accepted:
        critique = result.review.critique if result.review else ""
        doubt = "\n\n" + quoted("The reviewer did not accept this and says", critique or "no reason given")
    return f"{title}\n\n{quoted('The result', without_thinking(result.text))}{doubt}"
