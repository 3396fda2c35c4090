"""Where a block is, and in which order to go there: properties over any map."""

import pytest
from blockyard.proto import errors
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import (
    NODE_DOWN,
    NODE_DRAINING,
    NODE_OUT,
    NODE_REMOVED,
    NODE_UP,
    ClusterMap,
    NodeRecord,
    NodeState,
    PlacementGroupRecord,
)
from blockyard.proto.common_pb2 import Address
from blockyard.proto.ids import BLOCK, PlacementGroup
from hypothesis import given
from hypothesis import strategies as st

STATES = (NODE_UP, NODE_DOWN, NODE_OUT, NODE_DRAINING, NODE_REMOVED)


def record(
    number: int, state: NodeState = NODE_UP, zone: str = "z1", host: str = "", incarnation: int = 7
) -> NodeRecord:
    address = Address(host=host or f"m{number}", lane_port=7000 + number, grpc_port=0, unix_path=f"/run/{number}")
    return NodeRecord(
        id=number, name=f"node{number}", zone=zone, address=address, incarnation=incarnation, state=state,
        capacity_bytes=1 << 40, weight=1,
    )  # fmt: skip


def view(nodes: list[NodeRecord], groups: list[PlacementGroupRecord], write_min: int = 2) -> ClusterView:
    message = ClusterMap(epoch=9, cluster="c", replicas=3, write_min=write_min, nodes=nodes, groups=groups)
    return ClusterView(message)


def block(group: int, sequence: int = 1) -> int:
    return BLOCK.join(PlacementGroup(group), sequence)


@st.composite
def maps(draw: st.DrawFn) -> ClusterMap:
    count = draw(st.integers(1, 8))
    numbers = st.integers(1, count)
    rows = st.builds(
        lambda held, former: PlacementGroupRecord(nodes=held, former_nodes=[n for n in former if n not in held]),
        st.lists(numbers, unique=True, max_size=4),
        st.lists(numbers, unique=True, max_size=3),
    )
    nodes = [
        record(
            number,
            draw(st.sampled_from(STATES)),
            draw(st.sampled_from(("z1", "z2", "z3"))),
            draw(st.sampled_from(("a", "b", "c"))),
        )
        for number in range(1, count + 1)
    ]
    groups = draw(st.lists(rows, min_size=1, max_size=6))
    return ClusterMap(
        epoch=draw(st.integers(1, 1 << 40)), cluster="c", replicas=3, write_min=draw(st.integers(1, 3)), nodes=nodes,
        groups=groups,
    )  # fmt: skip


near = st.integers(0, 9)
zones = st.sampled_from(("", "z1", "z2", "z9"))
avoided = st.sets(st.integers(1, 8))


@given(maps(), st.integers(0, 5), near, zones, avoided)
def test_readers_are_all_who_may_have_the_block_and_the_silent_come_last(
    message: ClusterMap, group: int, near_node: int, zone: str, avoid: set[int]
) -> None:
    known = ClusterView(message)
    number = group % len(known.groups)
    found = known.readers(block(number), near_node, zone, avoid)
    row = message.groups[number]
    present = {n.id for n in message.nodes if n.state != NODE_REMOVED}
    assert {node.id for node in found} == {*row.nodes, *row.former_nodes} & present
    assert len({node.id for node in found}) == len(found)
    answering = [node.answers for node in found]
    assert answering == sorted(answering, reverse=True)
    shunned = [node.id in avoid for node in found if node.answers]
    assert shunned == sorted(shunned)


@given(maps(), st.integers(0, 5), near, zones)
def test_nearer_readers_come_first_and_the_maps_preference_decides_between_equals(
    message: ClusterMap, group: int, near_node: int, zone: str
) -> None:
    known = ClusterView(message)
    number = group % len(known.groups)
    here = known.nodes.get(near_node)
    own_zone = zone or (here.zone if here else "")

    def far(node_id: int) -> int:
        node = known.nodes[node_id]
        if here and node.host == here.host:
            return 0 if node.id == here.id else 1
        return 2 if own_zone and node.zone == own_zone else 3

    found = [node.id for node in known.readers(block(number), near_node, zone) if node.answers]
    row = message.groups[number]
    preference = [*row.nodes, *row.former_nodes]
    assert found == sorted(found, key=lambda node: (far(node), preference.index(node)))


