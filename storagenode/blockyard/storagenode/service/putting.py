"""PutBlocks: small blocks, written here and on the rest of the chain at the same time."""

from blockyard.proto import errors, failpoints
from blockyard.proto.blocks import PutQueues
from blockyard.proto.call import CallContext
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.proto.storage_pb2 import PutBlocksReply, PutBlocksRequest
from blockyard.storagenode.service import requests as form
from blockyard.storagenode.service.guard import ChainFailed, Guard
from blockyard.storagenode.service.landings import Landings
from blockyard.storagenode.store import BlockStore, NewBlock


class BlockPutter:
    """Serves PutBlocks. A put that fails below `write_min` may leave blocks behind, to which nothing ever refers."""

    def __init__(
        self,
        store: BlockStore,
        node: int,
        guard: Guard,
        landings: Landings,
        onward: PutQueues,
        chain_failed: ChainFailed,
    ) -> None:
        self._store = store
        self._node = node
        self._guard = guard
        self._landings = landings
        self._onward = onward
        self._chain_failed = chain_failed

    def put(self, request: PutBlocksRequest, context: CallContext) -> PutBlocksReply:
        """Carry out one request; returns once this node and those behind it that live have all its blocks."""
        nodes = form.check_put(request, context.payload_length, self._node)
        one_of_each_group = {each.block >> SEQUENCE_BITS: each.block for each in request.blocks}.values()
        for block in one_of_each_group:
            self._guard.check_write(block, nodes, request.map_epoch)
        data = memoryview(bytearray(context.payload_length))
        context.receive_into(data)
        failpoints.hit("put.received")
        behind = None
        if len(nodes) > 1:
            behind = self._onward.submit(
                request.chain[1:],
                request.blocks,
                data,
                durable=request.durable,
                write_min=request.write_min,
                map_epoch=request.map_epoch,
                session=request.session,
                tokens=request.tokens,
            )
        new = [NewBlock(each.block, each.length, tuple(each.checksums.crc32c)) for each in request.blocks]
        with self._landings.storing(one_of_each_group, nodes):
            self._store.put(new, data, request.durable)
        failpoints.hit("put.stored")
        outcome = behind.result() if behind is not None else None
        reply = PutBlocksReply(nodes=[self._node])
        if outcome is not None:
            reply.nodes.extend(outcome.nodes)
            reply.failed_nodes.extend(outcome.failed)
        if lacking := (*request.failed_nodes, *reply.failed_nodes):
            for block in one_of_each_group:
                self._chain_failed(block, lacking)
        if len(reply.nodes) < request.write_min:
            raise errors.BelowWriteMin(
                f"{len(reply.nodes)} nodes have the blocks and {request.write_min} must: write them again elsewhere"
            )
        failpoints.hit("put.acknowledging")
        return reply
