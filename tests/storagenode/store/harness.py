"""Blocks whose bytes follow from their ids, and the few calls every test of the store makes."""

import os
import random
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import crc32c
from blockyard.storagenode.store import (
    PAGE_BYTES,
    BlockStore,
    NewBlock,
    StoredReplica,
    StoreSettings,
)

GROUP = 7
FIRST = GROUP << 48
SMALL_LIMIT = 100_000
SETTINGS = StoreSettings(
    small_block_limit_bytes=SMALL_LIMIT,
    pack_size_bytes=1 << 20,
    reserve_bytes=0,
    read_only_above_percent=100,
    sync_interval_s=3600,
)
"""Small packs, and a keeper that does nothing by itself."""


def block_id(number: int, group: int = GROUP) -> int:
    return (group << 48) + number


def content(block: int, length: int) -> bytes:
    """Return the one content that block may have, cut to `length`."""
    return random.Random(block).randbytes(length)


def pages(data: bytes) -> tuple[int, ...]:
    return tuple(crc32c.crc32c(data[start : start + PAGE_BYTES]) for start in range(0, len(data), PAGE_BYTES))


def put(store: BlockStore, blocks: Iterable[tuple[int, int]], *, durable: bool = True, reserve: bool = False) -> None:
    """Put blocks given as (id, length)."""
    datas = [(block, content(block, length)) for block, length in blocks]
    new = [NewBlock(block, len(data), pages(data)) for block, data in datas]
    store.put(new, b"".join(data for _, data in datas), durable, reserve=reserve)


def seal(
    store: BlockStore, block: int, length: int, *, durable: bool = True, piece: int = 70_001, reserve: bool = False
) -> StoredReplica:
    """Write a block piece by piece and seal it."""
    data = content(block, length)
    crcs = pages(data)
    opened = store.begin(block, length, reserve=reserve)
    try:
        for start in range(0, length, piece):
            end = min(start + piece, length)
            last = end if end < length else length + PAGE_BYTES - 1
            opened.append(memoryview(data)[start:end], crcs[start // PAGE_BYTES : last // PAGE_BYTES])
        return opened.seal(length, crc32c.crc32c(data), durable)
    finally:
        opened.abort()


def read(store: BlockStore, block: int) -> bytes:
    with store.open_range(block) as opened:
        return os.pread(opened.fd, opened.length, opened.file_offset)


def listed(store: BlockStore) -> dict[int, int]:
    """Return every block with its length, as lists of all groups give them."""
    found: dict[int, int] = {}
    for group in store.groups():
        after = 0
        while part := store.list(group, after, 3):
            found.update(part)
            after = part[-1][0]
    return found


def check(store: BlockStore, expected: dict[int, int]) -> None:
    """Demand that the store has exactly these blocks, all right, and that its counters agree."""
    assert listed(store) == expected
    for block, length in expected.items():
        data = content(block, length)
        assert read(store, block) == data, f"block {block:x} reads as something else"
        found = store.find(block)
        assert (found.length, found.checksums) == (length, pages(data))
    usage = store.usage()
    assert (usage.blocks, usage.live_bytes) == (len(expected), sum(expected.values()))
    live: dict[int, int] = {}
    for block in expected:
        row = store._catalogue.get(block)
        assert row is not None
        if block not in store._catalogue.shown():
            live[row.pack] = live.get(row.pack, 0) + row.record_bytes
    assert {number: pack.live for number, pack in store._catalogue.packs.items() if pack.live} == live


@contextmanager
def opened(path: Path, settings: StoreSettings = SETTINGS) -> Iterator[BlockStore]:
    path.mkdir(exist_ok=True)
    store = BlockStore(path, settings)
    store.open()
    try:
        yield store
    finally:
        store.close()


def crashed(store: BlockStore, to: Path) -> Path:
    """Copy the directory as a killed process would leave it; the store itself goes on."""
    shutil.copytree(store.directory, to)
    return to
