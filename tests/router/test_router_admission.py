"""Slots, breaker, cooldown, speed."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_kit import Actor, InstantLoop, Stage, now, question, target

from electrictown.errors import (
    AuthError,
    BadReplyError,
    ConnectError,
    FirstTokenTimeout,
    OverloadedError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from electrictown.llm.admission import MemoryAdmission
from electrictown.llm.messages import Usage
from electrictown.llm.router import RetryPolicy


async def _fail(admission: MemoryAdmission, error: ProviderError, pause: float = 0.0) -> bool:
    async with admission.admit(target("a"), question()) as lease:
        if lease is not None:
            lease.failed(error, pause=pause)
        return lease is not None


async def _succeed(admission: MemoryAdmission) -> bool:
    async with admission.admit(target("a"), question()) as lease:
        if lease is not None:
            lease.finished(Usage(output=10), 0.0, 1.0)
        return lease is not None


async def test_slots_are_given_in_turn_and_shared_by_the_targets_of_a_host() -> None:
    admission = MemoryAdmission()
    order: list[int] = []
    running = peak = 0

    async def call(number: int) -> None:
        nonlocal running, peak
        one = target(f"t{number % 3}", host="box", host_limit=2)
        async with admission.admit(one, question()):
            order.append(number)
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(1)
            running -= 1

    await asyncio.gather(*(call(n) for n in range(10)))
    assert order == list(range(10))
    assert peak == 2


async def test_a_host_without_a_limit_takes_everyone() -> None:
    stage = Stage(only=Actor(5.0))
    await asyncio.gather(*(stage.ask() for _ in range(50)))
    assert stage.actors["only"].peak == 50


@settings(max_examples=60, deadline=None)
@given(
    limit=st.integers(1, 3),
    callers=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 4), st.none() | st.integers(0, 12)),
        min_size=1,
        max_size=12,
    ),
)
def test_no_cancellation_ever_loses_or_leaks_a_slot(
    limit: int, callers: list[tuple[int, int, int | None]]
) -> None:
    """Each caller comes at a time, holds its slot for a while, and may be cancelled at a time."""

    async def main() -> None:
        admission = MemoryAdmission()
        box = target("t", host="box", host_limit=limit)
        running = 0

        async def call(comes: int, holds: int) -> None:
            nonlocal running
            await asyncio.sleep(comes)
            async with admission.admit(box, question()):
                running += 1
                assert running <= limit
                try:
                    await asyncio.sleep(holds)
                finally:
                    running -= 1

        tasks: list[asyncio.Task[None]] = []
        for comes, holds, cancelled in callers:
            task = asyncio.create_task(call(comes, holds))
            if cancelled is not None:
                asyncio.get_running_loop().call_later(cancelled, task.cancel)
            tasks.append(task)
        async with asyncio.timeout(1000):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results)
        assert admission._own.idle

    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        runner.run(main())


@pytest.mark.parametrize(
    "kind", [ServerError, ConnectError, OverloadedError, FirstTokenTimeout, BadReplyError]
)
async def test_failures_of_a_host_in_a_row_open_its_breaker(kind: type[ProviderError]) -> None:
    admission = MemoryAdmission(failures=3, pause=5.0)
    for _ in range(2):
        await _fail(admission, kind("down"))
    assert admission.delay(target("a")) == 0
    await _fail(admission, kind("down"))
    assert admission.delay(target("a")) == pytest.approx(5)
    trouble = admission.trouble(target("a"))
    assert trouble is not None
    assert trouble.type == kind.__name__
    assert not await _succeed(admission)


@pytest.mark.parametrize("kind", [RateLimitError, AuthError])
async def test_a_host_that_refuses_is_not_down(kind: type[ProviderError]) -> None:
    admission = MemoryAdmission(failures=2)
    for _ in range(5):
        await _fail(admission, kind("no"))
    assert admission.delay(target("a")) == 0
    await _fail(admission, ServerError("down"))
    await _fail(admission, kind("no"))  # an answer, so the count begins anew
    await _fail(admission, ServerError("down"))
    assert admission.delay(target("a")) == 0


async def test_a_success_between_failures_keeps_the_breaker_closed() -> None:
    admission = MemoryAdmission(failures=2)
    for _ in range(5):
        await _fail(admission, ServerError("down"))
        await _succeed(admission)
    assert admission.delay(target("a")) == 0
    assert admission.trouble(target("a")) is None


async def test_each_failed_probe_doubles_the_pause_up_to_its_bound() -> None:
    admission = MemoryAdmission(failures=1, pause=5.0, longest_pause=30.0)
    pauses: list[float] = []
    for _ in range(5):
        assert await _fail(admission, ServerError("down"))
        pauses.append(admission.delay(target("a")))
        await asyncio.sleep(pauses[-1])
    assert pauses == [pytest.approx(p) for p in (5, 10, 20, 30, 30)]
    assert await _succeed(admission)
    await _fail(admission, ServerError("down"))
    assert admission.delay(target("a")) == pytest.approx(5)


async def test_half_open_lets_one_probe_through_and_its_success_lets_in_the_rest() -> None:
    stage = Stage(
        RetryPolicy(tries=1),
        MemoryAdmission(failures=1, pause=5.0),
        only=Actor(ServerError("down"), 2.0, "up"),
    )
    with pytest.raises(ServerError):
        await stage.ask()
    stage.actors["only"].peak = 0
    start = now()
    results = await asyncio.gather(*(stage.ask() for _ in range(4)))
    assert results == ["", "up", "up", "up"]
    times = [t - start for t in stage.actors["only"].times[1:]]
    assert times == [pytest.approx(5), pytest.approx(7), pytest.approx(7), pytest.approx(7)]
    assert stage.idle()


async def test_a_breaker_belongs_to_one_model_of_one_host() -> None:
    admission = MemoryAdmission(failures=1)
    await _fail(admission, ServerError("down"))
    assert admission.delay(target("a")) > 0
    assert admission.delay(target("a", model="other")) == 0
    assert admission.delay(target("a", host="other")) == 0


async def test_an_open_breaker_sends_calls_to_the_fallback_and_is_waited_for_without_one() -> None:
    admission = MemoryAdmission(failures=1, pause=5.0)
    stage = Stage(
        RetryPolicy(tries=1), admission, first=Actor(ServerError("down"), "one"), second=Actor("two")
    )
    assert await stage.ask() == "two"
    assert await stage.ask() == "two"
    start = now()
    only = stage.route.only(stage.targets["first"])
    assert (await stage.router.chat_completion(question(), only)).text == "one"
    assert now() - start == pytest.approx(5)


async def test_nothing_is_held_while_something_is_waited_for() -> None:
    """Calls that wait for a cooling model leave their host's slot to the other model."""
    box = {"host": "box", "host_limit": 1}
    stage = Stage(
        settings={"cool": box, "well": box},
        cool=Actor(RateLimitError("slow", retry_after=50), "one"),
        well=Actor("two"),
    )
    cool = stage.route.only(stage.targets["cool"])
    waiting = [asyncio.create_task(stage.router.chat_completion(question(), cool)) for _ in range(3)]
    await asyncio.sleep(1)
    start = now()
    assert (await stage.router.chat_completion(question("well"))).text == "two"
    assert now() == start
    assert [r.text for r in await asyncio.gather(*waiting)] == ["one"] * 3


