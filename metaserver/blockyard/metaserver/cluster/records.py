"""The rows of the cluster's part of the replicated state, and how they are stored.

Records are immutable; a change replaces them. Where the contract has a message for what is stored, its bytes are in the
row, after a packed head with what others need not see.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from struct import Struct
from typing import Final

from blockyard.metaserver.cluster.shares import PlacementNode
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Table, Transaction
from blockyard.proto.cluster_pb2 import (
    NODE_DOWN,
    NODE_DRAINING,
    NODE_UP,
    NodeRecord,
    NodeState,
    PlacementGroupRecord,
)

_SETTINGS_HEAD: Final = Struct(">QIIIIIQ")
_NODE_HEAD: Final = Struct(">Q??")
_GROUP_HEAD: Final = Struct(">QQH")

_MAP: Final = keys.META + b"cluster"
_NODE: Final = Struct(">8sI")
_GROUP: Final = Struct(">9sH")
_SWEEP: Final = Struct(">9sH")
SWEEPS: Final = keys.META + b"sweep..."
"""Prefix of the groups in which blocks may wait for a confirmation that nobody owes any more."""


@dataclass(frozen=True, slots=True)
class MapHead:
    """What is one per cluster. Replaced at every change of the map, so its identity names one state of the map."""

    epoch: int  # counts changes of the map
    cluster: str
    replicas: int
    write_min: int
    groups: int
    scatter_width: int
    seed: int  # of the placement table
    nodes: int  # nodes ever registered: ids 1 to this are given out

    def encode(self) -> bytes:
        head = _SETTINGS_HEAD.pack(
            self.epoch, self.replicas, self.write_min, self.groups, self.scatter_width, self.nodes, self.seed
        )
        return head + self.cluster.encode()

    @classmethod
    def parse(cls, row: bytes) -> "MapHead":
        epoch, replicas, write_min, groups, scatter_width, nodes, seed = _SETTINGS_HEAD.unpack_from(row)
        cluster = row[_SETTINGS_HEAD.size :].decode()
        return cls(epoch, cluster, replicas, write_min, groups, scatter_width, seed, nodes)


@dataclass(frozen=True, slots=True)
class Node:
    """A storage node."""

    id: int
    name: str
    zone: str
    address: bytes  # a serialized Address
    incarnation: int
    state: NodeState
    capacity_bytes: int
    weight: int
    starts: int  # of its process; a start that is not above is a copied directory
    draining: bool  # an operator empties it; remembered while it is down
    weight_fixed: bool  # an operator chose the weight; capacity no longer does

    @property
    def placeable(self) -> bool:
        """Whether it may hold placement groups."""
        return not self.draining and self.state in (NODE_UP, NODE_DOWN) and self.weight > 0

    @property
    def up(self) -> bool:
        """Whether it answers."""
        return self.state in (NODE_UP, NODE_DRAINING)

    @property
    def shown(self) -> tuple[object, ...]:
        """What of it the map shows."""
        return self.name, self.zone, self.address, self.incarnation, self.state, self.capacity_bytes, self.weight

    def for_placement(self) -> PlacementNode:
        return PlacementNode(self.id, self.zone, self.weight)

    def message(self) -> NodeRecord:
        """Return the node as the map shows it."""
        record = NodeRecord(
            id=self.id,
            name=self.name,
            zone=self.zone,
            incarnation=self.incarnation,
            state=self.state,
            capacity_bytes=self.capacity_bytes,
            weight=self.weight,
        )
        record.address.ParseFromString(self.address)
        return record

    def encode(self) -> bytes:
        head = _NODE_HEAD.pack(self.starts, self.draining, self.weight_fixed)
        return head + self.message().SerializeToString(deterministic=True)

    @classmethod
    def parse(cls, row: bytes) -> "Node":
        record = NodeRecord.FromString(row[_NODE_HEAD.size :])
        return cls.of(record, *_NODE_HEAD.unpack_from(row))

    @classmethod
    def of(cls, record: NodeRecord, starts: int, draining: bool, weight_fixed: bool) -> "Node":
        return cls(
            record.id,
            record.name,
            record.zone,
            record.address.SerializeToString(deterministic=True),
            record.incarnation,
            record.state,
            record.capacity_bytes,
            record.weight,
            starts,
            draining,
            weight_fixed,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """A placement group: who holds it, who held it and may have the only copies, and who has caught up since."""

    nodes: tuple[int, ...] = ()  # preferred first
    former: tuple[int, ...] = ()  # rising
    complete: tuple[int, ...] = ()  # rising; holders that reported it complete since `changed`; kept while `former` is
    changed: int = 0  # epoch in which its nodes last changed
    released: int = 0  # what `changed` was when former holders were last let go

    @property
    def holders(self) -> tuple[int, ...]:
        """Everybody who may have its blocks, as far as the map knows."""
        return self.nodes + self.former

    @property
    def shown(self) -> tuple[object, ...]:
        """What of it the map shows."""
        return self.nodes, self.former

    def message(self) -> PlacementGroupRecord:
        return PlacementGroupRecord(nodes=self.nodes, former_nodes=self.former)

    def moved(self, nodes: Sequence[int], epoch: int) -> "Group":
        """Return the group held by `nodes` as of `epoch`. Whoever holds it no longer becomes a former holder."""
        if set(nodes) == set(self.nodes):
            return replace(self, nodes=tuple(nodes))
        former = tuple(sorted((set(self.former) | set(self.nodes)) - set(nodes)))
        return Group(tuple(nodes), former, (), epoch, self.released)

    def settled(self, complete: Set[int]) -> "Group":
        """Return the group once `complete` have caught up: with all of its nodes, former holders are let go."""
        if self.nodes and complete >= set(self.nodes):
            return Group(self.nodes, (), (), self.changed, self.changed)
        return replace(self, complete=tuple(sorted(complete)))

    def without(self, removed: Set[int]) -> "Group":
        """Return the group with no trace of former holders that are gone for good."""
        former = tuple(node for node in self.former if node not in removed)
        if former or not self.former:
            return replace(self, former=former)
        return replace(self, former=(), complete=(), released=self.changed)

    def encode(self) -> bytes:
        head = _GROUP_HEAD.pack(self.changed, self.released, len(self.complete))
        complete = b"".join(node.to_bytes(4, "big") for node in self.complete)
        return head + complete + self.message().SerializeToString(deterministic=True)

    @classmethod
    def parse(cls, row: bytes) -> "Group":
        changed, released, count = _GROUP_HEAD.unpack_from(row)
        start, end = _GROUP_HEAD.size, _GROUP_HEAD.size + 4 * count
        record = PlacementGroupRecord.FromString(row[end:])
        complete = tuple(int.from_bytes(row[at : at + 4], "big") for at in range(start, end, 4))
        return cls(tuple(record.nodes), tuple(record.former_nodes), complete, changed, released)


class MapRows:
    """The tables of the cluster map over one transaction."""

    def __init__(self, tx: Transaction) -> None:
        self.tx = tx
        self._head: Table[None, MapHead] = Table(tx, lambda _: _MAP, MapHead.parse, MapHead.encode, 1)
        self.nodes: Table[int, Node] = Table(
            tx, lambda node: _NODE.pack(keys.META + b"node...", node), Node.parse, Node.encode, 4096
        )
        self.groups: Table[int, Group] = Table(
            tx, lambda group: _GROUP.pack(keys.META + b"group...", group), Group.parse, Group.encode, 1 << 16
        )

    @property
    def head(self) -> MapHead | None:
        """What is one per cluster; None before the cluster is made."""
        return self._head.get(None)

    def put_head(self, head: MapHead) -> None:
        self._head.put(None, head)

    def mark_sweep(self, group: int) -> None:
        """Note that a group has fewer holders: blocks that waited for the one that left may be done."""
        self.tx.put(_SWEEP.pack(SWEEPS, group), b"")
