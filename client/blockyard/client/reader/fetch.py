"""One range of a block asked of one node: started at once, taken when it comes."""

from typing import Any

from blockyard.proto import errors
from blockyard.proto.blocks import PAGE_BYTES, Channels, page_count, widen
from blockyard.proto.cluster_map import MapNode
from blockyard.proto.lane import CheckedBuffer
from blockyard.proto.storage_pb2 import BlockRange, ReadBlocksReply, ReadBlocksRequest


class Fetch:
    """`len(into)` bytes of a block from `offset` on, from one node. Used by one thread.

    G3: bytes are in `into` only after every page of them matched its checksum, or `finish` has raised.
    """

    def __init__(
        self,
        channels: Channels,
        node: MapNode,
        block: int,
        offset: int,
        into: memoryview,
        *,
        epoch: int,
        timeout_s: float,
    ) -> None:
        """Send the request. Raises what connecting and sending raise."""
        self.node = node
        self._block = block
        self._offset = offset
        self._into = into
        self._around: bytearray | None = None
        wanted = BlockRange(block=block, offset=offset, length=into.nbytes)
        stub: Any = channels.stub(node.address())
        request = ReadBlocksRequest(ranges=[wanted], map_epoch=epoch)
        self._stream = stub.ReadBlocks(request, timeout=timeout_s, into=self._place)

    def answers_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the first byte of the answer. Raises the call's error."""
        return bool(self._stream.await_answer(seconds))

    def finish(self) -> None:
        """Wait for all bytes. Raises CorruptBlock, UnknownBlock and what the call raises."""
        reply = self._stream.receive()
        if reply is None or reply.range != 0:
            raise errors.MalformedReply(f"node {self.node.id} did not answer for block {self._block:#x}")
        if reply.HasField("error"):
            raise errors.from_detail(reply.error)
        if self._around is not None:
            skipped = self._offset - reply.offset
            self._into[:] = memoryview(self._around)[skipped : skipped + self._into.nbytes]
        if self._stream.receive() is not None:
            raise errors.MalformedReply(f"node {self.node.id} answered twice for block {self._block:#x}")

    def cancel(self) -> None:
        """Give it up; nothing is put into `into` any more."""
        self._stream.cancel()

    def _place(self, reply: ReadBlocksReply, length: int) -> CheckedBuffer:
        """Return where the payload goes: it comes widened to whole pages."""
        size = self._into.nbytes
        sums = reply.checksums.crc32c
        if (reply.offset, length) != widen(self._offset, size, reply.block_length) or len(sums) != page_count(length):
            raise errors.MalformedReply(f"node {self.node.id} sent other bytes than those asked for")
        if length == size:
            return CheckedBuffer(self._into, sums, PAGE_BYTES)
        self._around = bytearray(length)
        return CheckedBuffer(self._around, sums, PAGE_BYTES)