async def test_a_slot_that_comes_after_its_target_went_down_is_given_back() -> None:
    box = {"host": "box", "host_limit": 1}
    stage = Stage(
        RetryPolicy(tries=1),
        MemoryAdmission(failures=1, pause=30.0),
        settings={"first": box},
        first=Actor([5.0, ServerError("down")]),
        second=Actor("two"),
    )
    assert await asyncio.gather(*(stage.ask() for _ in range(4))) == ["two"] * 4
    assert len(stage.actors["first"].requests) == 1
    assert stage.idle()


async def test_speed_is_measured_from_whole_replies_the_newest_counting_most() -> None:
    stage = Stage(only=Actor([2.0, "a"], [ServerError("cut")], [4.0, "b"]))
    only = stage.targets["only"]
    assert stage.admission.speed(only) is None
    await stage.ask()
    speed = stage.admission.speed(only)
    assert speed is not None
    assert (speed.tokens_per_second, speed.seconds, speed.calls) == (pytest.approx(25), pytest.approx(2), 1)
    await stage.ask()
    speed = stage.admission.speed(only)
    assert speed is not None
    assert 12.5 < speed.tokens_per_second < 25
    assert 2 < speed.seconds < 4
    assert speed.calls == 2


async def test_the_time_spent_waiting_for_a_slot_is_not_the_hosts_slowness() -> None:
    stage = Stage(settings={"only": {"host_limit": 1}}, only=Actor([2.0, "a"]))
    await asyncio.gather(*(stage.ask() for _ in range(5)))
    speed = stage.admission.speed(stage.targets["only"])
    assert speed is not None
    assert speed.seconds == pytest.approx(2)


async def test_insisting_asks_in_spite_of_everything() -> None:
    admission = MemoryAdmission(failures=1)
    await _fail(admission, ServerError("down"), pause=500)
    async with admission.admit(target("a"), question(), insist=True) as lease:
        assert lease is not None
        lease.finished(None, None, 1.0)
    assert admission.delay(target("a")) == 0
