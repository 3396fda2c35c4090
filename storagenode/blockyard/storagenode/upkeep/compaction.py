"""Rewrites a crowded chunk: reads what is visible of it and writes one new block along the chain of the id's group.

The leader of the metadata group asks for it (CompactChunk) and swaps the list afterwards. Nothing is remembered here:
what fails half way leaves at most a block that nobody refers to, which the search for orphans finds.

Memory: a few windows, whatever the chunk. Bandwidth: what repair may use, the two together.
"""

import threading
from typing import Final, Protocol

from blockyard.proto import errors, logs
from blockyard.proto.blocks import ChainSender, Channels
from blockyard.proto.storage_pb2 import CompactChunkReply, CompactChunkRequest
from blockyard.storagenode.node.known_map import KnownMap
from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.upkeep.compaction_plan import Rewriting
from blockyard.storagenode.upkeep.compaction_source import AskFates, CompactionSource

WINDOW_BYTES: Final = 4 << 20
JOBS_MAX: Final = 2
"""The leader asks for one at a time; a second one is that of a new leader while the old one's still runs."""
MAP_WAIT_S: Final = 2.0
_log = logs.get(__name__)


class Throttle(Protocol):
    """What holds background work back."""

    def wait(self, amount: int) -> None:
        """Wait until `amount` bytes may be moved. Raises Cancelled when the process ends."""
        ...


class Compactor:
    """Serves CompactChunk. Any number of threads may use it."""

    def __init__(
        self,
        store: BlockStore,
        node: int,
        known: KnownMap,
        channels: Channels,
        throttle: Throttle,
        fates: AskFates,
    ) -> None:
        self.chunks = 0
        self.written_bytes = 0
        self._fates = fates
        self._store = store
        self._node = node
        self._known = known
        self._channels = channels
        self._throttle = throttle
        self._counting = threading.Lock()
        self._slots = threading.BoundedSemaphore(JOBS_MAX)

    def compact(self, request: CompactChunkRequest) -> CompactChunkReply:
        """Write the new block, durable on at least `write_min` nodes, and return its slices.

        Raises InvalidArgument for a request that makes no sense, Busy when enough chunks are being rewritten,
        UnknownBlock and CorruptBlock when bytes cannot be had, and what a write chain raises; then there is no block.
        """
        rewriting = Rewriting.of(request)
        if not self._slots.acquire(blocking=False):
            raise errors.Busy(f"{JOBS_MAX} chunks are being rewritten here", retry_after_ms=1_000)
        try:
            _log.debug("compaction_begun", inode=request.inode, chunk=request.chunk, bytes=rewriting.length)
            self._rewrite(rewriting, request.map_epoch)
        finally:
            self._slots.release()
        with self._counting:
            self.chunks += 1
            self.written_bytes += rewriting.length
        _log.debug("chunk_compacted", inode=request.inode, chunk=request.chunk, bytes=rewriting.length)
        return CompactChunkReply(slices=rewriting.result())

    def _rewrite(self, rewriting: Rewriting, map_epoch: int) -> None:
        view = self._known.at_least(map_epoch, MAP_WAIT_S)
        source = CompactionSource(self._store, self._node, view, self._channels, self._fates)
        chain = view.chain(rewriting.block, near_node=self._node)
        if len(chain) < view.write_min:
            raise errors.BelowWriteMin(f"{len(chain)} nodes take blocks of the group of {rewriting.block:#x}")
        with ChainSender(
            self._channels,
            rewriting.block,
            chain,
            durable=True,
            write_min=view.write_min,
            map_epoch=view.epoch,
            expected_bytes=rewriting.length,
        ) as sender:
            for length, parts in rewriting.windows(WINDOW_BYTES):
                self._throttle.wait(length)
                window = memoryview(bytearray(length))  # the sender keeps it until it is acknowledged
                source.read(parts, window)
                sender.append(window)
            sender.seal()
