"""How a table changes when the nodes do: as few replicas as possible go to other nodes.

Holders that may not stay (gone, or too many in a zone) leave first. Then every node below its quota takes seats, one at
a time: an empty one, or that of a node above its quota, or, when zones allow neither, along a path of nodes each of
which takes the seat of the next. Rows are independent sets of a matroid per group (r different nodes in enough zones)
and quotas are capacities, so as long as a node is below its quota such a path exists, and a shortest one is legal (the
augmenting path of matroid intersection: Edmonds 1970; Lawler 1975).

Bound: a change copies at least D replicas, D = what nodes hold more than before; no table with these quotas can do
with less. Among nodes of equal weight, each in a zone of its own or all in one, it copies at most D + D/3 + 3 while
the scatter width is not in force. A path of k steps copies k replicas for one seat; paths are longer where zones or
very heavy nodes forbid the direct seat, and where a detour costs less than the partners above the scatter width that
it saves (with three replicas, at most five steps). The tests hold 2 × (D + Z) + n, with Z the holders that had to
leave their zone and n the number of nodes; the mean is near D. Twelve joins and leaves in turn kept the width below
twice its aim.
"""

from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from blockyard.metaserver.cluster.shares import PlacementNode, Shape

_STEP: Final = 100  # cost of copying one replica
_PARTNER: Final = 1  # cost of a new pair of nodes that hold something together
_EXCESS: Final = 120  # cost when such a pair exceeds the scatter width of one of the two
_EXPANSIONS: Final = 6  # nodes whose detours are considered when the direct way exceeds the scatter width
_EMPTY: Final = -1  # stands for the holder of an empty seat


class Step(NamedTuple):
    """`taker` gets a seat in `group`, from `giver` or (`_EMPTY`) from nobody. All are positions, not ids."""

    taker: int
    group: int
    giver: int


