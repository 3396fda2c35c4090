"""Nodes join, fall silent, come back, are replaced and removed: real processes, by the map that everybody sees."""

import asyncio
import shutil
from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.cluster_pb2 import NODE_DOWN, NODE_DRAINING, NODE_OUT, NODE_REMOVED, NODE_UP
from blockyard.proto.disk import sealed_file
from blockyard.proto.storage_pb2 import NodeIdentity, NodeInfoRequest

from tests.storagenode.node.conftest import Make
from tests.support.acknowledged import AcknowledgedBlocks
from tests.support.meta_cluster import free_port
from tests.support.storage_cluster import StorageCluster, wait_until

REFUSED = 78
PATIENT = {"placement": {"down_after_ms": 60_000}}
"""Silence alone would not take a node down within a test."""


def identity(directory: Path) -> NodeIdentity:
    return NodeIdentity.FromString(sealed_file.read(directory / "identity"))


def test_a_killed_node_comes_back_as_itself_with_every_block(
    cluster: StorageCluster, blocks: AcknowledgedBlocks
) -> None:
    blocks.put(20)
    blocks.write(2)
    before = cluster.node("n1")
    cluster.kill("n1")
    cluster.start("n1")
    cluster.until_up()
    after = cluster.node("n1")
    assert (after.id, after.incarnation) == (before.id, before.incarnation)
    assert identity(cluster.nodes["n1"].directory).starts == 2
    heard = cluster.heard("n1")
    assert heard is not None
    assert heard.heartbeat.starts == 2, "the heartbeat of an earlier start, or of a copy, would not be refused"
    blocks.assert_whole()


def test_a_node_that_is_told_to_end_leaves_at_once(make: Make) -> None:
    cluster = make(meta_settings=PATIENT)
    assert cluster.stop("n2") == 0
    cluster.until_state("n2", NODE_DOWN)
    assert cluster.view().writers(0) == tuple(node for node in cluster.view().writers(0) if node.name != "n2"), (
        "nobody plans a write through it"
    )


def test_a_silent_node_is_down_then_out_and_up_again_when_it_speaks(make: Make) -> None:
    cluster = make(zones=("z1", "z2", "z3", "z4"), meta_settings={"placement": {"out_after_s": 2}})
    number = cluster.id("n1")
    cluster.pause("n1")
    cluster.until_state("n1", NODE_DOWN)
    cluster.until_state("n1", NODE_OUT)
    assert cluster.view().groups_of(number) == (), "its groups went to the others"
    cluster.resume("n1")
    cluster.until_state("n1", NODE_UP)
    wait_until(lambda: cluster.view().groups_of(number), "it holds groups again")
    assert cluster.id("n1") == number


def test_an_emptied_disk_is_a_new_node_and_the_old_one_is_gone(
    cluster: StorageCluster, blocks: AcknowledgedBlocks
) -> None:
    blocks.put(10)
    before = cluster.node("n3")
    cluster.kill("n3")
    cluster.wipe("n3")
    cluster.start("n3")  # at once: the cluster still takes the old one for alive, and has it wait
    cluster.until_up()
    after = cluster.node("n3")
    assert after.id != before.id
    assert after.incarnation != before.incarnation
    assert cluster.view().nodes[before.id].state == NODE_REMOVED
    blocks.assert_readable()


def test_a_wiped_disk_gets_its_replicas_back(cluster: StorageCluster, blocks: AcknowledgedBlocks) -> None:
    blocks.put(30)
    blocks.write(2)
    cluster.kill("n3")
    cluster.wipe("n3")
    cluster.start("n3")
    cluster.until_up()
    blocks.until_whole()


def test_a_copied_directory_waits_beside_the_original_and_is_refused_after_it(cluster: StorageCluster) -> None:
    original = cluster.nodes["n1"]
    copied = cluster.add("z1", name="n1copy", directory=cluster.root / "copy")
    shutil.copytree(original.directory, copied.directory, dirs_exist_ok=True)
    cluster.start("n1copy")
    wait_until(lambda: "is up elsewhere" in copied.output(), "the copy is told to wait")
    assert cluster.heard("n1")
    assert cluster.node("n1").lane_port == original.lane_port
    cluster.restart("n1")
    cluster.kill("n1copy")
    identity_of_copy = identity(copied.directory)
    identity_of_copy.starts -= 1  # what it would be had it started only once, now
    sealed_file.write(copied.directory / "identity", identity_of_copy.SerializeToString())
    cluster.start("n1copy")
    assert cluster.ended("n1copy") == REFUSED
    assert "is a copy or an old state" in copied.output()
    assert cluster.heard("n1")


