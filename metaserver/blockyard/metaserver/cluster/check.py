"""The invariants of the cluster's rows, looked for in a state rather than trusted. For fsck and for tests."""

from collections import Counter
from collections.abc import Iterator

from blockyard.metaserver.cluster.leases import Leases
from blockyard.metaserver.cluster.map import MapView
from blockyard.metaserver.cluster.reclaim import Reclaim, confirmed
from blockyard.metaserver.cluster.shares import shape
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Transaction
from blockyard.proto.cluster_pb2 import NODE_DRAINING, NODE_REMOVED
from blockyard.proto.ids import SEQUENCE_BITS, SEQUENCE_LIMIT


def findings(tx: Transaction, view: MapView, leases: Leases, reclaim: Reclaim) -> Iterator[str]:
    """Yield one sentence per fault; nothing when all is well."""
    yield from _nodes(view)
    yield from _groups(view)
    yield from _leases(view, leases)
    yield from _reclaim(tx, view, reclaim)


def _nodes(view: MapView) -> Iterator[str]:
    if sorted(view.nodes) != list(range(1, view.head.nodes + 1)):
        yield f"node ids are {sorted(view.nodes)}, not 1 to {view.head.nodes}"
    living = [node for node in view.nodes.values() if node.state != NODE_REMOVED]
    for name, count in sorted(Counter(node.name for node in living).items()):
        if count > 1:
            yield f"{count} nodes have the name {name}"
    for incarnation, count in sorted(Counter(node.incarnation for node in view.nodes.values()).items()):
        if count > 1:
            yield f"{count} nodes have the incarnation x{incarnation:016x}"
    for node in living:
        if node.up and (node.state == NODE_DRAINING) != node.draining:
            yield f"node {node.id} is in state {node.state}, and draining is {node.draining}"


def _groups(view: MapView) -> Iterator[str]:
    willing = [node.for_placement() for node in view.nodes.values() if node.placeable]
    form = shape(willing, view.head.groups, view.head.replicas)
    placeable = {node.id for node in willing}
    for number, group in enumerate(view.groups):
        if len(group.nodes) != form.replicas or len(set(group.nodes)) != form.replicas:
            yield f"group {number} is held by {list(group.nodes)}, not by {form.replicas} different nodes"
        if len({view.nodes[node].zone for node in group.nodes}) < form.zones:
            yield f"group {number} is held in fewer than {form.zones} zones"
        if not placeable.issuperset(group.nodes):
            yield f"group {number} is held by {list(group.nodes)}, some of which may not hold anything"
        if set(group.former) & set(group.nodes) or not set(group.former) <= set(view.nodes):
            yield f"group {number} has the former holders {list(group.former)} beside {list(group.nodes)}"
        if any(view.nodes[node].state == NODE_REMOVED for node in group.former if node in view.nodes):
            yield f"group {number} waits for a removed node"
        if group.changed > view.epoch or not set(group.complete) <= set(group.nodes):
            yield f"group {number} changed in epoch {group.changed}, with {list(group.complete)} complete"
        if group.complete and (not group.former or set(group.complete) == set(group.nodes)):
            yield f"group {number} keeps the former holders {list(group.former)} although all are complete"


def _leases(view: MapView, leases: Leases) -> Iterator[str]:
    for number in range(view.head.groups):
        ranges: list[tuple[int, int, int]] = []
        for session in leases.sessions_in(number):
            boundaries = leases.ranges.get((number, session)) or ()
            ranges += [(boundaries[at], boundaries[at + 1], session) for at in range(0, len(boundaries), 2)]
            if number not in (leases.groups.get(session) or ()):
                yield f"session {session} owns ids in group {number} and its list of groups does not say so"
        ranges.sort()
        top = 1
        for first, end, session in ranges:
            if first < top or end <= first:
                yield f"session {session} owns ids {first} to {end - 1} of group {number}, and another does too"
            top = max(top, end)
        if not top <= (leases.next.get(number) or 1) <= SEQUENCE_LIMIT:
            yield f"group {number} gave out ids up to {top - 1} and would give {leases.next.get(number) or 1} next"


def _reclaim(tx: Transaction, view: MapView, reclaim: Reclaim) -> Iterator[str]:
    rows = 0
    for key, row in tx.scan_prefix(keys.RECLAIM):
        rows += 1
        block, nodes = keys.parse_one(key), confirmed(row)
        if block >> SEQUENCE_BITS >= len(view.groups):
            yield f"dead block {block:#x} is of no group"
        if len(set(nodes)) != len(nodes) or not set(nodes) <= set(view.nodes):
            yield f"dead block {block:#x} was confirmed by {nodes}"
    if rows != reclaim.counts[0] or rows > reclaim.counts[1]:
        yield f"{rows} dead blocks wait, and the counters say {reclaim.counts}"