@given(maps(), st.integers(0, 5), near, zones, avoided)
def test_a_chain_has_only_nodes_that_take_writes_and_avoids_what_it_can(
    message: ClusterMap, group: int, near_node: int, zone: str, avoid: set[int]
) -> None:
    known = ClusterView(message)
    number = group % len(known.groups)
    found = [each.node for each in known.chain(block(number), near_node, zone, avoid)]
    willing = [n for n in message.groups[number].nodes if known.nodes[n].state == NODE_UP]
    liked = [n for n in willing if n not in avoid]
    assert len(set(found)) == len(found)
    if len(liked) >= known.write_min:
        assert set(found) == set(liked)
    else:
        assert set(found) == set(willing)
        assert found[: len(liked)] == [n for n in found if n in liked], "the avoided come last"


@given(maps())
def test_what_a_node_holds_is_what_the_groups_say(message: ClusterMap) -> None:
    known = ClusterView(message)
    for node in range(10):
        held = [index for index, row in enumerate(message.groups) if node in row.nodes]
        former = [index for index, row in enumerate(message.groups) if node in row.former_nodes]
        assert list(known.groups_of(node)) == held
        assert list(known.former_groups_of(node)) == former
        assert [g for g in range(len(known.groups)) if known.holds(node, g)] == held


def test_holders_come_before_former_holders_in_the_maps_order() -> None:
    nodes = [record(number) for number in (1, 2, 3, 4)]
    known = view(nodes, [PlacementGroupRecord(nodes=[3, 1], former_nodes=[2, 4])])
    assert [node.id for node in known.holders(block(0))] == [3, 1, 2, 4]


def test_a_blocks_group_is_in_its_id_and_must_exist() -> None:
    known = view([record(1)], [PlacementGroupRecord(nodes=[1])] * 4)
    assert known.group_of(block(3, 99)) == 3
    with pytest.raises(errors.InvalidArgument, match="group 4"):
        known.group_of(block(4))


def test_a_removed_or_unknown_node_is_none() -> None:
    known = view([record(1), record(2, NODE_REMOVED)], [PlacementGroupRecord(nodes=[1])])
    assert known.node(1).name == "node1"
    for number in (2, 3):
        with pytest.raises(errors.UnknownNode):
            known.node(number)


def test_disks_of_one_machine_are_near_each_other() -> None:
    nodes = [record(1, host="a"), record(2, host="b"), record(3, host="a", zone="z2")]
    known = view(nodes, [PlacementGroupRecord(nodes=[2, 3, 1])])
    assert [node.id for node in known.readers(block(0), near_node=1)] == [1, 3, 2]
    assert [each.node for each in known.chain(block(0), near_node=3)] == [3, 1, 2]


def test_a_view_does_not_change_with_the_message_it_was_made_from() -> None:
    message = ClusterMap(epoch=1, nodes=[record(1)], groups=[PlacementGroupRecord(nodes=[1])], write_min=1)
    known = ClusterView(message)
    message.groups[0].nodes.append(2)
    known.chain(block(0))[0].address.host = "elsewhere"
    message.nodes[0].state = NODE_DOWN
    assert known.groups[0].nodes == (1,)
    assert known.chain(block(0))[0].address.host == "m1"
    assert known.nodes[1].takes_writes
    with pytest.raises(TypeError):
        known.nodes[2] = known.nodes[1]  # type: ignore[index]


def test_an_address_of_ipv6_is_in_brackets() -> None:
    known = view([record(1, host="fd00::1")], [])
    assert known.node(1).lane == "[fd00::1]:7001"
