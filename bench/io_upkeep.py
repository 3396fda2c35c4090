"""Repair and scrub: how fast repair copies, beside a bare copy loop, and what both cost a reader of the same node.

Two nodes have blocks; a third, empty, gets them with the real repair over the real service, once as fast as it goes,
and once at the rate that is allowed by default while a client reads other blocks of it at random. No cluster is around:
the map is given, and nothing needs to be asked of a metadata group.
"""

import os
import random
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from blockyard.proto.blocks import ChainSender, Channels, Wanted, read_ranges
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import NODE_UP, ClusterMap, NodeRecord, PlacementGroupRecord
from blockyard.proto.common_pb2 import Address
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.proto.lane import ThreadServer
from blockyard.proto.storage_pb2 import ChainNode
from blockyard.storagenode.node.known_map import KnownMap
from blockyard.storagenode.service import StorageServicer, register
from blockyard.storagenode.store import BlockStore, StoreSettings
from blockyard.storagenode.upkeep.dropped import Dropped
from blockyard.storagenode.upkeep.examiner import Examiner
from blockyard.storagenode.upkeep.peers import Peers
from blockyard.storagenode.upkeep.puller import Puller, Throttle
from blockyard.storagenode.upkeep.repair import Repair
from blockyard.storagenode.upkeep.scrubber import Scrubber

from bench import floor_io
from bench.floor_io import BLOCK_BYTES
from bench.process import serving
from bench.report import Row, row
from bench.storage_nodes import STILL, AnyMap, storage_nodes

DEFAULT_RATE = 200 << 20
REPAIRED, READ = 0, 1
"""Placement groups: the blocks that are repaired, and those that the client reads."""
SMALLEST_BYTES, LARGEST_BYTES = 64 << 10, 1 << 20
P99_TARGET = 0.5  # at most twice as long


def rows(directory: Path, quick: bool) -> list[Row]:
    """Measure; some 20 seconds when quick, a minute and a half otherwise."""
    blocks, seconds = (6, 2.0) if quick else (16, 6.0)
    rounds = 1 if quick else 3
    directory.mkdir()
    with storage_nodes(2, directory / "sources") as sources, Channels() as channels:
        chain = [node.chain_node for node in sources]
        for sequence in range(1, blocks + 1):
            _write(channels, chain, REPAIRED << SEQUENCE_BITS | sequence)
        bare = directory / "bare-source"
        bare.write_bytes(os.urandom(BLOCK_BYTES))
        figures: dict[str, list[float]] = {}
        with serving(partial(floor_io.serve_file, path=str(bare))) as address:
            for number in range(rounds):
                place = directory / f"round{number}"
                figures.setdefault("bare", []).append(blocks / _bare_copy(address, blocks, directory / "bare"))
                with _node(place / "fast") as node:
                    figures.setdefault("repair", []).append(blocks / node.repair(chain, 0))
                with _node(place / "slow") as node:
                    reader = _Reader(channels, node.chain_node)
                    figures.setdefault("alone", []).append(reader.p99(_for(seconds)))
                    with node.repairing(chain, DEFAULT_RATE) as done:
                        figures.setdefault("beside repair", []).append(reader.p99(done))
                    with node.scrubbing(DEFAULT_RATE):
                        figures.setdefault("beside scrub", []).append(reader.p99(_for(seconds)))
    return _rows({name: statistics.median(values) for name, values in figures.items()})


def _rows(medians: dict[str, float]) -> list[Row]:
    gigabytes = BLOCK_BYTES / 1e9
    rate = f"{DEFAULT_RATE >> 20} MiB/s"
    alone = 1000 * medians["alone"]
    found = [
        row("bare copy: recv_into, pwrite, fdatasync per block", medians["bare"] * gigabytes, "GB/s"),
        row("repair, 64 MiB blocks", medians["repair"] * gigabytes, "GB/s", medians["bare"] * gigabytes, 0.5),
        row("p99 of random reads, 64 KiB to 1 MiB", alone, "ms"),
    ]
    for what in ("repair", "scrub"):
        value = 1000 * medians[f"beside {what}"]
        found.append(row(f"the same beside {what} at {rate}", value, "ms", alone, P99_TARGET, less_is_better=True))
    return found


class _Reader:
    """Reads ranges of random lengths at random places of a node's blocks, one after the other."""

    def __init__(self, channels: Channels, node: ChainNode) -> None:
        self._channels = channels
        self._node = node
        self._random = random.Random(1)
        self._buffer = memoryview(bytearray(LARGEST_BYTES))
        self._blocks = [READ << SEQUENCE_BITS | sequence for sequence in (1, 2)]
        for block in self._blocks:
            _write(channels, [node], block)

    def p99(self, done: Callable[[], bool]) -> float:
        """Read until `done`; return the time in seconds that one of a hundred reads exceeds."""
        times: list[float] = []
        while not done() or len(times) < 100:
            length = self._random.randint(SMALLEST_BYTES, LARGEST_BYTES)
            offset = self._random.randrange(BLOCK_BYTES - length)
            wanted = [Wanted(self._random.choice(self._blocks), offset, self._buffer[:length])]
            started = time.perf_counter()
            [error] = read_ranges(self._channels, self._node, wanted, map_epoch=1)
            times.append(time.perf_counter() - started)
            if error is not None:
                raise error
        return statistics.quantiles(times, n=100)[98]


