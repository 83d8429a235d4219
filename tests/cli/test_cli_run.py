"""`et run` as a program calls it: what is asked for, what is printed where, what is left behind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_kit import Shell

from electrictown.work import Done
from fakes.fake_server import Reply, Seen
from fakes.town_kit import FakeTown, serving, yaml_of

CHIEF = "{model: chief}"


def whole(url: str, type_: str = "ollama", boss: str = CHIEF) -> str:
    """All four roles, on three hosts; `boss` is another supervisor."""
    return yaml_of(url, type_=type_, witness=CHIEF, refinery=CHIEF, boss=boss)


def test_the_result_alone_is_on_stdout_and_what_happens_is_on_stderr(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        shell.configure(whole(server.url))
        said = shell.et("run", "build it")
    assert said.code == 0
    assert said.out == "The polished result.\n"
    told = said.err.splitlines()
    assert told[0] == f"config: {Path('electrictown.yaml')}"
    assert "plan: 3 subtasks" in told
    assert "  t03 write the tests (after t01, t02)" in told
    assert "t01 started on m0@h0" in told
    assert "t03 review: passed, 8 of 10" in told
    assert any(re.fullmatch(r"total +10 +110 +0 +70 +\$0", line) for line in told)
    assert re.fullmatch(r"done in [\d.]+s, 10 requests, \$0", told[-1])
    assert "\x1b" not in said.all
    assert "\r" not in said.all
    assert shell.files() == ["electrictown.yaml"]


def test_without_a_pool_one_worker_answers(shell: Shell) -> None:
    town = FakeTown(work="def search(): ...")
    with serving(town) as server:
        shell.configure(yaml_of(server.url, polecat="{model: m0}"))
        said = shell.et("run", "build it")
    assert (said.code, said.out) == (0, "def search(): ...\n")
    assert town.asked == {"work": 1}


@pytest.mark.parametrize("way", ["argument", "words", "stdin", "file", "after --"])
def test_a_task_comes_from_the_argument_stdin_or_a_file(shell: Shell, way: str) -> None:
    task = 'sort "ä" & $HOME `x`'
    shell.write("task.md", f"\ufeff{task}\n")
    arguments = {
        "argument": [task],
        "words": task.split(),
        "stdin": ["-"],
        "file": ["@task.md"],
        "after --": ["--", task],
    }[way]
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url, polecat="{model: m0}"))
        said = shell.et("run", "--json", *arguments, stdin=f"{task}\n")
    assert said.report.task == task
    assert task in town.prompts("work")[0]


def test_json_prints_one_report_and_nothing_else(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        shell.configure(whole(server.url))
        said = shell.et("run", "--json", "build it")
    report = said.report
    assert (report.task, report.outcome, report.exit_code) == ("build it", "done", said.code)
    assert report.text == "The polished result."
    assert [r.subtask for r in report.results] == ["t01", "t02", "t03"]
    assert report.total is not None
    assert report.total.requests == 10
    assert report.total.tokens == 180, "the workers' tokens are in the sum"
    assert {c.name for c in report.costs["role"]} == {"mayor", "polecat", "witness", "refinery"}
    assert "plan: 3 subtasks" in said.err


def test_jsonl_prints_an_event_a_line_and_the_report_last(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        shell.configure(whole(server.url))
        said = shell.et("run", "--jsonl", "build it")
    kinds = [event["type"] for event in said.events]
    assert (kinds[0], kinds[-1]) == ("run.started", "run.ended")
    assert {"plan.made", "phase.started", "subtask.started", "call.ended", "text"} <= set(kinds)
    assert said.events[-1]["report"]["text"] == "The polished result."
    streamed = [e["text"] for e in said.events if e["type"] == "text" and e["phase"] == "refine"]
    assert "".join(streamed) == "The polished result."
    assert said.code == 0


def test_jsonl_tells_a_failure_too(shell: Shell) -> None:
    with serving(FakeTown(plan=Reply(status=400, error="no such field"))) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "--jsonl", "build it")
    report = said.events[-1]["report"]
    assert (report["outcome"], report["exit_code"], said.code) == ("failed", 1, 1)
    assert report["error"]["type"] == "BadRequestError"


def test_quiet_prints_the_result_and_errors_alone(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "-q", "build it")
        assert (said.out, said.err) == ("The merged result.\n", "")
    with serving(FakeTown(plan=Reply(status=400, error="no such field"))) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "--quiet", "build it")
    assert said.out == ""
    assert "no such field" in said.err
    assert "plan: asking" not in said.err


@pytest.mark.parametrize(
    ("flag", "gone"),
    [
        ("--no-brief", "brief"),
        ("--no-coordinate", "brief"),
        ("--no-witness", "review"),
        ("--no-reviewer", "review"),
        ("--no-synthesize", "synthesize"),
        ("--no-refinery", "refine"),
        ("--no-tester", "refine"),
        ("-no-tester", "refine"),
    ],
)
def test_each_phase_can_be_left_out_by_its_name_and_the_originals(shell: Shell, flag: str, gone: str) -> None:
    town = FakeTown()
    with serving(town) as server:
        shell.configure(whole(server.url))
        said = shell.et("run", flag, "build it")
    assert said.code == 0
    assert set(town.asked) == {"plan", "brief", "work", "review", "synthesize", "refine"} - {gone}


def test_the_originals_flags_are_taken_with_one_dash_too(shell: Shell) -> None:
    town = FakeTown(boss="unused")
    with serving(town) as server:
        shell.write("fleet.yaml", whole(server.url, boss="{model: m1}"))
        said = shell.et(
            *("run", "-config", "fleet.yaml", "-role=boss", "-max-subtasks", "5", "-timeout", "1"),
            *("-output-dir", "out", "-guardrail-threshold", "9", "-guardrail-retries=0", "-no-specialists"),
            *("--json", "build it"),
        )
    assert said.code == 1, "a score of 8 is below 9, and there is no second try"
    assert town.asked["work"] == 3
    assert {s.host.strip("/") for phase, s in town.seen if phase == "plan"} == {"h1"}


def test_max_subtasks_has_the_mayor_merge_a_longer_plan(shell: Shell) -> None:
    town = FakeTown(repair="1. write it all\n2. test it all [depends: 1]")
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "--max-subtasks", "2", "--json", "build it")
    assert town.asked["repair"] == 1
    assert [r.subtask for r in said.report.results] == ["t01", "t02"]


def test_specialists_can_be_left_out(shell: Shell) -> None:
    town = FakeTown(plan="1. the schema [specialist: sql]\n2. the page")
    specialists = "specialists:\n  sql: {description: queries, model: chief}\n"
    with serving(town) as server:
        shell.configure(yaml_of(server.url, extra=specialists))
        with_them = shell.et("run", "--json", "build it").report
        without = shell.et("run", "--json", "--no-specialists", "build it").report
    assert with_them.results[0].attempts[0].model == "chief"
    assert without.results[0].attempts[0].model in {"m0", "m1"}


def test_what_was_changed_in_a_plan_is_said_once(shell: Shell) -> None:
    town = FakeTown(plan="1. the schema [specialist: sqll]\n2. the page")
    specialists = "specialists:\n  sql: {description: queries, model: chief}\n"
    with serving(town) as server:
        shell.configure(yaml_of(server.url, extra=specialists))
        said = shell.et("run", "--json", "build it")
    (note,) = said.report.notes
    assert "sqll" in note
    assert said.err.count(note) == 1


def test_the_guardrail_asks_again_below_the_threshold(shell: Shell) -> None:
    town = FakeTown(
        plan="1. the only part",
        review='{"critique": "name it better", "score": 7}',
        work=lambda seen: f"try {seen.prompt.count('name it better') + 1}",
    )
    with serving(town) as server:
        shell.configure(yaml_of(server.url, witness="{model: chief}"))
        assert shell.et("run", "build it").code == 0
        assert town.asked["work"] == 1
        said = shell.et("run", "--guardrail-threshold", "7.5", "--json", "build it")
    assert town.asked["work"] == 3
    assert said.code == 1
    done = said.report.results[0]
    assert isinstance(done, Done)
    assert not done.accepted


def test_the_timeout_ends_the_run_with_75_and_a_report(shell: Shell) -> None:
    with serving(FakeTown(work=Reply(text="late", latency=30))) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "--timeout", "0.4s", "--json", "build it")
    assert said.code == 75
    assert said.report.error is not None
    assert said.report.error.type == "DeadlineError"
    assert said.report.plan is not None
    assert "--timeout" in said.err


@pytest.mark.parametrize(
    ("written", "seconds"), [("2", 120), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("45m", 2700)]
)
def test_a_timeout_is_minutes_unless_it_says_otherwise(written: str, seconds: float) -> None:
    import click

    from electrictown.cli.run import command

    option = next(p for p in command.params if p.name == "timeout")
    assert option.type.convert(written, option, click.Context(command)) == seconds


def test_a_dry_run_asks_for_the_plan_alone_and_says_what_it_would_cost(shell: Shell) -> None:
    town = FakeTown()
    with serving(town) as server:
        config = yaml_of(server.url, type_="openai", extra="defaults: {max_tokens: 500}\n")
        shell.configure(config.replace("model: fake", "price: {input: 1, output: 2}, model: fake"))
        said = shell.et("run", "--dry-run", "--output-dir", "out", "build it")
    assert said.code == 0
    assert town.asked == {"plan": 1}
    assert "t03  write the tests  (after t01, t02)" in said.out
    assert re.search(r"^ +work +6 calls +\$0\.\d+ +m0, then m1$", said.out, re.MULTILINE)
    assert re.search(r"^ +total +\d+ calls +\$0\.\d+$", said.out, re.MULTILINE)
    assert not (shell.folder / "out").exists()


def test_a_dry_runs_report_is_a_plan_that_is_run_without_paying_for_it_again(shell: Shell) -> None:
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        planned = shell.et("run", "--dry-run", "--json", "build it")
        shell.write("plan.json", planned.out)
        town.asked.clear()
        said = shell.et("run", "--plan", "plan.json", "--json")
        again = shell.et("run", "-plan=plan.json", "--json", "build it")
    assert town.asked["plan"] == 0
    assert town.asked["work"] == 6
    assert said.report.plan == planned.report.plan
    assert said.report.task == again.report.task == "build it"


def test_files_are_written_into_the_folder_that_is_named(shell: Shell) -> None:
    def worker(seen: Seen) -> str:
        name = "parser" if "## Your subtask\n\nwrite the parser" in seen.prompt else "printer"
        return f"### FILE: src/{name}.py\n````python\nx = 1\n````\n\n### FILE: {name}.md\n````\nHow.\n````"

    with serving(FakeTown(plan="1. write the parser\n2. write the printer", work=worker)) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "--output-dir", "deep/out", "build it")
    assert said.code == 0
    assert shell.files("deep") == [
        "deep/out/parser.md",
        "deep/out/printer.md",
        "deep/out/src/parser.py",
        "deep/out/src/printer.py",
    ]
    assert (shell.folder / "deep/out/src/parser.py").read_text() == "x = 1\n"
    assert "wrote src/parser.py (6 bytes)" in said.err


def test_an_env_file_brings_the_key(shell: Shell) -> None:
    shell.write("keys.env", "# of the fleet\nexport FLEET_KEY='key-from-the-file-1'\n")
    with serving(FakeTown(), auth="bearer key-from-the-file-1") as server:
        shell.configure(yaml_of(server.url, extra="").replace("type:", "api_key: $FLEET_KEY, type:"))
        assert shell.et("run", "build it").code == 2, "without it, the variable is not set"
        said = shell.et("run", "--env-file", "keys.env", "build it")
    assert (said.code, said.out) == (0, "The merged result.\n")
    assert "key-from-the-file-1" not in said.all


def test_without_a_file_it_takes_the_ollama_it_finds_and_says_so(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = FakeTown()
    with serving(town) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        said = shell.et("run", "build it")
    assert said.code == 0
    assert said.out == "The merged result.\n"
    assert f"no electrictown.yaml: no key is set; Ollama at {server.url} has fake-model" in said.err
    assert town.asked["review"] == 3


def test_the_home_folders_file_is_used_where_there_is_none_here(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        (shell.folder.parent / "home" / "electrictown.yaml").write_text(yaml_of(server.url))
        said = shell.et("run", "build it")
    assert said.code == 0
    assert said.err.startswith(f"config: {shell.folder.parent / 'home' / 'electrictown.yaml'}\n")


def test_a_fallback_is_told_at_the_end(shell: Shell) -> None:
    def refuse(seen: Seen) -> str | Reply:
        return Reply(status=500, error="out of order") if seen.host.strip("/") == "h0" else town(seen)

    town = FakeTown(plan="1. the only part")
    with serving(refuse) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "build it")
    assert said.code == 0
    assert "warning: polecat t01: m0 failed" in said.err
    assert "polecat: m0 -> m1 (ServerError)" in said.err.splitlines()


@pytest.mark.parametrize("type_", ["openai", "anthropic", "gemini", "ollama"])
def test_a_whole_run_works_on_every_wire(shell: Shell, type_: str) -> None:
    town = FakeTown()
    with serving(town) as server:
        shell.configure(whole(server.url, type_=type_).replace("{type:", "{api_key: k-123456, type:"))
        said = shell.et("run", "--json", "build it")
    assert said.code == 0
    assert said.report.text == "The polished result."
    assert town.asked == {"plan": 1, "brief": 1, "work": 3, "review": 3, "synthesize": 1, "refine": 1}
