"""Messages are accepted once, committed first, answered in order; whatever happens to a reply, words stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from electrictown.errors import JournalError, RateLimitError
from electrictown.events import CallStarted, Emit, TextReset, TextStreamed, Waiting
from electrictown.journal.journal import Journal
from electrictown.journal.records import Header
from electrictown.journal.sqlite import SqliteStore
from electrictown.llm.costs import CostTracker
from electrictown.llm.messages import Usage
from electrictown.sessions.conversation import Conversation
from electrictown.sessions.log import Entry
from electrictown.sessions.records import Said, Status, Turn
from electrictown.work import Done, Failed, Failure, Result, Subtask, Task


class Scripted:
    """A worker that does what it is told, and remembers what it was asked."""

    def __init__(self, answer: Callable[[Subtask], Awaitable[Result]] | None = None) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def work(self, subtask: Subtask, needs: Mapping[str, Done]) -> Result:
        assert needs == {}
        self.asked.append(subtask.text)
        if self.answer is not None:
            return await self.answer(subtask)
        return Done(subtask.id, f"re: {subtask.text}")


class Room:
    """A conversation over a real journal, with all that it shows."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.tracker = CostTracker()
        self.shown: list[Entry] = []
        self.states: list[Status] = []
        self.talk = Conversation(journal, self.tracker, self.shown.append, self.states.append)

    @asynccontextmanager
    async def with_(self, worker: Scripted) -> AsyncGenerator[Conversation]:
        running = asyncio.create_task(self.talk.run(worker))
        try:
            yield self.talk
        finally:
            running.cancel()
            await asyncio.wait((running,))

    def of(self, kind: str) -> list[str]:
        return [entry.text for entry in self.shown if entry.kind == kind]


@asynccontextmanager
async def room(path: Path, *, resume: bool = False) -> AsyncGenerator[Room]:
    store = await SqliteStore.open(path)
    try:
        begin = store.resume("et-polecat-1") if resume else store.begin("et-polecat-1", Header(Task("talk")))
        journal = await begin
        try:
            yield Room(journal)
        finally:
            await journal.aclose()
    finally:
        await store.aclose()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


async def test_messages_are_answered_one_after_another_in_the_order_they_were_accepted(db: Path) -> None:
    at_once = 0

    async def answer(subtask: Subtask) -> Result:
        nonlocal at_once
        at_once += 1
        assert at_once == 1
        await asyncio.sleep(0.001)
        at_once -= 1
        return Done(subtask.id, subtask.text.upper())

    async with room(db) as r, r.with_(worker := Scripted(answer)) as talk:
        await asyncio.gather(*(talk.accept(Said(f"m{n}", f"word {n}")) for n in range(20)))
        turns = [await talk.answer_to(f"m{n}") for n in range(20)]
        assert [turn.text for turn in turns] == [f"WORD {n}" for n in range(20)]
        journalled = [step.read(Said).text for step in r.journal.steps(("said",))]
        assert worker.asked == journalled
        assert sorted(journalled) == sorted(f"word {n}" for n in range(20))
        assert talk.status.turns == 20
        assert talk.status.queued == 0
        assert talk.status.line == "WORD 19"


async def test_a_message_that_comes_twice_is_said_once(db: Path) -> None:
    async with room(db) as r, r.with_(worker := Scripted()) as talk:
        await asyncio.gather(*(talk.accept(Said("same", "hello")) for _ in range(5)))
        await talk.answer_to("same")
        await talk.accept(Said("same", "hello"))
        await talk.accept(Said("other", "bye"))
        await talk.answer_to("other")
        assert worker.asked == ["hello", "bye"]


