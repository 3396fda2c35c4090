"""A metadata server: opens its directory, drives its core, serves both transports, ends in good order."""

import asyncio
import random
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc
from blockyard.metaserver.cluster.liveness import LivenessSettings
from blockyard.metaserver.compaction.runner import Compaction
from blockyard.metaserver.member import address_book
from blockyard.metaserver.member import settings as derived
from blockyard.metaserver.member.admin_service import AdminService
from blockyard.metaserver.member.applier import Applier
from blockyard.metaserver.member.cluster_service import ClusterService
from blockyard.metaserver.member.driver import Driver
from blockyard.metaserver.member.group_machine import GroupMachine
from blockyard.metaserver.member.known_peers import KnownPeers
from blockyard.metaserver.member.leadership import Leadership
from blockyard.metaserver.member.metadata_service import MetadataService
from blockyard.metaserver.member.metrics import MemberMetrics
from blockyard.metaserver.member.peers import Peers
from blockyard.metaserver.member.raft_service import RaftService
from blockyard.metaserver.member.redirect import CLUSTER, METADATA, Redirect, not_leader
from blockyard.metaserver.member.snapshots import Snapshots
from blockyard.metaserver.member.watchers import OperationTail, Watchers
from blockyard.metaserver.raft import MemberId, RaftCore, Role
from blockyard.metaserver.storage.directory import DataDirectory
from blockyard.metaserver.storage.space import SpaceLimits, SpaceWatch, free_bytes
from blockyard.proto import errors, logs
from blockyard.proto.call import register
from blockyard.proto.cluster_pb2_grpc import add_ClusterServicer_to_server
from blockyard.proto.common_pb2 import Address
from blockyard.proto.disk.failures import DirectoryRefused
from blockyard.proto.door.server import DoorServer
from blockyard.proto.ids import MEMBER, ClusterId
from blockyard.proto.lane import AioChannel, AioServer, Limits
from blockyard.proto.metadata_pb2_grpc import add_MetadataServicer_to_server
from blockyard.proto.metrics import ProcessMetrics
from blockyard.proto.probe import AioProbe
from blockyard.proto.probe_pb2_grpc import add_ProbeServicer_to_server
from blockyard.proto.raft_pb2 import (
    MEMBER_DATA,
    MEMBER_WITNESS,
    GroupMember,
    MetaStatusReply,
    MetaStatusRequest,
    StepRequest,
)
from blockyard.proto.raft_pb2_grpc import MetaAdminStub, add_MetaAdminServicer_to_server, add_RaftServicer_to_server
from blockyard.proto.settings import MetaserverSettings

SPACE_ROUND_S = 1.0
SELF_CHECK_S = 1.0
_log = logs.get(__name__)


