"""Dead blocks: nothing alive is ever listed, nothing dead is forgotten before every holder confirmed."""

import pytest
from blockyard.metaserver.cluster import reclaim
from blockyard.proto.cluster_pb2 import (
    BLOCK_DEAD,
    BLOCK_LEASED,
    BLOCK_LIVE,
    BLOCK_UNKNOWN,
    NODE_DOWN,
    NODE_DRAINING,
    NODE_OUT,
    NODE_REMOVED,
    NODE_UP,
    LeaseBlockIdsRequest,
    ListReclaimRequest,
)
from blockyard.proto.common_pb2 import RequestId
from blockyard.proto.errors import InvalidArgument, StaleIncarnation, UnknownNode
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.metaserver.cluster.harness import Cluster, block, blocks_of


def waiting(cluster: Cluster) -> int:
    return cluster.state.reclaim_counts(cluster.tx)[0]


def test_a_dead_block_is_forgotten_when_every_holder_has_confirmed() -> None:
    cluster = Cluster(nodes=3)
    dead = [block(g, 1) for g in range(16)]
    cluster.kill(dead)
    cluster.kill(dead)
    assert waiting(cluster) == 16
    for node in (1, 2, 3):
        assert cluster.listed(node) == dead
        cluster.confirm(node, dead)
        assert cluster.listed(node) == []
        cluster.confirm(node, dead)
    assert waiting(cluster) == 0


def test_pages_cover_everything_once_in_rising_order() -> None:
    cluster = Cluster(nodes=3)
    dead = [block(g, n) for g in (0, 3, 15) for n in range(1, 30)]
    cluster.kill(dead)
    cluster.confirm(1, dead[5:20])
    for page in (1, 7, 29, 1000):
        found = cluster.listed(1, page)
        assert found == sorted(found)
        assert set(dead) - set(dead[5:20]) <= set(found) <= set(dead)


def test_a_node_is_told_only_of_groups_it_may_have() -> None:
    cluster = Cluster(nodes=8, groups=64)
    cluster.kill([block(g, 1) for g in range(64)])
    for node in range(1, 9):
        assert cluster.listed(node) == [block(g, 1) for g in range(64) if node in cluster.group(g).nodes]


def test_a_node_that_is_down_is_waited_for() -> None:
    cluster = Cluster(nodes=3)
    cluster.set_state(2, NODE_DOWN)
    cluster.kill([block(0, 1)])
    for node in (1, 3):
        cluster.confirm(node, [block(0, 1)])
    assert waiting(cluster) == 1
    assert cluster.listed(2) == [block(0, 1)]
    cluster.confirm(2, [block(0, 1)])
    assert waiting(cluster) == 0


def test_a_former_holder_is_told_and_waited_for() -> None:
    cluster = Cluster(nodes=4)
    cluster.change(2, NODE_DRAINING)
    group = next(n for n, g in enumerate(cluster.view.groups) if 2 in g.former)
    cluster.kill([block(group, 1)])
    assert cluster.listed(2) == [block(group, 1)]
    for node in cluster.group(group).nodes:
        cluster.confirm(node, [block(group, 1)])
    assert waiting(cluster) == 1


def test_a_node_that_joins_later_must_confirm_as_well() -> None:
    cluster = Cluster(nodes=3, groups=1)
    cluster.kill([block(0, 1)])
    for node in (1, 2):
        cluster.confirm(node, [block(0, 1)])
    cluster.set_state(3, NODE_DOWN)
    cluster.register("n3", incarnation=33)
    assert waiting(cluster) == 1
    cluster.confirm(4, [block(0, 1)])
    assert waiting(cluster) == 0


def test_a_removed_node_is_not_waited_for() -> None:
    cluster = Cluster(nodes=4)
    dead = [block(g, n) for g in range(16) for n in range(1, 5)]
    cluster.kill(dead)
    for node in (1, 3, 4):
        cluster.confirm(node, dead)
    assert waiting(cluster) == sum(4 for g in cluster.view.groups if 2 in g.nodes)
    cluster.change(2, NODE_REMOVED, force=True)
    for node in (1, 3, 4):
        cluster.confirm(node, dead)
    cluster.sweep()
    assert waiting(cluster) == 0


def test_a_sweep_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reclaim, "SWEEP_ROWS", 3)
    test_a_removed_node_is_not_waited_for()


def test_a_holder_that_is_let_go_is_no_longer_waited_for() -> None:
    cluster = Cluster(nodes=4)
    cluster.set_state(2, NODE_DOWN)
    cluster.set_state(2, NODE_OUT)
    dead = [block(g, 1) for g in range(16)]
    cluster.kill(dead)
    for node in (1, 3, 4):
        cluster.confirm(node, dead)
    assert waiting(cluster) == sum(2 in g.former for g in cluster.view.groups) > 0
    for node in (1, 3, 4):
        cluster.complete(node)
    cluster.sweep()
    assert waiting(cluster) == 0
    cluster.set_state(2, NODE_UP)
    assert set(cluster.fates(2, dead)) == {BLOCK_UNKNOWN}


