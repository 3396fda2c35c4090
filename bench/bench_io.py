"""Blocks: read, written and put through real storage nodes, beside bare loops of the same shape (`floor_io`).

Each measure runs once per round and rounds go on in turn, so that what else happens on the machine hits all alike.
Clients, nodes and floors share it: three nodes, one client.
"""

import itertools
import os
import random
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from blockyard.proto.blocks import (
    ChainSender,
    Channels,
    LocalBlocks,
    PutQueues,
    Wanted,
    page_checksums,
    read_ranges,
)
from blockyard.proto.storage_pb2 import PageChecksums, PutBlock, PutBlocksRequest
from blockyard.storagenode.store import BlockStore, NewBlock, StoreSettings

from bench import floor_io, io_upkeep
from bench.floor_io import BLOCK_BYTES
from bench.process import serving
from bench.report import Row, in_turn, row
from bench.storage_nodes import STILL, StorageNode, storage_nodes

SMALL_BYTES = 4 << 10
IN_FLIGHT = 64
GIB = 1 << 30
APPEND_BYTES = 4 << 20


def run(quick: bool) -> list[Row]:
    """Measure; under a minute when quick, about four minutes otherwise."""
    with tempfile.TemporaryDirectory(prefix="blockyard-bench-") as name, ExitStack() as stack:
        directory = Path(name)
        bench = Bench(stack.enter_context(storage_nodes(3, directory)), directory, quick)
        stack.callback(bench.close)
        stack.enter_context(bench.floors())
        rows = bench.measure()
        rows += million(directory / "million", 50_000 if quick else 1_000_000)
    with tempfile.TemporaryDirectory(prefix="blockyard-bench-") as name:
        return rows + io_upkeep.rows(Path(name) / "upkeep", quick)


