"""Whole clusters of real processes, one per test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.acknowledged import AcknowledgedBlocks
from tests.support.storage_cluster import StorageCluster

Make = Callable[..., StorageCluster]


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Return a function that starts a cluster; it ends with the test."""
    with ExitStack() as ending:

        def build(**options: Any) -> StorageCluster:
            cluster = ending.enter_context(StorageCluster(tmp_path, **options))
            ending.callback(lambda: print(cluster.logs()))  # pytest shows it when the test failed
            return cluster

        yield build


@pytest.fixture
def cluster(make: Make) -> StorageCluster:
    """Return three nodes in three zones, up."""
    return make()


@pytest.fixture
def blocks(cluster: StorageCluster) -> Iterator[AcknowledgedBlocks]:
    """Return a writer of that cluster."""
    writer = AcknowledgedBlocks(cluster)
    yield writer
    writer.close()
