"""Everything a client holds open towards one cluster: the metadata group, its session, the map, the storage nodes."""

import os
import socket
import threading
from typing import Any, cast

import grpc
from blockyard.client.metadata.cache import NamespaceCache
from blockyard.client.metadata.calls import MetadataCalls, caller_of_process
from blockyard.client.metadata.commits import Commits
from blockyard.client.metadata.map_keeper import MapKeeper
from blockyard.client.metadata.namespace import Namespace
from blockyard.client.metadata.session import SessionKeeper
from blockyard.proto.blocks import Channels
from blockyard.proto.cluster_map import ClusterView, MapNode
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.group import GroupChannel
from blockyard.proto.metadata_pb2_grpc import MetadataStub
from blockyard.proto.settings import ClientSettings


class ClusterLink:
    """One client's connections and what it knows. Any number of threads may use it; a forked child may not."""

    def __init__(self, settings: ClientSettings, caller: Caller | None = None) -> None:
        """Nothing is connected before the first call. `caller` is the user on whose behalf everything happens."""
        self.settings = settings.client
        self.deadline_s = settings.client.deadline_ms / 1000
        self.group = GroupChannel(settings.cluster.metaservers, timeout_s=self.deadline_s)
        stub: Any = MetadataStub(cast(grpc.Channel, self.group))
        self.keeper = SessionKeeper(
            stub, heartbeat_s=settings.client.session_heartbeat_ms / 1000, on_epoch=lambda epoch: self.maps.heard(epoch)
        )
        self.keeper.cluster = settings.cluster.id
        self.calls = MetadataCalls(
            self.group, caller or caller_of_process(), deadline_s=self.deadline_s, keeper=self.keeper
        )
        self.namespace = Namespace(self.calls, NamespaceCache(settings.client.attribute_cache_ms / 1000))
        self.commits = Commits(self.namespace)
        self.maps = MapKeeper(self.calls.cluster, self.deadline_s)
        self.channels = Channels()
        self._here: tuple[int, MapNode | None] = (0, None)
        self._here_lock = threading.Lock()

    def close(self) -> None:
        """End the session and close every connection."""
        self.keeper.close()
        self.group.close()
        self.channels.close()

    def here(self, view: ClusterView) -> MapNode | None:
        """Return a storage node on this machine whose Unix socket can be reached, None when there is none."""
        epoch, node = self._here
        if epoch != view.epoch:
            with self._here_lock:
                node = next(filter(_is_here, view.nodes.values()), None)
                self._here = (view.epoch, node)
        return node

    def near(self, view: ClusterView) -> tuple[int, str]:
        """Return the id of a node on this machine (0: none) and this client's zone (empty: unknown)."""
        node = self.here(view)
        return (0 if node is None else node.id), self.settings.zone


def _is_here(node: MapNode) -> bool:
    """Return whether the node's socket is on this machine: its host must be this one's, too, for paths repeat."""
    if not node.answers or not node.unix_path or not os.path.exists(node.unix_path):
        return False
    return is_own_address(node.host)


def is_own_address(host: str) -> bool:
    """Return whether `host` is this machine: an address is one's own exactly when one can listen on it."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True
