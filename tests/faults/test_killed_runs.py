"""A run that SIGKILL ends at any write of its journal goes on, and pays for nothing twice."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from fakes.fake_server import FakeServer, Reply, Seen
from fakes.town_kit import FakeTown, serving, yaml_of
from fakes.town_steps import Steps, timeless
from faults.kill_points import Order

PLAN = "1. write the parser\n2. write the printer\n3. write the tests [depends: 1, 2]"
STEPS = Steps(PLAN)
KILLED = -9
When = Literal["before", "after"]


def _work(seen: Seen) -> str | Reply:
    """t02 wants a file outside the folder first, t03 is sent back once; h0 is out of order."""
    if seen.host.strip("/") == "h0":
        return Reply(status=500, error="the fan has stopped")
    name, number = STEPS.worked(seen)
    if name == "t02" and number == 1:
        return "attempt 1\n\n### FILE: ../printer.py\n```python\nprint(1)\n```\n"
    file = {"t01": "parser.py", "t02": "printer.py", "t03": "tests/test_all.py"}[name]
    more = "" if name != "t03" else "\n### FILE: parser.py\n```python\nraise SystemExit(3)\n```\n"
    return f"attempt {number}\n\n### FILE: {file}\n```python\n{name} = {number}\n```\n{more}"


def _review(seen: Seen) -> str:
    name, number = STEPS.reviewed(seen)
    score = 3 if name == "t03" and number == 1 else 8
    return f'{{"critique": "of {name}, attempt {number}", "score": {score}}}'


class Machine:
    """A folder with a configuration and a journal, and the program that runs and kills."""

    def __init__(self, root: Path, url: str, program: subprocess.Popen[bytes]) -> None:
        self.root = root
        self._program = program
        self.out = root / "out"
        (root / "home").mkdir(parents=True)
        (root / "electrictown.yaml").write_text(
            yaml_of(url, pool=3, witness="{model: chief}", refinery="{model: chief}")
        )

    def et(self, *arguments: str, kill: int = 0, when: When = "before") -> int:
        environ = {
            "HOME": str(self.root / "home"),
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_RUNTIME_DIR": str(self.root / "home"),
            "PATH": os.environ["PATH"],
        }
        order = Order([*arguments], environ, str(self.root / "stdout"), kill, when)
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(msgspec.json.encode(order) + b"\n")
        self._program.stdin.flush()
        return int(self._program.stdout.readline())

    def run(self, kill: int = 0, when: When = "before") -> int:
        config, out = str(self.root / "electrictown.yaml"), str(self.out)
        return self.et("run", "-q", "-c", config, "--output-dir", out, "build it", kill=kill, when=when)

    def resume(self, kill: int = 0, when: When = "before") -> int:
        return self.et("resume", "-q", "last", kill=kill, when=when)

    def committed(self) -> dict[str, Any]:
        """The steps by their keys."""
        file = self.root / "state" / "electrictown" / "journal.db"
        if not file.exists():
            return {}
        connection = sqlite3.connect(file)
        try:
            rows = connection.execute("SELECT key, value FROM steps").fetchall()
        except sqlite3.OperationalError:  # it had not come so far as to make its tables
            return {}
        finally:
            connection.close()
        return {key: msgspec.json.decode(value) for key, value in rows}

    def end_state(self) -> dict[str, Any]:
        """All that must not depend on when a run was killed."""
        files = {str(f.relative_to(self.out)): f.read_text() for f in self.out.rglob("*") if f.is_file()}
        steps = self.committed()
        return {
            "stdout": (self.root / "stdout").read_text(),
            "files": files,
            "steps": {
                key: timeless(value)
                for key, value in steps.items()
                if re.fullmatch(r"plan|plan\.call\d|brief|synthesize|refine|t\d+\..*", key)
                and not re.search(r"\.e\d+\.r\d+", key)
            },
        }

    def told(self) -> str:
        """What it said on stderr, for the message of a test that fails."""
        return (self.root / "stdout.err").read_text()


@pytest.fixture(scope="module")
def program() -> Iterator[subprocess.Popen[bytes]]:
    script = Path(__file__).with_name("kill_points.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)


@contextmanager
def _served() -> Generator[tuple[FakeTown, FakeServer]]:
    town = FakeTown(plan=PLAN, work=_work, review=_review)
    with serving(town) as server:
        yield town, server


def _settled(server: FakeServer) -> None:
    """Wait until the server has noticed that nobody asks any more: then all that was asked is counted."""
    limit = time.monotonic() + 10
    while server.connections:
        assert time.monotonic() < limit
        time.sleep(0.002)


def _made(town: FakeTown) -> Counter[str]:
    """How often each step was asked for, of hosts that answer."""
    made = Counter(STEPS.key_of(seen) for _, seen in town.seen if seen.host.strip("/") != "h0")
    town.seen.clear()
    return made


@pytest.fixture(scope="module")
def reference(program: subprocess.Popen[bytes], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The end of a run that nobody disturbed."""
    with _served() as (town, server):
        machine = Machine(tmp_path_factory.mktemp("reference") / "m", server.url, program)
        assert machine.run() == 0, machine.told()
        assert set(_made(town).values()) == {1}
        state = machine.end_state()
    assert set(state["files"]) == {"parser.py", "printer.py", "tests/test_all.py"}
    assert state["steps"]["t03.review2"]["score"] == 8
    return state


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_is_killed_at_any_write_goes_on_and_pays_for_nothing_twice(
    program: subprocess.Popen[bytes],
    reference: dict[str, Any],
    tmp_path: Path,
    when: When,
    record_property: Callable[[str, object], None],
) -> None:
    repeated: Counter[str] = Counter()
    point = 0
    with _served() as (town, server):
        while True:
            point += 1
            machine = Machine(tmp_path / str(point), server.url, program)
            code = machine.run(kill=point, when=when)
            if code != KILLED:
                assert code == 0, machine.told()
                break
            _settled(server)
            known = machine.committed()
            caught = {step for step in _made_so_far(town) if step not in known}
            if "run" in known:
                assert machine.resume() == 0, f"kill point {point}: {machine.told()}"
            else:
                assert not town.seen, "something was asked before the run was in the journal"
                assert machine.run() == 0, machine.told()
            for step, times in _made(town).items():
                assert times <= 1 + (step in caught), f"kill point {point}: {step} was asked {times} times"
                repeated[step] += times - 1
            assert machine.end_state() == reference, f"kill point {point}"
    told = f"{sum(repeated.values())} calls whose step was not committed were made again, no other"
    record_property(f"{point - 1} kill points:", told)
    assert point > 20


