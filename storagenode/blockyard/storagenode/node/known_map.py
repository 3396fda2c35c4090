"""The newest cluster map that this node knows, shared by all its threads.

Invariant: the epoch never goes back. Who waits for an epoch sees it as soon as anybody has brought it.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from blockyard.proto import errors
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import ClusterMap

FETCH_S: Final = 5.0

Fetch = Callable[[int, float], ClusterMap | None]
"""Asks the metadata group for the map, unless the epoch given is its newest, within so many seconds."""

Subscriber = Callable[[ClusterView], None]


class KnownMap:
    """A cluster map that only gets newer."""

    def __init__(self, view: ClusterView, fetch: Fetch) -> None:
        """Begin with a map; `fetch` raises BlockyardError when the metadata group does not answer."""
        self._view = view
        self._fetch = fetch
        self._moved = threading.Condition()
        self._telling = threading.Lock()
        self._fetching = threading.Lock()
        self._subscribers: list[Subscriber] = []

    @property
    def view(self) -> ClusterView:
        """The newest map known."""
        return self._view

    def subscribe(self, subscriber: Subscriber) -> None:
        """Call `subscriber` with every map from now on, in order, one at a time.

        It runs on the thread that brought the map, which may serve a request: it notes what changed and returns.
        """
        with self._telling:
            self._subscribers.append(subscriber)

    def offer(self, message: ClusterMap) -> bool:
        """Take over a map if it is newer than the one known; return whether it was."""
        if message.epoch <= self._view.epoch:
            return False
        view = ClusterView(message)
        with self._telling:
            if view.epoch <= self._view.epoch:
                return False
            self._view = view
            with self._moved:
                self._moved.notify_all()
            for subscriber in self._subscribers:
                subscriber(view)
        return True

    def at_least(self, epoch: int, timeout_s: float = FETCH_S) -> ClusterView:
        """Return a map of `epoch` or newer, fetching it when the one known is older; one thread fetches for all.

        Raises StaleEpoch when the metadata group itself has no such map, and what stopped the fetching.
        """
        deadline = time.monotonic() + timeout_s
        while self._view.epoch < epoch:
            if not self._fetching.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise errors.DeadlineExceeded(f"the cluster map of epoch {epoch} was not there in {timeout_s:g} s")
            try:
                if self._view.epoch < epoch:
                    self._bring(epoch, max(0.05, deadline - time.monotonic()))
            finally:
                self._fetching.release()
        return self._view

    def wait_newer(self, epoch: int, timeout_s: float) -> ClusterView | None:
        """Wait for a map newer than `epoch` and return it; None after `timeout_s` seconds."""
        with self._moved:
            return self._view if self._moved.wait_for(lambda: self._view.epoch > epoch, timeout_s) else None

    def _bring(self, epoch: int, timeout_s: float) -> None:
        known = self._view.epoch
        message = self._fetch(known, timeout_s)
        if message is not None:
            self.offer(message)
        if self._view.epoch < epoch:
            raise errors.StaleEpoch(
                f"epoch {epoch} was named, and the metadata group's newest map is {self._view.epoch}",
                map_epoch=self._view.epoch,
            )
