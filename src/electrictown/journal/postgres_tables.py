"""The tables of the journal in PostgreSQL, and every statement that touches them.

They lie in a schema of their own. `leases` says who may write on behalf of what: the driver of a run
(subtask "") and the worker of each subtask, each under the epoch it was given; whoever takes the work over
gets a later one, and no statement of the earlier one finds its lease again. `tx` is the transaction
that wrote a step: what was not yet visible to one reader is found by the next look without reading
everything again, in whatever order the transactions end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from typing import Final, cast

from electrictown.errors import JournalError
from electrictown.journal.journal import SCHEMA, Line, Step
from electrictown.journal.postgres_ledger import BUDGET
from electrictown.journal.rows import RunFacts, unknown
from electrictown.postgres import Connection, lock_key

__all__ = [
    "WORKERS_FROM",
    "channel_of",
    "drivers",
    "epoch_of",
    "facts",
    "fetch_steps",
    "has",
    "holder",
    "ids",
    "insert_cancel",
    "insert_lines",
    "insert_run",
    "insert_steps",
    "last_line",
    "lines",
    "lock_of",
    "make",
    "news",
    "standing",
    "steps",
    "take_lease",
    "terminate",
    "try_lock",
    "unlock_all",
]

WORKERS_FROM: Final = 1_000_000
"""Epochs of workers lie above it, those of drivers below: no key of one is ever a key of the other."""

_OLDEST: Final = 14
"""The oldest PostgreSQL that has all that is used here (`pg_terminate_backend` that waits)."""

_TABLES: Final = """
CREATE SCHEMA IF NOT EXISTS electrictown;
CREATE TABLE electrictown.meta (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE electrictown.runs (
    run text COLLATE "C" PRIMARY KEY, created double precision NOT NULL,
    lock bigint NOT NULL, leases integer NOT NULL DEFAULT 0);
CREATE TABLE electrictown.leases (
    run text COLLATE "C" NOT NULL, subtask text COLLATE "C" NOT NULL, epoch integer NOT NULL,
    worker text NOT NULL, at double precision NOT NULL, PRIMARY KEY (run, subtask));
CREATE TABLE electrictown.steps (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, kind text NOT NULL,
    at double precision NOT NULL, epoch integer NOT NULL, value json NOT NULL,
    tx xid8 NOT NULL DEFAULT pg_current_xact_id(), UNIQUE (run, key));
CREATE INDEX ON electrictown.steps (run, tx);
CREATE INDEX ON electrictown.steps (kind, at);
CREATE TABLE electrictown.events (
    run text COLLATE "C" NOT NULL, seq bigint NOT NULL, at double precision NOT NULL, event json NOT NULL,
    epoch integer NOT NULL, nth integer NOT NULL, PRIMARY KEY (run, seq), UNIQUE (run, epoch, nth));
CREATE TABLE electrictown.workers (
    worker text PRIMARY KEY, fetcher bigint, host text NOT NULL, pid integer NOT NULL,
    started timestamptz NOT NULL DEFAULT now(), seen timestamptz NOT NULL DEFAULT now(),
    timeout double precision, dead boolean NOT NULL DEFAULT false);
"""

_STEP: Final = "s.seq, s.run, s.key, s.kind, s.at, s.epoch, s.value::text"

# The lease is locked against who would take it over until the steps are committed, and looked up anew
# if that one was faster: so a step is written by the lease that stands, or not at all.
_INSERT: Final = """
WITH lease AS MATERIALIZED (
    SELECT 1 FROM electrictown.leases
    WHERE run = %(run)s AND subtask = %(subtask)s AND epoch = %(epoch)s FOR SHARE),
put AS (
    INSERT INTO electrictown.steps (run, key, kind, at, epoch, value)
    SELECT %(run)s, g.key, g.kind, g.at, %(epoch)s, g.value::json
    FROM lease, unnest(%(keys)s::text[], %(kinds)s::text[], %(ats)s::float8[], %(values)s::text[])
        WITH ORDINALITY AS g(key, kind, at, value, n)
    ORDER BY g.n
    ON CONFLICT (run, key) DO NOTHING RETURNING key, seq)
SELECT '' AS key, (SELECT count(*) FROM lease) AS seq,
    CASE WHEN %(tell)s THEN pg_notify(%(channel)s, '')::text END
UNION ALL SELECT key, seq, NULL FROM put
"""

_LINES: Final = """
INSERT INTO electrictown.events (run, seq, at, event, epoch, nth)
SELECT %(run)s, g.n + (SELECT coalesce(max(seq), 0) FROM electrictown.events WHERE run = %(run)s),
    g.at, g.event::json, %(epoch)s, g.nth
FROM unnest(%(nths)s::int[], %(ats)s::float8[], %(events)s::text[]) WITH ORDINALITY AS g(nth, at, event, n)
WHERE NOT EXISTS (
    SELECT 1 FROM electrictown.events e WHERE e.run = %(run)s AND e.epoch = %(epoch)s AND e.nth = g.nth)
"""

_FACTS: Final = """
SELECT r.run, r.created, h.value::text,
    (SELECT count(*) FROM electrictown.steps d
        WHERE d.run = r.run AND d.key >= 'driver.' AND d.key < 'driver/') AS drivers,
    EXISTS (SELECT 1 FROM electrictown.steps c WHERE c.run = r.run AND c.key = 'cancel.e' || (
        SELECT count(*) FROM electrictown.steps d
        WHERE d.run = r.run AND d.key >= 'driver.' AND d.key < 'driver/')) AS cancelled,
    EXISTS (SELECT 1 FROM pg_locks k WHERE k.locktype = 'advisory' AND k.granted AND k.objsubid = 1
        AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND k.classid::bigint = (r.lock >> 32) & 4294967295
        AND k.objid::bigint = r.lock & 4294967295) AS driven
FROM electrictown.runs r JOIN electrictown.steps h ON h.run = r.run AND h.key = 'run'
WHERE (%(run)s::text IS NULL OR r.run = %(run)s) AND (%(since)s::float8 IS NULL OR r.created >= %(since)s)
ORDER BY h.seq DESC LIMIT %(limit)s
"""

# What the one before had set aside and never settled counts as spent: nobody knows what it came to.
_LEASE: Final = """
WITH number AS (
    UPDATE electrictown.runs SET leases = leases + (%(epoch)s::int IS NULL)::int
    WHERE run = %(run)s RETURNING leases)
INSERT INTO electrictown.leases (run, subtask, epoch, worker, at)
SELECT %(run)s, %(subtask)s, coalesce(%(epoch)s::int, %(base)s + leases), %(worker)s,
    extract(epoch FROM clock_timestamp()) FROM number
ON CONFLICT (run, subtask) DO UPDATE SET epoch = excluded.epoch, worker = excluded.worker, at = excluded.at
RETURNING epoch, electrictown.write_off(run, subtask)
"""


def lock_of(run: str) -> int:
    """The advisory lock that the driver of a run holds."""
    return lock_key(f"run {run}")


def channel_of(run: str) -> str:
    """The channel on which a run's news is told. Ids may be longer than the name of a channel."""
    return f"electrictown_{blake2b(run.encode(), digest_size=12).hexdigest()}"


async def make(connection: Connection, place: str) -> None:
    """Make the tables where there are none, and refuse what this program cannot use.

    Raises:
        JournalError: when they are of a newer version, the server is too old, or does not keep UTF-8.
    """
    if connection.info.server_version < _OLDEST * 10_000:
        raise JournalError(
            f"the server at {place} is PostgreSQL {connection.info.server_version // 10_000}",
            f"it must be {_OLDEST} or newer",
        )
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise JournalError(
            f"the database at {place} keeps text as {encoding}, which cannot hold what models write",
            "make one that keeps UTF-8: createdb --encoding=UTF8 --template=template0 NAME",
        )
    if not await _made(connection):
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key("tables"),))
            if not await _made(connection):  # another program may have been faster
                await connection.execute(_TABLES)
                await connection.execute(BUDGET)
                await connection.execute(
                    "INSERT INTO electrictown.meta VALUES ('schema', %s)", (str(SCHEMA),)
                )
    found = await _one(connection, "SELECT value FROM electrictown.meta WHERE name = 'schema'")
    version = str(found[0]) if found else ""
    if not version.isdecimal():
        raise JournalError(f"the schema electrictown at {place} is no journal of et", "name another database")
    if int(version) > SCHEMA:
        raise JournalError(
            f"the journal at {place} is of version {version}; this et knows versions up to {SCHEMA}",
            "a newer et has written it: use that one",
        )


