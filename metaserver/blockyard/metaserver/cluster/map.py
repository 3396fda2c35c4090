"""The cluster map as one value: decoded once per state of the map, and sent as one message.

A `MapView` belongs to one `MapHead` object. Every change of the map replaces the head, so "same head" means "same map",
also when a command was rolled back; nothing else decides whether a cached view is current.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final

from blockyard.metaserver.cluster.placement import place
from blockyard.metaserver.cluster.records import Group, MapHead, MapRows, Node
from blockyard.proto.cluster_pb2 import NODE_REMOVED, NODE_UP, ClusterMap, GetClusterMapReply
from blockyard.proto.errors import Exists, StaleIncarnation, Unavailable, UnknownNode

SKIPPED_EPOCHS: Final = 1 << 20
"""Far more changes of the map than there are between two backups."""


class MapView:
    """Nodes and groups under one epoch. Immutable."""

    def __init__(self, head: MapHead, nodes: Sequence[Node], groups: Sequence[Group]) -> None:
        self.head = head
        self.nodes = {node.id: node for node in nodes}
        self.groups = tuple(groups)

    @property
    def epoch(self) -> int:
        return self.head.epoch

    @cached_property
    def message(self) -> ClusterMap:
        """The map as it is sent. Shared: not to be changed."""
        head = self.head
        return ClusterMap(
            epoch=head.epoch,
            cluster=head.cluster,
            replicas=head.replicas,
            write_min=head.write_min,
            nodes=[node.message() for node in self.nodes.values()],
            groups=[group.message() for group in self.groups],
        )

    @cached_property
    def groups_of(self) -> Mapping[int, tuple[int, ...]]:
        """Groups that a node holds or formerly held, rising, by node id."""
        held: dict[int, list[int]] = {}
        for index, group in enumerate(self.groups):
            for node in group.holders:
                held.setdefault(node, []).append(index)
        return {node: tuple(groups) for node, groups in held.items()}

    @cached_property
    def writers(self) -> tuple[tuple[int, ...], ...]:
        """Per group, the nodes that take new blocks: its holders that are up and stay."""
        up = {node.id for node in self.nodes.values() if node.state == NODE_UP}
        return tuple(tuple(node for node in group.nodes if node in up) for group in self.groups)

    def node(self, number: int, incarnation: int) -> Node:
        """Return a node that says who it is. Raises UnknownNode, StaleIncarnation."""
        node = self.nodes.get(number)
        if node is None:
            raise UnknownNode(f"node {number} is not one of the cluster's {len(self.nodes)}; register first")
        if node.state == NODE_REMOVED:
            raise StaleIncarnation(f"node {number} ({node.name}) was removed; to use its disk again, empty it")
        if node.incarnation != incarnation:
            known = f"is of incarnation x{node.incarnation:016x}, not x{incarnation:016x}"
            raise StaleIncarnation(f"node {number} {known}; empty its disk and register anew")
        return node


class MapKeeper:
    """Reads and changes the map over one transaction."""

    def __init__(self, rows: MapRows) -> None:
        self.rows = rows
        self._view: MapView | None = None

    @property
    def view(self) -> MapView:
        """The map as the transaction sees it. Raises Unavailable before the cluster was made."""
        head = self.rows.head
        if head is None:
            raise Unavailable("the cluster has not been made yet")
        if self._view is None or self._view.head is not head:
            nodes = [_present(self.rows.nodes.get(number)) for number in range(1, head.nodes + 1)]
            groups = [self.rows.groups.get(number) or Group() for number in range(head.groups)]
            self._view = MapView(head, nodes, groups)
        return self._view

    def make(self, head: MapHead) -> None:
        """Make a cluster without nodes. Raises Exists when there is one."""
        if self.rows.head is not None:
            raise Exists(f"this group already keeps cluster {self.rows.head.cluster}")
        self.rows.put_head(head)

    def skip_ahead(self) -> None:
        """After a restore: pass over the epochs that may have been made since the state was copied.

        Whoever knows a map from then would take every later one for an older one, until as many changes were made.
        """
        self.rows.put_head(replace(self.view.head, epoch=self.view.epoch + SKIPPED_EPOCHS))

    def change(self, nodes: Iterable[Node] = (), groups: Mapping[int, Group] | None = None) -> None:
        """Store changed nodes and groups and move groups as the nodes now demand.

        The epoch rises by one when anything changed that the map shows, else not at all.
        """
        view = self.view
        mine = {node.id: node for node in nodes}
        table = self._table({**view.nodes, **mine}, [(groups or {}).get(n, g) for n, g in enumerate(view.groups)])
        changed = {
            n: after for n, (before, after) in enumerate(zip(view.groups, table, strict=True)) if after != before
        }
        shown = any(n not in view.nodes or node.shown != view.nodes[n].shown for n, node in mine.items()) or any(
            group.shown != view.groups[n].shown for n, group in changed.items()
        )
        for number, group in changed.items():
            self.rows.groups.put(number, group)
            if not set(view.groups[number].holders) <= set(group.holders):
                self.rows.mark_sweep(number)
        for node in mine.values():
            self.rows.nodes.put(node.id, node)
        ids = max([view.head.nodes, *mine])
        self.rows.put_head(replace(view.head, epoch=view.epoch + shown, nodes=ids))

    def _table(self, nodes: Mapping[int, Node], groups: Sequence[Group]) -> list[Group]:
        """Return the groups as `nodes` demand: placed anew when placement sees a difference, without the removed."""
        rows: Sequence[tuple[int, ...]] = [group.nodes for group in groups]
        if _placement_input(nodes) != _placement_input(self.view.nodes):
            rows = self._placed(nodes, groups)
        removed = {node.id for node in nodes.values() if node.state == NODE_REMOVED}
        moved = [group.moved(row, self.view.epoch + 1) for group, row in zip(groups, rows, strict=True)]
        return [group.without(removed) if removed & set(group.former) else group for group in moved]

    def _placed(self, nodes: Mapping[int, Node], groups: Sequence[Group]) -> list[tuple[int, ...]]:
        head = self.view.head
        willing = [node.for_placement() for node in nodes.values() if node.placeable]
        previous = [group.nodes for group in groups]
        return place(willing, previous, head.groups, head.replicas, head.scatter_width, head.seed)


def map_reply(view: MapView, known_epoch: int) -> GetClusterMapReply:
    """Answer GetClusterMap and WatchClusterMap: the map, unless the asker has it."""
    if known_epoch >= view.epoch:
        return GetClusterMapReply(epoch=view.epoch)
    return GetClusterMapReply(epoch=view.epoch, map=view.message)


def _placement_input(nodes: Mapping[int, Node]) -> dict[int, tuple[str, int]]:
    return {node.id: (node.zone, node.weight) for node in nodes.values() if node.placeable}


def _present(node: Node | None) -> Node:
    if node is None:
        raise AssertionError("a node that was given an id has no row")
    return node
