"""Sorted lists, cut into windows of one range of ids."""

from collections.abc import Iterator

import pytest
from blockyard.proto.errors import MalformedReply
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.storagenode.upkeep.windows import Entries, rising, windows
from hypothesis import given
from hypothesis import strategies as st

GROUP = 5
BASE = GROUP << SEQUENCE_BITS


def pages(blocks: set[int], size: int) -> Iterator[Entries]:
    rising = sorted(blocks)
    for start in range(0, len(rising), size):
        yield [(block, block & 7) for block in rising[start : start + size]]


@given(
    st.dictionaries(st.integers(1, 5), st.sets(st.integers(BASE + 1, BASE + 60)), max_size=4),
    st.lists(st.integers(1, 7), min_size=5, max_size=5),
)
def test_every_id_of_every_list_is_in_exactly_one_window_and_windows_rise(
    lists: dict[int, set[int]], sizes: list[int]
) -> None:
    seen: dict[int, list[int]] = {holder: [] for holder in lists}
    highest = BASE
    for window in windows({holder: pages(blocks, sizes[holder - 1]) for holder, blocks in lists.items()}):
        ids = [block for blocks in window.values() for block in blocks]
        assert all(block > highest for block in ids)
        highest = max([highest, *ids])
        for holder, blocks in window.items():
            assert all(length == block & 7 for block, length in blocks.items())
            seen[holder] += sorted(blocks)
    assert seen == {holder: sorted(blocks) for holder, blocks in lists.items()}


@given(st.sets(st.integers(BASE + 1, BASE + 1000), min_size=100), st.integers(1, 9))
def test_only_a_page_of_each_list_is_held(blocks: set[int], size: int) -> None:
    fetched = taken = 0

    def counted() -> Iterator[Entries]:
        nonlocal fetched
        for page in pages(blocks, size):
            fetched += len(page)
            yield page

    for window in windows({1: counted(), 2: pages(blocks, 3)}):
        taken += len(window[1])
        assert fetched - taken <= size


@pytest.mark.parametrize("page", [[(BASE + 2, 1), (BASE + 1, 1)], [(BASE + 1, 1)] * 2, [(BASE - 1, 1)], [(1, 1)]])
def test_a_list_that_does_not_rise_within_its_group_is_refused(page: Entries) -> None:
    with pytest.raises(MalformedReply, match="group 5"):
        list(rising([page], GROUP))


def test_a_block_past_the_group_is_refused() -> None:
    with pytest.raises(MalformedReply):
        list(rising([[((GROUP + 1) << SEQUENCE_BITS, 1)]], GROUP))


@given(st.sets(st.integers(BASE + 1, BASE + 60)), st.integers(1, 9))
def test_a_list_in_order_passes_as_it_is(blocks: set[int], size: int) -> None:
    assert list(rising(pages(blocks, size), GROUP)) == list(pages(blocks, size))
