"""What an exchange of lists says, against the truth."""

from collections.abc import Sequence

from blockyard.proto.cluster_pb2 import BLOCK_DEAD, BLOCK_LEASED, BLOCK_LIVE, BLOCK_UNKNOWN, BlockFate
from blockyard.storagenode.upkeep.exchange import Difference, Missing, Parties, compare, spared
from hypothesis import given
from hypothesis import strategies as st

ME = 1
IDS = st.integers(1, 30)
FATES = (BLOCK_LIVE, BLOCK_LEASED, BLOCK_DEAD, BLOCK_UNKNOWN)


def silent(blocks: Sequence[int]) -> None:
    """A metadata group that does not answer."""


class Group:
    """The metadata group's word, and what it was asked."""

    def __init__(self, fates: dict[int, BlockFate]) -> None:
        self.fates = fates
        self.asked: list[int] = []

    def ask(self, blocks: Sequence[int]) -> list[BlockFate]:
        self.asked += blocks
        return [self.fates.get(block, BLOCK_LIVE) for block in blocks]


def window(**lists: Sequence[int]) -> dict[int, dict[int, int]]:
    return {int(name[1:]): {block: 10 * block for block in blocks} for name, blocks in lists.items()}


def parties(*present: int, unheard: set[int] | None = None) -> Parties:
    return Parties(ME, frozenset(present), unheard or set())


def never(block: int) -> bool:
    return False


def test_what_every_other_present_holder_has_is_copied_unasked() -> None:
    group = Group({})
    found = compare(parties(1, 2, 3), window(n1=[7], n2=[7, 8], n3=[7, 8]), group.ask, never)
    assert found == Difference(missing=(Missing(8, 80, (2, 3)),))
    assert group.asked == []


def test_one_other_holder_is_not_believed_unasked() -> None:
    """It may have been away, and this node may have dropped the block and forgotten that it did."""
    group = Group({5: BLOCK_DEAD})
    found = compare(parties(1, 2), window(n1=[], n2=[5, 6]), group.ask, never)
    assert [each.block for each in found.missing] == [6]
    assert compare(parties(1, 2), window(n1=[], n2=[5]), silent, never).unsure == (5,)


def test_what_only_one_side_has_is_copied_when_it_lives_or_may_yet() -> None:
    group = Group({5: BLOCK_DEAD, 6: BLOCK_UNKNOWN, 7: BLOCK_LEASED, 8: BLOCK_LIVE})
    found = compare(parties(1, 2, 3), window(n1=[], n2=[5, 6, 7, 8], n3=[]), group.ask, never)
    assert [each.block for each in found.missing] == [7, 8]
    assert group.asked == [5, 6, 7, 8]


def test_what_only_a_former_holder_has_is_asked_about() -> None:
    group = Group({5: BLOCK_DEAD})
    found = compare(parties(1, 2), window(n1=[], n2=[], n9=[5, 6]), group.ask, never)
    assert found.missing == (Missing(6, 60, (9,)),)


def test_the_dead_of_a_node_that_was_away_are_dropped_and_nothing_else_of_it() -> None:
    group = Group({1: BLOCK_DEAD, 2: BLOCK_UNKNOWN, 3: BLOCK_LEASED, 4: BLOCK_LIVE})
    found = compare(parties(1, 2, 3), window(n1=[1, 2, 3, 4, 5], n2=[5], n3=[]), group.ask, never)
    assert found == Difference(dead=(1,))
    assert group.asked == [1, 2, 3, 4]


def test_with_a_holder_unheard_nothing_looks_as_if_it_were_here_alone() -> None:
    group = Group({1: BLOCK_DEAD})
    assert compare(parties(1, 2, 3, unheard={3}), window(n1=[1], n2=[]), group.ask, never) == Difference()
    assert group.asked == []


def test_without_the_metadata_group_only_what_is_certain_is_copied() -> None:
    found = compare(parties(1, 2, 3), window(n1=[9], n2=[5, 6], n3=[6]), silent, never)
    assert found == Difference(missing=(Missing(6, 60, (2, 3)),), unsure=(5,))


def test_what_was_dropped_for_good_is_never_missed() -> None:
    found = compare(parties(1, 2, 3), window(n1=[], n2=[5, 6], n3=[5, 6]), silent, lambda block: block == 5)
    assert [each.block for each in found.missing] == [6]


def test_of_holders_that_disagree_about_a_length_most_are_believed() -> None:
    lists = {ME: {}, 2: {5: 10}, 3: {5: 20}, 4: {5: 20}}
    found = compare(parties(1, 2, 3, 4), lists, Group({}).ask, never)
    assert found.missing == (Missing(5, 20, (3, 4)),)


@given(
    st.dictionaries(st.integers(1, 5), st.dictionaries(IDS, st.just(1))),
    st.sets(st.integers(1, 4)),
    st.dictionaries(IDS, st.sampled_from(FATES)),
    st.sets(IDS, max_size=5),
)
def test_what_is_missing_and_dead_is_what_the_truth_says(
    lists: dict[int, dict[int, int]], present: set[int], fates: dict[int, BlockFate], gone: set[int]
) -> None:
    group = Group(fates)
    everyone = present | {ME}
    found = compare(parties(*everyone), lists, group.ask, gone.__contains__)
    mine, others = set(lists.get(ME, {})), everyone - {ME}
    elsewhere = set().union(*(blocks for node, blocks in lists.items() if node != ME))
    for block in elsewhere - mine - gone:
        shared = len(others) >= 2 and all(block in lists.get(node, {}) for node in others)
        alive = fates.get(block, BLOCK_LIVE) in (BLOCK_LIVE, BLOCK_LEASED)
        assert (block in {each.block for each in found.missing}) == (shared or alive)
    for each in found.missing:
        assert each.block in elsewhere - mine - gone
        assert all(each.block in lists[source] for source in each.sources)
        assert each.sources
    for block in found.dead:
        assert block in mine
        assert fates[block] == BLOCK_DEAD
        assert not any(block in lists.get(node, {}) for node in others)


@given(st.dictionaries(st.integers(1, 4), st.dictionaries(IDS, st.just(1))), st.sets(st.integers(2, 4)))
def test_a_node_that_leaves_drops_only_what_every_present_holder_has(
    lists: dict[int, dict[int, int]], present: set[int]
) -> None:
    droppable, lacking = spared(present, lists, ME)
    assert sorted([*droppable, *lacking]) == sorted(lists.get(ME, {}))
    for block in droppable:
        assert present
        assert all(block in lists.get(node, {}) for node in present)
    for block, nodes in lacking.items():
        assert nodes == sorted(node for node in present if block not in lists.get(node, {}))
        assert nodes or not present
