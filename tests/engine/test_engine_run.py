"""A run from task to report, over real HTTP to a fake town."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace

from electrictown.config import parse_config
from electrictown.engine.team import RunOptions
from electrictown.events import (
    Event,
    HopTaken,
    HostBenched,
    PhaseStarted,
    PlanMade,
    RunEnded,
    SubtaskReviewed,
    SubtaskStarted,
    TextStreamed,
)
from electrictown.town import Town
from electrictown.work import Done, Failed, Plan, Report, Subtask, Task
from fakes.fake_server import FakeServer, Reply, Seen
from fakes.town_kit import FakeTown, by_host, yaml_of

WITNESS = "{model: chief}"


async def run(
    server: FakeServer,
    text: str,
    options: RunOptions | None = None,
    max_subtasks: int = 10,
) -> tuple[Report, list[Event]]:
    events: list[Event] = []
    async with Town.open(parse_config(text, environ={})) as town:
        options = replace(options or RunOptions(), max_subtasks=max_subtasks)
        report = await town.run(Task("build it"), options, emit=events.append)
    assert isinstance(events[-1], RunEnded)
    return report, events


async def test_a_pool_plans_briefs_works_in_parallel_reviews_synthesizes_and_polishes() -> None:
    town = FakeTown()
    async with FakeServer(reply=town) as server:
        text = yaml_of(server.url, witness=WITNESS, refinery=WITNESS)
        report, events = await run(server, text)
    assert report.outcome == "done"
    assert report.exit_code == 0
    assert report.text == "The polished result."
    assert town.asked == {"plan": 1, "brief": 1, "work": 3, "review": 3, "synthesize": 1, "refine": 1}
    assert [e.phase for e in events if isinstance(e, PhaseStarted)] == [
        "plan",
        "brief",
        "work",
        "synthesize",
        "refine",
    ]
    assert [r.subtask for r in report.results] == ["t01", "t02", "t03"]
    assert report.plan is not None
    assert report.plan.subtasks[2].depends == ("t01", "t02")
    assert all("parse()" in prompt for prompt in town.prompts("work"))
    assert "def parse()" in town.prompts("work")[2]  # the tests build on the parser's result
    assert {e.provider for e in events if isinstance(e, SubtaskStarted)} == {"h0", "h1"}
    assert {c.name: c.requests for c in report.costs["role"]} == {
        "mayor": 3,
        "polecat": 3,
        "witness": 3,
        "refinery": 1,
    }
    assert report.total is not None
    assert report.total.usd == 0


async def test_one_call_in_flight_a_member_by_default_and_max_in_flight_raises_it() -> None:
    town = FakeTown(plan="\n".join(f"{i}. part {i}" for i in range(1, 9)), work=Reply(text="x", latency=0.03))
    async with FakeServer(reply=town) as server:
        await run(server, yaml_of(server.url, pool=2))
        assert {h.strip("/"): n for h, n in server.max_in_flight.items()} == {"boss": 1, "h0": 1, "h1": 1}
        server.max_in_flight.clear()
        text = yaml_of(server.url, pool=2).replace("model: fake-0}", "model: fake-0, max_in_flight: 3}")
        await run(server, text)
        assert server.max_in_flight["/h0"] + server.max_in_flight["h0"] == 3


async def test_two_members_on_one_host_share_its_limit() -> None:
    town = FakeTown(plan="\n".join(f"{i}. part {i}" for i in range(1, 7)), work=Reply(text="x", latency=0.02))
    async with FakeServer(reply=town) as server:
        text = (
            f"providers:\n  one: {{type: ollama, base_url: {server.url}/one, max_in_flight: 1}}\n"
            "models:\n  a: {provider: one, model: a}\n  b: {provider: one, model: b}\n"
            "roles:\n  mayor: {model: a}\n  polecat: {pool: [a, b]}\n"
        )
        report, _ = await run(server, text)
        assert report.exit_code == 0
        assert max(server.max_in_flight.values()) == 1


async def test_without_a_pool_one_worker_is_streamed_and_nothing_is_planned() -> None:
    town = FakeTown(work=Reply(text="the whole answer in pieces"))
    async with FakeServer(reply=town) as server:
        report, events = await run(server, yaml_of(server.url, polecat="{model: m0}"))
    assert town.asked == {"work": 1}
    assert report.text == "the whole answer in pieces"
    streamed = [e.text for e in events if isinstance(e, TextStreamed)]
    assert "".join(streamed) == report.text
    assert len(streamed) > 1


async def test_a_failed_hosts_subtask_goes_to_another_and_the_hop_is_told() -> None:
    town = FakeTown()
    broken = Reply(status=500, error="out of order")
    async with FakeServer(reply=by_host({"h0": broken}, town)) as server:
        report, events = await run(server, yaml_of(server.url))
    assert report.exit_code == 0
    assert {a.model for r in report.results for a in r.attempts if a.error is None} == {"m1"}
    hops = [e for e in events if isinstance(e, HopTaken)]
    assert {(h.failed, h.took_over) for h in hops} == {("m0", "m1")}
    assert report.hops[0].error == "ServerError"


async def test_the_roles_fallbacks_come_last() -> None:
    town = FakeTown()
    broken = Reply(status=503, error="overloaded")
    async with FakeServer(reply=by_host({"h0": broken, "h1": broken}, town)) as server:
        text = yaml_of(server.url, polecat="{pool: [m0, m1], fallbacks: [chief]}")
        report, _ = await run(server, text)
    assert report.exit_code == 0
    for result in report.results:
        assert isinstance(result, Done)
        assert result.attempts[-1].model == "chief"


async def test_a_wrong_key_benches_its_host_is_named_and_the_work_goes_on_elsewhere() -> None:
    town = FakeTown()
    wrong = Reply(status=401, error="unauthorized")
    async with FakeServer(reply=by_host({"h0": wrong}, town)) as server:
        report, events = await run(server, yaml_of(server.url))
        asked_wrong = [s for s in server.chats if s.host.strip("/") == "h0"]
    assert report.exit_code == 0
    assert [e.model for e in events if isinstance(e, HostBenched)] == ["m0"]
    assert len(asked_wrong) == 1


async def test_when_every_worker_answers_401_nothing_is_synthesized_and_the_exit_code_is_4() -> None:
    town = FakeTown()
    wrong = Reply(status=401, error="unauthorized")
    async with FakeServer(reply=by_host({"h0": wrong, "h1": wrong}, town)) as server:
        report, _ = await run(server, yaml_of(server.url))
    assert report.exit_code == 4
    assert report.outcome == "failed"
    assert report.error is not None
    assert report.error.type == "AuthError"
    assert report.text == ""
    assert town.asked["synthesize"] == 0


async def test_a_failed_subtask_fails_only_its_dependents_and_the_rest_is_handed_over() -> None:
    def worker(seen: Seen) -> str | Reply:
        return (
            Reply(status=400, error="no") if "## Your subtask\n\nwrite the parser" in seen.prompt else "done"
        )

    town = FakeTown(work=worker)
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url))
    assert report.exit_code == 1
    assert [type(r) for r in report.results] == [Failed, Done, Failed]
    failed = report.results[2]
    assert isinstance(failed, Failed)
    assert failed.error.type == "DependencyError"
    assert report.text == "The merged result."
    assert "NOT DONE" in town.prompts("synthesize")[0]


async def test_a_low_score_is_retried_with_the_critique_and_accepted_when_it_is_better() -> None:
    scores = iter(["3", "9"])
    town = FakeTown(
        plan="1. the only part",
        review=lambda _: f'{{"critique": "the name is wrong", "score": {next(scores)}}}',
        work=lambda seen: "second try" if "the name is wrong" in seen.prompt else "first try",
    )
    async with FakeServer(reply=town) as server:
        report, events = await run(server, yaml_of(server.url, witness=WITNESS))
    assert report.exit_code == 0
    assert "first try" in town.prompts("work")[1]
    assert [e.retry for e in events if isinstance(e, SubtaskReviewed)] == [True, False]
    done = report.results[0]
    assert isinstance(done, Done)
    assert done.text == "second try"
    assert len(done.attempts) == 2


async def test_the_same_text_twice_ends_the_retries_and_is_no_pass() -> None:
    town = FakeTown(plan="1. the only part", review='{"critique": "bad", "score": 2}', work="always the same")
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url, witness=WITNESS), RunOptions(retries=5))
    assert town.asked["work"] == 2
    assert town.asked["review"] == 1
    done = report.results[0]
    assert isinstance(done, Done)
    assert not done.accepted
    assert report.exit_code == 1
    assert any("same text twice" in note for note in report.notes)


async def test_the_best_scored_attempt_is_kept_when_none_passes() -> None:
    scores = iter([4, 5, 3])
    texts = iter(["one", "two", "three"])
    town = FakeTown(
        plan="1. the only part",
        review=lambda _: f'{{"critique": "bad", "score": {next(scores)}}}',
        work=lambda _: next(texts),
    )
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url, witness=WITNESS), RunOptions(retries=2))
    done = report.results[0]
    assert isinstance(done, Done)
    assert done.text == "two"
    assert report.exit_code == 1


async def test_a_review_that_cannot_be_read_is_no_pass() -> None:
    town = FakeTown(plan="1. the only part", review="I like it a lot.")
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url, witness=WITNESS))
    done = report.results[0]
    assert isinstance(done, Done)
    assert not done.accepted
    assert report.exit_code == 1
    assert done.text


async def test_a_witness_that_is_away_lets_nothing_pass_but_loses_nothing_either() -> None:
    town = FakeTown(plan="1. the only part")
    text = "witness: {model: ghost}"
    async with FakeServer(reply=by_host({"ghost": Reply(status=401, error="who are you")}, town)) as server:
        config = yaml_of(server.url).replace(
            "roles:", f"  ghost: {{provider: g, model: g}}\nroles:\n  {text}"
        )
        config = config.replace(
            "providers:", f"providers:\n  g: {{type: ollama, base_url: {server.url}/ghost}}"
        )
        report, _ = await run(server, config)
    assert report.exit_code == 4
    assert report.text == "The merged result."
    assert isinstance(report.results[0], Done)


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (RunOptions(brief=False), "brief"),
        (RunOptions(witness=False), "review"),
        (RunOptions(synthesize=False), "synthesize"),
        (RunOptions(refinery=False), "refine"),
    ],
    ids=["brief", "witness", "synthesize", "refinery"],
)
async def test_each_phase_can_be_left_out(options: RunOptions, gone: str) -> None:
    town = FakeTown()
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url, witness=WITNESS, refinery=WITNESS), options)
    assert report.exit_code == 0
    assert town.asked[gone] == 0
    assert len(town.asked) == 5
    if gone == "synthesize":
        assert "## t01: write the parser" in town.prompts("refine")[0]


async def test_a_plan_without_numbers_is_a_plan() -> None:
    town = FakeTown(plan="- write the parser\n- write the printer")
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url))
    assert len(report.results) == 2


async def test_an_unusable_plan_is_repaired_once_with_the_error_told_and_then_given_up() -> None:
    circle = "1. a [depends: 2]\n2. b [depends: 1]"
    town = FakeTown(plan=circle, repair=circle)
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url))
    assert town.asked == {"plan": 1, "repair": 1}
    assert report.exit_code == 1
    assert report.error is not None
    assert report.error.type == "PlanError"


async def test_too_many_subtasks_are_merged_by_the_mayor_and_never_cut() -> None:
    many = "\n".join(f"{i}. part {i}" for i in range(1, 6))
    town = FakeTown(plan=many, repair="1. parts 1 to 3\n2. parts 4 and 5")
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url), max_subtasks=3)
    assert town.asked["repair"] == 1
    assert (
        [s.text for s in report.plan.subtasks] == ["parts 1 to 3", "parts 4 and 5"] if report.plan else False
    )


async def test_a_specialist_works_on_its_own_models_and_a_misspelt_name_is_matched() -> None:
    town = FakeTown(plan="1. the schema [specialist: databse]\n2. the page [specialist: nobody]")
    extra = "specialists:\n  database: {description: SQL, model: m1}\n"
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url, polecat="{pool: [m0]}", extra=extra))
    assert [r.attempts[0].model for r in report.results] == ["m1", "m0"]
    assert report.plan is not None
    assert report.plan.subtasks[0].specialist == "database"
    assert any("nobody" in note for note in report.notes)


async def test_a_given_plan_is_not_paid_for_again_and_a_dry_run_asks_for_nothing_but_the_plan() -> None:
    town = FakeTown()
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url), RunOptions(dry_run=True))
        assert town.asked == {"plan": 1}
        assert report.outcome == "dry-run"
        assert report.exit_code == 0
        assert {p.phase: p.calls for p in report.planned} == {"brief": 1, "work": 3, "synthesize": 1}
        town.asked.clear()
        report, events = await run(server, yaml_of(server.url), RunOptions(plan=report.plan))
        assert town.asked["plan"] == 0
        assert town.asked["work"] == 3
        assert any(isinstance(e, PlanMade) for e in events)


async def test_one_worker_alone_does_all_of_a_given_plan_and_hands_over_all_of_it() -> None:
    plan = Plan("build it", (Subtask("a", "the parser"), Subtask("b", "the printer", depends=("a",))))
    town = FakeTown(work=lambda seen: f"work {town.asked['work']}")
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url, polecat="{model: m0}"), RunOptions(plan=plan))
    assert town.asked == {"work": 2}
    assert report.text == "## a: the parser\n\nwork 1\n\n## b: the printer\n\nwork 2"


@pytest.mark.parametrize(
    ("subtasks", "said"),
    [
        ((), "has none"),
        ((Subtask("a", "x"), Subtask("a", "y")), "used twice"),
        ((Subtask("a", "x"), Subtask("b", " ")), "empty"),
        ((Subtask("a", "x", depends=("q",)),), "no subtask 'q'"),
    ],
)
async def test_a_given_plan_that_cannot_be_run_is_refused_before_anything_is_asked(
    subtasks: tuple[Subtask, ...], said: str
) -> None:
    town = FakeTown()
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url), RunOptions(plan=Plan("build it", subtasks)))
    assert not town.asked
    assert report.exit_code == 1
    assert report.error is not None
    assert report.error.type == "PlanError"
    assert said in report.error.message


async def test_the_worst_case_of_a_dry_run_is_unknown_without_limits_and_a_bound_with_them() -> None:
    plan = Plan("build it", (Subtask("t01", "one"), Subtask("t02", "two")))
    town = FakeTown()
    async with FakeServer(reply=town) as server:
        priced = yaml_of(server.url, type_="openai").replace(
            "model: fake", "price: {input: 1, output: 2}, model: fake"
        )
        report, _ = await run(server, priced, RunOptions(dry_run=True, plan=plan))
        assert [p.usd for p in report.planned] == [None, None, None]
        limited = priced + "defaults: {max_tokens: 1000}\n"
        report, _ = await run(server, limited, RunOptions(dry_run=True, plan=plan))
        foreseen = sum(p.usd or 0 for p in report.planned)
        real, _ = await run(server, limited, RunOptions(plan=plan))
    assert real.total is not None
    assert real.total.usd is not None
    assert 0 < real.total.usd < foreseen


async def test_the_deadline_ends_a_run_and_its_report_keeps_what_was_done() -> None:
    def worker(seen: Seen) -> str | Reply:
        slow = "## Your subtask\n\nwrite the printer" in seen.prompt
        return Reply(text="late", latency=30) if slow else "quick work"

    town = FakeTown(work=worker)
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url), RunOptions(timeout=0.5))
    assert report.exit_code == 75
    assert report.error is not None
    assert report.error.type == "DeadlineError"
    assert [r.subtask for r in report.results] == ["t01"]


async def test_an_interrupted_run_still_reports_and_frees_every_connection() -> None:
    town = FakeTown(work=Reply(text="late", latency=30))
    events: list[Event] = []
    async with FakeServer(reply=town) as server:
        async with Town.open(parse_config(yaml_of(server.url), environ={})) as parts:
            running = asyncio.create_task(parts.run(Task("build it"), emit=events.append))
            await server.until(lambda: town.asked["work"] == 2)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        await server.until(lambda: not server.connections)
    end = events[-1]
    assert isinstance(end, RunEnded)
    assert end.report.outcome == "interrupted"
    assert end.report.exit_code == 130
    assert end.report.plan is not None


async def test_files_are_written_and_a_refused_one_is_told_to_the_model_once(tmp_path: Path) -> None:
    def worker(seen: Seen) -> str:
        if "could not be written" in seen.prompt:
            return "### FILE: x.py\n````python\nx = 1\n````"
        return "### FILE: ../../x.py\n````python\nx = 1\n````\n\n### FILE: src/y.py\n````python\ny = 2\n````"

    town = FakeTown(plan="1. the only part", work=worker)
    inside = tmp_path / "a" / "b"
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url), RunOptions(output_dir=inside))
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "a/b/src/y.py",
        "a/b/x.py",
    ]
    assert town.asked["work"] == 2
    assert report.exit_code == 0
    assert any("../../x.py" in refused for refused in report.refused)
    assert set(report.files) == {"src/y.py", "x.py"}


async def test_a_file_that_two_workers_write_is_reported_and_not_overwritten(tmp_path: Path) -> None:
    def worker(seen: Seen) -> str:
        mine = "1" if "## Your subtask\n\nwrite the parser" in seen.prompt else "2"
        return f"### FILE: same.py\n````python\nvalue = {mine}\n````"

    town = FakeTown(plan="1. write the parser\n2. write the printer", work=worker)
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url), RunOptions(output_dir=tmp_path))
    assert (tmp_path / "same.py").read_text() in ("value = 1\n", "value = 2\n")
    assert len(list(tmp_path.iterdir())) == 1
    assert any(refused.startswith("same.py") for refused in report.refused)


async def test_synthesis_that_fails_hands_over_the_work_and_says_so() -> None:
    town = FakeTown(synthesize=Reply(status=400, error="bad request"))
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url))
    assert report.exit_code == 1
    assert "def parse()" in report.text


async def test_a_polish_that_fails_or_is_cut_leaves_the_result_as_it_was() -> None:
    for refine in (Reply(status=400, error="no"), Reply(text="half", finish="length")):
        town = FakeTown(refine=refine)
        async with FakeServer(reply=town) as server:
            report, _ = await run(server, yaml_of(server.url, refinery=WITNESS))
        assert report.text == "The merged result."
        assert report.exit_code == 0
        assert any("polish" in note for note in report.notes)


async def test_a_rate_limited_member_is_waited_for_and_not_a_failure() -> None:
    first = iter([Reply(status=429, error="slow down", headers=(("Retry-After", "0"),))])
    town = FakeTown(plan="1. the only part", work=lambda _: next(first, "done after all"))
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url, pool=1))
    assert report.exit_code == 0
    assert isinstance(report.results[0], Done)
    assert report.results[0].text == "done after all"


async def test_an_empty_reply_is_a_failure_of_that_host_and_another_is_asked() -> None:
    town = FakeTown(plan="1. the only part")
    async with FakeServer(reply=by_host({"h0": Reply(text="  ")}, town)) as server:
        report, _ = await run(server, yaml_of(server.url))
    done = report.results[0]
    assert isinstance(done, Done)
    assert done.attempts[-1].model == "m1"


async def test_a_subtask_may_extend_the_file_of_one_it_depends_on(tmp_path: Path) -> None:
    def worker(seen: Seen) -> str:
        mine = "1" if "## Your subtask\n\nwrite the parser" in seen.prompt else "2"
        return f"### FILE: same.py\n````python\nvalue = {mine}\n````"

    town = FakeTown(plan="1. write the parser\n2. extend it [depends: 1]", work=worker)
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url), RunOptions(output_dir=tmp_path))
    assert (tmp_path / "same.py").read_text() == "value = 2\n"
    assert report.refused == ()


async def test_a_folder_that_cannot_be_written_ends_the_run_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    town = FakeTown()
    async with FakeServer(reply=town) as server:
        report, _ = await run(server, yaml_of(server.url), RunOptions(output_dir=tmp_path / "file"))
    assert town.asked == {}
    assert report.exit_code == 1
    assert report.error is not None
    assert report.error.type == "WorkspaceError"


async def test_a_host_that_is_away_is_not_asked_again_with_every_subtask() -> None:
    town = FakeTown(plan="\n".join(f"{i}. part {i}" for i in range(1, 9)))
    broken = Reply(status=500, error="away")
    async with FakeServer(reply=by_host({"h0": broken}, town)) as server:
        text = yaml_of(server.url, pool=3)
        report, _ = await run(server, text)
        asked = [s for s in server.chats if s.host.strip("/") == "h0"]
    assert report.exit_code == 0
    assert len(asked) <= 4  # when all others are busy, and no more
