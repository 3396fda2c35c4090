"""CompactChunk against real stores and servers: what is read, from whom, and what is left behind when it fails."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from blockyard.proto import cluster_pb2 as pb
from blockyard.proto.blocks import PAGE_BYTES, Channels, page_checksums
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.errors import BelowWriteMin, Busy, Cancelled, UnknownBlock
from blockyard.proto.storage_pb2 import CompactChunkReply, CompactChunkRequest, CompactSlice
from blockyard.storagenode.node.known_map import KnownMap
from blockyard.storagenode.store import NewBlock
from blockyard.storagenode.upkeep import compaction
from blockyard.storagenode.upkeep.compaction import Compactor
from crc32c import crc32c

from tests.storagenode.service.nodes import Node, new_block, read_back, running, some_bytes

PAGES = 3 * PAGE_BYTES


@dataclass
class Unhurried:
    """A throttle that lets everything through, and notes it."""

    waits: list[int] = field(default_factory=list)
    error: Exception | None = None

    def wait(self, amount: int) -> None:
        if self.error is not None:
            raise self.error
        self.waits.append(amount)


@dataclass
class Fates:
    """The metadata group's answers."""

    dead: set[int] = field(default_factory=set)
    silent: bool = False

    def ask(self, blocks: Sequence[int]) -> Sequence[pb.BlockFate] | None:
        if self.silent:
            return None
        return [pb.BLOCK_DEAD if block in self.dead else pb.BLOCK_LIVE for block in blocks]


class Bench:
    """Three nodes; the first rewrites."""

    def __init__(self, nodes: list[Node], channels: Channels) -> None:
        self.nodes = nodes
        self.throttle, self.fates = Unhurried(), Fates()
        self.known = KnownMap(ClusterView(map_of(nodes, epoch=4, up=3)), lambda epoch, timeout_s: None)
        self.compactor = Compactor(nodes[0].store, 1, self.known, channels, self.throttle, self.fates.ask)
        self.channels = channels
        self.position = 0
        self.slices: list[CompactSlice] = []
        self.expected = b""
        self.block = new_block()

    def add(self, data: bytes, *holders: Node, offset: int = 0, length: int = 0, gap: int = 0) -> int:
        """Store a block on some nodes, and let the chunk show a range of it."""
        block = new_block()
        for node in holders:
            store(node, block, data)
        length = length or len(data) - offset
        self.position += gap
        self.slices.append(CompactSlice(position=self.position, length=length, block=block, block_offset=offset))
        self.position += length
        self.expected += data[offset : offset + length]
        return block

    def compact(self) -> CompactChunkReply:
        request = CompactChunkRequest(inode=2, chunk=0, slices=self.slices, blocks=[self.block], map_epoch=4)
        return self.compactor.compact(request)

    def assert_written(self) -> None:
        for node in self.nodes:
            assert read_back(self.channels, node.chain_node, self.block, len(self.expected)) == self.expected

    def assert_nothing_written(self) -> None:
        for node in self.nodes:
            with pytest.raises(UnknownBlock):
                node.store.find(self.block)


def map_of(nodes: Sequence[Node], epoch: int, up: int) -> pb.ClusterMap:
    """Return a map in which every node holds every group, and the first `up` are up."""
    return pb.ClusterMap(
        epoch=epoch,
        replicas=3,
        write_min=2,
        nodes=[
            pb.NodeRecord(
                id=node.number,
                address=node.chain_node.address,
                state=pb.NODE_UP if number < up else pb.NODE_DOWN,
                zone="z",
            )
            for number, node in enumerate(nodes)
        ],
        groups=[pb.PlacementGroupRecord(nodes=[node.number for node in nodes]) for _ in range(8)],
    )


def store(node: Node, block: int, data: bytes) -> None:
    """Put a sealed block into a node's store."""
    if len(data) < 256 << 10:
        node.store.put([NewBlock(block, len(data), page_checksums(data))], memoryview(data), durable=False)
        return
    opened = node.store.begin(block, len(data))
    opened.append(memoryview(data), page_checksums(data))
    opened.seal(len(data), crc32c(data), durable=False)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with running(3, tmp_path_factory.mktemp("nodes")) as nodes:
        yield nodes


@pytest.fixture
def bench(three: list[Node]) -> Iterator[Bench]:
    with Channels() as channels:
        yield Bench(three, channels)


