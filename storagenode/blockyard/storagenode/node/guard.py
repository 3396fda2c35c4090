"""Which writes this node may take: the rules that keep a writer with an old map from writing where nobody will look.

A block is found by its group's holders in the newest map. So a write is taken only by a node that holds the group under
a map at least as new as the writer's, and that may take new blocks at all. Reads need no rule: blocks never change, so
whoever has a block may serve it.
"""

import threading
from typing import Final

from blockyard.proto import errors
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import NODE_DRAINING
from blockyard.storagenode.node.known_map import KnownMap

MAP_WAIT_S: Final = 2.0
"""How long a write may wait for a map that its writer knows and this node does not."""


class Guard:
    """Says no to writes. Any number of threads may ask it."""

    def __init__(self) -> None:
        """Refuse everything until `admit`."""
        self._lock = threading.Lock()
        self._known: KnownMap | None = None
        self._node = 0
        self._full = ""
        self._ending = ""

    @property
    def node(self) -> int:
        """This node's id; 0 until it has registered."""
        return self._node

    @property
    def known(self) -> KnownMap | None:
        """The map that it judges by; None until the node has registered."""
        return self._known

    def admit(self, node: int, known: KnownMap) -> None:
        """This node has registered as `node`: writes that fit its map are taken from now on."""
        with self._lock:
            self._known, self._node = known, node

    def set_full(self, why: str) -> None:
        """Take no new blocks, because of `why`; an empty text takes them again."""
        self._full = why

    def end(self, why: str) -> None:
        """Take no new blocks any more: the process ends because of `why`."""
        self._ending = why

    @property
    def full(self) -> bool:
        """Whether the disk has no room for new blocks."""
        return bool(self._full)

    def check_write(self, group: int, map_epoch: int, timeout_s: float = MAP_WAIT_S) -> ClusterView:
        """Return the map under which a write to `group`, planned under `map_epoch`, may begin here.

        A map that the writer knows and this node does not is fetched first, within `timeout_s` seconds. Raises
        StaleEpoch (with this node's epoch) when the writer's map is old and this node does not hold the group;
        InvalidArgument when it does not though both know the same map; Busy while draining; NoSpace while the disk is
        full; ShuttingDown; Unavailable before the node has registered.
        """
        if self._ending:
            raise errors.ShuttingDown(f"this node takes no new blocks: {self._ending}")
        known, node = self._known, self._node
        if known is None:
            raise errors.Unavailable("this node has not registered with its cluster yet", retry_after_ms=100)
        view = known.view if map_epoch <= known.view.epoch else known.at_least(map_epoch, timeout_s)
        draining = view.node(node).state == NODE_DRAINING
        if not view.holds(node, group) or draining:
            self._refuse(view, node, group, map_epoch, draining)
        if self._full:
            raise errors.NoSpace(f"node {node}: {self._full}")
        return view

    def _refuse(self, view: ClusterView, node: int, group: int, map_epoch: int, draining: bool) -> None:
        found = "is draining and takes no new blocks" if draining else f"does not hold placement group {group}"
        if map_epoch < view.epoch:
            raise errors.StaleEpoch(
                f"node {node} {found} under the map of epoch {view.epoch}; the request was planned under {map_epoch}",
                map_epoch=view.epoch,
            )
        if draining:
            raise errors.Busy(f"node {node} {found}; write through the group's other nodes")
        raise errors.InvalidArgument(f"node {node} {found} under the map of epoch {view.epoch}")
