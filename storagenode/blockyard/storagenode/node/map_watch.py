"""Keeps the known map new: the metadata group pushes every change; when it cannot, it is asked again and again."""

import threading
from random import Random
from typing import Any, Final

from blockyard.proto import errors, logs
from blockyard.proto.cluster_pb2 import ClusterMap, GetClusterMapReply, GetClusterMapRequest
from blockyard.storagenode.node.known_map import Fetch, KnownMap

WATCH_S: Final = 3600.0
"""A watch is begun anew after this long, so that one whose server forgot it is not for ever."""

POLL_S: Final = 1.0
_log = logs.get(__name__)


def fetch_with(cluster: Any) -> Fetch:
    """Return how the map is fetched with a stub of the Cluster service."""

    def fetch(known_epoch: int, timeout_s: float) -> ClusterMap | None:
        request = GetClusterMapRequest(known_epoch=known_epoch)
        reply: GetClusterMapReply = cluster.GetClusterMap(request, timeout=timeout_s)
        return reply.map if reply.HasField("map") else None

    return fetch


class MapWatch:
    """A thread that watches the cluster map."""

    def __init__(self, cluster: Any, known: KnownMap, random: Random | None = None) -> None:
        """`cluster` is a stub of the Cluster service over a channel that finds the leader."""
        self._cluster = cluster
        self._known = known
        self._random = random or Random()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._stream: Any = None
        self._thread = threading.Thread(target=self._run, name="map-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; returns when the thread has ended."""
        self._stopping.set()
        with self._lock:
            if self._stream is not None:
                self._stream.cancel()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except errors.BlockyardError as error:
                _log.debug("map_watch_ended", why=error)
            self._stopping.wait(POLL_S * (0.5 + self._random.random()))

    def _follow(self) -> None:
        request = GetClusterMapRequest(known_epoch=self._known.view.epoch)
        stream = self._cluster.WatchClusterMap(request, timeout=WATCH_S)
        with self._lock:
            self._stream = stream
        if self._stopping.is_set():
            return
        try:
            for reply in stream:
                if reply.HasField("map"):
                    self._known.offer(reply.map)
        finally:
            stream.cancel()
