"""The refinery: makes good work better without losing any of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from electrictown.errors import BadReplyError
from electrictown.llm.messages import ChatResponse, Message, user
from electrictown.replies import without_thinking
from electrictown.roles.role import Asker, Reply, Role, prompt, quoted, text_of
from electrictown.workspace.files import files_of

if TYPE_CHECKING:
    from electrictown.llm.costs import CostTracker

__all__ = ["Refinery", "polished"]

_LONG = 500
"""Characters from which a text is long enough to judge by its length."""

_LEAST = 0.5
"""The share of a long text that a polish must leave: less is a summary, whatever it was asked for."""


class Refinery(Role):
    """The polisher: correctness, names, error handling, style. The arguments are those of `Role`."""

    def __init__(
        self,
        router: Asker,
        *,
        role: str = "refinery",
        cost_tracker: CostTracker | None = None,
        system_prompt: str | None = None,
    ) -> None:
        super().__init__(router, role=role, cost_tracker=cost_tracker, system_prompt=system_prompt)

    async def refine(self, code: str) -> str:
        """`code`, improved.

        Raises:
            BadReplyError: when the reply is empty, cut, or has lost a file (see `polished`).
            ProviderError: when the model cannot answer.
        """
        return await self.refine_with_feedback(code, "")

    async def refine_with_feedback(self, code: str, feedback: str) -> str:
        """`code`, improved where `feedback` says so.

        Raises:
            BadReplyError: when the reply is empty, cut, or has lost a file (see `polished`).
            ProviderError: when the model cannot answer.
        """
        return polished(code, await self._ask(self._refinement(code, feedback), call="refine"))

    def refine_stream(self, code: str, feedback: str = "", *, call: str = "refine") -> Reply:
        """As `refine_with_feedback`, in pieces; hand the response of `End` to `polished`.

        `call` is the key of the call in the run's journal.
        """
        return self._stream(self._refinement(code, feedback), call=call)

    async def summarize(self, text: str) -> str:
        """The gist of `text`.

        Raises:
            ProviderError: when the model cannot answer, or says nothing.
        """
        said = prompt("summarize", material=quoted("The text to summarize", without_thinking(text)))
        return text_of(await self._ask((user(said),), call="summarize"))

    def _refinement(self, code: str, feedback: str) -> tuple[Message, ...]:
        material = quoted("The work to improve", without_thinking(code))
        if feedback:
            material += "\n\n" + quoted("What a reviewer says of it; mend this first", feedback)
        return (user(prompt("refine", material=material)),)


def polished(original: str, response: ChatResponse) -> str:
    """The polished text in a reply, when nothing of `original` was lost on the way.

    Raises:
        BadReplyError: when the reply is empty or was cut, when a file of the original is missing in it,
            or when most of a longer text is; whoever asked keeps the original.
    """
    text = text_of(response)
    if response.finish_reason == "length":
        raise BadReplyError(
            "the polished text was cut off before its end",
            hint="raise max_tokens for the refinery's model",
            provider=response.provider,
            model=response.model,
        )
    if len(original) >= _LONG and len(text) < len(original) * _LEAST:
        raise BadReplyError(
            f"the polished text has lost most of the work ({len(text):,} of {len(original):,} characters)",
            hint="give the refinery a larger model, or leave it out with --no-refinery",
            provider=response.provider,
            model=response.model,
        )
    kept = {file.path for file in files_of(text).files}
    lost = [file.path for file in files_of(original).files if file.path not in kept]
    if lost:
        raise BadReplyError(
            f"the polished text has lost {', '.join(lost)}",
            hint="give the refinery a larger model, or leave it out with --no-refinery",
            provider=response.provider,
            model=response.model,
        )
    return text
