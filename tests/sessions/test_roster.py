"""The list of sessions: what each says of itself now, who is stuck, who has gone, who is not ours."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from electrictown.errors import SessionError
from electrictown.sessions.launching import Pane
from electrictown.sessions.records import SessionRow, State, Status
from electrictown.sessions.registry import GONE, Registry
from electrictown.sessions.roster import SILENCE, look, roster
from electrictown.sessions.tmux import TmuxExecutor
from fakes.live_session import living, recorded


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "state" / "sessions")


class Screens(TmuxExecutor):
    """A tmux server that shows what it is told to, or nothing but an error."""

    def __init__(self, socket: str, panes: Mapping[str, Pane] | SessionError) -> None:
        super().__init__(socket)
        self._shown = panes

    async def panes(self) -> dict[str, Pane]:
        if isinstance(self._shown, SessionError):
            raise self._shown
        return dict(self._shown)


async def states(registry: Registry, **given: object) -> dict[str, Status]:
    found = await roster(registry, [], **given)  # pyright: ignore[reportArgumentType]
    return {row.name: row.status for row in found.rows}


async def test_every_session_is_asked(registry: Registry, tmp_path: Path) -> None:
    one, two = recorded(registry, tmp_path), recorded(registry, tmp_path, "mayor")
    with living(registry, one, Status("working", model="qwen")), living(registry, two) as second:
        second.status = Status("waiting for input", line="done that")  # its file says otherwise
        found = await roster(registry, [])
    assert found.troubles == ()
    assert [(row.name, row.status.state, row.record) for row in found.rows] == [
        (one.name, "working", one),
        (two.name, "waiting for input", two),
    ]


async def test_one_that_does_not_answer_is_stuck_and_holds_up_nobody(
    registry: Registry, tmp_path: Path
) -> None:
    deaf = [recorded(registry, tmp_path) for _ in range(3)]
    well = recorded(registry, tmp_path)
    with living(registry, deaf[0]) as a, living(registry, deaf[1]) as b, living(registry, deaf[2]) as c:
        for session in (a, b, c):
            session.deaf = True
        with living(registry, well):
            found = await states(registry, answer=0.2)
    assert [found[record.name].state for record in deaf] == ["stuck"] * 3
    assert found[deaf[0].name].why == "it does not answer"
    assert found[well.name].state == "ready"


@pytest.mark.parametrize(("age", "state"), [(1.0, "starting"), (1000.0, "stuck")])
async def test_one_that_starts_may_be_busy_with_that(
    registry: Registry, tmp_path: Path, age: float, state: str
) -> None:
    record = recorded(registry, tmp_path)
    with living(registry, record, Status("starting", at=time.time() - age)) as session:
        session.deaf = True
        assert (await look(registry, record, answer=0.1)).state == state


@pytest.mark.parametrize(
    ("state", "silent", "told"),
    [
        ("working", SILENCE + 100, "stuck"),
        ("working", SILENCE - 100, "working"),
        ("working", None, "working"),
        ("waiting for input", 10 * SILENCE, "waiting for input"),
        ("rate-limited", 10 * SILENCE, "rate-limited"),
    ],
)
async def test_one_that_works_in_silence_is_stuck(
    registry: Registry, tmp_path: Path, state: State, silent: float | None, told: str
) -> None:
    record = recorded(registry, tmp_path)
    heard = 0.0 if silent is None else time.time() - silent
    with living(registry, record, Status(state, heard=heard)):
        found = await look(registry, record)
    assert found.state == told
    assert ("nothing was heard for 7 minutes" in found.why) is (told == "stuck")


async def test_one_whose_process_is_gone_has_failed(registry: Registry, tmp_path: Path) -> None:
    record = recorded(registry, tmp_path)
    registry.save(record.name, Status("working", line="half of"))
    assert (await states(registry))[record.name].why == GONE


async def test_the_ended_are_left_out_after_a_while_unless_nobody_saw_their_end(
    registry: Registry, tmp_path: Path
) -> None:
    now = time.time()
    names = {}
    for what, status in {
        "done lately": Status("done", at=now - 10),
        "done": Status("done", at=now - 1000),
        "failed": Status("failed", "no key", at=now - 1000),
        "gone": Status("working", at=now - 1000),
    }.items():
        record = recorded(registry, tmp_path)
        registry.save(record.name, status)
        names[record.name] = what
    young = recorded(registry, tmp_path)
    shown = await states(registry, since=now - 100)
    assert {names.get(name, "starting") for name in shown} == {"done lately", "gone", "starting"}
    assert shown[young.name].state == "starting"
    assert len(await states(registry)) == 5


async def test_the_oldest_is_the_first(registry: Registry, tmp_path: Path) -> None:
    records = [recorded(registry, tmp_path, created=float(at)) for at in (30, 10, 20)]
    found = await roster(registry, [])
    assert [row.name for row in found.rows] == [records[n].name for n in (1, 2, 0)]


async def test_a_record_that_cannot_be_read_hides_no_other(registry: Registry, tmp_path: Path) -> None:
    torn, whole = recorded(registry, tmp_path), recorded(registry, tmp_path)
    (registry.folder(torn.name) / "record.json").write_bytes(b'{"name": ')
    odd = recorded(registry, tmp_path)
    (registry.folder(odd.name) / "status.json").write_bytes(b"[]")
    (registry.folder(whole.name).parent / "not one of ours").mkdir()
    found = await roster(registry, [])
    assert [(row.name, row.status.state) for row in found.rows] == [
        (whole.name, "starting"),
        (odd.name, "failed"),
    ]
    assert "status.json cannot be read" in found.rows[1].status.why
    (trouble,) = found.troubles
    assert torn.name in trouble.message


async def test_a_pane_that_nobody_recorded_is_foreign(registry: Registry, tmp_path: Path) -> None:
    ours = recorded(registry, tmp_path, backend="tmux", socket="own")
    hidden = recorded(registry, tmp_path)  # without a terminal: a pane of its name is somebody else's
    panes = {
        ours.name: Pane(ours.name, 7, attached=True),
        "et-mayor-beef": Pane("et-mayor-beef", 8, attached=True, created=5.0),
        hidden.name: Pane(hidden.name, 9),
    }
    elsewhere = {ours.name: Pane(ours.name, 10)}
    found = await roster(registry, [Screens("own", panes), Screens("", elsewhere)])
    rows = {(row.name, row.record is None): row for row in found.rows}
    assert len(rows) == len(found.rows) == 5
    assert rows[ours.name, False].attached
    assert not rows[hidden.name, False].attached
    assert rows["et-mayor-beef", True] == SessionRow(
        "et-mayor-beef", Status("foreign", "on tmux's socket own", pid=8, at=5.0), attached=True
    )
    assert {rows[hidden.name, True].status.pid, rows[ours.name, True].status.pid} == {9, 10}
    assert rows[ours.name, True].status.why == ""


async def test_a_tmux_that_does_not_answer_hides_no_session(registry: Registry, tmp_path: Path) -> None:
    record = recorded(registry, tmp_path, backend="tmux")
    broken = SessionError("tmux does not answer")
    with living(registry, record):
        found = await roster(registry, [Screens("", broken)])
    assert [row.status.state for row in found.rows] == ["ready"]
    assert found.troubles == (broken,)


async def test_without_any_session_there_is_nothing(registry: Registry) -> None:
    assert await roster(registry, []) == await roster(registry, [Screens("", {})])
    assert not (await roster(registry, [])).rows


async def test_one_that_does_not_listen_yet_is_told_by_its_files(registry: Registry, tmp_path: Path) -> None:
    record = recorded(registry, tmp_path)
    lock = registry.lock(record.name)
    try:
        assert (await look(registry, record)).state == "starting"
    finally:
        lock.release()
