"""The newest cluster map this client knows."""

import threading
from typing import Any

from blockyard.proto import errors, logs
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import GetClusterMapRequest

_log = logs.get(__name__)


class MapKeeper:
    """Fetches the map at first use, and again when somebody has heard of a newer one. Any thread may use it."""

    def __init__(self, cluster: Any, deadline_s: float) -> None:
        """`cluster` is a stub of the Cluster service."""
        self._cluster = cluster
        self._deadline_s = deadline_s
        self._fetching = threading.Lock()
        self._view: ClusterView | None = None

    def view(self) -> ClusterView:
        """Return the map as it is known."""
        return self._view or self.at_least(1)

    def at_least(self, epoch: int) -> ClusterView:
        """Return a map of `epoch` or newer, fetching it when the known one is older."""
        with self._fetching:
            view = self._view
            if view is None or view.epoch < epoch:
                view = self._view = self._fetch(view)
            return view

    def newest(self) -> ClusterView:
        """Ask for the newest map and return it."""
        with self._fetching:
            self._view = self._fetch(self._view)
            return self._view

    def heard(self, epoch: int) -> None:
        """There is a map of `epoch`. Called from the background: an error is left to those who need the map."""
        try:
            if self._view is not None:
                self.at_least(epoch)
        except errors.BlockyardError as error:
            _log.info("map_not_fetched", epoch=epoch, why=str(error))

    def _fetch(self, known: ClusterView | None) -> ClusterView:
        request = GetClusterMapRequest(known_epoch=known.epoch if known else 0)
        reply = self._cluster.GetClusterMap(request, timeout=self._deadline_s)
        if reply.HasField("map"):
            return ClusterView(reply.map)
        assert known is not None, "no map came for no known epoch"
        return known
