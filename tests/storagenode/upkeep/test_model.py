"""One placement group, nodes that come and go, and the upkeep that its cores decide, against the truth.

The nodes are sets of ids; everything they decide, production code decides. The metadata group is a plain model of what
`metaserver/cluster` does: who holds, who held, who is complete, which blocks wait to be reclaimed and who confirmed.
"""

from collections.abc import Iterator, Sequence

from blockyard.proto.cluster_pb2 import BLOCK_DEAD, BLOCK_LIVE, BLOCK_UNKNOWN, BlockFate
from blockyard.storagenode.upkeep.dropped import Dropped
from blockyard.storagenode.upkeep.exchange import Parties, differences, spared
from blockyard.storagenode.upkeep.windows import Entries, windows
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

NODES = range(1, 6)
REPLICAS = 3
some_node = st.sampled_from(NODES)


class Node:
    """A store, and what its process remembers."""

    def __init__(self) -> None:
        self.blocks: set[int] = set()
        self.dropped = Dropped()
        self.up = True

    def pages(self, size: int = 3) -> Iterator[Entries]:
        rising = sorted(self.blocks)
        for start in range(0, len(rising), size):
            yield [(block, block) for block in rising[start : start + size]]


class Cluster(RuleBasedStateMachine):
    """Rules are what may happen, in any order; `settle` is what must be true when nothing more does."""

    @initialize()
    def begin(self) -> None:
        self.nodes = {number: Node() for number in NODES}
        self.present: tuple[int, ...] = (1, 2, 3)
        self.former: set[int] = set()
        self.complete: set[int] = set()
        self.live: set[int] = set()
        self.dead: dict[int, set[int]] = {}  # waits to be reclaimed: who confirmed
        self.last = 0

    # ------------------------------------------------------------------------------------------ the metadata group

    def fates(self, blocks: Sequence[int]) -> list[BlockFate]:
        def fate(block: int) -> BlockFate:
            return BLOCK_LIVE if block in self.live else BLOCK_DEAD if block in self.dead else BLOCK_UNKNOWN

        return [fate(block) for block in blocks]

    def forget_confirmed(self) -> None:
        holders = {*self.present, *self.former}
        self.dead = {block: told for block, told in self.dead.items() if not holders <= told}

    # ------------------------------------------------------------------------------------------ what users do

    @rule()
    def write(self) -> None:
        """A block is acknowledged when two holders have it."""
        takers = [node for node in self.present if self.nodes[node].up]
        if len(takers) >= 2:
            self.last += 1
            self.live.add(self.last)
            for node in takers:
                self.nodes[node].blocks.add(self.last)

    @rule(holder=some_node, stray=some_node)
    def write_by_an_old_map(self, holder: int, stray: int) -> None:
        """A writer and a node that know only an older map: one of the two copies is where nobody looks for it."""
        if holder in self.present and stray not in self.present and self.nodes[holder].up and self.nodes[stray].up:
            self.last += 1
            self.live.add(self.last)
            self.nodes[holder].blocks.add(self.last)
            self.nodes[stray].blocks.add(self.last)

    @rule(pick=st.integers(0, 99))
    def delete(self, pick: int) -> None:
        if self.live:
            block = sorted(self.live)[pick % len(self.live)]
            self.live.discard(block)
            self.dead[block] = set()

    # ------------------------------------------------------------------------------------------ what befalls nodes

    @rule(number=some_node)
    def fall_silent(self, number: int) -> None:
        self.nodes[number].up = False

    @rule(number=some_node)
    def come_back(self, number: int) -> None:
        """As a new process: what the old one remembered is gone."""
        self.nodes[number].up = True
        self.nodes[number].dropped = Dropped()

    @rule(leaves=some_node, comes=some_node)
    def move(self, leaves: int, comes: int) -> None:
        if leaves in self.present and comes not in self.present:
            self.present = tuple(comes if node == leaves else node for node in self.present)
            self.former = (self.former | {leaves}) - {comes}
            self.complete = set()

    # ------------------------------------------------------------------------------------------ upkeep

    @rule(number=some_node)
    def repair(self, number: int) -> None:
        node = self.nodes[number]
        if number not in self.present or not node.up:
            return
        holders = {*self.present, *self.former} - {number}
        heard = {holder for holder in holders if self.nodes[holder].up}
        parties = Parties(number, frozenset(self.present), set(self.present) - heard - {number})
        lists = {holder: self.nodes[holder].pages() for holder in heard} | {number: node.pages()}
        came: set[int] = set()
        for found in differences(parties, lists, self.fates, node.dropped.__contains__):
            for missing in found.missing:
                assert any(missing.block in self.nodes[source].blocks for source in missing.sources)
                others = [self.nodes[each].blocks for each in self.present if each != number]
                assert missing.block in self.live or all(missing.block in each for each in others), (
                    "raised from the dead"
                )
                came.add(missing.block)
            node.dropped.add(found.dead)
            node.blocks -= set(found.dead)
        node.blocks |= came
        if heard == holders:
            self.complete.add(number)
            if self.complete >= set(self.present):
                self.former, self.complete = set(), set()
                self.forget_confirmed()

    @rule(number=some_node)
    def reclaim(self, number: int) -> None:
        node = self.nodes[number]
        if node.up and number in {*self.present, *self.former}:
            node.dropped.add(self.dead)
            node.blocks -= set(self.dead)
            for told in self.dead.values():
                told.add(number)
            self.forget_confirmed()

    @rule(number=some_node)
    def leave(self, number: int) -> None:
        node = self.nodes[number]
        if not node.up or number in self.present or number in self.former:
            return
        if not all(self.nodes[holder].up for holder in self.present):
            return
        lists = {holder: self.nodes[holder].pages() for holder in self.present}
        for window in windows(lists | {number: node.pages()}):
            covered, lacking = spared(frozenset(self.present), window, number)
            node.blocks -= set(covered)
            dead = [block for block, fate in zip(lacking, self.fates(list(lacking)), strict=True) if fate == BLOCK_DEAD]
            node.blocks -= set(dead)

    @rule(number=some_node)
    def collect(self, number: int) -> None:
        node = self.nodes[number]
        if node.up:
            mine = sorted(node.blocks)
            gone = [block for block, fate in zip(mine, self.fates(mine), strict=True) if fate == BLOCK_UNKNOWN]
            node.dropped.add(gone)
            node.blocks -= set(gone)

    # ------------------------------------------------------------------------------------------ what must hold

    @invariant()
    def no_acknowledged_block_has_fewer_copies_than_it_was_acknowledged_with(self) -> None:
        for block in self.live:
            assert sum(block in node.blocks for node in self.nodes.values()) >= 2

    @invariant()
    def every_live_block_is_with_a_holder_past_or_present(self) -> None:
        for block in self.live:
            assert any(block in self.nodes[node].blocks for node in (*self.present, *self.former))

    @precondition(lambda self: self.last > 0)
    @rule()
    def settle(self) -> None:
        """With everybody back and nothing new, present holders have what lives, all of it, and others have nothing."""
        for node in self.nodes.values():
            node.up = True
        for _ in range(4):
            for number in NODES:
                self.repair(number)
                self.reclaim(number)
                self.leave(number)
                self.collect(number)
        for number, node in self.nodes.items():
            assert node.blocks == (self.live if number in self.present else set())


TestCluster = Cluster.TestCase
TestCluster.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
