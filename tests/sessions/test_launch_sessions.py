"""Launching sessions: ready, or an error that says why and nothing left of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from electrictown.errors import (
    AgentMissingError,
    AuthError,
    SessionBusyError,
    SessionEndedError,
    SessionError,
)
from electrictown.redact import Secret
from electrictown.sessions.background import BackgroundExecutor
from electrictown.sessions.ending import end, survivors
from electrictown.sessions.inbox import call
from electrictown.sessions.launcher import ProgramAdapter, SessionLauncher, choose_backend, executor_of
from electrictown.sessions.launching import Command
from electrictown.sessions.messages import Look, Seen
from electrictown.sessions.records import BackendName, Record, Status
from electrictown.sessions.registry import MARK
from sessions.launch_kit import KINDS, PATH, Place, StandIn, alive, environment, needs, place, until


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Generator[Place]:
    with place(monkeypatch) as made:
        yield made


def program(*arguments: str, seconds: float = 30.0) -> ProgramAdapter:
    return ProgramAdapter("program", arguments, {"PATH": PATH}, seconds=seconds)


async def nothing_is_left(here: Place, kind: BackendName) -> Status:
    """The one session there is has failed, and left nothing; how it did."""
    (name,) = here.registry.names()
    record = here.registry.find(name)
    assert survivors(record) == []
    assert await here.executor(kind).panes() == {}
    status = here.registry.status(record)
    assert status.state == "failed"
    return status


@pytest.mark.parametrize("kind", KINDS)
async def test_a_session_is_ready_when_it_answers(here: Place, kind: BackendName) -> None:
    record = await here.start(kind)
    assert here.registry.find(record.name) == record
    assert (record.backend, record.folder) == (kind, str(here.work))
    seen = await call(record.name, here.registry.folder(record.name), Look(), Seen)
    pane = (await here.executor(kind).panes())[record.name]
    assert pane.pid == seen.status.pid
    assert environment(pane.pid)[MARK] == record.mark
    await end(record, here.registry, here.executor(kind))


@pytest.mark.parametrize("kind", ["tmux", "none"])
async def test_one_that_ends_at_once_is_quoted(here: Place, kind: BackendName) -> None:
    Secret("sk-nobody-may-see-this")
    # tmux drops what it has not read yet of a program that ends: this one ends a moment later.
    script = (
        r"printf 'first\n\033[31mred\033]0;title\007 \302\233 sk-nobody-may-see-this\n'; sleep 0.3; exit 3"
    )
    with pytest.raises(SessionError, match="program ended before it was ready") as caught:
        await here.launcher(kind).launch(program("sh", "-c", script), role="polecat", folder=here.work)
    assert caught.value.message.endswith("it said:\n  first\n  red  ***")
    status = await nothing_is_left(here, kind)
    assert status.why.endswith("first red ***")


async def test_one_that_ends_a_moment_before_it_would_be_ready_is_not_ready(here: Place) -> None:
    with pytest.raises(SessionError, match="ended before it was ready"):
        await here.launcher("none").launch(program("true", seconds=0.3), role="polecat", folder=here.work)
    await nothing_is_left(here, "none")


@pytest.mark.parametrize("kind", ["tmux", "none"])
async def test_one_that_does_not_get_ready_is_ended(here: Place, kind: BackendName) -> None:
    script = 'trap "" TERM HUP; echo I think; while :; do sleep 1000; done'
    launcher = here.launcher(kind)
    with pytest.raises(SessionError, match=r"was not ready within 0\.3 s; it said:\n  I think"):
        await launcher.launch(program("sh", "-c", script), role="polecat", folder=here.work, seconds=0.3)
    await nothing_is_left(here, kind)


class Failing(StandIn):
    """Says that it cannot work, and ends at the same time."""

    async def readiness(self, record: Record) -> None:
        await super().readiness(record)
        os.kill(self._place.pids(record)[0], 9)
        await asyncio.sleep(0.2)
        raise AuthError("the key is wrong", "take another")


async def test_what_the_agent_says_of_itself_comes_first(here: Place) -> None:
    with pytest.raises(AuthError, match="the key is wrong"):
        await here.launcher("none").launch(Failing(here), role="polecat", folder=here.work)
    assert (await nothing_is_left(here, "none")).why == "the key is wrong"


class Refused(StandIn):
    def resolve_config(self, record: Record) -> None:
        raise AgentMissingError("it is not there")


async def test_what_is_refused_is_never_started(here: Place) -> None:
    with pytest.raises(AgentMissingError):
        await here.launcher("tmux").launch(Refused(here), role="polecat", folder=here.work)
    assert here.server() == 0
    assert (await nothing_is_left(here, "tmux")).why == "it is not there"


@pytest.mark.parametrize(
    ("kind", "steps"), [("tmux", None), ("none", None), *(("tmux", n) for n in (1, 2, 5, 9)), ("none", 5)]
)
async def test_a_start_that_is_cancelled_leaves_nothing(
    here: Place, kind: BackendName, steps: int | None
) -> None:
    needs(kind)
    adapter = StandIn(here, "tq")
    starting = asyncio.ensure_future(
        here.launcher(kind).launch(adapter, role="polecat", folder=here.work, seconds=60)
    )
    if steps is None:  # it runs, with all its children
        await until(lambda: list(here.state.glob("*/there.json")))
    else:
        for _ in range(steps):
            await asyncio.sleep(0)
        await until(here.registry.names)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (await nothing_is_left(here, kind)).why == "its start was cancelled"
    for path in here.state.glob("*/there.json"):
        pids = here.pids(here.registry.find(path.parent.name))
        assert not any(map(alive, pids))


@pytest.mark.parametrize("kind", ["tmux", "none"])
async def test_an_ended_session_is_started_again_under_its_name(here: Place, kind: BackendName) -> None:
    first = await here.start(kind, "t")
    child = here.pids(first)
    os.kill(child[0], 9)
    await until(lambda: not here.registry.is_alive(first.name))
    again = await here.launcher(kind).relaunch(first, StandIn(here))
    assert again == first
    assert not any(map(alive, child))  # not what the first life had left, either
    seen = await call(first.name, here.registry.folder(first.name), Look(), Seen)
    assert seen.status.pid not in child
    with pytest.raises(SessionBusyError, match="alive"):
        await here.launcher(kind).relaunch(first, StandIn(here))
    assert alive(seen.status.pid)
    await end(first, here.registry, here.executor(kind))


async def test_a_session_may_change_its_backend(here: Place) -> None:
    record = await here.start("tmux")
    await end(record, here.registry, here.executor("tmux"))
    moved = await here.launcher("none").relaunch(record, StandIn(here))
    assert (moved.backend, moved.socket) == ("none", "")
    assert here.registry.find(record.name) == moved
    await end(moved, here.registry, here.executor("none"))


async def test_of_two_that_start_it_again_one_does(here: Place) -> None:
    record = await here.start("none")
    await end(record, here.registry, here.executor("none"))
    launchers = [SessionLauncher(here.registry, BackgroundExecutor()) for _ in range(3)]
    results = await asyncio.gather(
        *(launcher.relaunch(record, StandIn(here)) for launcher in launchers), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, BaseException)]
    assert [type(result) for result in refused] == [SessionBusyError, SessionBusyError]
    assert await call(record.name, here.registry.folder(record.name), Look(), Seen)
    await end(record, here.registry, here.executor("none"))


LAUNCH = """
import asyncio, sys, time
from pathlib import Path
from electrictown.sessions.launcher import *
from electrictown.sessions.background import BackgroundExecutor
from electrictown.sessions.registry import Registry
state, folder = map(Path, sys.argv[1:])
adapter = ProgramAdapter("program", ("sleep", "1000"), {"PATH": "/usr/bin:/bin"}, seconds=0.05)
launcher = SessionLauncher(Registry(state), BackgroundExecutor())
print(asyncio.run(launcher.launch(adapter, role="polecat", folder=folder)).name)
"""


async def test_what_runs_in_the_background_outlives_who_started_it(here: Place) -> None:
    said = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-X", "dev", "-W", "error", "-c", LAUNCH, str(here.state), str(here.work)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stderr == ""
    record = here.registry.find(said.stdout.strip())
    (pid,) = survivors(record)
    assert os.getsid(pid) == pid
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")
    assert {path.name for path in Path(f"/proc/{pid}/fd").iterdir()} == {"0", "1", "2"}
    assert (await end(record, here.registry, here.executor("none"))).terminated == (pid,)


@pytest.mark.parametrize("kind", ["tmux", "none"])
async def test_any_program_is_ready_when_it_shows_what_is_waited_for(here: Place, kind: BackendName) -> None:
    go = here.work / "go"
    script = 'until [ -e "$0" ]; do sleep 0.01; done; echo I am; echo prompt; exec sleep 1000'
    adapter = ProgramAdapter(
        "shell", ("sh", "-c", script, str(go)), {"PATH": PATH}, shows=("prompt", here.executor(kind))
    )
    launching = asyncio.ensure_future(here.launcher(kind).launch(adapter, role="polecat", folder=here.work))

    async def runs() -> bool:
        return bool(await here.executor(kind).panes())

    await until(runs)
    assert not launching.done()
    go.touch()
    record = await launching
    assert "I am\nprompt" in await here.executor(kind).screen(record.name)
    await end(record, here.registry, here.executor(kind))


async def test_a_program_that_is_not_installed_is_named(here: Place) -> None:
    with pytest.raises(AgentMissingError, match="no-such-agent"):
        await here.launcher("none").launch(program("no-such-agent"), role="polecat", folder=here.work)


def installed(folder: Path, *programs: str) -> Mapping[str, str]:
    for name in programs:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o700)
    return {"PATH": str(folder), "HOME": str(folder)}


@pytest.mark.parametrize(
    ("programs", "best"),
    [((), "none"), (("tmux",), "tmux"), (("tmux", "byobu-tmux"), "byobu"), (("byobu-tmux",), "none")],
)
def test_the_best_backend_there_is(tmp_path: Path, programs: tuple[str, ...], best: BackendName) -> None:
    environ = installed(tmp_path, *programs)
    assert choose_backend(None, environ) == best
    assert choose_backend("none", environ) == "none"
    assert executor_of(best, "mine").backend == best


def test_byobu_is_left_out_where_it_would_refuse_to_run(tmp_path: Path) -> None:
    environ = {**installed(tmp_path, "tmux", "byobu-tmux"), "HOME": str(tmp_path / "nowhere")}
    assert choose_backend(None, environ) == "tmux"


@pytest.mark.parametrize("wanted", ["tmux", "byobu"])
def test_a_backend_that_is_not_installed_is_named_with_its_package(
    tmp_path: Path, wanted: BackendName
) -> None:
    with pytest.raises(SessionError, match=f"{wanted} is not installed") as caught:
        choose_backend(wanted, installed(tmp_path))
    assert f"apt-get install {wanted}" in caught.value.hint


async def test_a_name_in_tmux_that_is_not_ours_is_no_start(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("electrictown.sessions.registry.new_name", lambda *_: "et-polecat-a3f")
    needs("tmux")
    here.tmux("new-session", "-d", "-s", "et-polecat-a3f", "sleep", "1000")
    with pytest.raises(SessionError, match="already"):
        await here.start("tmux")
    assert here.tmux("list-sessions", "-F", "#{session_name}") == "et-polecat-a3f"
    assert here.registry.status(here.registry.find("et-polecat-a3f")).state == "failed"


async def test_a_session_that_has_gone_says_so(here: Place) -> None:
    record = await here.start("tmux")
    os.kill(here.server(), 9)
    await until(lambda: survivors(record) == [])
    with pytest.raises(SessionEndedError):
        await call(record.name, here.registry.folder(record.name), Look(), Seen)
    assert here.registry.status(record).state == "failed"
    assert not Command(()).environ