async def _made(connection: Connection) -> bool:
    # to_regclass would answer from a cache that the lock does not bring up to date.
    query = "SELECT 1 FROM pg_tables WHERE schemaname = 'electrictown' AND tablename = 'meta'"
    return await _one(connection, query) is not None


async def _one(
    connection: Connection, query: str, given: Sequence[object] | Mapping[str, object] | None = None
) -> tuple[object, ...] | None:
    # The queries of this module are its own constants; psycopg's type wants literals where they are used.
    return await (await connection.execute(query.encode(), given)).fetchone()


async def _all(
    connection: Connection, query: str, given: Sequence[object] | Mapping[str, object] | None = None
) -> list[tuple[object, ...]]:
    return await (await connection.execute(query.encode(), given)).fetchall()


def _step(row: tuple[object, ...]) -> Step:
    seq, run, key, kind, at, epoch, value = cast("tuple[int, str, str, str, float, int, str]", row)
    return Step(seq, run, key, kind, at, epoch, value.encode())


# --- writing ---


async def insert_run(connection: Connection, run: str, at: float) -> bool:
    """A new run; False where there is one of that id."""
    return (
        await _one(
            connection,
            "INSERT INTO electrictown.runs (run, created, lock) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING RETURNING 1",
            (run, at, lock_of(run)),
        )
        is not None
    )


