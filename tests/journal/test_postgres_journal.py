"""What only the journal in PostgreSQL does: leases, news of others, connections that are lost."""

from __future__ import annotations

import asyncio
import signal
import traceback
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from store_kinds import header

from electrictown.errors import (
    ElectrictownError,
    JournalError,
    LeaseLostError,
    RunBusyError,
    UnknownRunError,
    UsageError,
)
from electrictown.events import Noted
from electrictown.journal.journal import SCHEMA
from electrictown.journal.postgres import PostgresStore
from electrictown.journal.postgres_tables import WORKERS_FROM
from fakes.postgres import PASSWORD, PostgresCluster, shared_cluster

DRIVER = "et driver run r1"


@pytest.fixture
def cluster() -> PostgresCluster:
    return shared_cluster()


@pytest.fixture
def url(cluster: PostgresCluster) -> str:
    return cluster.emptied()


@asynccontextmanager
async def opened(url: str, owner: str = "driver", patience: float = 30.0) -> AsyncGenerator[PostgresStore]:
    store = await PostgresStore.open(url, owner=owner, patience=patience)
    try:
        yield store
    finally:
        await store.aclose()


def end_connections(cluster: PostgresCluster, url: str, like: str) -> int:
    """End the connections whose application's name is LIKE this, as somebody with the right to may."""
    found = cluster.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        f" WHERE application_name LIKE '{like}' AND datname = current_database()",
        url,
    )
    return len(found)


# --- leases ---


async def test_a_worker_knows_the_run_and_its_own_subtask(url: str) -> None:
    async with opened(url) as store, opened(url, "w1") as workers:
        journal = await store.begin("r1", header())
        await journal.record("plan", {"n": 1}, kind="plan")
        await journal.record("t1.result", "one", kind="result")
        await journal.record("t10.result", "ten", kind="result")
        lease = await workers.lease("r1", "t1", "w1")
        assert [step.key for step in lease.steps()] == ["run", "plan", "t1.result"]
        assert (lease.driver, lease.epoch) == (1, WORKERS_FROM + 1)
        await lease.fetch("t10.result", "t99.result")
        assert lease.recorded("t10.result", str) == "ten"
        assert lease.recorded("t99.result", str) is None
        with pytest.raises(UnknownRunError):
            await workers.lease("r2", "t1", "w1")
        await lease.aclose()
        await journal.aclose()


async def test_a_lease_that_was_taken_over_writes_nothing_more(url: str) -> None:
    async with opened(url) as store:
        journal = await store.begin("r1", header())
        old = await store.lease("r1", "t1", "w1")
        assert await old.record("t1.attempt1", "of the first", kind="attempt")
        new = await store.lease("r1", "t1", "w2")
        assert new.recorded("t1.attempt1", str) == "of the first"
        with pytest.raises(LeaseLostError, match="t1"):
            await old.record("t1.attempt2", "of a dead one", kind="attempt")
        with pytest.raises(LeaseLostError):
            old.note("t1.attempt3", "of a dead one", kind="attempt")
        assert await new.record("t1.attempt2", "of the second", kind="attempt")
        keys = [step.key for step in await store.steps("r1", kinds=("attempt",))]
        assert keys == ["t1.attempt1", "t1.attempt2"]
        await new.aclose()
        await journal.aclose()


async def test_of_two_who_write_while_the_lease_changes_hands_none_is_lost_or_mixed(url: str) -> None:
    """Whatever the order: what the first one wrote is known to the second, or was refused."""
    async with opened(url) as store, opened(url, "w2") as others:
        journal = await store.begin("r1", header())
        old = await store.lease("r1", "t1", "w1")
        written: list[int] = []

        async def write() -> None:
            for number in range(1000):
                await old.record(f"t1.s{number}", number, kind="x")
                written.append(number)

        writing = asyncio.create_task(write())
        while len(written) < 5:
            await asyncio.sleep(0)
        new = await others.lease("r1", "t1", "w2")
        with pytest.raises(LeaseLostError):
            await writing
        known = [step.read(int) for step in new.steps(("x",))]
        assert known == written
        assert [step.read(int) for step in await store.steps("r1", kinds=("x",))] == written
        await new.aclose()
        await journal.aclose()


