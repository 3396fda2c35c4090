"""The map as others see it, and the status page."""

import pytest
from blockyard.metaserver.cluster.cluster_state import ClusterSettings, ClusterState
from blockyard.metaserver.cluster.liveness import Liveness
from blockyard.metaserver.state.transaction import MemoryStore, Transaction
from blockyard.proto.cluster_pb2 import (
    NODE_DOWN,
    NODE_DRAINING,
    NODE_REMOVED,
    ChangeNodeRequest,
    GetClusterMapRequest,
    NodeHeartbeatRequest,
)
from blockyard.proto.errors import Exists, InvalidArgument, Unavailable

from tests.metaserver.cluster.harness import CLUSTER, Cluster, References


def test_there_is_no_map_before_the_cluster_is_made_and_it_is_made_once() -> None:
    state, tx = ClusterState(References()), Transaction(MemoryStore())
    with pytest.raises(Unavailable):
        state.view(tx)
    state.make(tx, ClusterSettings(CLUSTER, 1))
    with pytest.raises(Exists):
        state.make(tx, ClusterSettings(CLUSTER, 1))
    assert (state.view(tx).epoch, len(state.view(tx).groups)) == (1, 256)


@pytest.mark.parametrize(
    "wrong",
    [{"groups": 100}, {"groups": 0}, {"groups": 1 << 17}, {"write_min": 0}, {"write_min": 4}, {"scatter_width": 0}],
)
def test_a_cluster_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        ClusterSettings(CLUSTER, 1, **wrong)


def test_the_map_is_sent_only_to_those_who_have_an_older_one() -> None:
    cluster = Cluster(nodes=3)
    reply = cluster.state.get_cluster_map(cluster.tx, GetClusterMapRequest(known_epoch=0))
    assert reply.map.epoch == reply.epoch == cluster.epoch
    assert [node.id for node in reply.map.nodes] == [1, 2, 3]
    assert (reply.map.replicas, reply.map.write_min, len(reply.map.groups)) == (3, 2, 16)
    assert not cluster.state.get_cluster_map(cluster.tx, GetClusterMapRequest(known_epoch=cluster.epoch)).HasField(
        "map"
    )


def test_the_map_is_decoded_once_and_a_rolled_back_change_is_not_in_it() -> None:
    cluster = Cluster(nodes=4)
    view = cluster.view
    assert cluster.view is view
    cluster.state.change_node(cluster.tx, ChangeNodeRequest(node=2, state=NODE_DRAINING), [])
    assert cluster.view.epoch == view.epoch + 1
    cluster.tx.rollback()
    assert cluster.view.message == view.message
    cluster.change(3, NODE_DRAINING)
    assert cluster.view.epoch == view.epoch + 1
    assert cluster.node_state(2) != NODE_DRAINING
    assert cluster.reopened().view.message == cluster.view.message


def test_status_counts_degraded_and_paused_groups() -> None:
    cluster = Cluster(nodes=4)
    liveness = Liveness()
    status = cluster.state.status(cluster.tx, liveness, 0)
    assert (status.groups, status.degraded_groups, status.paused_groups) == (16, 0, 0)
    cluster.set_state(2, NODE_DOWN)
    of_two = sum(2 in group.nodes for group in cluster.view.groups)
    status = cluster.state.status(cluster.tx, liveness, 0)
    assert (status.degraded_groups, status.paused_groups) == (of_two, 0)
    cluster.set_state(3, NODE_DOWN)
    both = sum({2, 3} <= set(group.nodes) for group in cluster.view.groups)
    status = cluster.state.status(cluster.tx, liveness, 0)
    assert (status.degraded_groups, status.paused_groups) == (16, both)


def test_a_node_that_does_not_call_a_group_complete_degrades_it() -> None:
    cluster = Cluster(nodes=3)
    liveness = Liveness()
    liveness.heard(NodeHeartbeatRequest(node=1, incarnation=1, used_bytes=77, complete_groups=range(12)), 1000)
    status = cluster.state.status(cluster.tx, liveness, 1500)
    assert status.degraded_groups == 4
    assert (status.nodes[0].heartbeat.used_bytes, status.nodes[0].silent_ms) == (77, 500)


def test_status_shows_dead_blocks_and_not_removed_nodes() -> None:
    cluster = Cluster(nodes=3)
    cluster.kill([1, 2, 3])
    cluster.change(2, NODE_REMOVED, force=True)
    status = cluster.state.status(cluster.tx, Liveness(), 0)
    assert status.reclaim_blocks == 3
    assert [node.node.id for node in status.nodes] == [1, 3]


def test_after_a_restore_the_map_is_newer_than_any_that_was_given_out_since_the_backup() -> None:
    cluster = Cluster(nodes=3)
    backup = cluster.epoch
    for _ in range(5):
        cluster.set_state(2, NODE_DOWN)
        cluster.register("n2", incarnation=2, number=2)
    given_out = cluster.epoch
    restored = Cluster(nodes=3)
    assert restored.epoch == backup < given_out
    restored.run(lambda: restored.state.skip_ahead(restored.tx))
    assert restored.epoch > given_out
    reply = restored.state.get_cluster_map(restored.tx, GetClusterMapRequest(known_epoch=given_out))
    assert reply.map.epoch == restored.epoch
