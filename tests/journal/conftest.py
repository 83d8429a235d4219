"""A store of every kind, and the place it is kept at."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from store_kinds import KINDS, Place

from electrictown.journal.journal import Store


@pytest.fixture(params=sorted(KINDS))
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Place]:
    async with KINDS[request.param](tmp_path) as found:
        yield found


@pytest.fixture
async def store(place: Place) -> AsyncGenerator[Store]:
    opened = await place.open()
    yield opened
    await opened.aclose()