def test_an_older_copy_of_the_directory_is_refused(cluster: StorageCluster) -> None:
    node = cluster.nodes["n1"]
    assert cluster.stop("n1") == 0
    shutil.copytree(node.directory, cluster.root / "older")
    for _ in range(2):
        cluster.start("n1")
        cluster.until_up()
        assert cluster.stop("n1") == 0
    shutil.rmtree(node.directory)
    shutil.copytree(cluster.root / "older", node.directory)
    cluster.start("n1")
    assert cluster.ended("n1") == REFUSED
    assert "old state" in node.output()


def test_a_second_node_with_a_taken_name_waits_and_says_why(cluster: StorageCluster) -> None:
    double = cluster.add("z9", name="double")
    cluster.configure("double", storagenode={"name": "n1"})
    cluster.start("double")
    wait_until(lambda: "belongs to node" in double.output(), "it is told that the name is taken")
    assert cluster.heard("n1")
    assert cluster.stop("double") == 0, "one that waits can be told to end"


def test_a_removed_node_ends_and_says_why_and_cannot_come_back(cluster: StorageCluster) -> None:
    with pytest.raises(errors.Busy, match="only copies"):
        cluster.change("n2", NODE_REMOVED)
    cluster.change("n2", NODE_REMOVED, force=True)
    assert cluster.ended("n2") == REFUSED
    assert "was removed" in cluster.nodes["n2"].output()
    cluster.start("n2")
    assert cluster.ended("n2") == REFUSED
    assert "empty its disk" in cluster.nodes["n2"].output()


def test_a_node_of_another_cluster_is_refused(cluster: StorageCluster) -> None:
    assert cluster.stop("n1") == 0
    foreign = "c" + "f" * 32
    cluster.configure("n1", cluster={"id": foreign})
    cluster.start("n1")
    assert cluster.ended("n1") == REFUSED
    assert f"the settings say {foreign}" in cluster.nodes["n1"].output()


def test_one_disk_is_one_process(cluster: StorageCluster) -> None:
    second = cluster.add("z1", name="second", directory=cluster.nodes["n1"].directory)
    cluster.start("second")
    assert cluster.ended("second") == REFUSED
    assert "is in use by process" in second.output()


def test_a_node_waits_for_its_metadata_group_and_can_be_told_to_end(tmp_path: Path) -> None:
    cluster = StorageCluster(tmp_path, zones=("z1",))
    cluster.configure("n1", cluster={"metaservers": [f"127.0.0.1:{free_port()}"]})
    try:
        cluster.start("n1")
        wait_until(lambda: "not_registered_yet" in cluster.nodes["n1"].output(), "it says what it waits for")
        assert "nobody leads the metadata group" in cluster.nodes["n1"].output()
        assert cluster.stop("n1") == 0
    finally:
        cluster.close()


def test_nodes_outlive_a_change_of_leadership_and_learn_every_map(
    cluster: StorageCluster, blocks: AcknowledgedBlocks
) -> None:
    cluster.meta.kill(asyncio.run(cluster.meta.leader()))
    cluster.until_up()
    blocks.put(5)
    blocks.assert_whole()
    cluster.change("n2", NODE_DRAINING)
    epoch = cluster.view().epoch
    wait_until(lambda: all(epoch <= known_epoch(cluster, name) for name in cluster.nodes), "every node knows the map")


def known_epoch(cluster: StorageCluster, name: str) -> int:
    return int(cluster.stub(name).NodeInfo(NodeInfoRequest()).map_epoch)


def test_without_a_metadata_group_nodes_serve_on_with_the_map_that_they_know(
    cluster: StorageCluster, blocks: AcknowledgedBlocks
) -> None:
    [written] = blocks.put(1)
    [leased] = blocks.lease(1)
    view = cluster.view()
    cluster.meta.kill()
    wait_until(lambda: "heartbeat_failed" in cluster.nodes["n1"].output(), "a node notices")
    assert blocks.read(written.block, view) == written.data
    sealed = blocks.write_along(leased, view.chain(leased), view.epoch)
    assert len(sealed.nodes) == 3
    cluster.meta.start()
    cluster.until_up()
    blocks.assert_whole()


def test_a_node_that_cannot_open_its_ports_never_registers(cluster: StorageCluster) -> None:
    before = set(cluster.view().nodes)
    double = cluster.add("z9", name="unlucky")
    taken = cluster.nodes["n1"].metrics_port
    cluster.configure("unlucky", metrics={"host": double.host, "port": taken})
    cluster.start("unlucky")
    assert cluster.ended("unlucky") != 0
    assert f":{taken} (metrics.port)" in double.output()
    cluster.configure("unlucky", listen={"unix_path": str(cluster.root / "no such directory" / "socket")})
    cluster.start("unlucky")
    assert cluster.ended("unlucky") != 0
    assert "no such directory" in double.output()
    assert set(cluster.view().nodes) == before, "groups would have been moved to a node that never served"
