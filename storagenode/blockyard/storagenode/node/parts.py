"""What a node is made of: the store, the service and the background work, each from the settings that are its own."""

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockyard.proto import logs
from blockyard.proto.blocks import Channels
from blockyard.proto.cluster_pb2 import NodeHeartbeatReply
from blockyard.proto.settings import StorageNode, StorageNodeSettings
from blockyard.proto.storage_pb2 import NodeInfoReply
from blockyard.storagenode.node.directory import NodeDirectory
from blockyard.storagenode.node.guard import Guard
from blockyard.storagenode.node.known_map import KnownMap
from blockyard.storagenode.node.service_list import ServiceList
from blockyard.storagenode.service import StorageServicer
from blockyard.storagenode.store import BlockStore, StoreSettings
from blockyard.storagenode.upkeep.calls import UpkeepCalls
from blockyard.storagenode.upkeep.compaction import Compactor
from blockyard.storagenode.upkeep.compaction_metrics import CompactionMetrics
from blockyard.storagenode.upkeep.fates import Fates
from blockyard.storagenode.upkeep.metrics import UpkeepMetrics
from blockyard.storagenode.upkeep.upkeep import Upkeep, UpkeepSettings
from prometheus_client.registry import Collector

_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Wiring:
    """What parts are made from."""

    settings: StorageNodeSettings
    directory: NodeDirectory
    store: BlockStore
    known: KnownMap
    guard: Guard
    cluster: Any  # a stub of the Cluster service over a channel that finds the leader


@dataclass(frozen=True, slots=True)
class Node:
    """The parts of a node that has registered."""

    servicer: StorageServicer
    services: ServiceList
    heard: Callable[[NodeHeartbeatReply], None]  # is told every answer to a heartbeat
    metrics: Sequence[Collector]
    close: Callable[[], None]  # once nothing calls or runs any more


def store_settings(own: StorageNode) -> StoreSettings:
    """Return what the store is told."""
    return StoreSettings(
        small_block_limit_bytes=own.small_block_limit_bytes,
        pack_size_bytes=own.pack_size_bytes,
        pack_live_percent=own.pack_live_percent,
        read_only_above_percent=own.read_only_above_percent,
        capacity_bytes=own.capacity_bytes,
    )


def open_store(path: Path, own: StorageNode) -> BlockStore:
    """Return the store in `path`, recovered. Raises CorruptStorage and OSError."""
    store = BlockStore(path, store_settings(own))
    store.open()
    return store


def rebuild_index(directory: NodeDirectory) -> None:
    """Make the store's index anew from what is on the disk; the store is closed."""
    report = BlockStore.rebuild_index(directory.blocks)
    _log.info("index_rebuilt", report=str(report))


def assemble(wiring: Wiring) -> Node:
    """Return the parts of a registered node; none of them runs yet."""
    own, identity, store, known = wiring.settings.storagenode, wiring.directory.identity, wiring.store, wiring.known
    upkeep = Upkeep(
        store,
        known,
        wiring.cluster,
        identity.node,
        identity.incarnation,
        UpkeepSettings(own.scrub_period_s, own.repair_bytes_per_second),
    )
    channels = Channels()
    fates = Fates(wiring.cluster, identity.node, identity.incarnation)
    compactor = Compactor(store, identity.node, known, channels, upkeep.throttle, fates.ask)

    def describe(reply: NodeInfoReply) -> None:
        reply.incarnation = identity.incarnation
        reply.map_epoch = known.view.epoch
        reply.version = importlib.metadata.version("blockyard")

    servicer = StorageServicer(
        store,
        identity.node,
        wiring.guard,
        describe=describe,
        compact=compactor.compact,
        upkeep=UpkeepCalls(upkeep),
        chain_failed=upkeep.chain_failed,
    )

    def close() -> None:
        servicer.close()
        channels.close()

    return Node(
        servicer, ServiceList([upkeep]), upkeep.heard, [UpkeepMetrics(upkeep), CompactionMetrics(compactor)], close
    )
