"""The reading ends, over the network and by descriptor: the bytes that were written, or an error that says where."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.blocks import PAGE_BYTES, ChainSender, Channels, LocalBlocks, PutQueues, Wanted, read_ranges
from blockyard.proto.storage_pb2 import BlockToken, VerifyBlockRequest

from tests.proto.lane.peers import open_descriptors, wait_until
from tests.storagenode.service.nodes import Node, new_block, put_of, running, some_bytes

Read = Callable[[int, int, bytearray], None]
LARGE_BYTES = 4 * (1 << 20) + 777


@pytest.fixture(params=["network", "short circuit"])
def read(request: pytest.FixtureRequest, channels: Channels, nodes: list[Node]) -> Iterator[Read]:
    """Fills a buffer from an offset of a block of the first node."""
    if request.param == "network":

        def over_network(block: int, offset: int, into: bytearray) -> None:
            [outcome] = read_ranges(channels, nodes[0].chain_node, [Wanted(block, offset, into)], map_epoch=0)
            if outcome is not None:
                raise outcome

        yield over_network
        return
    local = LocalBlocks(channels, nodes[0].chain_node, limit=4)
    yield local.read
    local.close()


def write(channels: Channels, nodes: list[Node], data: bytes) -> int:
    """Write a block on the nodes, large or small as it is."""
    block = new_block()
    chain = [node.chain_node for node in nodes]
    if len(data) <= 256 << 10:
        queues = PutQueues(channels)
        queues.submit(chain, [put_of(block, data)], data, durable=False, write_min=1, map_epoch=0).result()
        queues.close()
        return block
    with ChainSender(channels, block, chain, durable=False, write_min=1, map_epoch=0) as sender:
        sender.append(data)
        sender.seal()
    return block


def spoil(node: Node, block: int, at: int) -> None:
    """Change one byte of a replica behind the node's back."""
    with node.store.open_range(block) as replica:
        target = os.open(f"/proc/self/fd/{replica.fd}", os.O_RDWR)
        try:
            position = replica.file_offset + at
            [byte] = os.pread(target, 1, position)
            os.pwrite(target, bytes([byte ^ 1]), position)
        finally:
            os.close(target)


RANGES = ((0, LARGE_BYTES), (0, 1), (5, 10), (PAGE_BYTES, PAGE_BYTES), (PAGE_BYTES - 1, 2), (12345, 3 << 20))


@pytest.mark.parametrize(("offset", "length"), RANGES)
def test_any_range_of_a_large_block(
    read: Read, channels: Channels, nodes: list[Node], offset: int, length: int
) -> None:
    data = some_bytes(LARGE_BYTES)
    block = write(channels, nodes[:1], data)
    into = bytearray(length)
    read(block, offset, into)
    assert into == data[offset : offset + length]


@pytest.mark.parametrize("length", [1, 4096, PAGE_BYTES + 1])
def test_small_blocks_lie_in_packs_and_read_the_same(
    read: Read, channels: Channels, nodes: list[Node], length: int
) -> None:
    for data in [some_bytes(length) for _ in range(8)]:
        block = write(channels, nodes[:1], data)
        into = bytearray(length)
        read(block, 0, into)
        assert into == data
        tail = bytearray(1)
        read(block, length - 1, tail)
        assert tail == data[-1:]


@pytest.mark.parametrize(
    ("at", "offset", "length"), [(0, 0, LARGE_BYTES), (3 << 20, 0, LARGE_BYTES), (70_000, 70_001, 9)]
)
def test_a_changed_byte_is_found_and_named(
    read: Read, channels: Channels, nodes: list[Node], at: int, offset: int, length: int
) -> None:
    data = some_bytes(LARGE_BYTES)
    block = write(channels, nodes[:1], data)
    spoil(nodes[0], block, at)
    for _ in range(2):
        with pytest.raises(errors.CorruptBlock, match=f"block {block} on node 1") as caught:
            read(block, offset, bytearray(length))
        assert caught.value.subject == str(block)
    elsewhere = bytearray(10)
    read(block, 2 << 20, elsewhere)
    assert elsewhere == data[2 << 20 : (2 << 20) + 10]


