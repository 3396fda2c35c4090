"""Many ranges at once, by the network and by the short circuit: as each by itself, and every page sent once."""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from blockyard.proto import errors
from blockyard.proto.blocks import (
    PAGE_BYTES,
    ChainSender,
    Channels,
    LocalBlocks,
    PutQueues,
    Wanted,
    page_checksums,
    read_ranges,
)
from blockyard.proto.call import Reply
from blockyard.proto.common_pb2 import Address
from blockyard.proto.lane import ThreadServer
from blockyard.proto.storage_pb2 import (
    BlockRange,
    ChainNode,
    GatheredRuns,
    PageChecksums,
    ReadBlocksReply,
    ReadBlocksRequest,
)
from blockyard.proto.storage_pb2_grpc import StorageStub
from blockyard.storagenode.service import register
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storagenode.service.nodes import Node, new_block, put_of, some_bytes

GATHERED_BYTES = 1 << 20
SMALL = (1, 512, 4_096, 4_096, 4_096, PAGE_BYTES, PAGE_BYTES + 1, 200_000)
LARGE = (300_000, (1 << 20) + 5, 3 * (1 << 20))
World = dict[int, bytes]
ReadMany = Callable[[Sequence[Wanted]], Sequence[errors.BlockyardError | None]]


@pytest.fixture(scope="module")
def world(three: list[Node]) -> World:
    """Blocks of the first node: in packs, and in files of their own."""
    node, blocks = three[0], {}
    with Channels() as channels:
        queues = PutQueues(channels)
        for data in [some_bytes(length) for length in SMALL]:
            blocks[block := new_block()] = data
            put = put_of(block, data)
            queues.submit([node.chain_node], [put], data, durable=False, write_min=1, map_epoch=0).result()
        queues.close()
        for data in [some_bytes(length) for length in LARGE]:
            blocks[block := new_block()] = data
            with ChainSender(channels, block, [node.chain_node], durable=False, write_min=1, map_epoch=0) as sender:
                sender.append(data)
                sender.seal()
    return blocks


@pytest.fixture(params=["network", "short circuit"])
def read_many(request: pytest.FixtureRequest, channels: Channels, nodes: list[Node]) -> Iterator[ReadMany]:
    """Reads ranges from the first node."""
    node = nodes[0].chain_node
    if request.param == "network":
        yield lambda ranges: read_ranges(channels, node, ranges, map_epoch=0)
        return
    local = LocalBlocks(channels, node, limit=2)
    yield local.read_many
    local.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0), count=st.integers(1, 80))
