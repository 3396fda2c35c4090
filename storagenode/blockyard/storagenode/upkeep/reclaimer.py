"""Reclaim: blocks that the metadata group declared dead are dropped, and it is told so.

A node that was away is told of everything that died meanwhile, by the same call. The drop is durable before it is
confirmed: once every holder has confirmed, nobody remembers the block.
"""

from collections.abc import Callable
from typing import Any, Final

from blockyard.proto import logs
from blockyard.proto.cluster_pb2 import ConfirmReclaimRequest, ListReclaimReply, ListReclaimRequest
from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.upkeep.dropped import Dropped

LISTED_AT_ONCE: Final = 5_000
CALL_S: Final = 5.0
_log = logs.get(__name__)


class Reclaimer:
    """Drops dead blocks."""

    def __init__(self, store: BlockStore, dropped: Dropped, cluster: Any, node: int, incarnation: int) -> None:
        """`cluster` is a stub of the Cluster service."""
        self.dropped_blocks = 0
        self._store = store
        self._dropped = dropped
        self._cluster = cluster
        self._node = node
        self._incarnation = incarnation

    def run(self, stopping: Callable[[], bool]) -> None:
        """Drop all that waits. Raises BlockyardError when the metadata group does not answer: to be run again."""
        after, gone = 0, 0
        while not stopping():
            page = self._page(after)
            if page.blocks:
                self._dropped.add(page.blocks)
                gone += self._store.drop(page.blocks)
                self._confirm(page)
                after = page.blocks[-1]
            if page.end or not page.blocks:
                break
        self.dropped_blocks += gone
        if gone:
            _log.info("reclaimed", blocks=gone)

    def _page(self, after: int) -> ListReclaimReply:
        request = ListReclaimRequest(node=self._node, incarnation=self._incarnation, after=after, limit=LISTED_AT_ONCE)
        reply: ListReclaimReply = self._cluster.ListReclaim(request, timeout=CALL_S)
        return reply

    def _confirm(self, page: ListReclaimReply) -> None:
        request = ConfirmReclaimRequest(node=self._node, incarnation=self._incarnation, blocks=page.blocks)
        self._cluster.ConfirmReclaim(request, timeout=CALL_S)