async def test_an_interrupted_reply_keeps_what_came_and_the_session_goes_on(db: Path) -> None:
    begun = asyncio.Event()

    async def answer(subtask: Subtask) -> Result:
        if subtask.text == "long":
            r.talk.hear(TextStreamed(text="half a re", phase="reply"))
            begun.set()
            await asyncio.Event().wait()
        return Done(subtask.id, "whole")

    async with room(db) as r, r.with_(Scripted(answer)) as talk:
        assert not talk.interrupt()
        await talk.accept(Said("a", "long"))
        await begun.wait()
        assert talk.status.state == "working"
        assert talk.interrupt()
        turn = await talk.answer_to("a")
        assert (turn.outcome, turn.text) == ("interrupted", "half a re")
        await talk.accept(Said("b", "short"))
        assert (await talk.answer_to("b")).text == "whole"
        assert [entry.outcome for entry in r.shown if entry.kind == "end"] == ["interrupted", "done"]
        assert talk.status.state == "waiting for input"


async def test_a_reply_that_fails_is_told_and_the_session_goes_on(db: Path) -> None:
    async def answer(subtask: Subtask) -> Result:
        if subtask.text == "bad":
            return Failed(subtask.id, Failure.of(RateLimitError("too many requests", "ask later")))
        if subtask.text == "worse":
            raise RateLimitError("too many again")
        return Done(subtask.id, "fine")

    async with room(db) as r, r.with_(Scripted(answer)) as talk:
        for name, text in (("a", "bad"), ("b", "worse"), ("c", "good")):
            await talk.accept(Said(name, text))
        failed, again, fine = [await talk.answer_to(name) for name in "abc"]
        assert failed.error is not None
        assert failed.error.message == "too many requests"
        assert again.error is not None
        assert fine.outcome == "done"
        assert "too many requests" in r.of("end")[0]
        assert [entry.hint for entry in r.shown if entry.kind == "end"] == ["ask later", "", ""]


async def test_what_was_accepted_is_answered_by_whoever_takes_the_session_up(db: Path) -> None:
    stuck = asyncio.Event()

    async def never(subtask: Subtask) -> Result:
        stuck.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with room(db) as r, r.with_(Scripted(never)) as talk:
        await talk.accept(Said("a", "first"))
        await talk.accept(Said("b", "second"))
        await stuck.wait()
    async with room(db, resume=True) as r:
        assert r.talk.status.queued == 2
        async with r.with_(worker := Scripted()) as talk:
            await talk.accept(Said("c", "third"))
            assert (await talk.answer_to("c")).text == "re: third"
            assert worker.asked == ["first", "second", "third"]
    async with room(db, resume=True) as r:
        assert r.talk.status.queued == 0
        assert r.talk.status.turns == 3
        assert (await r.talk.answer_to("a")).text == "re: first"


async def test_states_follow_what_happens(db: Path) -> None:
    async def answer(subtask: Subtask) -> Result:
        hear: Emit = r.talk.hear
        hear(Waiting(model="m", seconds=30, reason="no connection"))
        assert (r.talk.status.state, r.talk.status.why) == ("working", "waits 30 s for m: no connection")
        hear(Waiting(model="m", seconds=30, reason="rate limit", limited=True))
        assert r.talk.status.state == "rate-limited"
        assert r.talk.status.until is not None
        hear(CallStarted(role="polecat", model="m", provider="p"))
        assert r.talk.status.state == "working"
        hear(TextStreamed(text="wrong", phase="reply"))
        hear(TextReset(phase="reply", reason="another host"))
        r.tracker.record("polecat", "p", "m", Usage(input=5, output=7), 0.25)
        return Done(subtask.id, "right")

    async with room(db) as r, r.with_(Scripted(answer)) as talk:
        assert talk.status.state == "ready"
        await talk.accept(Said("a", "go"))
        await talk.answer_to("a")
        assert talk.status.state == "waiting for input"
        assert talk.status.cost.usd == 0.25
        (end,) = [entry for entry in r.shown if entry.kind == "end"]
        assert (end.tokens, end.usd) == (12, 0.25)
        assert r.of("reset") == ["another host"]


