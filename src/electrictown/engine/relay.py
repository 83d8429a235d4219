"""Who answers: a subtask goes from member to member of the crew until somebody can.

A host that fails hands the subtask to another; a wrong key or a missing model benches the host for the
rest of the run, since the next subtask would fare no better there; the role's fallbacks come last. Where
the role has an agent, it comes before all of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import copy

from msgspec import Struct
from msgspec.structs import replace

from electrictown.engine.agent_relay import AgentRelay, Seat
from electrictown.engine.calls import PERMANENT, error_of
from electrictown.engine.crew import Crew, members_of
from electrictown.engine.desk import Desk, Question
from electrictown.engine.progress import Progress
from electrictown.errors import (
    AgentError,
    AuthError,
    ContextWindowError,
    ElectrictownError,
    IncompleteReplyError,
    ModelNotFoundError,
    ProviderError,
)
from electrictown.events import (
    Emit,
    HopTaken,
    Noted,
    SubtaskStarted,
    TextReset,
    TextStreamed,
)
from electrictown.journal.journal import Journal
from electrictown.llm.messages import ChatResponse, End, Reset, TextDelta
from electrictown.llm.routes import Route, Target
from electrictown.roles.polecat import Polecat
from electrictown.roles.role import Reply, text_of
from electrictown.work import Attempt, Failure

__all__ = ["Relay", "Station", "stream_text"]


class Station(Struct, frozen=True):
    """A kind of worker: an agent, models, or models that take over where the agent fails.

    One of `route` and `agent` is there.
    """

    polecat: Polecat
    route: Route | None = None
    agent: Seat | None = None

    @property
    def several(self) -> bool:
        """Whether more than one of them can work at once: then there is something to plan."""
        return bool(self.route and self.route.pool) or (self.agent is not None and self.agent.places > 1)


class Relay:
    """Finds an answer for one subtask after another.

    `specialists` are the stations of subtasks that name one, `agents` asks the agents among them all,
    `stream_as` is the phase whose text the replies are ("" for none). What `journal` knows is not asked
    again.
    """

    def __init__(
        self,
        station: Station,
        specialists: Mapping[str, Station],
        crew: Crew,
        agents: AgentRelay,
        emit: Emit,
        stream_as: str = "",
        *,
        journal: Journal,
    ) -> None:
        self._journal = journal
        self._station = station
        self._specialists = specialists
        self._crew = crew
        self._agents = agents
        self._emit = emit
        self._stream_as = stream_as

    async def attempt(self, desk: Desk, question: Question) -> Attempt:
        """The answer of whoever can give one, recorded; the recorded one where there is one already.

        Raises:
            ProviderError, AgentError: when nobody could; a wrong key comes before all else.
            HaltError: when nothing more may be begun, or the answer cannot be recorded.
        """
        call = f"{desk.id}.attempt{desk.answers + 1}"
        known = self._journal.recorded(call, Attempt)
        if known is not None:
            return self._remembered(desk, known)
        try:
            answered = await self._asked(desk, question, call)
        except PERMANENT:
            await self._journal.record(call, desk.attempts[-1], kind="attempt")
            raise
        await self._journal.record(call, answered, kind="attempt")
        return answered

    def _remembered(self, desk: Desk, known: Attempt) -> Attempt:
        """An attempt that was made before the run was taken up again."""
        self._emit(
            SubtaskStarted(subtask=desk.id, attempt=known.number, model=known.model, provider=known.provider)
        )
        if known.error is not None:
            desk.attempts.append(known)
            raise error_of(known.error)
        if self._stream_as:
            self._emit(TextStreamed(text=known.reply, phase=self._stream_as))
        return desk.answered(known)

    async def _asked(self, desk: Desk, question: Question, call: str) -> Attempt:
        """The answer of the station's agent, where it has one; else, or where that fails, of its models."""
        station = self._specialists.get(desk.subtask.specialist, self._station)
        agent, route = station.agent, station.route
        failed: _Failed | None = None
        if agent is not None and (route is None or not self._agents.benched(agent)):
            try:
                return await self._agents.answer(desk, question, call, agent, station.polecat)
            except (AgentError, ProviderError) as error:
                if route is None:
                    raise
                failed = _Failed(agent.name, error)
        assert route is not None  # noqa: S101  (a station has one of the two)
        return await self._by_models(desk, desk.told(question), call, station.polecat, route, failed)

    async def _by_models(
        self, desk: Desk, question: str, call: str, polecat: Polecat, route: Route, failed: _Failed | None
    ) -> Attempt:
        """The answer of the crew first; of the fallbacks, or a second round, last."""
        members = members_of(route)
        tried: dict[str, ProviderError] = {}
        patiently: set[str] = set()
        second_round = False
        while True:
            async with self._crew.member(members, tried) as member:
                if member is not None:
                    patient = not route.fallbacks and not self._crew.others_left(members, tried, member)
                    self._hop(desk, failed, member)
                    try:
                        return await self._answer(
                            desk, question, call, polecat, route.only(member, patient=patient)
                        )
                    except ProviderError as error:
                        self._turn_away(error, member, members, tried)
                        if patient:
                            patiently.add(member.label)
                        failed = _Failed(member.label, error)
                        continue
            if route.fallbacks:
                self._hop(desk, failed, route.fallbacks[0])
                last = Route(route.name, route.fallbacks[0], fallbacks=route.fallbacks[1:])
                return await self._answer(desk, question, call, polecat, last)
            again = {name for name, e in tried.items() if e.retry_same and name not in patiently}
            if second_round or not again:
                raise self._worst(members, tried)
            # Everybody failed once, some of them in passing: those are asked again, patiently.
            second_round = True
            tried = {name: e for name, e in tried.items() if name not in again}
            failed = failed if failed is not None and failed.label in tried else None

    def _turn_away(
        self, error: ProviderError, member: Target, members: Sequence[Target], tried: dict[str, ProviderError]
    ) -> None:
        """Decide from `error` who is not asked (again) for this subtask; raise it where nobody should be."""
        if isinstance(error, AuthError | ModelNotFoundError):
            self._crew.bench(member, error)
        elif not error.try_next:
            raise error
        tried[member.label] = error
        if isinstance(error, ContextWindowError) and member.context_window:
            for other in members:
                if other.context_window and other.context_window <= member.context_window:
                    tried.setdefault(other.label, error)

    def _worst(self, members: Sequence[Target], tried: Mapping[str, ProviderError]) -> ProviderError:
        """The error of a subtask that nobody could do: what a person must act on comes first."""
        errors = [e for m in members if (e := self._crew.benched(m) or tried.get(m.label)) is not None]
        return copy(min(errors, key=lambda e: not isinstance(e, AuthError)))

    async def _answer(self, desk: Desk, question: str, call: str, polecat: Polecat, route: Route) -> Attempt:
        target = route.primary
        number = desk.next_number
        started = time.monotonic()
        self._emit(
            SubtaskStarted(subtask=desk.id, attempt=number, model=target.label, provider=target.provider)
        )
        if self._stream_as and desk.attempts:
            self._emit(TextReset(phase=self._stream_as, reason="another attempt"))
        attempt = Attempt(number, target.label, target.provider)
        reply = polecat.execute_stream(question, route=route, subtask=desk.id, call=call)
        try:
            response = await stream_text(reply, self._emit, self._stream_as, Progress(desk.id, self._emit))
            text = text_of(response)
        except ElectrictownError as error:
            desk.attempts.append(
                replace(attempt, seconds=time.monotonic() - started, error=Failure.of(error))
            )
            raise
        if response.finish_reason == "length":
            self._warn(f"{desk.id}: the reply was cut at the model's token limit (raise max_tokens)")
        done = replace(
            attempt,
            provider=response.provider or target.provider,
            seconds=time.monotonic() - started,
            output_tokens=response.usage.output if response.usage else 0,
            reply=text,
        )
        return desk.answered(done)

    def _hop(self, desk: Desk, failed: _Failed | None, next_one: Target) -> None:
        if failed is not None:
            error, role = Failure.of(failed.error), self._station.polecat.role
            self._emit(
                HopTaken(
                    failed=failed.label, error=error, took_over=next_one.label, role=role, subtask=desk.id
                )
            )

    def _warn(self, text: str) -> None:
        self._emit(Noted(text=text, level="warning"))


class _Failed(Struct, frozen=True):
    """Who could not answer, and why."""

    label: str
    error: ElectrictownError


async def stream_text(reply: Reply, emit: Emit, phase: str, progress: Progress | None = None) -> ChatResponse:
    """Read `reply` to its end; its text goes out as events of `phase` ("" for none) as it comes.

    Raises:
        ProviderError: as the router raises it.
    """
    async with reply as chunks:
        async for chunk in chunks:
            if isinstance(chunk, TextDelta):
                if phase:
                    emit(TextStreamed(text=chunk.text, phase=phase))
                if progress is not None:
                    progress(len(chunk.text))
            elif isinstance(chunk, Reset):
                if phase:
                    emit(TextReset(phase=phase, reason=chunk.reason))
                if progress is not None:
                    progress.restart()
            elif isinstance(chunk, End):
                return chunk.response
    raise IncompleteReplyError("the reply ended without its end")
