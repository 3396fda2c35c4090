"""Blocks that this node dropped because they are dead, or nothing refers to them.

Such an id never lives again, so nothing may bring the block back: not a holder's list that was fetched before it
dropped it too, nor a copy that is on its way. What a restart forgets is an orphan at worst, for gc to find.
"""

import threading
from collections.abc import Iterable
from typing import Final

KEPT: Final = 1_000_000
"""Ids kept in memory, some 100 MB at most; the oldest are forgotten first."""


class Dropped:
    """A set of ids that only grows, up to a bound. Any number of threads may use it."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._blocks: dict[int, None] = {}

    def add(self, blocks: Iterable[int]) -> None:
        """Remember blocks. Call this before they are dropped: who stores one afterwards sees it here."""
        with self._lock:
            self._blocks.update(dict.fromkeys(blocks))
            for _ in range(len(self._blocks) - self._kept):
                del self._blocks[next(iter(self._blocks))]

    def __contains__(self, block: int) -> bool:
        return block in self._blocks
