"""A cluster of real processes that the client's tests share, and clients of it."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from blockyard.client import Filesystem, connect

from tests.support.storage_cluster import StorageCluster

Connect = Callable[..., Filesystem]
_directories = itertools.count()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageCluster]:
    """Return a running cluster of three storage nodes, for tests that break nothing."""
    with StorageCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageCluster]:
    """Return a running cluster of four storage nodes that this module's tests may break and mend."""
    with StorageCluster(tmp_path_factory.mktemp("own"), zones=("z1", "z2", "z3", "z4")) as running:
        yield running


@pytest.fixture
def clients() -> Iterator[Connect]:
    """Return a function that makes a client of a cluster; it is closed with the test."""
    made: list[Filesystem] = []

    def make(cluster: StorageCluster, **options: Any) -> Filesystem:
        filesystem = connect(cluster.meta.addresses, **options)
        made.append(filesystem)
        return filesystem

    yield make
    for filesystem in made:
        filesystem.close()


@pytest.fixture
def fs(cluster: StorageCluster, clients: Connect) -> Filesystem:
    """Return a client of the shared cluster."""
    return clients(cluster)


@pytest.fixture
def place(fs: Filesystem) -> str:
    """Return an empty directory of the test's own."""
    path = f"/t{next(_directories)}"
    fs.mkdir(path)
    return path


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """Return an empty local directory: the model."""
    path = tmp_path / "model"
    path.mkdir()
    return path
