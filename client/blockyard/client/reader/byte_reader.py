"""Fills a caller's buffer from segments of a file: side by side where it is much, from memory what was read ahead."""

import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from typing import Final

from blockyard.client.piece_buffers import PIECE_BYTES, PieceBuffers
from blockyard.client.reader.piece_cache import PieceCache
from blockyard.client.reader.replicas import Replicas
from blockyard.client.reader.slice_map import Segment

PARALLEL_BYTES: Final = 4 << 20
"""Longest range that one request brings when several are under way."""
_ZEROS: Final = bytes(1 << 20)


class ByteReader:
    """What every reader of a client shares. Any number of threads may use it.

    Memory: at most `cache_bytes`, beside the callers' own buffers and one page-aligned copy per request under way.
    """

    def __init__(
        self, replicas: Replicas, pool: Executor, buffers: PieceBuffers, *, cache_bytes: int, deadline_s: float
    ) -> None:
        self._replicas = replicas
        self._pool = pool
        self._deadline_s = deadline_s
        self.cache = PieceCache(cache_bytes, self._fetch, pool, buffers)

    def read(self, segments: Sequence[Segment], view: memoryview, *, ahead: bool) -> None:
        """Fill `view` with the segments' bytes, which follow each other. `ahead`: others will follow them.

        Raises UnknownBlock, NoReplica, CorruptBlock.
        """
        if len(segments) == 1 and view.nbytes <= PARALLEL_BYTES:
            self._read_one(segments[0], view, ahead)
            return
        start = segments[0].position
        waiting: list[Future[None]] = []
        try:
            for segment in segments:
                for part in _parts(segment):
                    target = view[part.position - start : part.position - start + part.length]
                    if part.block and len(segments) < 64 and not self._replicas.is_local(part.block):
                        waiting.append(self._pool.submit(self._read_one, part, target, False))
                    else:
                        self._read_one(part, target, False)
        finally:
            failures = [failure for each in waiting if (failure := each.exception()) is not None]
        if failures:
            raise failures[0]

    def read_many(self, wanted: Sequence[tuple[Segment, memoryview]]) -> None:
        """Fill many small buffers, those of one node's blocks in one request. Raises as `read`."""
        left = self._replicas.read_together([(each.block, each.offset, view) for each, view in wanted if each.block])
        for block, offset, view in left:
            self._fetch(block, offset, view)
        for each, view in wanted:
            if not each.block:
                _zero(view)

    def prepare(self, segments: Sequence[Segment]) -> None:
        """Begin to fetch what will be read soon, as far as there is room; what is on this machine needs none."""
        for segment in segments:
            if not segment.block or self._replicas.is_local(segment.block):
                continue
            last = (segment.offset + segment.length - 1) // PIECE_BYTES
            for index in range(segment.offset // PIECE_BYTES, last + 1):
                if not self.cache.start(segment.block, index, _piece_length(segment, index)):
                    return

    def _read_one(self, segment: Segment, view: memoryview, ahead: bool) -> None:
        block = segment.block
        if not block:
            _zero(view)
        elif self._replicas.is_local(block):
            self._fetch(block, segment.offset, view)
        else:
            self._read_pieces(segment, view, ahead)

    def _read_pieces(self, segment: Segment, view: memoryview, ahead: bool) -> None:
        """Take what is in memory or comes there, and fetch the rest."""
        offset, end, done = segment.offset, segment.offset + segment.length, 0
        while offset < end:
            index, skipped = divmod(offset, PIECE_BYTES)
            part = min(PIECE_BYTES - skipped, end - offset)
            if ahead:
                self.cache.start(segment.block, index, _piece_length(segment, index))
            if not self.cache.copy(segment.block, index, skipped, view[done : done + part]):
                part = part if ahead else end - offset
                self._fetch(segment.block, offset, view[done : done + part])
            offset += part
            done += part

    def _fetch(self, block: int, offset: int, into: memoryview) -> None:
        self._replicas.read(block, offset, into, time.monotonic() + self._deadline_s)


def _parts(segment: Segment) -> list[Segment]:
    """Cut a segment so that its parts can travel side by side."""
    return [
        Segment(
            segment.position + start,
            min(PARALLEL_BYTES, segment.length - start),
            segment.block,
            segment.offset + start if segment.block else 0,
            segment.block_length,
        )
        for start in range(0, segment.length, PARALLEL_BYTES)
    ]


def _piece_length(segment: Segment, index: int) -> int:
    return min(PIECE_BYTES, segment.block_length - index * PIECE_BYTES)


def _zero(view: memoryview) -> None:
    for start in range(0, view.nbytes, len(_ZEROS)):
        part = view[start : start + len(_ZEROS)]
        part[:] = _ZEROS[: part.nbytes]