def test_any_mix_of_ranges_is_as_each_by_itself(read_many: ReadMany, world: World, seed: int, count: int) -> None:
    chosen = random.Random(seed)
    gone = new_block()
    wanted = []
    for _ in range(count):
        block = chosen.choice([*world, gone])
        whole = len(world.get(block, b"gone"))
        offset = chosen.choice([0, chosen.randrange(whole), chosen.randrange(whole) // PAGE_BYTES * PAGE_BYTES])
        length = chosen.choice([1, 4_096, PAGE_BYTES, 300_000, whole - offset])
        wanted.append(Wanted(block, offset, memoryview(bytearray(length))))
    outcomes = read_many(wanted)
    assert len(outcomes) == len(wanted)
    for each, outcome in zip(wanted, outcomes, strict=True):
        length = memoryview(each.into).nbytes
        if each.block == gone:
            assert isinstance(outcome, errors.UnknownBlock)
        elif each.offset + length > len(world[each.block]):
            assert isinstance(outcome, errors.InvalidArgument)
        else:
            assert outcome is None
            assert each.into == world[each.block][each.offset : each.offset + length]


def test_no_ranges_have_no_outcomes(read_many: ReadMany) -> None:
    assert list(read_many([])) == []


def test_more_ranges_than_one_request_takes_by_the_short_circuit(
    channels: Channels, nodes: list[Node], world: World
) -> None:
    local = LocalBlocks(channels, nodes[0].chain_node)
    small = [block for block, data in world.items() if len(data) == 4_096]
    wanted = [Wanted(small[at % 3], at, bytearray(5)) for at in range(3_000)]
    assert set(local.read_many(wanted)) == {None}
    assert all(each.into == world[each.block][each.offset : each.offset + 5] for each in wanted)
    local.close()


@pytest.fixture(params=["lane", "grpc"])
def stub(request: pytest.FixtureRequest, channels: Channels, nodes: list[Node]) -> Iterator[Any]:
    address = nodes[0].chain_node.address
    if request.param == "lane":
        yield channels.stub(address)
        return
    with grpc.insecure_channel(f"{address.host}:{address.grpc_port}") as channel:
        yield StorageStub(channel)


def test_pages_that_many_ranges_touch_are_sent_once_and_large_ranges_by_themselves(stub: Any, world: World) -> None:
    large = next(block for block, data in world.items() if len(data) == LARGE[2])
    small = next(block for block, data in world.items() if len(data) == 4_096)
    ranges = [BlockRange(block=large, offset=at * 4096, length=4096) for at in range(40)]
    ranges += [BlockRange(block=small, offset=at, length=1) for at in range(10)]
    ranges += [BlockRange(block=new_block(), length=1), BlockRange(block=large, length=1 << 20)]
    ranges += [BlockRange(block=small, offset=4_096, length=1), BlockRange(block=small, length=4096)]
    first, alone, last = stub.ReadBlocks(ReadBlocksRequest(ranges=ranges, gathered=True), timeout=20)
    assert (first.range, alone.range, last.range) == (0, 51, 52)
    assert list(first.runs.ranges) == [40, 10, 1]
    assert list(first.runs.length) == [3 * PAGE_BYTES, 4_096, 0]
    assert list(first.runs.block_length) == [LARGE[2], 4_096, 0]
    assert first.data == world[large][: 3 * PAGE_BYTES] + world[small]
    assert list(first.runs.crc32c) == page_checksums(world[large])[:3] + page_checksums(world[small])
    assert [type(errors.from_detail(each)) for each in first.runs.errors] == [errors.UnknownBlock]
    assert not alone.HasField("runs")
    assert alone.data == world[large][: 1 << 20]
    assert list(last.runs.length) == [0, 4_096]
    assert [type(errors.from_detail(each)) for each in last.runs.errors] == [errors.InvalidArgument]


def test_no_reply_gathers_more_than_a_mebibyte(stub: Any, world: World) -> None:
    block = next(block for block, data in world.items() if len(data) == LARGE[2])
    ranges = [
        BlockRange(block=block, offset=page * PAGE_BYTES, length=PAGE_BYTES) for page in (*range(0, 48, 2), *range(48))
    ]
    data, seen = [], 0
    for reply in stub.ReadBlocks(ReadBlocksRequest(ranges=ranges, gathered=True), timeout=20):
        assert reply.range == seen
        assert 0 < len(reply.data) <= GATHERED_BYTES
        seen += sum(reply.runs.ranges)
        data.append(reply.data)
    assert b"".join(data) == b"".join(world[block][each.offset : each.offset + PAGE_BYTES] for each in ranges)


def test_a_file_that_is_cut_off_costs_its_ranges_and_is_suspected(
    channels: Channels, nodes: list[Node], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = nodes[0]
    suspected: list[int] = []
    monkeypatch.setattr(node.servicer._reader, "_suspect", suspected.append)
    block, data = new_block(), some_bytes(300_000)
    with ChainSender(channels, block, [node.chain_node], durable=False, write_min=1, map_epoch=0) as sender:
        sender.append(data)
        sender.seal()
    with node.store.open_range(block) as replica, Path(f"/proc/self/fd/{replica.fd}").open("r+b") as file:
        file.truncate(2 * PAGE_BYTES)
    other = next(iter(world))
    offsets = (0, PAGE_BYTES, 2 * PAGE_BYTES - 1, 3 * PAGE_BYTES)
    wanted = [*(Wanted(block, offset, bytearray(2)) for offset in offsets), Wanted(other, 0, bytearray(1))]
    outcomes = read_ranges(channels, node.chain_node, wanted, map_epoch=0)
    assert [type(outcome) for outcome in outcomes] == [
        *(type(None), type(None), errors.CorruptBlock, errors.CorruptBlock, type(None))
    ]
    assert suspected == [block, block]
    assert wanted[1].into == data[PAGE_BYTES : PAGE_BYTES + 2]


# --- nodes that lie ---------------------------------------------------------------------------------------------------

BODY = bytes(range(256)) * 16


def run(first: int, ranges: int = 1, body: bytes = BODY) -> Reply:
    runs = GatheredRuns(
        ranges=[ranges], offset=[0], length=[len(body)], block_length=[len(body)], crc32c=page_checksums(body)
    )
    return Reply(ReadBlocksReply(range=first, runs=runs), body)


def plain(first: int, body: bytes = BODY) -> Reply:
    sums = PageChecksums(crc32c=page_checksums(body))
    return Reply(ReadBlocksReply(range=first, length=len(body), block_length=len(body), checksums=sums), body)


LIES: dict[str, list[Reply | ReadBlocksReply]] = {
    "nothing": [],
    "one of two": [run(0)],
    "the first twice": [run(0), run(0)],
    "the second first": [run(1), run(0)],
    "one that was not asked for": [run(0), run(1), run(2)],
    "more ranges than asked for": [run(0, 3)],
    "more after the last": [run(0, 2), plain(2)],
    "a run and the range again": [run(0), plain(0), run(1)],
    "too much": [run(0, 2, bytes(GATHERED_BYTES + PAGE_BYTES))],
    "no bytes": [run(0), ReadBlocksReply(range=1)],
    "runs without bytes": [ReadBlocksReply(range=0, runs=run(0, 2).message.runs)],
    "bytes of an empty run": [Reply(ReadBlocksReply(range=0, runs=GatheredRuns()), BODY)],
    "a shorter range": [plain(0, BODY[:-1]), run(1)],
}


class Liar:
    """Answers ReadBlocks with what it is told to."""

    def __init__(self) -> None:
        self.replies: list[Reply | ReadBlocksReply] = []

    def ReadBlocks(self, request: ReadBlocksRequest, context: Any) -> Iterator[Any]:
        assert request.gathered
        yield from self.replies

    def __getattr__(self, method: str) -> Any:
        return self.ReadBlocks  # generated code wants every method of the service


@pytest.fixture(scope="module")
def liar() -> Iterator[tuple[Liar, ChainNode]]:
    servicer, server = Liar(), ThreadServer()
    register(servicer, server)  # type: ignore[arg-type]
    port = int(server.listen("127.0.0.1:0").rpartition(":")[2])
    yield servicer, ChainNode(node=8, address=Address(host="127.0.0.1", lane_port=port))
    server.stop(0)


@pytest.mark.parametrize("lie", LIES)
def test_a_reply_that_does_not_fit_is_refused(channels: Channels, liar: tuple[Liar, ChainNode], lie: str) -> None:
    liar[0].replies = LIES[lie]
    wanted = [Wanted(5, 0, bytearray(len(BODY))), Wanted(5, 0, bytearray(len(BODY)))]
    with pytest.raises(errors.MalformedReply, match="node 8"):
        read_ranges(channels, liar[1], wanted, map_epoch=0)


@pytest.mark.parametrize("replies", [[run(0, 2)], [run(0), run(1)], [plain(0), plain(1)], [plain(0), run(1)]])
def test_however_a_node_cuts_its_replies_the_bytes_are_there(
    channels: Channels, liar: tuple[Liar, ChainNode], replies: list[Reply]
) -> None:
    """Also a node of before this, which gathers nothing."""
    liar[0].replies = list(replies)
    wanted = [Wanted(5, 0, bytearray(len(BODY))), Wanted(5, 0, bytearray(len(BODY)))]
    assert read_ranges(channels, liar[1], wanted, map_epoch=0) == [None, None]
    assert [each.into for each in wanted] == [BODY, BODY]


def test_readers_side_by_side_do_not_share_a_buffer(channels: Channels, nodes: list[Node], world: World) -> None:
    small = [block for block, data in world.items() if len(data) <= 4_096]
    start = threading.Barrier(6)

    def work(seed: int) -> bool:
        chosen, good = random.Random(seed), True
        start.wait()
        for _ in range(20):
            wanted = [Wanted(block, 0, bytearray(len(world[block]))) for block in chosen.choices(small, k=100)]
            outcomes = read_ranges(channels, nodes[0].chain_node, wanted, map_epoch=0)
            good &= set(outcomes) == {None} and all(each.into == world[each.block] for each in wanted)
        return good

    with futures.ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
