"""What silence means, by the leader's own monotonic clock.

Leader-local: nothing in here is replicated, and nothing in here changes the map. `tick` says which changes of state the
leader should propose; each names the state it starts from, so a proposal that comes late changes nothing. A new leader
knows nobody's last heartbeat: from its first tick everybody has a full grace period, so leadership that moves never
takes a node out.

Nodes are taken out only while at least half of the cluster stays in: when most are silent the fault is more likely near
the leader, and moving all data would not help (Ceph's `mon_osd_min_in_ratio` has the same reason).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from blockyard.metaserver.cluster.records import Node
from blockyard.proto.cluster_pb2 import NODE_DOWN, NODE_OUT, NODE_REMOVED, NODE_UP, NodeHeartbeatRequest, NodeState


@dataclass(frozen=True, slots=True)
class LivenessSettings:
    """How long silence may last."""

    down_after_ms: int = 3_000  # three heartbeats
    out_after_ms: int = 600_000
    repeat_after_ms: int = 1_000  # a proposal that had no effect is made again


@dataclass(frozen=True, slots=True)
class StateChange:
    """A proposal."""

    node: int
    before: NodeState
    after: NodeState


class Liveness:
    """When each node was last heard of by this leader. Times are milliseconds of one monotonic clock."""

    def __init__(self, settings: LivenessSettings | None = None) -> None:
        self.settings = settings or LivenessSettings()
        self.heartbeats: dict[int, NodeHeartbeatRequest] = {}  # the last of each node
        self._heard: dict[int, int] = {}  # when; for a node not heard yet, when it was first looked for
        self._asked: dict[int, tuple[StateChange, int]] = {}

    def lead(self) -> None:
        """Forget everything: this member begins to lead."""
        self.heartbeats.clear()
        self._heard.clear()
        self._asked.clear()

    def registered(self, node: int, now_ms: int) -> None:
        """A node has just registered: that is a sign of life, and its last heartbeat was an earlier process's."""
        self.heartbeats.pop(node, None)
        self._heard[node] = now_ms

    def heard(self, heartbeat: NodeHeartbeatRequest, now_ms: int) -> None:
        """A heartbeat came, from a node whose incarnation was checked."""
        self.heartbeats[heartbeat.node] = heartbeat
        self._heard[heartbeat.node] = now_ms

    def silent_ms(self, node: int, now_ms: int) -> int:
        """Return for how long a node was not heard of; for one not heard yet, for how long it was waited for."""
        return now_ms - self._heard.setdefault(node, now_ms)

    def tick(self, now_ms: int, nodes: Iterable[Node]) -> list[StateChange]:
        """Return the changes to propose now, by rising node id; each again at most every `repeat_after_ms`."""
        present = sorted((node for node in nodes if node.state != NODE_REMOVED), key=lambda node: node.id)
        staying = sum(node.state != NODE_OUT for node in present)
        changes: list[StateChange] = []
        for node in present:
            after = self._verdict(node, self.silent_ms(node.id, now_ms))
            if after == NODE_OUT:
                if 2 * (staying - 1) < len(present):
                    continue
                staying -= 1
            if after is not None and self._due(change := StateChange(node.id, node.state, after), now_ms):
                changes.append(change)
        return changes

    def _verdict(self, node: Node, silent_ms: int) -> NodeState | None:
        heartbeat = self.heartbeats.get(node.id)
        gone = silent_ms >= self.settings.down_after_ms or (heartbeat is not None and heartbeat.leaving)
        if node.up:
            return NODE_DOWN if gone else None
        if not gone and heartbeat is not None:
            return NODE_UP
        return NODE_OUT if node.state == NODE_DOWN and silent_ms >= self.settings.out_after_ms else None

    def _due(self, change: StateChange, now_ms: int) -> bool:
        asked = self._asked.get(change.node)
        if asked is not None and asked[0] == change and now_ms - asked[1] < self.settings.repeat_after_ms:
            return False
        self._asked[change.node] = (change, now_ms)
        return True
