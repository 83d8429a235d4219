"""The ledger's sums."""

from __future__ import annotations

import pytest
from router_kit import Actor, Stage, reply

from electrictown.llm.costs import CostTracker
from electrictown.llm.messages import Usage
from electrictown.llm.routes import Price
from electrictown.work import Cost


def test_costs_are_summed_by_role_provider_and_model() -> None:
    tracker = CostTracker()
    tracker.record("mayor", "cloud", "big", Usage(input=10, output=5, reasoning=2), 0.5)
    tracker.record("polecat", "cloud", "small", Usage(input=1, cache_read=2, cache_write=3, output=4), 0.25)
    tracker.record("polecat", "box", "small", Usage(input=100, output=100), 0.0)
    summary = tracker.summary()
    assert (summary.total_cost, summary.total_requests, summary.total_tokens) == (0.75, 3, 225)
    assert [(c.name, c.requests, c.usd) for c in summary.by_role] == [("mayor", 1, 0.5), ("polecat", 2, 0.25)]
    assert [(c.name, c.usd) for c in summary.by_provider] == [("cloud", 0.75), ("box", 0.0)]
    assert summary.by_model[1] == Cost(
        "small", requests=2, input=101, cache_read=2, cache_write=3, output=104, usd=0.25, known_usd=0.25
    )
    assert tracker.summary_for_role("polecat").total.requests == 2
    assert [r.model for r in tracker.records] == ["big", "small", "small"]


def test_one_unknown_price_makes_every_sum_it_is_in_unknown() -> None:
    tracker = CostTracker()
    tracker.record("mayor", "cloud", "big", Usage(input=10), 0.5)
    tracker.record("polecat", "box", "odd", Usage(input=10), None)
    summary = tracker.summary()
    assert (summary.total_cost, summary.known_usd) == (None, 0.5)
    assert [(c.name, c.usd) for c in summary.by_role] == [("mayor", 0.5), ("polecat", None)]
    assert tracker.summary_for_role("mayor").total_cost == 0.5


def test_an_empty_ledger_is_zero() -> None:
    assert CostTracker().summary().total == Cost("total")
    assert CostTracker().summary_for_role("nobody").total_cost == 0.0


def test_partial_replies_are_counted() -> None:
    tracker = CostTracker()
    tracker.record("r", "p", "m", Usage(input=1, partial=True), 0.1)
    tracker.record("r", "p", "m", None, None, partial=True)
    tracker.record("r", "p", "m", Usage(input=1), 0.1)
    total = tracker.summary().total
    assert (total.requests, total.partial, total.usd, total.known_usd) == (3, 2, None, pytest.approx(0.2))


async def test_a_caller_may_keep_a_ledger_of_its_own_beside_the_routers() -> None:
    stage = Stage(settings={"only": {"price": Price(1, 1)}}, only=Actor("yes"))
    own = CostTracker()
    await stage.ask(role="mayor", tracker=own)
    await stage.ask(role="mayor", tracker=stage.router.tracker)
    assert (len(own.records), len(stage.router.tracker.records)) == (1, 2)
    assert own.records[0].usd == pytest.approx(150e-6)


async def test_a_reply_without_usage_has_an_unknown_cost() -> None:
    stage = Stage(settings={"only": {"price": Price(1, 1)}}, only=Actor(reply("yes", None)))
    await stage.ask()
    assert stage.router.tracker.summary().total_cost is None
    free = Stage(only=Actor(reply("yes", None)))
    await free.ask()
    assert free.router.tracker.summary().total_cost == 0.0
