"""Short circuit: blocks of a node on this machine, read through the descriptor of their file.

The node passes the descriptor over its Unix socket, once per block; from then on its process takes no part. A sealed
block never changes, so an open descriptor stays good while the node drops the block or rewrites its pack.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from blockyard.proto import errors
from blockyard.proto.blocks.channels import Channels
from blockyard.proto.blocks.page_reader import BlockPlace, read_pages
from blockyard.proto.blocks.pages import PAGE_BYTES, Buffer, page_count, widen
from blockyard.proto.blocks.reading import RANGES_AT_ONCE, READ_TIMEOUT_S, Wanted, read_through
from blockyard.proto.lane import CheckedBuffer
from blockyard.proto.storage_pb2 import BlockToken, ChainNode, OpenBlockReply, OpenBlockRequest

DEFAULT_LIMIT = 256
"""Descriptors kept open; the one that lay idle longest goes first."""
_PIECE_BYTES = 128 << 10
"""Bytes read at a time: they are still in the processor's cache when they are checked."""
_SHARED_BYTES = 2 << 20
"""From this length on two threads read and check a half each: the checks cost nearly as much as the copies."""
_HELPERS = 2
_OPENED_BYTES = 128 << 10
"""When so much of a block is wanted at once its descriptor is asked for."""


@dataclass(slots=True)
class _Opened:
    """A block whose descriptor is open; `users` read from it just now."""

    fd: int
    file_offset: int
    length: int
    checksums: tuple[int, ...]
    users: int = 0
    is_kept: bool = True


