"""WriteBlock: a block on its way through this node.

The connection's thread receives a piece into a buffer that is used again, has it checked and written, and passes it on;
what the successor acknowledges is taken between pieces. A piece is answered once no more than the window lies between
it and what the successor has acknowledged (see `blockyard.proto.blocks.chain`). At the seal the successor is asked
first, so that all nodes sync at the same time.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from blockyard.proto import errors, failpoints
from blockyard.proto.blocks import BLOCK_LIMIT_BYTES, PIECE_BYTES, ChainLink, Channels, Patience, is_refusal
from blockyard.proto.blocks.chain_link import TICK_S
from blockyard.proto.call import CallContext
from blockyard.proto.storage_pb2 import WriteBlockReply, WriteBlockRequest, WriteData, WriteOpen, WriteSeal
from blockyard.storagenode.service import requests as form
from blockyard.storagenode.service.guard import ChainFailed, Guard
from blockyard.storagenode.service.landings import Landings
from blockyard.storagenode.service.open_writes import Claim, OpenWrites

_SEALS_AT_ONCE = 8
_KEPT_BUFFERS = 16


class BlockWriter:
    """Serves WriteBlock."""

    def __init__(
        self,
        writes: OpenWrites,
        node: int,
        guard: Guard,
        landings: Landings,
        channels: Channels,
        patience: Patience | None,
        chain_failed: ChainFailed,
    ) -> None:
        self.writes = writes
        self.node = node
        self.guard = guard
        self.landings = landings
        self.channels = channels
        self.patience = patience or Patience()
        self.chain_failed = chain_failed
        self.sealers = ThreadPoolExecutor(_SEALS_AT_ONCE, "seal")
        self._buffers: deque[memoryview] = deque(maxlen=_KEPT_BUFFERS)

    def write(self, steps: Iterator[WriteBlockRequest], context: CallContext) -> Iterator[WriteBlockReply]:
        """Carry out one write; its steps come in, how far the chain is goes out."""
        first = next(steps, None)
        if first is None or first.WhichOneof("step") != "open":
            raise errors.InvalidArgument("a write begins with `open`")
        opening = first.open
        nodes = form.check_open(opening, self.node)
        self.guard.check_write(opening.block, nodes, opening.map_epoch)
        claim = self.writes.claim(opening.block, opening.expected_bytes, opening.resume, opening.precedence)
        buffer = self._buffers.pop() if self._buffers else memoryview(bytearray(PIECE_BYTES))
        passage = _Passage(self, opening, claim, buffer)
        try:
            yield from passage.run(steps, context)
        except errors.BlockyardError as error:
            if is_refusal(error) or isinstance(error, errors.BelowWriteMin):
                passage.abort()
            raise
        finally:
            passage.close()
            self._buffers.append(buffer)

    def close(self) -> None:
        """Let seals under way finish."""
        self.sealers.shutdown()


class _Passage:
    """One write, from its open to its end."""

    def __init__(self, writer: BlockWriter, opening: WriteOpen, claim: Claim, buffer: memoryview) -> None:
        onward = WriteOpen()
        onward.CopyFrom(opening)
        onward.write_min = max(1, opening.write_min - 1)
        del onward.failed_nodes[:]
        self._writer = writer
        self._opening = opening
        self._claim = claim
        self._buffer = buffer
        self._sealed = False
        self._acknowledged = -1
        self._reported = 0
        self._link = ChainLink(
            writer.channels,
            onward,
            opening.chain[1:],
            claim,
            holders_before=1,
            write_min=opening.write_min,
            patience=writer.patience,
        )

    def run(self, steps: Iterator[WriteBlockRequest], context: CallContext) -> Iterator[WriteBlockReply]:
        yield WriteBlockReply(received=self._claim.length)
        failpoints.hit("write.opened")
        self._link.open(self._opening.resume)
        if self._claim.length:
            yield from self._pass_on()
        for step in steps:
            match step.WhichOneof("step"):
                case "append" if not self._sealed:
                    yield from self._append(step.append, context)
                case "seal" if not self._sealed:
                    yield from self._seal(step.seal)
                case "abort":
                    self.abort()
                    return
                case other:
                    raise errors.InvalidArgument(f"step {other!r} does not follow what came before")

    def abort(self) -> None:
        """The block disappears here and behind."""
        self._claim.abort()
        self._link.abort()

    def close(self) -> None:
        """The predecessor has left."""
        self._link.close()
        self._claim.release()

    def _append(self, piece: WriteData, context: CallContext) -> Iterator[WriteBlockReply]:
        length = context.payload_length
        if not 0 < length <= PIECE_BYTES:
            raise errors.InvalidArgument(f"a piece of {length:,} bytes; 1 to {PIECE_BYTES:,} are allowed")
        if piece.offset + length > BLOCK_LIMIT_BYTES:
            raise errors.InvalidArgument(f"a block has at most {BLOCK_LIMIT_BYTES:,} bytes")
        form.check_page_bytes(piece.checksums)
        data = self._buffer[:length]
        context.receive_into(data)
        self._claim.append(piece.offset, data, piece.checksums.crc32c)
        failpoints.hit("write.appended")
        yield from self._pass_on()

    def _pass_on(self) -> Iterator[WriteBlockReply]:
        """Give the successor what is here, and answer once it is no further behind than the window."""
        self._link.offer(self._claim.length)
        for _ in self._link.settle():
            yield self._progress()
        self._check_minimum()
        if self._link.core.acknowledged > self._acknowledged or len(self._link.core.failed) > self._reported:
            yield self._progress()

    def _seal(self, seal: WriteSeal) -> Iterator[WriteBlockReply]:
        core = self._link.core
        self._claim.check_seal(seal.length, seal.crc32c)
        self._link.seal(seal.length, seal.crc32c)
        failpoints.hit("seal.forwarded")
        mine: Future[None] = self._writer.sealers.submit(self._seal_here, seal)
        while not (core.is_done and mine.done()):
            if core.is_done:
                wait_for([mine], TICK_S)
            else:
                self._link.poll(TICK_S)
            if not (core.is_done and mine.done()):
                yield self._progress()
        mine.result()
        failpoints.hit("seal.sealed")
        self._check_minimum()
        self._sealed = True
        if lacking := (*self._opening.failed_nodes, *core.failed):
            self._writer.chain_failed(self._opening.block, lacking)
        reply = self._progress()
        reply.sealed = True
        reply.nodes.extend((self._writer.node, *core.nodes))
        yield reply
        failpoints.hit("seal.acknowledged")

    def _seal_here(self, seal: WriteSeal) -> None:
        with self._writer.landings.storing([self._opening.block], [each.node for each in self._opening.chain]):
            self._claim.seal(seal.length, seal.crc32c, self._opening.durable, self._opening.cold)

    def _progress(self) -> WriteBlockReply:
        """Return how far the chain is, which also says that this node lives."""
        core = self._link.core
        self._acknowledged = max(self._acknowledged, min(self._claim.length, core.acknowledged))
        failed = core.failed[self._reported :]
        self._reported = len(core.failed)
        return WriteBlockReply(acknowledged=self._acknowledged, failed_nodes=failed, received=self._claim.length)

    def _check_minimum(self) -> None:
        core = self._link.core
        if core.is_below_minimum:
            raise errors.BelowWriteMin(
                f"{1 + len(core.chain)} nodes are left and {self._opening.write_min} must hold the block; nodes "
                f"{core.failed} failed: write it again elsewhere",
                str(self._opening.block),
            )
