"""docs/cluster.md: its five commands make a cluster, and what else it shows can be used as it stands."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fakes.postgres import PostgresCluster, shared_cluster

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text()
REHEARSAL = ROOT / "examples" / "rehearsal"
ET = [sys.executable, "-c", "from electrictown.cli.main import main; main()"]


def block(language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0]


@pytest.fixture
def server() -> PostgresCluster:
    return shared_cluster()


def test_five_commands_make_three_machines_of_one(server: PostgresCluster, tmp_path: Path) -> None:
    lines = [line for line in block("bash").splitlines() if not line.startswith("#")]
    made, exported, *others = (shlex.split(line) for line in lines)
    assert [words[:2] for words in others] == [["et", "worker"], ["et", "worker"], ["et", "run"]]
    for statement in (made[n + 1] for n, word in enumerate(made) if word == "-c"):
        server.execute(statement)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")},
        **dict(word.split("=", 1) for word in exported[1:]),
        "HOME": str(tmp_path),
    }
    environ["ELECTRICTOWN_DB"] = environ["ELECTRICTOWN_DB"].replace("db.lan", f"127.0.0.1:{server.port}")
    for file in REHEARSAL.glob("*.yaml"):
        text = re.sub(r"^  (latency|pace): .*\n", "", file.read_text(), flags=re.MULTILINE)
        (tmp_path / file.name).write_text(text)
    try:
        workers = [
            subprocess.Popen([*ET, *words[1:]], env=environ, cwd=tmp_path, stderr=subprocess.DEVNULL)
            for words in others[:2]
        ]
        words = [word.replace("$ELECTRICTOWN_DB", environ["ELECTRICTOWN_DB"]) for word in others[2][1:]]
        try:
            done = subprocess.run(
                [*ET, *words],
                env=environ,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert (tmp_path / "out" / "wordcount.py").exists()
        finally:
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
        assert [worker.wait(30) for worker in workers] == [0, 0]
        prune(server, server.url("town", user="et", password=environ["PGPASSWORD"]))
    finally:
        server.execute("DROP DATABASE IF EXISTS town WITH (FORCE)")
        server.execute("DROP ROLE IF EXISTS et")


def prune(server: PostgresCluster, url: str) -> None:
    """The statements of the page remove the old runs, from every table, and no younger one."""
    found = "SELECT table_name FROM information_schema.columns WHERE table_schema = 'electrictown'"
    tables = [str(row[0]) for row in server.execute(f"{found} AND column_name = 'run'", url)]
    assert len(tables) >= 6

    def left() -> int:
        counts = [server.execute(f"SELECT count(*) FROM electrictown.{table}", url) for table in tables]
        return sum(int(str(count[0][0])) for count in counts)

    before = left()
    server.execute(block("sql"), url)
    assert left() == before
    server.execute(block("sql").replace("90 days", "0 days"), url)
    assert left() == 0


def flags_of(command: str) -> set[str]:
    page = (ROOT / "docs" / "cli.md").read_text().split(f"## `et {command}`")[1].split("\n## ")[0]
    return set(re.findall(r"--[a-z][a-z-]+", page))


def test_the_unit_starts_a_worker() -> None:
    unit = configparser.ConfigParser()
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(block("ini"))
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "et"
    assert words[0] == "worker"
    assert {word for word in words if word.startswith("--")} <= flags_of("worker")
    assert unit["Service"]["KillMode"] == "mixed"  # the children of `type: local` are the worker's to end


def test_the_containers_start_a_database_and_workers() -> None:
    services = yaml.safe_load(block("yaml"))["services"]
    _, *words = shlex.split(services["worker"]["command"])
    assert words[0] == "worker"
    assert {word for word in words if word.startswith("--")} <= flags_of("worker")
    assert services["worker"]["environment"]["ELECTRICTOWN_DB"].endswith("@db/town")
    assert set(services) == {"db", "worker"}


def test_every_flag_and_command_of_the_page_exists() -> None:
    cli = (ROOT / "docs" / "cli.md").read_text()
    known = set(re.findall(r"--[a-z][a-z-]+", cli)) | {"--no-cache-dir", "--only"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) <= known
    for command in set(re.findall(r"`et ([a-z]+)", PAGE)):
        assert f"## `et {command}`" in cli