class Bench:
    """One client and its nodes."""

    def __init__(self, nodes: Sequence[StorageNode], directory: Path, quick: bool) -> None:
        self.nodes = nodes
        self.chain = [node.chain_node for node in nodes]
        self.directory = directory
        self.quick = quick
        self.channels = Channels()
        self.puts = PutQueues(self.channels, stall_s=20.0)
        self.local = LocalBlocks(self.channels, self.chain[0])
        self.data = memoryview(bytearray(os.urandom(BLOCK_BYTES)))
        self.buffer = memoryview(bytearray(BLOCK_BYTES))
        self.ids = itertools.count(1 << 48 | 1)
        self.costs: dict[str, list[float]] = {}
        self.large: list[int] = []
        self.small: list[int] = []

    def close(self) -> None:
        """Let connections and descriptors go."""
        self.puts.close()
        self.local.close()
        self.channels.close()

    @contextmanager
    def floors(self) -> Iterator[None]:
        """Write the blocks that are read, and start the bare loops beside them."""
        self.large = [self.write_block() for _ in range(2)]
        self.file = self.directory / "bare"
        self.file.write_bytes(self.data)
        with ExitStack() as stack:
            self.bare_read = stack.enter_context(serving(partial(floor_io.serve_file, path=str(self.file))))
            following = ""
            for _ in range(3):
                relay = partial(floor_io.serve_relay, directory=str(self.directory), following=following)
                following = stack.enter_context(serving(relay))
            self.bare_chain = following
            yield

    def measure(self) -> list[Row]:
        """Run everything in turn."""
        times, puts = (4, 4_000) if self.quick else (16, 20_000)
        written = max(2, times // 4)
        read_gb, written_gb, put_gb = times * BLOCK_BYTES / 1e9, written * BLOCK_BYTES / 1e9, puts * SMALL_BYTES / 1e9
        before = [node.figures() for node in self.nodes]
        medians = in_turn(
            3 if self.quick else 5,
            {
                "bare read": lambda: read_gb / floor_io.read_file(self.bare_read, times, self.buffer),
                "read": lambda: read_gb / self.costed("read", read_gb, lambda: self.read(times)),
                "bare direct": lambda: read_gb / floor_io.read_direct(self.file, 0, times, self.buffer),
                "local": lambda: read_gb / self.costed("local", read_gb, lambda: self.read_local(times)),
                "bare chain": lambda: written_gb / floor_io.write_chain(self.bare_chain, written, self.data),
                "write": lambda: written_gb / self.costed("write", written_gb, lambda: self.write(written)),
                "puts": lambda: puts / self.costed("puts", put_gb, lambda: self.put(puts, self.put_queued)),
                "single puts": lambda: puts / 2 / timed(lambda: self.put(puts // 2, self.put_alone)),
                "random reads": lambda: 2_000 / timed(lambda: self.read_small(2_000)),
                "local random reads": lambda: 20_000 / timed(lambda: self.read_small_local(20_000)),
            },
        )
        after = [node.figures() for node in self.nodes]
        per_sync = min((b.puts - a.puts) / max(1, b.syncs - a.syncs) for a, b in zip(before, after, strict=True))
        return self.rows(medians, per_sync)

    def rows(self, seen: dict[str, float], per_sync: float) -> list[Row]:
        """Turn medians into rows. Where a number of its own is the target, that number stands as the floor."""
        cost = {
            name: f"{statistics.median(each):.2f} CPU s per GiB, all processes" for name, each in self.costs.items()
        }
        read, direct, chain = seen["bare read"], seen["bare direct"], seen["bare chain"]
        three = "4 KiB puts, three replicas, durable, 64 in flight"
        return [
            row("bare sendfile to recv_into", read, "GB/s"),
            row("sequential read, every page verified", seen["read"], "GB/s", read, 0.6, note=cost["read"]),
            row("bare preadv", direct, "GB/s"),
            row("short-circuit read, every page verified", seen["local"], "GB/s", direct, 0.8, note=cost["local"]),
            row("bare relay of three", chain, "GB/s"),
            row("write, three replicas", seen["write"], "GB/s", chain, 0.6, note=cost["write"]),
            row(three, seen["puts"], "puts/s", 5_000.0, 1.0, note=cost["puts"]),
            row("the same, each put a request of its own", seen["single puts"], "puts/s", 5_000.0),
            row("puts per sync, the least of the nodes", per_sync, "puts", 8.0, 1.0),
            row("random 4 KiB reads, one after the other", seen["random reads"], "reads/s"),
            row("random 4 KiB reads, short circuit", seen["local random reads"], "reads/s"),
        ]

    def costed(self, name: str, gigabytes: float, work: Callable[[], object]) -> float:
        """Return the seconds that `work` takes; note the processor seconds per GiB that it costs all processes."""
        before = self._cpu_s()
        seconds = timed(work)
        self.costs.setdefault(name, []).append((self._cpu_s() - before) / (gigabytes * 1e9 / GIB))
        return seconds

    def _cpu_s(self) -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime + sum(node.figures().cpu_s for node in self.nodes)

    # ------------------------------------------------------------------------------------------ large blocks

    def write_block(self) -> int:
        """Write one block through the chain."""
        with ChainSender(
            self.channels,
            next(self.ids),
            self.chain,
            durable=False,
            write_min=3,
            map_epoch=0,
            expected_bytes=BLOCK_BYTES,
            patience=STILL,
        ) as sender:
            for start in range(0, BLOCK_BYTES, APPEND_BYTES):
                sender.append(self.data[start : start + APPEND_BYTES])
            return sender.seal().block

    def write(self, blocks: int) -> None:
        """Write blocks one after the other."""
        for _ in range(blocks):
            self.write_block()

    def read(self, times: int) -> None:
        """Read whole blocks from the first node."""
        for index in range(times):
            wanted = Wanted(self.large[index % len(self.large)], 0, self.buffer)
            demand(read_ranges(self.channels, self.chain[0], [wanted], map_epoch=0))

    def read_local(self, times: int) -> None:
        """Read them through their descriptors."""
        for index in range(times):
            self.local.read(self.large[index % len(self.large)], 0, self.buffer)

    # ------------------------------------------------------------------------------------------ small ones

    def put(self, count: int, put: Callable[[int], object]) -> None:
        """Let 64 callers put blocks, each the next when the last is durable on three nodes."""

        def caller(blocks: Sequence[int]) -> None:
            for block in blocks:
                put(block)

        blocks = [next(self.ids) for _ in range(count)]
        self.small += blocks
        threads = [threading.Thread(target=caller, args=(blocks[index::IN_FLIGHT],)) for index in range(IN_FLIGHT)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def put_queued(self, block: int) -> None:
        """Put one block as clients do: it leaves with all others that wait."""
        data = self.bytes_of(block)
        described = [small(block, data)]
        self.puts.submit(self.chain, described, data, durable=True, write_min=3, map_epoch=0).result()

    def put_alone(self, block: int) -> None:
        """Put one block by a request of its own."""
        data = self.bytes_of(block)
        request = PutBlocksRequest(blocks=[small(block, data)], chain=self.chain, durable=True, write_min=3)
        self.channels.stub(self.chain[0].address).PutBlocks(request, payload=data)

    def bytes_of(self, block: int) -> memoryview:
        """Return the bytes of a small block."""
        start = block % 1000 * SMALL_BYTES
        return self.data[start : start + SMALL_BYTES]

    def read_small(self, count: int) -> None:
        """Read 4 KiB blocks in no order, one by one."""
        chosen = random.Random(1)
        into = memoryview(bytearray(SMALL_BYTES))
        for _ in range(count):
            demand(read_ranges(self.channels, self.chain[1], [Wanted(chosen.choice(self.small), 0, into)], map_epoch=0))

    def read_small_local(self, count: int) -> None:
        """Read them through descriptors that are open already."""
        chosen = random.Random(1)
        into = memoryview(bytearray(SMALL_BYTES))
        known = self.small[:200]
        for _ in range(count):
            self.local.read(chosen.choice(known), 0, into)


def million(directory: Path, count: int) -> list[Row]:
    """Return what so many blocks of 4 KiB take on the disk."""
    directory.mkdir()
    store = BlockStore(directory, StoreSettings())
    store.open()
    data = memoryview(os.urandom(256 * SMALL_BYTES))
    checksums = [page_checksums(data[start : start + SMALL_BYTES]) for start in range(0, data.nbytes, SMALL_BYTES)]
    for first in range(0, count, 256):
        new = [NewBlock((1 << 48) + first + index + 1, SMALL_BYTES, sums) for index, sums in enumerate(checksums)]
        store.put(new, data, durable=first + 256 >= count)
    store.close()
    total = -(-count // 256) * 256 * SMALL_BYTES
    packs, index = (
        sum(path.stat().st_blocks * 512 for path in (directory / part).rglob("*")) for part in ("packs", "index")
    )
    what = f"disk bytes per byte, {count:,} blocks of 4 KiB"
    return [
        row(what, packs / total, "bytes", 1.05, 1.0, less_is_better=True),
        row(f"{what}, with the index", (packs + index) / total, "bytes", 1.10, 1.0, less_is_better=True),
    ]


def small(block: int, data: memoryview) -> PutBlock:
    """Return the description of a small block."""
    return PutBlock(block=block, length=data.nbytes, checksums=PageChecksums(crc32c=page_checksums(data)))


def demand(outcomes: Sequence[Exception | None]) -> None:
    """Raise what a read met."""
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
