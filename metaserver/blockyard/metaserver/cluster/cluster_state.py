"""The cluster's part of the replicated state, as the dispatcher of commands sees it.

One method per request. Commands take the transaction, the request and the numbers that the leader chose; they are
deterministic, and refuse with a BlockyardError before anything is changed. Reads take the transaction and the request,
and must be linearizable where `fates` says so. What belongs to the leader alone is in `liveness` and `heartbeats`.

Internal commands, proposed by the leader itself: `set_node_state` (for what `Liveness.tick` found: node and new state,
inputs: the state it was in), `report_complete` (what `Heartbeats.answer` returned), and `sweep_reclaim` (while
`sweep_pending`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from blockyard.metaserver.cluster.check import findings
from blockyard.metaserver.cluster.fates import BlockReferences, Fates
from blockyard.metaserver.cluster.leases import Leases
from blockyard.metaserver.cluster.liveness import Liveness
from blockyard.metaserver.cluster.map import MapKeeper, MapView, map_reply
from blockyard.metaserver.cluster.nodes import Nodes
from blockyard.metaserver.cluster.reclaim import Counts, Reclaim
from blockyard.metaserver.cluster.records import MapHead, MapRows
from blockyard.metaserver.cluster.status import status
from blockyard.metaserver.state.transaction import Transaction
from blockyard.proto.cluster_pb2 import (
    ChangeNodeRequest,
    CheckBlocksReply,
    CheckBlocksRequest,
    ClusterStatusReply,
    ConfirmReclaimRequest,
    GetClusterMapReply,
    GetClusterMapRequest,
    LeaseBlockIdsReply,
    LeaseBlockIdsRequest,
    ListReclaimReply,
    ListReclaimRequest,
    NodeHeartbeatRequest,
    RegisterNodeReply,
    RegisterNodeRequest,
)
from blockyard.proto.common_pb2 import Empty
from blockyard.proto.errors import InvalidArgument, StaleEpoch
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.proto.internal_pb2 import AbandonBlockRequest

_GROUP_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What a cluster is made with. Raises InvalidArgument when it makes no sense."""

    cluster: str
    seed: int  # of the placement table, 64 bits
    replicas: int = 3
    write_min: int = 2
    groups: int = 256  # fixed for good; `placement` says how to choose
    scatter_width: int = 10

    def __post_init__(self) -> None:
        if not self.cluster:
            raise InvalidArgument("a cluster needs an id")
        if not 1 <= self.groups <= _GROUP_LIMIT or self.groups & (self.groups - 1):
            raise InvalidArgument(f"groups = {self.groups}: must be a power of two up to {_GROUP_LIMIT}")
        if not 1 <= self.write_min <= self.replicas:
            raise InvalidArgument(f"write_min = {self.write_min}: must be 1 to replicas ({self.replicas})")
        if self.scatter_width < 1:
            raise InvalidArgument(f"scatter_width = {self.scatter_width}: must be at least 1")


@dataclass(slots=True)
class _Parts:
    """The cluster's tables over one transaction."""

    tx: Transaction
    keeper: MapKeeper = field(init=False)
    nodes: Nodes = field(init=False)
    leases: Leases = field(init=False)
    reclaim: Reclaim = field(init=False)

    def __post_init__(self) -> None:
        self.keeper = MapKeeper(MapRows(self.tx))
        self.nodes = Nodes(self.keeper)
        self.leases = Leases(self.tx)
        self.reclaim = Reclaim(self.tx)


