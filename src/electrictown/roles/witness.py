"""The witness: says how good a piece of work is, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from electrictown.llm.messages import assistant, user
from electrictown.replies import without_thinking
from electrictown.roles.reviews import REVIEW_SCHEMA, review_of
from electrictown.roles.role import Asker, Role, prompt, quoted
from electrictown.work import Review

if TYPE_CHECKING:
    from electrictown.llm.costs import CostTracker

__all__ = ["Witness"]


class Witness(Role):
    """The reviewer. Work passes when its score, 1 to 10, is at least `threshold`.

    A reply without a readable score is asked for once more, and is no pass if it has none again: a gate
    that cannot tell stays shut. The other arguments are those of `Role`.
    """

    def __init__(
        self,
        router: Asker,
        *,
        role: str = "witness",
        cost_tracker: CostTracker | None = None,
        system_prompt: str | None = None,
        threshold: float = 6,
    ) -> None:
        super().__init__(router, role=role, cost_tracker=cost_tracker, system_prompt=system_prompt)
        self.threshold = threshold

    async def review(self, code: str, *, subtask: str = "", call: str = "") -> Review:
        """A review of `code` by itself.

        Raises:
            ProviderError: when the model cannot answer.
        """
        return await self._reviewed(quoted("## The work to review", without_thinking(code)), subtask, call)

    async def review_with_context(self, task: str, code: str, *, subtask: str = "", call: str = "") -> Review:
        """A review of `code` as an answer to `task`.

        Raises:
            ProviderError: when the model cannot answer.
        """
        asked = quoted("## The task the work was done for", task)
        return await self._reviewed(
            f"{asked}\n\n{quoted('## The work to review', without_thinking(code))}", subtask, call
        )

    async def validate(self, criteria: str, output: str, *, subtask: str = "", call: str = "") -> Review:
        """Whether `output` meets the acceptance `criteria`.

        Raises:
            ProviderError: when the model cannot answer.
        """
        asked = quoted("## The criteria that the output must meet, every one of them", criteria)
        return await self._reviewed(
            f"{asked}\n\n{quoted('## The output to validate', without_thinking(output))}", subtask, call
        )

    async def _reviewed(self, material: str, subtask: str, call: str) -> Review:
        first, second = (f"{call}.call1", f"{call}.call2") if call else ("", "")
        question = user(prompt("review", material=material))
        reply = await self._ask(
            (question,), call=first, subtask=subtask, schema=REVIEW_SCHEMA, schema_name="review"
        )
        review = review_of(reply.text, self.threshold)
        if review.score is not None:
            return review
        answer = assistant(reply.text if reply.text.strip() else "(an empty reply)")
        again = (question, answer, user(prompt("review_again")))
        reply = await self._ask(
            again, call=second, subtask=subtask, schema=REVIEW_SCHEMA, schema_name="review"
        )
        return review_of(reply.text, self.threshold)
