"""Placement: its invariants over any cluster and any sequence of changes, its bounds, and that it is deterministic."""

import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import pytest
from blockyard.metaserver.cluster.placement import moved, place, scatter_widths
from blockyard.metaserver.cluster.shares import FRACTION_BITS, PlacementNode, fair_shares, quotas, shape
from hypothesis import given, settings
from hypothesis import strategies as st

Table = list[tuple[int, ...]]
WIDE = 10_000  # a scatter width that is never in force

weights = st.one_of(st.integers(0, 8), st.integers(1, 20_000))
zones = st.sampled_from(["a", "b", "c", "d", "e"])


@st.composite
def clusters(draw: st.DrawFn, largest: int = 14) -> list[PlacementNode]:
    ids = draw(st.lists(st.integers(1, 60), unique=True, max_size=largest))
    return [PlacementNode(number, draw(zones), draw(weights)) for number in ids]


@st.composite
def changed(draw: st.DrawFn, nodes: list[PlacementNode]) -> list[PlacementNode]:
    """One node joins, leaves, changes weight, or moves to another zone."""
    what = draw(st.sampled_from(["join", "leave", "weight", "zone"]))
    if what == "join" or not nodes:
        return [*nodes, PlacementNode(max((n.id for n in nodes), default=0) + 1, draw(zones), draw(weights))]
    victim = draw(st.sampled_from(nodes))
    others = [node for node in nodes if node.id != victim.id]
    if what == "leave":
        return others
    if what == "weight":
        return [*others, PlacementNode(victim.id, victim.zone, draw(weights))]
    return [*others, PlacementNode(victim.id, draw(zones), victim.weight)]


def check_invariants(table: Table, nodes: list[PlacementNode], groups: int, replicas: int) -> None:
    willing = {node.id: node for node in nodes if node.weight > 0}
    holders = min(replicas, len(willing))
    spread = min(holders, len({node.zone for node in willing.values()}))
    assert len(table) == groups
    for row in table:
        assert len(set(row)) == len(row) == holders
        assert len({willing[node].zone for node in row}) >= spread
    if not willing:
        return
    shares = fair_shares(list(willing.values()), shape(list(willing.values()), groups, replicas))
    held = Counter(node for row in table for node in row)
    for number, share in shares.items():
        assert abs(Fraction(held[number]) - Fraction(share, 1 << FRACTION_BITS)) < 1
    for number, firsts in Counter(row[0] for row in table).items():
        assert abs(Fraction(firsts) - Fraction(held[number], holders)) < 1


def needed(before: Table, after: Table, nodes: list[PlacementNode]) -> int:
    """The replicas that must be copied for the counts of `after`: what nodes hold more than they did."""
    known = {node.id for node in nodes if node.weight > 0}
    had = Counter(node for row in before for node in row if node in known)
    has = Counter(node for row in after for node in row)
    return sum(max(0, has[node] - had[node]) for node in known)


@settings(max_examples=150, deadline=None)
@given(
    clusters(), st.sampled_from([1, 8, 64]), st.integers(1, 5), st.sampled_from([1, 4, 10, WIDE]), st.integers(0, 99)
)
def test_a_fresh_table_keeps_every_invariant(
    nodes: list[PlacementNode], groups: int, replicas: int, width: int, seed: int
) -> None:
    check_invariants(place(nodes, [], groups, replicas, width, seed), nodes, groups, replicas)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([8, 64]), st.integers(1, 4), st.sampled_from([1, 4, 10, WIDE]))
def test_every_change_keeps_every_invariant(data: st.DataObject, groups: int, replicas: int, width: int) -> None:
    nodes = data.draw(clusters(9))
    table = place(nodes, [], groups, replicas, width, 1)
    for _ in range(data.draw(st.integers(1, 6))):
        nodes = data.draw(changed(nodes))
        before, table = table, place(nodes, table, groups, replicas, width, 1)
        check_invariants(table, nodes, groups, replicas)
        assert needed(before, table, nodes) <= moved(before, table)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 14), st.integers(1, 3), st.sampled_from([1, 99]))
def test_among_equal_nodes_little_more_than_the_least_moves(
    joins: list[bool], count: int, replicas: int, spread: int
) -> None:
    nodes = [PlacementNode(n, f"z{n % spread}", 100) for n in range(1, count + 1)]
    table = place(nodes, [], 64, replicas, WIDE, 1)
    for join in joins:
        number = max((n.id for n in nodes), default=0) + 1
        nodes = [*nodes, PlacementNode(number, f"z{number % spread}", 100)] if join else nodes[1:]
        before, table = table, place(nodes, table, 64, replicas, WIDE, 1)
        least = needed(before, table, nodes)
        assert least <= moved(before, table) <= least + least // 3 + 3


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(2, 3), st.sampled_from([6, 10, WIDE]))
def test_at_most_twice_the_least_moves_and_one_per_node(data: st.DataObject, replicas: int, width: int) -> None:
    nodes = data.draw(clusters(12))
    table = place(nodes, [], 64, replicas, width, 1)
    for _ in range(5):
        nodes = data.draw(changed(nodes))
        before, table = table, place(nodes, table, 64, replicas, width, 1)
        least = needed(before, table, nodes) + zone_faults(before, nodes, replicas)
        assert moved(before, table) <= 2 * least + len(nodes)


