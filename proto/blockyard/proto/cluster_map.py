"""The cluster map as all but the metadata group see it: which nodes hold a block, and in which order to go there.

A `ClusterView` is made from one `ClusterMap` message and never changes; a newer map is another view. It knows no clock,
no network and no chance: who should spread load passes other `near_node`s.

Invariants: a block's group comes from its id alone; a list of nodes names no node twice; a removed node is in none.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

from blockyard.proto import errors
from blockyard.proto.cluster_pb2 import NODE_DRAINING, NODE_REMOVED, NODE_UP, ClusterMap, NodeRecord, NodeState
from blockyard.proto.common_pb2 import Address
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.proto.storage_pb2 import ChainNode

_SAME_NODE: Final = 0
_SAME_MACHINE: Final = 1
_SAME_ZONE: Final = 2
_ELSEWHERE: Final = 3


@dataclass(frozen=True, slots=True)
class MapNode:
    """A storage node in the map. `host` is the machine: nodes with the same one are disks of one machine."""

    id: int
    name: str
    zone: str
    host: str
    lane_port: int
    grpc_port: int
    unix_path: str
    incarnation: int
    state: NodeState
    capacity_bytes: int

    @classmethod
    def of(cls, record: NodeRecord) -> "MapNode":
        """Return the node that a record describes."""
        address = record.address
        return cls(
            id=record.id,
            name=record.name,
            zone=record.zone,
            host=address.host,
            lane_port=address.lane_port,
            grpc_port=address.grpc_port,
            unix_path=address.unix_path,
            incarnation=record.incarnation,
            state=record.state,
            capacity_bytes=record.capacity_bytes,
        )

    @property
    def answers(self) -> bool:
        """Whether it was heard of lately: it is up or draining."""
        return self.state in (NODE_UP, NODE_DRAINING)

    @property
    def takes_writes(self) -> bool:
        """Whether new blocks may go there."""
        return self.state == NODE_UP

    @property
    def lane(self) -> str:
        """Its lane address, `host:port`."""
        return f"[{self.host}]:{self.lane_port}" if ":" in self.host else f"{self.host}:{self.lane_port}"

    def address(self) -> Address:
        """Return where it listens, as a message of the caller's own."""
        return Address(host=self.host, lane_port=self.lane_port, grpc_port=self.grpc_port, unix_path=self.unix_path)

    def in_chain(self) -> ChainNode:
        """Return it as a member of a write chain, as a message of the caller's own."""
        return ChainNode(node=self.id, address=self.address())


@dataclass(frozen=True, slots=True)
class GroupHolders:
    """Who holds one placement group."""

    nodes: tuple[int, ...]  # preferred first
    former_nodes: tuple[int, ...]  # held it earlier, and may still have the only copies


