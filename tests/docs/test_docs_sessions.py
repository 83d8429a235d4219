"""docs/sessions.md: its commands run, in the order of the page, and say what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from click import Context, Group, Option

from electrictown.cli.session import command as sessions
from electrictown.cli.session.common import entry
from electrictown.sessions.ending import survivors
from electrictown.sessions.records import LIVE, SessionRow, State, Status
from electrictown.sessions.registry import Registry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "sessions.md").read_text()

CONFIG = """
providers: {stage: {type: scripted, script: stage.yaml}}
models: {qwen: {provider: stage, model: qwen3-coder}}
roles: {polecat: {model: qwen}}
"""
STAGE = """
- when: {user: three lines}
  text: "Still all of them."
- when: {user: empty text}
  text: "Then it is 0."
- repeat: true
  text: |-
    def count_words(text): return len(text.split())
    It counts the words of every line.
"""
SHOWN = [
    shown
    for block in re.findall(r"^```console\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    for shown in re.findall(r"^\$ et (.*?)\n(.*?)(?=^\$ |\Z)", block, re.DOTALL | re.MULTILINE)
]
NAME = re.compile(r"et-polecat-[0-9a-f]{4}")


class Home:
    """Somebody who has no tmux and follows the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = ""
        (folder / "electrictown.yaml").write_text(CONFIG)
        (folder / "stage.yaml").write_text(STAGE)
        (folder / "bin").mkdir()

    def et(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`et`, with the session's own name for the page's."""
        kept = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY") and k != "XDG_STATE_HOME"}
        own = [NAME.sub(self.name, argument) if self.name else argument for argument in arguments]
        return subprocess.run(
            [sys.executable, "-c", "from electrictown.cli.main import main; main()", *own],
            env={**kept, "HOME": str(self.folder), "PATH": str(self.folder / "bin")},
            cwd=self.folder,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def home(tmp_path: Path) -> Generator[Home]:
    home = Home(tmp_path)
    yield home
    registry = Registry(tmp_path / ".local" / "state" / "electrictown" / "sessions")
    for name in registry.names():
        home.et("session", "kill", name)
        assert not survivors(registry.find(name))


def alike(text: str) -> list[str]:
    """Lines without what is another one each time: names, ages, counts, folders, blanks."""
    text = NAME.sub("NAME", text)
    text = re.sub(r"(?<=config: ).*electrictown.yaml", "FILE", text)
    text = re.sub(r"\b\d+ tokens|\b[\d.]+[smhd]\b", "N", text)
    return [" ".join(line.split()) for line in text.splitlines()]


def test_the_page_is_told_as_it_happens(home: Home) -> None:
    for command, told in SHOWN:
        done = home.et(*shlex.split(command))
        assert done.returncode == 0, done.stderr
        assert alike(done.stdout) == alike(told), command
        if not home.name:
            home.name = done.stdout.strip()
        home.et("session", "wait", home.name)
    assert len(SHOWN) == 7
    assert home.et("session", "send", home.name, "--wait", "more?").returncode == 0


def test_the_program_of_the_page_starts_an_agent_and_leaves_nothing(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    name, pid = done.stdout.split()
    assert name.startswith("et-night-watch-")
    assert not Path("/proc", pid).exists()
    assert survivors(Registry(tmp_path / "sessions").find(name)) == []


def commands() -> list[list[str]]:
    """Every `et session` that the page names, alone or within a line of shell."""
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    found = re.findall(r"et (session (?:\"[^\"]*\"|[^|\n#)\"])+)", "\n".join(blocks))
    found += re.findall(r"`et (session [a-z]+ [^`]*)`", PAGE)
    return [shlex.split(one.split(" || ")[0].rstrip(";")) for one in found]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_a_command_of_the_page_can_be_said_so(arguments: list[str]) -> None:
    assert isinstance(sessions, Group)
    command = sessions.get_command(Context(sessions), arguments[1])
    assert command is not None
    known = {name for parameter in command.params if isinstance(parameter, Option) for name in parameter.opts}
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    assert {word for word in options if word.startswith("--")} <= known
    names = [word for word in arguments[2:3] if word.startswith("et-")]
    assert command.name == "spawn" or names or {"$name", "NAME"} & {*arguments} or len(arguments) < 4


def test_the_page_has_its_commands() -> None:
    assert {one[1] for one in commands()} >= {
        *("spawn", "list", "send", "attach", "logs", "wait", "answer", "kill", "interrupt")
    }


def test_every_flag_of_the_page_exists() -> None:
    known = set(re.findall(r"--[a-z][a-z-]+", (ROOT / "docs" / "cli.md").read_text()))
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= known


def test_every_state_and_every_field_is_on_the_page() -> None:
    from typing import get_args

    table = PAGE.split("| state | it |")[1].split("\n\n")[0]
    assert [state for state in get_args(State) if state not in table] == []
    assert set(get_args(State)) >= LIVE
    fields = PAGE.split("`list --json` gives for each session ")[1].split(". Times")[0]
    told = re.findall(r"[a-z]+", fields.replace("(null: not known)", ""))
    assert [one for one in told if one != "and"] == list(entry(SessionRow("et-x-1", Status("ready"))))
