"""What is said to a session is said exactly once, whatever breaks on the way, and an error says which."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from electrictown.errors import JournalError, SessionEndedError, SessionError
from electrictown.journal.journal import Store
from electrictown.journal.sqlite import SqliteStore
from electrictown.sessions.frames import short_path
from electrictown.sessions.inbox import SOCKET, connected
from electrictown.sessions.messages import Accepted, Look, Say, Seen
from electrictown.sessions.records import Record, Said, Status, Turn
from electrictown.sessions.registry import Registry
from electrictown.sessions.roster import look
from electrictown.sessions.sending import deliver, new_id
from fakes.live_session import living, recorded, written


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def registry(state: Path) -> Registry:
    return Registry(state / "sessions")


@pytest.fixture
def record(registry: Registry, tmp_path: Path) -> Record:
    return recorded(registry, tmp_path)


async def never() -> Store:
    raise AssertionError("nobody has to be asked")


async def test_a_message_is_accepted(registry: Registry, record: Record) -> None:
    got: list[Accepted] = []
    with living(registry, record) as session:
        assert await deliver(registry, record, Say("m1", b"\0\xff", "me"), never, got.append) is None
    assert session.heard == {"m1": b"\0\xff"}
    assert session.senders == ["me"]
    assert got == [Accepted("m1")]


async def test_the_reply_is_waited_for(registry: Registry, record: Record) -> None:
    with living(registry, record):
        turn = await deliver(registry, record, Say("m1", b"hi", wait=True), never)
    assert turn == Turn("m1", "done", "hi")


@pytest.mark.parametrize("cuts", [["before"], ["after"], ["before", "after", "after"]])
@pytest.mark.parametrize("wait", [False, True])
async def test_a_connection_that_breaks_says_nothing_twice(
    registry: Registry, record: Record, cuts: list[str], *, wait: bool
) -> None:
    with living(registry, record) as session:
        session.cuts = [*cuts]
        turn = await deliver(registry, record, Say("m1", b"hi", wait=wait), never)
        assert session.cuts == []
    assert session.heard == {"m1": b"hi"}
    assert (turn is not None) is wait


async def test_a_session_that_starts_is_waited_for(registry: Registry, record: Record) -> None:
    sending = asyncio.create_task(deliver(registry, record, Say("m1", b"hi"), never))
    await asyncio.sleep(0.15)
    assert not sending.done()
    with living(registry, record) as session:
        await sending
    assert session.heard == {"m1": b"hi"}


async def test_what_is_refused_at_the_start_is_said_again(registry: Registry, record: Record) -> None:
    with living(registry, record, Status("starting")) as session:
        sending = asyncio.create_task(deliver(registry, record, Say("m1", b"hi"), never))
        await asyncio.sleep(0.15)
        assert not sending.done()
        session.status = Status("ready")
        await sending
    assert session.heard == {"m1": b"hi"}


async def test_what_is_refused_for_good_is_an_error(registry: Registry, record: Record) -> None:
    with living(registry, record) as session:
        registry.save(record.name, Status("ready"))
        session.status = Status("starting")  # so that it refuses
        with pytest.raises(SessionError, match="it has not begun yet"):
            await deliver(registry, record, Say("m1", b"hi"), never)
    assert session.heard == {}


def crowd(path: str, stack: ExitStack) -> None:
    """Connect to the socket at `path` until it takes nobody any more."""
    while True:
        one = stack.enter_context(socket.socket(socket.AF_UNIX))
        one.setblocking(False)
        try:
            one.connect(path)
        except BlockingIOError:
            return


async def test_where_too_many_wait_it_waits_too(registry: Registry, record: Record) -> None:
    lock = registry.lock(record.name)
    with (
        short_path(registry.folder(record.name), SOCKET) as path,
        socket.socket(socket.AF_UNIX) as full,
        ExitStack() as others,
    ):
        full.bind(path)
        full.listen(0)
        crowd(path, others)
        registry.save(record.name, Status("working"))
        assert (await look(registry, record, answer=0.1)).state == "stuck"
        sending = asyncio.create_task(deliver(registry, record, Say("m1", b"hi"), never))
        await asyncio.sleep(0.1)
        assert not sending.done()
    lock.release()
    with living(registry, record) as session:
        await sending
    assert session.heard == {"m1": b"hi"}


async def test_where_too_many_speak_it_is_said_again(
    registry: Registry, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("electrictown.sessions.inbox._most", lambda: 1)
    with living(registry, record, Status("working")) as session:
        async with connected(record.name, registry.folder(record.name)) as silent:
            await silent.ask(Look(), Seen)
            assert (await look(registry, record)).state == "working"
            sending = asyncio.create_task(deliver(registry, record, Say("m1", b"hi"), never))
            await asyncio.sleep(0.15)
            assert not sending.done()
        await sending
    assert session.heard == {"m1": b"hi"}


def ended(registry: Registry, record: Record) -> None:
    registry.save(record.name, Status("done", "killed"))


async def test_a_session_that_has_ended_accepts_nothing(
    registry: Registry, record: Record, state: Path
) -> None:
    ended(registry, record)
    with pytest.raises(SessionEndedError, match="has ended: the message was not accepted") as error:
        await deliver(registry, record, Say("m1", b"hi"), lambda: SqliteStore.open(state / "journal.db"))
    assert f"--resume {record.name}" in error.value.hint


def dies_with(registry: Registry, record: Record, state: Path, *steps: Said | Turn) -> threading.Thread:
    """Let the session die as soon as it has heard something, and its journal hold `steps`."""
    begun = threading.Event()

    def live() -> None:
        with living(registry, record) as session:
            session.cuts = ["before"] * 100
            begun.set()
            while len(session.cuts) == 100:
                time.sleep(0.002)
        ended(registry, record)

    written(
        state,
        record.name,
        said=tuple(step for step in steps if isinstance(step, Said)),
        turns=tuple(step for step in steps if isinstance(step, Turn)),
    )
    thread = threading.Thread(target=live)
    thread.start()
    assert begun.wait(10)
    return thread


@pytest.mark.parametrize(
    ("steps", "wait", "told"),
    [
        ((), False, "the message was not accepted"),
        ((Said("m0", "hi"),), True, "the message was not accepted"),
        ((Said("m1", "hi"),), False, "the message was accepted"),
        ((Said("m1", "hi"),), True, "the message was accepted"),
        ((Said("m1", "hi"), Turn("m1", "done", "ho")), False, "the message was accepted"),
    ],
)
def test_when_the_session_dies_meanwhile_its_journal_tells(
    registry: Registry, record: Record, state: Path, steps: tuple[Said | Turn, ...], *, wait: bool, told: str
) -> None:
    thread = dies_with(registry, record, state, *steps)
    with pytest.raises(SessionEndedError, match=told):
        asyncio.run(
            deliver(
                registry, record, Say("m1", b"hi", wait=wait), lambda: SqliteStore.open(state / "journal.db")
            )
        )
    thread.join()


def test_a_reply_that_the_journal_has_is_the_reply(registry: Registry, record: Record, state: Path) -> None:
    turn = Turn("m1", "done", "ho")
    thread = dies_with(registry, record, state, Said("m1", "hi"), turn)
    open_store = lambda: SqliteStore.open(state / "journal.db")  # noqa: E731
    assert asyncio.run(deliver(registry, record, Say("m1", b"hi", wait=True), open_store)) == turn
    thread.join()


def test_a_journal_that_cannot_be_read_leaves_it_open(
    registry: Registry, record: Record, state: Path
) -> None:
    async def broken() -> Store:
        raise JournalError("the disk is gone")

    thread = dies_with(registry, record, state)
    with pytest.raises(SessionEndedError, match="is not known: the disk is gone"):
        asyncio.run(deliver(registry, record, Say("m1", b"hi"), broken))
    thread.join()


def test_no_two_messages_have_one_id() -> None:
    assert len({new_id() for _ in range(100)}) == 100
