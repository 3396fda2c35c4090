"""Block ids in stock: each is given once, a batch is of one group, groups take turns and may be shunned."""

from blockyard.client.writer.block_ids import AVOIDED_S, AvoidedNodes, BlockIds
from blockyard.proto.cluster_pb2 import BlockIdRange
from blockyard.proto.ids import SEQUENCE_BITS
from hypothesis import given
from hypothesis import strategies as st


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 20)), max_size=10),
    st.lists(st.tuples(st.integers(1, 30), st.sets(st.integers(0, 5), max_size=3)), max_size=40),
)
def test_every_id_is_given_once_and_never_from_a_shunned_group(
    leased: list[tuple[int, int]], takes: list[tuple[int, set[int]]]
) -> None:
    ids, next_sequence = BlockIds(), dict.fromkeys(range(6), 1)
    left: set[int] = set()
    for group, count in leased:
        first = next_sequence[group]
        next_sequence[group] += count
        ids.add([BlockIdRange(group=group, first_sequence=first, count=count)])
        left |= {group << SEQUENCE_BITS | sequence for sequence in range(first, first + count)}
    for wanted, shunned in takes:
        taken = ids.take(wanted, shunned)
        groups = {block >> SEQUENCE_BITS for block in taken}
        assert len(groups) <= 1
        assert not groups & shunned
        assert len(taken) <= wanted
        assert left.issuperset(taken)
        assert bool(taken) == any(block >> SEQUENCE_BITS not in shunned for block in left)
        left -= set(taken)
        assert ids.count == len(left)


def test_a_node_that_failed_is_avoided_for_a_while() -> None:
    nodes = AvoidedNodes()
    nodes.failed((3,), 10.0)
    assert nodes.now(10.0 + AVOIDED_S - 0.1) == {3}
    assert nodes.now(10.0 + AVOIDED_S) == frozenset()
