"""How the cluster is, for people."""

from blockyard.metaserver.cluster.liveness import Liveness
from blockyard.metaserver.cluster.map import MapView
from blockyard.proto.cluster_pb2 import NODE_REMOVED, ClusterStatusReply, NodeStatus


def status(view: MapView, liveness: Liveness, waiting_blocks: int, now_ms: int) -> ClusterStatusReply:
    """Return nodes with their last heartbeats, and how many groups are short of replicas.

    A group is degraded when fewer than `replicas` of its holders are up and call themselves complete, and paused when
    fewer than `write_min` take new blocks. A node that is up and was not heard by this leader yet counts as complete:
    the first second of a leadership shall not look like a disaster.
    """
    complete = {
        node.id: set(heartbeat.complete_groups) if (heartbeat := liveness.heartbeats.get(node.id)) else None
        for node in view.nodes.values()
        if node.up
    }
    degraded = paused = 0
    for number, (group, writers) in enumerate(zip(view.groups, view.writers, strict=True)):
        whole = sum(n in complete and ((of := complete[n]) is None or number in of) for n in group.nodes)
        degraded += whole < view.head.replicas
        paused += len(writers) < view.head.write_min
    nodes = [
        NodeStatus(
            node=node.message(),
            heartbeat=liveness.heartbeats.get(node.id),
            silent_ms=liveness.silent_ms(node.id, now_ms),
        )
        for node in view.nodes.values()
        if node.state != NODE_REMOVED
    ]
    return ClusterStatusReply(
        map_epoch=view.epoch,
        nodes=nodes,
        degraded_groups=degraded,
        paused_groups=paused,
        groups=len(view.groups),
        reclaim_blocks=waiting_blocks,
    )
