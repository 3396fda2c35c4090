"""What the bytes of one chunk are: the visible slices, cut so that none overlaps another.

A chunk's row holds its *visible plan*: pieces in rising, disjoint order. A new slice cuts what it hides out of the
older ones when it is committed, so a read returns the row as it is, a hidden block is reclaimed at once, and what a
compactor reads is what is stored. Neighbours that continue each other in one block become one piece.

Pure functions on lists of pieces. Positions are bytes from the start of the chunk.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final, TypeAlias

CHUNK_BYTES: Final = 64 << 20
BLOCK_BYTES: Final = 64 << 20
PIECES_PER_CHUNK: Final = 32_768
CROWDED_PIECES: Final = 32
"""A chunk of more pieces than this is worth compacting."""

Piece: TypeAlias = tuple[int, int, int, int, int]
"""Start, length, block, offset in the block, length of the block."""

_PIECE: Final = Struct("<IIQII")
PIECE_BYTES: Final = _PIECE.size

pack_piece = _PIECE.pack


def parse(row: bytes) -> list[Piece]:
    """Return a row's pieces."""
    return list(_PIECE.iter_unpack(row))


def encode(pieces: Iterable[Piece]) -> bytes:
    """Return pieces as a row."""
    return b"".join([pack_piece(*piece) for piece in pieces])


def last(row: bytes) -> Piece:
    """Return the last piece of a row that has one."""
    start, length, block, offset, whole = _PIECE.unpack_from(row, len(row) - PIECE_BYTES)
    return start, length, block, offset, whole


def without(pieces: Iterable[Piece], start: int, end: int) -> list[Piece]:
    """Return the pieces with the range [start, end) cut out."""
    left: list[Piece] = []
    for piece in pieces:
        first, length, block, offset, whole = piece
        stop = first + length
        if stop <= start or first >= end:
            left.append(piece)
            continue
        if first < start:
            left.append((first, start - first, block, offset, whole))
        if stop > end:
            left.append((end, stop - end, block, offset + end - first, whole))
    return left


def within(pieces: Iterable[Piece], start: int, end: int) -> list[Piece]:
    """Return the parts of the pieces that lie in the range [start, end)."""
    inside: list[Piece] = []
    for first, length, block, offset, whole in pieces:
        low, high = max(first, start), min(first + length, end)
        if low < high:
            inside.append((low, high - low, block, offset + low - first, whole))
    return inside


def with_piece(pieces: Iterable[Piece], piece: Piece) -> list[Piece]:
    """Return the pieces overlaid with a new one."""
    return joined([*without(pieces, piece[0], piece[0] + piece[1]), piece])


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Return disjoint pieces in rising order, those that continue each other in one block joined."""
    result: list[Piece] = []
    for piece in sorted(pieces):
        if result and continues(result[-1], piece):
            first, length, block, offset, whole = result[-1]
            result[-1] = (first, length + piece[1], block, offset, whole)
        else:
            result.append(piece)
    return result


def continues(before: Piece, after: Piece) -> bool:
    """Return whether `after` goes on where `before` ends, in the file and in one block."""
    return (
        before[0] + before[1] == after[0]
        and before[2] == after[2]
        and before[3] + before[1] == after[3]
        and before[4] == after[4]
    )


def bytes_of(pieces: Iterable[Piece]) -> int:
    """Return how many bytes the pieces cover."""
    return sum(piece[1] for piece in pieces)
