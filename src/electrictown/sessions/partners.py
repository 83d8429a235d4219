"""Who answers in a session: a model in a role, with the whole conversation, or an agent of others.

Both are `Worker`s: a message is a subtask, the reply its result.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from electrictown.budget.errands import Errands
from electrictown.engine.agents import Agent, Consent, Engagement
from electrictown.engine.calls import PERMANENT
from electrictown.engine.relay import stream_text
from electrictown.engine.schedule import Worker
from electrictown.errors import AgentError, ContextWindowError, ElectrictownError, JournalError
from electrictown.events import Emit, Noted
from electrictown.journal.journal import Journal
from electrictown.llm.admission import Asking
from electrictown.llm.messages import ChatResponse, Message, assistant, user
from electrictown.llm.router import Router
from electrictown.llm.routes import Route
from electrictown.roles.polecat import Polecat
from electrictown.roles.role import quoted, text_of
from electrictown.sessions.conversation import REPLY
from electrictown.sessions.records import Engaged, Said, Switched, Turn
from electrictown.work import Attempt, Done, Failed, Failure, File, Result, Subtask

__all__ = ["AgentPartner", "Partner", "RolePartner"]

_CUT: Final = "\n\n(The reply was cut here.)"
_HOPELESS: Final = frozenset(kind.__name__ for kind in (*PERMANENT, ContextWindowError))
"""Failures of messages that are not told once more with the next: it would fail as well."""


class Partner(Worker, Protocol):
    """Who works a session's messages."""

    @property
    def model(self) -> str:
        """Who answers, as it is shown."""
        ...

    def models(self) -> tuple[str, ...]:
        """What `use` can be given."""
        ...

    async def use(self, model: str) -> str:
        """Have `model` answer from now on; its name as it is shown.

        Raises:
            ElectrictownError: when there is no such model, or no choice.
        """
        ...


