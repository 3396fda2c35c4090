"""The reading end: ranges of blocks from one node into the caller's buffers, every page of them verified.

A range is sent widened to whole checksum pages. Where it begins and ends with pages anyway its bytes go from the socket
to the caller's buffer and nowhere else; otherwise they go through memory of this module.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockyard.proto import errors
from blockyard.proto.blocks.channels import Channels
from blockyard.proto.blocks.pages import PAGE_BYTES, Buffer, page_count, widen
from blockyard.proto.lane import CheckedBuffer
from blockyard.proto.storage_pb2 import BlockRange, BlockToken, ChainNode, ReadBlocksReply, ReadBlocksRequest

READ_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """`len(into)` bytes of a block from byte `offset`, to be put into `into`."""

    block: int
    offset: int
    into: Buffer
    token: BlockToken | None = None


def read_ranges(
    channels: Channels,
    node: ChainNode,
    ranges: Sequence[Wanted],
    *,
    map_epoch: int,
    cold: bool = False,
    timeout_s: float = READ_TIMEOUT_S,
) -> list[errors.BlockyardError | None]:
    """Read ranges from one node, at most 1,024, and return the error of each, None where its bytes are there.

    UnknownBlock: the node does not have it. CorruptBlock: a page does not match its checksum; the message names block,
    page and node, which should be asked to verify it. Errors of the request as a whole, such as Unavailable, are
    raised; which ranges are there is then unknown. `cold`: the node need not keep the bytes in its page cache.
    """
    outcomes: list[errors.BlockyardError | None] = []
    stub: Any = channels.stub(node.address)
    while len(outcomes) < len(ranges):
        rest = ranges[len(outcomes) :]
        answers = _Answers(node.node, rest)
        try:
            for reply in stub.ReadBlocks(_request(rest, map_epoch, cold), timeout=timeout_s, into=answers.place):
                answers.landed(reply)
            answers.check_complete()
        except errors.CorruptBlock as error:
            answers.outcomes.append(answers.corrupt(error))  # ends the call: those behind it are asked for again
        outcomes += answers.outcomes
    return outcomes


def _request(ranges: Sequence[Wanted], map_epoch: int, cold: bool) -> ReadBlocksRequest:
    tokens = {each.block: each.token for each in ranges if each.token is not None}
    return ReadBlocksRequest(
        ranges=[
            BlockRange(block=each.block, offset=each.offset, length=memoryview(each.into).nbytes) for each in ranges
        ],
        map_epoch=map_epoch,
        tokens=list(tokens.values()),
        cold=cold,
    )


class _Answers:
    """What a node answers to one request: one reply per range, in their order."""

    def __init__(self, node: int, ranges: Sequence[Wanted]) -> None:
        self.outcomes: list[errors.BlockyardError | None] = []
        self._node = node
        self._ranges = ranges
        self._around: bytearray | None = None
        self._has_payload = False

    def place(self, reply: ReadBlocksReply, length: int) -> CheckedBuffer:
        """Return where the payload of a reply goes."""
        wanted = self._current(reply)
        size = memoryview(wanted.into).nbytes
        expected = widen(wanted.offset, size, reply.block_length)
        if (reply.offset, length) != expected or len(reply.checksums.crc32c) != page_count(length):
            raise errors.MalformedReply(f"node {self._node} sent bytes {reply.offset} and {length} more of {wanted}")
        self._has_payload = True
        if length == size:
            return CheckedBuffer(wanted.into, reply.checksums.crc32c, PAGE_BYTES)
        self._around = bytearray(length)
        return CheckedBuffer(self._around, reply.checksums.crc32c, PAGE_BYTES)

    def landed(self, reply: ReadBlocksReply) -> None:
        """A reply is there with its payload, if it has any, verified."""
        wanted = self._current(reply)
        if reply.HasField("error"):
            self.outcomes.append(errors.from_detail(reply.error))
            return
        if not self._has_payload:
            raise errors.MalformedReply(f"node {self._node} sent no bytes of block {wanted.block}")
        if self._around is not None:
            into = memoryview(wanted.into).cast("B")
            start = wanted.offset - reply.offset
            into[:] = memoryview(self._around)[start : start + into.nbytes]
        self._around, self._has_payload = None, False
        self.outcomes.append(None)

    def corrupt(self, error: errors.CorruptBlock) -> errors.CorruptBlock:
        """Return what the caller hears about a page of the range that is arriving."""
        wanted = self._ranges[len(self.outcomes)]
        first = wanted.offset // PAGE_BYTES
        return errors.CorruptBlock(
            f"block {wanted.block} on node {self._node}, counted from page {first}: {error.message}", str(wanted.block)
        )

    def check_complete(self) -> None:
        """Raise MalformedReply when ranges were passed over."""
        if len(self.outcomes) != len(self._ranges):
            raise errors.MalformedReply(
                f"node {self._node} answered {len(self.outcomes)} of {len(self._ranges)} ranges"
            )

    def _current(self, reply: ReadBlocksReply) -> Wanted:
        if reply.range != len(self.outcomes) or reply.range >= len(self._ranges):
            raise errors.MalformedReply(f"node {self._node} answered range {reply.range} out of turn")
        return self._ranges[reply.range]
