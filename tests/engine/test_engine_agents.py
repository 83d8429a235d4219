"""Agents as workers of a run: folders, files, failures, seats, books. The agents are this test's own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from electrictown.acp.settings import AgentSettings
from electrictown.budget.caps import Cap, Caps
from electrictown.budget.reservation import spent_before
from electrictown.config import parse_config
from electrictown.engine.agents import AgentReply, Consent
from electrictown.engine.team import RunOptions
from electrictown.errors import (
    AgentError,
    AgentMissingError,
    AuthError,
    ConfigError,
    ElectrictownError,
    StoppedError,
)
from electrictown.events import (
    CallEnded,
    Emit,
    Event,
    HopTaken,
    HostBenched,
    Noted,
    SubtaskStarted,
    TextReset,
    TextStreamed,
)
from electrictown.journal.journal import Journal
from electrictown.journal.memory import MemoryJournal
from electrictown.journal.records import Reserved, Settled
from electrictown.llm.messages import Usage
from electrictown.town import Town
from electrictown.work import Attempt, Done, Failed, File, Plan, Report, Subtask, Task
from fakes.fake_server import FakeServer, Reply, Seen
from fakes.town_kit import FakeTown, yaml_of

Act = Callable[["Ask"], Awaitable[AgentReply]]
ALONE = "roles: {polecat: {agent: gemini}}\n"
TWO = Plan("build it", (Subtask("t01", "one"), Subtask("t02", "two", depends=("t01",))))


class Ask:
    """One question to a fake agent: what it was asked, in which folder, which files it found there."""

    def __init__(self, agent: str, folder: Path, text: str, emit: Emit) -> None:
        self.agent = agent
        self.folder = folder
        self.text = text
        self.emit = emit
        self.found = {
            str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()
        }


class FakeAgent:
    """Does what `act` says; `asked` keeps every question, `engaged` is how many of it work now."""

    def __init__(self, name: str, act: Act) -> None:
        self.name = name
        self.act = act
        self.asked: list[Ask] = []
        self.engaged = self.most = 0
        self.missing = False

    def check(self) -> None:
        if self.missing:
            raise AgentMissingError(f"{self.name}: there is no program", "install it")

    @asynccontextmanager
    async def engage(
        self, folder: Path, *, consent: Consent | None = None, resume: str = "", model: str = ""
    ) -> AsyncGenerator[FakeEngagement]:
        assert consent is None
        assert not resume + model
        self.check()
        self.engaged += 1
        self.most = max(self.most, self.engaged)
        try:
            yield FakeEngagement(self, folder)
        finally:
            self.engaged -= 1


class FakeEngagement:
    id = ""
    models: tuple[str, ...] = ()

    def __init__(self, agent: FakeAgent, folder: Path) -> None:
        self._agent = agent
        self._folder = folder

    async def use(self, model: str) -> str:
        raise AgentError(f"{self._agent.name} has no choice of models")

    async def ask(self, text: str, emit: Emit) -> AgentReply:
        ask = Ask(self._agent.name, self._folder, text, emit)
        self._agent.asked.append(ask)
        return await self._agent.act(ask)


def says(*replies: AgentReply | ElectrictownError) -> Act:
    """One reply after another, the last one for ever: its text streamed, its files in the folder."""
    left = list(replies)

    async def act(ask: Ask) -> AgentReply:
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, ElectrictownError):
            raise reply
        for piece in reply.text.split(" "):
            ask.emit(TextStreamed(text=piece if reply.text.startswith(piece) else f" {piece}", phase="reply"))
        for file in reply.files:
            (ask.folder / file.path).parent.mkdir(parents=True, exist_ok=True)
            (ask.folder / file.path).write_text(file.text)
        return reply

    return act


Hire = Callable[..., FakeAgent]


@pytest.fixture
def hire(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Generator[Hire]:
    """Makes fake agents that a town takes for the real ones. Their folders are all gone in the end."""
    agents: dict[str, FakeAgent] = {}
    base = tmp_path / "tmp"
    base.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(base))

    def made(settings: AgentSettings) -> FakeAgent:
        return agents[settings.name]

    def hired(
        *replies: AgentReply | ElectrictownError, name: str = "gemini", act: Act | None = None
    ) -> FakeAgent:
        agents[name] = FakeAgent(name, act or says(*replies))
        return agents[name]

    monkeypatch.setattr("electrictown.acp.agent.AcpAgent", made)
    yield hired
    assert [*base.iterdir()] == []
    assert all(agent.engaged == 0 for agent in agents.values())


async def run(
    text: str,
    options: RunOptions | None = None,
    journal: Journal | None = None,
    events: list[Event] | None = None,
) -> Report:
    heard = events if events is not None else []
    async with Town.open(parse_config(text, environ={})) as town:
        return await town.run(Task("build it"), options or RunOptions(), emit=heard.append, journal=journal)


def attempts(report: Report, subtask: int = 0) -> tuple[Attempt, ...]:
    return report.results[subtask].attempts


HELLO = AgentReply("I wrote it.", (File("a/hello.py", "print('hi')\n"),), model="flash")


async def test_an_agent_alone_works_the_task_and_its_files_come_out(hire: Hire, tmp_path: Path) -> None:
    agent = hire(HELLO)
    events: list[Event] = []
    report = await run(ALONE, RunOptions(output_dir=tmp_path / "out"), events=events)
    assert (report.outcome, report.exit_code) == ("done", 0)
    assert (tmp_path / "out" / "a" / "hello.py").read_text() == "print('hi')\n"
    assert report.files == ("a/hello.py",)
    assert report.text == "I wrote it.\n\n### FILE: a/hello.py\n```\nprint('hi')\n```"
    assert "".join(e.text for e in events if isinstance(e, TextStreamed)) == report.text
    assert [(e.model, e.provider) for e in events if isinstance(e, SubtaskStarted)] == [("gemini", "gemini")]
    (attempt,) = attempts(report)
    assert (attempt.model, attempt.provider, attempt.files) == ("flash", "gemini", HELLO.files)
    (ask,) = agent.asked
    assert "build it" in ask.text
    assert "You work in a folder of your own" in ask.text
    assert "### FILE" not in ask.text  # it leaves its files in the folder, and does not print them


async def test_files_are_delivered_as_they_are_and_never_read_from_the_words(
    hire: Hire, tmp_path: Path
) -> None:
    text = "odd\r\n```\nno newline at the end"
    reply = AgentReply("### FILE: other.py\n````\nnot a file\n````\n", (File("odd.md", text),))
    hire(reply)
    report = await run(ALONE, RunOptions(output_dir=tmp_path / "out"))
    assert report.files == ("odd.md",)
    assert (tmp_path / "out" / "odd.md").read_bytes().decode() == text


async def test_in_a_run_of_text_the_files_are_in_the_text(hire: Hire) -> None:
    hire(HELLO)
    report = await run(ALONE)
    assert "### FILE: a/hello.py\n```\nprint('hi')\n```" in report.text
    assert report.files == ()


async def test_a_text_that_is_not_what_was_streamed_is_told_anew(hire: Hire) -> None:
    async def act(ask: Ask) -> AgentReply:
        ask.emit(TextStreamed(text="something else", phase="reply"))
        return AgentReply("the answer")

    events: list[Event] = []
    hire(act=act)
    await run(ALONE, events=events)
    told = [e for e in events if isinstance(e, TextStreamed | TextReset)]
    assert isinstance(told[-2], TextReset)
    assert isinstance(told[-1], TextStreamed)
    assert told[-1].text == "the answer"


async def test_what_it_does_is_told_and_only_trouble_is_in_the_report(hire: Hire) -> None:
    async def act(ask: Ask) -> AgentReply:
        ask.emit(Noted(text="reads a.py"))
        ask.emit(Noted(text="not allowed: rm", level="warning"))
        return AgentReply("done")

    hire(act=act)
    events: list[Event] = []
    report = await run(ALONE, events=events)
    notes = [(e.text, e.level) for e in events if isinstance(e, Noted)]
    assert notes == [("t01: reads a.py", "detail"), ("t01: not allowed: rm", "warning")]
    assert report.notes == ("t01: not allowed: rm",)


async def test_it_finds_the_files_of_all_that_its_subtask_builds_upon(hire: Hire, tmp_path: Path) -> None:
    replies = [
        AgentReply("one", (File("lib.py", "v1"), File("keep.py", "k"))),
        AgentReply("two", (File("lib.py", "v2"),)),
        AgentReply("three", (File("test.py", "t"),), deleted=("keep.py",), left=("logo.png is no text",)),
    ]
    agent = hire(*replies)
    plan = Plan(
        "build it",
        (
            Subtask("t01", "one"),
            Subtask("t02", "two", depends=("t01",)),
            Subtask("t03", "three", depends=("t02",)),
        ),
    )
    text = "agents: {gemini: {slots: 2}}\n" + ALONE
    journal = MemoryJournal("r1")
    options = RunOptions(plan=plan, output_dir=tmp_path / "out", synthesize=False, brief=False)
    report = await run(
        "providers: {box: {type: ollama}}\ndefaults: {model: box/m}\n" + text, options, journal
    )
    assert report.exit_code == 0
    assert [ask.found for ask in agent.asked] == [
        {},
        {"lib.py": "v1", "keep.py": "k"},
        {"lib.py": "v2", "keep.py": "k"},
    ]
    notes = "\n".join(report.notes)
    assert "t03: the agent removed keep.py, which is another subtask's: it stays" in notes
    assert "t03: logo.png is no text" in notes
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["keep.py", "lib.py", "test.py"]


async def test_a_retry_goes_on_from_the_files_of_the_attempt_before(hire: Hire, tmp_path: Path) -> None:
    agent = hire(
        AgentReply("first", (File("a.py", "1"), File("b.py", "1"), File("c.py", "1"))),
        AgentReply("second", (File("b.py", "2"),), deleted=("c.py",)),
    )
    scores = iter(('{"critique": "b.py is wrong", "score": 3}', '{"critique": "", "score": 9}'))

    def review(_: Seen) -> str:
        return next(scores)

    town = FakeTown(review=review)
    async with FakeServer(reply=town) as server:
        text = yaml_of(server.url, polecat="{agent: gemini}", witness="{model: chief}")
        report = await run(text, RunOptions(output_dir=tmp_path / "out"))
    assert report.exit_code == 0
    assert agent.asked[1].found == {"a.py": "1", "b.py": "1", "c.py": "1"}
    assert "b.py is wrong" in agent.asked[1].text
    assert {f.path: f.text for f in attempts(report)[1].files or ()} == {"a.py": "1", "b.py": "2"}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.py", "b.py"]
    assert "### FILE: b.py\n```\n2\n```" in town.prompts("review")[1]


async def test_a_file_that_cannot_be_written_is_told_to_the_agent_once(hire: Hire, tmp_path: Path) -> None:
    agent = hire(
        AgentReply("first", (File("aux.py", "1"),)),
        AgentReply("second", (File("other.py", "1"),), deleted=("aux.py",)),
    )
    report = await run(ALONE, RunOptions(output_dir=tmp_path / "out"))
    assert "aux.py" in agent.asked[1].text
    assert report.files == ("other.py",)


async def test_models_of_the_role_take_over_from_an_agent_that_fails(hire: Hire) -> None:
    hire(AgentError("it crashed"))
    town = FakeTown(work="done by a model")
    events: list[Event] = []
    async with FakeServer(reply=town) as server:
        text = yaml_of(server.url, polecat="{agent: gemini, model: m0}")
        report = await run(text, events=events)
    assert (report.exit_code, report.text) == (0, "done by a model")
    (hop,) = [e for e in events if isinstance(e, HopTaken)]
    assert (hop.failed, hop.took_over, hop.error.type) == ("gemini", "m0", "AgentError")
    failed, done = attempts(report)
    assert (failed.model, failed.number, failed.error is not None) == ("gemini", 1, True)
    assert (done.model, done.number) == ("m0", 2)
    assert "How to give files" not in town.prompts("work")[0]


async def test_an_agent_nobody_takes_over_from_fails_the_run_with_its_own_error(hire: Hire) -> None:
    hire(AuthError("gemini: nobody is logged in", "run `gemini` once and log in"))
    report = await run(ALONE)
    assert report.exit_code == 4
    assert report.error is not None
    assert (report.error.type, report.error.hint) == ("AuthError", "run `gemini` once and log in")


async def test_one_that_nobody_is_logged_in_to_is_asked_once_and_benched(hire: Hire) -> None:
    agent = hire(AuthError("gemini: nobody is logged in"))
    events: list[Event] = []
    async with FakeServer(reply=FakeTown()) as server:
        text = yaml_of(server.url, polecat="{agent: gemini, pool: [m0, m1]}")
        report = await run(text, events=events)
    assert report.exit_code == 0
    assert len(agent.asked) == 1
    assert [e.model for e in events if isinstance(e, HostBenched)] == ["gemini"]


async def test_silence_and_no_file_is_a_failure(hire: Hire) -> None:
    hire(AgentReply(" \n", stopped="refusal"))
    report = await run(ALONE)
    assert report.exit_code == 1
    assert report.error is not None
    assert report.error.message == "gemini ended without a word and without a file (refusal)"


async def test_one_that_stopped_before_its_end_is_said(hire: Hire) -> None:
    hire(replace(HELLO, stopped="max_tokens"))
    report = await run(ALONE)
    assert report.exit_code == 0
    assert "t01: the agent stopped before it was done: max_tokens" in report.notes


async def test_a_specialist_that_is_an_agent_works_beside_a_pool_of_models(hire: Hire) -> None:
    agent = hire(AgentReply("by the agent"))
    plan = "1. parser [specialist: go]\n2. printer"
    async with FakeServer(reply=FakeTown(plan=plan)) as server:
        text = yaml_of(server.url, extra="specialists: {go: {agent: gemini, description: Go code}}\n")
        report = await run(text, RunOptions(plan=None))
    assert report.exit_code == 0
    models = {r.subtask: r.attempts[-1].provider for r in report.results}
    assert models["t01"] == "gemini"
    assert models["t02"] in ("h0", "h1")
    assert len(agent.asked) == 1


async def test_a_specialist_that_is_a_model_works_beside_an_agent(hire: Hire) -> None:
    agent = hire(AgentReply("by the agent"))
    plan = Plan("build it", (Subtask("t01", "one", specialist="go"), Subtask("t02", "two")))
    async with FakeServer(reply=FakeTown()) as server:
        extra = "specialists: {go: {model: m1}}\nagents: {gemini: {slots: 2}}\n"
        text = yaml_of(server.url, polecat="{agent: gemini}", extra=extra)
        report = await run(text, RunOptions(plan=plan, synthesize=False))
    assert [r.attempts[-1].provider for r in report.results] == ["h1", "gemini"]
    assert len(agent.asked) == 1


@pytest.mark.parametrize("slots", [1, 2])
async def test_no_more_of_it_work_at_once_than_it_has_slots(hire: Hire, slots: int) -> None:
    together = asyncio.Event()
    agent = hire(AgentReply("x"))

    async def act(ask: Ask) -> AgentReply:
        if agent.engaged == slots:
            together.set()
        await together.wait()
        return AgentReply(f"done {ask.folder.name}")

    agent.act = act
    plan = Plan("build it", tuple(Subtask(f"t0{n}", f"part {n}") for n in range(1, 7)))
    text = "providers: {box: {type: ollama}}\ndefaults: {model: box/m}\n" + ALONE
    options = RunOptions(plan=plan, brief=False, synthesize=False)
    report = await run(text + f"agents: {{gemini: {{slots: {slots}}}}}\n", options)
    assert report.exit_code == 0
    assert len(agent.asked) == 6
    assert agent.most == slots


async def test_two_or_more_slots_make_a_pool_and_the_mayor_plans(hire: Hire) -> None:
    agent = hire(AgentReply("by the agent"))
    town = FakeTown()
    async with FakeServer(reply=town) as server:
        extra = "agents: {gemini: {slots: 2}}\n"
        report = await run(yaml_of(server.url, polecat="{agent: gemini}", extra=extra))
        assert town.asked == {"plan": 1, "brief": 1, "synthesize": 1}
        assert len(agent.asked) == 3
        assert "Agree on the name parse()." in agent.asked[0].text
        assert report.text == "The merged result."
        town.asked.clear()
        await run(yaml_of(server.url, polecat="{agent: gemini}"))
        assert not town.asked


async def test_what_it_costs_is_in_the_report_and_in_the_books(hire: Hire) -> None:
    hire(replace(HELLO, usage=Usage(input=100, output=20), usd=0.5))
    journal = MemoryJournal("r1")
    events: list[Event] = []
    report = await run(ALONE, journal=journal, events=events)
    assert report.total is not None
    assert (report.total.requests, report.total.tokens, report.total.usd) == (1, 120, 0.5)
    assert [c.name for c in report.costs["provider"]] == ["gemini"]
    assert [c.name for c in report.costs["model"]] == ["flash"]
    (reserved,), (settled,) = journal.steps(("reserve",)), journal.steps(("settle",))
    assert reserved.key == "t01.attempt1.e1.r1"
    assert reserved.read(Reserved).usd is None
    assert settled.read(Settled).outcome == "done"
    assert spent_before(journal)[0].usd == 0.5
    (ended,) = [e for e in events if isinstance(e, CallEnded)]
    assert (ended.provider, ended.output_tokens, ended.usd) == ("gemini", 20, 0.5)


async def test_a_cost_that_is_not_told_is_unknown_and_not_nothing(hire: Hire) -> None:
    hire(AgentReply("done"))
    report = await run(ALONE)
    assert report.total is not None
    assert report.total.usd is None
    assert [c.name for c in report.costs["model"]] == ["unknown"]


async def test_a_failed_ask_is_on_the_bill_and_one_without_a_login_is_not(hire: Hire) -> None:
    hire(AgentError("it crashed"))
    journal = MemoryJournal("r1")
    report = await run(ALONE, journal=journal)
    assert report.total is not None
    assert (report.total.requests, report.total.partial, report.total.usd) == (1, 1, None)
    assert journal.steps(("settle",))[0].read(Settled).outcome == "failed"
    hire(AuthError("log in first"))
    report = await run(ALONE)
    assert report.total is not None
    assert report.total.requests == 0


async def test_what_was_answered_is_not_asked_again(hire: Hire, tmp_path: Path) -> None:
    agent = hire(HELLO)
    journal = MemoryJournal("r1")
    options = RunOptions(output_dir=tmp_path / "out")
    first = await run(ALONE, options, journal)
    (tmp_path / "out" / "a" / "hello.py").unlink()
    events: list[Event] = []
    again = await run(ALONE, options, journal, events)
    assert len(agent.asked) == 1
    assert again.text == first.text
    assert (tmp_path / "out" / "a" / "hello.py").read_text() == "print('hi')\n"


async def test_an_attempt_that_was_committed_stands_when_only_its_review_was_missing(hire: Hire) -> None:
    agent = hire(HELLO)
    journal = MemoryJournal("r1")
    replies = iter([Reply(status=400, error="no"), '{"critique": "", "score": 9}'])
    async with FakeServer(reply=FakeTown(review=lambda _: next(replies))) as server:
        text = yaml_of(server.url, polecat="{agent: gemini}", witness="{model: chief}")
        await run(text, journal=journal)
        report = await run(text, journal=journal)
    assert len(agent.asked) == 1
    (attempt,) = attempts(report)
    assert attempt.files == HELLO.files


async def test_cancelled_it_has_ended_its_turn_and_left_no_folder(hire: Hire) -> None:
    asked = asyncio.Event()
    ended: list[str] = []

    async def act(ask: Ask) -> AgentReply:
        (ask.folder / "half.py").write_text("x")
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("turn")
        raise AssertionError

    journal = MemoryJournal("r1")
    hire(act=act)
    task = asyncio.create_task(run(ALONE, journal=journal))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["turn"]
    (settled,) = journal.steps(("settle",))
    assert settled.read(Settled).outcome == "abandoned"
    assert journal.steps(("attempt",)) == []


async def test_a_halt_reaches_who_waits_for_a_seat_and_lets_end_what_is_under_way(hire: Hire) -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def act(ask: Ask) -> AgentReply:
        asked.set()
        await go.wait()
        return AgentReply("done")

    agent = hire(act=act)
    plan = Plan("build it", (Subtask("t01", "one"), Subtask("t02", "two")))
    text = "providers: {box: {type: ollama}}\ndefaults: {model: box/m}\n" + ALONE
    async with Town.open(parse_config(text, environ={})) as town:
        prepared = town.prepare(Task("build it"), RunOptions(plan=plan, synthesize=False))
        task = asyncio.create_task(prepared.execute())
        await asked.wait()
        prepared.stop(StoppedError("enough"))
        go.set()
        report = await task
    assert report.exit_code == 130
    done, failed = report.results
    assert isinstance(done, Done)
    assert isinstance(failed, Failed)
    assert failed.error.type == "StoppedError"
    assert len(agent.asked) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
async def test_folders_that_may_not_be_entered_are_removed_too(hire: Hire) -> None:
    async def act(ask: Ask) -> AgentReply:
        (ask.folder / "deep" / "er").mkdir(parents=True)
        (ask.folder / "deep" / "er" / "file").write_text("x")
        (ask.folder / "deep" / "er").chmod(0)
        (ask.folder / "deep").chmod(0o500)
        return AgentReply("done")

    hire(act=act)
    assert (await run(ALONE)).exit_code == 0


@pytest.mark.parametrize(
    ("caps", "named"),
    [
        (Caps(usd=1), "the run"),
        (Caps(tokens=1000), "the run"),
        (Caps(per_role={"polecat": Cap(usd=1)}), "the role polecat"),
        (Caps(per_subtask=Cap(tokens=5)), "each subtask"),
    ],
)
async def test_a_budget_for_what_an_agent_spends_is_refused_before_anything_begins(
    hire: Hire, caps: Caps, named: str
) -> None:
    agent = hire(HELLO)
    with pytest.raises(ConfigError) as caught:
        await run(ALONE, RunOptions(caps=caps))
    assert f"there is a budget for {named}" in caught.value.message
    assert "gemini" in caught.value.message
    assert "--budget none" in caught.value.hint
    assert agent.asked == []


async def test_a_budget_of_other_roles_may_stay(hire: Hire) -> None:
    hire(HELLO)
    assert (await run(ALONE, RunOptions(caps=Caps(per_role={"mayor": Cap(usd=1)})))).exit_code == 0


async def test_a_program_that_is_not_there_is_found_before_the_run_begins(hire: Hire) -> None:
    hire(HELLO).missing = True
    events: list[Event] = []
    with pytest.raises(AgentMissingError) as caught:
        await run(ALONE, events=events)
    assert caught.value.exit_code == 2
    assert events == []


async def test_a_dry_run_tells_that_an_agent_is_asked_and_that_its_price_is_unknown(hire: Hire) -> None:
    agent = hire(HELLO)
    report = await run(ALONE, RunOptions(dry_run=True))
    (work,) = report.planned
    assert (work.phase, work.models, work.usd) == ("work", ("gemini",), None)
    assert agent.asked == []


async def test_a_machine_without_the_program_says_so_for_a_subtask_of_others(hire: Hire) -> None:
    agent = hire(HELLO)
    async with Town.open(parse_config(ALONE, environ={})) as town:
        journal = MemoryJournal("r1")
        done = await town.work(TWO, TWO.subtasks[0], RunOptions(), journal)
        assert isinstance(done, Done)
        agent.missing = True
        with pytest.raises(ConfigError, match="there is no program"):
            await town.work(TWO, TWO.subtasks[1], RunOptions(), journal)


async def test_a_role_of_an_agent_cannot_plan() -> None:
    text = "roles: {crew: {agent: gemini}, polecat: {agent: gemini}}\n"
    with pytest.raises(ConfigError, match="agents do not plan"):
        await run(text, RunOptions(supervisor="crew"))
