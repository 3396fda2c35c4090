"""Groups of real processes for tests; their logs are shown when a test fails."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import networks
from tests.support.meta_cluster import MetaCluster
from tests.support.networks import Network

FAST = {"raft": {"heartbeat_ms": 50, "election_timeout_ms": 500}}
_failed = pytest.StashKey[bool]()
Make = Callable[..., MetaCluster]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome: Any = yield
    if outcome.get_result().failed:
        item.stash[_failed] = True


@pytest.fixture
def make(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Make]:
    """Return a function that makes a group; it ends with the test."""
    made: list[MetaCluster] = []

    def build(name: str = "group", **options: Any) -> MetaCluster:
        cluster = MetaCluster(tmp_path / name, **options)
        made.append(cluster)
        return cluster

    yield build
    for cluster in made:
        cluster.close()
        if request.node.stash.get(_failed, False):
            print(cluster.logs())  # pytest shows it with the failure


@pytest.fixture
def group(make: Make) -> MetaCluster:
    """Return a group of three running members."""
    cluster = make()
    cluster.format()
    cluster.start()
    return cluster


@pytest.fixture
def network() -> Iterator[Network]:
    """Return three namespaces on one bridge."""
    reason = networks.missing()
    if reason is not None:
        pytest.skip(reason)
    made = Network(3)
    yield made
    made.close()
