"""The crew: who is free, who is best, and that places are always given back."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

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


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def _idle(crew: Crew) -> bool:
    """Whether nobody waits, no timer runs and no place is taken."""
    return not crew._lines and crew._alarm is None and not +crew._busy and not +crew._host_busy


async def test_a_freed_place_goes_to_the_longest_waiting_of_those_it_suits() -> None:
    a, b = target("a"), target("b")
    crew, _ = crew_of(a, b)
    served: list[str] = []

    async def job(name: str, candidates: list[Target], tried: tuple[str, ...] = ()) -> None:
        async with crew.member(candidates, tried) as member:
            served.append(f"{name} by {member.label if member else None}")

    async with AsyncExitStack() as held:
        await held.enter_async_context(crew.member([a], ()))
        async with crew.member([b], ()):
            jobs = [
                asyncio.create_task(job("first", [a])),
                asyncio.create_task(job("second", [a, b], ("b",))),
                asyncio.create_task(job("third", [a, b])),
                asyncio.create_task(job("fourth", [a, b])),
            ]
            await _settle()
        await _settle()
        assert served == ["third by b", "fourth by b"]
    await asyncio.gather(*jobs)
    assert served[2:] == ["first by a", "second by a"]
    assert _idle(crew)


async def test_a_place_that_comes_with_a_cancellation_is_passed_on() -> None:
    crew, route = crew_of(target("a"))
    async with crew.member(route.pool, ()):
        first, second = (asyncio.create_task(took(crew, route)) for _ in range(2))
        await _settle()
    first.cancel()  # it was handed the place, and has not run since
    assert await second == "a"
    assert first.cancelled()
    assert _idle(crew)


async def test_who_is_cancelled_leaves_the_line_and_its_timer() -> None:
    crew, route = crew_of(target("a"), target("b"), cold={"a": 50.0})
    async with crew.member(route.pool, ()):
        waiting = [asyncio.create_task(took(crew, route)) for _ in range(3)]
        await _settle()
        assert crew._alarm is not None
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert not crew._lines
        assert crew._alarm is None
    assert _idle(crew)


async def test_benching_a_busy_member_leaves_the_cold_one_to_those_who_wait() -> None:
    a, b = target("a"), target("b")
    crew, route = crew_of(a, b, cold={"b": 50.0})
    async with crew.member(route.pool, ()) as first:
        assert first is a
        waiting = asyncio.create_task(took(crew, route))
        await _settle()
        assert not waiting.done()
        crew.bench(a, AuthError("no key"))
        assert await asyncio.wait_for(waiting, 1) == "b"


async def test_those_who_wait_for_different_members_are_served_in_the_order_they_came() -> None:
    a, b = target("a"), target("b")
    crew, _ = crew_of(a, b)
    served: list[int] = []

    async def job(number: int, candidates: list[Target]) -> None:
        async with crew.member(candidates, ()):
            served.append(number)
            await asyncio.sleep(0)

    async with crew.member([b], ()):
        async with crew.member([a], ()):
            wanted = ([a], [a, b], [a], [a, b], [a])
            jobs = [asyncio.create_task(job(number, what)) for number, what in enumerate(wanted)]
            await _settle()
        await asyncio.gather(*jobs)
    assert served == [0, 1, 2, 3, 4]


async def test_benching_sends_those_who_wait_to_the_others_in_their_order() -> None:
    a, b = target("a"), target("b")
    crew, route = crew_of(a, b)
    served: list[str] = []

    async def job(name: str, candidates: list[Target]) -> None:
        async with crew.member(candidates, ()) as member:
            served.append(f"{name} by {member.label if member else None}")

    async with AsyncExitStack() as held:
        for _ in range(2):
            await held.enter_async_context(crew.member(route.pool, ()))
        jobs = [
            asyncio.create_task(job("first", [a, b])),
            asyncio.create_task(job("second", [b])),
            asyncio.create_task(job("third", [a])),
            asyncio.create_task(job("fourth", [a, b])),
        ]
        await _settle()
        crew.bench(a, AuthError("no key"))
        await _settle()
        assert served == ["third by None"]
    await asyncio.gather(*jobs)
    assert served[1:] == ["first by b", "second by b", "fourth by b"]
    assert _idle(crew)


async def test_each_is_given_the_member_with_its_own_settings() -> None:
    plain, exact = target("a"), replace(target("a"), temperature=0.0)
    crew, _ = crew_of(plain)

    async def temperature(member: Target) -> float | None:
        async with crew.member([member], ()) as given:
            assert given is not None
            await asyncio.sleep(0)
            return given.temperature

    assert await asyncio.gather(*map(temperature, (plain, exact, plain))) == [None, 0.0, None]


async def test_members_of_one_machine_share_its_limit_under_two_names() -> None:
    one, other = (replace(target(n, host_limit=1), address="box:11434") for n in ("one", "other"))
    crew, route = crew_of(one, other)
    async with crew.member(route.pool, ()):
        waiting = asyncio.create_task(took(crew, route))
        await _settle()
        assert not waiting.done()
    assert await waiting is not None


async def test_the_work_of_handing_on_grows_with_the_callers_and_no_faster() -> None:
    async def looks(callers: int) -> int:
        looked = 0

        def cooling(_: Target) -> float:
            nonlocal looked
            looked += 1
            return 0.0

        pool = [target(f"m{i}") for i in range(4)]
        crew = Crew([Route("p", pool[0], tuple(pool))], speed=lambda _: None, cooling=cooling, emit=ignore)

        async def job() -> None:
            async with crew.member(pool, ()):
                await asyncio.sleep(0)

        await asyncio.gather(*(job() for _ in range(callers)))
        assert _idle(crew)
        return looked

    few, many = await looks(100), await looks(400)
    assert many < 4.5 * few


_jobs = st.lists(
    st.tuples(
        st.sets(st.integers(0, 3), min_size=1),  # candidates
        st.sets(st.integers(0, 3)),  # tried before
        st.integers(0, 3),  # comes after so many turns of the loop
        st.integers(0, 3),  # holds for so many
        st.none() | st.integers(0, 8),  # is cancelled after so many
    ),
    max_size=14,
)


@given(
    st.lists(st.tuples(st.integers(1, 2), st.integers(0, 1)), min_size=4, max_size=4),
    st.integers(1, 2),
    _jobs,
    st.none() | st.tuples(st.integers(0, 6), st.integers(0, 3)),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3))),
)
def test_no_wake_up_is_lost_whoever_waits_for_whom(
    members: list[tuple[int, int]],
    host_limit: int,
    wanted: list[tuple[set[int], set[int], int, int, int | None]],
    bench: tuple[int, int] | None,
    colds: list[tuple[int, int]],
) -> None:
    async def scenario() -> None:
        pool = [
            target(f"m{i}", host=f"h{host}", limit=limit, host_limit=host_limit)
            for i, (limit, host) in enumerate(members)
        ]
        loop = asyncio.get_running_loop()
        until = {f"m{i}": loop.time() + ticks / 1000 for i, ticks in colds}
        crew = Crew(
            [Route("p", pool[0], tuple(pool))],
            speed=lambda _: None,
            cooling=lambda t: max(0.0, until.get(t.label, 0.0) - loop.time()),
            emit=ignore,
        )
        busy: Counter[str] = Counter()

        async def job(candidates: set[int], tried: set[int], comes: int, holds: int) -> None:
            for _ in range(comes):
                await asyncio.sleep(0)
            given = [pool[i] for i in sorted(candidates)]
            async with crew.member(given, {f"m{i}" for i in tried}) as member:
                if member is None:
                    return
                assert member in given
                assert member.label not in {f"m{i}" for i in tried}
                busy[member.label] += 1
                busy[member.host] += 1
                assert busy[member.label] <= member.limit
                assert busy[member.host] <= host_limit
                try:
                    for _ in range(holds):
                        await asyncio.sleep(0)
                finally:
                    busy[member.label] -= 1
                    busy[member.host] -= 1

        jobs = [asyncio.create_task(job(*what[:4])) for what in wanted]
        for tick in range(9):
            for one, (*_, cancelled) in zip(jobs, wanted, strict=True):
                if cancelled == tick:
                    one.cancel()
            if bench is not None and bench[0] == tick:
                crew.bench(pool[bench[1]], AuthError("no key"))
            await asyncio.sleep(0)
        async with asyncio.timeout(2):
            results = await asyncio.gather(*jobs, return_exceptions=True)
        assert all(r is None or isinstance(r, asyncio.CancelledError) for r in results), results
        assert _idle(crew)

    asyncio.run(scenario())