class RolePartner:
    """A model in a role. It is told all that was said before, as the journal knows it.

    What does not fit into the model's window any more is left out from the beginning, and that is said.
    """

    def __init__(self, polecat: Polecat, route: Route, router: Router, journal: Journal, emit: Emit) -> None:
        self._polecat = polecat
        self._route = route
        self._router = router
        self._journal = journal
        self._emit = emit
        self._left_out = 0
        for step in journal.steps(("switch",)):
            self._route = router.routes.resolve(step.read(Switched).model)

    @property
    def model(self) -> str:
        """Who is asked first."""
        return self._route.primary.label

    def models(self) -> tuple[str, ...]:
        """The aliases of the configuration."""
        return tuple(self._router.routes.aliases)

    async def use(self, model: str) -> str:
        """Have the alias, the `provider/model` or the role `model` answer from now on.

        Raises:
            ConfigError: when it means nothing.
        """
        self._route = self._router.routes.resolve(model)
        return self.model

    async def work(self, subtask: Subtask, needs: Mapping[str, Done]) -> Result:
        """The reply to a message.

        Raises:
            JournalError: when nothing can be written down any more.
        """
        started = time.monotonic()
        try:
            response = await self._asked(subtask)
            text = text_of(response)
        except JournalError:
            raise
        except ElectrictownError as error:
            return Failed(subtask.id, Failure.of(error))
        if response.finish_reason == "length":
            self._note("the reply was cut at the model's token limit (raise max_tokens)")
        return _done(subtask, text, self._shown(response), response.provider, started)

    async def _asked(self, subtask: Subtask) -> ChatResponse:
        history, unheard = _history(self._journal)
        question = "\n\n".join((*unheard, subtask.text))
        while True:
            reply = self._polecat.execute_with_context_stream(
                history[self._left_out :],
                question,
                route=self._route,
                subtask=subtask.id,
                call=_call(subtask),
            )
            try:
                return await stream_text(reply, self._emit, REPLY)
            except ContextWindowError:
                told = len(history) - self._left_out
                if told <= 0:
                    raise
                self._left_out += max(2, told // 4 * 2)  # in pairs: what was said, and its reply
                rest = max(0, len(history) - self._left_out) // 2
                self._note(
                    f"the conversation no longer fits the model: it is told the last {rest} turns only"
                )

    def _shown(self, response: ChatResponse) -> str:
        answers = (response.provider, response.model)
        chain = self._route.chain
        return next((t.label for t in chain if (t.provider, t.model) == answers), response.model)

    def _note(self, text: str) -> None:
        self._emit(Noted(text=text, level="warning"))


class AgentPartner:
    """An agent of others, engaged in the session's folder from the first message on, and again after it
    broke down. It is told of earlier turns that it does not remember. What it is asked is asked as `role`,
    and written down in `errands`.

    `async with` ends its program.
    """

    def __init__(
        self,
        agent: Agent,
        folder: Path,
        journal: Journal,
        emit: Emit,
        consent: Consent,
        errands: Errands,
        role: str,
    ) -> None:
        self._agent = agent
        self._folder = folder
        self._journal = journal
        self._emit = emit
        self._consent = consent
        self._errands = errands
        self._role = role
        self._stack = AsyncExitStack()
        self._engagement: Engagement | None = None
        self._unremembered: Sequence[Message] = ()
        self._engagements = 0
        self._model = ""
        for step in journal.steps(("switch",)):
            self._model = step.read(Switched).model

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def model(self) -> str:
        """The agent, and its model where one was chosen."""
        return f"{self._agent.name}/{self._model}" if self._model else self._agent.name

    def models(self) -> tuple[str, ...]:
        """The agent's own models, once it is engaged and where it tells them."""
        return self._engagement.models if self._engagement is not None else ()

    async def use(self, model: str) -> str:
        """Have the agent work with its `model`, from its next engagement on where it has none yet.

        Raises:
            AgentError: when it has no such model, or no choice.
        """
        self._model = model if self._engagement is None else await self._engagement.use(model)
        return self.model

    async def work(self, subtask: Subtask, needs: Mapping[str, Done]) -> Result:
        """What the agent makes of a message, with the paths of the files it changed.

        Raises:
            JournalError: when nothing can be written down any more.
        """
        started = time.monotonic()
        try:
            engagement = await self._engaged()
            asking = Asking(self._role, subtask.id, _call(subtask))
            async with self._errands.errand(self._agent.name, asking, self._model) as errand:
                reply = await engagement.ask(self._question(subtask.text), self._emit)
                errand.told(reply.model, reply.usage, reply.usd)
        except JournalError:
            raise
        except ElectrictownError as error:
            if isinstance(error, AgentError):  # its program may have gone: the next message starts a new one
                await self._let_go()
            return Failed(subtask.id, Failure.of(error))
        self._unremembered = ()
        model = f"{self._agent.name}/{reply.model}" if reply.model else self.model
        return _done(subtask, reply.text, model, self._agent.name, started, reply.files)

    async def _engaged(self) -> Engagement:
        """The agent at work, as it was, or engaged anew."""
        if self._engagement is not None:
            return self._engagement
        known = [step.read(Engaged).id for step in self._journal.steps(("engaged",))]
        resume = known[-1] if known else ""
        engagement = await self._stack.enter_async_context(
            self._agent.engage(self._folder, consent=self._consent, resume=resume, model=self._model)
        )
        if not resume or engagement.id != resume:
            history, unheard = _history(self._journal)
            self._unremembered = (*history, *map(user, unheard))
        self._engagements += 1
        key = f"engaged.e{self._journal.epoch}.{self._engagements}"
        await self._journal.record(key, Engaged(engagement.id), kind="engaged")
        self._engagement = engagement
        return engagement

    async def _let_go(self) -> None:
        self._engagement = None
        await self._stack.aclose()

    def _question(self, text: str) -> str:
        if not self._unremembered:
            return text
        told = "\n\n".join(f"{message.role}: {message.text}" for message in self._unremembered)
        return f"{quoted('What was said in this conversation before', told)}\n\n{text}"


def _call(subtask: Subtask) -> str:
    """The key of the call that answers a message; no message has an id that could be mistaken for it."""
    return f"turn.[{subtask.id}].call"


def _done(
    subtask: Subtask, text: str, model: str, provider: str, started: float, files: tuple[File, ...] = ()
) -> Done:
    attempt = Attempt(1, model, provider, seconds=time.monotonic() - started, reply=text)
    return Done(subtask.id, text, files, (attempt,))


def _history(journal: Journal) -> tuple[list[Message], list[str]]:
    """What was said and answered, as messages in turn; and what was said since without any answer."""
    turns = {turn.said: turn for turn in (step.read(Turn) for step in journal.steps(("turn",)))}
    history: list[Message] = []
    unheard: list[str] = []
    for said in (step.read(Said) for step in journal.steps(("said",))):
        turn = turns.get(said.id)
        if turn is None:  # it is being answered, or its turn is still to come
            continue
        if turn.error is None or turn.error.type not in _HOPELESS:
            unheard.append(said.text)
        if turn.text and unheard:
            history += [
                user("\n\n".join(unheard)),
                assistant(turn.text + ("" if turn.outcome == "done" else _CUT)),
            ]
            unheard.clear()
    return history, unheard
