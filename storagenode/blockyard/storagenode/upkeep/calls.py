"""The calls of the Storage service that upkeep answers."""

from collections.abc import Iterator

from blockyard.proto.call import CallContext
from blockyard.proto.common_pb2 import Empty
from blockyard.proto.storage_pb2 import (
    CollectGarbageReply,
    CollectGarbageRequest,
    HintRepairRequest,
    NodeInfoReply,
    StartScrubReply,
    StartScrubRequest,
)
from blockyard.storagenode.upkeep.upkeep import Upkeep


class UpkeepCalls:
    """Serves them."""

    def __init__(self, upkeep: Upkeep) -> None:
        self.examiner = upkeep.examiner
        self.suspect = upkeep.suspect
        self._upkeep = upkeep

    def HintRepair(self, request: HintRepairRequest, context: CallContext) -> Empty:
        """Look at a group soon."""
        self._upkeep.hint(request.group, request.node)
        return Empty()

    def StartScrub(self, request: StartScrubRequest, context: CallContext) -> StartScrubReply:
        """Read everything now."""
        return StartScrubReply(blocks=self._upkeep.start_scrub())

    def CollectGarbage(self, request: CollectGarbageRequest, context: CallContext) -> Iterator[CollectGarbageReply]:
        """Look for orphans now."""
        for found in self._upkeep.collect_garbage(request.older_than_s, dry_run=request.dry_run):
            yield CollectGarbageReply(
                progress=found.progress,
                blocks=found.blocks,
                orphans=found.orphans,
                orphan_bytes=found.orphan_bytes,
                dropped=found.dropped,
                done=found.done,
            )

    def describe(self, reply: NodeInfoReply) -> None:
        """Add to NodeInfo how far the scrub is, and what is quarantined."""
        scrub = self._upkeep.scrub_progress()
        reply.scrubbing, reply.scrub_progress, reply.scrubbed_ns = scrub.running, scrub.share, scrub.ended_ns
        reply.quarantined_blocks = self._upkeep.store.usage().quarantined