def test_the_last_group_is_listed_and_swept_too() -> None:
    cluster = Cluster(nodes=1, groups=1 << 16)
    last = block((1 << 16) - 1, (1 << 48) - 1)
    cluster.kill([last])
    assert cluster.listed(1) == [last]


def test_fates() -> None:
    cluster = Cluster(nodes=3)
    live, leased, dead, orphan = blocks_of(cluster.lease(1, 4))[:4]
    other = blocks_of(cluster.lease(2, 1))[0]
    cluster.references.blocks = {live, dead}
    cluster.kill([dead])
    asked = [live, leased, dead, other, block(3, 1 << 40)]
    expected = [BLOCK_LIVE, BLOCK_LEASED, BLOCK_DEAD, BLOCK_LEASED, BLOCK_UNKNOWN]
    assert cluster.fates(1, asked) == expected
    assert cluster.reopened().fates(1, asked) == expected
    cluster.end_session(1)
    assert cluster.fates(1, [live, leased, dead, orphan]) == [BLOCK_LIVE, BLOCK_UNKNOWN, BLOCK_DEAD, BLOCK_UNKNOWN]


def test_a_lease_that_the_store_has_not_yet_is_seen() -> None:
    cluster = Cluster(nodes=3)
    request = LeaseBlockIdsRequest(request=RequestId(session=1, sequence=1), count=1)
    given = blocks_of(cluster.state.lease_block_ids(cluster.tx, request, [1]))
    assert cluster.fates(1, given) == [BLOCK_LEASED]
    cluster.tx.commit()
    assert cluster.fates(1, given) == [BLOCK_LEASED]


def test_a_block_that_was_committed_died_and_was_forgotten_is_unknown_although_its_session_lives() -> None:
    cluster = Cluster(nodes=3)
    b = blocks_of(cluster.lease(1, 1))[0]
    assert cluster.run(lambda: cluster.state.spend(cluster.tx, 1, b))
    cluster.kill([b])
    for node in (1, 2, 3):
        cluster.confirm(node, [b])
    assert cluster.fates(1, [b]) == [BLOCK_UNKNOWN]
    assert not cluster.run(lambda: cluster.state.spend(cluster.tx, 1, b))


def test_strangers_are_refused() -> None:
    cluster = Cluster(nodes=3)
    with pytest.raises(UnknownNode):
        cluster.state.list_reclaim(cluster.tx, ListReclaimRequest(node=9, incarnation=9, limit=1))
    with pytest.raises(StaleIncarnation):
        cluster.state.list_reclaim(cluster.tx, ListReclaimRequest(node=1, incarnation=9, limit=1))
    for limit in (0, 100_001):
        with pytest.raises(InvalidArgument):
            cluster.state.list_reclaim(cluster.tx, ListReclaimRequest(node=1, incarnation=1, limit=limit))


