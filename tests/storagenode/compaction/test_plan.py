"""What a rewriting reads and in which order."""

import pytest
from blockyard.proto.errors import InvalidArgument
from blockyard.proto.storage_pb2 import CompactChunkRequest, CompactSlice
from blockyard.storagenode.upkeep.compaction_plan import Rewriting
from hypothesis import given
from hypothesis import strategies as st

CHUNK_BYTES = 64 << 20


def slice_of(position: int, length: int, block: int, offset: int = 0) -> CompactSlice:
    return CompactSlice(position=position, length=length, block=block, block_offset=offset)


def request(*slices: CompactSlice, blocks: tuple[int, ...] = (99,)) -> CompactChunkRequest:
    return CompactChunkRequest(inode=2, chunk=0, slices=slices, blocks=blocks)


def test_slices_that_touch_are_one_in_the_new_block_and_holes_stay() -> None:
    rewriting = Rewriting.of(request(slice_of(10, 5, 1, 7), slice_of(15, 3, 2), slice_of(30, 4, 1, 40)))
    assert rewriting.length == 12
    assert rewriting.result() == [slice_of(10, 8, 99), slice_of(30, 4, 99, 8)]


@pytest.mark.parametrize(
    "wrong",
    [
        request(),
        request(slice_of(0, 0, 1)),
        request(slice_of(0, 5, 0)),
        request(slice_of(0, 5, 1), slice_of(4, 5, 2)),
        request(slice_of(10, 5, 1), slice_of(0, 5, 2)),
        request(slice_of(CHUNK_BYTES - 1, 2, 1)),
        request(slice_of(0, 5, 1), blocks=()),
        request(slice_of(0, 5, 1), blocks=(0,)),
        request(slice_of(0, 5, 1), blocks=(98, 99)),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(wrong: CompactChunkRequest) -> None:
    with pytest.raises(InvalidArgument):
        Rewriting.of(wrong)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 30), st.integers(0, 50)), min_size=1, max_size=30),
    st.integers(1, 40),
)
def test_windows_hold_every_byte_once_and_in_order(drawn: list[tuple[int, int, int]], window_bytes: int) -> None:
    slices, position = [], 0
    for number, (gap, length, offset) in enumerate(drawn):
        position += gap
        slices.append(slice_of(position, length, number + 1, offset))
        position += length
    rewriting = Rewriting.of(request(*slices))
    found: list[tuple[int, int]] = []
    windows = list(rewriting.windows(window_bytes))
    for length, parts in windows:
        at = 0
        for part in parts:
            assert part.at == at
            found += [(part.block, part.offset + number) for number in range(part.length)]
            at += part.length
        assert at == length
    assert all(length == window_bytes for length, _ in windows[:-1])
    assert found == [(each.block, each.block_offset + number) for each in slices for number in range(each.length)]
