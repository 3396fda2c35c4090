"""What silence means, on a clock that the test turns."""

import pytest
from blockyard.metaserver.cluster.heartbeats import RELIST_AFTER_MS, SUSPECTS_KEPT, Heartbeats
from blockyard.metaserver.cluster.liveness import Liveness, LivenessSettings, StateChange
from blockyard.proto.cluster_pb2 import (
    NODE_DOWN,
    NODE_DRAINING,
    NODE_OUT,
    NODE_UP,
    NodeHeartbeatRequest,
    RegisterNodeRequest,
)
from blockyard.proto.errors import StaleIncarnation, UnknownNode

from tests.metaserver.cluster.harness import Cluster

OUT_AFTER_MS = 600_000


class Leader:
    """A leader's clock beside the replicated state."""

    def __init__(self, nodes: int) -> None:
        self.cluster = Cluster(nodes=nodes)
        self.liveness = Liveness(LivenessSettings())
        self.now_ms = 1_000_000
        self.silent: set[int] = set()

    def beat(self, node: int, *, leaving: bool = False) -> None:
        self.liveness.heard(NodeHeartbeatRequest(node=node, incarnation=node, leaving=leaving), self.now_ms)

    def tick(self) -> list[StateChange]:
        return self.liveness.tick(self.now_ms, self.cluster.view.nodes.values())

    def run(self, seconds: int) -> list[tuple[int, int]]:
        """Let seconds pass; whoever is not silent sends heartbeats, and what the clock finds becomes true."""
        found: list[tuple[int, int]] = []
        for _ in range(seconds):
            self.now_ms += 1000
            for node in self.cluster.view.nodes:
                if node not in self.silent:
                    self.beat(node)
            for change in self.tick():
                self.cluster.set_state(change.node, change.after, before=change.before)
                found.append((change.node, change.after))
        return found


def test_nodes_that_send_heartbeats_stay_up() -> None:
    assert Leader(4).run(60) == []


def test_three_seconds_of_silence_are_down_and_ten_minutes_are_out() -> None:
    leader = Leader(4)
    leader.run(5)
    leader.silent = {2}
    assert leader.run(2) == []
    assert leader.run(1) == [(2, NODE_DOWN)]
    assert leader.run(596) == []
    assert leader.run(1) == [(2, NODE_OUT)]
    assert leader.run(1000) == []


def test_a_node_that_is_heard_again_comes_back_from_down_and_from_out() -> None:
    leader = Leader(4)
    leader.silent = {2}
    leader.run(10)
    leader.silent = set()
    assert leader.run(1) == [(2, NODE_UP)]
    leader.silent = {2}
    leader.run(700)
    leader.silent = set()
    assert leader.run(1) == [(2, NODE_UP)]
    assert leader.cluster.node_state(2) == NODE_UP


def test_a_draining_node_that_comes_back_is_draining() -> None:
    leader = Leader(4)
    leader.cluster.change(2, NODE_DRAINING)
    leader.silent = {2}
    leader.run(10)
    leader.silent = set()
    leader.run(1)
    assert leader.cluster.node_state(2) == NODE_DRAINING


def test_a_node_that_leaves_in_good_order_is_down_at_once() -> None:
    leader = Leader(4)
    leader.run(1)
    leader.beat(2, leaving=True)
    assert leader.tick() == [StateChange(2, NODE_UP, NODE_DOWN)]


def test_a_node_that_left_and_registers_again_is_not_taken_down_by_its_old_farewell() -> None:
    leader = Leader(4)
    leader.beat(2, leaving=True)
    leader.liveness.registered(2, leader.now_ms)
    assert leader.tick() == []


def test_a_new_leader_gives_everybody_a_fresh_grace_period() -> None:
    leader = Leader(4)
    leader.silent = {2}
    leader.run(500)
    leader.liveness.lead()
    leader.silent = {2, 3}
    assert leader.run(3) == []
    assert leader.run(1) == [(3, NODE_DOWN)]
    assert leader.run(596) == []
    assert leader.run(1) == [(2, NODE_OUT), (3, NODE_OUT)]


def test_at_least_half_of_the_nodes_stay_in() -> None:
    leader = Leader(4)
    leader.silent = {1, 2, 3, 4}
    assert [node for node, state in leader.run(2000) if state == NODE_OUT] == [1, 2]


