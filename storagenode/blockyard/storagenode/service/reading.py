"""ReadBlocks and OpenBlock: bytes go from the page cache to the socket, or their file's descriptor to the caller."""

import errno
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Final

from blockyard.proto import errors
from blockyard.proto.blocks import PAGE_BYTES, page_count, widen
from blockyard.proto.call import CallContext, FileRange, Reply
from blockyard.proto.storage_pb2 import (
    BlockRange,
    OpenBlockReply,
    OpenBlockRequest,
    PageChecksums,
    ReadBlocksReply,
    ReadBlocksRequest,
)
from blockyard.storagenode.service import requests as form
from blockyard.storagenode.service.gathering import GATHERED_BYTES, LARGE_BYTES, Gathering
from blockyard.storagenode.service.guard import Guard
from blockyard.storagenode.store import BlockStore, OpenedReplica

OPENED_AT_ONCE: Final = 32
"""Ranges whose files one call has open at the same time."""
SPARE_BUFFERS: Final = 8
"""Buffers for gathered replies that are kept while nobody needs them."""


class BlockReader:
    """Serves ReadBlocks and OpenBlock."""

    def __init__(self, store: BlockStore, guard: Guard, suspect: Callable[[int], None]) -> None:
        """`suspect` is told of a block whose bytes the disk does not give; it returns at once."""
        self._store = store
        self._guard = guard
        self._suspect = suspect
        self._spare: deque[memoryview] = deque(maxlen=SPARE_BUFFERS)

    def read(self, request: ReadBlocksRequest, context: CallContext) -> Iterator[Reply | ReadBlocksReply]:
        """Yield each range with its checksums, or why it cannot be read; the others are not touched by that."""
        form.check_read(request)
        if request.gathered:
            yield from self._gather(request)
            return
        for index, wanted in enumerate(request.ranges):
            try:
                yield from self._range(index, wanted, request)
            except errors.BlockyardError as error:
                yield ReadBlocksReply(range=index, error=errors.to_detail(error))

    def open(self, request: OpenBlockRequest, context: CallContext) -> Reply:
        """Return where the block lies, with the descriptor of its file."""
        if request.HasField("token"):
            form.check_token(request.token, request.block, form.READ)
        self._guard.check_read(request.block, 0)
        if not context.passes_descriptors:
            raise errors.NotSupported(
                "a file descriptor can only be passed over the node's Unix socket, by the lane: use ReadBlocks"
            )
        replica = self._store.open_range(request.block)
        context.add_done_callback(replica.close)
        checksums = PageChecksums(page_bytes=PAGE_BYTES, crc32c=replica.checksums)
        message = OpenBlockReply(file_offset=replica.file_offset, length=replica.length, checksums=checksums)
        return Reply(message, b"", replica.fd)

    def _range(self, index: int, wanted: BlockRange, request: ReadBlocksRequest) -> Iterator[Reply]:
        """Yield a range from its file."""
        self._guard.check_read(wanted.block, request.map_epoch)
        with self._store.open_range(wanted.block) as replica:
            yield from self._send(index, wanted, replica, request.cold)

    def _send(self, index: int, wanted: BlockRange, replica: OpenedReplica, cold: bool) -> Iterator[Reply]:
        form.check_range(wanted, replica.length)
        offset, length = widen(wanted.offset, wanted.length, replica.length)
        first, last = offset // PAGE_BYTES, page_count(offset + length)
        message = ReadBlocksReply(
            range=index,
            offset=offset,
            length=length,
            block_length=replica.length,
            checksums=PageChecksums(page_bytes=PAGE_BYTES, crc32c=replica.checksums[first:last]),
        )
        start = replica.file_offset + offset
        try:
            yield Reply(message, FileRange(replica.fd, start, length))
        except OSError as error:
            if error.errno == errno.EIO:
                self._suspect(wanted.block)
            raise
        if cold:
            os.posix_fadvise(replica.fd, start, length, os.POSIX_FADV_DONTNEED)

    # ------------------------------------------------------------------------------------------ many small ranges

    def _gather(self, request: ReadBlocksRequest) -> Iterator[Reply]:
        """Yield all ranges in order, the small ones many to a reply."""
        ranges = request.ranges
        try:
            buffer = self._spare.pop()
        except IndexError:
            buffer = memoryview(bytearray(GATHERED_BYTES))
        try:
            gathering = Gathering(buffer, 0, cold=request.cold)
            for first in range(0, len(ranges), OPENED_AT_ONCE):
                gathering = yield from self._portion(ranges[first : first + OPENED_AT_ONCE], first, gathering, request)
            if not gathering.is_empty:
                yield gathering.reply()
        finally:
            self._spare.append(buffer)

    def _portion(
        self, portion: Sequence[BlockRange], first: int, gathering: Gathering, request: ReadBlocksRequest
    ) -> Generator[Reply, None, Gathering]:
        """Go on with `gathering` for the ranges from `first` on; yield what is full, and return what is not."""
        with self._store.open_ranges(each.block for each in portion) as replicas:
            for index, wanted in enumerate(portion, first):
                replica = replicas[wanted.block]
                try:
                    if isinstance(replica, errors.UnknownBlock):
                        raise replica
                    self._guard.check_read(wanted.block, request.map_epoch)
                    form.check_range(wanted, replica.length)
                except errors.BlockyardError as error:
                    gathering.refuse(error)
                    continue
                start, length = widen(wanted.offset, wanted.length, replica.length)
                if length >= LARGE_BYTES:
                    if not gathering.is_empty:
                        yield gathering.reply()
                    yield from self._send(index, wanted, replica, request.cold)
                    gathering = gathering.next(index + 1)
                elif not self._add(gathering, wanted.block, replica, start, length):
                    yield gathering.reply()
                    gathering = gathering.next(index)
                    self._add(gathering, wanted.block, replica, start, length)
        return gathering

    def _add(self, gathering: Gathering, block: int, replica: OpenedReplica, start: int, length: int) -> bool:
        """Add a range, or why the disk does not give it; return False where there is no room for it."""
        try:
            return gathering.add(block, replica, start, length)
        except errors.CorruptBlock as error:
            gathering.refuse(error)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            gathering.refuse(errors.InputOutputError("the disk cannot read a page of the range", str(block)))
        self._suspect(block)
        return True
