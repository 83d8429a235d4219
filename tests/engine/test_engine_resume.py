"""What stays the same when a run is taken up again: keys of merges, numbers of attempts, what is kept."""

from __future__ import annotations

import pytest

from electrictown.engine.calls import JournalledCalls, key_of_all
from electrictown.engine.desk import Desk
from electrictown.engine.team import RunOptions
from electrictown.errors import BadReplyError, JournalError
from electrictown.journal.memory import MemoryJournal
from electrictown.journal.records import Answer
from electrictown.llm.router import Router
from electrictown.llm.routes import Route, RouteTable, Target
from electrictown.llm.scripted import ScriptedProvider
from electrictown.redact import Secret, mask
from electrictown.roles.mayor import Mayor
from electrictown.roles.plans import single
from electrictown.work import Attempt, Done, Failed, Failure, Result

PLAN = single("build it")
GONE = Failure("QuotaError", "no money")


def desk() -> Desk:
    return Desk(PLAN, PLAN.subtasks[0], "", (), files=False)


def test_attempts_are_numbered_on_from_one_that_is_remembered() -> None:
    """Two hosts had failed before the reply came; those failures are not in the journal."""
    papers = desk()
    assert papers.next_number == 1
    remembered = papers.answered(Attempt(3, "m", "p", reply="a"))
    assert papers.next_number == 4
    papers.attempts.append(Attempt(4, "m", "p", error=GONE))
    newer = papers.answered(Attempt(5, "m", "p", reply="b"))
    assert (papers.answer(remembered), papers.answer(newer)) == (1, 2)


async def test_a_merge_of_results_that_may_change_has_a_key_of_its_own() -> None:
    journal = MemoryJournal("r1")
    done, other = Done("t01", "text"), Done("t02", "more")
    failed = Failed("t02", GONE)
    await journal.record("t01.result", done, kind="result")

    def key(*results: Result) -> str:
        return key_of_all("synthesize", results, journal)

    assert key(done) == "synthesize"
    keys = {key(done, failed), key(done, other), key(done, Done("t02", "less")), key(failed)}
    assert len(keys) == 3, "what is final does not count"
    assert all(found.startswith("synthesize.") for found in keys)
    assert key(done, failed) == key(done, Failed("t02", Failure("RateLimitError", "in other words")))
    await journal.record("t02.result", other, kind="result")
    assert key(done, other) == "synthesize"


async def test_the_key_is_the_same_for_a_text_that_came_back_without_its_secret() -> None:
    Secret("sk-live-0123456789")
    text = "the key is sk-live-0123456789"
    journal = MemoryJournal("r1")
    told = [key_of_all("refine", [Done("t01", said)], journal) for said in (text, mask(text))]
    assert told[0] == told[1]


@pytest.mark.parametrize("reply", ["", "<think>what now</think>"])
async def test_a_call_that_said_nothing_is_not_remembered(reply: str) -> None:
    played = ScriptedProvider.of("p", [reply, "an answer"])
    one = Target(alias="m", provider="p", model="m")
    router = Router({"p": played}, RouteTable({}, {"m": one}, {}, Route("", one)))
    journal = MemoryJournal("r1")
    mayor = Mayor(JournalledCalls(router, journal))
    with pytest.raises(BadReplyError):
        await mayor.brief(PLAN)
    assert journal.recorded("brief", Answer) is None
    assert await mayor.brief(PLAN) == "an answer"
    assert await mayor.brief(PLAN) == "an answer", "remembered: the script is at its end"


def test_options_come_back_as_they_were_and_strange_ones_are_told() -> None:
    options = RunOptions(plan=PLAN, retries=3, timeout=7.5)
    settings = options.settings()
    assert RunOptions.of({**settings, "colour": "green"}) == options
    with pytest.raises(JournalError, match="retries"):
        RunOptions.of({**settings, "retries": "many"})
