"""The measurements run and give figures; what the figures are is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.postgres import programs

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, object]]:
    done = bench("--quick", "--only", "requests,events,many,version,steps,resume,remembered", "--json")
    assert done.returncode == 0, done.stderr
    return {figure["name"]: figure for figure in json.loads(done.stdout)["figures"]}


@pytest.mark.parametrize("name", ["CPU per request, openai", "CPU per stream event, openai"])
def test_both_clients_are_measured_in_one_run(measured: dict[str, dict[str, object]], name: str) -> None:
    figure = measured[name]
    raw, routed = float(str(figure["raw"])), float(str(figure["routed"]))
    assert raw > 0
    assert routed > 0
    assert float(str(figure["value"])) > 0
    assert isinstance(figure["met"], bool)


def test_paced_streams_arrive_whole(measured: dict[str, dict[str, object]]) -> None:
    assert measured["20 streams of 10/s, events lost"]["value"] == 0
    assert "20 of 20 replies whole" in str(measured["20 streams of 10/s, events lost"]["note"])


def test_the_version_loads_nothing_heavy(measured: dict[str, dict[str, object]]) -> None:
    assert measured["et version, heavy libraries loaded"]["value"] == 0


def test_the_journal_is_measured(measured: dict[str, dict[str, object]]) -> None:
    for name in ("journal, steps one after the other", "journal, steps of 64 tasks"):
        assert float(str(measured[name]["value"])) > 0
    assert measured["resume of a run of 100 steps"]["goal"] == 0.5


def test_what_remembering_costs_is_measured(measured: dict[str, dict[str, object]]) -> None:
    figure = measured["journal of a run of 8 subtasks, CPU each"]
    assert figure["goal"] == 5
    assert "without a journal" in str(figure["note"])


def test_sessions_are_measured() -> None:
    done = bench("--quick", "--only", "sessions", "--json")
    assert done.returncode == 0, done.stderr
    figures = {figure["name"]: figure["value"] for figure in json.loads(done.stdout)["figures"]}
    assert figures["session, from spawn to ready"] > 0
    assert figures["session, a message until it is accepted"] > 0
    assert figures["session, memory"] > 0


def test_a_cluster_is_measured() -> None:
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (scripts/debian-packages.sh test)")
    done = bench("--quick", "--only", "cluster", "--json")
    assert done.returncode == 0, done.stderr
    figures = {figure["name"]: figure["value"] for figure in json.loads(done.stdout)["figures"]}
    assert set(figures) == {"cluster, from ready to begun", "cluster, subtasks of 3 workers"}
    assert min(figures.values()) > 0


def test_a_measure_that_does_not_exist_is_named() -> None:
    done = bench("--only", "nothing")
    assert done.returncode == 2
    assert "there is no measure nothing" in done.stderr
