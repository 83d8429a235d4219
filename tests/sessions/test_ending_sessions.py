"""The end of a session: all of it, whatever it has become, and nothing that is not of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import pytest
from msgspec.structs import replace

from electrictown.errors import SessionError
from electrictown.sessions import processes
from electrictown.sessions.ending import end, survivors
from electrictown.sessions.launcher import ProgramAdapter, SessionLauncher
from electrictown.sessions.processes import members, send
from electrictown.sessions.records import BackendName, Status
from electrictown.sessions.registry import MARK, Registry
from sessions.launch_kit import KINDS, Place, alive, needs, place, until

FOREVER = ("sleep", "1000")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Generator[Place]:
    with place(monkeypatch) as made:
        yield made


@contextmanager
def stranger(*command: str, environ: Mapping[str, str] | None = None) -> Generator[subprocess.Popen[bytes]]:
    """A process that is none of the session's business."""
    environ = {**os.environ, **(environ or {})}
    with subprocess.Popen(
        command or FOREVER, env=environ, start_new_session=True, stdout=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_session_ends_when_it_is_asked(here: Place, kind: BackendName) -> None:
    record = await here.start(kind)
    ended = await end(record, here.registry, here.executor(kind))
    assert ended
    assert (ended.alive, ended.obeyed, ended.terminated, ended.killed) == (True, True, (), ())
    status = here.registry.status(record)
    assert (status.state, status.why, status.line) == ("done", "killed", "")
    assert await here.executor(kind).panes() == {}
    if kind != "none":
        await until(lambda: here.server() == 0)


@pytest.mark.parametrize(
    # tmux itself sees to it that a program which was stopped goes on.
    ("kind", "ways"),
    [("tmux", "ta"), ("none", "ta"), ("tmux", "dta"), ("none", "dtas")],
)
async def test_the_whole_tree_ends(here: Place, kind: BackendName, ways: str) -> None:
    record = await here.start(kind, ways)
    pids = here.pids(record)
    assert all(map(alive, pids))
    ended = await end(record, here.registry, here.executor(kind), grace=0.3)
    assert not any(map(alive, pids))
    assert survivors(record) == []
    assert ended.obeyed == ("d" not in ways)
    agent, child, daemon, bare, deaf, stopped, apart = pids
    assert {daemon, deaf, apart} <= set(ended.terminated)
    assert deaf in ended.killed
    assert (agent in ended.killed) == ("d" in ways)
    if "d" not in ways:
        assert not {child, daemon, bare, stopped, apart} & set(ended.killed)
    assert here.registry.status(record).why == "killed"


@pytest.mark.parametrize("kind", ["tmux", "none"])
async def test_what_an_agent_left_that_was_killed_ends(here: Place, kind: BackendName) -> None:
    record = await here.start(kind, "t")
    agent, *rest = here.pids(record)
    *_, deaf, _ = rest
    os.kill(agent, signal.SIGKILL)
    await until(lambda: not here.registry.is_alive(record.name))
    assert set(survivors(record, agent)) & set(rest)
    ended = await end(record, here.registry, here.executor(kind), grace=0.3)
    assert (ended.alive, ended.obeyed, ended.killed) == (False, False, (deaf,))
    assert not any(map(alive, rest))
    assert here.registry.status(record).why == "killed"


async def test_nothing_is_said_of_a_session_that_had_ended(here: Place) -> None:
    record = await here.start("tmux")
    os.kill(here.pids(record)[0], signal.SIGKILL)
    await until(lambda: survivors(record) == [])
    before = here.registry.status(record)
    ended = await end(record, here.registry, here.executor("tmux"))
    assert not ended
    assert here.registry.status(record) == before
    assert before.state == "failed"


@pytest.mark.parametrize("prefix", ["et-polecat-a3f", "et-polecat-a3f2"])
async def test_the_beginning_of_a_name_is_another_session(
    here: Place, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["et-polecat-a3f2", "et-polecat-a3f"])
    monkeypatch.setattr("electrictown.sessions.registry.new_name", lambda *_: next(names))
    records = {record.name: record for record in (await here.start(), await here.start())}
    wanted = records.pop(prefix)
    (other,) = records.values()
    await end(wanted, here.registry, here.executor("tmux"))
    assert list(await here.executor("tmux").panes()) == [other.name]
    assert here.registry.is_alive(other.name)
    assert alive(here.pids(other)[0])
    await end(other, here.registry, here.executor("tmux"))


async def test_only_the_very_mark_counts(here: Place) -> None:
    record = here.named("et-polecat-a3f")
    marks = [f"{record.mark}0", record.mark[:-1], f"x{record.mark}", record.mark.upper(), ""]
    shell = ("sh", "-c", "exec sleep 1000", f"{MARK}={record.mark}")  # among its arguments it says nothing
    with (
        stranger(environ={MARK: marks[0]}) as a,
        stranger(environ={MARK: marks[1]}) as b,
        stranger(environ={MARK: marks[2]}) as c,
        stranger(environ={MARK: marks[3]}) as d,
        stranger(environ={MARK: marks[4]}) as e,
        stranger(environ={f"X{MARK}": record.mark, "Y": f"\n{MARK}={record.mark}"}) as f,
        stranger(*shell) as g,
    ):
        assert survivors(record) == []
        assert not await end(record, here.registry, here.executor("tmux"))
        assert all(process.poll() is None for process in (a, b, c, d, e, f, g))


async def test_a_session_that_a_session_has_started_is_another(here: Place) -> None:
    outer, inner = here.named("et-mayor-a3f"), here.named("et-polecat-a3f2")
    script = (
        "import os, subprocess, time\n"
        f"its = subprocess.Popen(['sleep', '1000'], env={{'{MARK}': os.environ['IN']}})\n"
        "own = subprocess.Popen(['sleep', '1000'], env={})\n"
        "print(its.pid, own.pid, flush=True)\n"
        "time.sleep(1000)"
    )
    environ = {MARK: outer.mark, "IN": inner.mark}
    with stranger(sys.executable, "-c", script, environ=environ) as process:
        assert process.stdout is not None
        its, own = map(int, (await asyncio.to_thread(process.stdout.readline)).split())
        ended = await end(outer, here.registry, here.executor("tmux"))
        assert sorted(ended.terminated) == sorted([process.pid, own])
        assert alive(its)
        assert (await end(inner, here.registry, here.executor("tmux"))).terminated == (its,)
    assert not alive(its)


async def test_a_name_that_another_has_in_tmux_now_stays(here: Place) -> None:
    needs("tmux")
    record = await here.start("tmux")
    os.kill(here.pids(record)[0], signal.SIGKILL)
    await until(lambda: here.server() == 0)
    here.tmux("new-session", "-d", "-s", record.name, *FOREVER)
    (pane,) = (await here.executor("tmux").panes()).values()
    here.registry.save(record.name, Status("ready", pid=pane.pid))  # as if its pid had been given anew, too
    assert not await end(record, here.registry, here.executor("tmux"))
    assert alive(pane.pid)
    assert list(await here.executor("tmux").panes()) == [record.name]


async def test_a_session_of_that_name_in_another_state_folder_stays(here: Place) -> None:
    needs("tmux")
    theirs = await here.start("tmux")
    (pid,) = here.pids(theirs)
    registry = Registry(here.state.parent / "another")
    ours = replace(theirs, mark=f"{theirs.name}.another")
    registry.folder(ours.name).mkdir(parents=True)
    registry.save(ours.name, ours)
    executor = here.executor("tmux")
    assert not await end(ours, registry, executor)
    with pytest.raises(SessionError, match="already"):
        await SessionLauncher(registry, executor).relaunch(ours, ProgramAdapter("another", FOREVER, {}))
    assert alive(pid)
    assert list(await executor.panes()) == [theirs.name]
    assert await end(theirs, here.registry, executor)


def test_a_pid_that_was_given_anew_is_not_signalled() -> None:
    with stranger() as process:
        (one,) = [one for one in processes._by_proc() if one.pid == process.pid]
        assert not send((one.pid, f"{int(one.start) + 1}"), signal.SIGKILL)
        assert process.poll() is None
        assert send(one.known, signal.SIGKILL)
        process.wait()
        assert not send(one.known, signal.SIGKILL)


WITHIN = """
import asyncio, subprocess, sys
from pathlib import Path
from electrictown.sessions.background import BackgroundExecutor
from electrictown.sessions.ending import end
from electrictown.sessions.registry import Registry
registry = Registry(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "1000"])
ended = asyncio.run(end(registry.find(sys.argv[2]), registry, BackgroundExecutor()))
print(ended.terminated == (child.pid,), child.wait())
"""


async def test_who_ends_a_session_from_within_is_not_ended(here: Place) -> None:
    record = here.named("et-polecat-a3f")
    with stranger(
        sys.executable, "-c", WITHIN, str(here.state), record.name, environ={MARK: record.mark}
    ) as process:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.read) == b"True -15\n"
        assert await asyncio.to_thread(process.wait) == 0


