"""Small ranges gathered into one reply: every page that they touch is read once, into one buffer."""

import os
from typing import Final

from blockyard.proto import errors
from blockyard.proto.blocks import PAGE_BYTES, page_count
from blockyard.proto.call import Reply
from blockyard.proto.common_pb2 import ErrorDetail
from blockyard.proto.storage_pb2 import GatheredRuns, ReadBlocksReply
from blockyard.storagenode.store import OpenedReplica

GATHERED_BYTES: Final = 1 << 20
"""Most bytes in one reply; on gRPC they are one message."""
LARGE_BYTES: Final = 256 << 10
"""From this length on a range goes from its file to the socket by itself: a copy costs more than a reply does."""


class Gathering:
    """One reply, while it is made for ranges that follow each other in a request. Used by one thread."""

    def __init__(self, buffer: memoryview, first: int, *, cold: bool) -> None:
        """`first`: index of the first range. `buffer` has `GATHERED_BYTES`, and is in use until the reply is sent.

        `cold`: what was read need not stay in the page cache.
        """
        self._buffer = buffer
        self._first = first
        self._cold = cold
        self._filled = 0
        self._block = self._start = self._end = 0  # of the last run; block 0 is no block
        self._ranges: list[int] = []
        self._offsets: list[int] = []
        self._lengths: list[int] = []
        self._block_lengths: list[int] = []
        self._checksums: list[int] = []
        self._errors: list[ErrorDetail] = []

    def add(self, block: int, replica: OpenedReplica, start: int, length: int) -> bool:
        """Add one range, widened to whole pages; return False, and do nothing, where there is no room for it.

        Raises CorruptBlock when the file is too short, OSError when it cannot be read; nothing is added then.
        """
        end = start + length
        goes_on = block == self._block and self._start <= start <= self._end
        low = max(start, self._end) if goes_on else start
        if low < end:
            filled = self._filled + end - low
            if filled > GATHERED_BYTES:
                return False
            got = os.preadv(replica.fd, [self._buffer[self._filled : filled]], replica.file_offset + low)
            if got != end - low:
                raise errors.CorruptBlock(f"the file ends {end - low - got} bytes before the range", str(block))
            if self._cold and got >= PAGE_BYTES:  # less leaves its pages to its neighbours in the pack
                os.posix_fadvise(replica.fd, replica.file_offset + low, got, os.POSIX_FADV_DONTNEED)
            self._filled = filled
            self._checksums += replica.checksums[low // PAGE_BYTES : page_count(end)]
        if goes_on:
            self._ranges[-1] += 1
            self._end = max(end, self._end)
            self._lengths[-1] = self._end - self._start
        else:
            self._append(1, start, length, replica.length)
            self._block, self._start, self._end = block, start, end
        return True

    def refuse(self, error: errors.BlockyardError) -> None:
        """Add one range that cannot be read."""
        self._append(1, 0, 0, 0)
        self._errors.append(errors.to_detail(error))
        self._block = 0

    @property
    def is_empty(self) -> bool:
        """Whether no range was added."""
        return not self._ranges

    def reply(self) -> Reply:
        """Return the reply with all that was added."""
        runs = GatheredRuns(
            ranges=self._ranges,
            offset=self._offsets,
            length=self._lengths,
            block_length=self._block_lengths,
            crc32c=self._checksums,
            errors=self._errors,
        )
        return Reply(ReadBlocksReply(range=self._first, runs=runs), self._buffer[: self._filled])

    def next(self, first: int) -> "Gathering":
        """Return the reply that follows this one, which was sent: its ranges begin with `first`."""
        return Gathering(self._buffer, first, cold=self._cold)

    def _append(self, ranges: int, offset: int, length: int, block_length: int) -> None:
        self._ranges.append(ranges)
        self._offsets.append(offset)
        self._lengths.append(length)
        self._block_lengths.append(block_length)