async def take_lease(
    connection: Connection, run: str, subtask: str, worker: str, epoch: int | None = None
) -> int:
    """Take over what is done for `subtask` ("": the driving of the run); a new epoch unless one is given.

    Raises:
        UnknownRunError: when there is no such run.
    """
    given = {"run": run, "subtask": subtask, "worker": worker, "epoch": epoch, "base": WORKERS_FROM}
    found = await _one(connection, _LEASE, given)
    if found is None:
        raise unknown(run)
    return cast("int", found[0])


async def insert_steps(
    connection: Connection, steps: Sequence[Step], *, subtask: str, tell: bool
) -> dict[str, int] | None:
    """Commit the steps of one lease, in order; the number of each whose key was free.

    None: somebody else has taken the lease over, and nothing was written.
    """
    first = steps[0]
    given = {
        "run": first.run,
        "subtask": subtask,
        "epoch": first.epoch,
        "keys": [step.key for step in steps],
        "kinds": [step.kind for step in steps],
        "ats": [step.at for step in steps],
        "values": [step.value.decode() for step in steps],
        "tell": tell,
        "channel": channel_of(first.run),
    }
    rows = cast("list[tuple[str, int, None]]", await _all(connection, _INSERT, given))
    numbers = {key: seq for key, seq, _ in rows}
    return numbers if numbers.pop("") else None


async def insert_lines(connection: Connection, run: str, epoch: int, lines: Sequence[Line]) -> None:
    """Events of one writer, numbered anew among those of all; one that is there already is left alone."""
    given = {
        "run": run,
        "epoch": epoch,
        "nths": [line.seq for line in lines],
        "ats": [line.at for line in lines],
        "events": [line.event.decode() for line in lines],
    }
    async with connection.transaction():
        # For people, so nobody waits for the disk. The lock makes the numbers those of the order of commits.
        await connection.execute("SET LOCAL synchronous_commit = off")
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock_key(f"feed {run}"),))
        await connection.execute(_LINES.encode(), given)