def test_visible_ranges_of_many_blocks_become_one_block_on_every_node(bench: Bench) -> None:
    here, there, beyond = bench.nodes
    for _ in range(20):
        bench.add(some_bytes(4_096), here, there, beyond)
        bench.add(some_bytes(PAGES), here, there, beyond, offset=70_001, length=66_000)
    bench.add(some_bytes(9_000_000), here, there, beyond, offset=1, gap=100)
    reply = bench.compact()
    assert [(each.position, each.block, each.block_offset) for each in reply.slices] == [
        (0, bench.block, 0),
        (bench.slices[-1].position, bench.block, bench.slices[-1].position - 100),
    ]
    assert sum(each.length for each in reply.slices) == len(bench.expected)
    bench.assert_written()
    assert sum(bench.throttle.waits) == len(bench.expected) == bench.compactor.written_bytes


def test_what_is_not_here_is_read_from_other_holders(bench: Bench) -> None:
    here, there, beyond = bench.nodes
    for number in range(30):
        bench.add(some_bytes(5_000 + number), *((here,), (there,), (beyond,))[number % 3])
    bench.compact()
    bench.assert_written()


def test_a_corrupt_replica_is_quarantined_and_another_read(bench: Bench) -> None:
    here, there, _ = bench.nodes
    block = bench.add(some_bytes(1 << 20), here, there, offset=100_000)
    flip(here, block, 200_000)
    bench.compact()
    bench.assert_written()
    assert [found for found, _ in here.store.quarantined()] == [block]


def test_a_block_that_nobody_has_fails_the_rewriting_and_leaves_nothing(bench: Bench) -> None:
    bench.add(some_bytes(10_000), *bench.nodes)
    bench.add(some_bytes(10_000))
    with pytest.raises(UnknownBlock):
        bench.compact()
    bench.assert_nothing_written()
    bench.fates.silent = True
    with pytest.raises(UnknownBlock):
        bench.compact()
    bench.assert_nothing_written()


def test_a_block_that_died_meanwhile_is_left_out(bench: Bench) -> None:
    first, second = some_bytes(10_000), some_bytes(20_000)
    bench.add(first, *bench.nodes)
    bench.fates.dead.add(bench.add(some_bytes(10_000)))
    bench.add(second, *bench.nodes)
    bench.compact()
    bench.expected = first + bytes(10_000) + second
    bench.assert_written()


def test_a_corrupt_only_copy_fails_the_rewriting(bench: Bench) -> None:
    here = bench.nodes[0]
    block = bench.add(some_bytes(1 << 20), here)
    flip(here, block, 500_000)
    with pytest.raises(UnknownBlock):
        bench.compact()
    bench.assert_nothing_written()


def test_too_few_nodes_for_the_new_block_fail_the_rewriting(bench: Bench) -> None:
    bench.add(some_bytes(10_000), *bench.nodes)
    bench.known.offer(map_of(bench.nodes, epoch=5, up=1))
    with pytest.raises(BelowWriteMin):
        bench.compact()
    bench.assert_nothing_written()


def test_a_node_that_ends_stops_in_the_middle(bench: Bench) -> None:
    bench.add(some_bytes(10_000), *bench.nodes)
    bench.throttle.error = Cancelled("the node is shutting down")
    with pytest.raises(Cancelled):
        bench.compact()
    bench.assert_nothing_written()


def test_more_jobs_than_the_node_wants_are_sent_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.add(some_bytes(10_000), *bench.nodes)
    refused: list[Exception] = []

    class Nested:
        """While a job waits, others come."""

        depth = 0

        def wait(self, amount: int) -> None:
            self.depth += 1
            if self.depth <= compaction.JOBS_MAX:
                bench.block = new_block()
                try:
                    bench.compact()
                except Busy as error:
                    refused.append(error)

    monkeypatch.setattr(bench.compactor, "_throttle", Nested())
    bench.compact()
    assert len(refused) == 1


def flip(node: Node, block: int, offset: int) -> None:
    """Change one byte of a replica on the disk."""
    with node.store.open_range(block) as replica:
        path = f"/proc/self/fd/{replica.fd}"
        with open(path, "r+b", buffering=0) as file:
            place = replica.file_offset + offset
            byte = os.pread(file.fileno(), 1, place)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 1]), place)
