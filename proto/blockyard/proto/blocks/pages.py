"""Checksum pages: how a block's bytes are cut for CRC32C, and what the sums of the pages say about the whole. Pure.

A page is 64 KiB; only the last of a block is shorter. A piece of a block carries the sums of the pages that end in it.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from blockyard.proto import errors
from crc32c import crc32c

if TYPE_CHECKING:
    from typing_extensions import Buffer as Buffer
else:
    Buffer = bytes | bytearray | memoryview

PAGE_BYTES: Final = 64 << 10
BLOCK_LIMIT_BYTES: Final = 64 << 20
"""Longest block."""


def page_count(length: int) -> int:
    """Return how many pages `length` bytes have."""
    return -(-length // PAGE_BYTES)


def page_checksums(data: Buffer) -> list[int]:
    """Return the CRC32C of each page of `data`, which begins at a page's start."""
    view = memoryview(data).cast("B")
    return [crc32c(view[start : start + PAGE_BYTES]) for start in range(0, view.nbytes, PAGE_BYTES)]


def whole_checksum(checksums: Iterable[int], length: int) -> int:
    """Return the CRC32C of all `length` bytes from those of their pages: the bytes need not be read again."""
    low, second, third, high = _shift_by_a_page()
    whole, left = 0, length
    for checksum in checksums:
        if left < PAGE_BYTES:
            return _shift(whole, left) ^ checksum
        whole = low[whole & 255] ^ second[whole >> 8 & 255] ^ third[whole >> 16 & 255] ^ high[whole >> 24] ^ checksum
        left -= PAGE_BYTES
    return whole


def widen(offset: int, length: int, block_length: int) -> tuple[int, int]:
    """Return (offset, length) of a range of a block, widened to whole pages."""
    start = offset - offset % PAGE_BYTES
    end = min(page_count(offset + length) * PAGE_BYTES, block_length)
    return start, end - start


def _shift(checksum: int, length: int) -> int:
    """Return what `checksum` becomes when `length` bytes follow, before they are added."""
    zeros = bytes(length)
    return int(crc32c(zeros, checksum) ^ crc32c(zeros))


@cache
def _shift_by_a_page() -> tuple[list[int], ...]:
    """Return `_shift` by a page as four tables: it is linear, so each byte of a checksum is looked up by itself."""
    return tuple([_shift(byte << bits, PAGE_BYTES) for byte in range(256)] for bits in (0, 8, 16, 24))


class PageSums:
    """The checksums of a block's pages as its bytes become known, from the first byte on without a gap."""

    def __init__(self) -> None:
        self.length = 0
        """Bytes known so far."""
        self._sums: list[int] = []

    def add(self, end: int, checksums: Sequence[int]) -> None:
        """The bytes up to `end` are known and `checksums` are those of the pages they complete.

        One more may be that of the last, unfinished page: then nothing may follow. Raises what `check` does.
        """
        self.check(end, checksums)
        self._sums += checksums
        self.length = end

    def check(self, end: int, checksums: Sequence[int]) -> None:
        """Raise InvalidArgument where `checksums` are not as many as `end` wants, or follow an unfinished page's."""
        completed = end // PAGE_BYTES - self.length // PAGE_BYTES
        whole = len(checksums) == completed
        ended = len(checksums) == completed + 1 and end % PAGE_BYTES > 0
        if self.is_complete and self.length % PAGE_BYTES:
            raise errors.InvalidArgument(f"bytes after {self.length:,}, where the checksum of an unfinished page came")
        if not whole and not ended:
            raise errors.InvalidArgument(
                f"{len(checksums)} checksums for bytes {self.length:,} to {end:,}, which complete {completed} pages"
            )

    @property
    def is_complete(self) -> bool:
        """Whether every page up to `length` has its checksum, so that the block may end here."""
        return len(self._sums) == page_count(self.length)

    def between(self, start: int, end: int) -> list[int]:
        """Return the checksums that go with bytes `start` to `end`: of pages that end there, and of the last page."""
        last = page_count(end) if end == self.length else end // PAGE_BYTES
        return self._sums[start // PAGE_BYTES : last]

    def all(self) -> list[int]:
        """Return all checksums."""
        return list(self._sums)

    def whole(self) -> int:
        """Return the CRC32C of all bytes; every page must have its checksum."""
        assert self.is_complete, "the last page has no checksum yet"
        return whole_checksum(self._sums, self.length)
