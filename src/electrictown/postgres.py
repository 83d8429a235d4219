"""The door to PostgreSQL: an address whose password stays inside, and connections that come back.

psycopg is imported when a connection is made, never before. Everything that goes wrong leaves this
module as a `JournalError` that names the server and the remedy, and no credential.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from urllib.parse import quote, urlencode

from electrictown.errors import JournalError, UsageError
from electrictown.redact import Secret, mask

if TYPE_CHECKING:
    import psycopg

__all__ = ["PATIENCE", "Connection", "Database", "Link", "lock_key", "passes", "pauses", "trouble"]

Connection: TypeAlias = "psycopg.AsyncConnection[tuple[object, ...]]"

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds that a lost server is waited for: long enough for it to be started again."""

_SHORTEST, _LONGEST = 0.05, 2.0  # seconds between two tries to connect
_NAME = 63  # bytes: PostgreSQL cuts an application's name there
_LONGEST_OWNER = 40

# What the server is told about a client that falls silent: a machine that lost its power lets go of its
# locks after 10 + 3 * 5 seconds instead of hours. Over a unix socket they mean nothing and do no harm.
_SERVER_SIDE: Final = (
    "SELECT set_config('tcp_keepalives_idle', '10', false),"
    " set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false),"
    " set_config('client_min_messages', 'warning', false)"
)
_CLIENT_SIDE: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
}

# What of an address may be shown besides user, host, port and name.
_SHOWN: Final = frozenset({"sslmode", "sslrootcert", "target_session_attrs"})

# Which failures to connect do not pass by themselves, by what the server says of them, and the remedy.
_HOPELESS: Final = (
    ("password authentication failed", "check user and password in the address, PGPASSWORD or ~/.pgpass"),
    ("no password supplied", "put the password into the address, PGPASSWORD or ~/.pgpass"),
    ("no pg_hba.conf entry", "let this machine in: a line in the server's pg_hba.conf"),
    ('" does not exist', "create it (createdb, createuser), or correct the address"),
    ("permission denied", "let the user connect: GRANT CONNECT ON DATABASE ... TO ..."),
    ("could not translate host name", "correct the host's name in the address"),
    ("failed to resolve host", "correct the host's name in the address"),
)
_BY_STATE: Final = {
    "53100": "make room on the disk of the database server, then `et resume` the run",
    "53200": "the database server is out of memory",
    "53300": "raise max_connections of the database server, or run fewer workers",
    "42501": "let the user create and use the schema: GRANT CREATE ON DATABASE ... TO ...",
    "25006": "this server takes no writes: give the address of the primary",
}
_AGAIN: Final = frozenset({"40001", "40P01"})  # a serialization failure or a deadlock: simply again


class Database:
    """A PostgreSQL database, by its URL (or `key=value` words); `owner` names this process to the server.

    `place` says where it is, `address` is the URL without the password.

    Raises:
        UsageError: when the address cannot be read, or psycopg is not installed.
    """

    def __init__(self, url: str | Secret, *, owner: str = "") -> None:
        self._url = url if isinstance(url, Secret) else Secret(url)
        self.owner = _short(owner)
        try:
            from psycopg import ProgrammingError
            from psycopg.conninfo import conninfo_to_dict
        except ImportError as error:
            raise UsageError(
                "PostgreSQL needs the extra `cluster`, which is not installed",
                "pip install 'electrictown[cluster]'",
            ) from error
        try:
            words = conninfo_to_dict(self._url.reveal())
        except ProgrammingError:
            # What libpq says here quotes the address, password and all.
            raise UsageError(
                "the address of the database cannot be read", "it looks like postgresql://user@host:5432/name"
            ) from None
        self._password = Secret(str(words.get("password") or ""))
        self.place = (
            f"{words.get('host') or 'localhost'}:{words.get('port') or 5432}/{words.get('dbname', '')}"
        )
        self.address = _shown(words)
        self._words = {key: value for key, value in _CLIENT_SIDE.items() if key not in words}

    def __repr__(self) -> str:
        return f"Database({self.place})"

    def named(self, owner: str) -> Database:
        """The same database for another owner."""
        return Database(self._url, owner=owner)

    def application(self, purpose: str) -> str:
        """The name under which the server lists a connection: "et OWNER PURPOSE"."""
        return " ".join(filter(None, ("et", self.owner, purpose))).encode()[:_NAME].decode(errors="ignore")

    def conninfo(self, purpose: str) -> Secret:
        """All that libpq needs, for a library that connects by itself."""
        from psycopg.conninfo import make_conninfo

        return Secret(
            make_conninfo(self._url.reveal(), **self._words, application_name=self.application(purpose))
        )

    async def connect(self, purpose: str) -> Connection:
        """A connection in autocommit mode; whoever asked closes it.

        Raises:
            psycopg.OperationalError: when there is none to be had; see `trouble`.
        """
        import psycopg

        connection = await psycopg.AsyncConnection.connect(self.conninfo(purpose).reveal(), autocommit=True)
        try:
            await connection.execute(_SERVER_SIDE)
        except BaseException:
            await connection.close()
            raise
        return connection


