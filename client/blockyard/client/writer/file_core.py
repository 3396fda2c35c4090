"""What becomes of the bytes written to one file: which of them leave memory when, as which blocks. Pure.

Bytes wait in extents. A run of `STREAM_BYTES` becomes a *streamed* block at once, which takes the pieces that follow it
as they fill, up to the end of its chunk. Everything else waits for `flush`: runs of more than `PUT_BYTES` become blocks
of their own, shorter ones share blocks with others of their chunk. Bytes that were handed to an upload do not change
any more: a write over them begins a new extent, and its slice hides theirs.

Slices are committed in the order in which their uploads began, so a later write hides an earlier one, always.

Invariants: no block crosses a chunk's border or is longer than `block_bytes`; what was written is in the extents, in an
upload, or committed; a read of the committed slices with `overlay` on top is what the user wrote.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from blockyard.client.piece_buffers import PIECE_BYTES, PieceBuffers
from blockyard.client.writer.extents import Extent, Extents

CHUNK_BYTES: Final = 64 << 20
STREAM_BYTES: Final = 4 * PIECE_BYTES
PUT_BYTES: Final = PIECE_BYTES
"""Longest block that is put in one message."""


@dataclass(frozen=True, slots=True)
class Part:
    """`length` bytes of a block that belong at `position` of the file."""

    position: int
    length: int
    offset: int


@dataclass(slots=True, eq=False)
class Upload:
    """One block on its way. `pieces` are its bytes, in order; while it is not `ended` more may come."""

    append: bool
    parts: list[Part] = field(default_factory=list)
    pieces: list[memoryview] = field(default_factory=list)
    buffers: list[bytearray] = field(default_factory=list)
    """What the pieces lie in, to be used again once it is sealed."""
    length: int = 0
    ended: bool = False
    block: int = 0
    """The block's id once it is sealed, else 0."""
    epoch: int = 0
    """Epoch of the cluster map it was written under."""
    durable: bool = False
    """Whether it was sealed on stable storage."""

    def add(self, extent: Extent) -> None:
        """Let the bytes of an extent follow."""
        position, data = extent.start, extent.data
        if self.parts and self.parts[-1].position + self.parts[-1].length == position:
            last = self.parts.pop()
            self.parts.append(Part(last.position, last.length + data.nbytes, last.offset))
        else:
            self.parts.append(Part(position, data.nbytes, self.length))
        self.pieces.append(data)
        self.buffers.append(extent.buffer)
        self.length += data.nbytes

    @property
    def end(self) -> int:
        """The position behind its last byte in the file."""
        return self.parts[-1].position + self.parts[-1].length


