"""A cluster's state on a memory store, spoken to in short sentences."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from blockyard.metaserver.cluster.cluster_state import ClusterSettings, ClusterState
from blockyard.metaserver.cluster.map import MapView
from blockyard.metaserver.cluster.records import Group
from blockyard.metaserver.state.transaction import MemoryStore, Transaction
from blockyard.proto.cluster_pb2 import (
    ChangeNodeRequest,
    CheckBlocksRequest,
    ConfirmReclaimRequest,
    LeaseBlockIdsReply,
    LeaseBlockIdsRequest,
    ListReclaimRequest,
    NodeHeartbeatRequest,
    NodeRecord,
    NodeState,
    RegisterNodeReply,
    RegisterNodeRequest,
)
from blockyard.proto.common_pb2 import Address, Empty, RequestId
from blockyard.proto.errors import BlockyardError

CLUSTER = "c" + "0" * 32
Answer = TypeVar("Answer")


class References:
    """The namespace's part: a set of blocks that files refer to."""

    def __init__(self) -> None:
        self.blocks: set[int] = set()

    def is_referenced(self, block: int) -> bool:
        return block in self.blocks


class Cluster:
    """`ClusterState` with a transaction that commits each command, or rolls it back when it is refused."""

    def __init__(self, *, replicas: int = 3, write_min: int = 2, groups: int = 16, nodes: int = 0) -> None:
        self.store = MemoryStore()
        self.tx = Transaction(self.store)
        self.references = References()
        self.state = ClusterState(self.references)
        settings = ClusterSettings(CLUSTER, 7, replicas=replicas, write_min=write_min, groups=groups)
        self.run(lambda: self.state.make(self.tx, settings))
        for number in range(1, nodes + 1):
            self.register(f"n{number}", incarnation=number)
        for node in range(1, nodes + 1):
            self.complete(node)

    def run(self, command: Callable[[], Answer]) -> Answer:
        """Run a command as the dispatcher does, and look for broken invariants afterwards."""
        try:
            answer = command()
        except BlockyardError:
            self.tx.rollback()
            raise
        self.tx.commit()
        self.store.write(self.tx.changes())
        self.tx.written()
        findings = list(self.state.check(self.tx))
        assert not findings, findings
        return answer

    def reopened(self) -> "Cluster":
        """Return a cluster that has only the rows."""
        other = Cluster.__new__(Cluster)
        other.store, other.tx, other.references = self.store, Transaction(self.store), self.references
        other.state = ClusterState(other.references)
        return other

    # ------------------------------------------------------------------------------------------------- the map

    @property
    def view(self) -> MapView:
        return self.state.view(self.tx)

    @property
    def epoch(self) -> int:
        return self.view.epoch

    def group(self, number: int) -> Group:
        return self.view.groups[number]

    def holders(self) -> set[int]:
        """Return everybody who holds any group now."""
        return {node for group in self.view.groups for node in group.nodes}

    def node_state(self, node: int) -> NodeState:
        return self.view.nodes[node].state

    # ------------------------------------------------------------------------------------------------- nodes

    def register(
        self,
        name: str,
        *,
        incarnation: int,
        number: int = 0,
        starts: int = 1,
        zone: str = "",
        cluster: str = "",
        port: int = 7000,
        gib: int = 100,
        weight: int = 0,
    ) -> RegisterNodeReply:
        record = NodeRecord(
            id=number,
            name=name,
            zone=zone or name,
            address=Address(host=name, lane_port=port),
            incarnation=incarnation,
            capacity_bytes=gib << 30,
            weight=weight,
        )
        request = RegisterNodeRequest(node=record, cluster=cluster, starts=starts)
        return self.run(lambda: self.state.register_node(self.tx, request, []))

    def set_state(self, node: int, wanted: NodeState, *, before: int | None = None) -> None:
        inputs = [self.node_state(node) if before is None else before]
        request = ChangeNodeRequest(node=node, state=wanted)
        self.run(lambda: self.state.set_node_state(self.tx, request, inputs))

    def change(
        self, node: int, wanted: NodeState | None = None, *, weight: int | None = None, force: bool = False
    ) -> None:
        request = ChangeNodeRequest(node=node, state=wanted, weight=weight, force=force)
        self.run(lambda: self.state.change_node(self.tx, request, []))

    def complete(self, node: int, groups: Iterable[int] | None = None, *, epoch: int | None = None) -> None:
        """The node reports groups complete; all groups, under the present map, unless said otherwise."""
        request = NodeHeartbeatRequest(
            node=node,
            incarnation=self.view.nodes[node].incarnation,
            map_epoch=self.epoch if epoch is None else epoch,
            complete_groups=range(len(self.view.groups)) if groups is None else groups,
        )
        self.run(lambda: self.state.report_complete(self.tx, request, []))

    # ------------------------------------------------------------------------------------------------- blocks

    def lease(
        self, session: int, count: int, *, near: int = 0, avoid: Iterable[int] = (), inputs: Iterable[int] = (5,)
    ) -> LeaseBlockIdsReply:
        request = LeaseBlockIdsRequest(
            request=RequestId(session=session, sequence=1), count=count, near_node=near, avoid_nodes=avoid
        )
        return self.run(lambda: self.state.lease_block_ids(self.tx, request, list(inputs)))

    def end_session(self, session: int) -> None:
        self.run(lambda: self.state.end_session(self.tx, session))

    def kill(self, blocks: Iterable[int]) -> None:
        """The last reference to the blocks goes."""
        dead = list(blocks)
        self.references.blocks.difference_update(dead)
        self.run(lambda: self.state.enqueue_reclaim(self.tx, dead))

    def listed(self, node: int, page: int = 1000) -> list[int]:
        """Return what the node is told to drop, all pages of it."""
        blocks: list[int] = []
        incarnation = self.view.nodes[node].incarnation
        while True:
            after = blocks[-1] if blocks else 0
            request = ListReclaimRequest(node=node, incarnation=incarnation, after=after, limit=page)
            reply = self.state.list_reclaim(self.tx, request)
            blocks += reply.blocks
            if reply.end:
                return blocks

    def confirm(self, node: int, blocks: Iterable[int]) -> None:
        incarnation = self.view.nodes[node].incarnation
        request = ConfirmReclaimRequest(node=node, incarnation=incarnation, blocks=blocks)
        self.run(lambda: self.state.confirm_reclaim(self.tx, request, []))

    def sweep(self) -> None:
        """The leader proposes sweeps while there is something to sweep."""
        while self.state.sweep_pending(self.tx):
            self.run(lambda: self.state.sweep_reclaim(self.tx, Empty(), []))

    def fates(self, node: int, blocks: Iterable[int]) -> list[int]:
        incarnation = self.view.nodes[node].incarnation
        request = CheckBlocksRequest(node=node, incarnation=incarnation, blocks=blocks)
        return list(self.state.check_blocks(self.tx, request).fates)


def block(group: int, sequence: int) -> int:
    return group << 48 | sequence


def blocks_of(reply: LeaseBlockIdsReply) -> list[int]:
    return [block(r.group, r.first_sequence + n) for r in reply.ranges for n in range(r.count)]
