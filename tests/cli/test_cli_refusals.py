"""What cannot be done is said in a message with a remedy and an exit code, and nothing is half done."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from cli_kit import Said, Shell

from fakes.fake_server import Reply
from fakes.town_kit import FakeTown, serving, yaml_of


def refused(said: Said, *words: str, code: int = 2) -> None:
    assert said.code == code, said.all
    assert said.out == ""
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err, said.err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["rum", "x"], "did you mean 'et run'?"),
        (["modles"], "did you mean 'et models'?"),
        (["frobnicate"], "see 'et --help'"),
        (["run", "--jsnol", "x"], "Did you mean one of: --json, --jsonl"),
        (["run", "-outputdir", "x"], "No such option"),
        (["models", "--jso"], "--json"),
        (["debug", "decod", "x"], "decod"),
        (["rag", "list"], "is not in this version\n  hint: see docs/migrating-from-go.md"),
        (["run", "--iterate", "x"], "--iterate is not in this version: nothing is built or tested here"),
        (["run", "-rag-url=http://x", "y"], "--rag-url is not in this version"),
    ],
)
def test_a_misspelt_command_or_flag_is_told_what_was_meant(
    shell: Shell, typed: list[str], meant: str
) -> None:
    said = shell.et(*typed)
    refused(said, "error: ", "  hint: ")
    assert meant.lower().replace("'", "") in said.err.lower().replace("'", "")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["run"], "there is no task"),
        (["run", "   "], "there is no task"),
        (["run", "-"], "the task from stdin is empty"),
        (["run", "@no-such-file.md"], "no-such-file.md cannot be read: No such file or directory"),
        (["run", "@."], "cannot be read: Is a directory"),
        (["run", "@empty.md"], "the task from empty.md is empty"),
        (["run", "@picture.png"], "the task file picture.png is not UTF-8 text"),
        (["run", "@zeros.bin"], "the task file zeros.bin is not UTF-8 text"),
        (["run", "@~nobody-of-that-name/x"], "cannot be read"),
        (["run", "\udcff\udcfe"], "the task is not UTF-8 text"),
        (["run", "--json", "--jsonl", "x"], "--json and --jsonl exclude each other"),
        (["run", "--timeout", "soon", "x"], "'soon' is no length of time; write 90s, 30m or 2h"),
        (["run", "--timeout", "0", "x"], "'0' is no length of time"),
        (["run", "--timeout", "-5", "x"], "no length of time"),
        (["run", "--max-subtasks", "-1", "x"], "--max-subtasks"),
        (["run", "--max-subtasks", "many", "x"], "'many' is not a valid integer"),
        (["run", "--guardrail-threshold", "11", "x"], "--guardrail-threshold"),
        (["run", "--guardrail-retries", "nan", "x"], "--guardrail-retries"),
        (["run", "--guardrail-threshold", "nan", "x"], "--guardrail-threshold"),
        (["run", "--env-file", "no.env", "x"], "no.env"),
        (["run", "--plan", "no.json"], "the plan file no.json cannot be read"),
        (["run", "--plan", "picture.png"], "the plan file picture.png is not UTF-8 text"),
        (["run", "--plan", "empty.md"], "empty.md is not JSON"),
        (["run", "--output-dir", "empty.md", "x"], "empty.md"),
        (["run", "--role", "myaor", "x"], "did you mean 'mayor'?"),
        (["run", "--config", "no.yaml", "x"], "there is no file no.yaml"),
        (["run", "--config", ".", "x"], "folder"),
        (["run", "--config", "picture.png", "x"], "picture.png"),
        (["run", "--config", "empty.md", "x"], "the file is empty"),
        (["models", "--config", "no.yaml"], "there is no file no.yaml"),
        (["nodes", "extra"], "extra"),
        (["config", "-c", "no.yaml"], "there is no file no.yaml"),
        (["debug", "decode"], "FILE"),
        (["debug", "decode", "empty.md"], "empty.md is not JSON"),
        (["debug", "decode", "picture.png"], "picture.png is not JSON"),
        (["init", "--path", "."], "is a folder"),
    ],
    ids=lambda value: " ".join(value).encode(errors="replace").decode() if isinstance(value, list) else "",
)
def test_bad_input_is_refused_before_anything_is_asked(shell: Shell, typed: list[str], words: str) -> None:
    shell.write("empty.md", " \n")
    shell.write("picture.png", b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    shell.write("zeros.bin", bytes(64))
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        before = shell.files()
        refused(shell.et(*typed), words)
        assert server.journal == []
    assert shell.files() == before
    assert not any(path.is_dir() for path in shell.folder.iterdir())


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"task": "build it", "subtasks": []}, "cannot be run"),
        ({"task": "build it"}, "subtasks"),
        ({"task": "build it", "subtasks": [{"id": "a"}]}, "text"),
        ({"task": "build it", "subtasks": [{"id": "a", "text": "x", "depends": ["b"]}]}, "b"),
        (
            {
                "task": "build it",
                "subtasks": [
                    {"id": "a", "text": "x", "depends": ["b"]},
                    {"id": "b", "text": "y", "depends": ["a"]},
                ],
            },
            "cannot be run",
        ),
        ({"task": "build it", "subtasks": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]}, "a"),
        ({"task": "another", "subtasks": [{"id": "a", "text": "x"}]}, "the plan was made for another task"),
        ({"run": "r", "task": "build it", "outcome": "failed", "exit_code": 1}, "subtasks"),
        ([], "is not a plan"),
        ("x", "is not a plan"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused(shell: Shell, plan: object, words: str) -> None:
    shell.write("plan.json", json.dumps(plan))
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        refused(shell.et("run", "--plan", "plan.json", "build it"), words)
    assert town.asked == {}


def test_every_problem_of_a_configuration_is_named_at_once_with_line_and_remedy(shell: Shell) -> None:
    shell.configure(
        "providers:\n"
        "  box: {type: olama}\n"
        "  cloud: {type: openai, api_key: $NO_SUCH_KEY, timeuots: {idle: 3}}\n"
        "models:\n"
        "  big: {provider: clod, model: gpt}\n"
        "roles:\n"
        "  mayor: {model: bgi, fallbacks: [big, big]}\n"
        "  polecat: {model: cloud/gpt}\n"
    )
    said = shell.et("run", "build it")
    refused(said)
    for line, words in {
        2: "did you mean 'ollama'",
        3: "did you mean 'timeouts'",
        5: "did you mean 'cloud'",
        7: "did you mean 'big'",
    }.items():
        assert any(
            at.strip().startswith(f"electrictown.yaml:{line}:") and words in at
            for at in said.err.splitlines()
        ), said.err
    assert "$NO_SUCH_KEY" in said.err


@pytest.mark.parametrize(
    "text",
    ["roles: [", "roles:\n\t- x", "a: &a [*a]\n", "\x00", "just words", "- a\n- b\n", "{}", "roles: 3\n"],
)
def test_yaml_that_is_none_of_ours_is_refused_with_its_place(shell: Shell, text: str) -> None:
    shell.configure(text)
    refused(shell.et("run", "build it"), "electrictown.yaml")


def test_without_any_model_it_says_what_to_do(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("electrictown.discovery.find_spec", lambda name: None)
    for command in (["run", "build it"], ["models"], ["init"]):
        refused(shell.et(*command), "no model to work with", "ANTHROPIC_API_KEY", "Ollama")
    assert shell.files() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_files_and_folders_that_may_not_be_read_or_written(shell: Shell) -> None:
    locked = shell.write("locked.md", "x")
    locked.chmod(0)
    folder = shell.folder / "closed"
    folder.mkdir(mode=0o500)
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        refused(shell.et("run", "@locked.md"), "Permission denied")
        refused(shell.et("run", "--output-dir", "closed/out", "x"), "closed/out", code=1)
    assert town.asked == {}


def test_an_output_folder_that_cannot_be_made_is_told_before_a_model_is_paid(shell: Shell) -> None:
    shell.write("in-the-way", "x")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(shell.folder / "s"))
    town = FakeTown()
    with listener, serving(town) as server:
        shell.configure(yaml_of(server.url))
        for folder in ("in-the-way/out", "s/out"):
            refused(shell.et("run", "--output-dir", folder, "build it"), folder, code=1)
    assert town.asked == {}


def test_a_host_that_is_not_there_is_named(shell: Shell) -> None:
    shell.configure(yaml_of("http://127.0.0.1:1", polecat="{model: m0}"))
    said = shell.et("run", "build it")
    assert (said.code, said.out) == (1, "")
    assert "ConnectError" in said.err
    assert "127.0.0.1:1" in said.err
    assert "hint: " in said.err


def test_a_wrong_key_is_named_with_the_variable_to_set(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_KEY", "stale-key-of-the-fleet")
    with serving(FakeTown(), auth="bearer fresh") as server:
        shell.configure(
            yaml_of(server.url, polecat="{model: m0}").replace("{type:", "{api_key: $FLEET_KEY, type:")
        )
        said = shell.et("run", "--quiet", "build it")
        assert len(server.journal) == 1, "an auth failure is not tried again"
    assert (said.code, said.out) == (4, "")
    assert "hint: set FLEET_KEY to a valid key; provider 'h0' answered 401" in said.err
    assert "stale-key-of-the-fleet" not in said.err


def test_a_spent_quota_and_a_busy_host_have_their_exit_codes(shell: Shell) -> None:
    busy = Reply(status=429, error="slow down", headers=(("Retry-After", "3600"),))
    with serving(FakeTown(plan=busy)) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "build it")
    assert said.code == 75
    assert "RateLimitError" in said.err


def test_the_same_task_beside_its_plan_is_no_contradiction(shell: Shell) -> None:
    shell.write("task.md", "build it\n")
    shell.write("plan.json", json.dumps({"task": "build it", "subtasks": [{"id": "a", "text": "x"}]}))
    with serving(FakeTown()) as server:
        shell.configure(yaml_of(server.url))
        assert shell.et("run", "--plan", "plan.json", "@task.md").code == 0


def test_a_configuration_beside_the_task_is_not_taken_for_it(shell: Shell) -> None:
    """`--config` reads relative to where the program is, also from a deeper folder."""
    deep = shell.folder / "a" / "b"
    deep.mkdir(parents=True)
    with serving(FakeTown()) as server:
        shell.configure(yaml_of(server.url))
        os.chdir(deep)
        assert shell.et("run", "--config", "../../electrictown.yaml", "build it").code == 0
        assert shell.et("config", "-c", str(Path("..") / "electrictown.yaml")).code == 2