def zone_faults(before: Table, nodes: list[PlacementNode], replicas: int) -> int:
    """Holders of the old table that must leave for the sake of zones."""
    willing = {node.id: node for node in nodes if node.weight > 0}
    holders = min(replicas, len(willing))
    spread = min(holders, len({node.zone for node in willing.values()}))
    faults = 0
    for row in before:
        kept = [willing[node] for node in row if node in willing]
        faults += max(0, spread - len({node.zone for node in kept}) - (holders - len(kept)))
    return faults


@settings(max_examples=40, deadline=None)
@given(clusters(), st.integers(1, 4))
def test_nothing_moves_when_nothing_changed(nodes: list[PlacementNode], replicas: int) -> None:
    table = place(nodes, [], 64, replicas, 10, 1)
    assert place(list(reversed(nodes)), table, 64, replicas, 10, 99) == table


@pytest.mark.parametrize("count", [12, 30, 60])
@pytest.mark.parametrize("spread", [1, 3, 100])
def test_a_fresh_table_of_equal_nodes_keeps_the_scatter_width(count: int, spread: int) -> None:
    nodes = [PlacementNode(n, f"z{n % spread}", 100) for n in range(1, count + 1)]
    for width in (4, 8, 10, 20):
        assert max(scatter_widths(place(nodes, [], 256, 3, width, 5)).values()) <= width


@pytest.mark.parametrize("spread", [5, 100])
def test_twelve_changes_keep_the_scatter_width_below_twice_its_aim(spread: int) -> None:
    nodes = [PlacementNode(n, f"z{n % spread}", 100) for n in range(1, 31)]
    table = place(nodes, [], 256, 3, 10, 5)
    for turn in range(12):
        number = 31 + turn // 2
        joins = turn % 2 == 0
        nodes = [*nodes, PlacementNode(number, f"z{number % spread}", 100)] if joins else nodes[1:]
        before, table = table, place(nodes, table, 256, 3, 10, 5)
        assert max(scatter_widths(table).values()) < 20
        assert moved(before, table) < 2 * needed(before, table, nodes)


def test_a_wide_table_without_copysets_would_be_wider() -> None:
    """The width limit must be at work in the tests above."""
    nodes = [PlacementNode(n, "z", 100) for n in range(1, 31)]
    assert max(scatter_widths(place(nodes, [], 256, 3, WIDE, 5)).values()) > 20


def test_a_heavy_node_is_capped_at_one_replica_of_every_group() -> None:
    nodes = [PlacementNode(1, "a", 1000), PlacementNode(2, "b", 1), PlacementNode(3, "c", 1), PlacementNode(4, "d", 1)]
    held = Counter(node for row in place(nodes, [], 64, 2, 10, 1) for node in row)
    assert held[1] == 64
    assert sorted(held[n] for n in (2, 3, 4)) == [21, 21, 22]


def test_a_small_zone_is_filled_and_no_more() -> None:
    """Three replicas in two zones: the single node of zone a has one of every group, and zone b has two."""
    nodes = [PlacementNode(1, "a", 1), *(PlacementNode(n, "b", 10) for n in range(2, 6))]
    held = Counter(node for row in place(nodes, [], 64, 3, 10, 1) for node in row)
    assert [held[n] for n in range(1, 6)] == [64, 32, 32, 32, 32]


@settings(max_examples=200, deadline=None)
@given(clusters(), st.sampled_from([1, 8, 256]), st.integers(1, 5))
def test_quotas_add_up_and_are_shares_rounded(nodes: list[PlacementNode], groups: int, replicas: int) -> None:
    willing = [node for node in nodes if node.weight > 0]
    if not willing:
        return
    form = shape(willing, groups, replicas)
    seats, shares = quotas(willing, form, {}), fair_shares(willing, form)
    assert sum(seats.values()) == groups * form.replicas
    assert all(abs((seats[n] << FRACTION_BITS) - shares[n]) < 1 << FRACTION_BITS for n in shares)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=3, max_size=12), st.integers(1, 2))
def test_shares_follow_weights_where_no_cap_binds(of_nodes: list[int], replicas: int) -> None:
    nodes = [PlacementNode(n, f"z{n}", 1000 + weight) for n, weight in enumerate(of_nodes, 1)]
    total = sum(node.weight for node in nodes)
    shares = fair_shares(nodes, shape(nodes, 64, replicas))
    for node in nodes:
        exact = Fraction(64 * replicas * node.weight, total)
        if all(64 * replicas * n.weight <= 64 * total for n in nodes):
            assert abs(Fraction(shares[node.id], 1 << FRACTION_BITS) - exact) < Fraction(1, 1000)


SCRIPT = """
import hashlib
from blockyard.metaserver.cluster.placement import place
from blockyard.metaserver.cluster.shares import PlacementNode
nodes, table, seen = [], [], hashlib.sha256()
for n in range(1, 25):
    nodes = [*nodes, PlacementNode(n, f"zone{n % 5}", 50 + 7 * n)]
    if n % 4 == 0:
        nodes = nodes[1:]
    table = place(nodes, table, 128, 3, 6, 42)
    seen.update(repr(table).encode())
print(seen.hexdigest())
"""


def test_the_table_does_not_depend_on_hash_order() -> None:
    digests = set()
    for seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        digests.add(run.stdout)
    assert len(digests) == 1
