"""A key is seen by its own host alone, whatever goes wrong and whoever repeats it."""

from __future__ import annotations

import os

import pytest
from cli_kit import Said, Shell

from fakes.fake_server import Reply
from fakes.town_kit import FakeTown, serving, yaml_of

# As it stands, and as JSON writes it: quotation marks and backslashes are legal in a password.
KEYS = ["sk-live-0123456789abcdef", 'p"quoted\\key-0123456789']


def configure(shell: Shell, url: str, type_: str = "openai", **roles: str) -> None:
    shell.configure(yaml_of(url, type_=type_, **roles).replace("{type:", "{api_key: $FLEET_KEY, type:"))  # type: ignore[arg-type]


def clean(said: Said, key: str) -> None:
    shown = said.all
    assert key not in shown
    assert key.replace("\\", "\\\\").replace('"', '\\"') not in shown
    assert key[:12] not in shown


@pytest.fixture(params=KEYS, ids=["plain", "with quotes"])
def key(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FLEET_KEY", request.param)
    return request.param


FORMS = [[], ["--json"], ["--jsonl"], ["--quiet"]]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: " ".join(form) or "plain")
def test_a_server_that_echoes_the_key_in_its_error(shell: Shell, key: str, form: list[str]) -> None:
    echo = Reply(status=401, error=f"Incorrect API key provided: {key}. Find yours at https://x:{key}@host/")
    with serving(FakeTown(work=echo)) as server:
        configure(shell, server.url)
        said = shell.et("run", *form, "build it")
    assert said.code == 4
    assert "***" in said.all
    clean(said, key)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: " ".join(form) or "plain")
def test_a_model_that_repeats_the_key(shell: Shell, key: str, form: list[str]) -> None:
    """In its plan, its brief, its work, its review and its result."""
    town = FakeTown(
        plan=f"1. use {key}\n2. print it",
        brief=f"The key is {key}.",
        work=f"key = '{key}'",
        review=f"Score: 8. It holds {key}.",
        synthesize=Reply(pieces=("The key ", f"is {key}", ", I think.")),
    )
    with serving(town) as server:
        configure(shell, server.url, witness="{model: chief}")
        said = shell.et("run", *form, "build it")
    assert said.code == 0
    assert "***" in said.all
    clean(said, key)


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500])
def test_no_failure_shows_the_key(shell: Shell, key: str, status: int) -> None:
    echo = Reply(status=status, error=f"bad {key}", headers=(("Retry-After", "0"), ("X-Request-Id", key)))
    with serving(FakeTown(plan=echo)) as server:
        configure(shell, server.url)
        said = shell.et("run", "--jsonl", "--timeout", "3s", "build it")
    assert said.code != 0
    clean(said, key)


def test_looking_around_shows_no_key(shell: Shell, key: str) -> None:
    with serving("x", auth="bearer somebody-else") as server:
        configure(shell, server.url)
        for command in ("models", "nodes", "doctor", "config"):
            clean(shell.et(command), key)
            clean(shell.et(command, "--json"), key)


def test_a_user_and_password_in_an_address_are_not_shown(shell: Shell) -> None:
    with serving("x") as server:
        url = server.url.replace("http://", "http://anna:secret-in-the-url@")
        shell.configure(yaml_of(url, polecat="{model: m0}"))
        seen = [shell.et(command) for command in ("models", "nodes", "doctor", "config")]
        seen.append(shell.et("run", "--jsonl", "build it"))
    for said in seen:
        assert "secret-in-the-url" not in said.all


def test_a_key_written_into_a_broken_file_is_not_repeated_by_its_errors(shell: Shell) -> None:
    shell.configure(
        "providers:\n  a: {type: openai, api_key: sk-written-into-the-file, typo: 1}\n"
        "  b: {type: ollama, auth_type: basic, api_key: sk-no-colon-in-here}\n"
        "roles: {mayor: {model: a/x}, polecat: {model: b/x}}\n"
    )
    said = shell.et("run", "build it")
    assert said.code == 2
    assert "sk-written-into-the-file" not in said.all
    assert "sk-no-colon-in-here" not in said.all


def test_no_child_of_et_gets_the_key(shell: Shell, key: str) -> None:
    """doctor starts git and tmux: here, two scripts that tell what they were given."""
    tools = shell.folder.parent / "tools"
    tools.mkdir()
    for name in ("git", "tmux"):
        script = tools / name
        script.write_text(f'#!/bin/sh\nenv > "{shell.folder.parent}/{name}.env"\necho {name} 1.0\n')
        script.chmod(0o755)
    with serving("x") as server:
        configure(shell, server.url)
        said = shell.process(
            "doctor", "--no-probe", env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
        )
    assert "ok    git: git 1.0" in said.out
    for name in ("git", "tmux"):
        assert key not in (shell.folder.parent / f"{name}.env").read_text()
