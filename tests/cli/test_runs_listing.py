"""`et runs` and `et cost`: how runs ended and what they cost, also where that is not known."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from cli_kit import Shell

from electrictown.journal import tables
from electrictown.journal.journal import Journal
from electrictown.journal.records import Header
from electrictown.journal.sqlite import SqliteStore
from electrictown.work import Task
from fakes.journal_kit import (
    crashed,
    driven,
    ended,
    journal_of,
    request,
    reserved,
    settled,
    whole_run,
    write_runs,
)


async def unpriced(journal: Journal) -> None:
    await request(journal, "a", settled("polecat", 0.125, model="priced"))
    await request(journal, "b", settled("polecat", None, model="odd"))
    await ended()(journal)


def three_runs(shell: Shell) -> None:
    runs = [
        ("20261101-000000-aaaa", "first\ntask " + "x" * 100, [ended("interrupted", 130), unpriced]),
        ("20261102-000000-bbbb", "second", [crashed]),
        ("20261103-000000-cccc", "third", [ended()]),
    ]
    write_runs(journal_of(shell.home), runs)


@pytest.mark.parametrize("columns", [80, 100])
def test_the_list_fits_a_terminal(shell: Shell, columns: int) -> None:
    three_runs(shell)
    screen, terminal = os.openpty()
    with os.fdopen(screen, "rb") as shown, os.fdopen(terminal, "wb") as out:
        shell.start("runs", stdout=out, env={**os.environ, "COLUMNS": str(columns)}).communicate(timeout=30)
        lines = [shown.readline().decode().rstrip("\r\n") for _ in range(4)]
    assert all(len(line) <= columns for line in lines)
    assert lines[3].startswith("20261101-000000-aaaa  done ")
    assert "$0.1250 + unknown" in lines[3]
    assert lines[3].endswith("…")


def test_runs_are_listed_newest_first_with_how_they_ended_and_what_they_cost(shell: Shell) -> None:
    three_runs(shell)
    said = shell.et("runs")
    assert (said.code, said.err) == (0, "")
    head, *rows = said.out.splitlines()
    assert head.split() == ["run", "state", "age", "time", "cost", "driven", "task"]
    cells = [row.split("  ") for row in rows]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in cells]
    assert cells[0][:2] == ["20261103-000000-cccc", "done"]
    assert cells[0][4:] == ["$0", "1 time", "third"]
    assert cells[1][:2] == ["20261102-000000-bbbb", "stopped"]
    assert cells[1][3:] == ["-", "$0.5000 + up to $0.2500", "1 time", "second"]
    assert cells[2][4:6] == ["$0.1250 + unknown", "2 times"]
    assert cells[2][6].startswith("first task xxx")
    assert len(cells[2][6]) == 60
    assert max(map(len, rows)) < 160


def test_runs_as_json_tell_unknown_from_nothing(shell: Shell) -> None:
    three_runs(shell)
    third, second, first = shell.et("runs", "--json").json
    assert (third["state"], third["exit_code"], third["drivers"]) == ("done", 0, 1)
    assert third["cost"].get("usd", 0.0) == 0.0
    assert third["seconds"] >= 0
    assert (second["state"], second["ended"], second["seconds"]) == ("stopped", None, None)
    assert second["unsettled"] == {
        "requests": 1,
        "usd": 0.25,
        "known_usd": 0.25,
        "tokens": 1000,
        "runs": [second["run"]],
    }
    assert first["task"].startswith("first\ntask")
    assert first["cost"]["usd"] is None
    assert first["cost"]["known_usd"] == 0.125


def test_a_limit_says_that_there_are_older_runs(shell: Shell) -> None:
    three_runs(shell)
    said = shell.et("runs", "--limit", "2")
    assert [row[:8] for row in said.out.splitlines()[1:]] == ["20261103", "20261102"]
    assert "--limit 0" in said.err
    assert len(shell.et("runs", "--limit", "0", "--json").json) == 3
    assert shell.et("runs", "--limit", "3").err == ""


@pytest.mark.parametrize("command", [("runs",), ("cost",)])
def test_since_is_a_length_of_time_or_a_date(shell: Shell, command: tuple[str]) -> None:
    three_runs(shell)
    assert shell.et(*command, "--since", "1h").out
    tomorrow = time.strftime("%Y-%m-%d", time.localtime(time.time() + 2 * 86_400))
    said = shell.et(*command, "--since", tomorrow)
    assert (said.code, said.out) == (0, "")
    assert "in that time" in said.err
    for wrong in ("soon", "2y", "2026-13-01", "-3d"):
        said = shell.et(*command, f"--since={wrong}")
        assert said.code == 2
        assert wrong in said.err
        assert "write 12h, 2d, 1w" in said.err


def test_an_empty_store_is_no_error(shell: Shell) -> None:
    said = shell.et("runs")
    assert (said.code, said.out) == (0, "")
    assert said.err == 'no run was begun; et run "..." begins one\n'
    assert shell.et("runs", "--json").json == []
    said = shell.et("cost")
    assert (said.code, said.out, said.err) == (0, "", "no request was made\n")
    assert shell.et("cost", "--json").json["total"]["name"] == "total"


def test_what_is_in_flight_is_not_lost(shell: Shell) -> None:
    with driven(journal_of(shell.home), "20261104-000000-dddd"):
        (row,) = shell.et("runs", "--json").json
        assert (row["state"], row["unsettled"]["requests"], row["in_flight"]["usd"]) == ("running", 0, 0.25)
        assert "up to" not in shell.et("runs").out
        assert "in flight: 1 request, at the most $0.2500 (20261104-000000-dddd)" in shell.et("cost").out
    said = shell.et("cost")
    assert "left unsettled by a crash: 1 request, at the most $0.2500" in said.out


def test_costs_are_summed_by_role_provider_model_and_run(shell: Shell) -> None:
    three_runs(shell)
    said = shell.et("cost")
    rows = [line.split() for line in said.out.splitlines()]
    assert ["mayor", "1", "100", "0", "50", "$0.5000"] in rows
    assert ["polecat", "2", "200", "0", "100", "$0.1250", "+", "unknown"] in rows
    assert ["priced", "1", "100", "0", "50", "$0.1250"] in rows
    assert ["odd", "1", "100", "0", "50", "unknown"] in rows
    assert ["total", "3", "300", "0", "150", "$0.6250", "+", "unknown"] in rows
    assert said.out.splitlines()[-1] == (
        "left unsettled by a crash: 1 request, at the most $0.2500 (20261102-000000-bbbb)"
    )
    by_run = shell.et("cost", "--by", "run", "--json").json
    assert list(by_run["costs"]) == ["run"]
    assert {c["name"]: c["usd"] for c in by_run["costs"]["run"]} == {
        "20261101-000000-aaaa": None,
        "20261102-000000-bbbb": 0.5,
    }
    assert by_run["unsettled"]["runs"] == ["20261102-000000-bbbb"]
    assert "by model" not in shell.et("cost", "--by", "role").out
    assert shell.et("cost", "--by", "moon").code == 2


def test_a_request_that_was_never_billed_counts_nowhere(shell: Shell) -> None:
    write_runs(journal_of(shell.home), [("r1", "t", [whole_run])])
    total = shell.et("cost", "--json").json["total"]
    assert total["requests"] == 6
    assert total["usd"] == pytest.approx(0.08)


def test_another_journal_is_named_with_db(shell: Shell) -> None:
    write_runs(shell.folder / "other.db", [("there", "elsewhere", [ended()])])
    assert "elsewhere" in shell.et("runs", "--db", "other.db").out
    assert shell.et("runs").out == ""
    said = shell.et("runs", "--db", "typo.db")
    assert (said.code, "there is no journal typo.db" in said.err) == (2, True)
    assert "typo.db" not in shell.files()
    assert shell.et("runs", "--db", "").code == 2
    said = shell.et("cost", "--db", "mysql://joe:secret-password@db/x")
    assert said.code == 2
    assert "secret-password" not in said.all


def test_the_configuration_may_name_the_journal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    config = "providers: {p: {type: openai, api_key: $NO_KEY}}\ncluster: {db: $TOWN_DB}\n"
    shell.configure(config + "defaults: {model: p/m}\n")
    said = shell.et("runs")
    assert said.code == 2
    assert "$TOWN_DB" in said.err
    assert "--db" in said.err
    monkeypatch.setenv("TOWN_DB", "postgresql://me:a-password@127.0.0.1:1/town")
    said = shell.et("runs")
    assert said.code == 75
    assert "127.0.0.1" in said.err
    assert "a-password" not in said.all
    write_runs(shell.folder / "other.db", [("there", "elsewhere", [ended()])])
    assert "elsewhere" in shell.et("runs", "--db", "other.db").out


def test_a_configuration_without_a_cluster_is_not_even_read(shell: Shell) -> None:
    three_runs(shell)
    shell.configure("providers: [this is wrong")
    assert shell.et("runs").code == 0


def test_a_store_that_is_none_is_an_error(shell: Shell) -> None:
    journal_of(shell.home).parent.mkdir(parents=True)
    journal_of(shell.home).write_bytes(b"this is no database at all, and never was" * 100)
    for command in (["runs"], ["cost"], ["show", "last"], ["log", "last"], ["cancel", "last"]):
        said = shell.et(*command)
        assert (said.code, said.out) == (75, "")
        assert said.err.startswith("error: ")
        assert "journal.db" in said.err


def test_a_step_that_cannot_be_read_is_named(shell: Shell) -> None:
    three_runs(shell)
    with sqlite3.connect(journal_of(shell.home)) as file:
        file.execute("UPDATE steps SET value = '{\"torn' WHERE key = 'b.e2.r1.settled'")
    file.close()
    said = shell.et("cost")
    assert said.code == 75
    assert "the step b.e2.r1.settled of the run 20261101-000000-aaaa cannot be read" in said.err


def many_runs(path: Path, runs: int, requests: int) -> None:
    """As the store itself would have written them, in one transaction."""

    async def make() -> None:
        store = await SqliteStore.open(path)
        journal = await store.begin("pattern", Header(Task("t")))
        await journal.aclose()
        await store.aclose()

    asyncio.run(make())
    header, driver = msgspec.json.encode(Header(Task("t"))), b'{"pid":1,"host":"h"}'
    hold = msgspec.json.encode(reserved(usd=0.1))
    done = msgspec.json.encode(settled("polecat", 0.01))
    steps: list[tuple[str, str, str, float, int, bytes]] = []
    for n in range(runs):
        run = f"r{n:06}"
        steps += [(run, "run", "run", n, 1, header), (run, "driver.1", "driver", n, 1, driver)]
        for r in range(requests):
            steps.append((run, f"c{r}.e1.r1", "reserve", n, 1, hold))
            if r or n % 10:  # every tenth run has a request that a crash left
                steps.append((run, f"c{r}.e1.r1.settled", "settle", n, 1, done))
    file = sqlite3.connect(path)
    with file:
        file.executemany("INSERT INTO runs VALUES (?, ?)", [(f"r{n:06}", n) for n in range(runs)])
        file.executemany(
            "INSERT INTO steps(run, key, kind, at, epoch, value) VALUES (?, ?, ?, ?, ?, ?)", steps
        )
    file.close()


def test_many_runs_are_listed_and_summed_up(shell: Shell) -> None:
    many_runs(journal_of(shell.home), 1000, 2)
    assert len(shell.et("runs", "--limit", "0").out.splitlines()) == 1002
    assert "left unsettled by a crash: 100 requests, at the most $10.00" in shell.et("cost").out


@pytest.mark.parametrize("command", ["runs", "show last", "show r000007", "log last", "resume none"])
def test_who_looks_at_few_runs_reads_the_steps_of_no_other(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """By the plans that SQLite makes of what it is asked, and by how often it is."""
    asked: list[str] = []
    look_in = tables.look_in

    def looked(path: Path, patience: float) -> sqlite3.Connection:
        connection = look_in(path, patience)
        connection.set_trace_callback(asked.append)
        return connection

    many_runs(journal_of(shell.home), 500, 1)
    monkeypatch.setattr(tables, "look_in", looked)
    shell.et(*command.split())
    queries = [statement for statement in asked if statement.startswith("SELECT")]
    assert queries
    assert len(queries) < 100, "not one for each run there is"
    with closing(sqlite3.connect(journal_of(shell.home))) as file:
        for query in queries:
            plan = [row[3] for row in file.execute(f"EXPLAIN QUERY PLAN {query}")]
            assert not [step for step in plan if re.match(r"SCAN (steps|events|[hd])\b", step)], (query, plan)


def test_nothing_in_a_task_moves_a_terminal(shell: Shell) -> None:
    write_runs(
        journal_of(shell.home), [("r1", "wipe\x1b[2J\x1b]0;title\x07 it\r\nall \u202eback", [ended()])]
    )
    for command in (["runs"], ["show", "r1"], ["log", "r1"], ["cost"]):
        said = shell.et(*command)
        assert not re.search(r"[^\n\x20-\uffff]|\u202e|title", said.all)
    assert "wipe it all back" in shell.et("runs").out