class _Node:
    """A node that repairs and scrubs, in a process of its own."""

    def __init__(self, directory: Path) -> None:
        context = get_context("spawn")
        self._control, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, str(directory)), daemon=True)
        self._process.start()
        port: int = self._control.recv()
        self.chain_node = ChainNode(node=3, address=Address(host="127.0.0.1", lane_port=port))

    def repair(self, sources: Sequence[ChainNode], rate: int) -> float:
        """Fetch all that the sources have; return the seconds it took."""
        self._control.send(("repair", _map([*sources, self.chain_node]), rate))
        seconds: float = self._control.recv()
        return seconds

    @contextmanager
    def repairing(self, sources: Sequence[ChainNode], rate: int) -> Iterator[Callable[[], bool]]:
        """Do so beside what the caller does; yield whether it is over."""
        self._control.send(("repair", _map([*sources, self.chain_node]), rate))
        yield self._control.poll
        self._control.recv()

    @contextmanager
    def scrubbing(self, rate: int) -> Iterator[None]:
        """Read all blocks over and over beside what the caller does."""
        self._control.send(("scrub", b"", rate))
        yield
        self._control.send(("stop", b"", 0))

    def end(self) -> None:
        self._process.kill()
        self._process.join()


@contextmanager
def _node(directory: Path) -> Iterator[_Node]:
    node = _Node(directory)
    try:
        yield node
    finally:
        node.end()


def _serve(control: Connection, directory: str) -> None:
    path = Path(directory) / "store"
    path.mkdir(parents=True)
    store = BlockStore(path, StoreSettings())
    store.open()
    server = ThreadServer()
    register(StorageServicer(store, 3, AnyMap(), patience=STILL), server)
    control.send(int(server.listen("127.0.0.1:0").rpartition(":")[2]))
    stopping = threading.Event()
    while True:
        what, argument, rate = control.recv()
        match what:
            case "repair":
                control.send(_repair(store, argument, rate))
            case "scrub":
                scrubber = Scrubber(store, Examiner(store, lambda group: None), stopping, 0.1, rate)
                scrubber.start()
                scrubber.begin_pass()
            case "stop":
                stopping.set()


def _repair(store: BlockStore, message: bytes, rate: int) -> float:
    known = KnownMap(ClusterView(ClusterMap.FromString(message)), lambda epoch, timeout_s: None)
    stopping, dropped, channels = threading.Event(), Dropped(), Channels()
    peers = Peers(channels, known, 3)
    puller = Puller(store, peers, dropped, Throttle(rate, stopping))
    repair = Repair(store, peers, lambda blocks: None, dropped, puller, stopping, lambda blocks: None)
    repair.map_is(known.view)
    started = time.perf_counter()
    repair.start()
    while repair.left().groups:
        time.sleep(0.005)
    seconds = time.perf_counter() - started
    stopping.set()
    repair.stop()
    channels.close()
    return seconds


def _map(nodes: Sequence[ChainNode]) -> bytes:
    """Return a map in which all nodes hold the group that is repaired."""
    records = [NodeRecord(id=node.node, address=node.address, state=NODE_UP, incarnation=1) for node in nodes]
    groups = [PlacementGroupRecord(nodes=[node.node for node in nodes])]
    message = ClusterMap(epoch=1, replicas=3, write_min=1, nodes=records, groups=groups)
    return message.SerializeToString()


def _bare_copy(address: str, blocks: int, path: Path) -> float:
    """Return the seconds that it takes to receive a file `blocks` times, write it each time, and sync it."""
    host, _, port = address.rpartition(":")
    buffer = memoryview(bytearray(1 << 20))
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with socket.create_connection((host, int(port))) as sock:
            started = time.perf_counter()
            for block in range(blocks):
                sock.sendall(b"x")
                done = 0
                while done < BLOCK_BYTES:
                    length = sock.recv_into(buffer[: BLOCK_BYTES - done])
                    os.pwrite(target, buffer[:length], block * BLOCK_BYTES + done)
                    done += length
                os.fdatasync(target)
            return time.perf_counter() - started
    finally:
        os.close(target)
        path.unlink()


def _write(channels: Channels, chain: Sequence[ChainNode], block: int) -> None:
    data = os.urandom(1 << 20)
    with ChainSender(
        channels, block, chain, durable=False, write_min=len(chain), map_epoch=1, session=1, patience=STILL
    ) as sender:
        for _ in range(BLOCK_BYTES >> 20):
            sender.append(data)
        sender.seal()


def _for(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() >= end
