"""A cluster on one machine: a database, a fake town that plays all hosts, and `et` processes that meet there.

The town replies by the step that it is asked for, so that every run of `PLAN` comes to the same.
Whatever a test does, no password of the database may be left anywhere: `Site.close` looks.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec

from cli.cli_kit import ET
from electrictown.work import Report
from fakes.fake_server import FakeServer, Reply, Seen
from fakes.postgres import PASSWORD, PostgresCluster
from fakes.town_kit import FakeTown, yaml_of
from fakes.town_steps import Steps, timeless

__all__ = ["HEARTBEAT", "PLAN", "ROOM", "Builders", "Process", "Site", "end_state", "until"]

HEARTBEAT = 1.0
ROOM = 1.0
"""Seconds that a busy machine may be late."""
PLAN = """1. lay the foundation
2. raise the walls [depends: 1]
3. build the roof [depends: 2]
4. set the windows [depends: 2]
5. dig the well
6. plant the garden [depends: 5]
7. paint the house [depends: 3, 4]
8. fence the garden [depends: 6]
9. hang the bell [depends: 7, 8]"""

_SECONDS = 60.0
_KEPT = ("PATH", "LANG", "LC_", "TMPDIR", "PYTHON", "COV", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


class Builders(FakeTown):
    """Replies by step: t05 wants a file outside the folder first, t07 is sent back once.

    Work takes `seconds`, the keys in `slow` as long as they say. Nothing is reviewed while the witness is
    `away`.
    """

    def __init__(self, plan: str = PLAN, seconds: float = 0.05) -> None:
        super().__init__(plan=plan, work=self._work, review=self._review)
        self.steps = Steps(plan)
        self.seconds = seconds
        self.slow: dict[str, float] = {}
        self.away = False

    def _work(self, seen: Seen) -> Reply:
        name, number = self.steps.worked(seen)
        file = f"../{name}.txt" if (name, number) == ("t05", 1) else f"house/{name}.txt"
        text = f"attempt {number}\n\n### FILE: {file}\n```text\n{name} by attempt {number}\n```\n"
        return Reply(text=text, latency=self.slow.get(self.steps.key_of(seen), self.seconds))

    def _review(self, seen: Seen) -> str | Reply:
        if self.away:
            return Reply(status=401, error="the witness is away")
        name, number = self.steps.reviewed(seen)
        score = 3 if (name, number) == ("t07", 1) else 8
        return f'{{"critique": "of {name}, attempt {number}", "score": {score}}}'

    def made(self) -> Counter[str]:
        """How often each step was asked for."""
        return Counter(self.steps.key_of(seen) for _, seen in [*self.seen])

    def answered(self) -> Counter[str]:
        """How often each step was asked for by somebody who was there to hear the whole reply."""
        return Counter(self.steps.key_of(seen) for _, seen in [*self.seen] if not seen.aborted)


class Process:
    """An `et` that runs, its streams in files."""

    def __init__(self, popen: subprocess.Popen[bytes], out: Path, err: Path) -> None:
        self.popen = popen
        self._out = out
        self._err = err

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def ended(self) -> int:
        """Its exit code, once it has ended."""
        return self.popen.wait(_SECONDS)

    def report(self, code: int = 0) -> Report:
        """What a run with --json came to, which must be `code`."""
        assert self.ended() == code, self.err
        return msgspec.json.decode(self.out, type=Report)


class Site:
    """The processes of one test, and what they have left in the database."""

    def __init__(
        self, folder: Path, cluster: PostgresCluster, url: str, town: Builders, server: FakeServer
    ) -> None:
        self.folder = folder
        self.cluster = cluster
        self.url = url
        self.bare = url.replace(f":{PASSWORD}@", "@")
        self.town = town
        self.server = server
        self._started: list[Process] = []
        self.environ = {
            **{name: value for name, value in os.environ.items() if name.startswith(_KEPT)},
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / "state"),
            "NO_PROXY": "*",
        }
        self.configure(limit=2)

    def configure(self, *, limit: int, extra: str = "") -> None:
        """A pool of two hosts, each with so many calls in flight; `extra` is said of every provider."""
        self.limits = {"/h0": limit, "/h1": limit, "/boss": 4}
        text = yaml_of(self.server.url, witness="{model: chief}")
        text = re.sub(r"(/h\d)}", rf"\1, max_in_flight: {limit}}}", text)
        (self.folder / "electrictown.yaml").write_text(text.replace("{type:", f"{{{extra}type:"))

    # --- processes

    def start(self, *arguments: str, **environ: str) -> Process:
        """`et` with `arguments`; where the database is, is not on its command line unless they say so."""
        number = len(self._started)
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            popen = subprocess.Popen(
                [*ET, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self.folder,
                env={**self.environ, "PGPASSWORD": PASSWORD, **environ},
                start_new_session=True,
            )
        self._started.append(Process(popen, out, err))
        return self._started[-1]

    def worker(self, name: str, *arguments: str, **environ: str) -> Process:
        """A worker that takes two subtasks at once, unless `arguments` say otherwise."""
        words = ("worker", "--name", name, "--heartbeat", str(HEARTBEAT), "--concurrency", "2")
        return self.start(*words, *arguments, ELECTRICTOWN_DB=self.url, **environ)

    def run(self, *arguments: str) -> Process:
        """A run of the plan on the cluster."""
        return self.start(
            "run", "--db", self.bare, "--output-dir", "out", "--json", *arguments, "build a house"
        )

    def et(self, *arguments: str) -> Process:
        """`et` to its end."""
        process = self.start(*arguments)
        process.ended()
        return process

    def close(self) -> None:
        """End all that still runs, and look for what should not be there."""
        for process in self._started:
            if process.popen.poll() is None:
                process.popen.kill()
                process.send(signal.SIGCONT)
                process.popen.wait(_SECONDS)
        for process in self._started:
            assert PASSWORD not in process.out + process.err
            assert "Traceback" not in process.err, process.err
        for table in ("steps", "events", "runs", "leases", "workers", "meta"):
            rows = self.query(f"SELECT t::text FROM electrictown.{table} t")
            assert not [row for row in rows if PASSWORD in str(row)], table
        assert not {host: n for host, n in self.server.max_in_flight.items() if n > self.limits[host]}

    # --- what is in the database

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self.cluster.execute(statement, self.url)

    def steps(self) -> dict[str, int]:
        """The epoch that wrote each step, by its key."""
        return dict(self.query("SELECT key, epoch FROM electrictown.steps"))

    def leases(self) -> dict[str, tuple[str, float, int]]:
        """Who worked each subtask last, since when, and under which epoch."""
        query = "SELECT subtask, worker, at, epoch FROM electrictown.leases WHERE subtask <> ''"
        return {
            subtask: (worker.rpartition("-")[0], at, epoch)
            for subtask, worker, at, epoch in self.query(query)
        }

    def beats(self) -> dict[str, float]:
        """When each worker that is on the list has said last that it lives."""
        query = "SELECT worker, extract(epoch FROM seen)::float8 FROM electrictown.workers WHERE NOT dead"
        return {worker.rpartition("-")[0]: seen for worker, seen in self.query(query)}

    def here(self, *names: str) -> None:
        """Wait until workers of these names are on the list."""
        made = "SELECT 1 FROM pg_tables WHERE schemaname = 'electrictown' AND tablename = 'workers'"
        until(lambda: self.query(made) and set(names) <= self.beats().keys())

    def at_work(self, *keys: str) -> None:
        """Wait until these steps were asked for."""
        until(lambda: set(keys) <= self.town.made().keys())

    def done(self, *keys: str) -> None:
        """Wait until these steps are committed."""
        until(lambda: set(keys) <= self.steps().keys())

    def held_by(self, name: str) -> set[str]:
        """Steps that were asked for and are not committed, of the subtasks that a worker has."""
        known = self.steps()
        subtasks = {subtask for subtask, (worker, _, _) in self.leases().items() if worker == name}
        return {key for key in self.town.made() if key not in known and key.partition(".")[0] in subtasks}


def end_state(report: Report, folder: Path) -> dict[str, Any]:
    """All of a run that must not depend on who worked what, when, and how often it was interrupted."""
    files = {str(f.relative_to(folder)): f.read_text() for f in folder.rglob("*") if f.is_file()}
    told = timeless(msgspec.json.decode(msgspec.json.encode(report)))
    kept = {key: told.get(key) for key in ("outcome", "exit_code", "text", "plan", "brief", "results")}
    scores = {r.subtask: [a.review.score if a.review else None for a in r.attempts] for r in report.results}
    return {**kept, "files": files, "scores": scores, "placed": sorted(report.files)}


def until(true: Callable[[], object], seconds: float = _SECONDS) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.03)


def metrics(port: int) -> dict[str, float]:
    """What a worker tells Prometheus, by the names of the figures."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    return {
        name: float(value) for name, value in re.findall(r"^et_worker_(\w+)\{.*\} (.+)$", text, re.MULTILINE)
    }


def titles(process: Process) -> str:
    """The command line of a process as all users of the machine see it."""
    return re.sub("\0", " ", Path(f"/proc/{process.popen.pid}/cmdline").read_text())
