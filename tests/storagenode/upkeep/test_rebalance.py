"""Groups move between nodes: drains, joins, different capacities. No block is ever on fewer holders than it was."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blockyard.proto.cluster_pb2 import NODE_DRAINING, NODE_REMOVED
from blockyard.proto.errors import BlockyardError, Busy

from tests.storagenode.upkeep.files import Files, copies, held, start_again
from tests.support.storage_cluster import StorageCluster, wait_until


class Watched:
    """Writes go on, and the copies of everything acknowledged are counted, until it is left."""

    def __init__(self, cluster: StorageCluster, writer: Files, replicas: int = 3) -> None:
        self.looks = 0
        self.fewest: dict[int, int] = {}
        self._cluster = cluster
        self._writer = writer
        self._replicas = replicas
        self._stopping = threading.Event()
        self._failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._kept, args=(work,)) for work in (self._write, self._count)]

    def __enter__(self) -> "Watched":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if self._failed:
            raise self._failed[0]

    def check(self) -> None:
        """Demand that it looked, and that nothing it knew of ever had fewer copies than it began with."""
        assert self.looks > 3
        assert self.fewest
        low = {block: count for block, count in self.fewest.items() if count < self._replicas}
        assert not low, f"copies of {len(low)} blocks fell below {self._replicas}: {sorted(low.values())[:5]}"

    def _kept(self, work: Callable[[], None]) -> None:
        try:
            while not self._stopping.is_set():
                work()
        except BaseException as error:  # noqa: BLE001 - the test's own thread raises it
            self._failed.append(error)

    def _write(self) -> None:
        try:
            self._writer.put(3)
        except BlockyardError:
            return  # a chain under a map that is no longer: this writer goes on with others

    def _count(self) -> None:
        """A block counts once it was on all nodes of its chain."""
        whole = [block for block, each in list(self._writer.blocks.items()) if len(each.nodes) >= self._replicas]
        names = [name for name, node in list(self._cluster.nodes.items()) if node.running]
        for block, count in copies(self._cluster, names, whole).items():
            if count < self._replicas:  # it may have come to one node after that node was asked: ask again
                count = copies(self._cluster, names, [block])[block]
            self.fewest[block] = min(count, self.fewest.get(block, count))
        self.looks += 1


@pytest.fixture
def three(tmp_path: Path) -> Iterator[StorageCluster]:
    with StorageCluster(tmp_path, ("z1", "z2", "z3")) as cluster:
        yield cluster


def settled(cluster: StorageCluster) -> bool:
    return not any(row.former_nodes for row in cluster.view().groups) and cluster.status().degraded_groups == 0


def until_settled(cluster: StorageCluster) -> None:
    wait_until(lambda: settled(cluster), "every group is complete and no former holder is needed", 90)


def until_only_holders_hold(cluster: StorageCluster, writer: Files) -> None:
    def tidy() -> bool:
        view = cluster.view()
        for name in cluster.nodes:
            mine = set(view.groups_of(cluster.id(name)))
            if any(view.group_of(block) not in mine for block in held(cluster, name, writer.blocks)):
                return False
        return True

    wait_until(tidy, "former holders have dropped what they no longer hold", 60)


def test_two_nodes_join_under_load_and_no_block_ever_has_fewer_copies(three: StorageCluster) -> None:
    writer = Files(three)
    writer.put(80)
    writer.write(4)
    before = three.view()
    with Watched(three, writer) as watched:
        three.add("z4")
        three.add("z5")
        start_again(three, "n4", "n5")
        until_settled(three)
    watched.check()
    moved = sum(set(a.nodes) != set(b.nodes) for a, b in zip(before.groups, three.view().groups, strict=True))
    assert moved > len(before.groups) // 2, "hardly anything moved, so nothing was at risk"
    writer.until_whole()
    until_only_holders_hold(three, writer)
    writer.assert_readable()


def test_a_drained_node_is_empty_before_it_may_be_removed(tmp_path: Path) -> None:
    with StorageCluster(tmp_path, ("z1", "z2", "z3", "z4")) as cluster:
        writer = Files(cluster)
        writer.put(80)
        writer.write(4)
        with pytest.raises(Busy):
            cluster.change("n1", NODE_REMOVED)
        with Watched(cluster, writer) as watched:
            cluster.change("n1", NODE_DRAINING)
            until_settled(cluster)
            wait_until(lambda: not held(cluster, "n1", writer.blocks), "the drained node is empty", 60)
        watched.check()
        assert cluster.id("n1") not in {node for row in cluster.view().groups for node in row.nodes}
        cluster.change("n1", NODE_REMOVED)
        cluster.ended("n1")
        writer.until_whole()
        writer.assert_readable()


def test_with_too_few_nodes_a_drained_one_keeps_its_copies(three: StorageCluster) -> None:
    writer = Files(three)
    writer.put(40)
    three.change("n1", NODE_DRAINING)
    wait_until(lambda: not any(row.former_nodes for row in three.view().groups), "the former holder is let go", 60)
    assert held(three, "n1", writer.blocks) == set(writer.blocks), "two copies are fewer than the three that are wanted"


def test_nodes_get_blocks_by_their_capacity(tmp_path: Path) -> None:
    with StorageCluster(
        tmp_path, ("z1", "z1", "z1"), node_settings={"storagenode": {"capacity_bytes": 2 << 30}}
    ) as cluster:
        writer = Files(cluster)
        writer.put(100)
        cluster.add("z1", capacity_bytes=6 << 30)
        cluster.add("z1", capacity_bytes=2 << 30)
        start_again(cluster, "n4", "n5")
        until_settled(cluster)
        writer.until_whole()
        until_only_holders_hold(cluster, writer)
        shares = {name: len(cluster.view().groups_of(cluster.id(name))) for name in ("n4", "n5")}
        assert shares["n4"] > shares["n5"] > 0
