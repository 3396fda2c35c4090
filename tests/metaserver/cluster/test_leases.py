"""Block ids: each is given out once, to a session that owns it until it ends."""

from collections import Counter

import pytest
from blockyard.metaserver.cluster.leases import LARGEST_LEASE, RANGES_PER_GROUP
from blockyard.proto.cluster_pb2 import NODE_DOWN, NODE_DRAINING
from blockyard.proto.errors import BelowWriteMin, InvalidArgument, NoSpace, StaleEpoch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.metaserver.cluster.harness import Cluster, block, blocks_of


def test_a_session_owns_what_it_was_given_and_nothing_else() -> None:
    cluster = Cluster(nodes=3)
    mine, others = blocks_of(cluster.lease(1, 40)), blocks_of(cluster.lease(2, 40))
    assert len(set(mine + others)) == 80
    assert all(cluster.state.owned(cluster.tx, 1, b) and not cluster.state.owned(cluster.tx, 2, b) for b in mine)
    assert not cluster.state.owned(cluster.tx, 1, block(0, 0))
    assert not cluster.state.owned(cluster.tx, 1, block(15, 1 << 47))
    assert not cluster.state.owned(cluster.tx, 3, mine[0])


def test_the_end_of_a_session_takes_everything_back_and_gives_nothing_out_again() -> None:
    cluster = Cluster(nodes=3)
    old = blocks_of(cluster.lease(1, 200))
    cluster.end_session(1)
    assert not any(cluster.state.owned(cluster.tx, 1, b) for b in old)
    assert not set(old) & set(blocks_of(cluster.lease(1, 200)))
    cluster.end_session(1)
    assert not any(key.startswith(b"Mlease") for key in cluster.store.rows)


def test_an_id_is_spent_once_and_its_neighbours_stay() -> None:
    cluster = Cluster(nodes=3, groups=1)
    ids = blocks_of(cluster.lease(1, 9))
    for b in (ids[0], ids[8], ids[4]):
        assert not cluster.run(lambda b=b: cluster.state.spend(cluster.tx, 2, b))  # type: ignore[misc]
        assert cluster.run(lambda b=b: cluster.state.spend(cluster.tx, 1, b))  # type: ignore[misc]
        assert not cluster.run(lambda b=b: cluster.state.spend(cluster.tx, 1, b))  # type: ignore[misc]
    left = [b for b in ids if cluster.state.owned(cluster.tx, 1, b)]
    assert left == [b for b in ids if b not in (ids[0], ids[8], ids[4])]


def test_a_session_that_spent_everything_keeps_no_ranges() -> None:
    cluster = Cluster(nodes=3, groups=2)
    for b in blocks_of(cluster.lease(1, 40)):
        assert cluster.run(lambda b=b: cluster.state.spend(cluster.tx, 1, b))  # type: ignore[misc]
    assert not any(key.startswith(b"Mlease...") for key in cluster.store.rows)


def test_a_block_written_under_a_map_whose_holders_were_let_go_since_is_refused() -> None:
    cluster = Cluster(nodes=4, groups=16)
    written = cluster.epoch
    group = next(n for n, g in enumerate(cluster.view.groups) if 2 in g.nodes)
    waiting = (b for b in blocks_of(cluster.lease(1, 400)) if b >> 48 == group)
    cluster.change(2, NODE_DRAINING)
    assert 2 in cluster.group(group).former
    spend = cluster.state.spend
    first, second, third = (next(waiting) for _ in range(3))
    assert cluster.run(lambda: spend(cluster.tx, 1, first, written)), "its former holders are still known"
    for node in cluster.group(group).nodes:
        cluster.complete(node, [group])
    assert not cluster.group(group).former
    with pytest.raises(StaleEpoch) as refused:
        cluster.run(lambda: spend(cluster.tx, 1, second, written))
    assert refused.value.map_epoch == cluster.epoch
    again = cluster.reopened()
    with pytest.raises(StaleEpoch):
        again.run(lambda: again.state.spend(again.tx, 1, second, written))
    assert cluster.run(lambda: spend(cluster.tx, 1, second, cluster.epoch)), "written again, under the newer map"
    assert cluster.run(lambda: spend(cluster.tx, 1, third)), "a client that does not say is believed"


def test_leases_survive_a_restart() -> None:
    cluster = Cluster(nodes=3)
    mine = blocks_of(cluster.lease(1, 40))
    again = cluster.reopened()
    assert all(again.state.owned(again.tx, 1, b) for b in mine)


def test_one_id_comes_from_one_group_and_many_are_spread_evenly() -> None:
    cluster = Cluster(nodes=3)
    assert len(cluster.lease(1, 1).ranges) == 1
    assert [r.count for r in cluster.lease(1, 1000).ranges] == [63] * 8 + [62] * 8


