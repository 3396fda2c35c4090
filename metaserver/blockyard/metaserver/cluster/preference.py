"""In which order a group's holders are preferred.

The first holder of a group does the work that only one needs to do, so nodes are first for an equal part, 1/r, of what
they hold, rounded down or up. The others keep the order they had; newcomers come last.

Such an assignment always exists (giving each holder 1/r of the place is one in fractions, and a bipartite flow with
whole bounds has a whole solution), and shortest augmenting paths find it: first everybody gets the lower bound, then
whoever is above the upper one gives.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence


def preferred_order(
    rows: Sequence[tuple[int, ...]], previous: Sequence[tuple[int, ...]], replicas: int
) -> list[tuple[int, ...]]:
    """Return `rows` (each of `replicas` nodes) in preferred order; whoever was first stays so where that is fair."""
    firsts = [next((node for node in old if node in row), row[0]) for row, old in zip(rows, previous, strict=True)]
    _Firsts(rows, firsts, replicas).level()
    ordered: list[tuple[int, ...]] = []
    for first, row, old in zip(firsts, rows, previous, strict=True):
        stayed = [node for node in old if node in row and node != first]
        came = [node for node in row if node not in old and node != first]
        ordered.append((first, *stayed, *came))
    return ordered


class _Firsts:
    """Who is first of which group, until everybody is so for its part."""

    def __init__(self, rows: Sequence[tuple[int, ...]], firsts: list[int], replicas: int) -> None:
        self.rows = rows
        self.firsts = firsts
        held = Counter(node for row in rows for node in row)
        self.groups_of: dict[int, list[int]] = {node: [] for node in sorted(held)}
        for group, row in enumerate(rows):
            for node in row:
                self.groups_of[node].append(group)
        now = Counter(firsts)
        self.count = {node: now[node] for node in self.groups_of}
        self.low = {node: held[node] // replicas for node in self.groups_of}
        self.high = {node: -(-held[node] // replicas) for node in self.groups_of}

    def level(self) -> None:
        for node in self.groups_of:
            while self.count[node] < self.low[node]:
                self._receive(node)
        for node in self.groups_of:
            while self.count[node] > self.high[node]:
                self._give(node)

    def _receive(self, start: int) -> None:
        """Make `start` first of one more group, and a node that can spare one of one fewer."""

        def steps(node: int) -> Iterator[tuple[int, int]]:
            return ((self.firsts[group], group) for group in self.groups_of[node])

        path = _search(start, steps, lambda node: self.count[node] > self.low[node])
        for taker, _, group in path:
            self.firsts[group] = taker
        self._count(start, path[0][1])

    def _give(self, start: int) -> None:
        """Make `start` first of one group fewer, and a node that has room of one more."""

        def steps(node: int) -> Iterator[tuple[int, int]]:
            groups = (group for group in self.groups_of[node] if self.firsts[group] == node)
            return ((other, group) for group in groups for other in self.rows[group] if other != node)

        path = _search(start, steps, lambda node: self.count[node] < self.high[node])
        for _, taker, group in path:
            self.firsts[group] = taker
        self._count(path[0][1], start)

    def _count(self, more: int, fewer: int) -> None:
        self.count[more] += 1
        self.count[fewer] -= 1


def _search(
    start: int, steps: Callable[[int], Iterable[tuple[int, int]]], found: Callable[[int], bool]
) -> list[tuple[int, int, int]]:
    """Return a shortest path from `start` to what `found` accepts: (from, to, group) of each step, last first."""
    came_by: dict[int, tuple[int, int]] = {start: (start, -1)}
    queue = deque([start])
    while queue:
        node = queue.popleft()
        for other, group in steps(node):
            if other in came_by:
                continue
            came_by[other] = (node, group)
            if not found(other):
                queue.append(other)
                continue
            path: list[tuple[int, int, int]] = []
            while other != start:
                before, at = came_by[other]
                path.append((before, other, at))
                other = before
            return path
    raise AssertionError(f"the first places cannot be levelled: no way from node {start}")
