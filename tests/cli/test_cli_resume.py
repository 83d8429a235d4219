"""`et resume`: only what is not finished is done, with the configuration and the options of the beginning."""

from __future__ import annotations

import os
import shlex
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli_kit import Shell
from msgspec.structs import replace
from test_cli_processes import committed

from electrictown.journal.journal import SCHEMA
from electrictown.journal.stores import journal_file
from electrictown.work import Done
from fakes.fake_server import Reply, Seen
from fakes.town_kit import FakeTown, serving, yaml_of

GONE = Reply(status=402, error="your credit is used up", code="insufficient_quota")
ALL = {"plan": 1, "brief": 1, "work": 3, "synthesize": 1}


def only(text: str, reply: str | Reply, other: str = "def parse(): ...") -> Callable[[Seen], str | Reply]:
    """What workers say: `reply` to the subtask `text`, `other` to all else."""
    return lambda seen: reply if f"## Your subtask\n\n{text}" in seen.prompt else other


def anew(town: FakeTown) -> Counter[str]:
    """What was asked since the last call."""
    asked, town.asked = town.asked, Counter()
    return asked


def journal() -> Path:
    return journal_file(os.environ)


def alter(statement: str, *values: object) -> None:
    """Change the journal behind everybody's back."""
    with closing(sqlite3.connect(journal())) as file, file:
        assert file.execute(statement, values).rowcount, "nothing was changed"


def forget(*patterns: str) -> None:
    """Take steps out of the journal: as if the run had been killed before they were committed."""
    for pattern in patterns:
        alter("DELETE FROM steps WHERE key GLOB ?", pattern)


def crashed_after_the_plan() -> None:
    alter("DELETE FROM steps WHERE kind NOT IN ('run', 'driver', 'budget', 'plan')")


# --- what is asked again


def test_only_a_failed_subtask_and_its_dependents_are_worked_again(shell: Shell) -> None:
    town = FakeTown(work=only("write the printer", GONE))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        first = shell.et("run", "--json", "build it")
        assert (first.code, anew(town)["synthesize"]) == (1, 1)
        town.answers |= {"work": "def parse(): ...", "synthesize": "All of it."}
        again = shell.et("resume", "last", "--json")
    assert again.code == 0
    assert anew(town) == {"work": 2, "synthesize": 1}
    assert [r.subtask for r in again.report.results if isinstance(r, Done)] == ["t01", "t02", "t03"]
    assert again.report.text == "All of it.", "the result is made of what is done now"
    assert again.report.total is not None
    assert first.report.total is not None
    assert again.report.total.requests > first.report.total.requests, "the bill is the whole run's"


def test_what_would_fail_again_however_often_is_not_asked_again(shell: Shell) -> None:
    town = FakeTown(work=only("write the printer", Reply(status=400, error="temperature is no number")))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        first = shell.et("run", "--json", "build it")
        anew(town)
        again = shell.et("resume", "last", "--json")
    assert (first.code, again.code) == (1, 1)
    assert not anew(town)
    assert again.report.error == first.report.error
    assert again.report.text == first.report.text == "The merged result."


def test_a_reply_without_an_answer_is_asked_for_again(shell: Shell) -> None:
    town = FakeTown(synthesize="  ")
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        assert shell.et("run", "build it").code == 1
        anew(town)
        town.answers["synthesize"] = "At last."
        again = shell.et("resume", "last")
    assert (again.code, again.out) == (0, "At last.\n")
    assert anew(town) == {"synthesize": 1}


def test_a_run_that_should_have_been_tried_later_is(shell: Shell) -> None:
    town = FakeTown(plan=Reply(status=429, error="slow down", headers=(("Retry-After", "3600"),)))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        first = shell.et("run", "build it")
        assert (first.code, "to go on: et resume" in first.err) == (75, True)
        anew(town)
        town.answers["plan"] = FakeTown().answers["plan"]
        assert shell.et("resume", "last").code == 0
    assert anew(town) == ALL