async def test_epochs_of_workers_and_drivers_never_meet(url: str) -> None:
    async with opened(url) as store:
        journal = await store.begin("r1", header())
        epochs = [(await store.lease("r1", subtask, "w")).epoch for subtask in ("t1", "t2", "t1")]
        await journal.aclose()
        again = await store.resume("r1")
        assert (epochs, again.epoch) == ([WORKERS_FROM + 1, WORKERS_FROM + 2, WORKERS_FROM + 3], 2)
        await again.aclose()


async def test_a_key_that_another_wrote_first_is_read_from_there(url: str) -> None:
    async with opened(url) as store:
        journal = await store.begin("r1", header())
        lease = await store.lease("r1", "t1", "w1")
        assert await journal.record("brief", "the driver's", kind="call")

        async def paid() -> str:
            return "the worker's"

        assert not await lease.record("brief", "the worker's", kind="call")
        assert lease.recorded("brief", str) == "the driver's"
        assert await lease.step("brief", paid, str, kind="call") == "the driver's"
        await lease.aclose()
        await journal.aclose()


async def test_events_of_many_writers_are_numbered_without_a_gap(url: str) -> None:
    async with opened(url) as store, opened(url, "w1") as workers:
        journal = await store.begin("r1", header())
        leases = [await workers.lease("r1", f"t{n}", "w1") for n in range(4)]
        writers = [journal, *leases]
        for number in range(100):
            for writer in writers:
                writer.tell(Noted(text=str(number)))
        for writer in writers:
            await writer.aclose()
        lines = await store.lines("r1")
        assert [line.seq for line in lines] == list(range(1, 501))


# --- news ---


