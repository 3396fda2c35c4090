"""A gathered reply: an honest one is handed out, one that does not fit is refused, bad pages cost their ranges."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from blockyard.proto import errors
from blockyard.proto.blocks.gathered import Target, hand_out
from blockyard.proto.blocks.pages import PAGE_BYTES, page_checksums, page_count, widen
from blockyard.proto.storage_pb2 import GatheredRuns
from hypothesis import given, settings
from hypothesis import strategies as st

LENGTHS = {1: 4_096, 2: 5 * PAGE_BYTES + 99, 3: 2 * PAGE_BYTES, 4: 1}
BLOCKS = {block: random.Random(block).randbytes(length) for block, length in LENGTHS.items()}
GONE = 9


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int, int]:
    """A block, which may not be there, a first byte and a length."""
    block = draw(st.sampled_from([*BLOCKS, GONE]))
    length = LENGTHS.get(block, 10)
    offset = draw(st.integers(0, length - 1))
    return block, offset, draw(st.integers(1, length - offset))


def targets_of(wanted: Sequence[tuple[int, int, int]]) -> list[Target]:
    return [(block, offset, memoryview(bytearray(length))) for block, offset, length in wanted]


def reply_of(wanted: Sequence[tuple[int, int, int]], *, shared: bool = True) -> tuple[GatheredRuns, bytearray]:
    """Answer as a node does: ranges of one block that go on where the last run ended, or within it, are part of it."""
    runs, payload = GatheredRuns(), bytearray()
    last, low, high = 0, 0, 0
    for block, offset, length in wanted:
        if block == GONE:
            runs.ranges.append(1)
            for numbers in (runs.offset, runs.length, runs.block_length):
                numbers.append(0)
            runs.errors.append(errors.to_detail(errors.UnknownBlock("not here")))
            last = 0
            continue
        start, size = widen(offset, length, LENGTHS[block])
        end = start + size
        if shared and block == last and low <= start <= high:
            fresh = BLOCKS[block][max(high, start) : end]
            high = max(high, end)
            runs.ranges[-1] += 1
            runs.length[-1] = high - low
        else:
            fresh, last, low, high = BLOCKS[block][start:end], block, start, end
            runs.ranges.append(1)
            runs.offset.append(start)
            runs.length.append(size)
            runs.block_length.append(LENGTHS[block])
        payload += fresh
        runs.crc32c.extend(page_checksums(fresh))
    return runs, payload


@settings(max_examples=200, deadline=None)
@given(st.lists(ranges(), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_what_an_honest_node_sends_is_handed_out(
    wanted: list[tuple[int, int, int]], rising: bool, shared: bool
) -> None:
    if rising:
        wanted.sort()
    targets = targets_of(wanted)
    runs, payload = reply_of(wanted, shared=shared)
    outcomes = hand_out(3, runs, memoryview(payload), targets)
    for (block, offset, length), (_, _, into), outcome in zip(wanted, targets, outcomes, strict=True):
        if block == GONE:
            assert isinstance(outcome, errors.UnknownBlock)
        else:
            assert outcome is None
            assert into == BLOCKS[block][offset : offset + length]


@settings(max_examples=200, deadline=None)
@given(st.lists(ranges(), min_size=1, max_size=12), st.integers(0), st.integers(0, 7))
def test_a_changed_byte_costs_the_ranges_that_touch_its_page(
    wanted: list[tuple[int, int, int]], place: int, bit: int
) -> None:
    targets = targets_of(wanted)
    runs, payload = reply_of(sorted(wanted), shared=True)
    targets.sort(key=lambda target: (target[0], target[1], target[2].nbytes))
    if not payload:
        return
    payload[place % len(payload)] ^= 1 << bit
    outcomes = hand_out(3, runs, memoryview(payload), targets)
    assert any(isinstance(outcome, errors.CorruptBlock) for outcome in outcomes)
    for (block, offset, into), outcome in zip(targets, outcomes, strict=True):
        if outcome is None:
            assert into == BLOCKS[block][offset : offset + into.nbytes]
        else:
            assert isinstance(outcome, errors.CorruptBlock if block != GONE else errors.UnknownBlock)
            assert block == GONE or outcome.subject == str(block)


WANTED = [(2, 0, 10), (2, 4096, 10), (2, 3 * PAGE_BYTES, 10), (3, 5, 6), (GONE, 0, 1), (4, 0, 1)]


def _change(field: str, index: int, by: int) -> Callable[[Any], None]:
    def change(runs: Any) -> None:
        getattr(runs, field)[index] += by

    return change


def _drop(field: str) -> Callable[[Any], None]:
    return lambda runs: getattr(runs, field).pop()


def _again(field: str) -> Callable[[Any], None]:
    return lambda runs: getattr(runs, field).append(getattr(runs, field)[-1])


def _twice(runs: Any) -> None:
    for field in ("ranges", "offset", "length", "block_length"):
        _again(field)(runs)


LIES: dict[str, Callable[[Any], None]] = {
    "a range more": _change("ranges", 0, 1),
    "a range less": lambda runs: runs.ranges.__setitem__(0, 0),
    "ranges that were not asked for": _change("ranges", -1, 1),
    "a refusal of two ranges": _change("ranges", 3, 1),
    "another page": _change("offset", 1, PAGE_BYTES),
    "no page's first byte": _change("offset", 0, 1),
    "longer": _change("length", 0, 1),
    "shorter": _change("length", 1, -1),
    "a shorter block": _change("block_length", 0, -5 * PAGE_BYTES),
    "a refusal with no reason": _drop("errors"),
    "a reason with no refusal": lambda runs: runs.errors.add(),
    "a checksum less": _drop("crc32c"),
    "a checksum more": _again("crc32c"),
    "a list that is shorter": _drop("offset"),
    "a list that is longer": _again("block_length"),
    "the last run twice": _twice,
    "nothing": lambda runs: runs.Clear(),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_reply_that_does_not_fit_is_refused(lie: str) -> None:
    runs, payload = reply_of(WANTED)
    assert list(runs.ranges) == [2, 1, 1, 1, 1]
    LIES[lie](runs)
    with pytest.raises(errors.MalformedReply, match="node 3"):
        hand_out(3, runs, memoryview(payload), targets_of(WANTED))


def test_a_run_serves_one_block() -> None:
    runs, payload = reply_of([(1, 0, 10)])
    runs.ranges[0] = 2
    with pytest.raises(errors.MalformedReply, match="other ranges"):
        hand_out(3, runs, memoryview(payload), targets_of([(1, 0, 10), (2, 0, 10)]))


NUMBERS = st.lists(st.sampled_from([0, 1, 2, 4_096, PAGE_BYTES, 5 * PAGE_BYTES, (1 << 32) - 1]), max_size=4)


@settings(max_examples=300, deadline=None)
@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.integers(0, 2), st.sampled_from([0, 1, 4_096, 2 * PAGE_BYTES]))
def test_whatever_a_node_says_there_are_outcomes_or_a_refusal(
    counts: list[int],
    offsets: list[int],
    lengths: list[int],
    wholes: list[int],
    sums: list[int],
    refused: int,
    size: int,
) -> None:
    runs = GatheredRuns(ranges=counts, offset=offsets, length=lengths, block_length=wholes, crc32c=sums)
    for _ in range(refused):
        runs.errors.add()
    try:
        outcomes = hand_out(3, runs, memoryview(bytes(size)), targets_of(WANTED))
    except errors.MalformedReply:
        return
    assert 0 < len(outcomes) == sum(counts) <= len(WANTED)
    assert sum(page_count(length) for length in lengths) == len(sums)