def _made_so_far(town: FakeTown) -> set[str]:
    return _steps_of(town.seen)


def _steps_of(asked: Iterable[tuple[str, Seen]]) -> set[str]:
    return {STEPS.key_of(seen) for _, seen in asked if seen.host.strip("/") != "h0"}


@pytest.mark.parametrize("seed", range(4))
def test_a_run_that_is_killed_again_and_again_comes_to_its_end(
    program: subprocess.Popen[bytes], reference: dict[str, Any], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    caught: Counter[str] = Counter()
    with _served() as (town, server):
        machine = Machine(tmp_path / "m", server.url, program)
        asked = 0
        code = machine.run(kill=chance.randint(3, 12), when="before")
        for kills_left in reversed(range(13)):
            if code != KILLED:
                break
            _settled(server)
            known, since = machine.committed(), _steps_of(town.seen[asked:])
            caught.update(step for step in since if step not in known)
            asked = len(town.seen)
            kill = chance.randint(2, 15) if kills_left else 0  # the last one is let come to its end
            code = machine.resume(kill=kill, when=chance.choice(("before", "after")))
        assert code == 0, machine.told()
        assert machine.resume() == 0, machine.told()
        for step, times in _made(town).items():
            assert times <= 1 + caught[step], f"{step} was asked {times} times"
        assert machine.end_state() == reference
