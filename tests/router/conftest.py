"""Tests of the router run on a loop whose clock jumps: nothing sleeps, and times are exact."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from router_kit import InstantLoop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], InstantLoop]]:
    return {"instant": InstantLoop}


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every backoff is the longest it can be."""

    def longest(low: float, high: float) -> float:
        return max(low, high)

    monkeypatch.setattr(random, "uniform", longest)
