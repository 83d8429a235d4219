"""The database of a test: a real PostgreSQL, empty."""

from __future__ import annotations

import pytest

from fakes.postgres import PostgresCluster, shared_cluster


@pytest.fixture
def cluster() -> PostgresCluster:
    return shared_cluster()


@pytest.fixture
def url(cluster: PostgresCluster) -> str:
    return cluster.emptied()
