"""What a gathered reply of ReadBlocks says: runs of pages, checked and handed out to the ranges that they serve. Pure.

Nothing that the node says is believed: a reply that does not fit what was asked for is a MalformedReply, and a page
that does not match its checksum costs those ranges that touch it.
"""

from collections.abc import Sequence
from typing import Final

from blockyard.proto import errors
from blockyard.proto.blocks.pages import PAGE_BYTES, page_count
from blockyard.proto.storage_pb2 import GatheredRuns
from crc32c import crc32c

GATHERED_BYTES: Final = 1 << 20
"""Most bytes in one gathered reply."""

Target = tuple[int, int, memoryview]
"""A block, a first byte in it, and where the bytes from there on go."""


def hand_out(
    node: int, runs: GatheredRuns, payload: memoryview, targets: Sequence[Target]
) -> list[errors.BlockyardError | None]:
    """Fill the first of `targets` from a reply of `node`; return the error of each that it serves, in order.

    Raises MalformedReply.
    """
    counts, lengths, checksums = list(runs.ranges), list(runs.length), list(runs.crc32c)
    refusals = iter(runs.errors)
    outcomes: list[errors.BlockyardError | None] = []
    at = done = page = 0
    _check_shape(node, runs, counts, lengths, payload.nbytes, len(targets))
    for count, start, length, whole in zip(counts, runs.offset, lengths, runs.block_length, strict=True):
        if not length:
            outcomes.append(errors.from_detail(next(refusals)))
            at += 1
            continue
        end = start + length
        if start % PAGE_BYTES or end > whole or (end < whole and length % PAGE_BYTES):
            raise errors.MalformedReply(f"node {node} sent bytes {start} to {end} of {whole}, which are not pages")
        body = payload[done : done + length]
        bad = _bad_pages(body, checksums, page)
        served = targets[at : at + count]
        block = served[0][0]
        for wanted, offset, into in served:
            skipped = offset - start
            left = skipped + into.nbytes
            if wanted != block or skipped < 0 or left > length:
                raise errors.MalformedReply(f"node {node} sent bytes {start} to {end} of a block for other ranges")
            if bad and (hit := [each for each in bad if skipped // PAGE_BYTES <= each < page_count(left)]):
                found = f"page {start // PAGE_BYTES + hit[0]} does not match its CRC32C"
                outcomes.append(errors.CorruptBlock(f"block {block} on node {node}: {found}", str(block)))
            else:
                into[:] = body[skipped:left]
                outcomes.append(None)
        at += count
        done += length
        page += page_count(length)
    return outcomes


def _bad_pages(body: memoryview, checksums: Sequence[int], first: int) -> list[int]:
    """Return which pages of a run do not match the checksums from `first` on, counted from the run's first."""
    if body.nbytes <= PAGE_BYTES:
        return [] if crc32c(body) == checksums[first] else [0]
    return [
        index
        for index in range(page_count(body.nbytes))
        if crc32c(body[index * PAGE_BYTES : (index + 1) * PAGE_BYTES]) != checksums[first + index]
    ]


def _check_shape(
    node: int, runs: GatheredRuns, counts: Sequence[int], lengths: Sequence[int], payload_bytes: int, targets: int
) -> None:
    """Raise MalformedReply where the lists do not go with each other, the payload and the request."""
    refused = [count for count, length in zip(counts, lengths, strict=False) if not length]
    fits = (
        len(counts) == len(lengths) == len(runs.offset) == len(runs.block_length)
        and 0 not in counts
        and 0 < sum(counts) <= targets
        and sum(lengths) == payload_bytes
        and len(refused) == sum(refused) == len(runs.errors)
        and len(runs.crc32c) == sum(map(page_count, lengths))
    )
    if not fits:
        raise errors.MalformedReply(f"node {node} sent {len(counts)} runs that do not fit what was asked for")