class ClusterView:
    """One epoch of the cluster map. Immutable; any number of threads may share it."""

    def __init__(self, message: ClusterMap) -> None:
        """Take over a map; the message is not kept."""
        self.epoch: int = message.epoch
        self.cluster: str = message.cluster
        self.replicas: int = message.replicas
        self.write_min: int = message.write_min
        self.nodes: Mapping[int, MapNode] = MappingProxyType(
            {record.id: MapNode.of(record) for record in message.nodes}
        )
        self.groups: tuple[GroupHolders, ...] = tuple(
            GroupHolders(tuple(record.nodes), tuple(record.former_nodes)) for record in message.groups
        )

    # ------------------------------------------------------------------------------------------ groups

    def group_of(self, block: int) -> int:
        """Return the placement group of a block. Raises InvalidArgument when the cluster has no such group."""
        group = block >> SEQUENCE_BITS
        if not 0 <= group < len(self.groups):
            raise errors.InvalidArgument(
                f"block {block:#x} is of placement group {group}, and the cluster has {len(self.groups)}"
            )
        return group

    def node(self, number: int) -> MapNode:
        """Return a node. Raises UnknownNode when the map has none of that id, or it was removed."""
        node = self.nodes.get(number)
        if node is None or node.state == NODE_REMOVED:
            raise errors.UnknownNode(f"node {number} is not in the map of epoch {self.epoch}")
        return node

    def holds(self, node: int, group: int) -> bool:
        """Return whether the map wants `node` to hold `group`. Former holders do not count."""
        return 0 <= group < len(self.groups) and node in self.groups[group].nodes

    def groups_of(self, node: int) -> tuple[int, ...]:
        """Return the groups that `node` is to hold, rising."""
        return self._groups_by_node.get(node, ())

    def former_groups_of(self, node: int) -> tuple[int, ...]:
        """Return the groups that `node` no longer holds and may still have the only copies of, rising."""
        return self._former_groups_by_node.get(node, ())

    # ------------------------------------------------------------------------------------------ blocks

    def holders(self, block: int) -> tuple[MapNode, ...]:
        """Return everybody who may have the block, whatever their state: holders preferred first, then former ones."""
        group = self.groups[self.group_of(block)]
        return self._present((*group.nodes, *group.former_nodes))

    def writers(self, group: int) -> tuple[MapNode, ...]:
        """Return the nodes that take new blocks of a group, preferred first."""
        return tuple(node for node in self._present(self.groups[group].nodes) if node.takes_writes)

    def chain(self, block: int, near_node: int = 0, zone: str = "", avoid: Collection[int] = ()) -> list[ChainNode]:
        """Return the nodes to write a block through, nearest first.

        `near_node` is a node on the writer's own machine (0: none), `zone` the writer's zone (empty: that node's).
        Nodes in `avoid` are left out while `write_min` others remain, and come last when they do not. The list may be
        shorter than `write_min`: then the group takes no writes now.
        """
        willing = self._by_distance(self.writers(self.group_of(block)), near_node, zone)
        chosen = [node for node in willing if node.id not in avoid]
        if len(chosen) < self.write_min:
            chosen += [node for node in willing if node.id in avoid]
        return [node.in_chain() for node in chosen]

    def readers(self, block: int, near_node: int = 0, zone: str = "", avoid: Collection[int] = ()) -> list[MapNode]:
        """Return the nodes to read a block from, in the order in which to try them.

        The reader's own machine, then its zone, then the others, as the map prefers them; after these, the nodes in
        `avoid`; last those that are silent, for the map may be wrong. Former holders come after holders that are as
        near: they have what was written before.
        """
        near = self._by_distance(self.holders(block), near_node, zone)
        return sorted(near, key=lambda node: (not node.answers, node.id in avoid))

    # ------------------------------------------------------------------------------------------ within

    def _by_distance(self, nodes: tuple[MapNode, ...], near_node: int, zone: str) -> list[MapNode]:
        here = self.nodes.get(near_node)
        zone = zone or (here.zone if here else "")

        def distance(node: MapNode) -> int:
            if here is not None and node.host == here.host:
                return _SAME_NODE if node.id == here.id else _SAME_MACHINE
            return _SAME_ZONE if zone and node.zone == zone else _ELSEWHERE

        return sorted(nodes, key=distance)

    def _present(self, numbers: tuple[int, ...]) -> tuple[MapNode, ...]:
        found = (self.nodes.get(number) for number in dict.fromkeys(numbers))
        return tuple(node for node in found if node is not None and node.state != NODE_REMOVED)

    @cached_property
    def _groups_by_node(self) -> Mapping[int, tuple[int, ...]]:
        return _by_node([group.nodes for group in self.groups])

    @cached_property
    def _former_groups_by_node(self) -> Mapping[int, tuple[int, ...]]:
        return _by_node([group.former_nodes for group in self.groups])


def _by_node(rows: list[tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    held: dict[int, list[int]] = {}
    for group, nodes in enumerate(rows):
        for node in nodes:
            held.setdefault(node, []).append(group)
    return {node: tuple(groups) for node, groups in held.items()}
