"""What operators are told of the storage: one word, and reasons that name nodes, groups and times."""

from typing import Any

from blockyard.client.cli import health
from blockyard.client.cli.output import duration, size
from blockyard.client.cli.storage import Look
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import (
    NODE_DOWN,
    NODE_DRAINING,
    NODE_UP,
    ClusterMap,
    ClusterStatusReply,
    NodeHeartbeatRequest,
    NodeRecord,
    NodeState,
    NodeStatus,
    PlacementGroupRecord,
)
from hypothesis import given
from hypothesis import strategies as st


def node(number: int, state: NodeState = NODE_UP, silent_ms: int = 0, **beat: int) -> NodeStatus:
    heartbeat = NodeHeartbeatRequest(node=number, **{"free_bytes": 1 << 30, **beat})  # type: ignore[arg-type]
    record = NodeRecord(id=number, name=f"n{number}", state=state)
    return NodeStatus(node=record, heartbeat=heartbeat, silent_ms=silent_ms)


def look(*nodes: NodeStatus, degraded: int = 0, paused: int = 0, reclaim: int = 0, held: bool = True) -> Look:
    rows = [PlacementGroupRecord(nodes=[each.node.id for each in nodes] if held else [])] * 32
    message = ClusterMap(epoch=3, replicas=3, write_min=2, nodes=[each.node for each in nodes], groups=rows)
    reply = ClusterStatusReply(
        nodes=nodes, degraded_groups=degraded, paused_groups=paused, groups=32, reclaim_blocks=reclaim
    )
    return Look(ClusterView(message), reply)


def told(found: Look) -> tuple[str, list[str]]:
    reasons = health.reasons(found)
    return health.level(reasons), [reason.text for reason in reasons]


def test_a_cluster_in_order_is_healthy_and_there_is_nothing_more_to_say() -> None:
    found = look(node(1), node(2), node(3))
    assert told(found) == ("healthy", [])
    assert health.sentence(found, []) == "Storage is healthy: 3 nodes, every group has its 3 replicas."


def test_groups_below_the_least_copies_are_said_first() -> None:
    level, reasons = told(look(node(1), node(2, NODE_DOWN, 4_000), node(3, NODE_DOWN), degraded=32, paused=32))
    assert level == "paused"
    assert reasons[0] == "32 of 32 groups have fewer than 2 nodes that take writes"
    assert "node n2 is down for 4 s" in reasons


def test_groups_that_only_wait_to_be_known_complete_have_nothing_to_copy() -> None:
    _, reasons = told(look(node(1), node(2), node(3), degraded=5))
    assert reasons == ["5 of 32 groups lack complete replicas"]


def test_a_cluster_without_nodes_is_in_danger() -> None:
    assert told(look())[0] == "paused"


def test_repair_has_a_rate_and_an_end() -> None:
    busy: dict[str, Any] = {"repair_blocks": 1_000, "repair_bytes": 6 << 30, "repair_bytes_per_second": 100 << 20}
    level, reasons = told(look(node(1, **busy), node(2), node(3), degraded=4))
    assert level == "degraded"
    assert reasons == [
        "4 of 32 groups lack complete replicas "
        "(1,000 blocks (6 GiB) to copy at 100 MiB/s, done in about 1 min 1 s)"
    ]  # fmt: skip


def test_repair_that_does_not_move_has_no_end() -> None:
    repair = health.Repair.of(look(node(1, repair_blocks=5, repair_bytes=50), node(2), node(3)))
    assert repair.eta_s is None
    assert "done in" not in repair.text()


def test_the_node_that_takes_longest_decides_when_repair_is_done() -> None:
    repair = health.Repair.of(
        look(
            node(1, repair_blocks=1, repair_bytes=100, repair_bytes_per_second=10),
            node(2, repair_blocks=1, repair_bytes=900, repair_bytes_per_second=10),
        )
    )
    assert repair.eta_s == 90


def test_full_draining_and_damaged_nodes_are_named() -> None:
    level, reasons = told(
        look(node(1, free_bytes=0), node(2, NODE_DRAINING), node(3, quarantined_blocks=2), reclaim=7)
    )  # fmt: skip
    assert level == "degraded"
    assert reasons[0] == "node n1 is full: it takes no new blocks"
    assert "node n2 drains: 32 groups left" in reasons
    assert "node n3 has 2 bad replicas put aside" in reasons
    assert "7 deleted blocks wait to be dropped by all their holders" in reasons


def test_a_silent_node_that_holds_nothing_is_nobodys_trouble() -> None:
    assert told(look(node(1, NODE_DOWN), node(2), held=False))[0] == "healthy"


def test_sizes_and_times_are_for_people() -> None:
    assert [size(n) for n in (0, 999, 1536, 150 << 20, 3 << 40)] == ["0 B", "999 B", "1.5 KiB", "150 MiB", "3 TiB"]
    assert [duration(s) for s in (0, 59.6, 61, 3600, 90_000)] == ["0 s", "1 min", "1 min 1 s", "1 h", "1 d 1 h"]


@given(st.floats(0, 1e18))
def test_every_size_has_at_most_three_digits(count: float) -> None:
    number = size(count).split()[0]
    assert float(number) < 1025
    assert len(number.replace(".", "")) <= 4
