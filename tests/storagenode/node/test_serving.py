"""What one cluster in order offers: both doors, metrics, zones, drain, an index made anew. Real processes."""

import signal
import urllib.request
from typing import Any, cast

import grpc
import pytest
from blockyard.proto import errors
from blockyard.proto.blocks import ChainSender
from blockyard.proto.cluster_pb2 import NODE_DRAINING, NODE_REMOVED, NODE_UP
from blockyard.proto.door import Channel as DoorChannel
from blockyard.proto.lane import Channel
from blockyard.proto.probe_pb2 import ProbeRequest
from blockyard.proto.probe_pb2_grpc import ProbeStub
from blockyard.proto.storage_pb2 import NodeInfoReply, NodeInfoRequest, VerifyBlockRequest
from blockyard.proto.storage_pb2_grpc import StorageStub

from tests.storagenode.node.conftest import Make
from tests.support.acknowledged import AcknowledgedBlocks
from tests.support.storage_cluster import StorageCluster, wait_until


def test_a_node_answers_on_the_lane_the_unix_socket_and_grpc_and_gives_metrics(
    cluster: StorageCluster, blocks: AcknowledgedBlocks
) -> None:
    blocks.put(6)
    node, process = cluster.node("n1"), cluster.nodes["n1"]
    held = sum(node.id in each.nodes for each in blocks.blocks.values())
    assert held == 6
    channels: list[Any] = [
        Channel(node.lane),
        Channel(f"unix:{node.unix_path}"),
        DoorChannel(f"{node.host}:{node.grpc_port}"),
    ]
    for channel in channels:
        with channel:
            storage: Any = StorageStub(cast(grpc.Channel, channel))
            info: NodeInfoReply = storage.NodeInfo(NodeInfoRequest())
            assert (info.node, info.incarnation, info.blocks) == (node.id, node.incarnation, held)
            assert info.map_epoch == cluster.view().epoch
            probe: Any = ProbeStub(cast(grpc.Channel, channel))
            assert probe.Echo(ProbeRequest(body=b"hi")).body == b"hi"
    with urllib.request.urlopen(f"http://127.0.0.1:{process.metrics_port}/metrics", timeout=10) as page:
        text = page.read().decode()
    assert f"blockyard_node_blocks {held}.0" in text
    for name in ("blockyard_node_map_epoch", "blockyard_node_sync_seconds", "blockyard_repair_left_bytes"):
        assert f"\n{name} " in text
    assert 'process="storagenode"' in text


def test_replicas_of_every_group_are_in_three_zones(make: Make) -> None:
    zones = ("east", "east", "east", "west", "west", "west", "south", "south", "south")
    cluster = make(zones=zones)
    view = cluster.view()
    for group in view.groups:
        assert {view.nodes[node].zone for node in group.nodes} == {"east", "west", "south"}
    blocks = AcknowledgedBlocks(cluster)
    blocks.put(30)
    cluster.kill("n1", "n2", "n3")
    wait_until(lambda: sum(n.answers for n in cluster.view().nodes.values()) == 6, "the zone is seen to be gone")
    blocks.assert_readable()
    blocks.put(5)
    blocks.close()


def test_a_drained_node_is_emptied_and_can_be_removed(make: Make) -> None:
    cluster = make(zones=("z1", "z2", "z3", "z4"))
    blocks = AcknowledgedBlocks(cluster)
    blocks.put(40)
    blocks.write(2)
    number = cluster.id("n1")
    assert any(number in each.nodes for each in blocks.blocks.values())
    cluster.change("n1", NODE_DRAINING)
    with pytest.raises(errors.Busy):
        cluster.change("n1", NODE_REMOVED)
    wait_until(
        lambda: not (cluster.view().groups_of(number) or cluster.view().former_groups_of(number)),
        "the others have copied what it held",
        90,
    )
    assert blocks.put(5)
    assert not any(number in each.nodes for each in list(blocks.blocks.values())[-5:])
    blocks.assert_whole()
    cluster.change("n1", NODE_REMOVED)
    cluster.ended("n1")
    blocks.assert_readable()
    blocks.close()


def test_a_drain_that_is_called_off_leaves_everything_in_order(cluster: StorageCluster) -> None:
    blocks = AcknowledgedBlocks(cluster)
    blocks.put(10)
    cluster.change("n2", NODE_DRAINING)
    assert cluster.node("n2").state == NODE_DRAINING
    cluster.change("n2", NODE_UP)
    cluster.until_up()
    blocks.until_whole()
    blocks.put(5)
    blocks.close()


def test_a_write_under_way_is_finished_before_the_node_ends(
    cluster: StorageCluster, blocks: AcknowledgedBlocks
) -> None:
    view = cluster.view()
    [block] = blocks.lease(1)
    data = bytes(range(256)) * 1024
    chain = sorted(view.chain(block), key=lambda each: each.node != cluster.id("n1"))
    with ChainSender(
        cluster.channels, block, chain, durable=True, write_min=3, map_epoch=view.epoch, session=blocks.session
    ) as sender:
        sender.append(data)
        cluster.signal("n1", signal.SIGTERM)
        wait_until(lambda: "] stopping " in cluster.nodes["n1"].output(), "the node has been told")
        with pytest.raises(errors.BlockyardError):
            blocks.write_along(blocks.lease(1)[0], [view.node(cluster.id("n1")).in_chain()], view.epoch)
        sealed = sender.seal()
    assert set(sealed.nodes) == {each.node for each in chain}
    assert cluster.ended("n1") == 0
    cluster.start("n1")
    cluster.until_up("n1")
    assert cluster.stub("n1").VerifyBlock(VerifyBlockRequest(block=block)).good


def test_an_index_that_is_made_anew_finds_every_block(cluster: StorageCluster, blocks: AcknowledgedBlocks) -> None:
    blocks.put(20)
    blocks.write(2)
    assert cluster.stop("n1") == 0
    cluster.start("n1", arguments=["--rebuild-index"])
    cluster.until_up("n1")
    assert "index_rebuilt" in cluster.nodes["n1"].output()
    stub = cluster.stub("n1")
    for written in blocks.blocks.values():
        assert stub.VerifyBlock(VerifyBlockRequest(block=written.block)).good
