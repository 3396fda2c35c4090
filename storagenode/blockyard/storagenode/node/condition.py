"""How the node is right now: what its heartbeats, its metrics and its answers to people say."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from blockyard.proto import logs
from blockyard.proto.cluster_pb2 import NodeHeartbeatRequest
from blockyard.proto.metrics import TransportMetrics
from blockyard.storagenode.node.directory import NodeDirectory
from blockyard.storagenode.node.disk_watch import DiskWatch
from blockyard.storagenode.node.known_map import KnownMap
from blockyard.storagenode.node.service_list import ServiceList
from blockyard.storagenode.store import BlockStore

_log = logs.get(__name__)


class Throughput:
    """Bytes per second that transports moved between two looks."""

    def __init__(self, transports: Sequence[TransportMetrics]) -> None:
        self._transports = transports
        self._seen, self._at = self._moved(), time.monotonic()

    def look(self) -> int:
        """Return the bytes per second since the last look."""
        moved, now = self._moved(), time.monotonic()
        rate = (moved - self._seen) / max(1e-3, now - self._at)
        self._seen, self._at = moved, now
        return int(rate)

    def _moved(self) -> int:
        return sum(each.received_bytes + each.sent_bytes for each in self._transports)


class Condition:
    """Puts together what is known in different places. `heartbeat` is for one thread, the rest for any."""

    def __init__(
        self,
        directory: NodeDirectory,
        store: BlockStore,
        known: KnownMap,
        disk: DiskWatch,
        services: ServiceList,
        throughput: Throughput,
        calls: Callable[[], int],
    ) -> None:
        self.store = store
        self.services = services
        self.disk = disk
        self.calls = calls
        self._directory = directory
        self.known = known
        self._throughput = throughput
        self._read_only = False

    def heartbeat(self) -> NodeHeartbeatRequest | None:
        """Return what the cluster is told now; None while the disk hangs, for then the node must not seem to live."""
        if self.disk.hung:
            return None
        usage, progress = self.store.usage(), self.services.progress()
        if usage.read_only != self._read_only:
            self._read_only = usage.read_only
            _log.warning("space", read_only=usage.read_only, free_bytes=usage.free_bytes, used_bytes=usage.used_bytes)
        return NodeHeartbeatRequest(
            node=self._directory.identity.node,
            incarnation=self._directory.identity.incarnation,
            starts=self._directory.identity.starts,
            map_epoch=progress.map_epoch or self.known.view.epoch,
            used_bytes=usage.used_bytes,
            free_bytes=0 if usage.read_only else usage.free_bytes,
            blocks=usage.blocks,
            requests=self.calls(),
            bytes_per_second=self._throughput.look(),
            repair_blocks=progress.repair_blocks,
            repair_bytes=progress.repair_bytes,
            repair_bytes_per_second=progress.repair_bytes_per_second,
            quarantined_blocks=usage.quarantined,
            sync_us=max(usage.sync_us, self.disk.probe_us),
            complete_groups=progress.complete_groups,
        )


def capacity_bytes(path: Path, wanted: int) -> int:
    """Return the bytes that a node in `path` can hold: `wanted`, or, when that is 0 or more, what its disk has."""
    found = os.statvfs(path)
    whole = (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize  # without root's reserve
    return min(wanted, whole) if wanted else whole