class Member:
    """One member of the group, data or witness, in this process."""

    def __init__(self, settings: MetaserverSettings) -> None:
        """Open the data directory. Raises DirectoryRefused, CorruptStorage, StorageFailed, OSError."""
        self.settings = settings
        self.witness = settings.metaserver.role == "witness"
        self.path = Path(settings.metaserver.data_dir)
        self.cluster = ClusterId(settings.cluster.id)
        self.id = MemberId(settings.metaserver.member)
        self.metrics = ProcessMetrics()
        self.metrics.identify("metaserver", member=str(int(self.id)))
        limit = settings.metaserver.read_only_below_bytes
        self.space = SpaceWatch(SpaceLimits(limit, limit + limit // 2 + 1))
        self.directory = DataDirectory(self.path, self.cluster, MEMBER.check(self.id), with_state=not self.witness)
        identity = self.directory.identity
        envelope = StepRequest(cluster=self.cluster, incarnation=identity.incarnation, starts=identity.starts)
        self.known = KnownPeers(self.path, identity, self._superseded)
        self.peers = Peers(
            self.id, envelope, self.known, self._received, self._unreachable, self._save_book, self._superseded
        )
        self.peers.begin(address_book.load(self.path, derived.founders(settings)))
        self.snapshots = Snapshots(self.directory, self.cluster, self.peers)
        self.applier: Applier | None = None
        if not self.witness:
            machine = GroupMachine(self.directory.state, self.cluster)
            self.applier = Applier(self.directory.state, machine, self.snapshots.install)
        config = derived.raft_config(settings.raft, self.id, self.witness)
        rng = random.Random(secrets.randbits(64))
        core = RaftCore(config, self.directory.durable_state(), self.directory.log, rng)
        self.snapshots.attach(core)
        self.driver = Driver(
            core, self.directory.log, self.applier, self.peers, self.snapshots.send, settings.raft.tick_ms / 1000
        )
        self.leadership: Leadership | None = None
        self.compaction: Compaction | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._why = ""

    # ------------------------------------------------------------------------------------------ serving

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set, then end in good order.

        Raises DirectoryRefused when the group knows a newer start of this member, or another member under its id.
        """
        self._stop = stop
        await self._refuse_beside_another()
        lane = self._lane()
        door = DoorServer(self.settings.door, metrics=self.metrics.transport("grpc", "server"))
        self._register(lane, door)
        listen = self.settings.listen
        lane_port = await lane.listen_tcp(listen.host, listen.lane_port)
        if listen.unix_path:
            await lane.listen_unix(listen.unix_path)
        grpc_port = door.listen_tcp(listen.host, listen.grpc_port)
        await door.start()
        self.peers.learn([self._described(lane_port, grpc_port)], self.id)
        endpoint = None
        if self.settings.metrics.enabled:
            endpoint = self.metrics.serve(self.settings.metrics.port, self.settings.metrics.host)
        self.driver.start()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._shape()), loop.create_task(self._watch_space())]
        for task in self._tasks:
            task.add_done_callback(self._task_ended)
        _log.info("serving", member=int(self.id), lane_port=lane_port, grpc_port=grpc_port, witness=self.witness)
        await stop.wait()
        await self._end(lane, door)
        if endpoint is not None:
            endpoint.stop()
        if self._why:
            raise DirectoryRefused(f"{self.path}: {self._why}.")

    async def _refuse_beside_another(self) -> None:
        """Raise DirectoryRefused when somebody already serves as this member where the group knows it to be."""
        known, host = self.peers.book.get(self.id), self._host()
        if known is None or (known.address.host, known.address.lane_port) == (host, self.settings.listen.lane_port):
            return
        address = f"{known.address.host}:{known.address.lane_port}"
        try:
            async with AioChannel(address, timeout_s=SELF_CHECK_S, connect_timeout_s=SELF_CHECK_S) as channel:
                stub: Any = MetaAdminStub(cast(grpc.Channel, channel))
                found: MetaStatusReply = await stub.Status(MetaStatusRequest())
        except errors.BlockyardError:
            return  # nobody is there: this member has moved
        if (found.cluster, found.member) == (self.cluster, self.id):
            self.directory.close()
            raise DirectoryRefused(
                f"{self.path}: member {int(self.id)} already runs at {address}, so this directory is a copy. "
                "Remove it; to add a member use `blockyard meta join` with a new id."
            )

    def _host(self) -> str:
        return self.settings.listen.advertise_host or self.settings.listen.host

    def _described(self, lane_port: int, grpc_port: int) -> GroupMember:
        kind = MEMBER_WITNESS if self.witness else MEMBER_DATA
        address = Address(host=self._host(), lane_port=lane_port, grpc_port=grpc_port)
        return GroupMember(id=self.id, kind=kind, address=address)

    def _superseded(self, why: str) -> None:
        """The group knows a newer start of this member, or another: what this one promises is worth nothing."""
        if not self._why:
            self._why = why
            self.driver.stop()
            self._stop.set()

    async def _end(self, lane: AioServer, door: DoorServer) -> None:
        _log.info("stopping", member=int(self.id))
        if not self._why:
            self._hand_over()
        for task in self._tasks:
            task.cancel()
        if self.leadership is not None:
            self.leadership.stop()
        if self.compaction is not None:
            self.compaction.lead(False)
        await asyncio.sleep(0.05)  # the handing over leaves first
        self.driver.stop()
        await door.stop(grace_s=1.0)
        await lane.stop(grace_s=1.0)
        await self.peers.close()
        self.directory.close()

    def _hand_over(self) -> None:
        """A leader that is asked to stop lets another take over at once, instead of after an election timeout."""
        core = self.driver.core
        others = [id for id in core.membership.data_members if id != core.id and id in core.progress]
        ready = [id for id in others if core.progress[id].match >= core.commit]
        if ready:
            core.transfer_leadership(ready[0])
            self.driver.step([])

    def _lane(self) -> AioServer:
        lane = self.settings.lane
        limits = Limits(lane.message_limit_bytes, lane.payload_limit_bytes, max_calls=lane.in_flight_limit)
        return AioServer(limits, self.metrics.transport("lane", "server"))

    def _register(self, lane: AioServer, door: DoorServer) -> None:
        register(add_ProbeServicer_to_server, AioProbe(), lane, door)
        raft_service = RaftService(self.driver, self.peers, self.known, self.snapshots)
        register(add_RaftServicer_to_server, raft_service, lane)
        if self.applier is not None:
            self.applier.on_settled = lane.flush
            self._register_data(self.applier, lane, door)
        else:
            register(add_MetadataServicer_to_server, Redirect(METADATA, self._not_leader), lane, door)
            register(add_ClusterServicer_to_server, Redirect(CLUSTER, self._not_leader), lane, door)
        admin = AdminService(
            self.driver,
            self.peers,
            self.cluster,
            self.path,
            self.settings.raft.tick_ms,
            lambda: self.peers.any_nearly_full,
            self.applier,
            self.leadership,
            None if self.witness else self.snapshots,
        )
        register(add_MetaAdminServicer_to_server, admin, lane, door)
        self.metrics.registry.register(
            MemberMetrics(self.driver, self.applier, self.leadership, self.compaction, self.directory)
        )

    def _not_leader(self) -> errors.NotLeader:
        return not_leader(self.driver, self.peers)

    def _register_data(self, applier: Applier, lane: AioServer, door: DoorServer) -> None:
        placement = self.settings.placement
        liveness = LivenessSettings(placement.down_after_ms, placement.out_after_s * 1000)
        founding = derived.founding_cluster(self.settings, secrets.randbits(64))
        self.leadership = Leadership(
            self.driver, applier, self.peers, liveness, founding, lambda: self.peers.any_nearly_full
        )
        self.compaction = self._compaction(applier, self.leadership)
        watchers, tail = Watchers(applier), OperationTail(applier)
        metadata: Any = MetadataService(self.driver, applier, self.leadership, watchers, tail)
        register(add_MetadataServicer_to_server, metadata, lane, door)
        cluster = ClusterService(self.driver, applier, self.leadership, self.compaction, placement.heartbeat_ms)
        register(add_ClusterServicer_to_server, cluster, lane, door)

    # ------------------------------------------------------------------------------------------ upkeep

    def _compaction(self, applier: Applier, leadership: Leadership) -> Compaction:
        compaction = Compaction(
            self.driver,
            lambda: applier.machine.state,
            lambda: applier.machine.cluster_state.view(applier.machine.tx),
            leadership.heartbeats.full_nodes,
            leadership.keep,
        )
        self.driver.on_role_change.append(lambda role: compaction.lead(role is Role.LEADER))
        return compaction

    async def _shape(self) -> None:
        await self.snapshots.keep_in_shape(self.settings.raft.snapshot_after_entries)

    async def _watch_space(self) -> None:
        while True:
            if self.space.observe(free_bytes(self.path)):
                self.peers.nearly_full = self.space.read_only
                _log.warning("space", read_only=self.space.read_only, free_bytes=free_bytes(self.path))
            await asyncio.sleep(SPACE_ROUND_S)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.driver.on_failure(error)

    def _received(self, messages: Any) -> None:
        self.driver.step(messages)

    def _unreachable(self, member: MemberId) -> None:
        self.driver.core.report_unreachable(member)

    def _save_book(self) -> None:
        address_book.save(self.path, self.peers.book.values())


@asynccontextmanager
async def stopping_on_signals() -> AsyncIterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    yield stop


async def serve(settings: MetaserverSettings) -> None:
    """Run a member until it is told to stop."""
    async with stopping_on_signals() as stop:
        await Member(settings).run(stop)