def test_a_proposal_is_repeated_but_not_at_every_tick() -> None:
    leader = Leader(2)
    leader.tick()
    leader.now_ms += 3000
    leader.beat(1)
    assert len(leader.tick()) == 1
    leader.now_ms += 500
    assert leader.tick() == []
    leader.now_ms += 500
    assert len(leader.tick()) == 1


def test_a_heartbeat_is_answered_with_epoch_state_and_news_of_dead_blocks() -> None:
    cluster = Cluster(nodes=3)
    heartbeats = Heartbeats(Liveness())
    beat = NodeHeartbeatRequest(node=2, incarnation=2, map_epoch=1)
    reply, report = heartbeats.answer(cluster.view, beat, (0, 0), 0)
    assert (reply.map_epoch, reply.state, reply.reclaim, report) == (cluster.epoch, NODE_UP, False, None)
    assert heartbeats.answer(cluster.view, beat, (5, 5), 0)[0].reclaim
    heartbeats.listed(2, cluster.epoch, 5, 0, first=True, end=False)
    assert heartbeats.answer(cluster.view, beat, (5, 5), 0)[0].reclaim
    heartbeats.listed(2, cluster.epoch, 6, 0, first=False, end=True)
    assert not heartbeats.answer(cluster.view, beat, (5, 5), 0)[0].reclaim
    assert heartbeats.answer(cluster.view, beat, (6, 6), 0)[0].reclaim
    assert heartbeats.answer(cluster.view, beat, (5, 5), RELIST_AFTER_MS + 1)[0].reclaim
    heartbeats.registered(2, 0)
    assert heartbeats.answer(cluster.view, beat, (5, 5), 0)[0].reclaim


def test_a_heartbeat_of_a_start_that_a_later_one_followed_is_refused() -> None:
    cluster = Cluster(nodes=3)
    heartbeats = Heartbeats(Liveness())
    node = cluster.view.nodes[2]
    later = RegisterNodeRequest(node=node.message(), starts=node.starts + 1)
    cluster.run(lambda: cluster.state.register_node(cluster.tx, later, []))
    old = NodeHeartbeatRequest(node=2, incarnation=node.incarnation, starts=node.starts)
    with pytest.raises(StaleIncarnation):
        heartbeats.answer(cluster.view, old, (0, 0), 0)
    assert 2 not in heartbeats.liveness.heartbeats, "it counted as a sign of life"
    for starts in (0, later.starts):
        beat = NodeHeartbeatRequest(node=2, incarnation=node.incarnation, starts=starts)
        assert heartbeats.answer(cluster.view, beat, (0, 0), 0)[0].state == NODE_UP


def test_a_report_is_proposed_only_for_groups_that_wait_for_it() -> None:
    cluster = Cluster(nodes=4)
    heartbeats = Heartbeats(Liveness())
    cluster.change(2, NODE_DRAINING)
    beat = NodeHeartbeatRequest(node=1, incarnation=1, map_epoch=cluster.epoch, complete_groups=[*range(16), 99])
    _, report = heartbeats.answer(cluster.view, beat, (0, 0), 0)
    assert report is not None
    assert list(report.complete_groups) == [n for n, g in enumerate(cluster.view.groups) if 1 in g.nodes and g.former]
    cluster.run(lambda: cluster.state.report_complete(cluster.tx, report, []))
    assert heartbeats.answer(cluster.view, beat, (0, 0), 0)[1] is None


def test_a_node_hears_once_of_replicas_that_were_reported_bad() -> None:
    cluster = Cluster(nodes=3)
    heartbeats = Heartbeats(Liveness())
    for node, block in ((2, 77), (2, 77), (2, 78), (3, 79)):
        heartbeats.reported(cluster.view, node, block)
    beats = [NodeHeartbeatRequest(node=2, incarnation=cluster.view.nodes[2].incarnation)] * 2
    told = [list(heartbeats.answer(cluster.view, beat, (0, 0), 0)[0].suspect_blocks) for beat in beats]
    assert told == [[77, 78], []]
    with pytest.raises(UnknownNode):
        heartbeats.reported(cluster.view, 9, 77)


def test_reports_about_one_node_are_bounded() -> None:
    cluster = Cluster(nodes=3)
    heartbeats = Heartbeats(Liveness())
    for block in range(SUSPECTS_KEPT + 10):
        heartbeats.reported(cluster.view, 1, block + 1)
    beat = NodeHeartbeatRequest(node=1, incarnation=cluster.view.nodes[1].incarnation)
    assert len(heartbeats.answer(cluster.view, beat, (0, 0), 0)[0].suspect_blocks) == SUSPECTS_KEPT
