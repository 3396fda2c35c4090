"""A predecessor that was cut out, slept, and wakes up amid its successor's chain."""

from pathlib import Path
from typing import Any

import pytest
from blockyard.proto import errors, lane
from blockyard.proto.blocks import PAGE_BYTES, Channels
from blockyard.proto.storage_pb2 import WriteBlockReply

from tests.proto.lane.peers import wait_until
from tests.storagenode.service.nodes import (
    Node,
    appending,
    new_block,
    opening,
    read_back,
    running,
    sealing,
    some_bytes,
    stub_over,
)

PIECE_BYTES = 4 * PAGE_BYTES
DATA = some_bytes(3 * PIECE_BYTES)


class Predecessor:
    """What writes a block to a node, step by step."""

    def __init__(self, node: Node) -> None:
        address = node.chain_node.address
        self._channel = lane.Channel(f"{address.host}:{address.lane_port}", timeout_s=20.0)
        self._stream: Any = stub_over(self._channel).WriteBlock(timeout=20.0)

    def send(self, step: Any) -> None:
        self._stream.send(step[0], step[1] or None)

    def finish(self, *steps: Any) -> WriteBlockReply:
        """Send the last steps; return the reply that says that the block is sealed. Raises why it is not."""
        for step in steps:
            self.send(step)
        while True:
            reply: WriteBlockReply | None = self._stream.receive()
            if reply is None:
                raise errors.ConnectionLost("it ended without a seal")
            if reply.sealed:
                return reply

    def close(self) -> None:
        self._stream.cancel()
        self._channel.close()


def piece(number: int) -> Any:
    start = number * PIECE_BYTES
    return appending(start, DATA[start : start + PIECE_BYTES])


def wait_for(nodes: list[Node], block: int, pieces: int) -> None:
    """Wait until nodes have so much of the open block."""

    def have_it() -> bool:
        writes = [node.servicer.writes._open.get(block) for node in nodes]
        return all(write is not None and write.sums.length == pieces * PIECE_BYTES for write in writes)

    wait_until(have_it, "the nodes did not get the pieces")


def test_it_takes_no_node_from_the_chain_that_goes_on_without_it(tmp_path: Path) -> None:
    with running(3, tmp_path) as nodes:
        block, chain = new_block(), [node.chain_node for node in nodes]
        first, second = Predecessor(nodes[0]), Predecessor(nodes[1])
        first.send(opening(block, chain, write_min=2, precedence=[0]))
        first.send(piece(0))
        wait_for(nodes, block, 1)
        second.send(opening(block, chain[1:], write_min=2, resume=True, precedence=[1]))
        second.send(piece(1))
        wait_for(nodes[1:], block, 2)
        with pytest.raises(errors.BelowWriteMin):
            first.finish(piece(1), piece(2), sealing(DATA))  # node 1 does not know yet
        assert list(second.finish(piece(2), sealing(DATA)).nodes) == [2, 3]
        for each in (first, second):
            each.close()
        channels = Channels()
        for node in chain[1:]:
            assert read_back(channels, node, block, len(DATA)) == DATA
        with pytest.raises(errors.UnknownBlock):
            read_back(channels, chain[0], block, len(DATA))
        channels.close()
