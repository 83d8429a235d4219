"""A journal that fails under a run: it is said once, nothing hangs, and what was committed is kept."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from cli_kit import Said, Shell, finished, until
from test_cli_processes import committed

from electrictown.journal.stores import journal_file, state_folder
from fakes.fake_server import Reply, Seen
from fakes.town_kit import FakeTown, serving, yaml_of

KEY, PASSWORD, HEADER = "sk-live-0123456789abcdef", "hunter2hunter2", "gate-token-987654"


def clean(said: Said) -> None:
    assert "Traceback" not in said.err
    assert "never retrieved" not in said.err
    errors = [line for line in said.err.splitlines() if re.match(r"error: (?!t\d+ failed)", line)]
    assert len(errors) == 1, said.err


@contextmanager
def held() -> Generator[None]:
    """Another program has the journal for itself."""
    with closing(sqlite3.connect(journal_file(os.environ), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def test_a_state_folder_that_cannot_be_written_is_said_before_anybody_is_asked(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.write("state", "a file")
    monkeypatch.setenv("XDG_STATE_HOME", str(shell.folder / "state"))
    town = FakeTown()
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "build it")
    assert (said.code, said.out) == (75, "")
    clean(said)
    assert "XDG_STATE_HOME" in said.err
    assert not town.asked


def test_a_folder_of_slots_that_cannot_be_made_is_said(shell: Shell) -> None:
    town = FakeTown()
    state_folder(os.environ).mkdir(parents=True)
    (state_folder(os.environ) / "slots").write_text("a file")
    with serving(town) as server:
        shell.configure(yaml_of(server.url, type_="openai"))
        said = shell.process("run", "build it")
    assert said.code not in (0, 130), said.err
    assert "slots" in said.err
    assert "Traceback" not in said.err


def test_a_journal_that_is_locked_for_long_ends_the_run_with_what_it_has(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "electrictown.journal.sqlite.SqliteStore.open.__func__.__kwdefaults__", {"patience": 0.2}
    )
    let_go = threading.Event()
    holds: list[threading.Thread] = []

    def hold() -> None:
        with held():
            let_go.wait(20)

    def printer(seen: Seen) -> str:
        """The journal is taken while the second subtask is worked."""
        if "## Your subtask\n\nwrite the printer" in seen.prompt and not holds:
            holds.append(threading.Thread(target=hold))
            holds[0].start()
            until(lambda: locked())
        return "def parse(): ..."

    town = FakeTown(plan="1. write the parser\n2. write the printer [depends: 1]", work=printer)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = shell.et("run", "build it")
        let_go.set()
        holds[0].join()
        assert said.code == 75
        clean(said)
        assert "locked by another program" in said.err
        assert "## t01: write the parser\n\ndef parse(): ..." in said.out, "what was done is handed over"
        assert "t01.result" in committed(shell)
        town.asked.clear()
        again = shell.et("resume", "last")
    assert (again.code, again.out) == (0, "The merged result.\n")
    assert town.asked == {"work": 1, "synthesize": 1}


def locked() -> bool:
    with closing(sqlite3.connect(journal_file(os.environ), timeout=0, isolation_level=None)) as other:
        try:
            other.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        other.execute("ROLLBACK")
        return False


def test_a_journal_that_is_taken_away_under_a_run_ends_it(shell: Shell) -> None:
    town = FakeTown(work=Reply(text="def parse(): ...", latency=1.5))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        process = shell.start("run", "build it")
        until(lambda: town.asked["work"] == 2)
        file = journal_file(os.environ)
        file.rename(file.with_name("elsewhere.db"))
        said = finished(process)
    assert said.code == 75, said.err
    clean(said)
    assert town.asked["work"] == 2, "nothing more is asked"


@pytest.fixture
def small_disk(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A state folder on a disk of two megabytes, where this machine lets one be made."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "none", str(folder)]
    made = subprocess.run(command, capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.decode().strip()}")
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_in_the_middle_ends_the_run_with_what_it_has(
    shell: Shell, small_disk: Path
) -> None:
    def printer(seen: Seen) -> str:
        if "## Your subtask\n\nwrite the printer" in seen.prompt and not (small_disk / "big").exists():
            with suppress(OSError), (small_disk / "big").open("wb", buffering=0) as big:
                while True:
                    big.write(b"x" * 4096)
            return "print" * 40_000
        return "def parse(): ..."

    town = FakeTown(plan="1. write the parser\n2. write the printer [depends: 1]", work=printer)
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        said = shell.process("run", "build it")
        assert said.code == 75, said.err
        clean(said)
        assert "no space left" in said.err
        assert "def parse(): ..." in said.out
        town.asked.clear()
        assert shell.et("resume", "last").code == 75
        (small_disk / "big").write_bytes(b"")
        town.answers["work"] = "def parse(): ..."
        again = shell.et("resume", "last")
        assert again.code == 0, again.err
    assert town.asked["plan"] == 0
    assert "t01.result" in committed(shell)


# --- secrets


def kept() -> bytes:
    """Every byte under the state folder, names included."""
    found = b""
    for path in state_folder(os.environ).rglob("*"):
        found += str(path).encode() + (path.read_bytes() if path.is_file() else b"")
    return found


def everywhere(shell: Shell) -> str:
    looks = [["show", "last"], ["show", "last", "--failed"], ["log", "last"], ["runs"], ["cost"]]
    return "".join(shell.et(*look, *form).all for look in looks for form in ([], ["--json"]))


CONFIG = """\
providers:
  cloud: {{type: openai, base_url: {url}/v1, api_key: {key}, headers: {{X-Gate-Token: {header}}}}}
  proxied: {{type: openai, base_url: '{proxied}/v1', api_key: {key}}}
