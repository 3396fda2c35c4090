"""Links of a chain that break or go silent in the middle of a block, one at a time, while every node lives."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.blocks import ChainSender, Channels, SealedBlock
from blockyard.proto.common_pb2 import Address
from blockyard.proto.storage_pb2 import ChainNode

from tests.proto.lane.peers import wait_until
from tests.storagenode.service.nodes import PATIENCE, Node, new_block, read_back, running, some_bytes

APPEND_BYTES = 1 << 20
BLOCK_BYTES = 12 * APPEND_BYTES + 321


class Wire:
    """A TCP relay to one node that a test may break."""

    def __init__(self, node: Node) -> None:
        self._target = ("127.0.0.1", node.chain_node.address.lane_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._is_reset = False
        self._passes = threading.Event()
        self._passes.set()
        address = Address(host="127.0.0.1", lane_port=self._listener.getsockname()[1])
        self.chain_node = ChainNode(node=node.number, address=address)
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        """Pass nothing on any more, and say nothing of it: a cable that was pulled."""
        self._passes.clear()

    def reset(self) -> None:
        """Close every connection, and refuse new ones."""
        self._is_reset = True
        self._listener.close()
        for pair in self._pairs:
            for sock in pair:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it has gone already

    def close(self) -> None:
        """End all of it."""
        self._passes.set()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(self._target)
            except OSError:
                return
            self._pairs.append((ours, theirs))
            if self._is_reset:
                self.reset()
            for one, other in ((ours, theirs), (theirs, ours)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(1 << 16):
                self._passes.wait()
                other.sendall(data)
        except OSError:
            pass  # it was reset
        for sock in (one, other):
            sock.close()


@pytest.fixture
def wires(tmp_path: Path) -> Iterator[tuple[list[Node], list[Wire]]]:
    """Three nodes, and a wire to each."""
    with running(3, tmp_path) as nodes:
        wires = [Wire(node) for node in nodes]
        yield nodes, wires
        for wire in wires:
            wire.close()


def write(channels: Channels, chain: Sequence[ChainNode], data: bytes, cut: Callable[[], None]) -> SealedBlock:
    with ChainSender(
        channels, new_block(), chain, durable=False, write_min=1, map_epoch=0, patience=PATIENCE
    ) as sender:
        for number, start in enumerate(range(0, len(data), APPEND_BYTES)):
            if number == 4:
                cut()
            sender.append(data[start : start + APPEND_BYTES])
        return sender.seal()


@pytest.mark.parametrize("harm", ["silence", "reset"])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_link_that_fails_costs_the_node_behind_it_and_no_other(
    wires: tuple[list[Node], list[Wire]], channels: Channels, position: int, harm: str
) -> None:
    nodes, links = wires
    data = some_bytes(BLOCK_BYTES)
    sealed = write(channels, [wire.chain_node for wire in links], data, getattr(links[position], harm))
    assert sealed.failed == (position + 1,)
    assert sealed.nodes == tuple(number for number in (1, 2, 3) if number != position + 1)
    for number in sealed.nodes:
        assert read_back(channels, nodes[number - 1].chain_node, sealed.block, len(data)) == data
    cut_off = nodes[position]
    with pytest.raises(errors.UnknownBlock):
        read_back(channels, cut_off.chain_node, sealed.block, 1)


def test_a_writer_that_vanishes_leaves_an_open_block_for_its_grace_period_only(
    wires: tuple[list[Node], list[Wire]], channels: Channels
) -> None:
    nodes, links = wires
    block = new_block()
    sender = ChainSender(channels, block, [wire.chain_node for wire in links], durable=False, write_min=1, map_epoch=0)
    sender.open()
    sender.append(some_bytes(4 * APPEND_BYTES))
    links[0].reset()

    assert all(_is_open(node, block) for node in nodes), "every node waits for another predecessor"
    for node in nodes:

        def is_gone(node: Node = node) -> bool:
            node.servicer.writes.sweep(node.servicer.writes.clock() + 60)
            return not _is_open(node, block)

        wait_until(is_gone, f"node {node.number} forgets the block")
        node.store.begin(block).abort()
    sender.abort()


def _is_open(node: Node, block: int) -> bool:
    """Whether a node has the block, or some of it, for a writer that may come back."""
    try:
        node.store.begin(block).abort()
    except errors.Exists:
        return True
    return False
