"""A store at work, as a process to be killed: `python worker.py DATA ACKS COUNT [SEED]`.

It notes in ACKS, outside the disk under test and synced, what it is about to do and what it was promised:

    trying BLOCK LENGTH         may be there from now on
    durable BLOCK LENGTH        was acknowledged as durable: survives anything
    soft BLOCK LENGTH           was acknowledged: survives a kill of the process
    dropping BLOCK              may go
    dropped BLOCK               is gone for good

A block comes once only. Exits 3 when the disk failed, 4 when it was full.
"""

import os
import random
import sys
from pathlib import Path

from blockyard.proto import logs
from blockyard.proto.errors import NoSpace
from blockyard.storagenode.store import BlockStore, StoreSettings

from tests.storagenode.store.harness import SMALL_LIMIT, block_id, content, listed, put, read, seal

SETTINGS = StoreSettings(
    small_block_limit_bytes=SMALL_LIMIT,
    pack_size_bytes=1 << 18,
    reserve_bytes=0,
    read_only_above_percent=100,
    sync_interval_s=0.02,
)


class Worker:
    def __init__(self, data: Path, acks: Path, seed: int) -> None:
        self.acks = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.chance = random.Random(seed)
        known = Promises(acks)
        self.next = max((block & 0xFFFFFF for block in known.tried), default=0) + 1
        self.store = BlockStore(data, SETTINGS)
        self.store.open()
        self.alive = dict(listed(self.store))

    def note(self, *lines: str) -> None:
        os.write(self.acks, "".join(line + "\n" for line in lines).encode())
        os.fdatasync(self.acks)

    def new(self, lengths: list[int]) -> list[tuple[int, int]]:
        first, self.next = self.next, self.next + len(lengths)
        blocks = [(block_id(number), length) for number, length in enumerate(lengths, first)]
        self.note(*(f"trying {block} {length}" for block, length in blocks))
        return blocks

    def promised(self, blocks: list[tuple[int, int]], durable: bool) -> None:
        self.note(*(f"{'durable' if durable else 'soft'} {block} {length}" for block, length in blocks))
        self.alive.update(blocks)

    def step(self, number: int) -> None:
        chance, durable = self.chance, self.chance.random() < 0.6
        what = number % 6
        if what < 3:
            blocks = self.new([chance.choice([1, 300, 4096, 20_000]) for _ in range(chance.randint(1, 12))])
            put(self.store, blocks, durable=durable)
            self.promised(blocks, durable)
        elif what == 3:
            [(block, length)] = self.new([chance.choice([5000, 150_000, 400_000])])
            seal(self.store, block, length, durable=durable)
            self.promised([(block, length)], durable)
        elif what == 4:
            blocks_out = self.leaving(number % 4 == 0)
            self.note(*(f"dropping {block}" for block in blocks_out))
            self.store.drop(blocks_out)
            self.note(*(f"dropped {block}" for block in blocks_out))
            for block in blocks_out:
                del self.alive[block]
        else:
            self.store.rewrite_packs(1 << 20)

    def leaving(self, many: bool) -> list[int]:
        """Return blocks to drop: so many that packs are rewritten, or neighbours, so that holes are punched."""
        alive = sorted(self.alive)
        if many:
            return self.chance.sample(alive, len(alive) * 6 // 10)
        start = self.chance.randint(0, len(alive) * 3 // 4)
        return alive[start : start + len(alive) // 5]


class Promises:
    """What a file of notes adds up to."""

    def __init__(self, acks: Path) -> None:
        self.tried: dict[int, int] = {}
        self.durable: set[int] = set()
        self.soft: set[int] = set()
        self.dropping: set[int] = set()
        self.dropped: set[int] = set()
        for line in acks.read_text().splitlines() if acks.exists() else []:
            what, block, *rest = line.split()
            if what == "trying":
                self.tried[int(block)] = int(rest[0])
            else:
                getattr(self, what).add(int(block))


def verify(data: Path, acks: Path, *, power_cut: bool, settings: StoreSettings = SETTINGS) -> Promises:
    """Open the store and check it against its promises; return them."""
    promises = Promises(acks)
    store = BlockStore(data, settings)
    report = store.open()
    try:
        assert not report.damage, report.damage
        found = listed(store)
        must = promises.durable if power_cut else promises.durable | promises.soft
        missing = must - promises.dropping - found.keys()
        assert not missing, f"{len(missing)} acknowledged blocks are gone: {sorted(missing)[:5]}; {report}"
        risen = promises.dropped & found.keys()
        assert not risen, f"{len(risen)} dropped blocks are back: {sorted(risen)[:5]}"
        for block, length in found.items():
            assert promises.tried[block] == length
            assert read(store, block) == content(block, length), f"block {block:x} reads as something else"
        names = {path.name for path in (data / "blocks").glob("*/*")}
        files = {f"{block:016x}" for block in found if not store.find(block).in_pack}
        assert files <= names
        if not power_cut:
            assert names == files, f"files without a block: {names - files}"
    finally:
        store.close()
    return promises


def main(data: str, acks: str, count: str, seed: str = "1") -> None:
    logs.configure("store-worker")
    worker = Worker(Path(data), Path(acks), int(seed))
    try:
        for number in range(int(count)):
            worker.step(number)
    except NoSpace:
        os._exit(4)
    worker.store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