class ClusterState:
    """Nodes, map, block-id leases and dead blocks.

    Tables are attached to a transaction when it is first seen, and kept for as long as the same one comes.
    """

    def __init__(self, references: BlockReferences) -> None:
        self._references = references
        self._parts: _Parts | None = None

    def _on(self, tx: Transaction) -> _Parts:
        if self._parts is None or self._parts.tx is not tx:
            self._parts = _Parts(tx)
        return self._parts

    def view(self, tx: Transaction) -> MapView:
        """Return the map as `tx` sees it; the same object until it changes. Raises Unavailable before `make`."""
        return self._on(tx).keeper.view

    # ------------------------------------------------------------------------------------------------- commands

    def make(self, tx: Transaction, settings: ClusterSettings) -> None:
        """Make the cluster; the first command of all. Raises Exists when there is one."""
        head = MapHead(
            epoch=1,
            cluster=settings.cluster,
            replicas=settings.replicas,
            write_min=settings.write_min,
            groups=settings.groups,
            scatter_width=settings.scatter_width,
            seed=settings.seed,
            nodes=0,
        )
        self._on(tx).keeper.make(head)

    def register_node(self, tx: Transaction, request: RegisterNodeRequest, inputs: Sequence[int]) -> RegisterNodeReply:
        """See `Nodes.register`. The leader then tells `Heartbeats.registered`."""
        return self._on(tx).nodes.register(request)

    def change_node(self, tx: Transaction, request: ChangeNodeRequest, inputs: Sequence[int]) -> Empty:
        """See `Nodes.change`."""
        self._on(tx).nodes.change(request)
        return Empty()

    def set_node_state(self, tx: Transaction, request: ChangeNodeRequest, inputs: Sequence[int]) -> Empty:
        """See `Nodes.set_state`. Internal. Inputs: the state that the node was in when this was proposed."""
        if len(inputs) != 1:
            raise InvalidArgument("set_node_state needs the state before as its one input")
        self._on(tx).nodes.set_state(request.node, inputs[0], request.state)
        return Empty()

    def report_complete(self, tx: Transaction, request: NodeHeartbeatRequest, inputs: Sequence[int]) -> Empty:
        """See `Nodes.report_complete`. Internal."""
        self._on(tx).nodes.report_complete(request)
        return Empty()

    def lease_block_ids(
        self, tx: Transaction, request: LeaseBlockIdsRequest, inputs: Sequence[int]
    ) -> LeaseBlockIdsReply:
        """See `Leases.lease`; that the session lives is the dispatcher's to check. Inputs: chance, full nodes."""
        parts = self._on(tx)
        return parts.leases.lease(parts.keeper.view, request, inputs)

    def skip_ahead(self, tx: Transaction) -> None:
        """After a restore: see `Leases.skip_ahead` and `MapKeeper.skip_ahead`.

        Nothing, when the state is older than its cluster.
        """
        parts = self._on(tx)
        if parts.keeper.rows.head is not None:
            parts.leases.skip_ahead(parts.keeper.view.head.groups)
            parts.keeper.skip_ahead()

    def end_session(self, tx: Transaction, session: int) -> None:
        """Part of the command that ends a session, by request or by silence."""
        self._on(tx).leases.end_session(session)

    def spend(self, tx: Transaction, session: int, block: int, map_epoch: int = 0) -> bool:
        """Part of the command that first refers to a block: whether the session owns its id, which is used up by this.

        Without it a client could commit a block again after it died and every node dropped it. `map_epoch` is that of
        the map the block was written under, 0 when nobody says. Raises StaleEpoch when the group has let go of holders
        it had then: they may have been the block's only ones, for a block that nobody had committed yet may have come
        to them after the others looked for what they lack.
        """
        parts = self._on(tx)
        view, group = parts.keeper.view, block >> SEQUENCE_BITS
        if group < len(view.groups) and 0 < map_epoch < view.groups[group].released:
            raise StaleEpoch(
                f"block {block:#x} was written under the map of epoch {map_epoch}, and its group has let holders of "
                "that time go since: write it again",
                map_epoch=view.epoch,
            )
        return parts.leases.spend(session, block)

    def abandon_block(self, tx: Transaction, request: AbandonBlockRequest, inputs: Sequence[int]) -> Empty:
        """Declare a block dead that its session leased and has not committed, nor will. Internal."""
        parts = self._on(tx)
        if parts.leases.spend(request.session, request.block):
            parts.reclaim.enqueue([request.block])
        return Empty()

    def enqueue_reclaim(self, tx: Transaction, blocks: Iterable[int]) -> None:
        """Part of the command that drops the last reference to blocks."""
        self._on(tx).reclaim.enqueue(blocks)

    def confirm_reclaim(self, tx: Transaction, request: ConfirmReclaimRequest, inputs: Sequence[int]) -> Empty:
        """See `Reclaim.confirm`."""
        parts = self._on(tx)
        parts.reclaim.confirm(parts.keeper.view, request)
        return Empty()

    def sweep_reclaim(self, tx: Transaction, request: Empty, inputs: Sequence[int]) -> Empty:
        """See `Reclaim.sweep`. Internal."""
        parts = self._on(tx)
        parts.reclaim.sweep(parts.keeper.view)
        return Empty()

    # ------------------------------------------------------------------------------------------------- reads

    def owned(self, tx: Transaction, session: int, block: int) -> bool:
        """Return whether the session may commit the block: it was given its id, and has not ended."""
        return self._on(tx).leases.owned(session, block)

    def is_dead(self, tx: Transaction, block: int) -> bool:
        """Return whether the block waits to be reclaimed. A commit must refuse such a block."""
        return self._on(tx).reclaim.is_dead(block)

    def get_cluster_map(self, tx: Transaction, request: GetClusterMapRequest) -> GetClusterMapReply:
        """Return the map, unless the asker has it."""
        return map_reply(self.view(tx), request.known_epoch)

    def check_blocks(self, tx: Transaction, request: CheckBlocksRequest) -> CheckBlocksReply:
        """See `Fates.check`."""
        parts = self._on(tx)
        return Fates(parts.leases, parts.reclaim, self._references).check(parts.keeper.view, request)

    def list_reclaim(self, tx: Transaction, request: ListReclaimRequest) -> ListReclaimReply:
        """See `Reclaim.list`. The leader then tells `Heartbeats.listed`."""
        parts = self._on(tx)
        return parts.reclaim.list(parts.keeper.view, request)

    def reclaim_counts(self, tx: Transaction) -> Counts:
        """Return how many dead blocks wait, and how many there ever were."""
        return self._on(tx).reclaim.counts

    def sweep_pending(self, tx: Transaction) -> bool:
        """Return whether the leader should propose `sweep_reclaim`."""
        return self._on(tx).reclaim.sweep_pending

    def status(self, tx: Transaction, liveness: Liveness, now_ms: int) -> ClusterStatusReply:
        """Return how the cluster is, as the leader sees it."""
        return status(self.view(tx), liveness, self.reclaim_counts(tx)[0], now_ms)

    def check(self, tx: Transaction) -> Iterator[str]:
        """Yield a sentence for every broken invariant of the cluster's rows."""
        parts = self._on(tx)
        return findings(tx, parts.keeper.view, parts.leases, parts.reclaim)
