"""The reading end: ranges of blocks from one node into the caller's buffers, every page of them verified.

A range is sent widened to whole checksum pages. A large one that begins and ends with pages anyway goes from the socket
to the caller's buffer and nowhere else; other bytes go through memory of this module. Small ranges come many to a
reply, asked for in the order of their blocks, so that those which touch the same page find each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blockyard.proto import errors
from blockyard.proto.blocks.channels import Channels
from blockyard.proto.blocks.gathered import GATHERED_BYTES, Target, hand_out
from blockyard.proto.blocks.pages import PAGE_BYTES, Buffer, page_count, widen
from blockyard.proto.lane import CheckedBuffer
from blockyard.proto.storage_pb2 import BlockRange, BlockToken, ChainNode, ReadBlocksReply, ReadBlocksRequest

READ_TIMEOUT_S = 30.0
RANGES_AT_ONCE = 1_024
"""Most ranges in one request."""


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
    return read_through(channels.stub(node.address), node.node, ranges, map_epoch, cold=cold, timeout_s=timeout_s)


def read_through(
    stub: Any, node: int, ranges: Sequence[Wanted], map_epoch: int, *, cold: bool, timeout_s: float
) -> list[errors.BlockyardError | None]:
    """Do what `read_ranges` does by a stub of the node's Storage service."""
    order = sorted(range(len(ranges)), key=lambda index: (ranges[index].block, ranges[index].offset))
    asked = [ranges[index] for index in order]
    targets = [(each.block, each.offset, memoryview(each.into).cast("B")) for each in asked]
    done: list[errors.BlockyardError | None] = []
    while len(done) < len(asked):
        answers = _Answers(node, targets[len(done) :])
        request = _request(asked[len(done) :], answers.targets, map_epoch, cold)
        try:
            for reply in stub.ReadBlocks(request, timeout=timeout_s, into=answers.place):
                answers.landed(reply)
            answers.check_complete()
        except errors.CorruptBlock as error:
            answers.outcomes.append(answers.corrupt(error))  # ends the call: those behind it are asked for again
        done += answers.outcomes
    outcomes: list[errors.BlockyardError | None] = [None] * len(ranges)
    for index, outcome in zip(order, done, strict=True):
        outcomes[index] = outcome
    return outcomes


def _request(ranges: Sequence[Wanted], targets: Sequence[Target], map_epoch: int, cold: bool) -> ReadBlocksRequest:
    tokens = {each.block: each.token for each in ranges if each.token is not None}
    return ReadBlocksRequest(
        ranges=[BlockRange(block=block, offset=offset, length=into.nbytes) for block, offset, into in targets],
        map_epoch=map_epoch,
        tokens=list(tokens.values()),
        cold=cold,
        gathered=len(ranges) > 1,
    )


class _Answers:
    """What a node answers to one request: its ranges in their order, a large one to a reply or many small ones."""

    def __init__(self, node: int, targets: Sequence[Target]) -> None:
        self.outcomes: list[errors.BlockyardError | None] = []
        self.targets = targets
        self._node = node
        self._around = memoryview(b"")
        """Memory for payload that is not only what was asked for."""
        self._payload: memoryview | None = None
        """Payload of the reply that is arriving; None until some does."""

    def place(self, reply: ReadBlocksReply, length: int) -> CheckedBuffer | memoryview:
        """Return where the payload of a reply goes."""
        block, offset, into = self._current(reply)
        if reply.HasField("runs"):
            if length > GATHERED_BYTES:
                raise errors.MalformedReply(f"node {self._node} gathered {length} bytes in one reply")
            self._payload = self._memory(length)
            return self._payload
        expected = widen(offset, into.nbytes, reply.block_length)
        fits = (reply.offset, length) == expected and offset + into.nbytes <= reply.block_length
        if not fits or len(reply.checksums.crc32c) != page_count(length):
            raise errors.MalformedReply(
                f"node {self._node} sent bytes {reply.offset} and {length} more of block {block} for {offset} and "
                f"{into.nbytes}"
            )
        self._payload = into if length == into.nbytes else self._memory(length)
        return CheckedBuffer(self._payload, reply.checksums.crc32c, PAGE_BYTES)

    def landed(self, reply: ReadBlocksReply) -> None:
        """A reply is there with its payload, if it has any; of a single range it is verified."""
        block, offset, into = self._current(reply)
        payload, self._payload = self._payload, None
        if reply.HasField("runs"):
            left = self.targets[len(self.outcomes) :]
            self.outcomes += hand_out(self._node, reply.runs, payload or memoryview(b""), left)
        elif reply.HasField("error"):
            self.outcomes.append(errors.from_detail(reply.error))
        elif payload is None:
            raise errors.MalformedReply(f"node {self._node} sent no bytes of block {block}")
        else:
            if payload is not into:
                into[:] = payload[offset - reply.offset : offset - reply.offset + into.nbytes]
            self.outcomes.append(None)

    def corrupt(self, error: errors.CorruptBlock) -> errors.CorruptBlock:
        """Return what the caller hears about a page of the range that is arriving."""
        block, offset, _ = self.targets[len(self.outcomes)]
        where = f"block {block} on node {self._node}, counted from page {offset // PAGE_BYTES}"
        return errors.CorruptBlock(f"{where}: {error.message}", str(block))

    def check_complete(self) -> None:
        """Raise MalformedReply when ranges were passed over."""
        if len(self.outcomes) != len(self.targets):
            raise errors.MalformedReply(
                f"node {self._node} answered {len(self.outcomes)} of {len(self.targets)} ranges"
            )

    def _memory(self, length: int) -> memoryview:
        if self._around.nbytes < length:
            self._around = memoryview(bytearray(length))
        return self._around[:length]

    def _current(self, reply: ReadBlocksReply) -> Target:
        if reply.range != len(self.outcomes) or reply.range >= len(self.targets):
            raise errors.MalformedReply(f"node {self._node} answered range {reply.range} out of turn")
        return self.targets[reply.range]