models:
  m: {{provider: cloud, model: big}}
  n: {{provider: proxied, model: small}}
roles:
  mayor: {{model: m}}
  polecat: {{model: m, pool: [m, n]}}
  witness: {{model: m}}
"""


@pytest.mark.parametrize("where", ["in the environment", "in the file"])
def test_no_secret_is_kept_whoever_repeats_it(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The model echoes the key in all it says, the vendor in an error; a run is killed and goes on."""
    all_of_them = f"{KEY} {HEADER} {PASSWORD}"
    echo = Reply(status=402, error=f"no credit left for {all_of_them}", headers=(("X-Request-Id", KEY),))
    town = FakeTown(
        plan=f"1. use {all_of_them}\n2. print {KEY}",
        brief=f"The key is {all_of_them}.",
        work=lambda seen: echo if "/proxied" in seen.host else f"key = '{all_of_them}'",
        review=f"Score: 8. It holds {all_of_them}.",
        synthesize=Reply(latency=60),
    )
    with serving(town) as server:
        proxied = server.url.replace("http://", f"http://anna:{PASSWORD}@") + "/proxied"
        names = {"key": "$CLOUD_KEY", "header": "$GATE", "proxied": "$PROXIED"}
        values = {"key": KEY, "header": HEADER, "proxied": proxied}
        for name in names:
            monkeypatch.setenv(names[name][1:], values[name])
        given = names if where == "in the environment" else values
        shell.configure(CONFIG.format(url=server.url, **given))
        process = shell.start("run", f"the password is {PASSWORD}", "--output-dir", "out")
        until(lambda: town.asked["synthesize"])
        process.kill()
        finished(process)
        wal = kept()
        assert b"synthesize" in wal
        shown = everywhere(shell)
        town.answers["synthesize"] = f"Done with {all_of_them}."
        again = shell.process("resume", "last", "--json")
    assert again.code == 0, again.err
    assert again.report.text == "Done with *** *** ***."
    for secret in (KEY, HEADER, PASSWORD):
        assert secret.encode() not in wal
        assert secret.encode() not in kept()
        assert secret not in shown
        assert secret not in everywhere(shell)
        assert secret not in again.all
    assert "no credit left for ***" in shown


def test_a_driver_that_was_frozen_and_woken_does_no_harm(shell: Shell) -> None:
    town = FakeTown(work=Reply(text="def parse(): ...", latency=0.5))
    with serving(town) as server:
        shell.configure(yaml_of(server.url))
        process = shell.start("run", "build it")
        until(lambda: town.asked["work"] == 2)
        process.send_signal(signal.SIGSTOP)
        assert shell.et("resume", "last").code == 75
        process.send_signal(signal.SIGCONT)
        said = finished(process)
    assert (said.code, said.out) == (0, "The merged result.\n")