def _short(owner: str) -> str:
    """`owner`, or what stands for it where the server's list of connections has no room for it."""
    if len(owner.encode()) <= _LONGEST_OWNER:
        return owner
    head = owner.encode()[: _LONGEST_OWNER - 9].decode(errors="ignore")
    return f"{head}-{blake2b(owner.encode(), digest_size=4).hexdigest()}"


def _shown(words: Mapping[str, object]) -> str:
    """The URL that these words are, without what nobody but the server should see."""
    user, host, port = (str(words.get(name) or "") for name in ("user", "host", "port"))
    rest = {key: value for key, value in words.items() if key in _SHOWN}
    return (
        f"postgresql://{quote(user)}{'@' if user else ''}{quote(host, safe=',')}{':' if port else ''}{port}"
        f"/{quote(str(words.get('dbname') or ''))}{'?' if rest else ''}{urlencode(rest)}"
    )


def lock_key(name: str) -> int:
    """The number of the advisory lock of that name. Locks of pairs of numbers are never meant by it."""
    return int.from_bytes(blake2b(f"et {name}".encode(), digest_size=8).digest(), signed=True)


def trouble(error: BaseException, database: Database) -> JournalError:
    """What went wrong between this process and the database, for a person."""
    import psycopg

    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    said = mask(" ".join(str(error).split())) or type(error).__name__
    if state is None:
        hint = next((hint for words, hint in _HOPELESS if words in said), "")
        return JournalError(
            f"the database at {database.place} cannot be reached: {said}",
            hint or "is PostgreSQL running there, and does the address say so?",
        )
    return JournalError(
        f"the database at {database.place} refuses: {said}", _BY_STATE.get(state, "see the log of the server")
    )


def passes(error: BaseException) -> bool:
    """Whether a failure to connect may be over soon: a server that is being started again."""
    said = str(error)
    return not any(words in said for words, _ in _HOPELESS)


class Link:
    """One connection, used by one piece of work at a time, that comes back when it is lost.

    `greet` is run on each new connection before anything else: what it raises from errors.py is final.
    """

    def __init__(
        self,
        database: Database,
        purpose: str,
        *,
        greet: Callable[[Connection], Awaitable[None]] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.database = database
        self._purpose = purpose
        self._greet = greet
        self._patience = patience
        self._turn = asyncio.Lock()
        self._connection: Connection | None = None
        self._closed = False

    async def run(self, work: Callable[[Connection], Awaitable[T]], *, patience: float | None = None) -> T:
        """What `work` gives; where the connection is lost, `work` is run again on a new one.

        It must therefore come to the same when it is run twice, whether or not the first was committed.
        `patience` is how many seconds a lost server is waited for (0.0: not at all).

        Raises:
            JournalError: when the server stays away or refuses; also what `work` and `greet` raise.
        """
        async with self._turn:
            return await self._persist(work, self._patience if patience is None else patience)

    async def _persist(self, work: Callable[[Connection], Awaitable[T]], patience: float) -> T:
        import psycopg

        loop = asyncio.get_running_loop()
        until: float | None = None
        async for last in pauses():
            try:
                connection = await self._connected()
                return await work(connection)
            except (psycopg.Error, OSError) as error:
                again = isinstance(error, psycopg.Error) and error.sqlstate in _AGAIN
                lost = self._connection is None or self._connection.closed
                if not again and not (lost and passes(error)):
                    raise trouble(error, self.database) from None
                if lost:
                    await self.drop()
                until = loop.time() + patience if until is None else until
                if loop.time() + last > until:
                    raise trouble(error, self.database) from None
        raise AssertionError("pauses have no end")

    async def _connected(self) -> Connection:
        if self._closed:
            raise JournalError(f"the connection to {self.database.place} is closed already")
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = await self.database.connect(self._purpose)
        try:
            if self._greet is not None:
                await self._greet(connection)
        except BaseException:
            await connection.close()
            raise
        self._connection = connection
        return connection

    async def drop(self) -> None:
        """Close the connection; the next work makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def aclose(self) -> None:
        """Close the connection for good, after the work that is under way."""
        self._closed = True
        async with self._turn:
            await self.drop()


async def pauses() -> AsyncGenerator[float]:
    """Tries: each value is the pause that follows, in seconds, if the try fails; they double, with jitter."""
    pause = _SHORTEST
    while True:
        wait = pause * random.uniform(0.5, 1.0)  # noqa: S311  (jitter, no secret)
        yield wait
        await asyncio.sleep(wait)
        pause = min(pause * 2, _LONGEST)