class FileCore:
    """The uncommitted bytes of one file. Its owner sees to it that one thread at a time is in here.

    With `append` positions mean nothing to the file: they count the bytes appended since the last commit from 0.
    """

    def __init__(self, buffers: PieceBuffers, *, block_bytes: int = CHUNK_BYTES, append: bool = False) -> None:
        assert PIECE_BYTES <= block_bytes <= CHUNK_BYTES
        assert block_bytes % PIECE_BYTES == 0
        self.append = append
        self.extents = Extents(buffers)
        self.uploads: list[Upload] = []
        """In the order in which their slices hide each other; committed ones are gone from here."""
        self.handed_bytes = 0
        """Bytes that were given to uploads so far."""
        self._buffers = buffers
        self._block_bytes = block_bytes
        self._stream: Upload | None = None
        self._stream_limit = 0

    # ------------------------------------------------------------------------------------------ what is known

    @property
    def is_clean(self) -> bool:
        """Whether everything written is committed."""
        return not self.extents and not self.uploads

    @property
    def end(self) -> int:
        """The position behind the last uncommitted byte, 0 for none."""
        return max([self.extents.end, *(upload.end for upload in self.uploads if upload.parts)])

    @property
    def has_waiting_bytes(self) -> bool:
        """Whether some bytes would not leave memory by themselves: they wait for a flush, or for more to follow."""
        return bool(self.extents) or self._stream is not None

    @property
    def waiting_bytes(self) -> int:
        """Bytes in memory that no ended upload is about to free."""
        return self.extents.bytes + (self._stream.length if self._stream is not None else 0)

    def overlay(self, start: int, end: int) -> Sequence[Extent] | None:
        """Return the extents to lay over the committed bytes [start, end); None when uploads have a part in them."""
        for upload in self.uploads:
            if any(part.position < end and start < part.position + part.length for part in upload.parts):
                return None
        return self.extents.overlap(start, end)

    # ------------------------------------------------------------------------------------------ what happens

    def write(self, position: int, data: memoryview) -> list[Upload]:
        """The user writes; return uploads that begin now. Their pieces are to be sent as they come."""
        touched = self.extents.write(position, data)
        full = [extent for extent in touched if extent.is_full]
        return self._hand_over(full) if full else []

    def flush(self) -> list[Upload]:
        """Let everything leave memory; return the uploads that begin now. No upload of this file stays open."""
        if self._stream is not None:
            self._feed(full_only=False)
            self._end_stream()
        begun: list[Upload] = []
        shared: dict[int, Upload] = {}
        for run in list(self.extents.runs()):
            for extents in self._cut(run):
                length = extents[-1].end - extents[0].start
                chunk = extents[0].start // CHUNK_BYTES
                upload = None if length > PUT_BYTES or self.append else shared.get(chunk)
                if upload is None or upload.length + length > PUT_BYTES:
                    upload = shared[chunk] = Upload(self.append, ended=True)
                    begun.append(upload)
                for extent in extents:
                    self._move(extent, upload)
        self.uploads += begun
        return begun

    def committable(self) -> list[Upload]:
        """Return the uploads whose slices may be committed now: the sealed ones before the first that is not."""
        ready = []
        for upload in self.uploads:
            if not upload.block:
                break
            ready.append(upload)
        return ready

    def committed(self, uploads: Sequence[Upload]) -> None:
        """Their slices are committed."""
        assert self.uploads[: len(uploads)] == list(uploads), "slices are committed in order"
        del self.uploads[: len(uploads)]

    def drop(self) -> int:
        """Give up everything that is not committed; return how many bytes in memory that were."""
        lost = self.extents.bytes + sum(upload.length for upload in self.uploads if not upload.block)
        self.extents = Extents(self._buffers)
        self.uploads = []
        self._end_stream()
        return lost

    # ------------------------------------------------------------------------------------------ steps

    def _hand_over(self, full: list[Extent]) -> list[Upload]:
        """Move full pieces to the stream that they continue, or to a new one where their run is long enough."""
        begun: list[Upload] = []
        for extent in full:
            self._feed(full_only=True)
            if extent in self.extents:
                begun += self._begin_stream(extent)
        return begun

    def _feed(self, *, full_only: bool) -> None:
        """Move the pieces that follow the stream's end to it, and end it at its limit."""
        stream = self._stream
        while stream is not None and stream.end < self._stream_limit:
            follows = self.extents.overlap(stream.end, stream.end + 1)
            if not follows or (full_only and not follows[0].is_full) or follows[0].start != stream.end:
                return
            self._move(follows[0], stream)
        self._end_stream()

    def _begin_stream(self, newest: Extent) -> list[Upload]:
        """Begin a stream with the run that ends with `newest`, if it is long enough."""
        start = self.extents.run_before(newest)
        if not self.append:
            start = max(start, newest.start - newest.start % CHUNK_BYTES)
        if newest.end - start < min(STREAM_BYTES, self._block_bytes):
            return []
        self._end_stream()
        stream = self._stream = Upload(self.append)
        self._stream_limit = self._limit(start)
        for extent in self.extents.overlap(start, min(newest.end, self._stream_limit)):
            self._move(extent, stream)
        self.uploads.append(stream)
        self._feed(full_only=True)
        return [stream]

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.ended = True
            self._stream = None

    def _limit(self, start: int) -> int:
        """Return where a block that begins at `start` must end at the latest: at a piece's end."""
        limit = start - start % PIECE_BYTES + self._block_bytes
        return limit if self.append else min(limit, start - start % CHUNK_BYTES + CHUNK_BYTES)

    def _cut(self, run: list[Extent]) -> Iterator[list[Extent]]:
        """Yield a run's extents as blocks will hold them."""
        block: list[Extent] = []
        for extent in run:
            if block and extent.end > self._limit(block[0].start):
                yield block
                block = []
            block.append(extent)
        yield block

    def _move(self, extent: Extent, upload: Upload) -> None:
        self.extents.take(extent)
        upload.add(extent)
        self.handed_bytes += extent.length
