"""The content of files: pieces written, cleared, cut off and given back, chunk by chunk.

Functions here change rows, references, `size` and `allocated` of a record that the command may change; rights, times
and modes are their callers' concern. Invariants: no piece lies beyond `size`; `allocated` is the sum of the pieces.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from blockyard.metaserver.namespace import slices
from blockyard.metaserver.namespace.slices import (
    CHUNK_BYTES,
    CROWDED_PIECES,
    PIECE_BYTES,
    PIECES_PER_CHUNK,
    Piece,
)
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Table, Transaction
from blockyard.proto.errors import FileTooBig, Overloaded
from blockyard.proto.metadata_pb2 import Attributes

if TYPE_CHECKING:
    from blockyard.metaserver.namespace.state import State

NEXT_INODE: Final = b"next_inode"
"""The counter that numbers inodes, and what is set aside of one."""
FILE_BYTES_MAX: Final = CHUNK_BYTES << 32
"""Largest file: as many chunks as a chunk index can name, 256 PiB."""

PIECES_DRAINED_PER_ENTRY: Final = 2_048
CROWDED_BYTES: Final = CROWDED_PIECES * PIECE_BYTES


class Doomed(Table[int, int]):
    """Files without inode whose pieces are still to be given back; kept in memory, for there are few."""

    __slots__ = ()

    def __init__(self, tx: Transaction) -> None:
        super().__init__(tx, keys.doomed, int.from_bytes, _encode, 2**62)
        for key, value in tx.scan_prefix(keys.DOOMED):
            self.known[keys.parse_one(key)] = int.from_bytes(value)

    def waiting(self) -> list[int]:
        """Return the files, by rising inode."""
        return sorted(number for number, since in self.known.items() if since is not None)


def _encode(since: int) -> bytes:
    return since.to_bytes(8, "big")


def check_size(size: int) -> None:
    """Raise FileTooBig when a file cannot be that long."""
    if size > FILE_BYTES_MAX:
        raise FileTooBig(f"{size} bytes: a file holds at most {FILE_BYTES_MAX}")


def write(state: "State", record: Attributes, position: int, length: int, block: int, offset: int, whole: int) -> None:
    """Put `length` bytes of a block at `position`, over what is there; block 0 is a hole. The size grows with it."""
    end = position + length
    check_size(end)
    if block == 0:
        clear(state, record, position, min(end, record.size))
        record.size = max(record.size, end)
        return
    while position < end:
        index, start = divmod(position, CHUNK_BYTES)
        part = min(end - position, CHUNK_BYTES - start)
        _write_piece(state, record, index, (start, part, block, offset, whole))
        position += part
        offset += part
        if position > record.size:
            record.size = position


def _write_piece(state: "State", record: Attributes, index: int, piece: Piece) -> None:
    number, tx = record.inode, state.tx
    key = keys.chunk(number, index)
    row = None if index * CHUNK_BYTES >= record.size else tx.get(key)
    if row is None:
        tx.put(key, slices.pack_piece(*piece))
        state.references.add(piece)
        record.allocated += piece[1]
        if slices.hides(piece[4], piece[1]):
            state.crowded.mark(number, index, state.now)
        return
    before = slices.last(row)
    if before[0] + before[1] <= piece[0]:  # an append: the commonest change of a chunk that has pieces
        if slices.continues(before, piece):
            longer = (before[0], before[1] + piece[1], before[2], before[3], before[4])
            tx.put(key, row[:-PIECE_BYTES] + slices.pack_piece(*longer))
        else:
            _check_room(number, index, len(row) // PIECE_BYTES + 1)
            tx.put(key, row + slices.pack_piece(*piece))
            state.references.add(piece)
            if len(row) >= CROWDED_BYTES or slices.hides(piece[4], piece[1]):
                state.crowded.mark(number, index, state.now)
        record.allocated += piece[1]
        return
    row, gone, came = slices.overlaid(row, piece)
    _check_room(number, index, len(row) // PIECE_BYTES)
    _store(state, record, index, row, gone, came)


def exchange(state: "State", record: Attributes, index: int, old: list[Piece], new: list[Piece]) -> None:
    """Let a chunk consist of `new` instead of `old`."""
    _check_room(record.inode, index, len(new))
    _store(state, record, index, slices.encode(new), old, new)


def _store(state: "State", record: Attributes, index: int, row: bytes, gone: list[Piece], came: list[Piece]) -> None:
    """Let a chunk have another row, in which some pieces took the place of others."""
    number = record.inode
    if row:
        state.tx.put(keys.chunk(number, index), row)
    else:
        state.tx.delete(keys.chunk(number, index))
    if slices.crowded(row):
        state.crowded.mark(number, index, state.now)
    else:
        state.crowded.unmark(number, index)
    state.references.exchange(gone, came)
    record.allocated += slices.bytes_of(came) - slices.bytes_of(gone)


def _check_room(number: int, index: int, pieces: int) -> None:
    if pieces > PIECES_PER_CHUNK:
        raise Overloaded(f"chunk {index} of inode {number} would have {pieces} pieces; wait until it is compacted")


def chunk_rows(state: "State", number: int, start: int, end: int) -> Iterator[tuple[int, list[Piece]]]:
    """Yield index and pieces of the chunks that have any in the range of bytes [start, end)."""
    if start >= end:
        return
    first, final = start // CHUNK_BYTES, (end - 1) // CHUNK_BYTES
    if first == final:
        row = state.tx.get(keys.chunk(number, first))
        if row is not None:
            yield first, slices.parse(row)
        return
    stop = keys.chunk(number, final) + b"\0"
    for key, row in state.tx.scan(keys.chunk(number, first), stop):
        yield keys.parse_chunk(key)[1], slices.parse(row)


def pieces(state: "State", number: int, start: int, end: int) -> Iterator[Piece]:
    """Yield the pieces of a file in the range [start, end), cut to it, positions counted from the file's start."""
    for index, stored in chunk_rows(state, number, start, end):
        base = index * CHUNK_BYTES
        for piece in slices.within(stored, start - base, end - base):
            yield (piece[0] + base, *piece[1:])


