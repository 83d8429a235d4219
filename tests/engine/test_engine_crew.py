"""The crew: who is free, who is best, and that places are always given back."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from electrictown.engine.crew import Crew, members_of
from electrictown.errors import AuthError
from electrictown.events import Event, HostBenched, ignore
from electrictown.llm.routes import Route, Target


def target(name: str, *, host: str = "", limit: int = 1, host_limit: int | None = None) -> Target:
    return Target(
        alias=name, provider=host or name, model=name, host=host or name, limit=limit, host_limit=host_limit
    )


def crew_of(
    *pool: Target, speeds: dict[str, float] | None = None, cold: dict[str, float] | None = None
) -> tuple[Crew, Route]:
    route = Route("polecat", pool[0], pool)
    speeds, cold = speeds or {}, cold or {}
    crew = Crew(
        [route], speed=lambda t: speeds.get(t.label), cooling=lambda t: cold.get(t.label, 0.0), emit=ignore
    )
    return crew, route


async def took(crew: Crew, route: Route, tried: tuple[str, ...] = ()) -> str | None:
    async with crew.member(members_of(route), tried) as member:
        return member.label if member else None


async def test_work_goes_to_the_fastest_free_member_and_to_unmeasured_ones_first() -> None:
    a, b, c = target("a"), target("b"), target("c")
    crew, route = crew_of(a, b, c, speeds={"a": 5.0, "b": 50.0, "c": 20.0})
    async with AsyncExitStack() as stack:
        order = [await stack.enter_async_context(crew.member(route.pool, ())) for _ in range(3)]
    assert [m.label for m in order if m] == ["b", "c", "a"]
    crew, route = crew_of(a, b, speeds={"b": 50.0})
    assert await took(crew, route) == "a"


async def test_the_same_alias_twice_is_two_places_and_max_in_flight_multiplies() -> None:
    a = target("a", limit=2)
    crew, route = crew_of(a, a, target("b"))
    assert crew.places == 5
    assert [m.label for m in members_of(route)] == ["a", "b"]


async def test_two_members_on_one_host_share_its_limit() -> None:
    a, b = target("a", host="h", host_limit=1), target("b", host="h", host_limit=1)
    crew, route = crew_of(a, b)
    async with crew.member(route.pool, ()) as first:
        assert first is not None
        second = asyncio.create_task(took(crew, route))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not second.done()
    assert await second is not None


async def test_nobody_is_left_when_all_were_tried_or_benched() -> None:
    told: list[Event] = []
    a, b = target("a"), target("b")
    route = Route("polecat", a, (a, b))
    crew = Crew([route], speed=lambda _: None, cooling=lambda _: 0.0, emit=told.append)
    crew.bench(a, AuthError("no key"))
    crew.bench(a, AuthError("no key"))
    assert await took(crew, route, ("b",)) is None
    assert [type(e) for e in told] == [HostBenched]
    assert isinstance(crew.benched(a), AuthError)


async def test_benching_wakes_those_who_waited_for_that_member_alone() -> None:
    a = target("a")
    crew, route = crew_of(a)
    async with crew.member(route.pool, ()):
        waiting = asyncio.create_task(took(crew, route))
        await asyncio.sleep(0)
        crew.bench(a, AuthError("no key"))
        assert await waiting is None


async def test_a_cooling_member_is_left_alone_while_another_is_busy_and_used_when_it_has_cooled() -> None:
    cold = {"a": 0.01}
    crew, route = crew_of(target("a"), target("b"), cold=cold)
    async with crew.member(route.pool, ()) as first:
        assert first is not None
        assert first.label == "b"
        waiting = asyncio.create_task(took(crew, route))
        await asyncio.sleep(0)
        assert not waiting.done()
        cold.clear()
        assert await waiting == "a"


async def test_when_all_are_cooling_the_least_cold_is_taken() -> None:
    crew, route = crew_of(target("a"), target("b"), cold={"a": 9.0, "b": 2.0})
    assert await took(crew, route) == "b"


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=20))
def test_limits_hold_and_no_place_is_lost_whatever_is_cancelled(
    limits: list[int], cancelled: list[int]
) -> None:
    async def scenario() -> None:
        pool = [target(f"m{i}", limit=limit) for i, limit in enumerate(limits)]
        crew, route = crew_of(*pool)
        busy: Counter[str] = Counter()
        peak: Counter[str] = Counter()

        async def job() -> None:
            async with crew.member(route.pool, ()) as member:
                assert member is not None
                busy[member.label] += 1
                peak[member.label] = max(peak[member.label], busy[member.label])
                try:
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                finally:
                    busy[member.label] -= 1

        jobs = [asyncio.create_task(job()) for _ in range(20)]
        for victim in cancelled:
            await asyncio.sleep(0)
            jobs[victim * 5].cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        assert all(peak[m.label] <= m.limit for m in pool)
        async with AsyncExitStack() as stack:  # every place can be taken again
            for _ in range(crew.places):
                await asyncio.wait_for(stack.enter_async_context(crew.member(route.pool, ())), 1)

    asyncio.run(scenario())


async def test_an_exception_inside_gives_the_place_back() -> None:
    crew, route = crew_of(target("a"))
    with pytest.raises(ValueError, match="x"):
        async with crew.member(route.pool, ()):
            raise ValueError("x")
    assert await took(crew, route) == "a"
