"""Who answers: a model that is told the whole conversation, or an agent that remembers it by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from inline_snapshot import snapshot

from electrictown.budget.errands import Errands
from electrictown.budget.purse import Purse
from electrictown.config import parse_config
from electrictown.engine.agents import AgentReply, Consent
from electrictown.errors import AgentError, ConfigError
from electrictown.events import Emit, Event, Noted, TextStreamed
from electrictown.journal.journal import Journal
from electrictown.journal.records import Header
from electrictown.journal.sqlite import SqliteStore
from electrictown.llm.admission import MemoryAdmission
from electrictown.llm.costs import CostTracker
from electrictown.llm.prices import Prices
from electrictown.roles.polecat import Polecat
from electrictown.sessions.conversation import Conversation
from electrictown.sessions.partners import AgentPartner, Partner, RolePartner
from electrictown.sessions.records import Said, Turn
from electrictown.town import Town
from electrictown.work import Cost, File, Task
from fakes.fake_server import FakeServer, Reply, Seen

YAML = """
providers:
  here: {type: openai, base_url: URL/v1, api_key: some-test-key}
models:
  small: {provider: here, model: little}
  large: {provider: here, model: big}
roles:
  polecat: {model: small}
"""


@asynccontextmanager
async def journal_in(path: Path, *, resume: bool = False) -> AsyncGenerator[Journal]:
    store = await SqliteStore.open(path / "journal.db")
    try:
        begin = store.resume("et-polecat-1") if resume else store.begin("et-polecat-1", Header(Task("talk")))
        journal = await begin
        try:
            yield journal
        finally:
            await journal.aclose()
    finally:
        await store.aclose()


async def talk(journal: Journal, partner: Partner, conversation: Conversation, *texts: str) -> list[Turn]:
    """Say `texts` one after the other."""
    running = asyncio.create_task(conversation.run(partner))
    turns: list[Turn] = []
    try:
        for text in texts:
            said = Said(f"{journal.epoch}-{len(journal.steps(('said',)))}", text)
            await conversation.accept(said)
            turns.append(await conversation.answer_to(said.id))
    finally:
        running.cancel()
        await asyncio.wait((running,))
    return turns


@asynccontextmanager
async def chat(server: FakeServer, journal: Journal) -> AsyncGenerator[tuple[Conversation, RolePartner]]:
    async with Town.open(parse_config(YAML.replace("URL", server.url))) as town:
        conversation = Conversation(journal, CostTracker(), lambda entry: None, lambda status: None)
        router = town.router(emit=conversation.hear)
        route = town.routes.for_role("polecat")
        polecat = Polecat(router, system_prompt="You are brief.")
        yield conversation, RolePartner(polecat, route, router, journal, conversation.hear)


def told(seen: Seen) -> list[str]:
    assert isinstance(seen.body, dict)
    return [f"{m['role']}: {m['content']}" for m in seen.body["messages"]]


async def test_a_model_is_told_all_that_was_said_before(tmp_path: Path) -> None:
    async with FakeServer(["one", "two", "three"]) as server:
        async with journal_in(tmp_path) as journal, chat(server, journal) as (conversation, partner):
            turns = await talk(journal, partner, conversation, "first", "second")
            assert [turn.text for turn in turns] == ["one", "two"]
            assert turns[0].model == "small"
        async with journal_in(tmp_path, resume=True) as journal, chat(server, journal) as (c, partner):
            await talk(journal, partner, c, "third")
        assert told(server.chats[-1]) == snapshot(
            [
                "system: You are brief.",
                "user: first",
                "assistant: one",
                "user: second",
                "assistant: two",
                "user: third",
            ]
        )


async def test_the_name_of_a_message_is_no_name_of_a_call(tmp_path: Path) -> None:
    ids = ["a", "a.call", "a.call.e1.r1", "a.call.e1.r1.settled"]
    async with FakeServer(["one", "two", "three", "four"]) as server:
        async with journal_in(tmp_path) as journal, chat(server, journal) as (conversation, partner):
            running = asyncio.create_task(conversation.run(partner))
            for id in ids:
                await conversation.accept(Said(id, id))
                await conversation.answer_to(id)
            running.cancel()
            await asyncio.wait((running,))
        async with journal_in(tmp_path, resume=True) as journal:
            turns = [step.read(Turn) for step in journal.steps(("turn",))]
    assert [(turn.said, turn.text) for turn in turns] == [
        *zip(ids, ["one", "two", "three", "four"], strict=True)
    ]


async def test_what_was_not_answered_is_told_with_the_next_message(tmp_path: Path) -> None:
    replies = [Reply(status=401, error="who are you?"), Reply(text="both")]

    def answer(seen: Seen) -> Reply:
        return replies[0] if "second" not in seen.prompt else replies[1]

    async with FakeServer(answer) as server, journal_in(tmp_path) as journal:
        async with chat(server, journal) as (conversation, partner):
            failed, fine = await talk(journal, partner, conversation, "first", "second")
        assert failed.outcome == "failed"
        assert fine.text == "both"
        assert told(server.chats[-1])[1:] == ["user: first\n\nsecond"]


async def test_another_model_answers_from_then_on_and_after_a_restart(tmp_path: Path) -> None:
    async with FakeServer(["one", "two", "three"]) as server:
        async with journal_in(tmp_path) as journal, chat(server, journal) as (conversation, partner):
            await talk(journal, partner, conversation, "first")
            assert "large" in partner.models()
            with pytest.raises(ConfigError, match="lrge"):
                await partner.use("lrge")
            await conversation.switched("large", await partner.use("large"))
            await talk(journal, partner, conversation, "second")
        async with journal_in(tmp_path, resume=True) as journal, chat(server, journal) as (c, partner):
            assert partner.model == "large"
            await talk(journal, partner, c, "third")
        assert [seen.model for seen in server.chats] == ["little", "big", "big"]


async def test_what_no_longer_fits_is_left_out_from_the_beginning_and_said(tmp_path: Path) -> None:
    def answer(seen: Seen) -> Reply:
        if len(told(seen)) > 4:  # the system prompt, one turn, the question
            return Reply(status=400, error="too long", code="context_length_exceeded")
        return Reply(text=f"re {told(seen)[-1].partition(': ')[2]}")

    notes: list[str] = []
    async with FakeServer(answer) as server, journal_in(tmp_path) as journal:
        async with chat(server, journal) as (conversation, partner):

            def hear(event: Event) -> None:
                if isinstance(event, Noted):
                    notes.append(event.text)

            partner._emit = hear
            turns = await talk(journal, partner, conversation, "a", "b", "c", "d")
        assert [turn.text for turn in turns] == ["re a", "re b", "re c", "re d"]
        assert told(server.chats[-1])[1:] == ["user: c", "assistant: re c", "user: d"]
        assert any("the last 1 turns only" in note for note in notes)


async def test_a_message_that_can_never_be_read_does_not_poison_the_next(tmp_path: Path) -> None:
    def answer(seen: Seen) -> Reply:
        if "poison" in seen.prompt:
            return Reply(status=400, error="too long", code="context_length_exceeded")
        return Reply(text="fine")

    async with (
        FakeServer(answer) as server,
        journal_in(tmp_path) as journal,
        chat(server, journal) as (conversation, partner),
    ):
        bad, good = await talk(journal, partner, conversation, "poison", "water")
    assert bad.error is not None
    assert good.text == "fine"


class Echo:
    """An agent that remembers what it was told in one engagement."""

    name = "echo"

    def __init__(self, *, remembers: bool = False) -> None:
        self.remembers = remembers
        self.asked: list[str] = []
        self.engaged: list[str] = []
        self.alive = 0
        self.id = ""

    def check(self) -> None: ...

    @asynccontextmanager
    async def engage(
        self, folder: Path, *, consent: Consent | None = None, resume: str = "", model: str = ""
    ) -> AsyncGenerator[Echo]:
        assert consent is not None
        self.engaged.append(resume)
        self.id = resume if self.remembers and resume else f"id{len(self.engaged)}"
        self.alive += 1
        try:
            yield self
        finally:
            self.alive -= 1

    models = ("fast", "slow")

    async def use(self, model: str) -> str:
        if model not in self.models:
            raise AgentError(f"no {model} here")
        return model

    async def ask(self, text: str, emit: Emit) -> AgentReply:
        self.asked.append(text)
        if text == "break":
            raise AgentError("it broke")
        emit(TextStreamed(text="piece", phase="reply"))
        return AgentReply(f"did {len(self.asked)}", files=(File("a.py", "x"),), model="their-model")


@pytest.mark.parametrize("remembers", [False, True])
async def test_an_agent_is_engaged_once_and_again_after_it_broke(tmp_path: Path, remembers: bool) -> None:
    agent = Echo(remembers=remembers)
    bills: list[Cost] = []

    @asynccontextmanager
    async def at_work(journal: Journal) -> AsyncGenerator[tuple[Conversation, AgentPartner]]:
        tracker = CostTracker()
        conversation = Conversation(journal, tracker, lambda entry: None, lambda status: None)
        purse = Purse(MemoryAdmission(), journal, Prices())
        errands = Errands(purse, journal, tracker, conversation.hear)
        async with AgentPartner(
            agent, tmp_path, journal, conversation.hear, conversation.consent, errands, "polecat"
        ) as partner:
            yield conversation, partner
        bills.append(conversation.status.cost)
        assert agent.alive == 0

    async with journal_in(tmp_path) as journal, at_work(journal) as (conversation, partner):
        assert agent.engaged == []  # not before it is needed
        first, broken, again = await talk(journal, partner, conversation, "go", "break", "on")
        assert (first.text, first.files, first.model) == ("did 1", ("a.py",), "echo/their-model")
        assert broken.error is not None
        assert again.outcome == "done"
        assert agent.alive == 1
        assert partner.models() == ("fast", "slow")
        with pytest.raises(AgentError, match="no such"):
            await partner.use("such")
        assert await partner.use("slow") == "echo/slow"
    async with journal_in(tmp_path, resume=True) as journal, at_work(journal) as (conversation, partner):
        await talk(journal, partner, conversation, "more")
    assert [(bill.requests, bill.usd) for bill in bills] == [(3, None), (1, None)]
    assert agent.engaged[0] == ""
    assert agent.engaged[1]
    assert agent.asked[0] == "go"
    for later, text in ((agent.asked[2], "on"), (agent.asked[3], "more")):
        assert later.endswith(text)
        assert ("user: break" in later) is not remembers
        assert ("did 1" in later) is not remembers
