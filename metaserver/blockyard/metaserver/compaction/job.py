"""One rewriting: an id leased, the bytes written anew by a storage node, and the swap proposed.

When it fails it gives the id up, so that nodes drop what they have of the block. It may also just end, at any step,
with the leader: then the id is nobody's when the session ends, and the search for orphans finds the block.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from blockyard.metaserver.compaction.policy import Plan
from blockyard.metaserver.compaction.session import Session
from blockyard.metaserver.namespace.crowded import ChunkName
from blockyard.metaserver.namespace.slices import CHUNK_BYTES, Piece
from blockyard.metaserver.state.commands import METADATA, method_id
from blockyard.proto import errors
from blockyard.proto.cluster_pb2 import LeaseBlockIdsRequest
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.proto.metadata_pb2 import ReplaceSlicesRequest, Slice
from blockyard.proto.storage_pb2 import CompactChunkReply, CompactChunkRequest, CompactSlice

DEADLINE_S: Final = 60.0
LEAST_BYTES_PER_SECOND: Final = 1 << 20
"""A node that moves less than this beyond `DEADLINE_S` is given up."""

_LEASE: Final = method_id("/blockyard.v1.Cluster/LeaseBlockIds")
_REPLACE: Final = method_id(f"{METADATA}ReplaceSlices")

Compact = Callable[[CompactChunkRequest, float], Any]
"""Asks a node to write; takes the deadline in seconds and gives an awaitable of the reply."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be rewritten, and where."""

    chunk: ChunkName
    plan: Plan
    node: int

    async def run(self, session: Session, compact: Compact, full: Sequence[int]) -> bool:
        """Rewrite and swap; False when the chunk had changed too much. Raises a BlockyardError.

        `full` are the nodes that have no space.
        """
        wish = LeaseBlockIdsRequest(count=1, near_node=self.node)
        leased = await session.change(_LEASE, wish, (secrets.randbits(64), *full))
        block = leased.ranges[0].group << SEQUENCE_BITS | leased.ranges[0].first_sequence
        try:
            replaced = await self._rewrite(session, compact, block, leased.map_epoch)
        except errors.BlockyardError:
            await session.abandon(block)
            raise
        if not replaced:
            await session.abandon(block)
        return replaced

    async def _rewrite(self, session: Session, compact: Compact, block: int, map_epoch: int) -> bool:
        expected, wanted = self.plan.pieces, self.plan.replacement(block)
        request = CompactChunkRequest(
            inode=self.chunk[0],
            chunk=self.chunk[1],
            slices=[_compact(piece) for piece in expected],
            blocks=[block],
            map_epoch=map_epoch,
        )
        reply: CompactChunkReply = await compact(request, DEADLINE_S + self.plan.length / LEAST_BYTES_PER_SECOND)
        if list(reply.slices) != [_compact(piece) for piece in wanted]:
            raise errors.InternalError(f"node {self.node} wrote block {block:#x} in another order than it was asked to")
        base = self.chunk[1] * CHUNK_BYTES
        swap = ReplaceSlicesRequest(
            inode=self.chunk[0],
            chunk=self.chunk[1],
            expected=[_slice(piece, base) for piece in expected],
            replacement=[_slice(piece, base) for piece in wanted],
            map_epoch=map_epoch,
        )
        return bool((await session.change(_REPLACE, swap)).replaced)


def _compact(piece: Piece) -> CompactSlice:
    start, length, block, offset, _ = piece
    return CompactSlice(position=start, length=length, block=block, block_offset=offset)


def _slice(piece: Piece, base: int) -> Slice:
    start, length, block, offset, whole = piece
    return Slice(position=base + start, length=length, block=block, block_offset=offset, block_length=whole)
