"""Ranges of one block read from its open file: each page that they touch is read once, and checked.

For replicas of this machine: the short circuit, and nodes that rewrite their own blocks.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from blockyard.proto import errors
from blockyard.proto.blocks.pages import PAGE_BYTES, page_count, widen
from crc32c import crc32c

WINDOW_BYTES: Final = 256 << 10
"""Bytes read at a time: they are still in the processor's cache when they are checked and copied."""


@dataclass(frozen=True, slots=True)
class BlockPlace:
    """Where a sealed block's `length` bytes lie: from `file_offset` of `fd`; `checksums` are those of its pages."""

    block: int
    fd: int
    file_offset: int
    length: int
    checksums: Sequence[int]


def read_pages(place: BlockPlace, ranges: Sequence[tuple[int, memoryview]]) -> list[errors.BlockyardError | None]:
    """Fill views with the block's bytes from their offsets on; return the error of each, None where they are there.

    InvalidArgument: the range is empty or ends behind the block. CorruptBlock: a page does not match, or the file ends
    before it. Raises OSError when the disk cannot read.
    """
    outcomes: list[errors.BlockyardError | None] = [None] * len(ranges)
    order = []
    for index, (offset, view) in enumerate(ranges):
        if not view.nbytes or offset + view.nbytes > place.length:
            found = f"bytes {offset} to {offset + view.nbytes} of {place.length}"
            outcomes[index] = errors.InvalidArgument(found, str(place.block))
        else:
            order.append(index)
    order.sort(key=lambda index: ranges[index][0])
    around = memoryview(bytearray(min(WINDOW_BYTES, place.length)))
    waiting = 0  # in `order`: those before have all their bytes
    for start, end in _windows([ranges[index] for index in order], place.length):
        while ranges[order[waiting]][0] + ranges[order[waiting]][1].nbytes <= start:
            waiting += 1
        direct = order[waiting]
        offset, view = ranges[direct]
        if offset <= start and end <= offset + view.nbytes:
            target = view[start - offset : end - offset]
        else:
            direct, target = -1, around[: end - start]
        bad = _read_window(place, start, target)
        for index in order[waiting:]:
            offset, view = ranges[index]
            if offset >= end:
                break
            low, high = max(offset, start), min(offset + view.nbytes, end)
            if low >= high:
                continue
            hit = [page for page in bad if low // PAGE_BYTES <= page < page_count(high)]
            if hit:
                found = f"page {hit[0]} of block {place.block} does not match its CRC32C"
                outcomes[index] = errors.CorruptBlock(found, str(place.block))
            elif index != direct:
                view[low - offset : high - offset] = target[low - start : high - start]
    return outcomes


def _windows(ranges: Iterable[tuple[int, memoryview]], length: int) -> Iterator[tuple[int, int]]:
    """Yield first byte and end of the pages that rising ranges touch: every page once, `WINDOW_BYTES` at most."""
    low = high = 0
    for offset, view in ranges:
        start, size = widen(offset, view.nbytes, length)
        if start > high:
            yield from _cut(low, high)
            low = start
        high = max(high, start + size)
    yield from _cut(low, high)


def _cut(low: int, high: int) -> Iterator[tuple[int, int]]:
    for start in range(low, high, WINDOW_BYTES):
        yield start, min(start + WINDOW_BYTES, high)


def _read_window(place: BlockPlace, start: int, target: memoryview) -> list[int]:
    """Fill `target` from byte `start` of the block, a page's first; return the pages that are not as they should be."""
    got = os.preadv(place.fd, [target], place.file_offset + start)
    bad = []
    for low in range(0, target.nbytes, PAGE_BYTES):
        high, page = min(low + PAGE_BYTES, target.nbytes), (start + low) // PAGE_BYTES
        if got < high or crc32c(target[low:high]) != place.checksums[page]:
            bad.append(page)
    return bad
