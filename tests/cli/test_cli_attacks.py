"""What no honest person types and no healthy machine does: the program still says what is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import IO

import pytest
from cli_kit import ET, Shell

from fakes.town_kit import FakeTown, serving, yaml_of

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
needs_zero = pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero here")


def _mute(shell: Shell, stderr: IO[bytes], *typed: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*ET, *typed],
        cwd=shell.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        timeout=30,
        check=False,
    )


@needs_full
def test_a_full_disk_below_stderr_does_not_cost_the_result(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        shell.configure(yaml_of(server.url))
        with FULL.open("wb") as full:
            said = _mute(shell, full, "run", "build it")
    assert (said.returncode, said.stdout) == (0, b"The merged result.\n")


@needs_full
def test_an_error_that_cannot_be_told_still_has_its_exit_code(shell: Shell) -> None:
    with FULL.open("wb") as full:
        said = _mute(shell, full, "run", "--config", "no.yaml", "build it")
    assert said.returncode == 2


@needs_full
def test_events_that_could_not_be_written_are_no_success(shell: Shell) -> None:
    with serving(FakeTown()) as server:
        shell.configure(yaml_of(server.url))
        with FULL.open("wb") as full:
            said = shell.start("run", "--jsonl", "build it", stdout=full)
            _, err = said.communicate(timeout=30)
    assert said.returncode == 1
    assert b"error: the output cannot be written: No space left on device" in err
    assert b"Traceback" not in err
    assert b"Exception ignored" not in err


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["--output-dir", "", "x"], "it names no folder; write . for this one"),
        (["--output-dir=", "x"], "it names no folder"),
        (["--config", "", "x"], "no file is named"),
        (["-c", " ", "x"], "no file is named"),
    ],
)
def test_a_name_that_an_unset_variable_left_empty_is_not_taken_for_another(
    shell: Shell, typed: list[str], words: str
) -> None:
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", *typed)
    assert said.code == 2
    assert words in said.err
    assert not town.asked
    assert shell.files() == ["electrictown.yaml"]


@needs_zero
@pytest.mark.parametrize(
    ("typed", "words"),
    [(["@/dev/zero"], "the task file /dev/zero"), (["--plan", "/dev/zero"], "the plan file /dev/zero")],
)
def test_a_file_without_end_is_not_read_to_its_end(shell: Shell, typed: list[str], words: str) -> None:
    said = shell.et("run", *typed)
    assert said.code == 2
    assert f"{words} is larger than 16 MiB" in said.err


@needs_zero
def test_a_script_without_end_is_not_read_to_its_end(shell: Shell) -> None:
    shell.configure("providers: {s: {type: scripted, script: /dev/zero}}\nroles: {polecat: {model: s/x}}\n")
    said = shell.et("run", "build it")
    assert said.code == 2
    assert "/dev/zero: the script is larger than 16 MiB" in said.err


def test_a_script_of_brackets_is_no_script(shell: Shell) -> None:
    shell.write("deep.yaml", "[" * 100_000)
    shell.configure("providers: {s: {type: scripted, script: deep.yaml}}\nroles: {polecat: {model: s/x}}\n")
    said = shell.et("run", "build it")
    assert said.code == 2
    assert "deep.yaml: not YAML" in said.err


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_names_in_the_configuration_do_not_command_the_terminal(shell: Shell, arguments: list[str]) -> None:
    shell.configure('providers: {"s\\x1b[2J\\x07": {type: scripted, script: [a]}}\n')
    said = shell.et("config", *arguments)
    assert said.code == 0
    assert "script" in said.out
    assert "\x1b" not in said.all
    assert "\x07" not in said.all


def test_a_key_of_blanks_is_no_key(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", " \t")
    assert "ANTHROPIC_API_KEY" not in shell.et("config").err
    shell.configure(
        "providers: {a: {type: anthropic, api_key: $ANTHROPIC_API_KEY}}\nroles: {polecat: {model: a/x}}\n"
    )
    said = shell.et("run", "build it")
    assert said.code == 2
    assert "provider 'a' wants $ANTHROPIC_API_KEY, which is not set or empty" in said.err
