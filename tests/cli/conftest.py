"""A folder, a home and an environment for every test of the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_kit import Shell

_KEPT = ("PATH", "LANG", "LC_", "TMPDIR", "PYTEST_", "COV", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Nothing of the person's own environment: no key, no Ollama, no colours, no terminal."""
    for name in list(os.environ):
        if not name.startswith(_KEPT):
            monkeypatch.delenv(name)
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    monkeypatch.chdir(here)
    return Shell(here)
