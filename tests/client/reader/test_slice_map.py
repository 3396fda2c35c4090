"""What a file is made of: any pages of any replies show every byte's place, holes too."""

from blockyard.client.reader.slice_map import SliceMap
from blockyard.proto.metadata_pb2 import ReadSlicesReply, Slice
from hypothesis import given
from hypothesis import strategies as st

SIZE = 200


@given(
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, 40)), max_size=12),
    st.lists(st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE), st.integers(1, 4)), min_size=1, max_size=8),
)
def test_segments_show_every_byte_where_it_is(
    written: list[tuple[int, int]], asked: list[tuple[int, int, int]]
) -> None:
    truth: list[tuple[int, int]] = [(0, 0)] * SIZE
    for block, (start, length) in enumerate(written, 1):
        for at in range(start, min(start + length, SIZE)):
            truth[at] = (block, at - start)
    known = SliceMap(1)
    for start, length, rows in asked:
        end = min(start + length, SIZE)
        while not known.knows(start, end):
            offset = known.next_to_ask(start)
            known.learn(offset, SIZE, _reply(truth, offset, SIZE, rows))
        position = start
        for segment in known.segments(start, end):
            assert segment.position == position
            assert segment.length > 0
            for at in range(segment.length):
                place = (segment.block, segment.offset + at) if segment.block else (0, 0)
                assert place == truth[position + at]
            position += segment.length
        assert position == end


def _reply(truth: list[tuple[int, int]], offset: int, end: int, rows: int) -> ReadSlicesReply:
    """Answer as the metadata group does: visible slices in order, `rows` of them at most."""
    reply = ReadSlicesReply()
    at = offset
    while at < end:
        block, where = truth[at]
        stop = at + 1
        while stop < end and truth[stop] == ((block, where + stop - at) if block else (0, 0)):
            stop += 1
        if block:
            if len(reply.slices) == rows:
                reply.next_offset = at
                break
            reply.slices.append(Slice(position=at, length=stop - at, block=block, block_offset=where))
        at = stop
    return reply