def test_a_witness_that_was_away_reviews_what_was_done_meanwhile(shell: Shell) -> None:
    file = "### FILE: {}.py\n```python\nversion = {}\n```\n"

    def work(seen: Seen) -> str:
        name = next(
            n for n in ("parser", "printer", "tests") if f"## Your subtask\n\nwrite the {n}" in seen.prompt
        )
        return file.format(name, 2 if "## Your earlier answer" in seen.prompt else 1)

    def review(seen: Seen) -> str:
        low = "parser.py" in seen.prompt and "version = 1" in seen.prompt
        return f'{{"critique": "too old", "score": {2 if low else 9}}}'

    town = FakeTown(work=work, review=GONE)
    with serving(town) as server:
        shell.configure(yaml_of(server.url, witness="{model: chief}"))
        first = shell.et("run", "--json", "--output-dir", "out", "build it")
        assert (first.code, first.report.error is not None) == (1, True)
        anew(town)
        town.answers |= {"review": review, "synthesize": "Reviewed."}
        again = shell.et("resume", "last", "--json")
    assert (again.code, again.report.text) == (0, "Reviewed.")
    assert anew(town) == {"review": 4, "work": 1, "synthesize": 1}
    parser = again.report.results[0]
    assert isinstance(parser, Done)
    assert [a.number for a in parser.attempts] == [1, 2]
    assert parser.files[0].text == "version = 2\n"
    assert (shell.folder / "out" / "parser.py").read_text() == "version = 2\n"
    assert shell.files("out") == ["out/parser.py", "out/printer.py", "out/tests.py"]


def test_a_brief_that_failed_is_asked_for_again(shell: Shell) -> None:
    town = FakeTown(brief=GONE, work=GONE)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        assert shell.et("run", "build it").code == 1
        anew(town)
        town.answers |= {"brief": "Agree on parse().", "work": "def parse(): ..."}
        assert shell.et("resume", "last").code == 0
    assert anew(town) == {"brief": 1, "work": 3, "synthesize": 1}
    assert "Agree on parse()." in town.prompts("work")[-1]


def test_a_run_that_was_out_of_time_has_its_time_again(shell: Shell) -> None:
    town = FakeTown(work=only("write the printer", Reply(text="late", latency=60)))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        first = shell.et("run", "--timeout", "1s", "build it")
        assert first.code == 75
        assert "was not finished after 1 s" in first.err
        anew(town)
        town.answers["work"] = "def parse(): ..."
        assert shell.et("resume", "last").code == 0
    assert anew(town) == {"work": 2, "synthesize": 1}


def test_a_larger_budget_goes_on_where_the_money_ran_out(shell: Shell) -> None:
    long = FakeTown()
    town = FakeTown(
        **{
            phase: Reply(text=text, output_tokens=250)
            for phase, text in long.answers.items()
            if isinstance(text, str)
        }
    )
    with serving(town) as server:
        shell.configure(priced(yaml_of(server.url, pool=1)))
        first = shell.et("run", "--json", "--budget", "0.012", "build it")
        assert first.code == 5
        assert first.report.budget is not None
        spent = first.report.budget.spent_usd
        asked = anew(town)
        again = shell.et("resume", "last", "--json", "--budget", "5")
        assert again.code == 0
    assert asked + anew(town) == ALL
    assert again.report.budget is not None
    assert (again.report.budget.usd, again.report.budget.spent_usd > spent) == (5.0, True)
    assert again.report.total is not None
    assert again.report.total.requests == sum(ALL.values())


def test_after_a_bill_above_its_bound_only_a_budget_given_anew_goes_on(shell: Shell) -> None:
    town = FakeTown(brief=Reply(text="names", output_tokens=9_000))
    with serving(town) as server:
        shell.configure(priced(yaml_of(server.url, pool=1)))
        first = shell.et("run", "--budget", "1", "build it")
        assert first.code == 5
        asked = anew(town)
        assert asked["brief"] == 1
        for _ in range(2):
            refused = shell.et("resume", "last")
            assert refused.code == 5
            assert "billed" in refused.err
            assert "--budget AMOUNT" in refused.err
        assert not anew(town)
        again = shell.et("resume", "last", "--budget", "1")
        assert again.code == 0, again.err
        assert anew(town)["work"] > 0


