"""What every test may rely on: no secret of another test is masked, no property test is timed."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from electrictown import redact

settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets are remembered for the life of a process; here each test is a life of its own."""
    monkeypatch.setattr(redact, "_known", [])
