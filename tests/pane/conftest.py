"""A screen in a tmux of its own, for each test that asks for one."""

from __future__ import annotations

import shutil
from collections.abc import Generator

import pytest
from pane_kit import NAME, Pane


@pytest.fixture
def pane(tmp_path_factory: pytest.TempPathFactory) -> Generator[Pane]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    pane = Pane(tmp_path_factory.mktemp("p"))
    try:
        pane.sees(NAME)
        yield pane
        assert pane.errors == ""
    finally:
        pane.close()
