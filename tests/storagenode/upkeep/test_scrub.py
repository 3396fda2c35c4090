"""Bits that flip on a disk are found, by scrub, by readers and by reports, and made good from other holders."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from blockyard.proto.cluster_pb2 import ReportReplicaRequest
from blockyard.proto.storage_pb2 import (
    NodeInfoReply,
    NodeInfoRequest,
    StartScrubRequest,
    VerifyBlockRequest,
)

from tests.storagenode.upkeep.files import Files, held, metric, spoil, start_again
from tests.support.acknowledged import Acknowledged
from tests.support.storage_cluster import StorageCluster, wait_until


@pytest.fixture
def three(tmp_path: Path) -> Iterator[StorageCluster]:
    with StorageCluster(tmp_path, ("z1", "z2", "z3")) as cluster:
        yield cluster


def info(cluster: StorageCluster, name: str) -> NodeInfoReply:
    reply: NodeInfoReply = cluster.stub(name).NodeInfo(NodeInfoRequest())
    return reply


def found_bad(cluster: StorageCluster, name: str) -> bool:
    return metric(cluster, name, "blockyard_bad_replicas_total") == 1


def scrub(cluster: StorageCluster, name: str) -> int:
    """Have a node read everything once; return how many replicas it was to read."""
    before = info(cluster, name).scrubbed_ns
    blocks = int(cluster.stub(name).StartScrub(StartScrubRequest()).blocks)
    wait_until(lambda: info(cluster, name).scrubbed_ns > before, "the pass ends")
    assert not info(cluster, name).scrubbing
    return blocks


def until_replaced(cluster: StorageCluster, name: str, bad: set[int]) -> None:
    wait_until(lambda: held(cluster, name, bad) == bad, "the bad replicas were replaced")
    wait_until(lambda: info(cluster, name).quarantined_blocks == 0, "what was bad is not kept beside what is good")


def test_a_pass_finds_every_flipped_bit_in_file_and_pack_and_they_are_replaced(three: StorageCluster) -> None:
    writer = Files(three)
    small, large = [each for each in writer.put(30) if len(each.data) > 100], writer.write(5)
    spoiled = [*small[::10], *large[::2]]
    writer.until_whole()  # on a busy machine a chain may have gone on without n2
    fetched = metric(three, "n2", "blockyard_repair_blocks_total")
    places = {spoil(three, "n2", each) for each in spoiled}
    assert len(places) == 1 + len(large[::2]), "small ones in a pack, large ones in files of their own"
    before = metric(three, "n2", "blockyard_verified_blocks_total")
    assert scrub(three, "n2") >= len(small) + len(large) - len(spoiled)
    assert metric(three, "n2", "blockyard_verified_blocks_total") - before >= len(small) + len(large)
    assert metric(three, "n2", "blockyard_bad_replicas_total") == len(spoiled)
    until_replaced(three, "n2", {each.block for each in spoiled})
    writer.assert_whole()
    assert metric(three, "n2", "blockyard_repair_blocks_total") - fetched == len(spoiled), "no others were fetched"


def test_a_pass_goes_on_where_it_was_read_before_a_restart(three: StorageCluster) -> None:
    """Nothing was due: a restart does not begin to read everything again."""
    writer = Files(three)
    writer.put(20)
    scrub(three, "n2")
    assert three.stop("n2") == 0
    start_again(three, "n2")
    assert metric(three, "n2", "blockyard_verified_blocks_total") == 0
    assert scrub(three, "n2") == 20
    assert metric(three, "n2", "blockyard_verified_blocks_total") >= 20


def test_replicas_are_read_by_themselves_once_per_period(tmp_path: Path) -> None:
    settings = {"storagenode": {"scrub_period_s": 4}}
    with StorageCluster(tmp_path, ("z1", "z2", "z3"), node_settings=settings) as cluster:
        writer = Files(cluster)
        bad = max(writer.put(20), key=_length)
        spoil(cluster, "n3", bad)
        wait_until(lambda: metric(cluster, "n3", "blockyard_bad_replicas_total") == 1, "the bad one is found")
        until_replaced(cluster, "n3", {bad.block})
        wait_until(lambda: metric(cluster, "n3", "blockyard_verified_blocks_total") >= 60, "all are read again")


def test_a_reader_that_finds_a_bad_replica_has_it_replaced(three: StorageCluster) -> None:
    writer = Files(three)
    [bad] = writer.write(1)
    spoil(three, "n1", bad)
    found = three.stub("n1").VerifyBlock(VerifyBlockRequest(block=bad.block, reason="a page did not match"))
    assert not found.good
    assert found.bad_pages == [0]
    until_replaced(three, "n1", {bad.block})
    writer.assert_readable()
    assert "a page did not match" in three.nodes["n1"].output()


def test_a_replica_that_was_reported_to_the_metadata_group_is_replaced(three: StorageCluster) -> None:
    writer = Files(three)
    good, bad = sorted(writer.put(2), key=_length)
    spoil(three, "n3", bad)
    for each in (good, bad):
        three.cluster.ReportReplica(ReportReplicaRequest(block=each.block, node=three.id("n3"), found="page 0"))
    wait_until(lambda: metric(three, "n3", "blockyard_bad_replicas_total") == 1, "the node looked")
    until_replaced(three, "n3", {bad.block})
    wait_until(lambda: metric(three, "n3", "blockyard_verified_blocks_total") >= 2, "it looked at both")
    writer.assert_whole()


def test_repair_does_not_spread_a_bad_replica_and_has_it_replaced_at_its_source(three: StorageCluster) -> None:
    writer = Files(three)
    written = [*sorted(writer.put(10), key=_length)[3:], *writer.write(3)]
    for each in written:
        spoil(three, "n1", each)
    three.kill("n2")
    three.wipe("n2")
    start_again(three, "n2")
    writer.until_whole()
    assert metric(three, "n2", "blockyard_repair_refused_blocks_total") > 0, "it never met a bad replica"
    assert metric(three, "n1", "blockyard_bad_replicas_total") > 0, "the source was not told"
    scrub(three, "n1")
    assert metric(three, "n1", "blockyard_bad_replicas_total") == len(written)
    until_replaced(three, "n1", {each.block for each in written})
    writer.assert_readable()


def test_a_bad_replica_without_a_good_one_anywhere_is_kept_and_said(three: StorageCluster) -> None:
    writer = Files(three)
    other, bad = sorted(writer.put(2), key=_length)
    for name in three.nodes:
        spoil(three, name, bad)
    assert not three.stub("n1").VerifyBlock(VerifyBlockRequest(block=bad.block)).good
    for name in three.nodes:  # each that is asked for it finds its own bad as well
        wait_until(partial(found_bad, three, name), f"{name} knows")
    for name in three.nodes:
        assert info(three, name).quarantined_blocks == 1
        assert re.search("bad_replica", three.nodes[name].output())
        assert not held(three, name, {bad.block})
    wait_until(lambda: all(each.heartbeat.quarantined_blocks == 1 for each in three.status().nodes), "the leader knows")
    assert writer.read(other.block) == other.data


def _length(written: Acknowledged) -> int:
    return len(written.data)
