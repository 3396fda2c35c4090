"""How many pieces refer to each block, so that a block is reclaimed exactly when the last of them goes.

A command collects its changes of references and settles them at its end, by their sum per block: content that moves
within one command never looks dead. A block whose count reaches zero is declared dead to the cluster and can never be
referred to again: its id is spent by the command that refers to it first. That command may refer to it from several
files, so ids it spent stay usable until it ends.
"""

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final, Protocol

from blockyard.metaserver.namespace.slices import Piece
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Transaction
from blockyard.proto.errors import InvalidArgument, LeaseExpired

_ROW: Final = Struct("<II")


class BlockLeases(Protocol):
    """Which block ids a session may use, and what becomes of blocks; kept by the cluster's part of the state."""

    def owned(self, session: int, block: int) -> bool:
        """Return whether the session leased the block's id and has not spent it."""
        ...

    def spend(self, session: int, block: int, map_epoch: int) -> bool:
        """Use a leased id up; return False when the session does not own it.

        Raises StaleEpoch when who held the block under the map of `map_epoch` (0: not said) may not hold it any more.
        """
        ...

    def died(self, tx: Transaction, blocks: Sequence[int]) -> None:
        """Nothing refers to these blocks any more."""
        ...

    def ended(self, session: int) -> None:
        """The session is over: its leases end."""
        ...


class EveryBlock:
    """`BlockLeases` that grant all: for tests and tools."""

    def owned(self, session: int, block: int) -> bool:
        return True

    def spend(self, session: int, block: int, map_epoch: int) -> bool:
        return True

    def died(self, tx: Transaction, blocks: Sequence[int]) -> None:
        for block in blocks:
            tx.put(keys.reclaim(block), b"")

    def ended(self, session: int) -> None:
        """Nothing was leased."""


class References:
    """Changes of block references that the command under way has made so far."""

    __slots__ = ("_leases", "_spent", "_tx", "changes", "map_epoch")

    def __init__(self, tx: Transaction, leases: BlockLeases) -> None:
        self._tx = tx
        self._leases = leases
        self._spent: set[int] = set()  # ids that the command under way has used up
        self.changes: dict[int, tuple[int, int]] = {}  # block: (change, length of the block)
        self.map_epoch = 0  # of the map that the command's new blocks were written under; 0 when it does not say

    def begin(self) -> None:
        """A command begins: ids that the one before it spent are not usable any more."""
        self.map_epoch = 0
        if self._spent:
            self._spent.clear()

    def usable(self, session: int, block: int) -> bool:
        """Return whether the session may refer to the block: it leased the id, or this command had to do with it.

        What a command changed so far is either content that it was allowed to add, or that of the file it replaces.
        """
        return block in self._spent or block in self.changes or self._leases.owned(session, block)

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

    def settle(self, session: int) -> None:
        """Write the changes.

        Raises InvalidArgument on a wrong length, LeaseExpired on a block that is dead, StaleEpoch on one that was
        written to holders who may have gone since.
        """
        tx, first, died = self._tx, set(), []
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
            elif block not in self._spent:
                if not self._leases.spend(session, block, self.map_epoch):
                    raise LeaseExpired(f"block {block:#x} is not leased by session {session}")
                first.add(block)
            count += change
            if count < 0:
                raise AssertionError(f"block {block:#x} has {count} references")
            if count:
                tx.put(key, _ROW.pack(count, whole))
                continue
            if row is not None:
                tx.delete(key)
            died.append(block)  # also when it came and went within this command
        if died:
            self._leases.died(tx, died)
        self._spent |= first
        self.changes.clear()

    def forget(self) -> None:
        """Drop the changes of a refused command."""
        self.changes.clear()


def parse(row: bytes) -> tuple[int, int]:
    """Return a row's count of references and the block's length."""
    count, whole = _ROW.unpack(row)
    return count, whole