def clear(state: "State", record: Attributes, start: int, end: int) -> None:
    """Let the range [start, end) read as zeros; the size stays.

    What is more than an entry may give back leaves the file now, chunk by chunk, and is given back entry by entry.
    """
    if record.allocated == 0:
        return
    budget, aside = PIECES_DRAINED_PER_ENTRY, 0
    for index, old in list(chunk_rows(state, record.inode, start, end)):
        base = index * CHUNK_BYTES
        budget -= len(old)
        if budget < 0 and start <= base and min(base + CHUNK_BYTES, record.size) <= end:
            aside = aside or state.counters.add(NEXT_INODE)
            _set_aside(state, record, index, old, aside)
            continue
        new = slices.without(old, start - base, end - base)
        if new != old:
            exchange(state, record, index, old, new)
    if aside:
        state.doomed.put(aside, state.now)


def _set_aside(state: "State", record: Attributes, index: int, old: list[Piece], aside: int) -> None:
    """Take a whole chunk out of a file; its pieces belong to the inode `aside` until they are given back."""
    key = keys.chunk(record.inode, index)
    row = state.tx.get(key)
    assert row is not None, f"chunk {index} of inode {record.inode} was listed and is gone"
    state.tx.put(keys.chunk(aside, index), row)
    state.tx.delete(key)
    state.crowded.unmark(record.inode, index)
    record.allocated -= slices.bytes_of(old)


def resize(state: "State", record: Attributes, size: int) -> None:
    """Cut a file off, or let it grow by a hole."""
    check_size(size)
    if size < record.size:
        clear(state, record, size, record.size)
    record.size = size


def remove_all(state: "State", record: Attributes) -> None:
    """Give back every piece of a file that is being removed: a small one now, a large one entry by entry."""
    if record.allocated == 0:
        return
    if record.size > CHUNK_BYTES:
        state.doomed.put(record.inode, state.now)
        return
    key = keys.chunk(record.inode, 0)
    row = state.tx.get(key)
    if row is not None:
        state.references.exchange(slices.parse(row), ())
        state.tx.delete(key)
        state.crowded.unmark(record.inode, 0)


def drain(state: "State") -> None:
    """Give back some pieces of doomed files, at the end of an entry: a bounded number, so that no entry takes long."""
    budget = PIECES_DRAINED_PER_ENTRY
    for number in state.doomed.waiting():
        for key, row in state.tx.scan_prefix(keys.chunks(number)):
            if budget <= 0:
                break
            gone = slices.parse(row)
            state.references.exchange(gone, ())
            state.tx.delete(key)
            state.crowded.unmark(number, keys.parse_chunk(key)[1])
            budget -= len(gone)
        else:
            state.doomed.delete(number)
        state.references.settle(state.session)
        state.tx.commit()
        if budget <= 0:
            return
