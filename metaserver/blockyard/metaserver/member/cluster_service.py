"""The Cluster service: storage nodes announce themselves here, and everybody learns the map."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from blockyard.metaserver.compaction.runner import Compaction
from blockyard.metaserver.member.applier import Applier
from blockyard.metaserver.member.driver import Driver
from blockyard.metaserver.member.group_machine import cluster, internal
from blockyard.metaserver.member.leadership import Leadership
from blockyard.metaserver.namespace.machine import Applied
from blockyard.metaserver.raft import LogIndex
from blockyard.proto import cluster_pb2 as pb
from blockyard.proto.call import CallContext, Deferred
from blockyard.proto.common_pb2 import Empty
from google.protobuf.message import Message


def now_ms() -> int:
    """Return this process's monotonic clock in milliseconds."""
    return int(time.monotonic() * 1000)


class ClusterService:
    """Every method of the contract's `Cluster`."""

    def __init__(
        self, driver: Driver, applier: Applier, leadership: Leadership, compaction: Compaction, heartbeat_ms: int
    ) -> None:
        self._driver = driver
        self._applier = applier
        self._leadership = leadership
        self._compaction = compaction
        self._heartbeat_ms = heartbeat_ms
        self._moved = asyncio.Event()
        self._epoch = 0
        applier.on_entry.append(self._entry_applied)
        applier.on_switch.append(self._notice_epoch)

    # ------------------------------------------------------------------------------------------ storage nodes

    async def RegisterNode(self, request: pb.RegisterNodeRequest, context: CallContext) -> pb.RegisterNodeReply:
        """Take a node into the map, or know it again."""
        reply: pb.RegisterNodeReply = await self._propose(cluster("RegisterNode"), request)
        self._leadership.heartbeats.registered(reply.id, now_ms())
        reply.heartbeat_ms = self._heartbeat_ms
        return reply

    async def NodeHeartbeat(self, request: pb.NodeHeartbeatRequest, context: CallContext) -> pb.NodeHeartbeatReply:
        """Note how a node is; tell it what the cluster wants of it."""
        self._leadership.check()
        machine = self._applier.machine
        state, tx = machine.cluster_state, machine.tx
        counts = state.reclaim_counts(tx)
        reply, report = self._leadership.heartbeats.answer(state.view(tx), request, counts, now_ms())
        if report is not None:
            await self._driver.propose(internal("ReportComplete"), report)
        return reply

    async def ListReclaim(self, request: pb.ListReclaimRequest, context: CallContext) -> pb.ListReclaimReply:
        """Return dead blocks that a node may have copies of."""
        self._leadership.check()

        def serve() -> tuple[pb.ListReclaimReply, int, int]:
            machine = self._applier.machine
            state, tx = machine.cluster_state, machine.tx
            return state.list_reclaim(tx, request), state.view(tx).epoch, state.reclaim_counts(tx)[1]

        reply, epoch, enqueued = await self._driver.read(serve)
        self._leadership.heartbeats.listed(
            request.node, epoch, enqueued, now_ms(), first=request.after == 0, end=reply.end
        )
        listed: pb.ListReclaimReply = reply
        return listed

    def ConfirmReclaim(self, request: pb.ConfirmReclaimRequest, context: CallContext) -> Deferred:
        """Note that a node dropped dead blocks."""
        return self._propose(cluster("ConfirmReclaim"), request)

    def CheckBlocks(self, request: pb.CheckBlocksRequest, context: CallContext) -> Deferred:
        """Say whether blocks live; as linearizable as any read, or the deleted would rise again."""

        def check() -> pb.CheckBlocksReply:
            machine = self._applier.machine
            return machine.cluster_state.check_blocks(machine.tx, request)

        return self._driver.read(check)

    async def ReportReplica(self, request: pb.ReportReplicaRequest, context: CallContext) -> Empty:
        """Note that a replica was found bad; the node that holds it hears of it with its next heartbeat."""
        self._leadership.check()
        self._leadership.reported(request)
        return Empty()

    # ------------------------------------------------------------------------------------------ everybody

    def GetClusterMap(self, request: pb.GetClusterMapRequest, context: CallContext) -> Deferred:
        """Return the map, unless the asker has it."""
        return self._driver.read(self._map(request))

    async def WatchClusterMap(
        self, request: pb.GetClusterMapRequest, context: CallContext
    ) -> AsyncIterator[pb.GetClusterMapReply]:
        """Send the map now, unless it is known, and whenever it changes."""
        known = request.known_epoch
        while True:
            moved = self._moved
            reply = await self._driver.read(self._map(pb.GetClusterMapRequest(known_epoch=known)))
            if reply.HasField("map"):
                known = reply.epoch
                yield reply
            else:
                await moved.wait()

    def LeaseBlockIds(self, request: pb.LeaseBlockIdsRequest, context: CallContext) -> Deferred:
        """Give a session ids for new blocks, in groups that can be written to."""
        full = self._leadership.heartbeats.full_nodes()
        return self._propose(cluster("LeaseBlockIds"), request, secrets.randbits(64), *full)

    # ------------------------------------------------------------------------------------------ operators

    def ChangeNode(self, request: pb.ChangeNodeRequest, context: CallContext) -> Deferred:
        """Drain, undrain, weigh or remove a node."""
        return self._propose(cluster("ChangeNode"), request)

    def Status(self, request: pb.ClusterStatusRequest, context: CallContext) -> Deferred:
        """Return how the cluster is, as the leader sees it."""
        self._leadership.check()

        def status() -> pb.ClusterStatusReply:
            machine, liveness = self._applier.machine, self._leadership.heartbeats.liveness
            reply = machine.cluster_state.status(machine.tx, liveness, now_ms())
            self._compaction.describe(reply)
            return reply

        return self._driver.read(status)

    # ------------------------------------------------------------------------------------------ within

    def _propose(self, method: int, request: Message, *inputs: int) -> Deferred:
        self._leadership.check()
        self._applier.machine.validate(method, request)
        return self._driver.propose(method, request, inputs)

    def _map(self, request: pb.GetClusterMapRequest) -> Any:
        def get() -> pb.GetClusterMapReply:
            machine = self._applier.machine  # a snapshot may have replaced the one of when this was asked
            return machine.cluster_state.get_cluster_map(machine.tx, request)

        return get

    def _entry_applied(self, index: LogIndex, applied: Applied) -> None:
        self._notice_epoch()

    def _notice_epoch(self) -> None:
        epoch = self._applier.map_epoch()
        if epoch != self._epoch:
            self._epoch = epoch
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()
