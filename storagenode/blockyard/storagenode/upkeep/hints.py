"""Tells nodes that a write chain went on without them, so that their repair does not wait for its next exchange.

A hint that does not arrive is sent again for a while. It only saves time: what is never told, the exchange finds.
"""

import threading
import time
from collections.abc import Iterable
from typing import Final

from blockyard.proto import errors, logs
from blockyard.storagenode.node.known_map import KnownMap
from blockyard.storagenode.upkeep.peers import Peers

AGAIN_S: Final = 1.0  # between two tries
FOR_S: Final = 300.0
_log = logs.get(__name__)


class Hints:
    """Hints on their way out."""

    def __init__(self, peers: Peers, known: KnownMap) -> None:
        self.sent = 0
        self._peers = peers
        self._known = known
        self._lock = threading.Lock()
        self._waiting: dict[tuple[int, int], float] = {}  # (node, group) → when to give up

    def add(self, group: int, nodes: Iterable[int]) -> None:
        """`nodes` failed in a chain of `group`."""
        until = time.monotonic() + FOR_S
        with self._lock:
            for node in nodes:
                self._waiting.setdefault((node, group), until)

    def send(self) -> float:
        """Send what can be sent; return the seconds until to try again."""
        now, view = time.monotonic(), self._known.view
        with self._lock:
            waiting = dict(self._waiting)
        for (node, group), until in waiting.items():
            if now < until and view.holds(node, group) and not self._send(node, group):
                continue
            with self._lock:
                self._waiting.pop((node, group), None)
        return AGAIN_S if self._waiting else FOR_S

    def _send(self, node: int, group: int) -> bool:
        if not self._known.view.node(node).answers:
            return True  # it looks at all its groups when it is back
        try:
            self._peers.hint(node, group)
        except errors.BlockyardError as error:
            _log.debug("hint_not_taken", node=node, group=group, why=error)
            return False
        self.sent += 1
        return True
