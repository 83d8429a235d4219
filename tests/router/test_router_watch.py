"""The deadlines of a loop share one timer, and each still strikes at its own time."""

from __future__ import annotations

import asyncio
import gc
import math
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_kit import InstantLoop, now

from electrictown.llm.watch import Watch


class _Late(Exception):
    pass


async def _within(seconds: float | None, busy: float, *, start: float = 0.0) -> tuple[float, bool]:
    """When a block of `busy` seconds under a deadline ended after its beginning, and whether by itself."""
    await asyncio.sleep(start)
    began = now()
    try:
        with Watch(asyncio.get_running_loop(), math.inf if seconds is None else began + seconds, _Late):
            await asyncio.sleep(busy)
    except _Late:
        return now() - began, False
    return now() - began, True


_times = st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0, 10.0, 3600.0])


@settings(max_examples=200)
@given(st.lists(st.tuples(st.one_of(st.none(), _times), _times, _times), max_size=8))
def test_every_block_ends_at_its_deadline_or_before_it_by_itself(
    blocks: list[tuple[float | None, float, float]],
) -> None:
    async def all_of_them() -> list[tuple[float, bool]]:
        return await asyncio.gather(*(_within(limit, busy, start=at) for limit, busy, at in blocks))

    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        ends = runner.run(all_of_them())
    for (limit, busy, _), (took, by_itself) in zip(blocks, ends, strict=True):
        if limit is None or busy < limit:
            assert (by_itself, took) == (True, pytest.approx(busy))
        elif limit < busy:
            assert (by_itself, took) == (False, pytest.approx(limit))
        else:  # both in one moment: whichever the loop came to first
            assert took == pytest.approx(busy)


async def test_a_watch_costs_no_timer_of_its_own() -> None:
    loop = asyncio.get_running_loop()
    timers = len(loop._scheduled)  # type: ignore[attr-defined]
    for _ in range(1000):
        with Watch(loop, now() + 120.0, _Late), Watch(loop, now() + 3600.0, _Late):
            pass
    assert len(loop._scheduled) <= timers + 2  # type: ignore[attr-defined]


def test_a_closed_loop_is_not_kept() -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_within(60.0, 0.0))
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None
