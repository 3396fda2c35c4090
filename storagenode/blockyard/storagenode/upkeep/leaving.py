"""Groups that this node holds no longer: it drops their blocks once it is sure that they are elsewhere.

A former holder is let go by the map when every present holder called the group complete. That is not enough to drop:
a holder may have lost something since, or a writer with an old map may have come late. So each block is dropped only
when every present holder lists it just now. What some holder lacks is kept, and that holder is told, so that it looks
here too; what the metadata group calls dead is dropped. While a group has fewer holders than the cluster wants
replicas, this copy is one that is needed, and stays.
"""

from collections.abc import Callable, Sequence
from typing import Final

from blockyard.proto import errors, logs
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import BLOCK_DEAD
from blockyard.storagenode.node.known_map import KnownMap
from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.upkeep.dropped import Dropped
from blockyard.storagenode.upkeep.exchange import Ask, spared
from blockyard.storagenode.upkeep.lists import Lists
from blockyard.storagenode.upkeep.peers import Peers
from blockyard.storagenode.upkeep.windows import windows

AGAIN_S: Final = 2.0
"""While blocks of left groups are still here they are looked at again after so long, then after twice as long, …"""

PERIOD_S: Final = 600.0
"""… and at least so often."""
_log = logs.get(__name__)


class Leaving:
    """Empties the groups that the map no longer gives to this node."""

    def __init__(
        self,
        store: BlockStore,
        peers: Peers,
        ask: Ask,
        dropped: Dropped,
        known: KnownMap,
        regained: Callable[[int], None],
    ) -> None:
        """`regained` is told of a group that the map gave back while its blocks were being dropped."""
        self.dropped_blocks = 0
        self._wait_s = AGAIN_S / 2
        self.kept_groups = 0
        """Groups of which blocks are still here, as of the last round."""
        self._store = store
        self._peers = peers
        self._ask = ask
        self._dropped = dropped
        self._known = known
        self._regained = regained

    def run(self, stopping: Callable[[], bool]) -> float:
        """Go once through all left groups; return the seconds until to do so again."""
        kept, dropped = 0, self.dropped_blocks
        for group in self._store.groups():
            if stopping():
                return 0.0
            view = self._known.view
            if is_left(view, self._peers.me, group):
                kept += self._leave(view, group)
        self.kept_groups = kept
        self._wait_s = AGAIN_S if self.dropped_blocks > dropped else min(2 * self._wait_s, PERIOD_S)
        return self._wait_s if kept else PERIOD_S

    def look_soon(self) -> None:
        """Something changed: what could not be dropped may be droppable now."""
        self._wait_s = AGAIN_S / 2

    def _leave(self, view: ClusterView, group: int) -> bool:
        """Drop what may be dropped of one group; return whether anything stays."""
        holders = view.groups[group].nodes
        if len(holders) < view.replicas or not all(view.node(node).answers for node in holders):
            return True
        kept, lacking_nodes, unheard = False, set[int](), set[int]()
        for window in windows(Lists(self._store, self._peers, group, unheard).of(holders)):
            if unheard:
                return True
            covered, lacking = spared(frozenset(holders), window, self._peers.me)
            dead = self._dead(list(lacking))
            self._drop(view, group, covered, dead)
            gone = set(dead)
            lacking_nodes.update(*(nodes for block, nodes in lacking.items() if block not in gone))
            kept = kept or len(lacking) > len(dead)
        self._offer(group, lacking_nodes)
        return kept

    def _dead(self, blocks: Sequence[int]) -> list[int]:
        fates = self._ask(blocks) if blocks else ()
        if fates is None:
            return []
        return [block for block, fate in zip(blocks, fates, strict=True) if fate == BLOCK_DEAD]

    def _drop(self, view: ClusterView, group: int, covered: list[int], dead: list[int]) -> None:
        if self._known.view.epoch != view.epoch and not is_left(self._known.view, self._peers.me, group):
            return
        self._dropped.add(dead)
        self.dropped_blocks += self._store.drop([*covered, *dead])
        if not is_left(self._known.view, self._peers.me, group):
            self._regained(group)

    def _offer(self, group: int, nodes: set[int]) -> None:
        for node in sorted(nodes):
            try:
                self._peers.hint(node, group)
            except errors.BlockyardError as error:
                _log.info("hint_not_taken", node=node, group=group, why=error)


def is_left(view: ClusterView, me: int, group: int) -> bool:
    """Return whether the map says nothing of this node for a group."""
    if group >= len(view.groups):
        return False
    row = view.groups[group]
    return me not in row.nodes and me not in row.former_nodes
