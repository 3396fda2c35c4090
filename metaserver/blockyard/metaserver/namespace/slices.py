"""What the bytes of one chunk are: the visible slices, cut so that none overlaps another.

A chunk's row holds its *visible plan*: pieces in rising, disjoint order. A new slice cuts what it hides out of the
older ones when it is committed, so a read returns the row as it is, a hidden block is reclaimed at once, and what a
compactor reads is what is stored. Neighbours that continue each other in one block become one piece.

Pure functions on lists of pieces. Positions are bytes from the start of the chunk.
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final, TypeAlias

CHUNK_BYTES: Final = 64 << 20
BLOCK_BYTES: Final = 64 << 20
PIECES_PER_CHUNK: Final = 32_768
CROWDED_PIECES: Final = 32
"""A chunk of more pieces than this is looked at by compaction."""
HIDDEN_SLACK_BYTES: Final = 4_096
"""Hidden bytes of a block that are not worth a look: no disk gives back less than a page."""

Piece: TypeAlias = tuple[int, int, int, int, int]
"""Start, length, block, offset in the block, length of the block."""

Span: TypeAlias = tuple[int, int]
"""First byte, and the byte behind the last."""

_PIECE: Final = Struct("<IIQII")
PIECE_BYTES: Final = _PIECE.size

pack_piece = _PIECE.pack
_start_and_length = Struct("<II").unpack_from


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


def overlaid(row: bytes, piece: Piece) -> tuple[bytes, list[Piece], list[Piece]]:
    """Return a row overlaid with a new piece, and what that changed: the pieces that went and those that came.

    Looks only at the neighbourhood, so the cost of a small write grows with the logarithm of the number of pieces.
    """
    count = len(row) // PIECE_BYTES
    low, high = 0, count
    while low < high:  # the first piece that ends behind the new one's start
        middle = (low + high) // 2
        start, length = _start_and_length(row, middle * PIECE_BYTES)
        if start + length > piece[0]:
            high = middle
        else:
            low = middle + 1
    first, end = max(low - 1, 0), piece[0] + piece[1]  # its neighbours may continue it
    while low < count and _start_and_length(row, low * PIECE_BYTES)[0] < end:
        low += 1
    stop = min(low + 1, count)
    old = parse(row[first * PIECE_BYTES : stop * PIECE_BYTES])
    new = with_piece(old, piece)
    return row[: first * PIECE_BYTES] + encode(new) + row[stop * PIECE_BYTES :], old, new


def spans(pieces: Iterable[Piece]) -> list[Span] | None:
    """Return the ranges that rising pieces cover, those that touch as one; None when two of them overlap."""
    found: list[Span] = []
    for first, length, *_ in pieces:
        if found and first < found[-1][1]:
            return None
        if found and first == found[-1][1]:
            found[-1] = (found[-1][0], first + length)
        else:
            found.append((first, first + length))
    return found


def same(pieces: Sequence[Piece], others: Sequence[Piece]) -> list[Span]:
    """Return the ranges in which two rising, disjoint lists refer to the same bytes of the same blocks."""
    found: list[Span] = []
    at = 0
    for first, length, block, offset, _ in pieces:
        end = first + length
        while at < len(others) and others[at][0] < end:
            start, size, other, skip, _ = others[at]
            low, high = max(first, start), min(end, start + size)
            if low < high and block == other and first - offset == start - skip:
                found.append((low, high))
            if start + size > end:
                break
            at += 1
    return found


def cut(pieces: Iterable[Piece], ranges: Sequence[Span]) -> tuple[list[Piece], list[Piece]]:
    """Return the parts of rising, disjoint pieces inside and outside of rising, disjoint ranges."""
    inside: list[Piece] = []
    outside: list[Piece] = []
    at = 0
    for first, length, block, offset, whole in pieces:
        end, done = first + length, first
        while at < len(ranges) and ranges[at][0] < end:
            low, high = max(ranges[at][0], first), min(ranges[at][1], end)
            if low < high:
                if done < low:
                    outside.append((done, low - done, block, offset + done - first, whole))
                inside.append((low, high - low, block, offset + low - first, whole))
                done = high
            if ranges[at][1] > end:
                break
            at += 1
        if done < end:
            outside.append((done, end - done, block, offset + done - first, whole))
    return inside, outside


def hides(whole: int, visible: int) -> bool:
    """Return whether a block of `whole` bytes of which so many are visible hides enough to be looked at: a fifth."""
    return 4 * (whole - visible - HIDDEN_SLACK_BYTES) > visible


def crowded(row: bytes) -> bool:
    """Return whether compaction should look at a chunk: many pieces, or a block of which much is hidden."""
    if len(row) > CROWDED_PIECES * PIECE_BYTES:
        return True
    visible: dict[int, int] = {}
    wholes: dict[int, int] = {}
    for _, length, block, _, whole in _PIECE.iter_unpack(row):
        visible[block] = visible.get(block, 0) + length
        wholes[block] = whole
    return any(hides(whole, visible[block]) for block, whole in wholes.items())


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
