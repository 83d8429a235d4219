"""A store of every kind, and the place it is kept at."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncGenerator, Generator
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


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path]:
    """A disk of its own of one megabyte, where this machine lets one be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
