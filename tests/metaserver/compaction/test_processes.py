"""Compaction with real processes: a file overwritten often reads right, in few pieces, from little disk."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockyard.metaserver.namespace.slices import CROWDED_PIECES
from blockyard.proto.storage_pb2 import NodeInfoRequest

from tests.support.block_file import BlockFile
from tests.support.storage_cluster import Settings, StorageCluster, wait_until

UNIT = 4_096
SIZE = 2 << 20
SLACK = 1 << 20
SETTLE_S = 120.0


class Overwritten:
    """A file beside a bytearray."""

    def __init__(self, cluster: StorageCluster, size: int = SIZE) -> None:
        self.file = BlockFile(cluster, "f")
        self.model = bytearray(random.Random(1).randbytes(size))
        self.file.fill(memoryview(bytes(self.model)))
        self._random = random.Random(2)

    def overwrite(self, count: int) -> None:
        """Overwrite `count` random places with bytes that are like no others."""
        writes = []
        for _ in range(count):
            place = self._random.randrange(len(self.model) // UNIT) * UNIT
            data = self._random.randbytes(UNIT)
            self.model[place : place + UNIT] = data
            writes.append((place, data))
        self.file.overwrite(writes)

    def assert_right(self) -> None:
        found = bytearray(len(self.model))
        self.file.read(0, memoryview(found))
        assert found == self.model

    def referenced_bytes(self) -> int:
        """Return the bytes of the blocks that the file refers to."""
        return sum({each.block: each.block_length for each in self.file.slices()}.values())

    def until_short(self) -> None:
        wait_until(lambda: len(self.file.slices()) <= CROWDED_PIECES, "the chunk is short", SETTLE_S)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StorageCluster]:
    with StorageCluster(tmp_path) as running:
        yield running


@pytest.fixture
def slow_cluster(tmp_path: Path) -> Iterator[StorageCluster]:
    """Nodes that take seconds to rewrite the file, and say when they begin."""
    settings: Settings = {"storagenode": {"repair_bytes_per_second": 1 << 20}, "logs": {"level": "debug"}}
    with StorageCluster(tmp_path, node_settings=settings) as running:
        yield running


def stored(cluster: StorageCluster) -> list[int]:
    """Return the live bytes of every node's store."""
    return [cluster.stub(name).NodeInfo(NodeInfoRequest()).live_bytes for name in cluster.nodes]


def begun(cluster: StorageCluster) -> list[str]:
    """Return the nodes that have begun to rewrite a chunk."""
    return [name for name, node in cluster.nodes.items() if "compaction_begun" in node.output()]


def until_space_is_back(cluster: StorageCluster) -> None:
    wait_until(
        lambda: max(stored(cluster)) <= 2 * SIZE + SLACK, "every node stores little more than the file", SETTLE_S
    )


def test_a_chunk_overwritten_thousands_of_times_becomes_short_and_its_space_comes_back(
    cluster: StorageCluster,
) -> None:
    subject = Overwritten(cluster)
    for _ in range(20):
        subject.overwrite(200)
        subject.assert_right()
    subject.until_short()
    subject.assert_right()
    assert subject.referenced_bytes() <= 2 * SIZE
    until_space_is_back(cluster)
    subject.assert_right()
    subject.file.unlink()
    wait_until(lambda: max(stored(cluster)) == 0, "a removed file leaves nothing", SETTLE_S)


def test_a_cut_file_gives_back_what_its_block_hides(cluster: StorageCluster) -> None:
    subject = Overwritten(cluster, 4 * SIZE)
    subject.file.truncate(SIZE)
    del subject.model[SIZE:]
    until_space_is_back(cluster)
    assert subject.referenced_bytes() == SIZE
    subject.assert_right()


def test_the_death_of_the_node_that_rewrites_loses_nothing(slow_cluster: StorageCluster) -> None:
    subject = Overwritten(slow_cluster)
    subject.overwrite(300)
    victim = wait_until(lambda: begun(slow_cluster), "a node rewrites the chunk")[-1]
    slow_cluster.kill(victim)
    subject.overwrite(100)
    subject.assert_right()
    subject.until_short()
    subject.assert_right()
    slow_cluster.start(victim)
    slow_cluster.until_up()
    subject.assert_right()
    until_space_is_back(slow_cluster)


def test_the_death_of_the_leader_while_a_chunk_is_rewritten_loses_nothing(slow_cluster: StorageCluster) -> None:
    subject, meta = Overwritten(slow_cluster), slow_cluster.meta
    subject.overwrite(300)
    wait_until(lambda: begun(slow_cluster), "a node rewrites the chunk")
    leader = asyncio.run(meta.leader())
    meta.kill(leader)
    asyncio.run(meta.leader())
    subject.overwrite(100)
    subject.assert_right()
    subject.until_short()
    subject.assert_right()
    meta.start(leader)
    asyncio.run(meta.assert_sound())
