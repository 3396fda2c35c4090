"""The storage nodes, as commands see them: one look at the cluster, and connections to its nodes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import typer
from blockyard.client.cli.group import cluster
from blockyard.proto.blocks import Channels
from blockyard.proto.cluster_map import ClusterView, MapNode
from blockyard.proto.cluster_pb2 import (
    NODE_DOWN,
    NODE_DRAINING,
    NODE_OUT,
    NODE_REMOVED,
    NODE_UP,
    ClusterStatusReply,
    ClusterStatusRequest,
    GetClusterMapRequest,
    NodeState,
)
from blockyard.proto.ids import NODE

STATES: Final[dict[NodeState, str]] = {
    NODE_UP: "up",
    NODE_DOWN: "down",
    NODE_OUT: "out",
    NODE_DRAINING: "draining",
    NODE_REMOVED: "removed",
}


@dataclass(frozen=True, slots=True)
class Look:
    """What the metadata leader says of the storage nodes, all at about one moment."""

    view: ClusterView
    status: ClusterStatusReply


@dataclass(frozen=True, slots=True)
class Storage:
    """The cluster, for one command."""

    cluster: Any  # a stub of the Cluster service
    channels: Channels

    def view(self) -> ClusterView:
        """Return the newest map."""
        return ClusterView(self.cluster.GetClusterMap(GetClusterMapRequest()).map)

    def look(self) -> Look:
        """Return the map, and how the nodes are."""
        return Look(self.view(), self.cluster.Status(ClusterStatusRequest()))

    def node(self, node: MapNode) -> Any:
        """Return a stub of a node's Storage service."""
        return self.channels.stub(node.address())


@contextmanager
def storage(members: str) -> Iterator[Storage]:
    """Yield the cluster of which `members` are metadata members."""
    with cluster(members) as stub, Channels() as channels:
        yield Storage(stub, channels)


def find(view: ClusterView, name: str) -> MapNode:
    """Return the node that a person means by its name, or by its id as `n3` or `3`. Raises BadParameter."""
    present = [node for node in view.nodes.values() if node.state != NODE_REMOVED]
    named = [node for node in present if node.name == name]
    numbered = [node for node in present if name in (str(node.id), f"{NODE.letter}{node.id}")]
    found = named or numbered
    if not found:
        known = ", ".join(node.name for node in present) or "none"
        raise typer.BadParameter(f"there is no node {name!r}; there are: {known}")
    return found[0]


def chosen(view: ClusterView, names: Sequence[str]) -> list[MapNode]:
    """Return the nodes named, or all that answer. Raises BadParameter."""
    if names:
        return [find(view, name) for name in names]
    return [node for node in view.nodes.values() if node.answers]