async def insert_cancel(connection: Connection, step: Step) -> None:
    """The wish that the run's driver ends it, which needs no lease, and the news of it.

    Raises:
        UnknownRunError: when there is no such run.
    """
    found = await _one(
        connection,
        "WITH wish AS (INSERT INTO electrictown.steps (run, key, kind, at, epoch, value)"
        " SELECT run, 'cancel.e' || (SELECT count(*) FROM electrictown.steps d"
        " WHERE d.run = %(run)s AND d.key >= 'driver.' AND d.key < 'driver/'),"
        " %(kind)s, %(at)s, %(epoch)s, %(value)s::json FROM electrictown.runs"
        " WHERE run = %(run)s ON CONFLICT DO NOTHING)"
        " SELECT pg_notify(%(channel)s, '') FROM electrictown.runs WHERE run = %(run)s",
        {
            "run": step.run,
            "kind": step.kind,
            "at": step.at,
            "epoch": step.epoch,
            "value": step.value.decode(),
            "channel": channel_of(step.run),
        },
    )
    if found is None:
        raise unknown(step.run)


# --- who drives and works ---


async def try_lock(connection: Connection, lock: int) -> bool:
    """Take an advisory lock for as long as the connection lasts; False where another one has it."""
    found = await _one(connection, "SELECT pg_try_advisory_lock(%s)", (lock,))
    return found == (True,)


async def unlock_all(connection: Connection) -> None:
    """Give back every advisory lock of the connection."""
    await connection.execute("SELECT pg_advisory_unlock_all()")


async def terminate(connection: Connection, pid: int, application: str) -> None:
    """End a connection of this program that its process has lost, if the server still has it."""
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE pid = %s AND application_name = %s AND pid <> pg_backend_pid()",
        (pid, application),
    )


async def epoch_of(connection: Connection, run: str, subtask: str) -> int:
    """The epoch of the lease that stands; 0 where nobody has taken it."""
    query = "SELECT epoch FROM electrictown.leases WHERE run = %s AND subtask = %s"
    found = await _one(connection, query, (run, subtask))
    return cast("int", found[0]) if found else 0


async def holder(connection: Connection, run: str) -> str:
    """Who drove the run last; "" where nobody did."""
    query = "SELECT worker FROM electrictown.leases WHERE run = %s AND subtask = ''"
    found = await _one(connection, query, (run,))
    return cast("str", found[0]) if found else ""


# --- reading ---


async def steps(
    connection: Connection, run: str | None, kinds: Collection[str], since: float | None
) -> list[Step]:
    """The steps of a run, or of all, in order."""
    rows = await _all(
        connection,
        f"SELECT {_STEP} FROM electrictown.steps s WHERE (%(run)s::text IS NULL OR run = %(run)s)"  # noqa: S608
        " AND (%(kinds)s::text[] IS NULL OR kind = ANY(%(kinds)s))"
        " AND (%(since)s::float8 IS NULL OR at >= %(since)s) ORDER BY seq",
        {"run": run, "kinds": list(kinds) or None, "since": since},
    )
    return [_step(row) for row in rows]


async def news(connection: Connection, run: str, horizon: int) -> tuple[int, list[Step]]:
    """The horizon of this look, and the steps of a run that one at `horizon` may have missed (0: all)."""
    rows = await _all(
        connection,
        f"SELECT pg_snapshot_xmin(pg_current_snapshot())::text, {_STEP}"  # noqa: S608  (a constant)
        " FROM (SELECT 1) one LEFT JOIN electrictown.steps s ON s.run = %s AND s.tx >= %s::text::xid8"
        " ORDER BY s.seq",
        (run, str(horizon)),
    )
    return int(cast("str", rows[0][0])), [_step(row[1:]) for row in rows if row[1] is not None]


