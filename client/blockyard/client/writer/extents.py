"""Written bytes of a file that are still in memory, by position. Pure.

They lie in extents that never cross a multiple of `PIECE_BYTES`: one that is full can leave for a block at once, and no
write moves more than one piece. Positions count from the file's start.

Invariants: extents are in rising order, disjoint, not empty; `bytes` is the sum of their lengths.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from blockyard.client.piece_buffers import PIECE_BYTES, PieceBuffers


class Extent:
    """Consecutive bytes: the first `length` of `buffer`."""

    __slots__ = ("buffer", "length", "start")

    def __init__(self, start: int, buffer: bytearray, length: int) -> None:
        self.start = start
        self.buffer = buffer
        self.length = length

    @property
    def data(self) -> memoryview:
        """The bytes."""
        return memoryview(self.buffer)[: self.length]

    @property
    def end(self) -> int:
        """The position behind the last byte."""
        return self.start + self.length

    @property
    def is_full(self) -> bool:
        """Whether no byte of its piece is missing."""
        return self.length == PIECE_BYTES

    def put(self, offset: int, data: memoryview, buffers: PieceBuffers) -> None:
        """Let bytes be `data` from `offset` on, at most where the extent ends; it grows with them."""
        end = offset + data.nbytes
        if end > len(self.buffer):
            self._grow(end, buffers)
        self.buffer[offset:end] = data
        self.length = max(self.length, end)

    def _grow(self, length: int, buffers: PieceBuffers) -> None:
        """Make room for `length` bytes: a whole piece as soon as half of one is needed, so memory at most doubles."""
        if 2 * length < PIECE_BYTES:
            self.buffer += bytes(length - len(self.buffer))
            return
        buffer = buffers.take()
        buffer[: self.length] = self.data
        self.buffer = buffer


class Extents:
    """The bytes of one file that are in memory."""

    def __init__(self, buffers: PieceBuffers) -> None:
        self.bytes = 0
        self._buffers = buffers
        self._starts: list[int] = []
        self._extents: list[Extent] = []

    def __bool__(self) -> bool:
        return bool(self._extents)

    def __iter__(self) -> Iterator[Extent]:
        return iter(self._extents)

    def __contains__(self, extent: Extent) -> bool:
        index = bisect_left(self._starts, extent.start)
        return index < len(self._extents) and self._extents[index] is extent

    @property
    def end(self) -> int:
        """The position behind the last byte, 0 for none."""
        return self._extents[-1].end if self._extents else 0

    def write(self, position: int, data: memoryview) -> list[Extent]:
        """Put bytes at `position`, over what is there; return the extents that hold them now. They are copied."""
        length = data.nbytes
        last = self._extents[-1] if self._extents else None
        inside = position % PIECE_BYTES
        if last is not None and last.end == position and inside and inside + length <= PIECE_BYTES:
            last.put(last.length, data, self._buffers)  # an append within the last piece: the commonest write
            self.bytes += length
            return [last]
        touched, done = [], 0
        while done < length:
            part = min(length - done, PIECE_BYTES - (position + done) % PIECE_BYTES)
            touched.append(self._write_piece(position + done, data[done : done + part]))
            done += part
        return touched

    def overlap(self, start: int, end: int) -> list[Extent]:
        """Return the extents that have bytes in [start, end)."""
        first = bisect_right(self._starts, start) - 1
        if first < 0 or self._extents[first].end <= start:
            first += 1
        return self._extents[first : bisect_left(self._starts, end)]

    def take(self, extent: Extent) -> None:
        """Forget an extent; its bytes are somebody else's from now on."""
        index = bisect_left(self._starts, extent.start)
        assert self._extents[index] is extent, "no such extent"
        del self._starts[index], self._extents[index]
        self.bytes -= extent.length

    def run_before(self, extent: Extent) -> int:
        """Return where the run of consecutive bytes begins that `extent` belongs to."""
        index = bisect_left(self._starts, extent.start)
        while index and self._extents[index - 1].end == self._extents[index].start:
            index -= 1
        return self._starts[index]

    def runs(self) -> Iterator[list[Extent]]:
        """Yield runs of extents that follow each other without a gap."""
        run: list[Extent] = []
        for extent in self._extents:
            if run and run[-1].end != extent.start:
                yield run
                run = []
            run.append(extent)
        if run:
            yield run

    def _write_piece(self, position: int, data: memoryview) -> Extent:
        """Put bytes that lie within one piece; extents they touch in that piece become one."""
        end = position + data.nbytes
        floor = position - position % PIECE_BYTES
        low = bisect_left(self._starts, floor)
        while low < len(self._extents) and self._extents[low].end < position:
            low += 1
        high = low
        while high < len(self._extents) and self._starts[high] <= end and self._starts[high] < floor + PIECE_BYTES:
            high += 1
        if low == high:
            extent = self._new(position, data)
            self._starts.insert(low, position)
            self._extents.insert(low, extent)
            self.bytes += data.nbytes
            return extent
        return self._merge(low, high, position, data)

    def _merge(self, low: int, high: int, position: int, data: memoryview) -> Extent:
        """Let the extents [low, high), which the bytes touch, and the bytes be one extent."""
        touched = self._extents[low:high]
        before = sum(extent.length for extent in touched)
        first, last, end = touched[0], touched[-1], position + data.nbytes
        whole = first if first.start <= position else self._new(position, data)
        if whole is first:
            first.put(position - first.start, data, self._buffers)
        if last is not whole and last.end > end:
            whole.put(whole.length, last.data[end - last.start :], self._buffers)
        for extent in touched:
            if extent is not whole:
                self._buffers.give_back(extent.buffer)
        self._extents[low:high] = [whole]
        self._starts[low:high] = [whole.start]
        self.bytes += whole.length - before
        return whole

    def _new(self, position: int, data: memoryview) -> Extent:
        extent = Extent(position, bytearray(), 0)
        extent.put(0, data, self._buffers)
        return extent
