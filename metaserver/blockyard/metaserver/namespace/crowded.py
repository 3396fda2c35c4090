"""Chunks that compaction should look at, marked by the command that made them so.

A mark is a row of the agreed state, so it survives restarts and changes of leader; which of the marked chunks are
rewritten, and when, is the leader's choice (`blockyard.metaserver.compaction`). All marks stay in memory: a chunk has
one only while it has many pieces, or blocks of which little is visible, and such chunks do not stay.

Invariants: a marked chunk has a row; a chunk with more than `CROWDED_PIECES` pieces, some of which touch, is marked.
"""

from typing import Final, TypeAlias

from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Table, Transaction
from blockyard.proto.common_pb2 import Empty
from blockyard.proto.internal_pb2 import UnmarkChunkRequest
from crc32c import crc32c

ChunkName: TypeAlias = tuple[int, int]
"""Inode, and index of the chunk in it."""

_UNBOUNDED: Final = 2**62


class Crowded(Table[ChunkName, int]):
    """When each marked chunk was marked, ns, by its name; oldest mark first."""

    __slots__ = ("_unmarked",)

    def __init__(self, tx: Transaction) -> None:
        super().__init__(tx, lambda name: keys.crowded(*name), int.from_bytes, _encode, _UNBOUNDED)
        self._unmarked: list[ChunkName] = []
        for key, value in tx.scan_prefix(keys.CROWDED):
            self.known[keys.parse_chunk(key)] = int.from_bytes(value)

    def load(self, key: ChunkName) -> int | None:
        """Every mark is in memory already."""
        return None

    def names(self) -> list[ChunkName]:
        """Return the marked chunks, those marked first at first."""
        return [name for name, since in self.known.items() if since is not None]

    def mark(self, inode: int, index: int, now_ns: int) -> None:
        """Mark a chunk, unless it is."""
        if self.peek((inode, index)) is None:
            self.put((inode, index), now_ns)

    def unmark(self, inode: int, index: int) -> None:
        """Take a chunk's mark away, if it has one."""
        if self.peek((inode, index)) is not None:
            self.delete((inode, index))

    def commit(self) -> None:
        """Keep this command's marks."""
        self._unmarked += [name for name, since in self.pending.items() if since is None]
        super().commit()

    def shrink(self) -> None:
        """Forget what is written and no mark any more."""
        for name in self._unmarked:
            if self.known.get(name, 0) is None:
                del self.known[name]
        self._unmarked.clear()


def unmark_chunk(tx: Transaction, crowded: Crowded, request: UnmarkChunkRequest) -> Empty:
    """Take a chunk's mark away because no rewriting would make it better, if it still is as the leader saw it."""
    row = tx.get(keys.chunk(request.inode, request.chunk))
    if row is not None and crc32c(row) == request.row_crc32c:
        crowded.unmark(request.inode, request.chunk)
    return Empty()


def _encode(since: int) -> bytes:
    return since.to_bytes(8, "big")
