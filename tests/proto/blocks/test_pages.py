"""Checksum pages: the sums of the parts say what the sum of the whole is, however the bytes came."""

import random

import pytest
from blockyard.proto import errors
from blockyard.proto.blocks.pages import PAGE_BYTES, PageSums, page_checksums, page_count, whole_checksum, widen
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

DATA = random.Random(3).randbytes(9 * PAGE_BYTES)
LENGTHS = st.one_of(st.integers(1, len(DATA)), st.integers(1, 9).map(lambda pages: pages * PAGE_BYTES))


@settings(max_examples=100, deadline=None)
@given(LENGTHS)
def test_the_whole_checksum_follows_from_those_of_the_pages(length: int) -> None:
    data = DATA[:length]
    sums = page_checksums(data)
    assert len(sums) == page_count(length)
    assert whole_checksum(sums, length) == crc32c(data)


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.sets(st.integers(1, len(DATA) - 1), max_size=8))
def test_sums_are_the_same_however_the_block_was_cut(length: int, cuts: set[int]) -> None:
    every, sums, start = page_checksums(DATA[:length]), PageSums(), 0
    for end in [*sorted(cut for cut in cuts if cut < length), length]:
        last = page_count(end) if end == length else end // PAGE_BYTES
        piece = every[start // PAGE_BYTES : last]
        sums.add(end, piece)
        assert sums.between(start, end) == piece
        start = end
    assert sums.is_complete
    assert sums.all() == every
    assert sums.whole() == crc32c(DATA[:length])


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.integers(0, len(DATA)), st.integers(1, len(DATA)))
def test_a_range_is_widened_to_pages_and_never_past_the_end(block_length: int, offset: int, length: int) -> None:
    offset = min(offset, block_length - 1)
    length = min(length, block_length - offset)
    start, wide = widen(offset, length, block_length)
    assert start <= offset
    assert offset + length <= start + wide <= block_length
    assert start % PAGE_BYTES == 0
    assert (start + wide) % PAGE_BYTES == 0 or start + wide == block_length
    assert offset - start < PAGE_BYTES
    assert start + wide - (offset + length) < PAGE_BYTES


def test_nothing_follows_an_unfinished_page_whose_sum_came() -> None:
    sums = PageSums()
    sums.add(10, [1])
    with pytest.raises(errors.InvalidArgument):
        sums.add(20, [])
    unchecked = PageSums()
    unchecked.add(10, [])
    assert not unchecked.is_complete
    unchecked.add(20, [2])
    assert unchecked.is_complete
