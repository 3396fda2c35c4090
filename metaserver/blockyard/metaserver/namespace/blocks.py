"""How many pieces refer to each block, so that a block is reclaimed exactly when the last of them goes.

A command collects its changes of references and settles them at its end, by their sum per block: content that moves
within one command never looks dead. A block whose count reaches zero gets a reclaim row and can never be referred to
again (its id is used once).
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final

from blockyard.metaserver.namespace.slices import Piece
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Transaction
from blockyard.proto.errors import InvalidArgument, LeaseExpired

_ROW: Final = Struct("<II")


class References:
    """Changes of block references that the command under way has made so far."""

    __slots__ = ("_tx", "changes")

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self.changes: dict[int, tuple[int, int]] = {}  # block: (change, length of the block)

    def add(self, piece: Piece, count: int = 1) -> None:
        """A piece came (1) or went (-1)."""
        block, whole = piece[2], piece[4]
        known = self.changes.get(block)
        if known is None:
            self.changes[block] = (count, whole)
            return
        if known[1] != whole:
            raise InvalidArgument(f"block {block:#x} is said to be {known[1]} and {whole} bytes long")
        self.changes[block] = (known[0] + count, whole)

    def exchange(self, old: Iterable[Piece], new: Iterable[Piece]) -> None:
        """Some pieces took the place of others."""
        for piece in new:
            self.add(piece)
        for piece in old:
            self.add(piece, -1)

    def settle(self) -> None:
        """Write the changes. Raises InvalidArgument on a wrong length, LeaseExpired on a block that is dead."""
        if not self.changes:
            return
        tx = self._tx
        for block, (change, whole) in self.changes.items():
            key = keys.block(block)
            row = tx.get(key)
            if change == 0 and row is not None:
                continue
            count = 0
            if row is not None:
                count, known = _ROW.unpack(row)
                if known != whole:
                    raise InvalidArgument(f"block {block:#x} is {known} bytes long, not {whole}")
            elif tx.get(keys.reclaim(block)) is not None:
                raise LeaseExpired(f"block {block:#x} waits to be reclaimed and cannot be used again")
            count += change
            if count < 0:
                raise AssertionError(f"block {block:#x} has {count} references")
            if count:
                tx.put(key, _ROW.pack(count, whole))
                continue
            if row is not None:
                tx.delete(key)
            tx.put(keys.reclaim(block), b"")  # also when it came and went within this command
        self.changes.clear()

    def forget(self) -> None:
        """Drop the changes of a refused command."""
        self.changes.clear()


def count_of(tx: Transaction, block: int) -> int:
    """Return how many pieces refer to the block."""
    row = tx.get(keys.block(block))
    return 0 if row is None else parse(row)[0]


def parse(row: bytes) -> tuple[int, int]:
    """Return a row's count of references and the block's length."""
    count, whole = _ROW.unpack(row)
    return count, whole