class LocalBlocks:
    """Blocks of one node on this machine. Any number of threads may use it."""

    def __init__(self, channels: Channels, node: ChainNode, limit: int = DEFAULT_LIMIT) -> None:
        """`node.address.unix_path` is the node's socket; at most `limit` descriptors are kept."""
        assert limit > 0
        self._channels = channels
        self._node = node
        self._limit = limit
        self._lock = threading.Lock()
        self._opened: OrderedDict[int, _Opened] = OrderedDict()
        self._closed = False
        self._helpers = ThreadPoolExecutor(_HELPERS, "local-blocks")

    def read(self, block: int, offset: int, into: Buffer, token: BlockToken | None = None) -> None:
        """Fill `into` with bytes of a block from byte `offset` on, every page of them verified.

        Raises UnknownBlock, PermissionDenied, InvalidArgument for a range past the end, CorruptBlock naming the page
        (the block is forgotten then), and Unavailable when the node cannot be asked.
        """
        view = memoryview(into).cast("B")
        with self._using(block, token) as opened:
            if not view.nbytes or offset + view.nbytes > opened.length:
                raise errors.InvalidArgument(f"bytes {offset} to {offset + view.nbytes} of {opened.length}", str(block))
            try:
                self._read(opened, offset, view)
            except errors.CorruptBlock as error:
                self.forget(block)
                where = f"block {block} on node {self._node.node}, counted from page {offset // PAGE_BYTES}"
                raise errors.CorruptBlock(f"{where}: {error.message}", str(block)) from None

    def read_many(
        self, ranges: Sequence[Wanted], *, map_epoch: int = 0, timeout_s: float = READ_TIMEOUT_S
    ) -> list[errors.BlockyardError | None]:
        """Read ranges and return the error of each, None where its bytes are there; errors as of `read_ranges`.

        Blocks that are open, or of which much is wanted, are read by their descriptor, every page once; the node is
        asked for the others together: a descriptor for each would cost more than their bytes.
        """
        outcomes: list[errors.BlockyardError | None] = [None] * len(ranges)
        by_block: dict[int, list[int]] = {}
        for index, wanted in enumerate(ranges):
            by_block.setdefault(wanted.block, []).append(index)
        with self._lock:
            known = self._opened.keys() & by_block.keys()
        asked: list[int] = []
        for block, indexes in by_block.items():
            size = sum(memoryview(ranges[index].into).nbytes for index in indexes)
            if block in known or size >= _OPENED_BYTES:
                found = self._read_opened(block, [ranges[index] for index in indexes])
                for index, outcome in zip(indexes, found, strict=True):
                    outcomes[index] = outcome
            else:
                asked += indexes
        stub = self._channels.local_stub(self._node.address) if asked else None
        for start in range(0, len(asked), RANGES_AT_ONCE):
            part = asked[start : start + RANGES_AT_ONCE]
            wanted_here = [ranges[index] for index in part]
            found = read_through(stub, self._node.node, wanted_here, map_epoch, cold=False, timeout_s=timeout_s)
            for index, outcome in zip(part, found, strict=True):
                outcomes[index] = outcome
        return outcomes

    def _read_opened(self, block: int, ranges: Sequence[Wanted]) -> list[errors.BlockyardError | None]:
        """Read ranges of one block by its descriptor."""
        targets = [(each.offset, memoryview(each.into).cast("B")) for each in ranges]
        try:
            with self._using(block, ranges[0].token) as opened:
                place = BlockPlace(block, opened.fd, opened.file_offset, opened.length, opened.checksums)
                outcomes = read_pages(place, targets)
        except (errors.UnknownBlock, errors.PermissionDenied) as error:
            return [error] * len(ranges)
        if any(isinstance(outcome, errors.CorruptBlock) for outcome in outcomes):
            self.forget(block)
        return outcomes

    def forget(self, block: int) -> None:
        """Close the descriptor of a block as soon as nobody reads from it."""
        with self._lock:
            opened = self._opened.pop(block, None)
            if opened is not None:
                self._let_go(opened)

    def close(self) -> None:
        """Close every descriptor as soon as nobody reads from it; nothing can be read after this."""
        with self._lock:
            self._closed = True
            while self._opened:
                self._let_go(self._opened.popitem()[1])
        self._helpers.shutdown()

    def _read(self, opened: _Opened, offset: int, view: memoryview) -> None:
        start, length = widen(offset, view.nbytes, opened.length)
        whole = view if length == view.nbytes else memoryview(bytearray(length))
        if length < _SHARED_BYTES:
            _fill(opened, start, whole)
        else:
            middle = length // 2 // PAGE_BYTES * PAGE_BYTES
            other = self._helpers.submit(_fill, opened, start + middle, whole[middle:])
            try:
                _fill(opened, start, whole[:middle])
            finally:
                other.result()  # the buffer is the caller's again only when nobody fills it any more
        if whole is not view:
            view[:] = whole[offset - start : offset - start + view.nbytes]

    @contextmanager
    def _using(self, block: int, token: BlockToken | None) -> Iterator[_Opened]:
        with self._lock:
            opened = self._opened.get(block)
            if opened is not None:
                self._opened.move_to_end(block)
                opened.users += 1
        if opened is None:
            opened = self._keep(block, self._ask(block, token))
        try:
            yield opened
        finally:
            with self._lock:
                opened.users -= 1
                if not opened.users and not opened.is_kept:
                    os.close(opened.fd)

    def _keep(self, block: int, fresh: _Opened) -> _Opened:
        """Keep a descriptor, or the one that another thread has brought meanwhile; count its user."""
        with self._lock:
            opened = self._opened.setdefault(block, fresh)
            opened.users += 1
            if opened is not fresh:
                os.close(fresh.fd)
            if len(self._opened) > self._limit or self._closed:
                self._let_go(self._opened.popitem(last=False)[1])
        return opened

    def _let_go(self, opened: _Opened) -> None:
        opened.is_kept = False
        if not opened.users:
            os.close(opened.fd)

    def _ask(self, block: int, token: BlockToken | None) -> _Opened:
        stub: Any = self._channels.local_stub(self._node.address)
        descriptors: list[int] = []
        reply: OpenBlockReply = stub.OpenBlock(OpenBlockRequest(block=block, token=token), descriptors=descriptors)
        if len(descriptors) != 1 or len(reply.checksums.crc32c) != page_count(reply.length):
            for descriptor in descriptors:
                os.close(descriptor)
            raise errors.MalformedReply(f"node {self._node.node} opened block {block} without saying where it is")
        return _Opened(descriptors[0], reply.file_offset, reply.length, tuple(reply.checksums.crc32c))


def _fill(opened: _Opened, start: int, view: memoryview) -> None:
    """Fill `view` with the block's bytes from `start`, a page's first, checking every page."""
    sums = opened.checksums[start // PAGE_BYTES : page_count(start + view.nbytes)]
    checked, done = CheckedBuffer(view, sums, PAGE_BYTES), 0
    while done < view.nbytes:
        piece = view[done : done + _PIECE_BYTES]
        got = os.preadv(opened.fd, [piece], opened.file_offset + start + done)
        if not got:
            raise errors.CorruptBlock(f"the file ended {view.nbytes - done} bytes before the block")
        done += got
        checked.arrived(done, end=done == view.nbytes)
