"""Streams: chunks, resets, and leaving in every way."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from router_kit import USAGE, Actor, Stage, question, texts

from electrictown.errors import ConnectError, IdleTimeout, IncompleteReplyError, ServerError
from electrictown.events import CallEnded, HopTaken
from electrictown.llm.costs import CostTracker
from electrictown.llm.messages import End, Reset, Usage
from electrictown.llm.router import RetryPolicy
from electrictown.llm.routes import Price

PRICED = {"price": Price(1.0, 10.0), "local": False}


async def test_chunks_come_through_and_end_carries_the_reply() -> None:
    stage = Stage(only=Actor(["a", "b", "c"]))
    chunks = await stage.listen()
    assert texts(chunks) == ["a", "b", "c", "End"]
    assert isinstance(chunks[-1], End)
    assert chunks[-1].response.text == "abc"
    (ended,) = stage.told(CallEnded)
    assert (ended.partial, ended.output_tokens) == (False, 50)
    assert ended.first_token is not None


async def test_a_failure_in_mid_stream_resets_and_starts_again_elsewhere() -> None:
    stage = Stage(first=Actor(["a", "b", IdleTimeout("silent")]), second=Actor(["x", "y"]))
    chunks = await stage.listen()
    assert texts(chunks) == ["a", "b", "Reset", "x", "y", "End"]
    assert chunks[2] == Reset("first: IdleTimeout: silent")
    assert stage.actors["second"].requests[0].messages == stage.actors["first"].requests[0].messages
    assert [(h.failed, h.took_over) for h in stage.told(HopTaken)] == [("first", "second")]


async def test_a_failure_in_mid_stream_resets_and_starts_again_on_the_same_host_without_another() -> None:
    stage = Stage(only=Actor(["a", ServerError("broken")], ["b", ConnectError("lost")], ["c"]))
    assert texts(await stage.listen()) == ["a", "Reset", "b", "Reset", "c", "End"]


async def test_a_failure_before_the_first_chunk_resets_nothing() -> None:
    stage = Stage(first=Actor([ServerError("broken")]), second=Actor(["x"]))
    assert texts(await stage.listen()) == ["x", "End"]


async def test_a_stream_without_its_end_is_an_incomplete_reply() -> None:
    stage = Stage(RetryPolicy(tries=1), only=Actor(["a", "EOF"]))
    with pytest.raises(IncompleteReplyError):
        await stage.listen()
    stage = Stage(first=Actor(["a", "EOF"]), second=Actor(["x"]))
    assert texts(await stage.listen()) == ["a", "Reset", "x", "End"]


async def test_the_slot_is_free_before_the_end_is_read() -> None:
    stage = Stage(settings={"only": {"host_limit": 1}}, only=Actor(["a"]))
    async with stage.router.stream_chat_completion(question(), stage.route) as chunks:
        async for chunk in chunks:
            if isinstance(chunk, End):
                assert stage.idle()
                assert await stage.ask() == "a"


@pytest.mark.parametrize("way", ["break", "raise", "cancel", "never iterated"])
async def test_leaving_a_stream_in_any_way_frees_everything(way: str) -> None:
    actor = Actor(["a", "b", 60.0, "c"], so_far=Usage(input=7, output=2))
    stage = Stage(settings={"only": {"host_limit": 1, **PRICED}}, only=actor)
    tracker = CostTracker()

    async def read() -> None:
        async with stage.router.stream_chat_completion(question(), stage.route, tracker=tracker) as chunks:
            if way == "never iterated":
                return
            async for chunk in chunks:
                if way == "break":
                    break
                if way == "raise":
                    raise KeyError(chunk)

    task = asyncio.create_task(read())
    if way == "cancel":
        await asyncio.sleep(5)
        assert stage.actors["only"].in_flight == 1
        task.cancel()
    await asyncio.wait([task])
    assert stage.idle()
    if way == "never iterated":
        assert not tracker.records
    else:
        (spent,) = tracker.records
        assert (spent.partial, spent.usage.input, spent.usage.output) == (True, 7, 2)
        assert spent.usd == pytest.approx((7 * 1 + 2 * 10) / 1e6)
        assert stage.router.tracker.records == tracker.records
        assert stage.told(CallEnded)[0].partial


async def test_a_cut_stream_of_unknown_usage_costs_an_unknown_sum() -> None:
    stage = Stage(RetryPolicy(tries=1), settings={"only": PRICED}, only=Actor(["a", ServerError("cut")]))
    with pytest.raises(ServerError):
        await stage.listen()
    total = stage.router.tracker.summary().total
    assert (total.requests, total.usd, total.known_usd, total.partial) == (1, None, 0.0, 1)


async def test_a_request_that_was_refused_costs_nothing() -> None:
    stage = Stage(RetryPolicy(tries=1), settings={"only": PRICED}, only=Actor(ServerError("no", status=500)))
    with pytest.raises(ServerError):
        await stage.ask()
    assert not stage.router.tracker.records
    assert stage.told(CallEnded)[0].usd == 0.0


async def test_every_hop_of_a_stream_is_billed() -> None:
    stage = Stage(
        settings={"first": PRICED, "second": PRICED},
        first=Actor(["a", ServerError("cut")], so_far=Usage(input=10, output=1)),
        second=Actor(["x"], usage=USAGE),
    )
    await stage.listen()
    first, second = stage.router.tracker.records
    assert (first.provider, first.partial, first.usd) == ("first", True, pytest.approx(20e-6))
    assert (second.provider, second.partial, second.usd) == ("second", False, pytest.approx(600e-6))


async def test_a_stream_may_be_read_by_hand_and_closed_early() -> None:
    stage = Stage(only=Actor(["a", "b"]))
    async with stage.router.stream_chat_completion(question(), stage.route) as chunks:
        assert texts([await anext(chunks)]) == ["a"]
        async with aclosing(chunks):  # pyright: ignore[reportArgumentType]  (it is a generator)
            pass
    assert stage.idle()


async def test_a_host_that_has_begun_to_answer_lets_others_through_while_it_streams() -> None:
    """A half-open breaker closes with the probe's first chunk, not after minutes of streaming."""
    stage = Stage(RetryPolicy(tries=1), only=Actor(*[ServerError("down")] * 5, ["a", 60.0, "b"], ["x"]))
    for _ in range(5):
        with pytest.raises(ServerError):
            await stage.ask()
    assert stage.admission.delay(stage.targets["only"]) > 0
    async with stage.router.stream_chat_completion(question(), stage.route) as chunks:
        assert texts([await anext(chunks)]) == ["a"]
        assert stage.admission.delay(stage.targets["only"]) == 0
        assert await stage.ask() == "x"
        assert texts([c async for c in chunks]) == ["b", "End"]
