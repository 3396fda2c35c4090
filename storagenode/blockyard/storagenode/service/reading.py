"""ReadBlocks and OpenBlock: bytes go from the page cache to the socket, or their file's descriptor to the caller."""

import errno
import os
from collections.abc import Callable, Iterator

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
from blockyard.storagenode.service.guard import Guard
from blockyard.storagenode.store import BlockStore


class BlockReader:
    """Serves ReadBlocks and OpenBlock."""

    def __init__(self, store: BlockStore, guard: Guard, suspect: Callable[[int], None]) -> None:
        """`suspect` is told of a block whose bytes the disk does not give; it returns at once."""
        self._store = store
        self._guard = guard
        self._suspect = suspect

    def read(self, request: ReadBlocksRequest, context: CallContext) -> Iterator[Reply | ReadBlocksReply]:
        """Yield each range with its checksums, or why it cannot be read; the others are not touched by that."""
        form.check_read(request)
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
        self._guard.check_read(wanted.block, request.map_epoch)
        with self._store.open_range(wanted.block) as replica:
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
            if request.cold:
                os.posix_fadvise(replica.fd, start, length, os.POSIX_FADV_DONTNEED)
