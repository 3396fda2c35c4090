"""Blocks whose last reference is gone, until every node that may have a copy has dropped it.

A row per block. It names the nodes that *have* confirmed, not those that must: who must is read from the map whenever
it matters, so it is right however the map changed meanwhile. A row goes when every present holder and former holder
of its group has confirmed. So

- a node that is down keeps its rows waiting; it confirms when it is back, or stops being a holder when the map lets it
  go (out and the others complete, or removed);
- a node that joins the group later must confirm as well: it may have copied the block before the others dropped it;
- a node that comes back after it was let go asks `fates` before it offers anything, and learns that the block is dead,
  or, once the row is gone, unknown.

When the map lets a holder go, nobody may owe a confirmation any more and yet nobody confirms again. Such groups are
marked, and `sweep` (proposed by the leader while `sweep_pending`) looks through them, a bounded number of rows a time.
"""

from collections.abc import Iterable
from typing import Final

from blockyard.metaserver.cluster.map import MapView
from blockyard.metaserver.cluster.records import SWEEPS, Group
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Table, Transaction, end_of_prefix
from blockyard.proto.cluster_pb2 import ConfirmReclaimRequest, ListReclaimReply, ListReclaimRequest
from blockyard.proto.errors import ArgumentTooLong, InvalidArgument
from blockyard.proto.ids import SEQUENCE_BITS

LARGEST_PAGE: Final = 100_000
SWEEP_ROWS: Final = 2_000
_NODE_BYTES: Final = 4
_SCANNED_PER_LISTED: Final = 4  # rows looked at for every row a page may hold, so that a call's work is bounded

Counts = tuple[int, int]
"""Blocks that wait, and blocks that were ever enqueued."""


class Reclaim:
    """The rows of dead blocks, over one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self.tx = tx
        self._counts: Table[None, Counts] = Table(
            tx, lambda _: keys.META + b"reclaim", _parse_counts, _encode_counts, 1
        )

    @property
    def counts(self) -> Counts:
        return self._counts.get(None) or (0, 0)

    def is_dead(self, block: int) -> bool:
        """Return whether the block waits to be reclaimed; it must never be referred to again."""
        return self.tx.get(keys.reclaim(block)) is not None

    def enqueue(self, blocks: Iterable[int]) -> None:
        """Declare blocks dead: their last reference went in this command. Doing it twice is harmless."""
        new = 0
        for block in blocks:
            key = keys.reclaim(block)
            if self.tx.get(key) is None:
                self.tx.put(key, b"")
                new += 1
        self._count(new, new)

    def list(self, view: MapView, request: ListReclaimRequest) -> ListReclaimReply:
        """Return a page of the blocks that a node still has to drop, rising, of the groups it may have copies of.

        A page may name a block that the node confirmed already, so that `after` moves on. Raises UnknownNode,
        StaleIncarnation, InvalidArgument.
        """
        node = view.node(request.node, request.incarnation)
        if not 1 <= request.limit <= LARGEST_PAGE:
            raise InvalidArgument(f"{request.limit} blocks were asked for; 1 to {LARGEST_PAGE} can be")
        blocks: list[int] = []
        mark, budget = node.id.to_bytes(_NODE_BYTES, "big"), _SCANNED_PER_LISTED * request.limit
        for group in view.groups_of.get(node.id, ()):
            start = max(request.after + 1, group << SEQUENCE_BITS)
            if start >> SEQUENCE_BITS > group:
                continue
            for key, row in self.tx.scan(keys.reclaim(start), _end_of_group(group)):
                budget -= 1
                if budget <= 0 or not _has_confirmed(row, mark):
                    blocks.append(keys.parse_one(key))
                    if budget <= 0 or len(blocks) == request.limit:
                        return ListReclaimReply(blocks=blocks)
        return ListReclaimReply(blocks=blocks, end=True)

    def confirm(self, view: MapView, request: ConfirmReclaimRequest) -> None:
        """Note that a node has dropped blocks (or never had them), and forget those that every holder dropped.

        Blocks that do not wait, and nodes that are no holders, change nothing. Raises UnknownNode, StaleIncarnation,
        ArgumentTooLong.
        """
        node = view.node(request.node, request.incarnation)
        if len(request.blocks) > LARGEST_PAGE:
            raise ArgumentTooLong(f"{len(request.blocks)} blocks were confirmed at once; {LARGEST_PAGE} can be")
        mark, gone = node.id.to_bytes(_NODE_BYTES, "big"), 0
        for block in request.blocks:
            key, number = keys.reclaim(block), block >> SEQUENCE_BITS
            row = self.tx.get(key)
            if row is None or number >= len(view.groups) or node.id not in view.groups[number].holders:
                continue
            if not _has_confirmed(row, mark):
                row += mark
            if _is_done(row, view.groups[number]):
                self.tx.delete(key)
                gone += 1
            else:
                self.tx.put(key, row)
        self._count(-gone, 0)

    # ------------------------------------------------------------------------------------------------- sweeping

    @property
    def sweep_pending(self) -> bool:
        """Whether the leader should propose a sweep."""
        return next(self.tx.scan_prefix(SWEEPS), None) is not None

    def sweep(self, view: MapView) -> None:
        """Forget blocks for which no present holder owes a confirmation: up to `SWEEP_ROWS` rows of one marked group.

        The mark of a group holds the first block not looked at yet.
        """
        marked = next(self.tx.scan_prefix(SWEEPS), None)
        if marked is None:
            return
        mark, position = marked
        group = int.from_bytes(mark[-2:], "big")
        start = int.from_bytes(position, "big") if position else group << SEQUENCE_BITS
        gone = 0
        for looked_at, (key, row) in enumerate(self.tx.scan(keys.reclaim(start), _end_of_group(group))):
            if looked_at == SWEEP_ROWS:
                self.tx.put(mark, keys.parse_one(key).to_bytes(8, "big"))
                break
            if _is_done(row, view.groups[group]):
                self.tx.delete(key)
                gone += 1
        else:
            self.tx.delete(mark)
        self._count(-gone, 0)

    def _count(self, waiting: int, enqueued: int) -> None:
        if waiting or enqueued:
            before = self.counts
            self._counts.put(None, (before[0] + waiting, before[1] + enqueued))


def confirmed(row: bytes) -> list[int]:
    """Return the ids of the nodes that a row says have confirmed."""
    return [int.from_bytes(row[at : at + _NODE_BYTES], "big") for at in range(0, len(row), _NODE_BYTES)]


def _has_confirmed(row: bytes, mark: bytes) -> bool:
    return any(row[at : at + _NODE_BYTES] == mark for at in range(0, len(row), _NODE_BYTES))


def _is_done(row: bytes, group: Group) -> bool:
    """A group without holders keeps its rows: whoever comes first may bring copies along."""
    return bool(group.holders) and set(group.holders) <= set(confirmed(row))


def _end_of_group(group: int) -> bytes:
    """Return the key after every block of a group; after the last group no block id is left, but a key is."""
    return end_of_prefix(keys.reclaim(group << SEQUENCE_BITS)[: -SEQUENCE_BITS // 8])


def _parse_counts(row: bytes) -> Counts:
    return int.from_bytes(row[:8], "big"), int.from_bytes(row[8:], "big")


def _encode_counts(counts: Counts) -> bytes:
    return counts[0].to_bytes(8, "big") + counts[1].to_bytes(8, "big")