class ReclaimAgainstAModel(RuleBasedStateMachine):
    """Nodes with disks that come and go. The model knows what lives and what every disk holds."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(groups=4, nodes=4)
        self.disks: dict[int, set[int]] = {n: set() for n in range(1, 5)}
        self.buried: dict[int, set[int]] = {n: set() for n in range(1, 5)}  # confirmed: not to be copied back
        self.dead: set[int] = set()
        self.must_ask: set[tuple[int, int]] = set()  # node, group: let go once, what it still has may be long dead
        self.incarnations = 100
        self.held = [set(group.holders) for group in self.cluster.view.groups]

    def noted(self) -> None:
        """See who became a holder of what, after a change of the map."""
        for number, group in enumerate(self.cluster.view.groups):
            self.must_ask |= {(node, number) for node in set(group.holders) - self.held[number]}
            self.held[number] = set(group.holders)

    def ask(self, node: int) -> None:
        """A node that holds a group again asks what of its blocks lives, before it does anything else with them."""
        for number in [g for n, g in sorted(self.must_ask) if n == node]:
            mine = sorted(b for b in self.disks[node] if b >> 48 == number)
            fates = self.cluster.fates(node, mine)
            self.disks[node] -= {b for b, fate in zip(mine, fates, strict=True) if fate in (BLOCK_DEAD, BLOCK_UNKNOWN)}
            self.must_ask.discard((node, number))

    def nodes(self, *states: int) -> list[int]:
        return [n for n, node in self.cluster.view.nodes.items() if node.state in states]

    def up(self) -> list[int]:
        return self.nodes(NODE_UP, NODE_DRAINING)

    @rule(data=st.data(), count=st.integers(1, 6))
    def write(self, data: st.DataObject, count: int) -> None:
        """A writer reaches some of the holders that are up, and commits."""
        if not any(len(writers) >= 2 for writers in self.cluster.view.writers):
            return
        for b in blocks_of(self.cluster.lease(1, count, inputs=[data.draw(st.integers(0, 9))])):
            writers = [n for n in self.cluster.group(b >> 48).nodes if n in self.up()]
            for node in data.draw(st.lists(st.sampled_from(writers), min_size=1, unique=True)):
                self.disks[node].add(b)
            assert self.cluster.run(lambda b=b: self.cluster.state.spend(self.cluster.tx, 1, b))  # type: ignore[misc]
            self.cluster.references.blocks.add(b)

    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        live = sorted(self.cluster.references.blocks)
        if live:
            gone = data.draw(st.lists(st.sampled_from(live), min_size=1, unique=True))
            self.cluster.kill(gone)
            self.dead.update(gone)

    @rule(data=st.data(), to=st.sampled_from(["down", "down", "out", "back", "drain", "undrain", "remove", "weight"]))
    def change(self, data: st.DataObject, to: str) -> None:
        sources = {"down": self.up(), "out": self.nodes(NODE_DOWN), "back": self.nodes(NODE_DOWN, NODE_OUT)}
        choices = sources.get(to, self.nodes(NODE_UP, NODE_DOWN, NODE_OUT, NODE_DRAINING))
        if not choices or (to == "remove" and len(choices) < 3):
            return
        node = data.draw(st.sampled_from(choices))
        match to:
            case "down":
                self.cluster.set_state(node, NODE_DOWN)
            case "out":
                self.cluster.set_state(node, NODE_OUT)
            case "back":
                self.cluster.set_state(node, NODE_UP)
            case "drain":
                self.cluster.change(node, NODE_DRAINING)
            case "undrain":
                self.cluster.change(node, NODE_UP)
            case "weight":
                self.cluster.change(node, weight=data.draw(st.integers(1, 300)))
            case "remove":
                self.cluster.change(node, NODE_REMOVED, force=True)
                self.disks[node] = set()
        self.noted()

    @rule()
    def join(self) -> None:
        if len(self.nodes(NODE_UP, NODE_DOWN, NODE_OUT, NODE_DRAINING)) < 8:
            self.incarnations += 1
            new = self.cluster.register(f"n{self.incarnations}", incarnation=self.incarnations).id
            self.disks[new], self.buried[new] = set(), set()
            self.noted()

    @rule(data=st.data())
    def repair(self, data: st.DataObject) -> None:
        """A holder copies what the others that are up have, the dead not buried yet among it, and reports."""
        holders = [n for n in self.up() if n in self.cluster.holders()]
        if holders:
            self.repair_node(data.draw(st.sampled_from(holders)))

    def repair_node(self, node: int) -> None:
        self.ask(node)
        complete = []
        for number, group in enumerate(self.cluster.view.groups):
            if node in group.nodes:
                for other in group.holders:
                    if other in self.up() and (other, number) not in self.must_ask:
                        self.disks[node] |= {b for b in self.disks[other] if b >> 48 == number} - self.buried[node]
                complete.append(number)
        self.cluster.complete(node, complete)
        self.noted()

    @rule(data=st.data(), page=st.integers(1, 5))
    def reclaim(self, data: st.DataObject, page: int) -> None:
        if self.up():
            self.reclaim_node(data.draw(st.sampled_from(self.up())), page)

    def reclaim_node(self, node: int, page: int = 100) -> None:
        self.ask(node)
        listed = set(self.cluster.listed(node, page))
        assert listed <= self.dead
        assert not listed & self.cluster.references.blocks
        self.disks[node] -= listed
        self.buried[node] |= listed
        self.cluster.confirm(node, listed)

    @rule()
    def sweep(self) -> None:
        self.cluster.sweep()

    @rule()
    def restart(self) -> None:
        self.cluster = self.cluster.reopened()

    @invariant()
    def nothing_dead_is_forgotten_while_a_holder_has_it(self) -> None:
        for number, group in enumerate(self.cluster.view.groups):
            for node in group.holders:
                if (node, number) not in self.must_ask:
                    for b in self.disks[node] & self.dead:
                        assert b >> 48 != number or self.cluster.state.is_dead(self.cluster.tx, b)

    @invariant()
    def the_dead_never_live_again(self) -> None:
        anybody = next(iter(self.up()), None)
        if anybody and self.dead:
            fates = self.cluster.fates(anybody, sorted(self.dead))
            assert set(fates) <= {BLOCK_DEAD, BLOCK_UNKNOWN}

    def teardown(self) -> None:
        """Once everybody is back and has done its work, nothing dead is left anywhere it is held."""
        for node in self.nodes(NODE_DOWN, NODE_OUT):
            self.cluster.set_state(node, NODE_UP)
            self.noted()
        for node in self.nodes(NODE_DRAINING):
            self.cluster.change(node, NODE_UP)
            self.noted()
        for node in [*self.up(), *self.up()]:
            self.repair_node(node)
            self.reclaim_node(node)
        self.cluster.sweep()
        if self.up():
            assert waiting(self.cluster) == 0
            for number, held in enumerate(self.held):
                assert not {b for node in held for b in self.disks[node] & self.dead if b >> 48 == number}


ReclaimAgainstAModel.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestReclaimAgainstAModel = ReclaimAgainstAModel.TestCase
