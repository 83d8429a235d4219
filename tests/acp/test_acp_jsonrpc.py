"""The conversation itself: lines however they are cut, requests both ways, and every way it breaks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electrictown.acp.jsonrpc import Peer, RpcError
from electrictown.errors import AgentError


class Other:
    """What the other side sees, and a peer that talks to it."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.heard: list[tuple[str, Any]] = []
        self.strays: list[bytes] = []
        self.go = asyncio.Event()
        self.peer = Peer(self, self.answer, self.hear, self.strays.append)

    def write(self, data: bytes) -> None:
        assert data.endswith(b"\n")
        assert b"\n" not in data[:-1]
        self.lines.append(json.loads(data))

    async def drained(self) -> None:
        await asyncio.sleep(0)

    async def answer(self, method: str, params: bytes) -> object:
        if method == "slow":
            await self.go.wait()
        if method == "refused":
            raise RpcError(-32002, "no")
        if method == "broken":
            raise ZeroDivisionError
        return json.loads(params)

    def hear(self, method: str, params: bytes) -> None:
        if method == "broken":
            raise ZeroDivisionError
        self.heard.append((method, json.loads(params)))

    def say(self, *messages: object) -> None:
        for message in messages:
            self.peer.feed(json.dumps(message).encode() + b"\n")

    async def until(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.lines) < count:
                await asyncio.sleep(0)


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_lines_arrive_however_they_are_cut(texts: list[str], cuts: list[int]) -> None:
    other = Other()
    data = b"".join(
        json.dumps({"method": "m", "params": [text]}, ensure_ascii=False).encode() + b"\r\n" for text in texts
    )
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for begin, end in zip(places, [*places[1:], len(data)], strict=True):
        other.peer.feed(data[begin:end])
    assert other.heard == [("m", [text]) for text in texts]
    assert other.strays == []


async def test_replies_find_their_requests_in_any_order() -> None:
    other = Other()
    first, second = (asyncio.create_task(other.peer.call(name, {}, str)) for name in "ab")
    await other.until(2)
    assert other.peer.waits
    other.say(
        {"id": other.lines[1]["id"], "result": "second"}, {"id": other.lines[0]["id"], "result": "first"}
    )
    assert not other.peer.waits
    assert (await first, await second) == ("first", "second")


async def test_requests_of_the_other_side_are_answered_as_they_get_done() -> None:
    other = Other()
    other.say(
        {"id": "s", "method": "slow", "params": [1]},
        {"id": None, "method": "quick"},
        {"id": 7, "method": "refused"},
    )
    await other.until(2)
    assert other.lines == [
        {"jsonrpc": "2.0", "id": None, "result": {}},
        {"jsonrpc": "2.0", "id": 7, "error": {"code": -32002, "message": "no"}},
    ]
    other.go.set()
    await other.until(3)
    assert other.lines[2] == {"jsonrpc": "2.0", "id": "s", "result": [1]}
    await other.peer.aclose()


async def test_a_refusal_and_an_answer_of_another_kind_are_errors() -> None:
    other = Other()
    call = asyncio.create_task(other.peer.call("a", {}, int))
    await other.until(1)
    other.say({"id": 0, "error": {"code": -32601, "message": "no such", "data": {"x": 1}}})
    with pytest.raises(RpcError, match="no such") as caught:
        await call
    assert (caught.value.code, json.loads(caught.value.data)) == (-32601, {"x": 1})
    call = asyncio.create_task(other.peer.call("b", {}, int))
    await other.until(2)
    other.say({"id": 1, "result": "seven"})
    with pytest.raises(AgentError, match="answered to b"):
        await call


async def test_whoever_waits_hears_that_the_other_side_is_gone() -> None:
    other = Other()
    calls = [asyncio.create_task(other.peer.call("a", {}, int)) for _ in range(3)]
    await other.until(3)
    other.peer.lose(AgentError("it is gone"))
    other.peer.lose(AgentError("another reason"))
    for call in [*calls, asyncio.create_task(other.peer.call("late", {}, int))]:
        with pytest.raises(AgentError, match="it is gone"):
            await call
    assert len(other.lines) == 3


async def test_a_request_that_is_cancelled_leaves_nothing() -> None:
    other = Other()
    call = asyncio.create_task(other.peer.call("a", {}, int))
    await other.until(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not other.peer.waits
    other.say({"id": 0, "result": 1})
    assert len(other.strays) == 1


@pytest.mark.parametrize("message", [{"method": "broken"}, {"id": 1, "method": "broken"}])
async def test_a_fault_of_ours_is_told_to_whoever_waits(message: object) -> None:
    other = Other()
    call = asyncio.create_task(other.peer.call("a", {}, int))
    await other.until(1)
    other.say(message, {"method": "m", "params": []})
    with pytest.raises(ZeroDivisionError):
        await call
    await other.peer.aclose()


async def test_closing_ends_what_is_being_answered() -> None:
    other = Other()
    other.say({"id": 1, "method": "slow"})
    await asyncio.sleep(0)
    await other.peer.aclose()
    assert other.lines == []
    with pytest.raises(AgentError):
        await other.peer.call("a", {}, int)


@pytest.mark.parametrize(
    "line",
    [
        b"hello",
        b"[]",
        b"7",
        b'"x"',
        b'{"id":[1]}',
        b"{",
        b"\xff\xfe",
        b'{"jsonrpc":"2.0"}',
        b'{"id":null,"error":{"code":-32700,"message":"Parse error"}}',
    ],
)
async def test_lines_that_are_no_message_are_put_aside(line: bytes) -> None:
    other = Other()
    other.peer.feed(line + b"\n\n  \n")
    other.say({"method": "m", "params": []})
    assert (other.strays, other.heard) == ([line], [("m", [])])
