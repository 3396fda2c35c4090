"""Which writes this node may take: the rules that keep a writer with an old map from writing where nobody will look.

A block is found by its group's holders in the newest map. So a write is taken only when every node of its chain holds
the group under a map at least as new as the writer's, and takes new blocks at all. Reads need no rule: blocks never
change, so whoever has a block may serve it. Whether there is room is the store's to say.
"""

from collections.abc import Sequence
from typing import Final

from blockyard.proto import errors
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import NODE_DRAINING
from blockyard.storagenode.node.known_map import KnownMap

MAP_WAIT_S: Final = 2.0
"""How long a write may wait for a map that its writer knows and this node does not."""


class Guard:
    """Says no to writes. Any number of threads may ask it."""

    def __init__(self, node: int, known: KnownMap) -> None:
        self.node = node
        self.known = known
        self._ending = ""

    def end(self, why: str) -> None:
        """Take no new blocks any more, because of `why`: the process ends."""
        self._ending = why

    def check_write(self, block: int, chain: Sequence[int], map_epoch: int) -> None:
        """Return when `block` may be written through the nodes `chain`, this one first, as planned under `map_epoch`.

        A map that the writer knows and this node does not is fetched first. Raises StaleEpoch (with this node's epoch)
        when the writer's map is old and a node of the chain is not the group's any more, or drains; InvalidArgument,
        or Busy for one that drains, when both know the same map; ShuttingDown; what stopped the fetching.
        """
        if self._ending:
            raise errors.ShuttingDown(f"this node takes no new blocks: {self._ending}")
        view = self.known.view
        if map_epoch > view.epoch:
            view = self.known.at_least(map_epoch, MAP_WAIT_S)
        group = view.group_of(block)
        for node in chain:
            if not view.holds(node, group):
                raise _refusal(view, map_epoch, f"node {node} does not hold placement group {group}")
            if view.node(node).state == NODE_DRAINING:
                raise _refusal(view, map_epoch, f"node {node} is draining and takes no new blocks", errors.Busy)

    def check_holders(self, block: int, chain: Sequence[int]) -> None:
        """Return when the nodes of `chain` still hold the block's group under the newest map known here.

        Raises StaleEpoch. A write that was taken is not refused because a node drains, or this process ends.
        """
        view = self.known.view
        group = view.group_of(block)
        for node in chain:
            if not view.holds(node, group):
                raise errors.StaleEpoch(
                    f"node {node} holds placement group {group} no longer, since a map of epoch {view.epoch} at most",
                    map_epoch=view.epoch,
                )

    def learn(self, map_epoch: int) -> None:
        """Know a map of that epoch, or a newer one, when this returns. Raises what stopped the fetching."""
        self.known.at_least(map_epoch, MAP_WAIT_S)

    def check_read(self, block: int, map_epoch: int) -> None:
        """Return: whoever has a block may serve it, whatever the reader's map."""


def _refusal(
    view: ClusterView, map_epoch: int, found: str, kind: type[errors.BlockyardError] = errors.InvalidArgument
) -> errors.BlockyardError:
    if map_epoch < view.epoch:
        why = f"{found} under the map of epoch {view.epoch}; the write was planned under {map_epoch}"
        return errors.StaleEpoch(why, map_epoch=view.epoch)
    return kind(f"{found} under the map of epoch {view.epoch}")