async def test_leave_is_asked_for_and_given_or_not(db: Path) -> None:
    async def answer(subtask: Subtask) -> Result:
        allowed = await r.talk.consent("run `make`?")
        return Done(subtask.id, "made" if allowed else "left alone")

    async with room(db) as r, r.with_(Scripted(answer)) as talk:
        assert not talk.answer(allow=True)
        for name, allow, reply in (("a", True, "made"), ("b", False, "left alone")):
            await talk.accept(Said(name, name))
            while talk.status.state != "waiting for input" or "make" not in talk.status.why:
                await asyncio.sleep(0)
            assert talk.answer(allow=allow)
            assert (await talk.answer_to(name)).text == reply


async def test_what_is_asked_at_once_is_answered_one_after_another(db: Path) -> None:
    async def answer(subtask: Subtask) -> Result:
        allowed = await asyncio.gather(*(r.talk.consent(f"run {what}?") for what in ("make", "rm")))
        return Done(subtask.id, str(allowed))

    async with room(db) as r, r.with_(Scripted(answer)) as talk:
        await talk.accept(Said("a", "both"))
        for what, allow in (("make", True), ("rm", False)):
            while what not in talk.status.why:
                await asyncio.sleep(0)
            assert r.of("ask")[-1] == f"run {what}?"
            assert talk.answer(allow=allow)
            assert not talk.answer(allow=True)  # no answer is one to a question that nobody has seen
        assert (await talk.answer_to("a")).text == "[True, False]"


async def test_while_a_person_was_waited_for_nobody_was_silent(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(subtask: Subtask) -> Result:
        await r.talk.consent("run make?")
        await asyncio.Event().wait()
        raise AssertionError

    async with room(db) as r, r.with_(Scripted(answer)) as talk:
        await talk.accept(Said("a", "build it"))
        while "make" not in talk.status.why:
            await asyncio.sleep(0)
        answered = talk.status.heard + 3600
        monkeypatch.setattr("time.time", lambda: answered)
        assert talk.answer(allow=True)
        while talk.status.state != "working":
            await asyncio.sleep(0)
        assert talk.status.heard == answered


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\x00", "héllo ☃\r\n\t".encode(), b"", b"\x00" * 9, "\u2028\ud7ff".encode()]
)
async def test_any_bytes_are_kept_as_they_are(db: Path, data: bytes) -> None:
    async with room(db) as r, r.with_(Scripted()) as talk:
        await talk.accept(Said.of("a", data, "somebody"))
        await talk.answer_to("a")
    async with room(db, resume=True) as r:
        (said,) = [step.read(Said) for step in r.journal.steps(("said",))]
        assert said.data == data


async def test_a_journal_that_fails_ends_the_conversation_and_accepts_nothing(db: Path) -> None:
    async with room(db) as r:
        await r.journal.aclose()
        with pytest.raises(JournalError):
            await r.talk.accept(Said("a", "lost?"))
        assert r.talk.status.queued == 0


@pytest.mark.parametrize("way", ["said", "switch"])
async def test_one_that_can_keep_nothing_more_does_not_stay_and_refuse(db: Path, way: str) -> None:
    async with room(db) as r:
        running = asyncio.create_task(r.talk.run(Scripted()))
        await r.talk.accept(Said("a", "hello"))
        await r.talk.answer_to("a")
        await r.journal.aclose()
        with pytest.raises(JournalError):
            await (r.talk.accept(Said("b", "lost?")) if way == "said" else r.talk.switched("other", "other"))
        async with asyncio.timeout(10):
            with pytest.raises(JournalError):
                await running


async def test_turns_are_written_down_with_who_answered(db: Path) -> None:
    async with room(db) as r, r.with_(Scripted()) as talk:
        talk.begin("qwen@here")
        await talk.accept(Said("a", "hello"))
        assert (await talk.answer_to("a")).model == "qwen@here"
        assert [step.read(Turn).outcome for step in r.journal.steps(("turn",))] == ["done"]