async def test_a_driver_hears_what_a_worker_wrote(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("electrictown.journal.postgres_journal._LOOK", 3600.0)  # only NOTIFY can be in time
    async with opened(url) as store, opened(url, "w1") as workers:
        journal = await store.begin("r1", header())
        first = asyncio.create_task(journal.wait_for("t1.result", "t1.failed"))
        second = asyncio.create_task(journal.wait_for("t2.result"))
        lease = await workers.lease("r1", "t1", "w1")
        await lease.record("t1.attempt1", "x", kind="attempt")
        await lease.record("t1.failed", "no luck", kind="outcome")
        async with asyncio.timeout(10):
            assert (await first).read(str) == "no luck"
        assert not second.done()
        assert journal.recorded("t1.attempt1", str) == "x"
        other = await workers.lease("r1", "t2", "w1")
        await other.record("t2.result", "fine", kind="result")
        async with asyncio.timeout(10):
            assert (await second).key == "t2.result"
            assert (await journal.wait_for("t2.result")).key == "t2.result"
        await lease.aclose()
        await other.aclose()
        await journal.aclose()


async def test_what_nobody_tells_is_found_by_looking(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("electrictown.journal.postgres_journal._LOOK", 0.05)
    monkeypatch.setattr("electrictown.journal.postgres_lane.TOLD", frozenset[str]())
    async with opened(url) as store, opened(url, "w1") as workers:
        journal = await store.begin("r1", header())
        waiting = asyncio.create_task(journal.wait_for("t1.result"))
        lease = await workers.lease("r1", "t1", "w1")
        await lease.record("t1.result", "fine", kind="result")
        async with asyncio.timeout(10):
            assert (await waiting).read(str) == "fine"
        await lease.aclose()
        await journal.aclose()


async def test_steps_that_become_visible_out_of_order_are_all_seen(
    cluster: PostgresCluster, url: str
) -> None:
    """A transaction that took its number first and ends last is the one that is easily missed."""
    import psycopg

    insert = (
        "INSERT INTO electrictown.steps (run, key, kind, at, epoch, value) VALUES ('r1', %s, 'x', 0, 1, '1')"
    )
    async with opened(url) as store:
        journal = await store.begin("r1", header())
        slow = await psycopg.AsyncConnection.connect(url)
        await slow.execute(insert, ("slow",))
        cluster.execute(insert.replace("%s", "'fast'"), url)
        await journal.refresh()
        assert [step.key for step in journal.steps(("x",))] == ["fast"]
        await slow.commit()
        await slow.close()
        cluster.execute(insert.replace("%s", "'last'"), url)
        await journal.refresh()
        assert [step.key for step in journal.steps(("x",))] == ["slow", "fast", "last"]
        await journal.aclose()


async def test_a_worker_hears_that_its_run_is_cancelled(url: str) -> None:
    async with opened(url) as store, opened(url, "w1") as workers:
        journal = await store.begin("r1", header())
        lease = await workers.lease("r1", "t1", "w1")
        hears = asyncio.create_task(lease.cancelled())
        await store.cancel("r1")
        async with asyncio.timeout(4):
            await hears
        await lease.aclose()
        await journal.aclose()


# --- connections that are lost ---


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restart", "crash"])
async def test_a_restart_in_the_middle_loses_nothing_and_writes_nothing_twice(
    cluster: PostgresCluster, url: str, how: signal.Signals
) -> None:
    async with opened(url) as store, opened(url, "w1") as workers:
        journal = await store.begin("r1", header())
        lease = await workers.lease("r1", "t1", "w1")
        acknowledged: list[str] = []
        go_on = True

        async def write(writer: str) -> None:
            mine, number = (journal if writer == "d" else lease), 0
            while go_on:
                key = f"t1.{writer}{number}"
                assert await mine.record(key, key, kind="x"), f"{key} was taken for another's"
                acknowledged.append(key)
                number += 1

        waiting = asyncio.create_task(journal.wait_for("t1.result"))
        writing = [asyncio.create_task(write(writer)) for writer in "dw"]
        for _ in range(2):
            before = len(acknowledged)
            await cluster.restarted(how)
            async with asyncio.timeout(20):
                while len(acknowledged) < before + 20:
                    await asyncio.sleep(0.01)
        go_on = False
        await asyncio.gather(*writing)
        await lease.record("t1.result", "fine", kind="result")
        async with asyncio.timeout(20):
            assert (await waiting).read(str) == "fine"
        kept = [step.key for step in await store.steps("r1", kinds=("x",))]
        assert sorted(kept) == sorted(acknowledged)
        with pytest.raises(RunBusyError):
            await workers.resume("r1")  # the lock was taken again
        await lease.aclose()
        await journal.aclose()


async def test_a_driver_that_was_replaced_while_it_was_cut_off_stops(
    cluster: PostgresCluster, url: str
) -> None:
    async with opened(url) as store, opened(url, "other") as others:
        journal = await store.begin("r1", header())
        assert end_connections(cluster, url, DRIVER) == 1
        second = await others.resume("r1")
        with pytest.raises(LeaseLostError, match="another process drives"):
            await journal.record("k", "of the first", kind="x")
        assert await second.record("k", "of the second", kind="x")
        await second.aclose()
        with pytest.raises(LeaseLostError):
            await journal.aclose()


async def test_a_driver_that_was_replaced_by_one_that_has_ended_stops_too(
    cluster: PostgresCluster, url: str
) -> None:
    async with opened(url) as store, opened(url, "other") as others:
        journal = await store.begin("r1", header())
        end_connections(cluster, url, DRIVER)
        await (await others.resume("r1")).aclose()
        with pytest.raises(LeaseLostError):
            await journal.record("k", 1, kind="x")
        with pytest.raises(LeaseLostError):
            await journal.aclose()


async def test_a_server_that_stays_away_is_said_and_nothing_hangs(cluster: PostgresCluster, url: str) -> None:
    async with opened(url, patience=0.2) as store:
        journal = await store.begin("r1", header())
        await journal.record("kept", 1, kind="x")
        await asyncio.to_thread(cluster.stop)
        try:
            with pytest.raises(JournalError, match="cannot be reached") as caught:
                await journal.record("k", 1, kind="x")
            assert "PostgreSQL" in caught.value.hint
            with pytest.raises(JournalError):
                await journal.record("k2", 1, kind="x")
            with pytest.raises(JournalError):
                await journal.aclose()
        finally:
            await cluster.started()
    async with opened(url) as store:
        assert [step.key for step in await store.steps("r1", kinds=("x",))] == ["kept"]


# --- trouble ---


async def trouble_of(url: str) -> ElectrictownError:
    with pytest.raises(ElectrictownError) as caught:
        await PostgresStore.open(url)
    whole = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.hint
    assert "hunter2-hunter2" not in whole
    assert PASSWORD not in whole
    return caught.value


async def test_a_wrong_password_is_said_without_it(cluster: PostgresCluster) -> None:
    error = await trouble_of(cluster.url(password="hunter2-hunter2"))
    assert isinstance(error, JournalError)
    assert "password authentication failed" in error.message
    assert "PGPASSWORD" in error.hint


async def test_an_address_that_cannot_be_read_is_not_shown() -> None:
    for address in (
        "postgresql://town:hunter2-hunter2@[half/x",
        "postgresql://town:hunter2-hunter2@h/x?nonsense=1",
        "hunter2-hunter2",
    ):
        error = await trouble_of(address)
        assert isinstance(error, UsageError)
        assert "postgresql://" in error.hint


async def test_nobody_there_and_no_such_database(cluster: PostgresCluster) -> None:
    away = await trouble_of(f"postgresql://town:{PASSWORD}@127.0.0.1:1/x")
    assert "127.0.0.1:1/x" in away.message
    assert "running" in away.hint
    none = await trouble_of(cluster.url("nowhere"))
    assert "nowhere" in none.message
    assert "createdb" in none.hint


async def test_a_newer_journal_is_refused(cluster: PostgresCluster, url: str) -> None:
    async with opened(url):
        cluster.execute("UPDATE electrictown.meta SET value = '99'", url)
    error = await trouble_of(url)
    assert "version 99" in error.message
    assert f"up to {SCHEMA}" in error.message


async def test_a_database_of_another_encoding_is_refused(cluster: PostgresCluster) -> None:
    cluster.execute("DROP DATABASE IF EXISTS latin")
    cluster.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    error = await trouble_of(cluster.url("latin"))
    assert "LATIN1" in error.message
    assert "UTF-8" in error.hint


async def test_who_may_not_make_the_schema_is_told_what_is_needed(cluster: PostgresCluster, url: str) -> None:
    name = url.rsplit("/", 1)[1]
    cluster.execute("DROP ROLE IF EXISTS poor")
    cluster.execute("CREATE ROLE poor LOGIN PASSWORD 'hunter2-hunter2'")
    error = await trouble_of(cluster.url(name, user="poor", password="hunter2-hunter2"))
    assert "permission denied" in error.message
    assert "GRANT CREATE" in error.hint


async def test_many_who_open_a_new_database_at_once_make_its_tables_once(url: str) -> None:
    stores = await asyncio.gather(*(PostgresStore.open(url) for _ in range(6)))
    for store in stores:
        await store.aclose()


async def test_tables_of_others_are_left_alone(cluster: PostgresCluster, url: str) -> None:
    cluster.execute("DROP TABLE IF EXISTS steps; CREATE TABLE steps (mine text)", url)
    async with opened(url) as store:
        await (await store.begin("r1", header())).aclose()
    assert cluster.execute("SELECT count(*) FROM public.steps", url) == [(0,)]
    schemas = cluster.execute(
        "SELECT DISTINCT schemaname FROM pg_tables"
        " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
        url,
    )
    assert sorted(schemas) == [("electrictown",), ("public",)]
    cluster.execute("DROP TABLE steps", url)
