"""A home with sessions of its own, and a server that answers them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from fakes.fake_server import FakeServer
from fakes.town_kit import serving
from sessions.session_kit import Home, at_home, yaml_for


@pytest.fixture
def home(tmp_path: Path) -> Generator[Home]:
    with at_home(tmp_path) as home:
        yield home


@pytest.fixture
def server(home: Home) -> Generator[FakeServer]:
    with serving("fine") as server:
        home.configure(yaml_for(server.url))
        yield server
