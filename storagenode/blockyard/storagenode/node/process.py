"""A storage node: opens its directory and store, serves both transports, belongs to its cluster, ends in good order."""

import resource
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, cast

import grpc
from blockyard.proto import logs
from blockyard.proto.call import register as register_servicer
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import NodeHeartbeatReply, NodeRecord
from blockyard.proto.cluster_pb2_grpc import ClusterStub
from blockyard.proto.common_pb2 import Address
from blockyard.proto.disk.failures import DirectoryRefused
from blockyard.proto.disk.stop import stop
from blockyard.proto.errors import BlockyardError
from blockyard.proto.group import GroupChannel
from blockyard.proto.ids import NODE, NodeId
from blockyard.proto.lane import Limits, ThreadServer, sockets
from blockyard.proto.metrics import ProcessMetrics
from blockyard.proto.probe import ThreadProbe
from blockyard.proto.probe_pb2_grpc import add_ProbeServicer_to_server
from blockyard.proto.settings import StorageNodeSettings
from blockyard.proto.storage_pb2_grpc import add_StorageServicer_to_server
from blockyard.storagenode.node import parts
from blockyard.storagenode.node.condition import Condition, Throughput, capacity_bytes
from blockyard.storagenode.node.directory import PROBE, NodeDirectory
from blockyard.storagenode.node.disk_watch import DiskWatch
from blockyard.storagenode.node.door_thread import DoorThread
from blockyard.storagenode.node.guard import Guard
from blockyard.storagenode.node.known_map import KnownMap
from blockyard.storagenode.node.map_watch import MapWatch, fetch_with
from blockyard.storagenode.node.membership import Heartbeats, register
from blockyard.storagenode.node.metrics import NodeMetrics

DOOR_WORKERS: Final = 16
GRACE_S: Final = 3.0
FOLLOW_S: Final = 0.5
PROBE_PERIOD_S: Final = 1.0
HUNG_AFTER_S: Final = 3.0
DESCRIPTORS: Final = 65_536
_log = logs.get(__name__)


