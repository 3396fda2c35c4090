"""How many replicas each node should hold: its fair share, and the whole number nearest to it that is allowed.

A pure function of weights and zones, in whole numbers throughout (no floats: members must agree to the bit).

Every one of `groups` groups wants r = min(replicas, nodes) replicas on different nodes in d = min(r, zones) different
zones. That caps what a node may hold at `groups`, and what a zone may hold:

- zones ≥ r: a zone holds at most one replica of a group, so at most `groups`;
- zones < r: every zone holds at least one replica of every group, so at least `groups` and at most
  `groups` × (r - zones + 1).

The fair share is the largest common factor of the weights under these caps (water filling). The quota of a node is its
fair share rounded down or up, and so is that of a zone, and quotas keep the caps: an allowed table with exactly these
counts exists (`placement` builds one).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

K = TypeVar("K", str, int)

FRACTION_BITS: Final = 32
"""Shares are in 2^-32 of a replica."""

_ONE: Final = 1 << FRACTION_BITS
_LARGEST_FACTOR: Final = 1 << 96  # fills a group count of 2^16 from a weight of 1


@dataclass(frozen=True, slots=True)
class PlacementNode:
    """A node as placement sees it; only nodes that may hold groups are shown to it."""

    id: int
    zone: str
    weight: int  # relative to the others; 0 takes nothing


@dataclass(frozen=True, slots=True)
class Shape:
    """What every row of a table must be like."""

    groups: int
    replicas: int  # holders per group: as many as wanted, or as there are nodes
    zones: int  # different zones per group

    def zone_bounds(self, zones: int, nodes_in_zone: int) -> tuple[int, int]:
        """Return the fewest and the most replicas that one of `zones` zones with that many nodes may hold."""
        if zones >= self.replicas:
            return 0, self.groups
        return self.groups, self.groups * min(nodes_in_zone, self.replicas - zones + 1)


def shape(nodes: Sequence[PlacementNode], groups: int, replicas: int) -> Shape:
    """Return the shape of the rows that these nodes (of weight above 0) allow."""
    holders = min(replicas, len(nodes))
    return Shape(groups, holders, min(holders, len({node.zone for node in nodes})))


def fair_shares(nodes: Sequence[PlacementNode], form: Shape) -> dict[int, int]:
    """Return each node's fair share of replicas by node id, in 2^-32; they sum up to all replicas, less rounding."""
    zones = _zones(nodes)
    cap = form.groups * _ONE
    bounds = {zone: form.zone_bounds(len(zones), len(members)) for zone, members in zones.items()}

    def zone_share(zone: str, factor: int) -> int:
        low, high = bounds[zone]
        return min(high * _ONE, max(low * _ONE, _filled(zones[zone], factor, cap)))

    total = form.groups * form.replicas * _ONE
    factor = _largest(lambda f: sum(zone_share(zone, f) for zone in zones) <= total)
    shares: dict[int, int] = {}
    for zone, members in zones.items():
        within = zone_share(zone, factor)
        level = _level(members, within, cap)
        shares.update((node.id, min(cap, node.weight * level >> FRACTION_BITS)) for node in members)
    return shares


def quotas(nodes: Sequence[PlacementNode], form: Shape, held: Mapping[int, int]) -> dict[int, int]:
    """Return how many replicas each node is to hold, by node id; they sum up to groups × replicas.

    Each is the fair share rounded down or up. Where the choice is free, a node that `held` more than its share rounded
    down keeps the seat, so that nothing moves for the sake of rounding.
    """
    shares = fair_shares(nodes, form)
    return apportion(nodes, form, shares, form.groups * form.replicas, held)


def apportion(
    nodes: Sequence[PlacementNode], form: Shape, shares: Mapping[int, int], seats: int, held: Mapping[int, int]
) -> dict[int, int]:
    """Round `shares` (in 2^-32) to whole seats with the given sum; zones and nodes each get theirs down or up."""
    zones = _zones(nodes)
    limits = {z: form.zone_bounds(len(zones), len(zones[z])) for z in zones}
    whole = {z: sum(shares[n.id] for n in members) for z, members in zones.items()}
    keeps = {z: sum(held.get(n.id, 0) for n in members) for z, members in zones.items()}
    per_zone = _round(whole, seats, limits, keeps)
    result: dict[int, int] = {}
    for zone, members in zones.items():
        of_nodes = {n.id: shares[n.id] for n in members}
        result.update(_round(of_nodes, per_zone[zone], dict.fromkeys(of_nodes, (0, form.groups)), held))
    return result


def _round(
    shares: Mapping[K, int], seats: int, limits: Mapping[K, tuple[int, int]], held: Mapping[K, int]
) -> dict[K, int]:
    """Give each its share rounded down or up, within `limits`: first to those who hold the odd seat already, then by
    largest remainder."""
    result = {key: max(share >> FRACTION_BITS, limits[key][0]) for key, share in shares.items()}
    spare = seats - sum(result.values())
    claims = sorted(
        (key for key, share in shares.items() if share > result[key] << FRACTION_BITS and result[key] < limits[key][1]),
        key=lambda key: (held.get(key, 0) <= result[key], (result[key] << FRACTION_BITS) - shares[key], key),
    )
    if not 0 <= spare <= len(claims):
        raise AssertionError(f"{seats} seats cannot be rounded from {dict(shares)} within {dict(limits)}")
    for key in claims[:spare]:
        result[key] += 1
    return result


def _filled(members: Sequence[PlacementNode], factor: int, cap: int) -> int:
    return sum(min(cap, node.weight * factor >> FRACTION_BITS) for node in members)


def _level(members: Sequence[PlacementNode], within: int, cap: int) -> int:
    return _largest(lambda factor: _filled(members, factor, cap) <= within)


def _largest(fits: Callable[[int], bool]) -> int:
    """Return the largest factor that fits; every smaller one does too."""
    low, high = 0, _LARGEST_FACTOR
    while low < high:
        middle = (low + high + 1) >> 1
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _zones(nodes: Sequence[PlacementNode]) -> dict[str, list[PlacementNode]]:
    zones: dict[str, list[PlacementNode]] = {}
    for node in sorted(nodes, key=lambda n: (n.zone, n.id)):
        zones.setdefault(node.zone, []).append(node)
    return zones
