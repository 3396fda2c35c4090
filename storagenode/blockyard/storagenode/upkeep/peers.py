"""The other nodes, as upkeep sees them: their lists, their blocks, and what they are told."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from blockyard.proto import errors
from blockyard.proto.blocks.channels import Channels
from blockyard.proto.blocks.pages import PAGE_BYTES
from blockyard.proto.lane import CheckedBuffer
from blockyard.proto.storage_pb2 import (
    BlockRange,
    HintRepairRequest,
    ListBlocksReply,
    ListBlocksRequest,
    ReadBlocksReply,
    ReadBlocksRequest,
    VerifyBlockRequest,
)
from blockyard.storagenode.node.known_map import KnownMap
from blockyard.storagenode.upkeep.exchange import Missing
from blockyard.storagenode.upkeep.windows import Entries

LISTED_AT_ONCE: Final = 4_096
LIST_S: Final = 10.0
READ_S: Final = 60.0
TELL_S: Final = 5.0
VERIFY_S: Final = 60.0


class Peers:
    """Calls to other nodes, found in the newest map. They raise BlockyardError. Any number of threads may use it."""

    def __init__(self, channels: Channels, known: KnownMap, me: int) -> None:
        self.me = me
        self._channels = channels
        self._known = known

    def pages(self, node: int, group: int) -> Iterator[Entries]:
        """Yield the pages of a node's list of a group."""
        after = 0
        while True:
            request = ListBlocksRequest(
                group=group, after=after, limit=LISTED_AT_ONCE, map_epoch=self._known.view.epoch
            )
            reply: ListBlocksReply = self._stub(node).ListBlocks(request, timeout=LIST_S)
            if len(reply.blocks) != len(reply.lengths) or not (reply.blocks or reply.end):
                raise errors.MalformedReply(f"node {node} listed {len(reply.blocks)} blocks of group {group}, and more")
            if reply.blocks:
                after = reply.blocks[-1]
                yield list(zip(reply.blocks, reply.lengths, strict=True))
            if reply.end:
                return

    def read(
        self, node: int, wanted: Sequence[tuple[Missing, int, int]], buffer: memoryview
    ) -> Iterator[tuple[int, memoryview, list[int] | errors.BlockyardError]]:
        """Read ranges (block, first byte, bytes; page-aligned) of blocks of a node.

        Yields in order the range's index, its bytes, which are in `buffer` until the next is asked for, and the CRC32C
        of its pages, which were checked; or why the node cannot deliver it. Raises CorruptBlock when a page does not
        match, MalformedReply when the node sends another range, and what ended the call.
        """
        request = ReadBlocksRequest(
            ranges=[BlockRange(block=each.block, offset=offset, length=length) for each, offset, length in wanted],
            map_epoch=self._known.view.epoch,
            cold=True,
        )

        def into(reply: ReadBlocksReply, length: int) -> CheckedBuffer:
            expected = wanted[reply.range][2] if reply.range < len(wanted) else -1
            if length != expected:
                raise errors.MalformedReply(f"node {node} sent {length} bytes of range {reply.range}")
            return CheckedBuffer(buffer[:length], reply.checksums.crc32c, reply.checksums.page_bytes or PAGE_BYTES)

        seen = 0
        with self._stub(node).ReadBlocks(request, timeout=READ_S, into=into) as replies:
            for reply in replies:
                if reply.range != seen:
                    raise errors.MalformedReply(f"node {node} sent range {reply.range} after {seen} others")
                seen += 1
                yield reply.range, *self._taken(node, wanted[reply.range], reply, buffer)
        if seen != len(wanted):
            raise errors.MalformedReply(f"node {node} sent {seen} of {len(wanted)} ranges")

    def _taken(
        self, node: int, wanted: tuple[Missing, int, int], reply: ReadBlocksReply, buffer: memoryview
    ) -> tuple[memoryview, list[int] | errors.BlockyardError]:
        missing, offset, length = wanted
        if reply.HasField("error"):
            return buffer[:0], errors.from_detail(reply.error)
        pages = list(reply.checksums.crc32c)
        if reply.block_length != missing.length:
            found = f"block {missing.block:#x} on node {node} is {reply.block_length} bytes long"
            return buffer[:0], errors.CorruptBlock(f"{found}, and was listed with {missing.length}")
        whole = reply.offset == offset and reply.length == length and len(pages) == -(-length // PAGE_BYTES)
        if not whole or reply.checksums.page_bytes not in (0, PAGE_BYTES):
            raise errors.MalformedReply(f"node {node} sent bytes {reply.offset}+{reply.length} for {offset}+{length}")
        return buffer[:length], pages

    def suspect(self, node: int, block: int, why: str) -> None:
        """Have a node read its replica, so that it replaces it when it is bad."""
        self._stub(node).VerifyBlock(VerifyBlockRequest(block=block, reason=why), timeout=VERIFY_S)

    def hint(self, node: int, group: int) -> None:
        """Tell a node that it may lack blocks of a group."""
        request = HintRepairRequest(group=group, node=self.me, map_epoch=self._known.view.epoch)
        self._stub(node).HintRepair(request, timeout=TELL_S)

    def _stub(self, node: int) -> Any:
        return self._channels.stub(self._known.view.node(node).address())