def test_a_long_session_keeps_few_ranges() -> None:
    cluster = Cluster(nodes=3, groups=1)
    oldest = blocks_of(cluster.lease(1, 5))
    for _ in range(RANGES_PER_GROUP + 5):
        cluster.lease(2, 1)
        newest = blocks_of(cluster.lease(1, 5))
    row = next(row for key, row in cluster.store.rows.items() if key.startswith(b"Mlease...") and key[-1] == 1)
    assert len(row) == RANGES_PER_GROUP * 16
    assert not cluster.state.owned(cluster.tx, 1, oldest[0])
    assert all(cluster.state.owned(cluster.tx, 1, b) for b in newest)


def test_ranges_that_touch_are_one() -> None:
    cluster = Cluster(nodes=3, groups=1)
    for _ in range(500):
        cluster.lease(1, 3)
    row = next(row for key, row in cluster.store.rows.items() if key.startswith(b"Mlease..."))
    assert len(row) == 16


def test_groups_with_the_near_node_are_preferred() -> None:
    cluster = Cluster(nodes=8, groups=64)
    reply = cluster.lease(1, 100, near=3)
    assert all(3 in cluster.group(r.group).nodes for r in reply.ranges)


def test_groups_with_avoided_nodes_are_used_only_when_there_are_no_others() -> None:
    cluster = Cluster(nodes=8, groups=64)
    reply = cluster.lease(1, 100, avoid=[3])
    assert all(3 not in cluster.group(r.group).nodes for r in reply.ranges)
    assert cluster.lease(1, 100, avoid=range(1, 9)).ranges


def test_groups_below_write_min_are_not_given_out() -> None:
    cluster = Cluster(nodes=6, groups=64)
    for node in (1, 2):
        cluster.set_state(node, NODE_DOWN)
    for r in cluster.lease(1, 1000).ranges:
        assert len(set(cluster.group(r.group).nodes) - {1, 2}) >= 2
    for node in (3, 4, 5):
        cluster.set_state(node, NODE_DOWN)
    with pytest.raises(BelowWriteMin) as refused:
        cluster.lease(1, 1)
    assert refused.value.definite


def test_a_draining_node_takes_no_new_blocks() -> None:
    cluster = Cluster(nodes=3)
    for node in (1, 2):
        cluster.change(node, NODE_DRAINING)
    with pytest.raises(BelowWriteMin):
        cluster.lease(1, 1)


def test_full_nodes_take_no_new_blocks() -> None:
    cluster = Cluster(nodes=6, groups=64)
    for r in cluster.lease(1, 1000, inputs=[0, 1, 2]).ranges:
        assert len(set(cluster.group(r.group).nodes) - {1, 2}) >= 2
    with pytest.raises(NoSpace):
        cluster.lease(1, 1, inputs=[0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize("count", [0, LARGEST_LEASE + 1])
def test_a_lease_has_a_size(count: int) -> None:
    with pytest.raises(InvalidArgument):
        Cluster(nodes=3).lease(1, count)


def test_small_leases_reach_every_group() -> None:
    cluster = Cluster(nodes=3, groups=16)
    seen = Counter(r.group for n in range(160) for r in cluster.lease(1, 1, inputs=[n]).ranges)
    assert set(seen.values()) == {10}


class LeasesAgainstAModel(RuleBasedStateMachine):
    """The model is a dict from block to its owner."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(nodes=3, groups=4)
        self.owner: dict[int, int] = {}
        self.ever: set[int] = set()

    @rule(session=st.integers(1, 4), count=st.integers(1, 30), chance=st.integers(0, 99))
    def lease(self, session: int, count: int, chance: int) -> None:
        blocks = blocks_of(self.cluster.lease(session, count, inputs=[chance]))
        assert len(blocks) == count
        assert not self.ever & set(blocks)
        self.ever.update(blocks)
        self.owner.update(dict.fromkeys(blocks, session))

    @rule(session=st.integers(1, 4))
    def end(self, session: int) -> None:
        self.cluster.end_session(session)
        self.owner = {b: s for b, s in self.owner.items() if s != session}

    @rule(data=st.data(), session=st.integers(1, 4))
    def spend(self, data: st.DataObject, session: int) -> None:
        if self.ever:
            b = data.draw(st.sampled_from(sorted(self.ever)))
            spent = self.cluster.run(lambda: self.cluster.state.spend(self.cluster.tx, session, b))
            assert spent == (self.owner.get(b) == session)
            if spent:
                del self.owner[b]

    @rule()
    def restart(self) -> None:
        self.cluster = self.cluster.reopened()

    @invariant()
    def owners_agree(self) -> None:
        state, tx = self.cluster.state, self.cluster.tx
        for b in self.ever:
            assert [s for s in range(1, 5) if state.owned(tx, s, b)] == [s for s in [self.owner.get(b)] if s]


LeasesAgainstAModel.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestLeasesAgainstAModel = LeasesAgainstAModel.TestCase
