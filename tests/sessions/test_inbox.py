"""The inbox: whole frames or none, in order, whoever goes away in the middle."""

from __future__ import annotations

import asyncio
import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from electrictown.errors import AuthError, SessionBusyError, SessionEndedError, SessionError
from electrictown.sessions import inbox
from electrictown.sessions.inbox import Tell, call, connected, listening
from electrictown.sessions.messages import LARGEST, Accepted, Look, Okay, Request, Say, Seen, Stop


class Box:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.got: list[Request] = []

    async def respond(self, request: Request, tell: Tell) -> None:
        self.got.append(request)
        match request:
            case Say():
                await tell(Accepted(request.id))
            case Look():
                await tell(Seen())
            case Stop():
                raise AuthError("no", "never")
            case _:
                await tell(Okay())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(data=st.binary(max_size=5000))
async def test_any_bytes_arrive(tmp_path: Path, data: bytes) -> None:
    box = Box()
    async with listening(tmp_path, box.respond):
        assert await call("et-x", tmp_path, Say("1", data), Accepted) == Accepted("1")
    assert isinstance(box.got[0], Say)
    assert box.got[0].data == data


async def test_a_very_long_message_arrives(folder: Path) -> None:
    box, data = Box(), os.urandom(9_000_000)
    async with listening(folder, box.respond):
        await call("et-x", folder, Say("1", data), Accepted, seconds=60)
    assert isinstance(box.got[0], Say)
    assert box.got[0].data == data


async def test_each_connection_is_answered_in_its_own_order(folder: Path) -> None:
    box = Box()

    async def speak(who: int) -> None:
        async with connected("et-x", folder) as line:
            for n in range(50):
                assert (await line.ask(Say(f"{who}.{n}", b""), Accepted)).id == f"{who}.{n}"

    async with listening(folder, box.respond):
        await asyncio.gather(*(speak(who) for who in range(4)))
    ids = [request.id for request in box.got if isinstance(request, Say)]
    assert len(set(ids)) == 200
    for who in range(4):
        assert [i for i in ids if i.startswith(f"{who}.")] == [f"{who}.{n}" for n in range(50)]


async def test_nobody_there_is_an_ended_session(folder: Path) -> None:
    with pytest.raises(SessionEndedError, match="et-gone has ended"):
        await call("et-gone", folder, Look(), Seen)
    async with listening(folder, Box().respond):
        pass
    with pytest.raises(SessionEndedError):
        await call("et-gone", folder, Look(), Seen)
    (folder / inbox.SOCKET).touch()  # what a process left behind that was killed
    with pytest.raises(SessionEndedError):
        await call("et-gone", folder, Look(), Seen)
    async with listening(folder, Box().respond):
        assert await call("et-gone", folder, Look(), Seen)


async def test_a_refusal_is_the_error_that_it_was(folder: Path) -> None:
    async with listening(folder, Box().respond):
        with pytest.raises(AuthError, match="no") as caught:
            await call("et-x", folder, Stop(), Okay)
        assert caught.value.hint == "never"
        assert await call("et-x", folder, Look(), Seen)  # the next one is answered all the same


async def test_half_a_frame_is_no_message(folder: Path) -> None:
    box = Box()
    async with listening(folder, box.respond):
        for part in (b"\x00", struct.pack(">I", 10) + b"{}"):
            _, writer = await asyncio.open_unix_connection(str(folder / inbox.SOCKET))
            writer.write(part)
            await writer.drain()
            writer.close()
        await call("et-x", folder, Look(), Seen)
    assert [type(request) for request in box.got] == [Look]


@pytest.mark.parametrize("frame", [struct.pack(">I", LARGEST * 2), struct.pack(">I", 3) + b"???"])
async def test_what_is_no_frame_is_refused_and_the_others_go_on(folder: Path, frame: bytes) -> None:
    box = Box()
    async with listening(folder, box.respond):
        reader, writer = await asyncio.open_unix_connection(str(folder / inbox.SOCKET))
        writer.write(frame)
        assert b"refused" in await reader.read()
        writer.close()
        assert await call("et-x", folder, Look(), Seen)


async def test_those_that_say_nothing_leave_files_to_work_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box()
    monkeypatch.setattr(inbox.resource, "getrlimit", lambda _: (40, 40))
    async with listening(folder, box.respond):
        silent = [await asyncio.open_unix_connection(str(folder / inbox.SOCKET)) for _ in range(50)]
        with pytest.raises(SessionBusyError, match="more than 20"):
            await call("et-x", folder, Look(), Seen)
        last, _ = silent[-1]
        assert b"SessionBusyError" in await last.read()  # and it is closed
        for _, writer in silent:
            writer.close()
            await writer.wait_closed()
        async with asyncio.timeout(10):
            while not box.got:
                with suppress(SessionBusyError):
                    await call("et-x", folder, Look(), Seen)


async def test_leaving_tells_asyncio_of_no_fault(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with listening(folder, Box().respond):
        _, writer = await asyncio.open_unix_connection(str(folder / inbox.SOCKET))
        await call("et-x", folder, Look(), Seen)
    writer.close()
    await asyncio.sleep(0)
    assert caplog.text == ""


async def test_who_waits_hears_that_the_session_ended(folder: Path) -> None:
    async def silent(request: Request, tell: Tell) -> None:
        await asyncio.Event().wait()

    async with listening(folder, silent), connected("et-x", folder) as line:
        waiting = asyncio.create_task(line.ask(Look(), Seen))
        await asyncio.sleep(0.01)
        asking = waiting
    with pytest.raises(SessionEndedError):
        await asking


async def test_a_folder_with_a_long_name_has_an_inbox_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    async with listening(deep, Box().respond):
        assert await call("et-x", deep, Look(), Seen)
    assert not (deep / inbox.SOCKET).exists()


async def test_a_folder_that_cannot_hold_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="cannot listen"):
        async with listening(tmp_path / "nowhere", Box().respond):
            pass
