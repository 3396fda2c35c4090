"""Block ids at hand: leased many at a time, given out for one placement group at a time."""

import threading
import time
from typing import Final

from blockyard.client.cluster_link import ClusterLink
from blockyard.client.metadata.session import Session
from blockyard.client.writer.block_ids import AvoidedNodes, BlockIds
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import LeaseBlockIdsRequest

LEASED_AT_ONCE: Final = 256
_LEASED_AT_MOST: Final = 8_192


class IdStock:
    """The block ids of the current session. Any number of threads may use it."""

    def __init__(self, link: ClusterLink) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._ids = BlockIds()
        self._session: Session | None = None
        self.avoided = AvoidedNodes()

    def take(self, session: Session, wanted: int = 1) -> list[int]:
        """Return 1 to `wanted` ids of one group, one without nodes that failed lately where there is such a group.

        Raises NoSpace, BelowWriteMin when no group takes writes, SessionExpired.
        """
        with self._lock:
            if self._session is not session:
                self._session = session
                self._ids.clear()
            avoid = self.avoided.now(time.monotonic())
            view = self._link.maps.view()
            taken = self._ids.take(wanted, _groups_with(view, avoid))
            if not taken:
                self._lease(session, view, wanted, avoid)
                taken = self._ids.take(wanted, _groups_with(view, avoid)) or self._ids.take(wanted)
            return taken

    def failed(self, nodes: tuple[int, ...]) -> None:
        """Nodes failed a write: others are preferred for a while."""
        if nodes:
            with self._lock:
                self.avoided.failed(nodes, time.monotonic())

    def _lease(self, session: Session, view: ClusterView, wanted: int, avoid: frozenset[int]) -> None:
        count = min(max(LEASED_AT_ONCE, 4 * wanted), _LEASED_AT_MOST)
        near, _ = self._link.near(view)
        request = LeaseBlockIdsRequest(count=count, near_node=near, avoid_nodes=sorted(avoid))
        reply = self._link.calls.change_cluster("LeaseBlockIds", request, session)
        if reply.map_epoch > view.epoch:
            self._link.maps.at_least(reply.map_epoch)
        self._ids.add(reply.ranges)


def _groups_with(view: ClusterView, nodes: frozenset[int]) -> set[int]:
    """Return the groups that have one of the nodes, or too few that take writes."""
    if not nodes:
        return set()
    return {group for node in nodes for group in view.groups_of(node)}