def test_what_is_not_there_has_its_error(read: Read, channels: Channels, nodes: list[Node]) -> None:
    with pytest.raises(errors.UnknownBlock):
        read(new_block(), 0, bytearray(1))
    block = write(channels, nodes[:1], b"four")
    for offset, length in ((4, 1), (0, 5), (1 << 31, 1)):
        with pytest.raises(errors.InvalidArgument):
            read(block, offset, bytearray(length))


def test_a_bad_page_spoils_its_own_range_only(channels: Channels, nodes: list[Node]) -> None:
    data = some_bytes(LARGE_BYTES)
    blocks = [write(channels, nodes[:1], data) for _ in range(4)]
    spoil(nodes[0], blocks[1], 5)
    wanted = [Wanted(block, 0, bytearray(len(data))) for block in (*blocks, new_block())]
    outcomes = read_ranges(channels, nodes[0].chain_node, wanted, map_epoch=0)
    assert [type(outcome) for outcome in outcomes] == [
        *(type(None), errors.CorruptBlock, type(None), type(None), errors.UnknownBlock)
    ]
    for index in (0, 2, 3):
        assert wanted[index].into == data


def test_a_corrupt_replica_is_set_aside_when_the_node_is_told(channels: Channels, nodes: list[Node]) -> None:
    block = write(channels, nodes, some_bytes(LARGE_BYTES))
    spoil(nodes[0], block, 9 * PAGE_BYTES)
    stub = channels.stub(nodes[0].chain_node.address)
    found = stub.VerifyBlock(VerifyBlockRequest(block=block, reason="a reader found a bad page"))
    assert (found.good, list(found.bad_pages)) == (False, [9])
    [outcome] = read_ranges(channels, nodes[0].chain_node, [Wanted(block, 0, bytearray(1))], map_epoch=0)
    assert isinstance(outcome, errors.UnknownBlock)
    assert read_ranges(channels, nodes[1].chain_node, [Wanted(block, 0, bytearray(1))], map_epoch=0) == [None]


def test_a_descriptor_outlives_the_block(channels: Channels, nodes: list[Node]) -> None:
    data = some_bytes(LARGE_BYTES)
    block = write(channels, nodes[:1], data)
    local = LocalBlocks(channels, nodes[0].chain_node)
    local.read(block, 0, bytearray(1))
    nodes[0].store.drop([block])
    into = bytearray(len(data))
    local.read(block, 0, into)
    assert into == data
    local.forget(block)
    with pytest.raises(errors.UnknownBlock):
        local.read(block, 0, into)
    local.close()


def test_no_more_descriptors_are_kept_than_allowed(channels: Channels, nodes: list[Node]) -> None:
    blocks = [write(channels, nodes[:1], some_bytes(300_000)) for _ in range(30)]
    local = LocalBlocks(channels, nodes[0].chain_node, limit=5)
    local.read(blocks[0], 0, bytearray(1))
    nodes_own = open_descriptors()
    for block in blocks * 2:
        local.read(block, 0, bytearray(1))
    # the node runs in this process and keeps descriptors of its own, one per block at most
    assert open_descriptors() <= nodes_own + len(blocks) + 5
    local.close()
    wait_until(lambda: open_descriptors() <= nodes_own + len(blocks), "the client's descriptors are closed")


def test_the_permission_is_looked_at_before_the_file_is_given(channels: Channels, nodes: list[Node]) -> None:
    block = write(channels, nodes[:1], some_bytes(300_000))
    local = LocalBlocks(channels, nodes[0].chain_node)
    for token in (BlockToken(block=block + 1, rights=4), BlockToken(block=block, rights=2)):
        with pytest.raises(errors.PermissionDenied):
            local.read(block, 0, bytearray(1), token)
    nodes[0].guard.read_error = errors.StaleEpoch("fetch the map", map_epoch=3)
    with pytest.raises(errors.StaleEpoch):
        local.read(block, 0, bytearray(1))
    nodes[0].guard.read_error = None
    local.read(block, 0, bytearray(1), BlockToken(block=block, rights=4))
    local.close()


def test_readers_of_a_node_that_is_not_there_hear_so(channels: Channels, tmp_path: Path) -> None:
    with running(1, tmp_path) as [node]:
        chain_node = node.chain_node
    with pytest.raises(errors.Unavailable):
        read_ranges(channels, chain_node, [Wanted(1, 0, bytearray(1))], map_epoch=0)
    with pytest.raises(errors.Unavailable):
        LocalBlocks(channels, chain_node).read(1, 0, bytearray(1))
