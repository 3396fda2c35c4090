"""One cluster of four nodes for the tests of a worker: each finds it whole, and leaves it as faults do.

It is made whole again before the next test; where that cannot be done the next test gets a new one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.storagenode.faults.workload import Workload
from tests.support.storage_cluster import StorageCluster

ZONES = ("z1", "z2", "z3", "z4")
SMALL_PACKS = {"storagenode": {"pack_size_bytes": 1 << 20}}
_failed = pytest.StashKey[bool]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    if outcome.get_result().failed:
        item.stash[_failed] = True


class Shared:
    """The cluster that several tests use, one after the other."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._factory = factory
        self._cluster: StorageCluster | None = None

    def take(self) -> StorageCluster:
        """Return a whole cluster."""
        if self._cluster is not None:
            try:
                heal(self._cluster)
            except AssertionError:
                self.close()
        if self._cluster is None:
            self._cluster = StorageCluster(self._factory.mktemp("cluster"), ZONES, node_settings=SMALL_PACKS)
            self._cluster.__enter__()
        return self._cluster

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None


def heal(cluster: StorageCluster) -> None:
    """Let every node run as it should."""
    for name, node in cluster.nodes.items():
        if node.running:
            cluster.resume(name)
        else:
            cluster.start(name)
    cluster.until_up()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    made = Shared(tmp_path_factory)
    yield made
    made.close()


@pytest.fixture
def four(shared: Shared, request: pytest.FixtureRequest) -> Iterator[StorageCluster]:
    """Return a cluster of four nodes, n1 to n4, each in a zone of its own."""
    yield (cluster := shared.take())
    if request.node.stash.get(_failed, False):
        print(cluster.logs())  # pytest shows it with the failure
        shared.close()


@pytest.fixture
def work(four: StorageCluster, tmp_path: Path) -> Iterator[Workload]:
    """Return a workload that runs on the cluster."""
    with Workload(four, tmp_path / "manifest") as running:
        yield running