def priced(yaml: str) -> str:
    """Every model costs something: 2 $ a million tokens in, 10 out, and at most 300 tokens a reply."""
    lines = [
        line[:-1] + ", max_tokens: 300, price: {input: 2, output: 10}}" if "model: fake-" in line else line
        for line in yaml.splitlines()
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("wrong", ["1 dollar", "0", "nobody=3"])
def test_a_wrong_budget_changes_nothing_about_the_run(shell: Shell, wrong: str) -> None:
    with serving(FakeTown(work=GONE)) as server:
        shell.configure(yaml_of(server.url))
        shell.et("run", "build it")
        before = shell.et("runs", "--json").json
        said = shell.et("resume", "last", "--budget", wrong)
        assert said.code == 2
        (row,) = shell.et("runs", "--json").json
    assert (row["state"], row["drivers"]) == (before[0]["state"], before[0]["drivers"]) == ("failed", 1)


# --- the configuration


KEYED = (
    "providers:\n  cloud: {{type: openai, base_url: {url}, api_key: {key}}}\ndefaults: {{model: cloud/any}}\n"
)


def test_a_wrong_key_is_mended_in_the_environment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    town = FakeTown(work="all of it")
    with serving(town, auth="bearer the-right-key") as server:
        shell.configure(KEYED.format(url=server.url, key="$CLOUD_KEY"))
        monkeypatch.setenv("CLOUD_KEY", "a-wrong-key")
        assert shell.et("run", "build it").code == 4
        monkeypatch.delenv("CLOUD_KEY")
        unset = shell.et("resume", "last")
        assert (unset.code, "$CLOUD_KEY" in unset.err) == (2, True)
        assert shell.et("runs", "--json").json[0]["state"] == "failed", "nobody has driven it"
        shell.write("keys.env", "CLOUD_KEY=the-right-key\n")
        said = shell.et("resume", "last", "--env-file", "keys.env")
    assert (said.code, said.out) == (0, "all of it\n")


def test_the_configuration_of_the_beginning_holds_whatever_became_of_its_file(shell: Shell) -> None:
    town = FakeTown(work=only("write the printer", GONE))
    with serving(town) as server:
        for change in ("changed", "broken", "gone"):
            town.answers["work"] = only("write the printer", GONE)
            shell.configure(yaml_of(server.url))
            assert shell.et("run", "build it").code == 1
            if change == "gone":
                (shell.folder / "electrictown.yaml").unlink()
            else:
                shell.configure(yaml_of("http://127.0.0.1:1") if change == "changed" else "providers: [")
            anew(town)
            town.answers["work"] = "def parse(): ..."
            said = shell.et("resume", "last")
            assert (said.code, anew(town)) == (0, {"work": 2, "synthesize": 1}), (change, said.err)


def test_a_key_that_stood_in_the_file_comes_from_there_or_from_a_variable_with_a_name_that_is_told(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = FakeTown(work=GONE)
    with serving(town, auth="bearer sk-in-the-file-1234567") as server:
        text = KEYED.format(url=server.url, key="sk-in-the-file-1234567")
        shell.configure(text)
        assert shell.et("run", "build it").code == 1
        town.answers["work"] = "all of it"
        shell.configure(text.replace("cloud/any", "cloud/other"))
        changed = shell.et("resume", "last")
        assert (changed.code, changed.out) == (0, "all of it\n"), changed.err
        town.answers["work"] = GONE
        shell.configure(text)
        assert shell.et("run", "build it").code == 1
        town.answers["work"] = "all of it"
        (shell.folder / "electrictown.yaml").unlink()
        said = shell.et("resume", "last")
        assert (said.code, "ELECTRICTOWN_CLOUD_API_KEY" in said.err) == (2, True), said.err
        monkeypatch.setenv("ELECTRICTOWN_CLOUD_API_KEY", "sk-in-the-file-1234567")
        assert shell.et("resume", "last").out == "all of it\n"


def test_a_run_on_what_was_found_on_the_machine_goes_on_with_that(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = FakeTown(work=GONE)
    with serving(town) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert shell.et("run", "build it").code == 1
        monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
        town.answers["work"] = "all of it"
        anew(town)
        said = shell.et("resume", "last")
    assert said.code == 0, said.err


def test_a_script_is_found_from_wherever_a_run_goes_on(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    (shell.folder / "town").mkdir()
    shell.write("town/play.yaml", "- {error: {type: QuotaError, message: no money}}\n")
    shell.write(
        "town/electrictown.yaml",
        "providers: {s: {type: scripted, script: play.yaml}}\nmodels: {m: {provider: s, model: any}}\n"
        "defaults: {model: m}\n",
    )
    first = shell.et("run", "-c", "town/electrictown.yaml", "build it")
    assert first.code == 1, first.err
    (shell.folder / "town/play.yaml").write_text("- {text: all of it}\n")
    elsewhere = shell.folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    said = shell.et("resume", "last")
    assert (said.code, said.out) == (0, "all of it\n"), said.err


def test_the_command_that_goes_on_names_the_same_keys_and_journal_again(shell: Shell) -> None:
    town = FakeTown(work=GONE)
    with serving(town, auth="bearer the-right-key") as server:
        shell.configure(KEYED.format(url=server.url, key="$CLOUD_KEY"))
        shell.write("my keys.env", "CLOUD_KEY=the-right-key\n")
        first = shell.et("run", "--env-file", "my keys.env", "--db", "own.db", "build it")
        town.answers["work"] = "all of it"
        command = shlex.split(first.err.splitlines()[-1].partition("et ")[2])
        assert command[2:] == ["--db", "own.db", "--env-file", "my keys.env"]
        assert shell.et(*command).out == "all of it\n"


# --- the options


def test_files_go_where_they_went_and_lost_ones_are_put_back(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(seen: Seen) -> str | Reply:
        name = next(
            n for n in ("parser", "printer", "tests") if f"## Your subtask\n\nwrite the {n}" in seen.prompt
        )
        return GONE if name == "tests" else f"### FILE: {name}.py\n```python\n{name} = 1\n```\n"

    town = FakeTown(work=work)
    out = shell.folder / "out"
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        assert shell.et("run", "--output-dir", "out", "build it").code == 1
        (out / "parser.py").write_text("mine = 2\n")
        (out / "printer.py").unlink()
        monkeypatch.chdir(shell.home)
        said = shell.et("resume", "last", "--json")
        assert said.code == 1
        assert (out / "parser.py").read_text() == "mine = 2\n", "what a person changed is theirs"
        assert (out / "printer.py").read_text() == "printer = 1\n"
        shutil.rmtree(out)
        town.answers["work"] = "### FILE: tests.py\n```python\ntests = 1\n```\n"
        said = shell.et("resume", "last", "--json")
    assert said.code == 0, said.err
    assert shell.files("out") == ["out/parser.py", "out/printer.py", "out/tests.py"]
    assert "printer.py was there no more, and is put back" in said.report.notes
    assert set(said.report.files) == {"parser.py", "printer.py", "tests.py"}
    assert not list(shell.home.rglob("*.py"))


def test_a_file_that_somebody_changed_is_kept_when_a_later_subtask_writes_it(shell: Shell) -> None:
    def work(seen: Seen) -> str | Reply:
        tests = "## Your subtask\n\nwrite the tests" in seen.prompt
        return GONE if tests else "### FILE: all.py\n```python\nfirst = 1\n```\n"

    town = FakeTown(plan="1. write the parser\n2. write the tests [depends: 1]", work=work)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        shell.et("run", "--output-dir", "out", "build it")
        shell.write("out/all.py", "mine = 2\n")
        town.answers["work"] = "### FILE: all.py\n```python\nsecond = 3\n```\n"
        assert shell.et("resume", "last").code == 0
    assert shell.files("out") == ["out/all.py", "out/all.py.orig"]
    assert (shell.folder / "out/all.py.orig").read_text() == "mine = 2\n"


def test_of_a_lost_file_that_was_written_twice_the_newer_one_is_put_back(shell: Shell) -> None:
    def work(seen: Seen) -> str:
        first = "## Your subtask\n\nwrite the parser" in seen.prompt
        return f"### FILE: all.py\n```python\nversion = {1 if first else 2}\n```\n"

    town = FakeTown(plan="1. write the parser\n2. write the tests [depends: 1]", work=work, synthesize=GONE)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        shell.et("run", "--output-dir", "out", "build it")
        shutil.rmtree(shell.folder / "out")
        town.answers["synthesize"] = "All of it."
        said = shell.et("resume", "last", "--json")
    assert said.code == 0, said.err
    assert shell.files("out") == ["out/all.py"]
    assert (shell.folder / "out/all.py").read_text() == "version = 2\n"
    assert len([note for note in said.report.notes if "put back" in note]) == 1


def test_a_dry_run_says_again_what_it_said(shell: Shell) -> None:
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        first = shell.et("run", "--dry-run", "build it")
        anew(town)
        assert shell.et("resume", "last").out == first.out
    assert not anew(town)


def test_a_plan_that_was_brought_along_is_not_paid_for_even_if_nothing_else_was_written(shell: Shell) -> None:
    town = FakeTown(work=GONE)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        shell.write("plan.json", shell.et("run", "--dry-run", "--json", "build it").out)
        assert shell.et("run", "--plan", "plan.json").code == 1
        (shell.folder / "plan.json").unlink()
        alter("DELETE FROM steps WHERE key = 'plan' AND run = (SELECT run FROM runs ORDER BY created DESC)")
        town.answers["work"] = "def parse(): ..."
        anew(town)
        said = shell.et("resume", "last")
        assert said.code == 0, said.err
        assert anew(town) == {"work": 3, "synthesize": 1}
        assert "plan=" not in shell.et("show", "last").out


def test_every_option_of_the_run_is_kept(shell: Shell) -> None:
    town = FakeTown(review='{"critique": "meh", "score": 7}')
    with serving(town) as server:
        shell.configure(
            yaml_of(server.url, witness="{model: chief}", refinery="{model: chief}", boss="{model: m1}")
        )
        options = ["--role", "boss", "--no-brief", "--no-synthesize", "--no-refinery", "--max-subtasks", "3"]
        options += ["--guardrail-threshold", "8", "--guardrail-retries", "2", "--timeout", "7m"]
        first = shell.et("run", "--json", *options, "build it")
        asked = anew(town)
        assert asked["plan"] == 1
        crashed_after_the_plan()
        again = shell.et("resume", "last", "--json")
        assert anew(town) == asked - Counter({"plan": 1})
        alter("DELETE FROM steps WHERE kind NOT IN ('run', 'driver', 'budget')")
        third = shell.et("resume", "last", "--json")
        assert anew(town) == asked
    assert first.report.text == again.report.text == third.report.text
    assert (first.code, again.code, third.code) == (1, 1, 1), "7 is below 8"
    assert {seen.host for phase, seen in town.seen if phase == "plan"} == {"/h1"}


def test_no_witness_and_no_specialists_are_kept(shell: Shell) -> None:
    specialists = "specialists:\n  sql: {description: queries, model: chief}\n"
    town = FakeTown(plan="1. write the tables [sql]\n2. write the rest")
    with serving(town) as server:
        shell.configure(yaml_of(server.url, extra=specialists, witness="{model: chief}"))
        shell.et("run", "--no-witness", "--no-specialists", "build it")
        crashed_after_the_plan()
        town.seen.clear()
        anew(town)
        assert shell.et("resume", "last").code == 0
        assert anew(town)["review"] == 0
        assert "/boss" not in {seen.host for phase, seen in town.seen if phase == "work"}


def test_a_specialist_s_subtask_goes_to_the_specialist_again(shell: Shell) -> None:
    specialists = "specialists:\n  sql: {description: queries, model: chief}\n"
    plan = '{"subtasks": [{"text": "write the tables", "specialist": "sql"}, {"text": "write the rest"}]}'
    town = FakeTown(plan=plan, work=GONE)
    with serving(town) as server:
        shell.configure(yaml_of(server.url, extra=specialists))
        assert shell.et("run", "build it").code == 1
        town.answers["work"] = "done"
        town.seen.clear()
        assert shell.et("resume", "last").code == 0
    tables = [
        seen.host
        for phase, seen in town.seen
        if phase == "work" and "## Your subtask\n\nwrite the tables" in seen.prompt
    ]
    assert tables == ["/boss"]


# --- a single worker, the forms of the output


def test_a_single_worker_s_text_comes_once(shell: Shell) -> None:
    town = FakeTown(work="all of it", refine=GONE)
    with serving(town) as server:
        shell.configure(yaml_of(server.url, polecat="{model: m0}", refinery="{model: chief}"))
        shell.et("run", "build it")
        forget("end.*", "t01.result")
        anew(town)
        said = shell.et("resume", "last", "--jsonl")
    assert anew(town)["work"] == 0
    texts = [e["text"] for e in said.events if e["type"] == "text" and e["phase"] == "work"]
    assert texts == ["all of it"]


@pytest.mark.parametrize("state", ["done", "crashed"])
def test_a_run_s_result_comes_in_every_form(shell: Shell, state: str) -> None:
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        shell.et("run", "build it")
        anew(town)
        for form in ([], ["--json"], ["--jsonl"], ["--quiet"]):
            if state == "crashed":
                forget("end.*")
            said = shell.et("resume", "last", *form)
            assert said.code == 0, (form, said.err)
            if form == ["--json"]:
                assert said.report.text == "The merged result."
            elif form == ["--jsonl"]:
                assert said.events[-1]["type"] == "run.ended"
                assert said.events[-1]["report"]["text"] == "The merged result."
            else:
                assert said.out == "The merged result.\n"
            if form == ["--quiet"]:
                assert said.err == ""
    assert not anew(town), "nobody is asked"


def test_both_formats_at_once_are_refused(shell: Shell) -> None:
    assert shell.et("resume", "last", "--json", "--jsonl").code == 2


# --- which run


def test_a_run_is_named_by_its_id_a_beginning_or_as_the_last(shell: Shell) -> None:
    with serving(FakeTown(work="all of it")) as server:
        shell.configure(yaml_of(server.url, polecat="{model: m0}"))
        assert shell.et("resume", "last").code == 2
        for _ in range(2):
            shell.et("run", "build it")
        newest, oldest = (row["run"] for row in shell.et("runs", "--json").json)
        assert shell.et("resume", newest, "--json").report.run == newest
        assert shell.et("resume", oldest[:-1], "--json").report.run == oldest
        assert shell.et("resume", "last", "--json").report.run == newest
        for name in ("20", "nobody", ""):
            said = shell.et("resume", name)
            assert (said.code, said.out, "Traceback" in said.err) == (2, "", False)
        assert newest in shell.et("resume", "20").err


def test_a_cancelled_run_is_refused(shell: Shell) -> None:
    town = FakeTown(work=GONE)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        shell.et("run", "build it")
        forget("end.*")
        assert shell.et("cancel", "last").code == 0
        anew(town)
        said = shell.et("resume", "last")
    assert (said.code, said.out) == (2, "")
    assert "--anyway" in said.err
    assert not anew(town)


# --- another version of the program


def test_steps_and_fields_of_another_version_are_let_be(shell: Shell) -> None:
    town = FakeTown(work=only("write the printer", GONE))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        shell.et("run", "build it")
        (step,) = [s for s in rows("SELECT run, value FROM steps WHERE key = 'run'")]
        header = msgspec.json.decode(step[1])
        header["settings"]["colour"] = "green"
        header["moon"] = {"phase": "full"}
        alter("UPDATE steps SET value = ? WHERE key = 'run'", msgspec.json.encode(header))
        for key, kind in (("t01.turn1", "turn"), ("merge", "merge"), ("t09.result", "result")):
            alter(
                "INSERT INTO steps(run, key, kind, at, epoch, value) VALUES (?, ?, ?, 0, 1, ?)",
                step[0], key, kind, b'{"type": "done", "subtask": "t09", "text": "?"}',
            )  # fmt: skip
        for key in ("plan", "t01.attempt1", "t01.result"):
            (found,) = rows("SELECT value FROM steps WHERE key = ?", key)
            value = {**msgspec.json.decode(found[0]), "novelty": [1, 2]}
            alter("UPDATE steps SET value = ? WHERE key = ?", msgspec.json.encode(value), key)
        anew(town)
        town.answers["work"] = "def parse(): ..."
        said = shell.et("resume", "last")
    assert (said.code, anew(town)) == (0, {"work": 2, "synthesize": 1}), said.err


def rows(query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(journal())) as file:
        return file.execute(query, values).fetchall()


def test_a_journal_of_a_newer_version_is_refused(shell: Shell) -> None:
    with serving(FakeTown(work=GONE)) as server:
        shell.configure(yaml_of(server.url))
        shell.et("run", "build it")
        alter("UPDATE meta SET value = ? WHERE name = 'schema'", SCHEMA + 1)
        for command in (["resume", "last"], ["run", "build it"]):
            said = shell.et(*command)
            assert (said.code, said.out) == (75, "")
            assert f"version {SCHEMA + 1}" in said.err


def test_other_prompts_do_not_ask_recorded_steps_again(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from electrictown.roles import role

    town = FakeTown(work=only("write the printer", GONE))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        shell.et("run", "build it")
        anew(town)
        told = role.prompt
        for room in ("mayor", "role"):
            monkeypatch.setattr(
                f"electrictown.roles.{room}.prompt", lambda name, **v: "Be kind. " + told(name, **v)
            )
        town.answers["work"] = "def parse(): ..."
        assert shell.et("resume", "last").code == 0
    assert anew(town) == {"work": 2, "synthesize": 1}
    assert "Be kind." in town.prompts("synthesize")[-1]
    assert "Be kind." not in town.prompts("synthesize")[0]


@pytest.mark.parametrize("key", ["run", "plan", "t01.result", "t01.attempt1", "end.e1"])
def test_a_torn_step_is_told_and_nothing_is_asked(shell: Shell, key: str) -> None:
    town = FakeTown(plan="1. write the parser\n2. write it")
    if key != "end.e1":
        town.answers["work"] = only("write it", GONE)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        shell.et("run", "build it")
        if key == "t01.attempt1":
            forget("t01.result")
        anew(town)
        if key == "end.e1":
            forget("t0*")
        value = b'{"outcome": "done", "exit_code": 0, "torn": true}' if key == "end.e1" else b'{"torn": '
        alter("UPDATE steps SET value = ? WHERE key = ?", value, key)
        said = shell.et("resume", "last")
    assert said.code == 75, said.err
    assert f"the step {key} of the run" in said.err
    assert "Traceback" not in said.err
    assert "t01" not in " ".join(town.prompts("plan"))
    assert anew(town)["plan"] == 0


def test_nothing_is_asked_for_a_run_whose_journal_has_all(shell: Shell) -> None:
    town = FakeTown(review='{"critique": "fine", "score": 9}')
    with serving(town) as server:
        shell.configure(yaml_of(server.url, witness="{model: chief}", refinery="{model: chief}"))
        first = shell.et("run", "--json", "--output-dir", "out", "build it")
        anew(town)
        forget("end.*")
        again = shell.et("resume", "last", "--json")
    assert not anew(town)
    assert "synthesize" in committed(shell)
    assert replace(again.report, seconds=0) == replace(first.report, seconds=0)


def test_a_mayor_that_made_no_plan_in_two_tries_is_asked_again(shell: Shell) -> None:
    town = FakeTown(plan="I would rather not.", repair="No.")
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "build it")
        assert (said.code, town.asked["plan"], town.asked["repair"]) == (1, 1, 1)
        town.answers["plan"] = "1. write the parser\n2. write the printer"
        assert shell.et("resume", "last").code == 0
        assert (town.asked["plan"], town.asked["repair"], town.asked["work"]) == (2, 1, 2)
