"""Ranges read from an open file: the block's bytes, or an error for those ranges that touch a bad page."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockyard.proto import errors
from blockyard.proto.blocks import PAGE_BYTES, BlockPlace, page_checksums, page_count, read_pages
from hypothesis import given, settings
from hypothesis import strategies as st

BLOCK = 77
BEFORE = 777
"""Bytes of another block that lie before this one in the file."""
DATA = random.Random(5).randbytes(12 * PAGE_BYTES + 4_321)
OFFSETS = st.integers(0, len(DATA) + 10)
SIZES = st.one_of(st.integers(0, 9_000), st.integers(1, len(DATA)), st.integers(1, 9).map(lambda n: n * PAGE_BYTES))
RANGES = st.lists(st.tuples(st.one_of(OFFSETS, st.integers(0, 12).map(lambda n: n * PAGE_BYTES)), SIZES), max_size=12)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages") / "pack"


@pytest.fixture
def whole(path: Path) -> Iterator[int]:
    """The descriptor of a file with the block."""
    path.write_bytes(os.urandom(BEFORE) + DATA)
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def touched(offset: int, length: int) -> range:
    return range(offset // PAGE_BYTES, page_count(offset + length))


@settings(max_examples=150, deadline=None)
@given(RANGES, st.sets(st.integers(0, len(DATA) - 1), max_size=2), st.one_of(st.just(len(DATA)), OFFSETS))
def test_every_range_has_its_bytes_or_its_own_error(
    path: Path, wanted: list[tuple[int, int]], spoiled: set[int], end: int
) -> None:
    """`end`: where the file ends."""
    damaged = bytearray(DATA)
    for at in spoiled:
        damaged[at] ^= 1
    path.write_bytes(bytes(BEFORE) + damaged[:end])
    bad = {at // PAGE_BYTES for at in spoiled} | (set(touched(end, len(DATA) - end)) if end < len(DATA) else set())
    views = [memoryview(bytearray(length)) for _, length in wanted]
    fd = os.open(path, os.O_RDONLY)
    try:
        place = BlockPlace(BLOCK, fd, BEFORE, len(DATA), page_checksums(DATA))
        outcomes = read_pages(place, [(offset, view) for (offset, _), view in zip(wanted, views, strict=True)])
    finally:
        os.close(fd)
    assert len(outcomes) == len(wanted)
    for (offset, length), view, outcome in zip(wanted, views, outcomes, strict=True):
        if not length or offset + length > len(DATA):
            assert isinstance(outcome, errors.InvalidArgument)
        elif bad & set(touched(offset, length)):
            assert isinstance(outcome, errors.CorruptBlock)
            assert outcome.subject == str(BLOCK)
        else:
            assert outcome is None
            assert view == DATA[offset : offset + length]


def test_pages_that_many_ranges_touch_are_read_once(whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(fd: int, views: list[memoryview], offset: int) -> int:
        read.append(views[0].nbytes)
        return os.readv(fd, views) if os.lseek(fd, offset, os.SEEK_SET) == offset else 0

    monkeypatch.setattr("blockyard.proto.blocks.page_reader.os.preadv", counted)
    place = BlockPlace(BLOCK, whole, BEFORE, len(DATA), page_checksums(DATA))
    ranges = [(page * PAGE_BYTES + at * 4096, memoryview(bytearray(4096))) for page in (3, 1, 0) for at in range(16)]
    assert read_pages(place, ranges) == [None] * len(ranges)
    assert sum(read) == 3 * PAGE_BYTES
    assert len(read) == 2  # pages 0 and 1 lie side by side
