"""A private PostgreSQL in a folder of its own, for tests: started, restarted, and stopped for certain.

    with PostgresCluster() as cluster:
        url = cluster.database()  # a new, empty database
        cluster.restart()

The server runs as a child that dies with the process which started it, and as another user where that
one is root, as PostgreSQL wants it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Self

import psycopg
import pytest

__all__ = ["PASSWORD", "USER", "PostgresCluster", "free_port", "programs", "shared_cluster"]

USER = "town"
PASSWORD = "a-secret-of-the-tests"
_PR_SET_PDEATHSIG = 1
_SETTINGS = {
    "fsync": "off",  # a machine that loses its power is not tested
    "max_connections": "120",
    "shared_buffers": "16MB",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "autovacuum": "off",
    "log_min_messages": "fatal",
    "client_min_messages": "warning",
}


def programs() -> Path | None:
    """The folder of the newest server here; None where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None


class PostgresCluster:
    """A cluster of databases that trusts nobody without a password; `settings` are the server's."""

    def __init__(self, **settings: str) -> None:
        folder = programs()
        if folder is None:
            raise FileNotFoundError("PostgreSQL is not installed (scripts/debian-packages.sh test)")
        self._programs = folder
        self._settings = {**_SETTINGS, **settings}
        self._user = _ordinary_user()
        self._folder = Path(tempfile.mkdtemp(prefix="et-postgres-"))
        self._data = self._folder / "data"
        self._server: subprocess.Popen[bytes] | None = None
        self._names = (f"town{number}" for number in itertools.count())
        self._emptied = ""
        self.port = 0

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, database: str = "postgres", *, user: str = USER, password: str = PASSWORD) -> str:
        """The address of a database."""
        return f"postgresql://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """The address of a new database."""
        name = next(self._names)
        self.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def emptied(self) -> str:
        """The address of a database without et's tables: sooner had than a new one."""
        if not self._emptied:
            self._emptied = self.database()
        name = self._emptied.rsplit("/", 1)[1]
        self.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'")
        for schema in ("electrictown_jobs", "electrictown"):
            self.execute(f"SET lock_timeout = '10s'; DROP SCHEMA IF EXISTS {schema} CASCADE", self._emptied)
        return self._emptied

    def execute(self, statement: str, url: str = "") -> list[tuple[object, ...]]:
        """What a statement gives, in the database at `url`."""
        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Start the server, on the port it had before, and wait until it answers."""
        for _ in range(5):
            self._launch()
            if self._answers():
                return
            self.port = 0  # somebody else was faster to take it
        raise RuntimeError((self._folder / "log").read_text()[-2000:])

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends every connection, SIGQUIT is as good as a crash."""
        server, self._server = self._server, None
        if server is None:
            return
        server.send_signal(how)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server and start it again."""
        self.stop(how)
        self.start()

    async def restarted(self, how: signal.Signals = signal.SIGINT, *, away: float = 0.0) -> None:
        """As `restart`, without blocking the event loop; the server is `away` for so many seconds."""
        await asyncio.to_thread(self.stop, how)
        await asyncio.sleep(away)
        await self.started()

    async def started(self) -> None:
        """As `start`, on the same port, without blocking the event loop."""
        self._launch()  # not in a thread: the server dies with the thread that started it
        if not await asyncio.to_thread(self._answers):
            raise RuntimeError((self._folder / "log").read_text()[-2000:])

    def close(self) -> None:
        """Stop the server and remove all it wrote."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _initialise(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
            os.chown(password, self._user.pw_uid, self._user.pw_gid)
        words = ["-D", str(self._data), "-U", USER, "--pwfile", str(password), "-A", "scram-sha-256"]
        words += ["-E", "UTF8", "--locale", "C.UTF-8", "-N"]
        made = self._run("initdb", *words)
        if made.wait():
            raise RuntimeError((self._folder / "log").read_text()[-2000:])
        with (self._data / "postgresql.auto.conf").open("a") as settings:
            settings.writelines(f"{key} = '{value}'\n" for key, value in self._settings.items())

    def _launch(self) -> None:
        self.port = self.port or free_port()
        self._server = self._run("postgres", "-D", str(self._data), "-p", str(self.port))

    def _run(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        user = self._user
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [str(self._programs / program), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                start_new_session=True,  # a Ctrl-C is for the tests, and their end stops the server
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
                preexec_fn=_die_with_parent(),
            )

    def _answers(self) -> bool:
        while self._server is not None and self._server.poll() is None:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url(), connect_timeout=5).close()
                return True
            time.sleep(0.02)
        return False


@cache
def shared_cluster() -> PostgresCluster:
    """The cluster that all tests of this process share; skips where there is no PostgreSQL."""
    if programs() is None:
        pytest.skip("PostgreSQL is not installed (scripts/debian-packages.sh test)")
    cluster = PostgresCluster().__enter__()
    atexit.register(cluster.close)
    return cluster


def _ordinary_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: None is whoever runs the tests; PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise RuntimeError("PostgreSQL does not run as root, and there is no other user here")


def _die_with_parent() -> Callable[[], None] | None:
    """Have the kernel stop the server when the tests are killed."""
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None  # not Linux: there `close` alone must do
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
