"""How healthy the storage is, as one word and the reasons for it. Pure: made from what the leader said."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from blockyard.client.cli.output import duration, size
from blockyard.client.cli.storage import STATES, Look
from blockyard.proto.cluster_pb2 import NODE_DOWN, NODE_DRAINING, NODE_OUT, NODE_UP, NodeStatus

Level = Literal["healthy", "working", "degraded", "paused"]
_WORST: tuple[Level, ...] = ("healthy", "working", "degraded", "paused")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the storage is not simply healthy."""

    level: Level
    text: str


@dataclass(frozen=True, slots=True)
class Repair:
    """What all nodes together still have to fetch."""

    blocks: int
    bytes: int
    bytes_per_second: int
    eta_s: float | None  # of the node that takes longest; None when one of them does not move

    @classmethod
    def of(cls, look: Look) -> "Repair":
        """Add up the last heartbeats."""
        beats = [node.heartbeat for node in look.status.nodes if node.node.state in (NODE_UP, NODE_DRAINING)]
        busy = [beat for beat in beats if beat.repair_bytes]
        moving = all(beat.repair_bytes_per_second for beat in busy)
        return cls(
            sum(beat.repair_blocks for beat in beats),
            sum(beat.repair_bytes for beat in beats),
            sum(beat.repair_bytes_per_second for beat in beats),
            max((beat.repair_bytes / beat.repair_bytes_per_second for beat in busy), default=0.0) if moving else None,
        )

    def text(self) -> str:
        """Return it for people."""
        left = f"{self.blocks:,} blocks ({size(self.bytes)}) to copy at {size(self.bytes_per_second)}/s"
        return f"{left}, done in about {duration(self.eta_s)}" if self.eta_s is not None else left


def level(reasons: list[Reason]) -> Level:
    """Return the worst of them."""
    return max((reason.level for reason in reasons), key=_WORST.index, default="healthy")


def sentence(look: Look, reasons: list[Reason]) -> str:
    """Return how the storage is in one sentence."""
    said = {
        "healthy": f"healthy: {len(look.status.nodes)} nodes, every group has its {look.view.replicas} replicas",
        "working": "healthy, and at work",
        "degraded": "degraded: all data can be read and written, and some of it lacks replicas or room",
        "paused": "in danger: some data cannot be written, and may not be readable",
    }[level(reasons)]
    return f"Storage is {said}."


def reasons(look: Look) -> list[Reason]:
    """Return what there is to say, worst first."""
    return sorted(_reasons(look), key=lambda reason: -_WORST.index(reason.level))


def _reasons(look: Look) -> Iterator[Reason]:
    status, view = look.status, look.view
    repair = Repair.of(look)
    if not any(node.takes_writes for node in view.nodes.values()):
        yield Reason("paused", "no storage node takes writes")
    elif status.paused_groups:
        yield Reason(
            "paused",
            f"{status.paused_groups} of {status.groups} groups have fewer than {view.write_min} nodes that take writes",
        )
    if status.degraded_groups:
        left = f" ({repair.text()})" if repair.blocks else ""
        yield Reason("degraded", f"{status.degraded_groups} of {status.groups} groups lack complete replicas{left}")
    elif repair.blocks:
        yield Reason("working", repair.text())
    for node in status.nodes:
        yield from _of_node(node, view.groups_of(node.node.id), view.former_groups_of(node.node.id))
    if status.reclaim_blocks:
        yield Reason("working", f"{status.reclaim_blocks:,} deleted blocks wait to be dropped by all their holders")


def _of_node(status: NodeStatus, groups: tuple[int, ...], former: tuple[int, ...]) -> Iterator[Reason]:
    node, beat = status.node, status.heartbeat
    if node.state in (NODE_DOWN, NODE_OUT):
        if groups or former:
            after = f" for {duration(status.silent_ms / 1000)}" if status.silent_ms else ""
            yield Reason("degraded", f"node {node.name} is {STATES[node.state]}{after}")
        return
    if node.state == NODE_DRAINING:
        left = len({*groups, *former})
        yield Reason(
            "working", f"node {node.name} drains: {left} groups left" if left else f"node {node.name} is empty"
        )
    elif status.HasField("heartbeat") and not beat.free_bytes:
        yield Reason("degraded", f"node {node.name} is full: it takes no new blocks")
    if beat.quarantined_blocks:
        yield Reason("working", f"node {node.name} has {beat.quarantined_blocks:,} bad replicas put aside")


def repair_json(repair: Repair) -> dict[str, Any]:
    """Return it for machines."""
    return {
        "blocks": repair.blocks,
        "bytes": repair.bytes,
        "bytes_per_second": repair.bytes_per_second,
        "eta_s": None if repair.eta_s is None else round(repair.eta_s, 1),
    }