class StorageNode:
    """One storage node in this process."""

    def __init__(self, settings: StorageNodeSettings, stopping: threading.Event, rebuild_index: bool) -> None:
        """Prepare; nothing is opened yet. The node runs until `stopping` is set, by a signal or by itself."""
        self.settings = settings
        self.stopping = stopping
        self._rebuild_index = rebuild_index
        self.metrics = ProcessMetrics()
        self._fenced = ""

    def run(self) -> None:
        """Serve until told to stop, then end in good order.

        Raises DirectoryRefused when this directory must not be used, or the cluster has replaced or removed this node;
        OSError when an address or the disk cannot be used; CorruptStorage.
        """
        with ExitStack() as ending:
            self._serve(ending)
        if self._fenced:
            path = self.settings.storagenode.data_dir
            raise DirectoryRefused(f"{path}: the cluster refuses this node: {self._fenced}")

    # ------------------------------------------------------------------------------------------ in order

    def _serve(self, ending: ExitStack) -> None:
        """Begin one part after the other; `ending` ends them the other way round."""
        settings = self.settings
        raise_descriptor_limit()
        path = Path(settings.storagenode.data_dir)
        directory = NodeDirectory(path, settings.cluster.id, lambda: secrets.randbits(63) + 1)
        ending.callback(directory.close)
        if self._rebuild_index:
            parts.rebuild_index(directory)
        store = parts.open_store(directory.blocks, settings.storagenode)
        ending.callback(store.close)
        disk = DiskWatch(
            path / PROBE, lambda: store.usage().syncs, stop, period_s=PROBE_PERIOD_S, hung_after_s=HUNG_AFTER_S
        )
        disk.start()
        ending.callback(disk.stop)
        cluster: Any = ClusterStub(cast(grpc.Channel, ending.enter_context(self._group())))
        listener, local = self._listeners(ending)  # all that can fail here fails before the cluster counts on this node
        self._open_metrics(ending)
        record = self._record(listener)
        reply = register(cluster, directory, record, self.stopping)
        if reply is None:
            return
        self.metrics.identify("storagenode", node=NODE.text(NodeId(reply.id)), name=record.name, zone=record.zone)
        known = KnownMap(ClusterView(reply.map), fetch_with(cluster))
        watch = MapWatch(cluster, known)
        watch.start()
        ending.callback(watch.stop)
        guard = Guard(reply.id, known)
        node = parts.assemble(parts.Wiring(settings, directory, store, known, guard, cluster))
        ending.callback(node.close)
        calls = self._open_doors(node, record.address, listener, local, ending)
        throughput = Throughput([self.metrics.transport("lane", "server"), self.metrics.transport("grpc", "server")])
        condition = Condition(directory, store, known, disk, node.services, throughput, calls)

        def heard(reply: NodeHeartbeatReply) -> None:
            follow(known, reply.map_epoch)
            node.heard(reply)

        heartbeats = Heartbeats(cluster, condition.heartbeat, heard, self._end_as_fenced, reply.heartbeat_ms / 1000)
        for collector in (NodeMetrics(condition, heartbeats), *node.metrics):
            self.metrics.registry.register(collector)
        node.services.start()
        ending.callback(node.services.stop)
        heartbeats.start()
        ending.callback(lambda: heartbeats.stop(farewell=not self._fenced))
        _log.info("serving", id=reply.id, lane_port=record.address.lane_port, grpc_port=record.address.grpc_port)
        self.stopping.wait()
        guard.end(self._fenced or "it is shutting down")
        _log.info("stopping", id=reply.id)

    def _group(self) -> GroupChannel:
        lane = self.settings.lane
        return GroupChannel(
            self.settings.cluster.metaservers, timeout_s=lane.default_deadline_ms / 1000, limits=self._limits()
        )

    def _listeners(self, ending: ExitStack) -> tuple[socket.socket, socket.socket | None]:
        """Return the lane's sockets, TCP and Unix: who connects before the node has registered waits in the backlog."""
        listen = self.settings.listen
        remote = ending.enter_context(sockets.listen(f"{listen.host}:{listen.lane_port}"))
        if not listen.unix_path:
            return remote, None
        local = ending.enter_context(sockets.listen(f"unix:{listen.unix_path}"))
        ending.callback(Path(listen.unix_path).unlink, missing_ok=True)
        return remote, local

    def _record(self, listener: socket.socket) -> NodeRecord:
        """Return what the cluster is told at registration."""
        listen, own = self.settings.listen, self.settings.storagenode
        return NodeRecord(
            name=own.name,
            zone=own.zone,
            address=Address(
                host=listen.advertise_host or listen.host,
                lane_port=listener.getsockname()[1],
                grpc_port=free_port(listen.host, listen.grpc_port),
                unix_path=listen.unix_path,
            ),
            capacity_bytes=capacity_bytes(Path(own.data_dir), own.capacity_bytes),
        )

    def _open_doors(
        self,
        node: "parts.Node",
        address: Address,
        listener: socket.socket,
        local: socket.socket | None,
        ending: ExitStack,
    ) -> Callable[[], int]:
        """Serve both transports; return how many calls are under way."""
        settings, host = self.settings, self.settings.listen.host
        lane = ThreadServer(self._limits(), self.metrics.transport("lane", "server"))
        door = DoorThread(settings.door, self.metrics.transport("grpc", "server"), DOOR_WORKERS)

        def add(*servers: Any) -> None:
            register_servicer(add_ProbeServicer_to_server, ThreadProbe(), *servers)
            register_servicer(add_StorageServicer_to_server, node.servicer, *servers)

        add(lane)
        ending.callback(lambda: door.stop(GRACE_S))
        door.start(add, host, address.grpc_port)
        ending.callback(lambda: lane.stop(GRACE_S))
        lane.serve(listener, f"{host}:{address.lane_port}")
        if local is not None:
            lane.serve(local, f"unix:{address.unix_path}")
        return lambda: lane.calls_under_way + door.calls

    def _open_metrics(self, ending: ExitStack) -> None:
        settings = self.settings.metrics
        if settings.enabled:
            ending.enter_context(self.metrics.serve(settings.port, settings.host))

    def _end_as_fenced(self, why: str) -> None:
        """The cluster has removed or replaced this node: what it says or takes from now on is worth nothing."""
        _log.error("refused_by_the_cluster", why=why)
        self._fenced = why
        self.stopping.set()

    def _limits(self) -> Limits:
        lane = self.settings.lane
        return Limits(lane.message_limit_bytes, lane.payload_limit_bytes, max_calls=lane.in_flight_limit)


def follow(known: KnownMap, epoch: int) -> None:
    """Have the map of `epoch`, soon: the watch brings it, and when it does not, the next heartbeat tries again."""
    try:
        known.at_least(epoch, FOLLOW_S)
    except BlockyardError as error:
        _log.info("map_not_fetched", epoch=epoch, why=error)


def free_port(host: str, port: int) -> int:
    """Return `port`, or a free one for 0. Raises OSError when it cannot be listened on: better now than later."""
    with sockets.listen(f"{host}:{port}") as probe:
        return int(probe.getsockname()[1])


def raise_descriptor_limit() -> None:
    """Let this process have as many descriptors as it may: connections, blocks being written and read."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def stopping_on_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    yield stopping


def serve(settings: StorageNodeSettings, rebuild_index: bool) -> None:
    """Run a node until it is told to stop; with `rebuild_index`, its store's index is first made anew from the disk."""
    with stopping_on_signals() as stopping:
        StorageNode(settings, stopping, rebuild_index).run()
