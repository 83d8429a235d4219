"""Exactly the session that is named is looked at, shown and closed, and none that is not ours."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress

import pytest

from electrictown.errors import SessionError
from electrictown.sessions import tmux
from electrictown.sessions.launching import Command
from electrictown.sessions.records import BackendName
from electrictown.sessions.tmux import TmuxExecutor
from sessions.launch_kit import PATH, Place, alive, place, until

SHORT, LONG = "et-polecat-a3f", "et-polecat-a3f2"
WAIT = Command(("sh", "-c", 'echo "$0 is here"; exec sleep 1000', "sh"), {"PATH": PATH})


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Generator[Place]:
    with place(monkeypatch) as made:
        yield made


async def launch(here: Place, *names: str, kind: BackendName = "tmux") -> TmuxExecutor:
    executor = here.executor(kind)
    assert isinstance(executor, TmuxExecutor)
    for name in names:
        command = Command((*WAIT.arguments[:-1], name), WAIT.environ)
        await executor.launch(name, command, here.work, here.folder / "log")
    return executor


@contextmanager
def terminal(here: Place, command: tuple[str, ...], **environ: str) -> Generator[subprocess.Popen[bytes]]:
    """A person's terminal, in which `command` runs."""
    screen, keyboard = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=keyboard,
        stdout=keyboard,
        stderr=keyboard,
        env={**os.environ, "TERM": "xterm", **environ},
        start_new_session=True,
    )
    os.close(keyboard)
    os.set_blocking(screen, False)
    loop = asyncio.get_running_loop()

    def drain() -> None:
        with suppress(BlockingIOError, OSError):
            os.read(screen, 1 << 16)

    loop.add_reader(screen, drain)
    try:
        yield process
    finally:
        loop.remove_reader(screen)
        process.kill()
        process.wait()
        os.close(screen)


@pytest.mark.parametrize("first", [(SHORT, LONG), (LONG, SHORT)])
async def test_a_name_is_no_beginning_of_another(here: Place, first: tuple[str, str]) -> None:
    executor = await launch(here, *first)

    async def shown() -> bool:
        return await executor.screen(SHORT) == f"{SHORT} is here" and LONG in await executor.screen(LONG)

    await until(shown)
    await executor.settle(SHORT)
    await executor.close(SHORT)
    assert list(await executor.panes()) == [LONG]
    await executor.close(SHORT)
    await executor.settle(SHORT)
    assert await executor.screen(SHORT) == ""
    assert list(await executor.panes()) == [LONG]


async def test_what_is_not_there_is_not_attached_to_by_its_beginning(here: Place) -> None:
    executor = await launch(here, LONG)
    with terminal(here, executor.attach_command(SHORT)) as person:
        await until(lambda: person.poll() is not None)
        assert person.returncode != 0


@pytest.mark.parametrize("kind", ["tmux", "byobu"])
async def test_attaching_shows_exactly_the_one(here: Place, kind: BackendName) -> None:
    executor = await launch(here, LONG, kind=kind)
    await launch(here, SHORT)
    with terminal(here, executor.attach_command(SHORT)) as person:

        async def attached() -> bool:
            return [pane.name for pane in (await executor.panes()).values() if pane.attached] == [SHORT]

        await until(attached)
        here.tmux("detach-client", "-s", f"={SHORT}")
        await until(lambda: person.poll() == 0)
    assert not any(pane.attached for pane in (await executor.panes()).values())


async def test_inside_the_same_server_it_changes_over(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = await launch(here, SHORT, LONG)
    inside = here.tmux("display-message", "-p", "-t", f"={LONG}:", "#{socket_path},#{pid},0")

    async def attached(name: str) -> bool:
        return [pane.name for pane in (await executor.panes()).values() if pane.attached] == [name]

    with terminal(here, executor.attach_command(LONG)):
        await until(lambda: attached(LONG))
        monkeypatch.setenv("TMUX", inside)
        command = executor.attach_command(SHORT)
        assert "switch-client" in command
        subprocess.run(command, check=True)
        assert await attached(SHORT)


async def test_inside_another_server_it_attaches_all_the_same(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = await launch(here, SHORT)
    monkeypatch.setenv("TMUX", f"{here.folder}/another,1,0")
    with terminal(here, executor.attach_command(SHORT)):

        async def attached() -> bool:
            return (await executor.panes())[SHORT].attached

        await until(attached)


async def test_a_name_that_is_taken_stays_with_who_has_it(here: Place) -> None:
    here.tmux("new-session", "-d", "-s", SHORT, "sleep", "1000")
    executor = here.executor("tmux")
    with pytest.raises(SessionError, match="already"):
        await launch(here, SHORT)
    await executor.close(SHORT)  # it is not ours
    assert list(await executor.panes()) == [SHORT]
    assert here.tmux("show-options", "-t", f"={SHORT}:") == ""


async def test_only_names_like_ours_are_listed(here: Place) -> None:
    executor = await launch(here, SHORT)
    for name in ("mine", "et-", "xet-a", "et-a b", "et-😀"):
        here.tmux("new-session", "-d", "-s", name, "sleep", "1000")
    here.tmux("split-window", "-b", "-t", f"={SHORT}:", "sleep", "1000")
    panes = await executor.panes()
    assert list(panes) == [SHORT]
    assert b"sleep" in await asyncio.to_thread(_cmdline, panes[SHORT].pid)
    assert int(panes[SHORT].created) == int(
        here.tmux("display-message", "-p", "-t", f"={SHORT}:", "#{session_created}")
    )
    assert await executor.screen(SHORT) == f"{SHORT} is here"  # not what the user has opened beside it


def _cmdline(pid: int) -> bytes:
    with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
        return file.read()


async def test_what_a_program_said_stays_until_it_is_settled(here: Place) -> None:
    executor = here.executor("tmux")
    await executor.launch(
        SHORT,
        Command(("sh", "-c", "echo last words; sleep 0.3; exit 3"), {"PATH": PATH}),
        here.work,
        here.folder / "log",
    )

    async def ended() -> bool:
        return await executor.panes() == {}

    await until(ended)
    assert await executor.screen(SHORT) == "last words"
    await executor.settle(SHORT)
    await until(lambda: here.server() == 0)


async def test_a_server_that_was_killed_takes_its_programs_along(here: Place) -> None:
    executor = await launch(here, SHORT, LONG)
    pids = [pane.pid for pane in (await executor.panes()).values()]
    os.kill(here.server(), signal.SIGKILL)

    async def empty() -> bool:
        return await executor.panes() == {}

    await until(empty)
    await until(lambda: not any(map(alive, pids)))
    await executor.close(SHORT)
    await launch(here, SHORT)
    assert list(await executor.panes()) == [SHORT]


async def test_a_server_that_does_not_answer_is_an_error(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = await launch(here, SHORT)
    server = here.server()
    os.kill(server, signal.SIGSTOP)
    monkeypatch.setattr(tmux, "_PATIENCE", 0.05)
    try:
        with pytest.raises(SessionError, match="does not answer"):
            await executor.panes()
        with pytest.raises(SessionError, match="did not answer"):
            await launch(here, LONG)
    finally:
        os.kill(server, signal.SIGCONT)
