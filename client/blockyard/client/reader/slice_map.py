"""What a file is made of, as far as it is known: slices in rising order over one consecutive range. Pure.

Of one version of the file only: another version is another map.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from blockyard.proto.metadata_pb2 import ReadSlicesReply

ROWS_MAX: Final = 200_000
"""Slices kept of one file."""


@dataclass(frozen=True, slots=True)
class Segment:
    """`length` bytes at `position` of the file are those of `block` from `offset` on; block 0: they are zeros."""

    position: int
    length: int
    block: int
    offset: int
    block_length: int


class SliceMap:
    """The slices of the file's bytes [start, end)."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.start = 0
        self.end = 0
        self._positions: list[int] = []
        self._rows: list[tuple[int, int, int, int, int]] = []  # as in a Slice

    def knows(self, start: int, end: int) -> bool:
        """Return whether all of [start, end) is known."""
        return self.start <= start and end <= self.end

    def next_to_ask(self, position: int) -> int:
        """Return where to ask from when `position` is not known: where the known range ends, if it is near enough."""
        return self.end if self.start <= position and self._rows and position <= self.end else position

    def learn(self, offset: int, end: int, reply: ReadSlicesReply) -> None:
        """Take in a reply about [offset, end). What does not touch the known range takes its place."""
        end = min(reply.next_offset or end, end)
        if offset != self.end or len(self._rows) >= ROWS_MAX:
            self.start = self.end = offset
            self._positions, self._rows = [], []
        for piece in reply.slices:
            self._positions.append(piece.position)
            self._rows.append((piece.position, piece.length, piece.block, piece.block_offset, piece.block_length))
        self.end = end

    def segments(self, start: int, end: int) -> Sequence[Segment]:
        """Return what [start, end), all of it known, consists of: segments and holes, without a gap."""
        assert self.knows(start, end), "these bytes are not known"
        rows = self._rows
        index = bisect_right(self._positions, start) - 1
        if index < 0 or rows[index][0] + rows[index][1] <= start:
            index += 1
        found: list[Segment] = []
        while start < end:
            if index == len(rows) or rows[index][0] >= end:
                found.append(Segment(start, end - start, 0, 0, 0))
                break
            position, length, block, offset, whole = rows[index]
            if position > start:
                found.append(Segment(start, position - start, 0, 0, 0))
                start = position
            stop = min(position + length, end)
            found.append(Segment(start, stop - start, block, offset + start - position if block else 0, whole))
            start = stop
            index += 1
        return found