async def fetch_steps(connection: Connection, run: str, keys: Collection[str], subtask: str) -> list[Step]:
    """The steps under `keys`, and those of a subtask ("": none), in order."""
    rows = await _all(
        connection,
        f"SELECT {_STEP} FROM electrictown.steps s WHERE run = %(run)s AND (key = ANY(%(keys)s)"  # noqa: S608
        " OR (%(subtask)s <> '' AND key >= %(subtask)s || '.' AND key < %(subtask)s || '/')) ORDER BY seq",
        {"run": run, "keys": list(keys), "subtask": subtask},
    )
    return [_step(row) for row in rows]


async def standing(connection: Connection, run: str, keys: Collection[str]) -> dict[str, Step]:
    """What stands under `keys`."""
    return {step.key: step for step in await fetch_steps(connection, run, keys, "")}


async def lines(
    connection: Connection, run: str, after: int, limit: int, *, unlike: int | None = None
) -> list[Line]:
    """The events of a run after number `after`, in order; not those of who holds the epoch `unlike`."""
    rows = await _all(
        connection,
        "SELECT seq, at, event::text FROM electrictown.events"
        " WHERE run = %s AND seq > %s AND epoch IS DISTINCT FROM %s::int ORDER BY seq LIMIT %s",
        (run, after, unlike, limit),
    )
    found = cast("list[tuple[int, float, str]]", rows)
    return [Line(seq, at, event.encode()) for seq, at, event in found]


async def last_line(connection: Connection, run: str) -> int:
    """The number of the run's last event, 0 where there is none."""
    row = await _one(
        connection, "SELECT coalesce(max(seq), 0) FROM electrictown.events WHERE run = %s", (run,)
    )
    return cast("int", row[0]) if row is not None else 0


async def drivers(connection: Connection, run: str) -> int:
    """How many drivers a run has had.

    Raises:
        UnknownRunError: when there is no such run.
    """
    found = await _one(
        connection,
        "SELECT (SELECT count(*) FROM electrictown.steps s"
        " WHERE s.run = r.run AND s.key >= 'driver.' AND s.key < 'driver/')"
        " FROM electrictown.runs r WHERE r.run = %s",
        (run,),
    )
    if found is None:
        raise unknown(run)
    return cast("int", found[0])


async def has(connection: Connection, run: str, key: str) -> bool:
    """Whether the run has a step of that key."""
    query = "SELECT 1 FROM electrictown.steps WHERE run = %s AND key = %s"
    return await _one(connection, query, (run, key)) is not None


async def ids(connection: Connection) -> list[str]:
    """The ids of all runs, newest first."""
    rows = await _all(
        connection, "SELECT run FROM electrictown.steps WHERE key = 'run' AND kind = 'run' ORDER BY seq DESC"
    )
    return [cast("str", row[0]) for row in rows]


async def facts(
    connection: Connection, *, run: str | None = None, since: float | None = None, limit: int | None = None
) -> list[tuple[RunFacts, bool]]:
    """What is known of the runs, newest first, and whether each is driven now; of `run` only, if named."""
    found = cast(
        "list[tuple[str, float, str, int, bool, bool]]",
        await _all(connection, _FACTS, {"run": run, "since": since, "limit": limit}),
    )
    ends = await _all(
        connection,
        f"SELECT {_STEP} FROM electrictown.steps s JOIN unnest(%s::text[], %s::int[]) AS r(run, epoch)"  # noqa: S608
        " ON s.run = r.run AND s.key = 'end.e' || r.epoch",
        ([row[0] for row in found], [row[3] for row in found]),
    )
    end_of = {step.run: step for step in map(_step, ends)}
    return [
        (RunFacts(name, created, header.encode(), count, cancelled, end_of.get(name)), driven)
        for name, created, header, count, cancelled, driven in found
    ]
