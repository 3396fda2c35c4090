"""What the leader answers to a heartbeat, and what it proposes because of one. Leader-local; not replicated."""

from dataclasses import dataclass
from typing import Final

from blockyard.metaserver.cluster.liveness import Liveness
from blockyard.metaserver.cluster.map import MapView
from blockyard.metaserver.cluster.nodes import owed_reports
from blockyard.metaserver.cluster.reclaim import Counts
from blockyard.proto.cluster_pb2 import NodeHeartbeatReply, NodeHeartbeatRequest
from blockyard.proto.errors import StaleIncarnation, UnknownNode

RELIST_AFTER_MS: Final = 600_000
SUSPECTS_KEPT: Final = 10_000
"""Reports kept per node; what is reported beyond that is found by the next scrub."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What was waiting when a node began its last listing that came to an end."""

    epoch: int
    enqueued: int
    at_ms: int


class Heartbeats:
    """Answers heartbeats from the map and from what each node was told before."""

    def __init__(self, liveness: Liveness) -> None:
        self.liveness = liveness
        self._begun: dict[int, Listing] = {}
        self._listed: dict[int, Listing] = {}
        self._suspects: dict[int, dict[int, None]] = {}

    def full_nodes(self) -> list[int]:
        """Return the nodes that said that they have no space, by rising id."""
        return sorted(node for node, beat in self.liveness.heartbeats.items() if beat.free_bytes == 0)

    def lead(self) -> None:
        """Forget everything: this member begins to lead."""
        self.liveness.lead()
        self._begun.clear()
        self._listed.clear()
        self._suspects.clear()

    def registered(self, node: int, now_ms: int) -> None:
        """A node started anew: what it was told before may be lost."""
        self.liveness.registered(node, now_ms)
        self._listed.pop(node, None)

    def answer(
        self, view: MapView, heartbeat: NodeHeartbeatRequest, counts: Counts, now_ms: int
    ) -> tuple[NodeHeartbeatReply, NodeHeartbeatRequest | None]:
        """Return the reply, and a report to propose to the group when former holders wait for it.

        `counts` are the dead blocks that wait and that ever were. Raises UnknownNode, StaleIncarnation.
        """
        node = view.node(heartbeat.node, heartbeat.incarnation)
        if 0 < heartbeat.starts < node.starts:
            raise StaleIncarnation(
                f"node {node.id} ({node.name}) was started for the {node.starts}th time since this one's "
                f"{heartbeat.starts}th: one of the two runs on a copy of the other's directory; empty the copy",
                node.name,
            )
        self.liveness.heard(heartbeat, now_ms)
        owed = owed_reports(view.groups, node.id, heartbeat)
        report = NodeHeartbeatRequest(
            node=node.id, incarnation=node.incarnation, map_epoch=heartbeat.map_epoch, complete_groups=owed
        )
        reclaim = counts[0] > 0 and self._has_news(node.id, view.epoch, counts[1], now_ms)
        reply = NodeHeartbeatReply(
            map_epoch=view.epoch,
            state=node.state,
            reclaim=reclaim,
            suspect_blocks=self._suspects.pop(node.id, {}),
        )
        return reply, report if owed else None

    def reported(self, view: MapView, node: int, block: int) -> None:
        """Somebody found a node's replica bad: the node is told with its next heartbeat.

        Told once: a reply that is lost leaves the replica to the next report, or to scrub. Raises UnknownNode.
        """
        if node not in view.nodes:
            raise UnknownNode(f"there is no node {node}")
        suspects = self._suspects.setdefault(node, {})
        if len(suspects) < SUSPECTS_KEPT:
            suspects[block] = None

    def listed(self, node: int, epoch: int, enqueued: int, now_ms: int, *, first: bool, end: bool) -> None:
        """A page of dead blocks was given to a node; after the last page, it has nothing new to fetch."""
        if first:
            self._begun[node] = Listing(epoch, enqueued, now_ms)
        if end and node in self._begun:
            self._listed[node] = self._begun.pop(node)

    def _has_news(self, node: int, epoch: int, enqueued: int, now_ms: int) -> bool:
        """A listing is repeated now and then, for its confirmation may have been lost."""
        seen = self._listed.get(node)
        return seen is None or (seen.epoch, seen.enqueued) != (epoch, enqueued) or now_ms - seen.at_ms > RELIST_AFTER_MS
