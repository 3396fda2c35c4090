"""Leased block ids in stock, and the nodes that are avoided for a while. Pure: the clock is given.

An id is used once: one whose block could not be written is thrown away, for nodes may hold part of it.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from blockyard.proto.cluster_pb2 import BlockIdRange
from blockyard.proto.ids import SEQUENCE_BITS

AVOIDED_S: Final = 15.0
"""How long a node that failed a write is avoided; the cluster notices a dead one sooner."""


class BlockIds:
    """The ids that the session owns and has not used."""

    def __init__(self) -> None:
        self._ranges: deque[tuple[int, int, int]] = deque()  # group, next sequence, how many
        self.count = 0

    def add(self, ranges: Iterable[BlockIdRange]) -> None:
        """The metadata leader leased these."""
        for each in ranges:
            self._ranges.append((each.group, each.first_sequence, each.count))
            self.count += each.count

    def take(self, wanted: int, shunned: Iterable[int] = ()) -> list[int]:
        """Return 1 to `wanted` ids of one group that is not `shunned`; none when there is no such id.

        Groups take turns, so that writes spread over nodes.
        """
        avoid = set(shunned)
        for _ in range(len(self._ranges)):
            group, sequence, count = self._ranges.popleft()
            if group in avoid:
                self._ranges.append((group, sequence, count))
                continue
            taken = min(wanted, count)
            if taken < count:
                self._ranges.append((group, sequence + taken, count - taken))
            self.count -= taken
            return [group << SEQUENCE_BITS | number for number in range(sequence, sequence + taken)]
        return []

    def clear(self) -> None:
        """The session is over, and its ids with it."""
        self._ranges.clear()
        self.count = 0


class AvoidedNodes:
    """Nodes that failed lately."""

    def __init__(self) -> None:
        self._until_s: dict[int, float] = {}

    def failed(self, nodes: Iterable[int], now_s: float) -> None:
        """These nodes failed just now."""
        for node in nodes:
            self._until_s[node] = now_s + AVOIDED_S

    def now(self, now_s: float) -> frozenset[int]:
        """Return the nodes to avoid."""
        if not self._until_s:
            return _NOBODY
        self._until_s = {node: until for node, until in self._until_s.items() if until > now_s}
        return frozenset(self._until_s)


_NOBODY: Final[frozenset[int]] = frozenset()
