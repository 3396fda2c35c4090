"""Whether a block lives: what a node asks before it offers, keeps or drops what it alone has.

Dead and unknown are final: a dead block is never referred to again, and an unknown one belongs to no living session,
or was spent, and its id is never given out a second time (`leases`), so a node may drop both. Live may become dead;
leased may become anything. The read must be linearizable: a lagging member would call unknown what was leased after
its state.
"""

from typing import Protocol

from blockyard.metaserver.cluster.leases import Leases
from blockyard.metaserver.cluster.map import MapView
from blockyard.metaserver.cluster.reclaim import Reclaim
from blockyard.proto.cluster_pb2 import (
    BLOCK_DEAD,
    BLOCK_LEASED,
    BLOCK_LIVE,
    BLOCK_UNKNOWN,
    BlockFate,
    CheckBlocksReply,
    CheckBlocksRequest,
)
from blockyard.proto.errors import ArgumentTooLong
from blockyard.proto.ids import SEQUENCE_BITS

LARGEST_CHECK = 100_000


class BlockReferences(Protocol):
    """What the namespace knows of blocks."""

    def is_referenced(self, block: int) -> bool:
        """Return whether any slice refers to the block."""
        ...


class Fates:
    """Answers for a state of namespace, leases and reclaim."""

    def __init__(self, leases: Leases, reclaim: Reclaim, references: BlockReferences) -> None:
        self.leases = leases
        self.reclaim = reclaim
        self.references = references

    def check(self, view: MapView, request: CheckBlocksRequest) -> CheckBlocksReply:
        """Return the fate of each block, in order. Raises UnknownNode, StaleIncarnation, ArgumentTooLong."""
        view.node(request.node, request.incarnation)
        if len(request.blocks) > LARGEST_CHECK:
            raise ArgumentTooLong(f"{len(request.blocks)} blocks were asked about at once; {LARGEST_CHECK} can be")
        sessions: dict[int, list[int]] = {}
        return CheckBlocksReply(fates=[self._fate(block, sessions) for block in request.blocks])

    def _fate(self, block: int, sessions: dict[int, list[int]]) -> BlockFate:
        if self.reclaim.is_dead(block):
            return BLOCK_DEAD
        if self.references.is_referenced(block):
            return BLOCK_LIVE
        group = block >> SEQUENCE_BITS
        if group not in sessions:
            sessions[group] = list(self.leases.sessions_in(group))
        leased = any(self.leases.owned(session, block) for session in sessions[group])
        return BLOCK_LEASED if leased else BLOCK_UNKNOWN
