"""Which nodes hold which placement group.

A pure function of the node table: no clock, no network, no float. The same table and seed give the same answer on
every member.

How the table grows: the number of groups is a power of two, chosen when the cluster is made and fixed from then on,
because a block's group is written into its id. 256 groups serve up to about 80 nodes with three replicas (ten groups
a node keeps rounding under a tenth); take about 10 × nodes / replicas, rounded up to a power of two, for the largest
cluster that is planned. What grows later is the number of nodes that share the groups.

Invariants of a table, for n nodes of weight above 0 in z zones, r = min(replicas, n), d = min(r, z):

- every group has exactly r holders, no two on one node, in exactly d zones or more;
- a node holds its fair share (`shares`) rounded down or up: less than one group from it;
- it is the first (preferred) holder of a group for 1/r of what it holds, rounded down or up.

Scatter width: how many other nodes hold copies together with one. A few wide failures lose data with a probability
that grows with it, a rebuild is as fast as it is wide (Cidon et al., "Copysets: Reducing the Frequency of Data Loss in
Cloud Storage", USENIX ATC 2013). A fresh table is built as in that paper, from a few permutations of the nodes, and
keeps max(`scatter_width`, 2 × (r - 1)) among nodes of equal weight; a heavy node meets more of the light ones. Later
changes (`rebalance`) weigh each partner above the width against moving more data: the width is aimed at, not promised.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Final

from blockyard.metaserver.cluster.preference import preferred_order
from blockyard.metaserver.cluster.rebalance import Rebalance
from blockyard.metaserver.cluster.shares import FRACTION_BITS, PlacementNode, Shape, apportion, quotas, shape

Table = Sequence[tuple[int, ...]]
"""Node ids per group, preferred first."""

_SEATS_PER_ROUND: Final = 2  # that a node has on average at least, so that rounds differ


def place(
    nodes: Sequence[PlacementNode], previous: Table, groups: int, replicas: int, scatter_width: int, seed: int
) -> list[tuple[int, ...]]:
    """Return the table for `nodes`, moving as little as it can from `previous` (empty: there is none yet).

    `groups` is a power of two up to 65536; `replicas` and `scatter_width` are at least 1. With `previous` given, the
    number of replicas copied to a node that did not hold them is the least that the shares require, plus detours that
    zones and scatter width need (`rebalance` has the bound).
    """
    willing = sorted((node for node in nodes if node.weight > 0), key=lambda node: node.id)
    if not willing:
        return [()] * groups
    form = shape(willing, groups, replicas)
    known = {node.id for node in willing}
    kept = [tuple(node for node in row if node in known) for row in previous] or [()] * groups
    held = Counter(node for row in kept for node in row)
    wanted = quotas(willing, form, held)
    if held:
        rows = Rebalance(willing, form, wanted, scatter_width, kept).run()
    else:
        rows = _fresh(willing, form, wanted, scatter_width, seed)
    return preferred_order(rows, kept, form.replicas)


def _fresh(
    nodes: Sequence[PlacementNode], form: Shape, wanted: Mapping[int, int], scatter_width: int, seed: int
) -> list[tuple[int, ...]]:
    """Build a table with exactly the wanted counts.

    In each round, the nodes, in an order of its own, zone by zone, take as many consecutive seats as they are to hold;
    the seats are folded into rows of the round's length, and a column is a group (McNaughton's wrap-around rule, 1959).
    A node has at most a row's length of seats, so it is in a column once; so is a zone when it has at most a row's
    length, and at least once when it has at least that. Nodes of equal weight meet at most two others per row.
    """
    partners = max(1, 2 * (form.replicas - 1))
    seats_per_node = form.groups * form.replicas // len(nodes)
    rounds = max(1, min(scatter_width // partners, seats_per_node // _SEATS_PER_ROUND))
    table: list[tuple[int, ...]] = []
    left = dict(wanted)
    for turn in range(rounds):
        remaining = form.groups - len(table)
        width = remaining // (rounds - turn)
        part = Shape(width, form.replicas, form.zones)
        shares = {node: (count << FRACTION_BITS) * width // remaining for node, count in left.items()}
        counts = apportion(nodes, part, shares, width * form.replicas, {})
        order = sorted(nodes, key=lambda n: (_rank(seed, turn, n.zone), n.zone, _rank(seed, turn, str(n.id)), n.id))
        seats = [node.id for node in order for _ in range(counts[node.id])]
        table += [tuple(seats[group::width]) for group in range(width)]
        left = {node: count - counts[node] for node, count in left.items()}
    return table


def _rank(seed: int, turn: int, name: str) -> bytes:
    return blake2b(f"{seed}/{turn}/{name}".encode(), digest_size=8).digest()


def scatter_widths(table: Table) -> dict[int, int]:
    """Return, for every node in the table, how many others hold a group together with it."""
    partners: dict[int, set[int]] = {}
    for row in table:
        for node in row:
            partners.setdefault(node, set()).update(row)
    return {node: len(others) - 1 for node, others in sorted(partners.items())}


def moved(before: Table, after: Table) -> int:
    """Return how many replicas a node holds in `after` that it did not in `before`: what has to be copied."""
    return sum(len(set(new) - set(old)) for old, new in zip(before, after, strict=True))
