"""The queue holds as many subtasks as there are."""

from __future__ import annotations

import asyncio

from electrictown.engine.cluster import Job, JobQueue, make_queue
from electrictown.journal.postgres import PostgresStore
from electrictown.postgres import Link
from fakes.postgres import PostgresCluster

MANY = """
SET search_path TO electrictown_jobs;
INSERT INTO procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args)
SELECT 'electrictown', 'electrictown.perform', 'r/t' || n, 'r/t' || n,
    jsonb_build_object('run', 'r', 'subtask', 't' || n)
FROM generate_series(1, 6000) AS n
"""


async def test_a_job_among_thousands_is_fetched_at_once(cluster: PostgresCluster, url: str) -> None:
    store = await PostgresStore.open(url)
    link = Link(store.database, "test")
    await make_queue(link)
    await link.aclose()
    cluster.execute(MANY, url)
    fetched: list[Job] = []
    enough = asyncio.Event()

    async def perform(job: Job) -> None:
        fetched.append(job)
        if len(fetched) >= 100:
            enough.set()

    async with JobQueue(store.database) as queue:
        fetcher = queue.fetcher(perform, name="w", concurrency=4, poll=1.0)
        task = asyncio.create_task(fetcher.run())
        try:
            async with asyncio.timeout(15):  # comparing each with each it would take a minute
                await enough.wait()
        finally:
            fetcher.stop()
            await task
            await store.aclose()
    assert [job.subtask for job in fetched[:4]] == ["t1", "t2", "t3", "t4"]
