"""What of a crowded chunk is worth rewriting now.

To read one more piece costs a reader about as much as 96 KiB more: reads are widened to whole pages, and a piece is a
range of its own. So a chunk of V visible bytes in at most V / `PIECE_COST_BYTES` pieces reads at half of a fresh
chunk's speed or better, and to take away one piece is worth rewriting `PIECE_COST_BYTES` at any time. Every write adds
at most two pieces, so a chunk under constant random writes is rewritten with at most 2 x 96 KiB for each of them,
however it is hit. When nobody has written for a while a piece is worth more, in proportion to the quiet: what is read
often and written seldom ends as one piece.

Hidden bytes are worth what they give back: the visible bytes of a block are rewritten when it hides more than it shows,
and once it is quiet when it hides a fifth; so each byte hidden pays for one byte rewritten, or four.

A pure function of the chunk's pieces. Invariants of a plan: its pieces are of the chunk, rising, whole; what it saves
is more than what it rewrites.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from blockyard.metaserver.namespace import slices
from blockyard.metaserver.namespace.slices import CROWDED_PIECES, Piece

PIECE_COST_BYTES: Final = 96 << 10
JOB_COST_BYTES: Final = 1 << 20
"""What a job costs beside its bytes: two log entries, a call, a chain; as much as 11 pieces are worth."""
QUIET_UNIT_S: Final = 4
"""A piece is worth `PIECE_COST_BYTES` for every so many seconds of quiet: slow writes cost a chunk 48 KiB/s at most."""
PATIENCE_MAX: Final = 2_048
"""At so many times `PIECE_COST_BYTES` a piece, 128 MiB, no two pieces of a chunk are too long to be joined."""

HIDDEN_WEIGHT_MAX: Final = 4
"""A hidden byte pays for one written anew, and for so many at most once it is quiet."""

References = Callable[[int], int]
"""How many pieces of the whole namespace refer to a block."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to rewrite: pieces of a chunk, rising and disjoint, that become one block."""

    pieces: tuple[Piece, ...]

    @property
    def length(self) -> int:
        """Bytes of the new block."""
        return sum(piece[1] for piece in self.pieces)

    def replacement(self, block: int) -> list[Piece]:
        """Return the pieces of the new block: the visible bytes one after the other, joined where they touch."""
        whole, done = self.length, 0
        pieces: list[Piece] = []
        for start, length, *_ in self.pieces:
            if pieces and pieces[-1][0] + pieces[-1][1] == start:
                first, so_far, _, offset, _ = pieces[-1]
                pieces[-1] = (first, so_far + length, block, offset, whole)
            else:
                pieces.append((start, length, block, done, whole))
            done += length
        return pieces


def plan(pieces: Sequence[Piece], references: References, quiet_s: float) -> Plan | None:
    """Return what of a chunk is worth rewriting, or None. `quiet_s` is for how long nobody has written to it."""
    patience = min(max(quiet_s / QUIET_UNIT_S, 1.0), PATIENCE_MAX)
    worth = int(PIECE_COST_BYTES * patience)
    chosen, profit = _runs(pieces, worth) if len(pieces) > CROWDED_PIECES else (set[int](), 0)
    drained, gain = _drained(pieces, references, patience)
    profit += gain
    chosen |= drained
    if profit <= JOB_COST_BYTES:
        return None
    return Plan(tuple(pieces[at] for at in sorted(chosen)))


def hopeless(pieces: Sequence[Piece], references: References) -> bool:
    """Return whether no quiet, however long, makes the chunk worth rewriting."""
    return plan(pieces, references, PATIENCE_MAX * QUIET_UNIT_S) is None


def _runs(pieces: Sequence[Piece], worth: int) -> tuple[set[int], int]:
    """Return the indexes of runs of touching pieces that pay when joined, and what they save beyond their bytes.

    A run of n pieces and b bytes saves (n - 1) x worth - b. As it grows, it is closed where going on would lose more
    than a piece is worth: two runs are better then.
    """
    chosen: set[int] = set()
    total = 0
    first = best_end = 0
    balance = best = -worth
    for at, (start, length, *_) in enumerate(pieces):
        touches = at > 0 and pieces[at - 1][0] + pieces[at - 1][1] == start
        if not touches or balance <= max(best, 0) - worth:
            if best > 0:
                chosen.update(range(first, best_end))
                total += best
            first, balance, best = at, -worth, -worth
        balance += worth - length
        if balance > best:
            best, best_end = balance, at + 1
    if best > 0:
        chosen.update(range(first, best_end))
        total += best
    return chosen, total


def _drained(pieces: Sequence[Piece], references: References, patience: float) -> tuple[set[int], int]:
    """Return the indexes of the pieces of blocks that hide more than it costs to write what they show, and the gain.

    Of a block that others refer to as well, a share in proportion to the references is counted as hidden here: to copy
    a part out gives nothing back before the others do the same.
    """
    visible: dict[int, int] = {}
    count: dict[int, int] = {}
    whole: dict[int, int] = {}
    for _, length, block, _, size in pieces:
        visible[block] = visible.get(block, 0) + length
        count[block] = count.get(block, 0) + 1
        whole[block] = size
    weight = min(patience, HIDDEN_WEIGHT_MAX)
    drained: set[int] = set()
    gain = 0.0
    for block, size in whole.items():
        if not slices.hides(size, visible[block]):
            continue
        hidden = size * count[block] // max(references(block), count[block]) - visible[block]
        if hidden * weight > visible[block]:
            drained.add(block)
            gain += (hidden * weight - visible[block]) * patience / weight
    return {at for at, piece in enumerate(pieces) if piece[2] in drained}, int(gain)


def bytes_by_group(pieces: Iterable[Piece], group_of: Callable[[int], int]) -> dict[int, int]:
    """Return how many bytes of the pieces lie in each placement group."""
    found: dict[int, int] = {}
    for _, length, block, _, _ in pieces:
        group = group_of(block)
        found[group] = found.get(group, 0) + length
    return found
