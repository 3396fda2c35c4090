"""A metadata group of real processes for the tests of its channels."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.meta_cluster import MetaCluster


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[MetaCluster]:
    """Two data members and a witness, one of them leading."""
    cluster = MetaCluster(tmp_path, {"placement": {"placement_groups": 32}})
    try:
        cluster.format()
        cluster.start()
        await cluster.leader()
        yield cluster
    finally:
        print(cluster.logs())
        cluster.close()
