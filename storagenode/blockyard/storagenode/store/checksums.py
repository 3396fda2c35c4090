"""CRC32C of blocks: by page as it is kept, and of the whole as the writer states it.

Pure. The CRC of a concatenation follows from the CRCs of its parts (Mark Adler's crc32_combine: appending n zero bits
is a linear map over GF(2)), so a block's whole CRC costs no second pass over its bytes.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import crc32c
from blockyard.storagenode.store.replica import PAGE_BYTES

_POLYNOMIAL: Final = 0x82F63B78  # Castagnoli, reflected

Matrix = tuple[int, ...]


def page_count(length: int) -> int:
    """Return how many checksum pages `length` bytes have."""
    return -(-length // PAGE_BYTES)


def pages_of(data: memoryview | bytes) -> tuple[int, ...]:
    """Return the CRC32C of each page of a block's bytes."""
    view = memoryview(data)
    return tuple(crc32c.crc32c(view[start : start + PAGE_BYTES]) for start in range(0, len(view), PAGE_BYTES))


def bad_pages(data: memoryview, checksums: Sequence[int]) -> list[int]:
    """Return the indexes of the pages of `data` that do not have the CRC32C given for them."""
    if len(data) <= PAGE_BYTES:
        return [] if crc32c.crc32c(data) == checksums[0] else [0]
    return [page for page, crc in enumerate(pages_of(data)) if crc != checksums[page]]


def whole(checksums: Sequence[int], length: int) -> int:
    """Return the CRC32C of a block of `length` bytes whose pages have these."""
    if not checksums:
        return 0
    crc = checksums[0]
    for page in checksums[1:-1]:
        crc = _apply(_AFTER_PAGE, crc) ^ page
    if len(checksums) > 1:
        crc = _times(_zeros(length - (len(checksums) - 1) * PAGE_BYTES), crc) ^ checksums[-1]
    return crc


def _times(matrix: Matrix, vector: int) -> int:
    total, row = 0, 0
    while vector:
        if vector & 1:
            total ^= matrix[row]
        vector >>= 1
        row += 1
    return total


def _square(matrix: Matrix) -> Matrix:
    return tuple(_times(matrix, column) for column in matrix)


def _powers() -> Iterable[Matrix]:
    """Yield the operators of 1, 2, 4, … zero bytes."""
    one_bit: Matrix = (_POLYNOMIAL, *(1 << bit for bit in range(31)))
    operator = _square(_square(_square(one_bit)))
    while True:
        yield operator
        operator = _square(operator)


_BYTES: Final[tuple[Matrix, ...]] = tuple(operator for operator, _ in zip(_powers(), range(17), strict=False))


def _zeros(count: int) -> Matrix:
    """Return the operator that appends `count` zero bytes, at most a page of them."""
    result: Matrix = tuple(1 << bit for bit in range(32))
    for power, operator in enumerate(_BYTES):
        if count >> power & 1:
            result = tuple(_times(operator, column) for column in result)
    return result


def _table(matrix: Matrix) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(_times(matrix, value << shift) for value in range(256)) for shift in (0, 8, 16, 24))


def _apply(table: tuple[tuple[int, ...], ...], crc: int) -> int:
    low, second, third, high = table
    return low[crc & 255] ^ second[crc >> 8 & 255] ^ third[crc >> 16 & 255] ^ high[crc >> 24]


_AFTER_PAGE: Final = _table(_zeros(PAGE_BYTES))
