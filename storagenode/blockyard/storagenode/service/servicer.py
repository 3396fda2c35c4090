"""The Storage service of a node: the same object on the lane, over TCP and the Unix socket, and on gRPC.

Its methods are plain functions that may block, for servers with a thread per call.
"""

from collections.abc import Callable, Iterator

from blockyard.proto import errors, logs
from blockyard.proto.blocks import Channels, Patience, PutQueues
from blockyard.proto.call import CallContext, Reply
from blockyard.proto.call import register as register_with
from blockyard.proto.common_pb2 import Empty
from blockyard.proto.storage_pb2 import (
    CollectGarbageReply,
    CollectGarbageRequest,
    CompactChunkReply,
    CompactChunkRequest,
    HintRepairRequest,
    ListBlocksReply,
    ListBlocksRequest,
    NodeInfoReply,
    NodeInfoRequest,
    OpenBlockRequest,
    PutBlocksReply,
    PutBlocksRequest,
    ReadBlocksReply,
    ReadBlocksRequest,
    StartScrubReply,
    StartScrubRequest,
    VerifyBlockReply,
    VerifyBlockRequest,
    WriteBlockReply,
    WriteBlockRequest,
)
from blockyard.proto.storage_pb2_grpc import add_StorageServicer_to_server
from blockyard.storagenode.service.guard import ChainFailed, Guard
from blockyard.storagenode.service.landings import Landings
from blockyard.storagenode.service.open_writes import OpenWrites
from blockyard.storagenode.service.putting import BlockPutter
from blockyard.storagenode.service.reading import BlockReader
from blockyard.storagenode.service.writing import BlockWriter
from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.upkeep.calls import UpkeepCalls
from blockyard.storagenode.upkeep.examiner import Examiner

LIST_LIMIT = 100_000
_GROUPS = 1 << 16
_log = logs.get(__name__)


class StorageServicer:
    """Serves the blocks of one store as one node of the cluster."""

    def __init__(
        self,
        store: BlockStore,
        node: int,
        guard: Guard,
        *,
        patience: Patience | None = None,
        describe: Callable[[NodeInfoReply], None] | None = None,
        compact: Callable[[CompactChunkRequest], CompactChunkReply] | None = None,
        upkeep: UpkeepCalls | None = None,
        chain_failed: ChainFailed = lambda block, nodes: None,
    ) -> None:
        """`describe` adds to NodeInfo what the process knows beside the store; `compact` serves CompactChunk.

        `upkeep` serves what repair and scrub have a part in; `chain_failed` is told of nodes that a sealed block lacks.
        """
        self.store = store
        self.node = node
        self.channels = Channels()
        self.writes = OpenWrites(store)
        self._onward = PutQueues(self.channels, holders_before=1)
        self._landings = landings = Landings(guard)
        self._writer = BlockWriter(self.writes, node, guard, landings, self.channels, patience, chain_failed)
        self._putter = BlockPutter(store, node, guard, landings, self._onward, chain_failed)
        self._reader = BlockReader(store, guard, upkeep.suspect if upkeep is not None else lambda block: None)
        self._describe = describe
        self._compact = compact
        self._upkeep = upkeep
        self._examiner = upkeep.examiner if upkeep is not None else Examiner(store, lost=lambda group: None)

    def close(self) -> None:
        """End what is under way towards other nodes, and make open blocks disappear. The servers have stopped."""
        self.writes.close()
        self._writer.close()
        self._onward.close()
        self.channels.close()

    def WriteBlock(self, steps: Iterator[WriteBlockRequest], context: CallContext) -> Iterator[WriteBlockReply]:
        return self._writer.write(steps, context)

    def PutBlocks(self, request: PutBlocksRequest, context: CallContext) -> PutBlocksReply:
        return self._putter.put(request, context)

    def ReadBlocks(self, request: ReadBlocksRequest, context: CallContext) -> Iterator[Reply | ReadBlocksReply]:
        return self._reader.read(request, context)

    def OpenBlock(self, request: OpenBlockRequest, context: CallContext) -> Reply:
        return self._reader.open(request, context)

    def ListBlocks(self, request: ListBlocksRequest, context: CallContext) -> ListBlocksReply:
        if request.group >= _GROUPS or not 1 <= request.limit <= LIST_LIMIT:
            raise errors.InvalidArgument(f"group {request.group}, limit {request.limit}: 1 to {LIST_LIMIT} are allowed")
        self._landings.settle(request.map_epoch)
        found = self.store.list(request.group, request.after, request.limit)
        return ListBlocksReply(
            blocks=[block for block, _ in found],
            lengths=[length for _, length in found],
            end=len(found) < request.limit,
        )

    def VerifyBlock(self, request: VerifyBlockRequest, context: CallContext) -> VerifyBlockReply:
        found = self._examiner.examine(request.block, request.reason or "asked to")
        return VerifyBlockReply(good=found.good, length=found.length, bad_pages=found.bad_pages, crc32c=found.crc32c)

    def HintRepair(self, request: HintRepairRequest, context: CallContext) -> Empty:
        return self._with_upkeep().HintRepair(request, context)

    def StartScrub(self, request: StartScrubRequest, context: CallContext) -> StartScrubReply:
        return self._with_upkeep().StartScrub(request, context)

    def CollectGarbage(self, request: CollectGarbageRequest, context: CallContext) -> Iterator[CollectGarbageReply]:
        return self._with_upkeep().CollectGarbage(request, context)

    def CompactChunk(self, request: CompactChunkRequest, context: CallContext) -> CompactChunkReply:
        if self._compact is None:
            raise errors.NotSupported("this node does not compact chunks")
        return self._compact(request)

    def NodeInfo(self, request: NodeInfoRequest, context: CallContext) -> NodeInfoReply:
        usage = self.store.usage()
        reply = NodeInfoReply(
            node=self.node,
            blocks=usage.blocks,
            live_bytes=usage.live_bytes,
            used_bytes=usage.used_bytes,
            free_bytes=usage.free_bytes,
        )
        if self._describe is not None:
            self._describe(reply)
        if self._upkeep is not None:
            self._upkeep.describe(reply)
        return reply

    def _with_upkeep(self) -> UpkeepCalls:
        if self._upkeep is None:
            raise errors.NotSupported("this server stores blocks and does nothing to keep them")
        return self._upkeep


def register(servicer: StorageServicer, *servers: object) -> None:
    """Register the service with lane thread servers, and gRPC servers that have worker threads."""
    register_with(add_StorageServicer_to_server, servicer, *servers)
