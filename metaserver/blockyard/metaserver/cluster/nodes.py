"""The life of storage nodes: who they are, in which state, and what they have caught up with.

Identity: a node is its incarnation, a random number from when its disk was empty. It is found by it, keeps its id as
long as it keeps its disk, and counts its starts, so that a copy of its directory that starts later than the original
counts one start twice and is refused; one that starts beside it, elsewhere, waits until it is down. An emptied disk is
another incarnation and becomes another node; the old one under its name is removed, for its blocks are gone. A node
that is up cannot be replaced that way: two machines with one name in their settings must not throw each other out.

States: up or draining → down (silent) → out (silent for long) → up again; removed is final. An operator's wish to drain
is kept while a node is down or out. The leader's `Liveness` proposes what silence means; here it becomes true.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from blockyard.metaserver.cluster.map import MapKeeper
from blockyard.metaserver.cluster.records import Group, Node
from blockyard.proto.cluster_pb2 import (
    NODE_DOWN,
    NODE_DRAINING,
    NODE_OUT,
    NODE_REMOVED,
    NODE_UNSPECIFIED,
    NODE_UP,
    ChangeNodeRequest,
    NodeHeartbeatRequest,
    NodeRecord,
    NodeState,
    RegisterNodeReply,
    RegisterNodeRequest,
)
from blockyard.proto.errors import Busy, ForeignCluster, InvalidArgument, NoSpace, StaleIncarnation, UnknownNode

HEARTBEAT_MS: Final = 1000
_NODE_LIMIT: Final = 65535
_NAME_LIMIT: Final = 255
_GIB_BITS: Final = 30

_STEPS: Final = {
    NODE_UP: (NODE_DOWN,),
    NODE_DRAINING: (NODE_DOWN,),
    NODE_DOWN: (NODE_UP, NODE_OUT),
    NODE_OUT: (NODE_UP,),
}
"""What liveness may do to a node, by its state."""


class Nodes:
    """Commands about nodes."""

    def __init__(self, keeper: MapKeeper) -> None:
        self.keeper = keeper

    # ------------------------------------------------------------------------------------------------- identity

    def register(self, request: RegisterNodeRequest) -> RegisterNodeReply:
        """Let a node in, or in again, and return the map with it.

        Repeating a start's registration is harmless. Raises ForeignCluster; StaleIncarnation when the directory was
        copied or the id is another's; UnknownNode for an id that was never given; Busy (with a time to wait) when a
        node that is up has the name, or this very node is up at another address; InvalidArgument; NoSpace when there
        are no ids left.
        """
        view, record = self.keeper.view, request.node
        if request.cluster not in ("", view.head.cluster):
            raise ForeignCluster(f"node {record.name} belongs to cluster {request.cluster}, not {view.head.cluster}")
        if not 0 < len(record.name) <= _NAME_LIMIT or record.incarnation == 0:
            raise InvalidArgument("a node needs a name of 1 to 255 characters and an incarnation above 0", record.name)
        known = next((node for node in view.nodes.values() if node.incarnation == record.incarnation), None)
        node = self._again(known, request) if known else self._anew(request)
        self.keeper.change([*self._replaced(node), node])
        view = self.keeper.view
        return RegisterNodeReply(id=node.id, cluster=view.head.cluster, map=view.message, heartbeat_ms=HEARTBEAT_MS)

    def _again(self, known: Node, request: RegisterNodeRequest) -> Node:
        record = request.node
        if known.state == NODE_REMOVED or record.id not in (0, known.id):
            raise StaleIncarnation(f"node {known.id} ({known.name}) was removed or has another id; empty its disk")
        came = Node.of(record, request.starts, known.draining, known.weight_fixed)
        if request.starts < known.starts or (request.starts == known.starts and came.address != known.address):
            raise StaleIncarnation(
                f"node {known.id} ({known.name}) starts for the {request.starts}th time, after its {known.starts}th: "
                "its directory is a copy or an old state; run the original, or empty this one",
                record.name,
            )
        if known.up and came.address != known.address:
            raise Busy(
                f"node {known.id} ({known.name}) is up elsewhere: if it has moved, wait until it is seen to be down "
                "there; if this is a copy of its directory, empty it",
                record.name,
                retry_after_ms=HEARTBEAT_MS,
            )
        state = NODE_DRAINING if known.draining else NODE_UP
        weight = known.weight if known.weight_fixed else _weight(record)
        return replace(came, id=known.id, state=state, weight=weight)

    def _anew(self, request: RegisterNodeRequest) -> Node:
        view, record = self.keeper.view, request.node
        if record.id in view.nodes:
            raise StaleIncarnation(f"node {record.id} is of another incarnation; register as a new node, with id 0")
        if record.id:
            raise UnknownNode(f"node {record.id} was never part of cluster {view.head.cluster}; empty its disk")
        if view.head.nodes >= _NODE_LIMIT:
            raise NoSpace(f"all {_NODE_LIMIT} node ids were given out")
        new = Node.of(record, request.starts, draining=False, weight_fixed=False)
        return replace(new, id=view.head.nodes + 1, state=NODE_UP, weight=_weight(record))

    def _replaced(self, node: Node) -> list[Node]:
        """Return the node whose name `node` takes over, as removed."""
        others = [n for n in self.keeper.view.nodes.values() if n.name == node.name and n.id != node.id]
        living = [other for other in others if other.state != NODE_REMOVED]
        for other in living:
            if other.up:
                raise Busy(
                    f"the name {node.name} belongs to node {other.id}, which is up: choose another name, or stop it",
                    node.name,
                    retry_after_ms=HEARTBEAT_MS,
                )
        return [replace(other, state=NODE_REMOVED) for other in living]

    # ------------------------------------------------------------------------------------------------- state

    def set_state(self, number: int, expected: int, wanted: NodeState) -> None:
        """Do what the leader's clock found. Nothing happens when the node is no longer in the `expected` state."""
        node = self._present(number)
        if wanted not in _STEPS.get(node.state, ()):
            if node.state == expected:
                raise InvalidArgument(f"node {number}: silence does not lead from {node.state} to {wanted}")
            return
        if node.state == expected:
            state = NODE_DRAINING if wanted == NODE_UP and node.draining else wanted
            self.keeper.change([replace(node, state=state)])

    def change(self, request: ChangeNodeRequest) -> None:
        """Do what an operator asks: drain, end draining, remove, set the weight.

        Raises UnknownNode; InvalidArgument; Busy when the node to be removed may have the only copies of something.
        """
        node = self._present(request.node)
        if node.state == NODE_REMOVED:
            raise UnknownNode(f"node {node.id} ({node.name}) was removed")
        if request.HasField("weight"):
            node = replace(node, weight=request.weight, weight_fixed=True)
        match request.state:
            case value if value == NODE_DRAINING:
                node = replace(node, draining=True, state=NODE_DRAINING if node.up else node.state)
            case value if value == NODE_UP:
                node = replace(node, draining=False, state=NODE_UP if node.up else node.state)
            case value if value == NODE_REMOVED:
                self._refuse_loss(node, request.force)
                node = replace(node, state=NODE_REMOVED)
            case value if value != NODE_UNSPECIFIED:
                raise InvalidArgument(f"node {node.id} cannot be put into state {request.state} by hand")
        if node != self.keeper.view.nodes[node.id]:
            self.keeper.change([node])

    def _refuse_loss(self, node: Node, force: bool) -> None:
        groups = self.keeper.view.groups_of.get(node.id, ())
        if groups and not force:
            raise Busy(
                f"node {node.id} ({node.name}) may have the only copies of blocks in {len(groups)} groups: drain it "
                "and wait until they are copied, or force the removal",
                node.name,
            )

    def report_complete(self, request: NodeHeartbeatRequest) -> None:
        """Note which groups a node has caught up with, and let former holders go where all holders have.

        A report counts when the node made it under a map in which the group already had its present holders: only
        then did it look for blocks at all of those who may have them.
        """
        view = self.keeper.view
        node = view.node(request.node, request.incarnation)
        groups = {
            number: view.groups[number].settled({*view.groups[number].complete, node.id})
            for number in owed_reports(view.groups, node.id, request)
        }
        if groups:
            self.keeper.change(groups=groups)

    def _present(self, number: int) -> Node:
        node = self.keeper.view.nodes.get(number)
        if node is None:
            raise UnknownNode(f"there is no node {number}")
        return node


def owed_reports(groups: Sequence[Group], node: int, heartbeat: NodeHeartbeatRequest) -> list[int]:
    """Return the groups whose former holders wait for this very report, rising."""
    return [
        number
        for number in sorted(set(heartbeat.complete_groups))
        if number < len(groups)
        and groups[number].former
        and node in groups[number].nodes
        and node not in groups[number].complete
        and heartbeat.map_epoch >= groups[number].changed
    ]


def _weight(record: NodeRecord) -> int:
    """The record's own, else its capacity in GiB, at least 1."""
    return record.weight or max(1, record.capacity_bytes >> _GIB_BITS)
