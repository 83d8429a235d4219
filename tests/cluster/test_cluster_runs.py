"""Runs of several processes: what becomes of them when one dies, freezes, is interrupted, or is not there."""

from __future__ import annotations

import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from cluster.cluster_kit import HEARTBEAT, ROOM, Builders, Site, end_state, metrics, titles, until
from electrictown.work import Failed
from fakes.postgres import PASSWORD, PostgresCluster, free_port
from fakes.town_kit import serving


@pytest.fixture
def site(cluster: PostgresCluster, url: str, tmp_path: Path) -> Generator[Site]:
    town = Builders()
    with serving(town) as server:
        site = Site(tmp_path, cluster, url, town, server)
        yield site
        site.close()


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The end of a run that one process does alone."""
    folder, town = tmp_path_factory.mktemp("alone"), Builders()
    with serving(town) as server:
        site = Site(folder, None, "", town, server)  # type: ignore[arg-type]
        report = site.start("run", "--output-dir", "out", "--json", "build a house").report()
    assert set(town.made().values()) == {1}
    state = end_state(report, folder / "out")
    assert len(state["files"]) == 9
    assert state["scores"]["t07"] == [3, 8]
    return state


def once(site: Site, *but: str) -> None:
    """Every reply was heard once; those in `but`, whose hearer could not write them down, at most twice."""
    twice = {key: times for key, times in site.town.answered().items() if times > 1 + (key in but)}
    assert not twice
    results = site.query("SELECT key FROM electrictown.steps WHERE kind = 'result' ORDER BY key")
    assert results == [(f"t{n:02}.result",) for n in range(1, 10)]
    assert not site.query("SELECT key FROM electrictown.steps WHERE kind = 'outcome'")


def test_three_workers_do_what_one_process_does(site: Site, reference: dict[str, Any]) -> None:
    site.configure(limit=1)
    ports = [free_port() for _ in range(3)]
    workers = [site.worker(f"w{n}", "--listen", str(port)) for n, port in enumerate(ports)]
    site.here("w0", "w1", "w2")
    site.town.seconds = 0.3
    driver = site.run()
    site.at_work("t01.attempt1", "t05.attempt1")
    assert not [process for process in (driver, *workers) if PASSWORD in titles(process)]
    assert end_state(driver.report(), site.folder / "out") == reference
    once(site)
    assert len({worker for worker, _, _ in site.leases().values()}) > 1
    assert {host for host, most in site.server.max_in_flight.items() if most} == {"/h0", "/h1", "/boss"}
    told = [metrics(port) for port in ports]
    asked = sum(times for key, times in site.town.made().items() if key.startswith("t"))
    assert sum(figures["requests_total"] for figures in told) == asked
    assert sum(figures["tokens_total"] for figures in told) == asked * (11 + 7)
    assert sum(figures["subtasks_done_total"] for figures in told) == 9
    for worker in workers:
        worker.send(signal.SIGTERM)
    assert [worker.ended() for worker in workers] == [0, 0, 0]
    assert not site.beats()


def test_the_work_of_a_killed_worker_is_taken_up_within_two_heartbeats(
    site: Site, reference: dict[str, Any]
) -> None:
    site.town.slow = {"t01.attempt1": 30.0}
    victim = site.worker("w0")
    driver = site.run()
    site.at_work("t01.attempt1", "t05.attempt1")
    site.worker("w1")
    site.here("w1")
    site.done("t05.attempt1")
    assert "t01.attempt1" in site.held_by("w0")
    beat = site.beats()["w0"]
    victim.send(signal.SIGKILL)
    site.town.slow = {}
    assert end_state(driver.report(), site.folder / "out") == reference
    once(site)
    assert site.town.made()["t01.attempt1"] == 2
    worker, at, _ = site.leases()["t01"]
    assert worker == "w1"
    assert at - beat < 2 * HEARTBEAT + ROOM


def test_a_worker_that_freezes_and_wakes_writes_nothing_and_begins_anew(
    site: Site, reference: dict[str, Any]
) -> None:
    site.town.slow = {"t01.attempt1": 8.0}
    frozen = site.worker("w0")
    driver = site.run()
    site.at_work("t01.attempt1")
    call = next(seen for _, seen in site.town.seen if site.town.steps.key_of(seen) == "t01.attempt1")
    other = site.worker("w1")
    site.here("w1")
    (_, _, epoch), beat = site.leases()["t01"], site.beats()["w0"]
    frozen.send(signal.SIGSTOP)
    site.town.slow = {"t02.attempt1": 60.0}
    site.done("t01.result")
    worker, at, _ = site.leases()["t01"]
    assert worker == "w1"
    assert at - beat < 2 * HEARTBEAT + ROOM
    until(lambda: call.ended)  # the reply waits for who is frozen
    written = _written(site, epoch)
    frozen.send(signal.SIGCONT)
    until(lambda: "waits for the database" in frozen.err)
    site.here("w0")
    site.town.slow = {}
    for _ in range(2):
        site.at_work("t02.attempt1")
        other.send(signal.SIGTERM)
        until(lambda: "once more lets go" in other.err)
    assert end_state(driver.report(), site.folder / "out") == reference
    assert _written(site, epoch) == written
    once(site, "t01.attempt1")
    assert site.town.answered()["t01.attempt1"] == 2
    assert (site.leases()["t02"][0], site.leases()["t09"][0]) == ("w0", "w0")
    assert other.ended() == 0


def _written(site: Site, epoch: int) -> set[str]:
    return {key for key, by in site.steps().items() if by == epoch}


def test_workers_finish_what_they_have_when_the_driver_is_killed(
    site: Site, reference: dict[str, Any]
) -> None:
    site.town.slow = {"t01.attempt1": 1.0, "t05.attempt1": 1.0}
    site.worker("w0")
    site.worker("w1")
    driver = site.run()
    site.at_work("t01.attempt1", "t05.attempt1")
    driver.send(signal.SIGKILL)
    driver.ended()
    site.done("t01.result", "t05.result")
    assert "t02.attempt1" not in site.town.made()
    again = site.start("resume", "last", "--db", site.bare, "--json")
    assert end_state(again.report(), site.folder / "out") == reference
    once(site)


def test_a_restart_of_the_database_costs_no_work_that_was_committed(
    site: Site, reference: dict[str, Any]
) -> None:
    site.town.slow = {"t02.attempt1": 1.0}
    for n in range(3):
        site.worker(f"w{n}")
    driver = site.run()
    site.at_work("t02.attempt1")
    known = site.steps()
    site.cluster.restart()
    lost = [key for key in site.town.made() if key not in known]
    assert end_state(driver.report(), site.folder / "out") == reference
    once(site, *lost)


def test_a_second_driver_is_refused_and_told_who_drives(site: Site, reference: dict[str, Any]) -> None:
    driver = site.run()
    site.at_work("brief")
    second = site.et("resume", "last", "--db", site.bare)
    assert second.ended() == 75
    assert f"is driven by process {driver.popen.pid} on " in second.err
    site.worker("w0")
    assert end_state(driver.report(), site.folder / "out") == reference
    once(site)


def test_a_worker_finishes_what_it_has_and_at_a_second_wish_lets_go(
    site: Site, reference: dict[str, Any]
) -> None:
    site.town.slow = {"t01.attempt1": 1.0, "t05.attempt1": 1.0, "t02.attempt1": 30.0}
    first = site.worker("w0")
    driver = site.run()
    site.at_work("t01.attempt1", "t05.attempt1")
    first.send(signal.SIGTERM)
    second = site.worker("w1")
    assert first.ended() == 0
    assert {name: site.leases()[name][0] for name in ("t01", "t05")} == {"t01": "w0", "t05": "w0"}
    assert {"t01.result", "t05.result"} <= site.steps().keys()
    site.at_work("t02.attempt1")
    site.worker("w2")
    site.here("w2")
    second.send(signal.SIGTERM)
    until(lambda: "once more lets go" in second.err)
    assert second.popen.poll() is None
    site.town.slow = {}
    second.send(signal.SIGTERM)
    assert second.ended() == 0
    assert end_state(driver.report(), site.folder / "out") == reference
    once(site)
    assert site.leases()["t02"][0] == "w2"


def test_ctrl_c_lets_end_what_is_under_way_and_takes_back_the_rest(
    site: Site, reference: dict[str, Any]
) -> None:
    site.town.slow = {"t01.attempt1": 1.5}
    site.worker("w0", "--concurrency", "1")
    driver = site.run()
    until(lambda: site.town.made().keys() & {"t01.attempt1", "t05.attempt1"})
    driver.send(signal.SIGINT)
    report = driver.report(130)
    assert f"et resume {report.run} --db {site.bare}" in driver.err
    assert report.outcome == "interrupted"
    assert not site.query("SELECT 1 FROM electrictown_jobs.procrastinate_jobs")
    begun = {key for key in site.town.made() if key.endswith("attempt1")}
    assert len(begun) == 1
    assert begun <= site.steps().keys()
    again = site.start("resume", "last", "--db", site.bare, "--json")
    assert end_state(again.report(), site.folder / "out") == reference
    once(site)


def test_a_cancelled_run_ends_on_every_machine(site: Site) -> None:
    site.town.slow = {"t01.attempt1": 60.0}
    worker = site.worker("w0")
    driver = site.run()
    site.at_work("t01.attempt1")
    cancel = site.et("cancel", "last", "--db", site.bare)
    assert "has ended: cancelled" in cancel.out
    assert driver.ended() == 130
    until(lambda: not site.server.in_flight["/h0"] and not site.server.in_flight["/h1"])
    asked = site.town.made()
    worker.send(signal.SIGTERM)
    assert worker.ended() == 0
    assert site.town.made() == asked
    assert site.et("resume", "last", "--db", site.bare).ended() == 2


def test_what_nobody_could_review_is_reviewed_for_the_next_driver(
    site: Site, reference: dict[str, Any]
) -> None:
    site.town.away = True
    worker = site.worker("w0")
    report = site.run().report(4)
    assert report.error is not None
    assert "the witness is away" in report.error.message
    assert not [key for key in site.steps() if key.endswith(".result")]
    worker.send(signal.SIGTERM)
    site.town.away = False
    site.worker("w1")
    again = site.start("resume", "last", "--db", site.bare, "--json")
    assert end_state(again.report(), site.folder / "out") == reference
    assert {key: n for key, n in site.town.made().items() if n > 1 and ".attempt" in key} == {}


def test_a_worker_without_a_key_says_which_one_it_needs(site: Site) -> None:
    site.configure(limit=2, extra="api_key: $HOUSE_KEY, ")
    site.worker("w0")
    driver = site.start(
        "run", "--db", site.bare, "--json", "--no-brief", "build a house", HOUSE_KEY="sk-of-the-driver-alone"
    )
    failed = driver.report(2).results[0]
    assert isinstance(failed, Failed)
    assert "on worker w0-" in failed.error.message
    assert "$HOUSE_KEY" in failed.error.message
    assert "sk-of-the-driver-alone" not in str(site.query("TABLE electrictown.steps"))


def test_a_run_without_workers_says_so_and_goes_on_when_one_comes(
    site: Site, reference: dict[str, Any]
) -> None:
    driver = site.start("run", "--db", site.url, "--output-dir", "out", "--json", "build a house")
    until(lambda: "no worker is there" in driver.err)
    assert f"et worker --db {site.bare}" in driver.err
    site.start("worker", "--db", site.bare)
    assert end_state(driver.report(), site.folder / "out") == reference
    assert driver.err.count("no worker is there") == 1
    once(site)
