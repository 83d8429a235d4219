"""What every test may rely on: no secret of another test is masked, no property test is timed, nobody's
own journal is written.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from electrictown import redact

settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets are remembered for the life of a process; here each test is a life of its own."""
    monkeypatch.setattr(redact, "_known", [])


@pytest.fixture(scope="session", autouse=True)
def _own_journal(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """A run that a test makes is kept among the test's files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Figures that tests have found, by `record_property`, stand in the report of the run."""
    found = [
        f"{report.nodeid.rpartition('::')[2]}: {name} {value}"
        for report in terminalreporter.getreports("passed")
        if report.when == "call"
        for name, value in report.user_properties
    ]
    if found:
        terminalreporter.section("figures")
        for line in found:
            terminalreporter.line(line)
