"""What is launched is what was meant, to the letter, wherever it runs; and nothing else runs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from electrictown.errors import SessionError, UnknownSessionError, UsageError
from electrictown.sessions.launching import Command
from electrictown.sessions.records import BackendName
from electrictown.sessions.tmux import TmuxExecutor
from sessions.launch_kit import KINDS, PATH, Place, alive, environment, needs, place, until

NAME = "et-polecat-a3f"
TELL = (sys.executable, "-S", "-E", str(Path(__file__).with_name("tell.py")))
NASTY = (
    "",
    " a  b ",
    'it\'s "so"',
    "new\nline\r\n",
    ";",
    "a;b",
    "at the end;",
    "escaped\\;",
    "\\;",
    ";;",
    "\\",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned;",
    "| touch pwned #",
    "#(touch pwned)",
    "#{pid} ##[fg=red]",
    "%if 1",
    "{ touch pwned }",
    "$HOME ~ *",
    "-t",
    "--",
    "-S/elsewhere",
    "😀 é \x1b[31m\x07",
)
FOLDERS = (
    "#(touch pwned) #{session_name} ##[x] #[y] ###",
    "$(touch pwned)`touch pwned`;",
    "-rf; touch pwned;\nnew 'line' \"quoted\" 😀\\",
    "%H ~ {a,b} a=b",
)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Generator[Place]:
    with place(monkeypatch) as made:
        yield made


async def told(here: Place, kind: BackendName, command: Command, folder: Path) -> dict[str, Any]:
    """What the program that was launched says of itself."""
    out = Path(command.arguments[len(TELL)])
    await here.executor(kind).launch(NAME, command, folder, here.folder / "log")
    await until(out.exists)
    return json.loads(out.read_bytes())


@pytest.mark.parametrize(
    ("kind", "folder"),
    [*((kind, name) for name in FOLDERS for kind in ("tmux", "none")), ("byobu", FOLDERS[0])],
)
async def test_arguments_folder_and_environment_are_exact(
    here: Place, kind: BackendName, folder: str
) -> None:
    work = here.work / folder
    work.mkdir()
    out = here.folder / "told;"
    # Without a locale Python would add to its own environment what it takes for one.
    environ = {
        "LC_ALL": "C.UTF-8",
        "ELECTRICTOWN_SESSION": "m",
        "A": "1;",
        "B": "$(touch pwned)\n#{pid}",
        "C": "",
    }
    said = await told(here, kind, Command((*TELL, str(out), *NASTY), environ), work)
    assert tuple(said["arguments"]) == NASTY
    assert said["folder"] == str(work)
    terminal = {} if kind == "none" else {"TERM": here.tmux("show-options", "-gv", "default-terminal")}
    assert environment(said["pid"]) == {**environ, **terminal}
    assert list(work.iterdir()) == []
    await end(here, kind, said["pid"])
    assert list(here.work.iterdir()) == [work]


async def end(here: Place, kind: BackendName, pid: int) -> None:
    os.kill(pid, 9)
    executor = here.executor(kind)

    async def gone() -> bool:
        return NAME not in await executor.panes()

    await until(gone)
    await executor.close(NAME)


@pytest.mark.parametrize("kind", ["tmux", "none"])
async def test_a_program_may_have_an_equals_sign_in_its_path_and_no_argument(
    here: Place, kind: BackendName
) -> None:
    program = here.folder / "A=B; touch pwned"
    program.write_text('#!/bin/sh\necho "$0 $#" >told; exec sleep 1000\n')
    program.chmod(0o700)
    await here.executor(kind).launch(
        NAME, Command((str(program),), {"PATH": PATH}), here.work, here.folder / "log"
    )
    await until((here.work / "told").exists)
    await until(lambda: (here.work / "told").read_text() == f"{program} 0\n")
    pane = (await here.executor(kind).panes())[NAME]
    await until(lambda: Path(f"/proc/{pane.pid}/comm").read_text() == "sleep\n")
    await end(here, kind, pane.pid)
    assert sorted(path.name for path in here.work.iterdir()) == ["told"]


@pytest.mark.parametrize("kind", ["tmux", "none"])
async def test_what_cannot_be_started_is_said(here: Place, kind: BackendName) -> None:
    executor = here.executor(kind)
    with pytest.raises(SessionError, match="no program 'no-such-program'"):
        await executor.launch(NAME, Command(("no-such-program",)), here.work, here.folder / "log")
    with pytest.raises(SessionError, match="NUL"):
        await executor.launch(NAME, Command(("true", "a\0b")), here.work, here.folder / "log")
    with pytest.raises(SessionError, match="no folder"):
        await executor.launch(NAME, Command(("true",)), here.work / "nowhere", here.folder / "log")
    with pytest.raises(UnknownSessionError):
        await executor.launch("et-a:0.1", Command(("true",)), here.work, here.folder / "log")
    assert await executor.panes() == {}


async def test_more_than_tmux_can_take_is_an_error(here: Place) -> None:
    with pytest.raises(SessionError, match="too long"):
        await here.executor("tmux").launch(
            NAME, Command(("true", "x" * 20_000)), here.work, here.folder / "log"
        )
    await until(lambda: here.server() == 0)


@pytest.mark.parametrize("socket", ["../x", "a/b", "-L", ".hidden", "a b", "$(id)", "a\n"])
def test_a_socket_has_a_plain_name(socket: str) -> None:
    with pytest.raises(UsageError, match="socket"):
        TmuxExecutor(socket)


KEY = "sk-a-key-of-the-user-0123456789"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_is_started_here_knows_no_key(
    here: Place, kind: BackendName, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "LC_KEY", "SSH_AUTH_SOCK", "BYOBU_KEY"):
        monkeypatch.setenv(name, KEY)
    said = await told(here, kind, Command((*TELL, str(here.folder / "told")), {"PATH": PATH}), here.work)
    shown = (
        ""
        if kind == "none"
        else here.tmux("show-environment", "-g") + here.tmux("show-environment", "-t", NAME)
    )
    pids = [said["pid"], *([] if kind == "none" else [here.server()])]
    for pid in pids:
        shown += "".join(Path(f"/proc/{pid}/{what}").read_text() for what in ("environ", "cmdline"))
    assert "PATH=" in shown
    assert KEY not in shown
    await end(here, kind, said["pid"])


@pytest.mark.parametrize("kind", ["tmux", "byobu"])
async def test_a_server_of_the_users_hands_no_key_on(here: Place, kind: BackendName) -> None:
    needs(kind)
    here.tmux("new-session", "-d", "-s", "mine", "sleep", "1000", OPENAI_API_KEY=KEY)
    assert KEY in here.tmux("show-environment", "-g")  # so it is the server's environment that is tested
    options = [
        here.tmux(*line) for line in (("show-options", "-g"), ("show-options", "-wg"), ("show-options", "-s"))
    ]
    mine = here.tmux("show-options", "-t", "mine")
    said = await told(here, kind, Command((*TELL, str(here.folder / "told")), {"A": "B"}), here.work)
    assert environment(said["pid"]).keys() == {"A", "TERM"}
    assert KEY not in here.tmux("show-environment", "-t", f"={NAME}:")
    assert options == [
        here.tmux(*line) for line in (("show-options", "-g"), ("show-options", "-wg"), ("show-options", "-s"))
    ]
    assert mine == here.tmux("show-options", "-t", "mine")
    await end(here, kind, said["pid"])
    assert here.tmux("list-sessions", "-F", "#{session_name}") == "mine"


async def test_the_users_choices_do_not_end_a_session_nobody_looks_at(here: Place) -> None:
    here.tmux("new-session", "-d", "-s", "mine", "sleep", "1000")
    here.tmux("set-option", "-g", "destroy-unattached", "on")
    here.tmux("set-option", "-g", "remain-on-exit", "on")
    executor = here.executor("tmux")
    said = await told(here, "tmux", Command((*TELL, str(here.folder / "told"))), here.work)
    await executor.settle(NAME)
    assert list(await executor.panes()) == [NAME]
    os.kill(said["pid"], 15)
    await until(lambda: not here.tmux("list-sessions", "-f", f"#{{==:#{{session_name}},{NAME}}}"))
    assert not alive(said["pid"])
