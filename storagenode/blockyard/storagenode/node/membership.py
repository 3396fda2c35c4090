"""How a node belongs to its cluster: it registers at its start, and says every heartbeat how it is.

Invariant: nothing is told in the name of a node that the cluster has replaced; once it refuses the node's incarnation,
`fenced` is called and no heartbeat follows.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from blockyard.proto import errors, logs
from blockyard.proto.cluster_pb2 import (
    NodeHeartbeatReply,
    NodeHeartbeatRequest,
    NodeRecord,
    RegisterNodeReply,
    RegisterNodeRequest,
)
from blockyard.proto.disk.failures import DirectoryRefused
from blockyard.storagenode.node.directory import NodeDirectory

REGISTER_S: Final = 5.0
AGAIN_S: Final = 0.5
_REFUSED: Final = (
    errors.StaleIncarnation,
    errors.UnknownNode,
    errors.ForeignCluster,
    errors.InvalidArgument,
    errors.NoSpace,
)
"""Errors of a registration that no waiting mends."""

_log = logs.get(__name__)


def register(
    cluster: Any, directory: NodeDirectory, record: NodeRecord, stopping: threading.Event
) -> RegisterNodeReply | None:
    """Register until the cluster answers; return its answer, None when the process is to stop before that.

    `cluster` is a stub of the Cluster service; `record` says name, zone, address and capacity. What the cluster says is
    in the directory when this returns. Raises DirectoryRefused when this directory will never be let in, and OSError.
    """
    identity = directory.identity
    record.id, record.incarnation = identity.node, identity.incarnation
    request = RegisterNodeRequest(node=record, cluster=identity.cluster, starts=identity.starts)
    told = ""
    while not stopping.is_set():
        try:
            reply: RegisterNodeReply = cluster.RegisterNode(request, timeout=REGISTER_S)
        except _REFUSED as error:
            raise DirectoryRefused(f"{directory.path}: {error.message}") from error
        except errors.BlockyardError as error:
            if error.message != told:
                _log.warning("not_registered_yet", why=error)
                told = error.message
            stopping.wait(max(AGAIN_S, error.retry_after_ms / 1000))
        else:
            directory.registered(reply.cluster, reply.id)
            return reply
    return None


class Heartbeats:
    """Tells the cluster how the node is, on a thread of its own."""

    def __init__(
        self,
        cluster: Any,
        describe: Callable[[], NodeHeartbeatRequest | None],
        answered: Callable[[NodeHeartbeatReply], None],
        fenced: Callable[[str], None],
        interval_s: float,
    ) -> None:
        """`describe` returns None while the node must not say that it lives."""
        self._cluster = cluster
        self._describe = describe
        self._answered = answered
        self._fenced = fenced
        self._interval_s = interval_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
        self.sent = 0
        self.failed = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, farewell: bool) -> None:
        """End; with `farewell`, the last heartbeat says that the node leaves in good order."""
        self._stopping.set()
        self._thread.join(2 * self._interval_s)
        last = self._describe() if farewell else None
        if last is not None:
            last.leaving = True
            self._send(last)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stopping.wait(max(0.0, due - time.monotonic())):
            heartbeat = self._describe()
            if heartbeat is not None and not self._send(heartbeat):
                return
            due = max(due + self._interval_s, time.monotonic())

    def _send(self, heartbeat: NodeHeartbeatRequest) -> bool:
        """Send one; return whether another may follow."""
        try:
            reply = self._cluster.NodeHeartbeat(heartbeat, timeout=2 * self._interval_s)
        except (errors.StaleIncarnation, errors.UnknownNode) as error:
            self._fenced(error.message)
            return False
        except errors.BlockyardError as error:
            self.failed += 1
            _log.warning("heartbeat_failed", why=error)
        else:
            self.sent += 1
            if not heartbeat.leaving:
                self._answered(reply)
        return True