async def test_what_keeps_coming_is_ended_too(here: Place) -> None:
    record = here.named("et-polecat-a3f")
    script = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(0) if os.fork() else None)\n"
        "print(flush=True)\n"
        "while True: time.sleep(0.001)"
    )
    with stranger(sys.executable, "-c", script, environ={MARK: record.mark}) as process:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        ended = await end(record, here.registry, here.executor("tmux"), grace=0.3)
        assert len(ended.terminated) > 1
        assert ended.killed
        assert survivors(record) == []


async def test_what_cannot_be_ended_is_said(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    record = here.named("et-polecat-a3f")

    def refuse(*_: object) -> bool:
        raise PermissionError

    monkeypatch.setattr("electrictown.sessions.ending._LAST", 0.05)
    monkeypatch.setattr("electrictown.sessions.ending.send", refuse)
    with stranger(environ={MARK: record.mark}) as process, pytest.raises(SessionError) as caught:
        await end(record, here.registry, here.executor("tmux"), grace=0.05)
    assert f"cannot be ended: {process.pid}" in caught.value.message
    assert here.registry.status(record).state != "done"


async def test_without_proc_its_process_is_known_by_pid_and_name(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = here.named("et-polecat-a3f")
    monkeypatch.setattr(processes, "PROC", here.folder / "nowhere")
    script = (
        "import os, time\n"
        "print(os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '1000'), flush=True)\n"
        "time.sleep(1000)"
    )
    with (
        stranger(sys.executable, "-c", script, "-x", f"{record.name}2") as other,
        stranger(sys.executable, "-c", script, "-x", record.name) as process,
    ):
        its, child = [int(await asyncio.to_thread(p.stdout.readline)) for p in (other, process) if p.stdout]
        assert members(record.mark, record.name, other.pid) == []
        assert members(record.mark, record.name) == []
        here.registry.save(record.name, Status("ready", pid=process.pid))
        assert (await end(record, here.registry, here.executor("tmux"))).terminated == (
            tuple(sorted([process.pid, child]))
        )
        assert not alive(child)
        assert other.poll() is None
        os.kill(its, signal.SIGKILL)


async def test_an_old_kernel_has_no_handles_of_processes(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = here.named("et-polecat-a3f")
    monkeypatch.delattr(os, "pidfd_open")
    with stranger(environ={MARK: record.mark}) as process:
        assert not send((process.pid, "1"), signal.SIGKILL)
        assert (await end(record, here.registry, here.executor("tmux"))).terminated == (process.pid,)
        assert not send((process.pid, "1"), signal.SIGKILL)