class Rebalance:
    """One change of a table. Nodes are positions in the rising list of ids in here."""

    def __init__(
        self,
        nodes: Sequence[PlacementNode],
        form: Shape,
        wanted: Mapping[int, int],
        scatter_width: int,
        rows: Sequence[tuple[int, ...]],
    ) -> None:
        """`nodes` by rising id; `wanted` are the quotas; `rows` hold only ids of `nodes`."""
        self.ids = [node.id for node in nodes]
        names = {zone: number for number, zone in enumerate(sorted({node.zone for node in nodes}))}
        self.zone = [names[node.zone] for node in nodes]
        self.form = form
        self.missing = [wanted[node] for node in self.ids]  # seats each is still to get; below 0: to give away
        self.width = scatter_width if len(nodes) - 1 > scatter_width else len(nodes)
        self.partners = [0] * len(nodes)
        self._look_on = 0
        self.together = [[0] * len(nodes) for _ in nodes]
        self.rows: list[list[int]] = [[] for _ in rows]
        position = {node: number for number, node in enumerate(self.ids)}
        for group, row in enumerate(rows):
            for node in row:
                self._enter(group, position[node])

    def run(self) -> list[tuple[int, ...]]:
        """Return the rows, each with as many holders as the shape says, and every quota met exactly."""
        for group in range(len(self.rows)):
            self._evict(group)
        for node in range(len(self.ids)):
            while self.missing[node] > 0:
                direct = self._direct(node)
                for step in [direct] if direct else self._path(node):
                    self._take(step)
        if any(self.missing) or any(len(row) != self.form.replicas for row in self.rows):
            raise AssertionError("quotas and rows do not add up")
        return [tuple(self.ids[node] for node in row) for row in self.rows]

    # ------------------------------------------------------------------------------------------------- rows

    def _enter(self, group: int, node: int) -> None:
        for other in self.rows[group]:
            self._meet(node, other, 1)
        self.rows[group].append(node)
        self.missing[node] -= 1

    def _leave(self, group: int, node: int) -> None:
        self.rows[group].remove(node)
        for other in self.rows[group]:
            self._meet(node, other, -1)
        self.missing[node] += 1

    def _meet(self, one: int, other: int, change: int) -> None:
        before = self.together[one][other]
        self.together[one][other] = self.together[other][one] = before + change
        if before == 0 or before + change == 0:
            self.partners[one] += change
            self.partners[other] += change

    def _take(self, step: Step) -> None:
        if step.giver != _EMPTY:
            self._leave(step.group, step.giver)
        if not self._legal([*self.rows[step.group], step.taker]):
            raise AssertionError(f"{step} is not legal")
        self._enter(step.group, step.taker)

    def _legal(self, row: Sequence[int]) -> bool:
        """Whether a row, once its empty seats are filled, can have the holders and zones that the shape asks for."""
        empty = self.form.replicas - len(row)
        return empty >= 0 and len({self.zone[node] for node in row}) + empty >= self.form.zones

    def _evict(self, group: int) -> None:
        """Let holders leave until the row is legal: from zones with several first, most above quota first."""
        row = self.rows[group]
        while not self._legal(row):
            zones = [self.zone[node] for node in row]
            crowded = [node for node in row if zones.count(self.zone[node]) > 1] or row
            self._leave(group, min(crowded, key=lambda node: (self.missing[node], node)))

    # ------------------------------------------------------------------------------------------------- paths

    def _direct(self, taker: int) -> Step | None:
        """Return a step that no other can beat: an empty seat or a spare one, and no new pair of nodes.

        Looks on where it found the last one, so that a thousand such steps cost about one look through the table.
        """
        rows, missing, replicas = self.rows, self.missing, self.form.replicas
        for turn in range(len(rows)):
            group = (self._look_on + turn) % len(rows)
            row = rows[group]
            if taker in row:
                continue
            for giver in (_EMPTY,) if len(row) < replicas else row:
                if giver != _EMPTY and missing[giver] >= 0:
                    continue
                others = [node for node in row if node != giver]
                if self._price(taker, giver, others) == _STEP and self._legal([*others, taker]):
                    self._look_on = group
                    return Step(taker, group, giver)
        return None

    def _path(self, start: int) -> list[Step]:
        """Return the cheapest way to a seat for `start` (Dijkstra over takers); the steps' order makes each legal."""
        best: dict[int, int] = {start: 0}
        came_by: dict[int, Step] = {}
        queue: list[tuple[int, int]] = [(0, start)]
        goal, goal_cost, expanded = None, 0, 0
        while queue:
            cost, taker = heappop(queue)
            if goal is not None and (goal_cost <= cost + _STEP or expanded >= _EXPANSIONS):
                break
            if cost > best[taker]:
                continue
            expanded += 1
            for price, step in self._steps(taker):
                total = cost + price
                if self._spares(step.giver) < 0:
                    if goal is None or (total, self._spares(step.giver)) < (goal_cost, self._spares(goal.giver)):
                        goal, goal_cost = step, total
                elif total < best.get(step.giver, total + 1):
                    best[step.giver] = total
                    came_by[step.giver] = step
                    heappush(queue, (total, step.giver))
        if goal is None:
            raise AssertionError(f"no seat for node {self.ids[start]}")
        path = [goal]
        while path[-1].taker != start:
            path.append(came_by[path[-1].taker])
        return path

    def _spares(self, giver: int) -> int:
        """How many seats a giver must still get; below 0 it has some to give away, and an empty seat most of all."""
        return -len(self.rows) if giver == _EMPTY else self.missing[giver]

    def _steps(self, taker: int) -> list[tuple[int, Step]]:
        """Return the cheapest step of `taker` per giver, with its price."""
        cheapest: dict[int, tuple[int, Step]] = {}
        for group, row in enumerate(self.rows):
            if taker in row:
                continue
            givers = [*row, _EMPTY] if len(row) < self.form.replicas else row
            for giver in givers:
                others = [node for node in row if node != giver]
                if (giver == _EMPTY or self.zone[giver] != self.zone[taker]) and not self._legal([*others, taker]):
                    continue
                price = self._price(taker, giver, others)
                if giver not in cheapest or price < cheapest[giver][0]:
                    cheapest[giver] = (price, Step(taker, group, giver))
        return list(cheapest.values())

    def _price(self, taker: int, giver: int, others: Sequence[int]) -> int:
        """What it costs that `taker` joins `others` in the place of `giver`."""
        price, known, width = _STEP, self.together[taker], self.width
        met = self.partners[taker]
        for other in others:
            if known[other] == 0:
                parting = giver != _EMPTY and self.together[giver][other] == 1
                excess = (met >= width) + (self.partners[other] - parting >= width)
                price += _PARTNER + _EXCESS * excess
                met += 1
        return price
