"""Cancelled at any await point, a call gives everything back, and others go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from router_kit import Actor, Stage

from electrictown.errors import RateLimitError, ServerError
from electrictown.llm.admission import MemoryAdmission
from electrictown.llm.router import RetryPolicy


def _stage() -> Stage:
    """One slot for everybody, a breaker that opens at once, failures, cooling, a broken stream."""
    one = {"host": "box", "host_limit": 1}
    return Stage(
        RetryPolicy(tries=4, deadline=500.0),
        MemoryAdmission(failures=1, pause=2.0),
        settings={"first": one, "second": one},
        first=Actor(
            RateLimitError("slow", retry_after=3), ServerError("down"), ["a", ServerError("cut")], ["x", "y"]
        ),
        second=Actor(ServerError("down"), ["b", "EOF"], ["z"]),
    )


ASK: dict[str, Callable[[Stage], Awaitable[object]]] = {
    "whole": lambda stage: stage.ask(),
    "stream": lambda stage: stage.listen(),
}


@pytest.mark.parametrize("how", ASK)
async def test_cancelled_after_any_number_of_steps_nothing_is_held(how: str) -> None:
    steps, ended = 0, False
    while not ended:
        stage = _stage()
        others = [asyncio.create_task(stage.listen()) for _ in range(2)]
        task = asyncio.ensure_future(ASK[how](stage))
        for step in range(steps):
            await asyncio.sleep(0.5 if step % 8 == 7 else 0)
        ended = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or ended
        await asyncio.wait(others, timeout=1000)
        assert all(t.done() for t in others)
        assert stage.idle(), f"after {steps} steps"
        if stage.admission.delay(stage.targets["second"]):
            await asyncio.sleep(60)
        assert isinstance(await stage.ask(), str)
        steps += 1
    assert steps > 20


@pytest.mark.parametrize("how", ASK)
async def test_a_cancelled_probe_lets_the_next_one_probe(how: str) -> None:
    stage = Stage(
        RetryPolicy(tries=1), MemoryAdmission(failures=1), only=Actor(ServerError("down"), 60.0, "up")
    )
    with pytest.raises(ServerError):
        await stage.ask()
    await asyncio.sleep(5)
    probe = asyncio.ensure_future(ASK[how](stage))
    await asyncio.sleep(1)
    waiting = asyncio.create_task(stage.ask())
    await asyncio.sleep(1)
    assert len(stage.actors["only"].requests) == 2
    probe.cancel()
    start = asyncio.get_running_loop().time()
    assert await waiting == "up"
    assert asyncio.get_running_loop().time() == start  # woken, not slept out
    assert stage.idle()
