"""How it ends: turns that are cancelled, programs that do not want to end, and nothing that is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from acp_kit import FAKE, Heard, agent, answers, do, gone, until

from electrictown.acp import client, program, settings
from electrictown.acp.agent import AcpEngagement
from electrictown.acp.presets import PRESETS
from electrictown.acp.settings import environ_of
from electrictown.errors import AgentError
from electrictown.events import TextStreamed
from electrictown.redact import Secret
from electrictown.sessions import registry


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants to stay is killed soon."""
    monkeypatch.setattr(program, "_PATIENCE", 0.2)
    monkeypatch.setattr(program, "_GRACE", 0.2)


async def started(fake: AcpEngagement, *steps: list[Any]) -> asyncio.Task[Any]:
    """A turn whose first word has come."""
    spoke = asyncio.Event()
    turn = asyncio.create_task(
        do(
            fake,
            ["say", "I begin"],
            *steps,
            emit=lambda event: spoke.set() if isinstance(event, TextStreamed) else None,
        )
    )
    waiting = asyncio.create_task(spoke.wait())
    await asyncio.wait((turn, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return turn


async def pid_of(fake: AcpEngagement) -> int:
    return int((await do(fake, ["pid"])).text)


async def test_a_cancelled_turn_is_let_go_and_the_next_one_taken(tmp_path: Path) -> None:
    async with agent().engage(tmp_path) as fake:
        turn = await started(fake, ["hang"], ["write", f"{tmp_path}/let go", ""])
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert (tmp_path / "let go").exists()
        assert (await do(fake, ["say", "next"])).text == "next"


@pytest.mark.usefixtures("soon")
async def test_an_agent_that_does_not_let_go_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_LETTING_GO", 0.2)
    async with agent(ignores_term=True).engage(tmp_path) as fake:
        pid = await pid_of(fake)
        turn = await started(fake, ["deaf"])
        turn.cancel()
        await asyncio.sleep(0)
        turn.cancel()  # once more: it changes nothing
        with pytest.raises(asyncio.CancelledError):
            await turn
        with pytest.raises(AgentError, match="did not stop"):
            await do(fake)
    assert gone(pid)


@pytest.mark.usefixtures("soon")
async def test_leaving_ends_the_program_and_all_it_started(tmp_path: Path) -> None:
    pids = [tmp_path / name for name in ("child", "daemon")]
    async with agent().engage(tmp_path) as fake:
        pid = await pid_of(fake)
        await do(fake, ["child", str(pids[0])], ["daemon", str(pids[1])])
        started = [int(path.read_text()) for path in pids]
        assert not any(map(gone, [pid, *started]))
    assert all(map(gone, [pid, *started]))


async def test_a_program_that_wants_to_stay_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "_PATIENCE", 0.05)
    monkeypatch.setattr(program, "_GRACE", 0.1)
    async with agent(ignores_eof=True, ignores_term=True).engage(tmp_path) as fake:
        pid = await pid_of(fake)
    assert gone(pid)


async def test_leaving_in_the_middle_of_a_turn_or_by_an_error_ends_it_too(tmp_path: Path) -> None:
    pid = 0
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with agent().engage(tmp_path) as fake:
            pid = await pid_of(fake)
            raise ZeroDivisionError
    assert gone(pid)

    async def work() -> None:
        async with agent(pid=f"{tmp_path}/pid").engage(tmp_path) as fake:
            await do(fake, ["say", "x"], ["hang"])

    task = asyncio.create_task(work())
    await asyncio.to_thread(until, lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.mark.usefixtures("soon")
async def test_what_a_program_leaves_when_it_ends_by_itself_ends_too(tmp_path: Path) -> None:
    async with agent().engage(tmp_path) as fake:
        with pytest.raises(AgentError, match="exit code 4"):
            await do(fake, ["daemon", f"{tmp_path}/daemon"], ["die", 4])
        assert gone(int((tmp_path / "daemon").read_text()))


PARENT = """
import asyncio, json, sys
from pathlib import Path
from acp_kit import agent, do
from electrictown.acp import program

program._PATIENCE = program._GRACE = 0.1

async def main(folder):
    async with agent(ignores_eof=True, ignores_term=True).engage(Path(folder)) as fake:
        pid = (await do(fake, ["pid"])).text
        await do(fake, ["child", folder + "/child"], ["daemon", folder + "/daemon"])
        print(json.dumps([int(pid)]), flush=True)
        await do(fake, ["hang"])

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_us_however_we_end(number: int, tmp_path: Path) -> None:
    kit = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=kit,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        pids += [int((tmp_path / name).read_text()) for name in ("child", "daemon")]
        leash = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
        assert not any(map(gone, [*pids, leash]))
        parent.send_signal(number)
        parent.wait()
    until(lambda: all(map(gone, [*pids, leash])))


async def test_a_leash_that_is_killed_takes_its_program_with_it(tmp_path: Path) -> None:
    async with agent(ignores_eof=True).engage(tmp_path) as fake:
        pid = await pid_of(fake)
        leash = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(leash, signal.SIGKILL)
        with pytest.raises(AgentError, match="has ended"):
            await do(fake, ["hang"])
    until(lambda: gone(pid))


def test_the_leash_passes_streams_and_exit_codes_through(tmp_path: Path) -> None:
    leash = Path(program.__file__).with_name("leash.py")

    def run(*command: str) -> subprocess.CompletedProcess[bytes]:
        reading, writing = os.pipe()
        try:
            return subprocess.run(
                [sys.executable, "-I", "-S", leash, str(reading), "1", *command],
                input=b"in",
                capture_output=True,
                pass_fds=[reading],
                start_new_session=True,
            )
        finally:
            os.close(reading)
            os.close(writing)

    done = run("sh", "-c", "cat; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"in", b"err\n")
    assert run("sh", "-c", "kill -USR1 $$").returncode == 128 + signal.SIGUSR1
    missing = run("no-such-program")
    assert (missing.returncode, missing.stderr) == (127, b"no-such-program: No such file or directory\n")
    assert run("sh", "-c", "trap - PIPE; kill -PIPE $$").returncode == 128 + signal.SIGPIPE


# --- what it gets to see


async def test_the_environment_is_what_was_chosen_and_the_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-it")
    monkeypatch.setenv(settings.MARK, "et-polecat-a3f2.beef")
    given = {
        "PATH": os.environ["PATH"],
        "HOME": "/home/x",
        "LC_ALL": "C.UTF-8",
        "XDG_CONFIG_HOME": "/c",
        "NODE_OPTIONS": "--x",
        "OPENAI_API_KEY": "sk-not-for-it",
        "GEMINI_API_KEY": "sk-for-it-alone",
        "LD_PRELOAD": "x.so",
        "PYTHONPATH": "/x",
        settings.MARK: "et-polecat-0000.beef",
    }
    environ = environ_of(given, PRESETS["gemini"].variables, {"MINE": Secret("sk-mine-mine")})
    async with agent({"environ": environ}).engage(tmp_path) as fake:
        seen = answers(await do(fake, ["environ"]))[0]
    monkeypatch.delenv(settings.MARK)
    async with agent({"environ": {**environ, settings.MARK: "of another"}}).engage(tmp_path) as fake:
        assert settings.MARK not in answers(await do(fake, ["environ"]))[0]
    expected = {
        name: value
        for name, value in given.items()
        if name not in {"OPENAI_API_KEY", "LD_PRELOAD", "PYTHONPATH"}
    }
    ours = {settings.MARK: "et-polecat-a3f2.beef", "MINE": "sk-mine-mine"}
    assert {**expected, **ours}.items() <= seen.items()
    assert set(seen) - set(expected) <= {"MINE", "LC_CTYPE", "PWD", "SHLVL", "_", "OLDPWD"}
    assert isinstance(environ["GEMINI_API_KEY"], Secret)
    assert "sk-for" not in repr(environ)
    assert settings.MARK == registry.MARK


async def test_no_secret_is_on_a_command_line(tmp_path: Path) -> None:
    async with agent({"environ": {"PATH": os.environ["PATH"], "KEY": Secret("sk-123456789")}}).engage(
        tmp_path
    ) as fake:
        pid = await pid_of(fake)
        leash = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        lines = [Path(f"/proc/{each}/cmdline").read_bytes() for each in (pid, leash)]
        await do(fake, ["say", "the prompt"], emit=Heard())
    assert not any(b"sk-1" in line for line in lines)
    assert str(FAKE).encode() in lines[0]


def test_presets_are_whole() -> None:
    assert {"gemini", "opencode", "claude-code", "codex", "qwen", "goose", "kimi", "vibe"} <= set(PRESETS)
    for preset in PRESETS.values():
        assert preset.command
        assert preset.label
        assert preset.install
        assert preset.login
        assert isinstance(json.loads(preset.environ.get("OPENCODE_PERMISSION", "{}")), dict)
