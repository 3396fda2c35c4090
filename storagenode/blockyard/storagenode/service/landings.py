"""Blocks at the moment in which they become readable here, judged by the newest map, so that a list can be trusted.

A node that takes over a placement group asks the former holders for their lists, and once it has all blocks they are
let go. So what a holder lists must be all that it will ever store of the group under an older map: it learns the map
of whoever asks, waits for the blocks that were judged by the map before, and lists then. Whatever comes later is judged
by the newer map, and refused.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from blockyard.proto import errors
from blockyard.storagenode.service.guard import Guard

WAIT_S: Final = 4.0
"""How long a list waits for the disk; whoever asked asks again."""


class Landings:
    """The blocks that are being stored right now. Any number of threads may use it."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._changed = threading.Condition()
        self._begun = 0
        self._under_way: set[int] = set()

    @contextmanager
    def storing(self, blocks: Iterable[int], chain: Sequence[int]) -> Iterator[None]:
        """Around the storing of blocks that came through the nodes `chain`. Raises StaleEpoch for a former holder's."""
        with self._changed:
            self._begun += 1
            mine = self._begun
            self._under_way.add(mine)
        try:
            for block in blocks:
                self._guard.check_holders(block, chain)
            yield
        finally:
            with self._changed:
                self._under_way.discard(mine)
                self._changed.notify_all()

    def settle(self, map_epoch: int) -> None:
        """Return once no block will be stored here any more that was judged by a map older than `map_epoch`.

        Raises Busy when the disk takes too long, and what stopped the fetching of the map.
        """
        self._guard.learn(map_epoch)
        with self._changed:
            last = self._begun
            if not self._changed.wait_for(lambda: min(self._under_way, default=last + 1) > last, WAIT_S):
                raise errors.Busy("blocks are being stored whose group may have moved on", retry_after_ms=1_000)
