"""A file overwritten at random, beside a fresh file of the same size in the same run: speed, space, bytes rewritten.

Real processes: two metadata members, a witness, three storage nodes. Every write is a block of its own of 4 KiB; a
thousand of them are put and committed together. `BLOCKYARD_OVERWRITES` sets how many there are.
"""

import os
import random
import sys
import tempfile
import time
from pathlib import Path

from blockyard.proto.storage_pb2 import NodeInfoReply, NodeInfoRequest

from bench.report import Row, row
from tests.support.block_file import CHUNK_BYTES, BlockFile
from tests.support.storage_cluster import StorageCluster

UNIT = 4_096
BATCH = 1_000
LOOKS = 5
SETTLED_PIECES = 32
SETTLE_S = 600.0
STILL = {"placement": {"down_after_ms": 20_000}}
"""On a busy machine nobody shall be taken for dead."""
MB = 1e6


def run(quick: bool) -> list[Row]:
    """Measure: 20,000 overwrites of 128 MiB when quick, a million of 512 MiB otherwise."""
    count = int(os.environ.get("BLOCKYARD_OVERWRITES", 20_000 if quick else 1_000_000))
    chunks = 2 if quick else 8
    with (
        tempfile.TemporaryDirectory(prefix="blockyard-bench-") as name,
        StorageCluster(Path(name), meta_settings=STILL) as cluster,
    ):
        return Bench(cluster, chunks * CHUNK_BYTES, count).measure()


class Bench:
    """One client, a fresh file and one that is overwritten."""

    def __init__(self, cluster: StorageCluster, size: int, count: int) -> None:
        self.cluster = cluster
        self.size = size
        self.count = count
        self.buffer = memoryview(bytearray(size))
        self.random = random.Random(1)
        data = memoryview(bytearray(self.random.randbytes(CHUNK_BYTES) * (size // CHUNK_BYTES)))
        self.fresh, self.worn = BlockFile(cluster, "fresh", durable=False), BlockFile(cluster, "worn", durable=False)
        self.fresh.fill(data)
        self.worn.fill(data)

    def measure(self) -> list[Row]:
        """Overwrite, look now and then, wait until it is quiet, and look again."""
        hot: list[float] = []
        longest = 0
        seconds = 0.0
        for turn in range(LOOKS):
            seconds += self.overwrite(self.count // LOOKS)
            longest = max(longest, self.longest_chunk())
            hot.append(self.speed(self.worn) / self.speed(self.fresh))
            note(f"{turn + 1} of {LOOKS}: {self.longest_chunk()} pieces in a chunk, {hot[-1]:.2f} of fresh speed")
        settled_s = self.settle()
        speeds = sorted((self.speed(self.worn), self.speed(self.fresh)) for _ in range(3))
        worn, fresh = speeds[1]
        stored = max(self.stored())
        rewritten = self.rewritten()
        return [
            row("overwrites of 4 KiB, committed by the thousand", self.count / seconds, "writes/s"),
            row("fresh file, read whole", fresh / MB, "MB/s"),
            row(
                "the overwritten file, read whole once it is quiet", worn / MB, "MB/s", fresh / MB, 0.5,
                note=f"{len(self.worn.slices())} pieces in {self.size // CHUNK_BYTES} chunks, {settled_s:.0f} s later",
            ),
            row(
                "read between the writes, of the fresh file's speed, worst", min(hot), "", 1.0, 0.5,
                note=f"longest chunk then: {longest} pieces",
            ),
            row(
                "stored per replica, of what both files hold", stored / (2 * self.size), "", 1.0, 0.8,
                less_is_better=True, note="live bytes of the fullest node after reclaim",
            ),
            row(
                "bytes rewritten per byte written", rewritten / self.worn.written, "", 48.0, 1.0,
                less_is_better=True, note="floor is the bound that the policy promises",
            ),
        ]  # fmt: skip

    def overwrite(self, count: int) -> float:
        """Overwrite random places; return the seconds that took."""
        places, began = self.size // UNIT, time.monotonic()
        for start in range(0, count, BATCH):
            self.worn.overwrite(
                [
                    (self.random.randrange(places) * UNIT, self.random.randbytes(UNIT))
                    for _ in range(min(BATCH, count - start))
                ]
            )
        return time.monotonic() - began

    def speed(self, file: BlockFile) -> float:
        """Return the bytes per second at which a whole file is read."""
        began = time.monotonic()
        file.read(0, self.buffer)
        return self.size / (time.monotonic() - began)

    def longest_chunk(self) -> int:
        """Return the pieces of the longest chunk."""
        return max(len(self.worn.slices(start, CHUNK_BYTES)) for start in range(0, self.size, CHUNK_BYTES))

    def settle(self) -> float:
        """Wait until no chunk is long and the dead are off the disks; return the seconds that took."""
        began = time.monotonic()
        while time.monotonic() - began < SETTLE_S:
            if self.longest_chunk() <= SETTLED_PIECES and max(self.stored()) <= 2.5 * self.size:
                break
            time.sleep(1.0)
        return time.monotonic() - began

    def stored(self) -> list[int]:
        """Return the live bytes of every node."""
        replies: list[NodeInfoReply] = [
            self.cluster.stub(name).NodeInfo(NodeInfoRequest()) for name in self.cluster.nodes
        ]
        return [reply.live_bytes for reply in replies]

    def rewritten(self) -> int:
        """Return the bytes that compaction has written anew; nobody but one member has led."""
        return int(self.cluster.status().compacted_bytes)


def note(text: str) -> None:
    """Tell whoever waits."""
    print(text, file=sys.stderr)
