"""One suite for the lane and for gRPC: what a node does with a request does not depend on the way it came."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from blockyard.proto import door, errors, lane
from blockyard.proto.blocks import PAGE_BYTES, Channels, page_checksums
from blockyard.proto.common_pb2 import Empty
from blockyard.proto.storage_pb2 import (
    BlockRange,
    BlockToken,
    ChainNode,
    ListBlocksRequest,
    NodeInfoRequest,
    OpenBlockRequest,
    PutBlocksReply,
    PutBlocksRequest,
    ReadBlocksReply,
    ReadBlocksRequest,
    VerifyBlockRequest,
    WriteBlockReply,
    WriteBlockRequest,
)

from tests.proto.lane.peers import wait_until
from tests.storagenode.service.nodes import (
    Node,
    Step,
    appending,
    new_block,
    opening,
    pieces_of,
    put_of,
    read_back,
    sealing,
    some_bytes,
    stub_over,
)

TIMEOUT_S = 20.0


class LaneClient:
    """Calls a node over the lane: payload beside messages."""

    def __init__(self, node: Node) -> None:
        address = node.chain_node.address
        self.channel = lane.Channel(f"{address.host}:{address.lane_port}", timeout_s=TIMEOUT_S)
        self.stub = stub_over(self.channel)

    def write(self, steps: Sequence[Step]) -> list[WriteBlockReply]:
        with self.stub.WriteBlock() as stream:
            for step, data in steps:
                stream.send(step, data or None)
            stream.done_sending()
            return list(stream)

    def put(self, request: PutBlocksRequest, data: bytes) -> PutBlocksReply:
        reply: PutBlocksReply = self.stub.PutBlocks(request, payload=data)
        return reply

    def read(self, request: ReadBlocksRequest) -> Iterator[ReadBlocksReply]:
        yield from self.stub.ReadBlocks(request)


class DoorClient:
    """Calls it over gRPC: payload in messages."""

    def __init__(self, node: Node) -> None:
        address = node.chain_node.address
        self.channel = door.Channel(f"{address.host}:{address.grpc_port}", retry=door.NO_RETRY)
        self.stub = stub_over(self.channel)

    def write(self, steps: Sequence[Step]) -> list[WriteBlockReply]:
        def requests() -> Iterator[WriteBlockRequest]:
            for step, data in steps:
                request = WriteBlockRequest()
                request.CopyFrom(step)
                request.data = data
                yield request

        return list(self.stub.WriteBlock(requests(), timeout=TIMEOUT_S))

    def put(self, request: PutBlocksRequest, data: bytes) -> PutBlocksReply:
        request.data = data
        reply: PutBlocksReply = self.stub.PutBlocks(request, timeout=TIMEOUT_S)
        return reply

    def read(self, request: ReadBlocksRequest) -> Iterator[ReadBlocksReply]:
        yield from self.stub.ReadBlocks(request, timeout=TIMEOUT_S)


Client = LaneClient | DoorClient


@pytest.fixture(params=[LaneClient, DoorClient], ids=["lane", "grpc"])
def client(request: pytest.FixtureRequest, nodes: list[Node]) -> Iterator[Any]:
    made = request.param(nodes[0])
    yield made
    made.channel.close()


def chain_of(nodes: list[Node]) -> list[ChainNode]:
    return [node.chain_node for node in nodes]


def demand_nowhere(nodes: list[Node], block: int) -> None:
    """Nothing of the block is on any node, sealed or open: it can be written anew."""
    for node in nodes:
        with pytest.raises(errors.UnknownBlock):
            node.store.find(block)
        node.store.begin(block).abort()


# --- what works ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, PAGE_BYTES - 1, PAGE_BYTES, PAGE_BYTES + 1, 300_000, 3_000_000])
def test_a_block_that_was_written_is_whole_on_every_node(
    client: Client, nodes: list[Node], channels: Channels, length: int
) -> None:
    block, data = new_block(), some_bytes(length)
    replies = client.write([opening(block, chain_of(nodes), write_min=3), *pieces_of(data), sealing(data)])
    assert replies[0].received == 0
    assert replies[-1].sealed
    assert list(replies[-1].nodes) == [1, 2, 3]
    assert [reply.sealed for reply in replies[:-1]] == [False] * (len(replies) - 1)
    for node in nodes:
        assert read_back(channels, node.chain_node, block, length) == data


def test_small_blocks_are_on_every_node(client: Client, nodes: list[Node], channels: Channels) -> None:
    blocks = {new_block(): some_bytes(length) for length in (1, 100, 4096, PAGE_BYTES, PAGE_BYTES + 7)}
    request = PutBlocksRequest(
        blocks=[put_of(*each) for each in blocks.items()], chain=chain_of(nodes), durable=True, write_min=3
    )
    for _ in range(2):  # a retry is as good as the first
        reply = client.put(request, b"".join(blocks.values()))
        assert list(reply.nodes) == [1, 2, 3]
    for node in nodes:
        for block, data in blocks.items():
            assert read_back(channels, node.chain_node, block, len(data)) == data


def test_ranges_are_widened_to_pages_and_fail_by_themselves(client: Client, nodes: list[Node]) -> None:
    block, data = new_block(), some_bytes(5 * PAGE_BYTES + 100)
    client.write([opening(block, chain_of(nodes)), *pieces_of(data), sealing(data)])
    ranges = [
        BlockRange(block=block, offset=PAGE_BYTES + 5, length=10),
        BlockRange(block=new_block(), offset=0, length=1),
        BlockRange(block=block, offset=5 * PAGE_BYTES, length=101),
        BlockRange(block=block, offset=0, length=0),
        BlockRange(block=block, offset=3 * PAGE_BYTES, length=2 * PAGE_BYTES + 100),
    ]
    answers: dict[int, ReadBlocksReply] = {}
    for reply in client.read(ReadBlocksRequest(ranges=ranges, cold=True)):
        if reply.range in answers:
            assert len(reply.data) <= 1 << 20
            answers[reply.range].data += reply.data
        else:
            answers[reply.range] = reply
    assert [answers[index].error.kind for index in (1, 2, 3)] == ["UnknownBlock", "InvalidArgument", "InvalidArgument"]
    for index, first, last in ((0, 1, 2), (4, 3, 6)):
        answer = answers[index]
        expected = data[first * PAGE_BYTES : last * PAGE_BYTES]
        assert (answer.offset, answer.length, answer.block_length) == (first * PAGE_BYTES, len(expected), len(data))
        assert answer.data == expected
        assert list(answer.checksums.crc32c) == page_checksums(expected)


def test_a_long_range_comes_whole(client: Client, nodes: list[Node]) -> None:
    block, data = new_block(), some_bytes(5 << 20)
    client.write([opening(block, chain_of(nodes[:1])), *pieces_of(data, 1 << 20), sealing(data)])
    whole = ReadBlocksRequest(ranges=[BlockRange(block=block, offset=0, length=len(data))])
    assert b"".join(reply.data for reply in client.read(whole)) == data


def test_blocks_are_listed_in_order_page_by_page(client: Client, nodes: list[Node]) -> None:
    blocks = {(77 << 48) + new_block() % (1 << 48): some_bytes(9) for _ in range(5)}
    client.put(
        PutBlocksRequest(blocks=[put_of(*each) for each in blocks.items()], chain=chain_of(nodes[:1]), write_min=1),
        b"".join(blocks.values()),
    )
    mine = sorted(blocks)
    first = client.stub.ListBlocks(ListBlocksRequest(group=77, after=mine[0] - 1, limit=3), timeout=TIMEOUT_S)
    assert (list(first.blocks), list(first.lengths), first.end) == (mine[:3], [9] * 3, False)
    rest = client.stub.ListBlocks(ListBlocksRequest(group=77, after=mine[2], limit=3), timeout=TIMEOUT_S)
    assert (list(rest.blocks), rest.end) == (mine[3:], True)


def test_a_replica_is_verified_and_the_node_says_how_it_is(client: Client, nodes: list[Node]) -> None:
    block, data = new_block(), some_bytes(200_000)
    client.write([opening(block, chain_of(nodes)), *pieces_of(data), sealing(data)])
    found = client.stub.VerifyBlock(VerifyBlockRequest(block=block), timeout=TIMEOUT_S)
    assert (found.good, found.length, list(found.bad_pages)) == (True, len(data), [])
    info = client.stub.NodeInfo(NodeInfoRequest(), timeout=TIMEOUT_S)
    assert info.node == 1
    assert info.blocks > 0


def test_an_aborted_block_disappears_from_every_node(client: Client, nodes: list[Node]) -> None:
    block, data = new_block(), some_bytes(3 * PAGE_BYTES)
    aborting = (WriteBlockRequest(abort=Empty()), b"")
    for steps in (pieces_of(data), [*pieces_of(data), sealing(data)]):
        client.write([opening(block, chain_of(nodes)), *steps, aborting])
        demand_soon_nowhere(nodes, block)


def demand_soon_nowhere(nodes: list[Node], block: int) -> None:
    """The same, once the nodes behind the first have heard of it, and what was left open has had its time."""

    def is_gone() -> bool:
        for node in nodes:
            node.servicer.writes.sweep(node.servicer.writes.clock() + 1000)
        try:
            demand_nowhere(nodes, block)
        except (AssertionError, errors.Exists, pytest.fail.Exception):
            return False
        return True

    wait_until(is_gone, f"block {block} is nowhere")


# --- what is refused -------------------------------------------------------------------------------------------------

GOOD = some_bytes(3 * PAGE_BYTES + 9)
SUMS = page_checksums(GOOD)
BAD_WRITES: dict[str, tuple[list[Step], type[errors.BlockyardError]]] = {
    "no open": ([appending(0, GOOD)], errors.InvalidArgument),
    "seal of nothing": ([sealing(b"")], errors.InvalidArgument),
    "shorter seal": ([appending(0, GOOD), sealing(GOOD, length=len(GOOD) - 1)], errors.InvalidArgument),
    "longer seal": ([appending(0, GOOD), sealing(GOOD, length=len(GOOD) + 1)], errors.InvalidArgument),
    "another block's seal": ([appending(0, GOOD), sealing(GOOD, crc32c=1)], errors.CorruptBlock),
    "gap": (
        [appending(0, GOOD[:PAGE_BYTES]), appending(2 * PAGE_BYTES, GOOD[2 * PAGE_BYTES :])],
        errors.InvalidArgument,
    ),
    "bad page": ([appending(0, GOOD, [SUMS[0], 1, *SUMS[2:]])], errors.CorruptBlock),
    "too few checksums": ([appending(0, GOOD, SUMS[:2])], errors.InvalidArgument),
    "too many checksums": ([appending(0, GOOD, [*SUMS, 1])], errors.InvalidArgument),
    "last page unchecked": ([appending(0, GOOD, SUMS[:3]), sealing(GOOD)], errors.InvalidArgument),
    "empty piece": ([appending(0, b"")], errors.InvalidArgument),
    "no step": ([(WriteBlockRequest(), b"")], errors.InvalidArgument),
    "second open": ([appending(0, GOOD), opening(1, [])], errors.InvalidArgument),
    "more after the seal": ([appending(0, GOOD), sealing(GOOD), sealing(GOOD)], errors.InvalidArgument),
}


@pytest.mark.parametrize("what", BAD_WRITES)
def test_a_write_that_is_wrong_gets_its_error_and_leaves_nothing(client: Client, nodes: list[Node], what: str) -> None:
    block = new_block()
    steps, expected = BAD_WRITES[what]
    first = [] if what == "no open" else [opening(block, chain_of(nodes))]
    with pytest.raises(expected):
        client.write([*first, *steps])
    demand_soon_nowhere(nodes, block)


def bad_openings(nodes: list[Node], block: int) -> dict[str, tuple[Step, type[errors.BlockyardError]]]:
    chain = chain_of(nodes)
    foreign = BlockToken(block=block + 1, rights=2)
    weak = BlockToken(block=block, rights=4)
    over = BlockToken(block=block, rights=2, expires_ns=1)
    return {
        "no chain": (opening(block, []), errors.InvalidArgument),
        "a node twice": (opening(block, [chain[0], chain[1], chain[0]]), errors.InvalidArgument),
        "another node's chain": (opening(block, chain[1:]), errors.UnknownNode),
        "no minimum": (opening(block, chain, write_min=0), errors.InvalidArgument),
        "a minimum above the chain": (opening(block, chain, write_min=4), errors.InvalidArgument),
        "no block": (opening(0, chain), errors.InvalidArgument),
        "too long": (opening(block, chain, expected_bytes=(64 << 20) + 1), errors.InvalidArgument),
        "another block's token": (opening(block, chain, token=foreign), errors.PermissionDenied),
        "a reader's token": (opening(block, chain, token=weak), errors.PermissionDenied),
        "a token that is over": (opening(block, chain, token=over), errors.PermissionDenied),
    }


def test_a_chain_that_is_wrong_gets_its_error_and_leaves_nothing(client: Client, nodes: list[Node]) -> None:
    block = new_block()
    for step, expected in bad_openings(nodes, block).values():
        with pytest.raises(expected):
            client.write([step, appending(0, GOOD), sealing(GOOD)])
        demand_nowhere(nodes, block)


@pytest.mark.parametrize("node", [0, 2])
def test_a_node_with_a_newer_map_refuses_a_write_wherever_it_stands(
    client: Client, nodes: list[Node], node: int
) -> None:
    block = new_block()
    nodes[node].guard.write_error = errors.StaleEpoch("fetch epoch 9", map_epoch=9)
    with pytest.raises(errors.StaleEpoch) as caught:
        client.write([opening(block, chain_of(nodes)), *pieces_of(GOOD), sealing(GOOD)])
    assert caught.value.map_epoch == 9
    with pytest.raises(errors.StaleEpoch):
        client.put(PutBlocksRequest(blocks=[put_of(block, GOOD)], chain=chain_of(nodes), write_min=1), GOOD)
    demand_soon_nowhere(nodes[node:], block)


def test_a_sealed_block_is_never_written_again(client: Client, nodes: list[Node], channels: Channels) -> None:
    block = new_block()
    client.write([opening(block, chain_of(nodes)), appending(0, GOOD), sealing(GOOD)])
    other = some_bytes(len(GOOD))
    with pytest.raises(errors.Exists):
        client.write([opening(block, chain_of(nodes)), appending(0, other), sealing(other)])
    with pytest.raises(errors.Exists):
        client.put(PutBlocksRequest(blocks=[put_of(block, other)], chain=chain_of(nodes), write_min=1), other)
    assert read_back(channels, nodes[0].chain_node, block, len(GOOD)) == GOOD


def bad_puts(nodes: list[Node], block: int) -> dict[str, tuple[PutBlocksRequest, bytes, type[errors.BlockyardError]]]:
    chain, one = chain_of(nodes), put_of(block, GOOD)

    def request(**fields: Any) -> PutBlocksRequest:
        return PutBlocksRequest(**{"blocks": [one], "chain": chain, "write_min": 1, **fields})

    wrong = put_of(block, GOOD)
    wrong.checksums.crc32c[1] ^= 1
    fewer = put_of(block, GOOD)
    del fewer.checksums.crc32c[-1]
    pages = put_of(block, GOOD)
    pages.checksums.page_bytes = 4096
    return {
        "nothing": (request(blocks=[]), b"", errors.InvalidArgument),
        "no bytes": (request(), b"", errors.InvalidArgument),
        "too few bytes": (request(), GOOD[:-1], errors.InvalidArgument),
        "too many bytes": (request(), GOOD + b"x", errors.InvalidArgument),
        "a bad page": (request(blocks=[wrong]), GOOD, errors.CorruptBlock),
        "a checksum less": (request(blocks=[fewer]), GOOD, errors.InvalidArgument),
        "other pages": (request(blocks=[pages]), GOOD, errors.InvalidArgument),
        "twice the same": (request(blocks=[one, one]), GOOD + GOOD, errors.InvalidArgument),
        "a node twice": (request(chain=[chain[0], chain[0]]), GOOD, errors.InvalidArgument),
        "another node's chain": (request(chain=chain[1:]), GOOD, errors.UnknownNode),
        "a minimum above the chain": (request(write_min=4), GOOD, errors.InvalidArgument),
        "tokens of others": (request(tokens=[BlockToken(block=1, rights=2)]), GOOD, errors.PermissionDenied),
        "tokens too many": (request(tokens=[BlockToken()] * 2), GOOD, errors.PermissionDenied),
    }


def test_a_put_that_is_wrong_gets_its_error_and_leaves_nothing(client: Client, nodes: list[Node]) -> None:
    block = new_block()
    for request, data, expected in bad_puts(nodes, block).values():
        with pytest.raises(expected):
            client.put(request, data)
        demand_nowhere(nodes, block)


def test_a_read_that_is_wrong_gets_its_error(client: Client, nodes: list[Node]) -> None:
    one = BlockRange(block=1, offset=0, length=1)
    for ranges, tokens, expected in (
        ([], [], errors.InvalidArgument),
        ([one] * 1025, [], errors.InvalidArgument),
        ([BlockRange(block=1, length=1 << 31)], [], errors.InvalidArgument),
        ([one], [BlockToken(block=2, rights=4)], errors.PermissionDenied),
        ([one], [BlockToken(block=1, rights=2)], errors.PermissionDenied),
    ):
        with pytest.raises(expected):
            list(client.read(ReadBlocksRequest(ranges=ranges, tokens=tokens)))


def test_a_descriptor_is_not_passed_over_the_network(client: Client, nodes: list[Node]) -> None:
    with pytest.raises(errors.NotSupported, match="Unix socket"):
        client.stub.OpenBlock(OpenBlockRequest(block=1), timeout=TIMEOUT_S)


def test_lists_and_unknown_blocks_have_their_errors(client: Client, nodes: list[Node]) -> None:
    for request in (
        ListBlocksRequest(group=1 << 16, limit=1),
        ListBlocksRequest(limit=0),
        ListBlocksRequest(limit=100_001),
    ):
        with pytest.raises(errors.InvalidArgument):
            client.stub.ListBlocks(request, timeout=TIMEOUT_S)
    with pytest.raises(errors.UnknownBlock):
        client.stub.VerifyBlock(VerifyBlockRequest(block=new_block()), timeout=TIMEOUT_S)
