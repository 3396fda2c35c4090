"""The whole replicated state: namespace and cluster on one transaction."""

from collections.abc import Callable, Sequence
from typing import Any

from blockyard.metaserver.cluster.cluster_state import ClusterSettings, ClusterState
from blockyard.metaserver.namespace.machine import External, StateMachine
from blockyard.metaserver.namespace.state import State
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.commands import INTERNAL, CommandKind, method_id
from blockyard.metaserver.state.transaction import KeyValueStore, Transaction
from blockyard.proto import cluster_pb2 as pb
from blockyard.proto.common_pb2 import Empty
from blockyard.proto.internal_pb2 import AbandonBlockRequest, MakeClusterRequest
from google.protobuf.message import Message

CLUSTER = "/blockyard.v1.Cluster/"

Run = Callable[[Transaction, Any, Sequence[int]], Message]


class Blocks:
    """What the namespace asks of the cluster about blocks, and the other way round."""

    def __init__(self) -> None:
        self.cluster = ClusterState(self)
        self.tx: Transaction | None = None

    def owned(self, session: int, block: int) -> bool:
        """Return whether the session leased the block's id."""
        assert self.tx is not None
        return self.cluster.owned(self.tx, session, block)

    def spend(self, session: int, block: int, map_epoch: int) -> bool:
        """Use a leased id up; return False when the session does not own it."""
        assert self.tx is not None
        return self.cluster.spend(self.tx, session, block, map_epoch)

    def ended(self, session: int) -> None:
        """The session is over: its leases end."""
        assert self.tx is not None
        self.cluster.end_session(self.tx, session)

    def died(self, tx: Transaction, blocks: Sequence[int]) -> None:
        """Nothing refers to these blocks any more."""
        self.cluster.enqueue_reclaim(tx, blocks)

    def is_referenced(self, block: int) -> bool:
        """Return whether a slice refers to the block."""
        assert self.tx is not None
        return self.tx.get(keys.block(block)) is not None


class GroupMachine(StateMachine):
    """The namespace's machine with the cluster's commands beside its own."""

    def __init__(self, store: KeyValueStore, cluster: str) -> None:
        blocks = Blocks()
        super().__init__(store, blocks, cluster)
        self.cluster_state = blocks.cluster
        self.tx = blocks.tx = self.state.tx
        state = self.cluster_state
        self._add(CLUSTER, "RegisterNode", pb.RegisterNodeRequest, pb.RegisterNodeReply, state.register_node)
        self._add(CLUSTER, "ChangeNode", pb.ChangeNodeRequest, Empty, state.change_node)
        self._add(CLUSTER, "ConfirmReclaim", pb.ConfirmReclaimRequest, Empty, state.confirm_reclaim)
        self._add(
            CLUSTER, "LeaseBlockIds", pb.LeaseBlockIdsRequest, pb.LeaseBlockIdsReply, state.lease_block_ids, once=True
        )
        self._add(INTERNAL, "SetNodeState", pb.ChangeNodeRequest, Empty, state.set_node_state)
        self._add(INTERNAL, "ReportComplete", pb.NodeHeartbeatRequest, Empty, state.report_complete)
        self._add(INTERNAL, "SweepReclaim", Empty, Empty, state.sweep_reclaim)
        self._add(INTERNAL, "AbandonBlock", AbandonBlockRequest, Empty, state.abandon_block)
        self._add(INTERNAL, "MakeCluster", MakeClusterRequest, Empty, self._make_cluster)

    def _add(
        self, service: str, name: str, request: type[Message], reply: type[Message], run: Run, once: bool = False
    ) -> None:
        def carry_out(state: State, message: Any, inputs: Sequence[int]) -> Message:
            return run(state.tx, message, inputs)

        self.register(CommandKind(service + name, request, reply), External(carry_out, once))

    def skip_ahead(self) -> None:
        """Pass over ids that may have been given out since this state was copied: the first thing after a restore.

        What storage nodes and clients learned from the group after the copy was made must never get a second meaning.
        """
        self.cluster_state.skip_ahead(self.tx)
        self.state.skip_ahead()
        self.tx.commit()

    def _make_cluster(self, tx: Transaction, request: MakeClusterRequest, inputs: Sequence[int]) -> Empty:
        settings = ClusterSettings(
            request.cluster,
            request.seed,
            request.replicas,
            request.write_min,
            request.placement_groups,
            request.scatter_width,
        )
        self.cluster_state.make(tx, settings)
        return Empty()


def internal(name: str) -> int:
    """Return the id of an internal command."""
    return method_id(INTERNAL + name)


def cluster(name: str) -> int:
    """Return the id of a cluster command."""
    return method_id(CLUSTER + name)
