"""Retry-After, backoff, cooling targets, deadlines: when a call waits and when it gives up."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from router_kit import Actor, Stage, now, question, texts

from electrictown.errors import (
    ConnectError,
    DeadlineError,
    OverloadedError,
    QuotaError,
    RateLimitError,
    ServerError,
)
from electrictown.events import CallEnded, CallStarted, HopTaken, Waiting
from electrictown.llm.admission import MemoryAdmission
from electrictown.llm.router import RetryPolicy


async def test_retry_after_is_honoured_without_a_fallback() -> None:
    stage = Stage(only=Actor(RateLimitError("slow", retry_after=20), "yes"))
    start = now()
    assert await stage.ask(role="mayor", subtask="2") == "yes"
    assert now() - start == pytest.approx(20)
    (waiting,) = stage.told(Waiting)
    assert (waiting.model, waiting.seconds, waiting.role, waiting.subtask) == ("only", 20, "mayor", "2")
    assert waiting.limited


async def test_a_host_that_cannot_be_reached_is_waited_for_and_has_set_no_limit() -> None:
    stage = Stage(only=Actor(ConnectError("no route"), "yes"))
    assert await stage.ask() == "yes"
    (waiting,) = stage.told(Waiting)
    assert not waiting.limited


async def test_a_retry_after_beyond_the_cap_is_given_back_at_once() -> None:
    stage = Stage(only=Actor(RateLimitError("slow", retry_after=61), "yes"))
    start = now()
    with pytest.raises(RateLimitError) as caught:
        await stage.ask()
    assert (caught.value.retry_after, now() - start) == (61, 0)


async def test_with_a_fallback_nobody_waits_and_later_calls_skip_the_cooling_target() -> None:
    stage = Stage(first=Actor(RateLimitError("slow", retry_after=300), "one"), second=Actor("two"))
    start = now()
    assert await stage.ask() == "two"
    assert await stage.ask() == "two"
    assert now() == start
    assert len(stage.actors["first"].requests) == 1
    skipped = stage.told(HopTaken)[-1]
    assert (skipped.failed, skipped.took_over) == ("first", "second")
    assert skipped.error.message == "left alone for 300 s more: slow"
    await asyncio.sleep(300)
    assert await stage.ask() == "one"


async def test_an_overloaded_host_that_says_when_is_cooled_too() -> None:
    stage = Stage(first=Actor(OverloadedError("busy", retry_after=30), "one"), second=Actor("two"))
    assert await stage.ask() == "two"
    assert await stage.ask() == "two"
    assert len(stage.actors["first"].requests) == 1


async def test_a_cooling_target_is_waited_for_when_there_is_no_other() -> None:
    stage = Stage(only=Actor(RateLimitError("slow", retry_after=10), "yes"))
    start = now()
    assert [await r for r in [stage.ask(), stage.ask()]] == ["yes", "yes"]
    stage = Stage(only=Actor(RateLimitError("slow", retry_after=10), "yes"))
    start = now()
    first = asyncio.create_task(stage.ask())
    await asyncio.sleep(1)
    assert await stage.ask() == "yes"
    assert await first == "yes"
    assert now() - start == pytest.approx(10)
    assert len(stage.actors["only"].requests) == 3
    assert stage.idle()


async def test_the_earliest_of_several_cooling_targets_is_waited_for() -> None:
    stage = Stage(
        first=Actor(RateLimitError("slow", retry_after=50), "one"),
        second=Actor(RateLimitError("slow", retry_after=20), "two"),
    )
    start = now()
    assert await stage.ask() == "two"
    assert now() - start == pytest.approx(20)


async def test_something_is_really_tried_even_when_all_cool_for_longer_than_the_cap() -> None:
    stage = Stage(only=Actor(RateLimitError("slow", retry_after=3000), "yes"))
    with pytest.raises(RateLimitError):
        await stage.ask()
    assert await stage.ask() == "yes"
    assert stage.admission.delay(stage.targets["only"]) == 0.0


async def test_a_spent_quota_is_not_waited_for() -> None:
    stage = Stage(only=Actor(QuotaError("no money")))
    for _ in range(2):
        start = now()
        with pytest.raises(QuotaError):
            await stage.ask()
        assert now() == start


async def test_tries_are_bounded_and_the_backoff_grows_up_to_its_bound() -> None:
    policy = RetryPolicy(tries=6, base_delay=1.0, longest_delay=4.0)
    waits: list[list[float]] = []
    for _ in range(40):
        stage = Stage(policy, MemoryAdmission(failures=100), only=Actor(ServerError("broken")))
        with pytest.raises(ServerError):
            await stage.ask()
        times = stage.actors["only"].times
        waits.append([b - a for a, b in pairwise(times)])
    assert {len(w) for w in waits} == {5}
    for position, bound in enumerate([1.0, 2.0, 4.0, 4.0, 4.0]):
        column = [w[position] for w in waits]
        assert max(column) <= bound + 0.001
        assert max(column) > bound / 2  # jitter over the whole range: 40 draws, wrong once in 2**40
        assert min(column) < bound / 2


@pytest.mark.usefixtures("no_jitter")
async def test_rate_limits_get_more_patience_than_failures() -> None:
    policy = RetryPolicy(tries=2, rate_limit_tries=6)
    stage = Stage(policy, only=Actor(*[RateLimitError("slow")] * 5, "yes"))
    assert await stage.ask() == "yes"
    assert len(stage.told(Waiting)) == 5


async def test_the_deadline_ends_a_call_that_is_not_answered() -> None:
    stage = Stage(RetryPolicy(deadline=5.0), settings={"only": {"host_limit": 1}}, only=Actor(60.0))
    start = now()
    with pytest.raises(DeadlineError, match="no reply within 5 s: only had not ended its reply") as caught:
        await stage.ask()
    assert now() - start == pytest.approx(5)
    assert caught.value.exit_code == 75
    assert stage.idle()
    assert stage.told(CallEnded)[0].error.type == "CancelledError"


async def test_the_deadline_tells_what_was_tried() -> None:
    stage = Stage(RetryPolicy(deadline=5.0), first=Actor(ServerError("broken")), second=Actor(60.0))
    with pytest.raises(DeadlineError, match=r"second had not ended .* \(asked: first: ServerError: broken\)"):
        await stage.ask()


async def test_the_deadline_holds_while_waiting_for_a_slot() -> None:
    stage = Stage(RetryPolicy(deadline=5.0), settings={"only": {"host_limit": 1}}, only=Actor(3.0, 60.0))
    results = await asyncio.gather(stage.ask(), stage.ask(), stage.ask(), return_exceptions=True)
    assert results[0] == ""
    assert "had not ended its reply" in str(results[1])
    assert "had no free slot" in str(results[2])
    assert stage.idle()


async def test_nobody_waits_for_a_time_beyond_the_deadline() -> None:
    stage = Stage(RetryPolicy(deadline=5.0), only=Actor(RateLimitError("slow", retry_after=20)))
    start = now()
    with pytest.raises(RateLimitError):
        await stage.ask()
    assert now() == start


async def test_a_call_without_a_deadline_waits_as_long_as_it_takes() -> None:
    stage = Stage(RetryPolicy(deadline=None), only=Actor([100_000.0, "yes"]))
    assert await stage.ask() == "yes"


async def test_a_deadline_does_not_hide_a_cancellation_from_outside() -> None:
    stage = Stage(RetryPolicy(deadline=5.0), only=Actor(60.0))
    task = asyncio.create_task(stage.ask())
    loop = asyncio.get_running_loop()
    loop.call_at(loop.time() + 5.0, task.cancel)  # in the same moment as the deadline
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stage.idle()


async def test_an_outer_timeout_stays_an_outer_timeout() -> None:
    stage = Stage(RetryPolicy(deadline=5.0), only=Actor(60.0))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await stage.ask()
    assert stage.idle()


async def test_the_deadline_of_a_stream_holds_between_chunks_and_is_told_to_a_slow_reader() -> None:
    stage = Stage(RetryPolicy(deadline=5.0), only=Actor(["a", 60.0, "b"], ["a", "b"]))
    with pytest.raises(DeadlineError):
        await stage.listen()
    async with stage.router.stream_chat_completion(question(), stage.route) as chunks:
        assert texts([await anext(chunks)]) == ["a"]
        await asyncio.sleep(6)  # the reader's own time is never cut
        with pytest.raises(DeadlineError):
            await anext(chunks)
    assert stage.idle()


async def test_the_deadline_strikes_whoever_waits_for_the_chunk() -> None:
    stage = Stage(RetryPolicy(deadline=5.0), only=Actor(["a", 60.0, "b"]))
    async with stage.router.stream_chat_completion(question(), stage.route) as chunks:
        assert texts([await anext(chunks)]) == ["a"]
        other = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(10)  # this task is not struck
        with pytest.raises(DeadlineError):
            await other
    assert stage.idle()


async def test_waiting_is_told_before_the_wait_and_each_try_is_told() -> None:
    stage = Stage(only=Actor(RateLimitError("slow", retry_after=5), "yes"))
    await stage.ask()
    kinds = [type(e) for e in stage.events]
    assert kinds == [CallStarted, CallEnded, Waiting, CallStarted, CallEnded]


async def test_a_host_that_is_away_is_not_waited_for_through_every_pause_of_its_breaker() -> None:
    away = ServerError("away")
    stage = Stage(only=Actor(*[away] * 20), admission=MemoryAdmission(failures=2, pause=5))
    start = now()
    for _ in range(4):
        with pytest.raises(ServerError):
            await stage.ask()
    # 5 and 10 seconds are worth a wait, 20 and 40 are not.
    assert now() - start < 4 * 16
    assert all(waiting.seconds <= 15 for waiting in stage.told(Waiting))
