"""In which order a group's holders are preferred.

The first holder of a group does the work that only one needs to do, so nodes are first for an equal part, 1/r, of what
they hold, rounded down or up. The others keep the order they had; newcomers come last.

Such an assignment always exists (giving each holder 1/r of the place is one in fractions, and a bipartite flow with
whole bounds has a whole solution), and shortest augmenting paths find it.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence


def preferred_order(
    rows: Sequence[tuple[int, ...]], previous: Sequence[tuple[int, ...]], replicas: int
) -> list[tuple[int, ...]]:
    """Return `rows` (each of `replicas` nodes) in preferred order; whoever was first stays so where that is fair."""
    firsts = [next((node for node in old if node in row), row[0]) for row, old in zip(rows, previous, strict=True)]
    _level(firsts, rows, _targets(firsts, rows, replicas))
    ordered: list[tuple[int, ...]] = []
    for first, row, old in zip(firsts, rows, previous, strict=True):
        stayed = [node for node in old if node in row and node != first]
        came = [node for node in row if node not in old and node != first]
        ordered.append((first, *stayed, *came))
    return ordered


def _targets(firsts: Sequence[int], rows: Sequence[tuple[int, ...]], replicas: int) -> dict[int, int]:
    """How many groups each node is to be first of."""
    held = Counter(node for row in rows for node in row)
    now = Counter(firsts)
    targets = {node: count // replicas for node, count in sorted(held.items())}
    spare = len(rows) - sum(targets.values())
    claims = [node for node in targets if held[node] % replicas]
    claims.sort(key=lambda node: (now[node] <= targets[node], -(held[node] % replicas), node))
    for node in claims[:spare]:
        targets[node] += 1
    return targets


def _level(firsts: list[int], rows: Sequence[tuple[int, ...]], targets: Mapping[int, int]) -> None:
    """Change `firsts` until every node is first exactly as often as its target says."""
    groups_of: dict[int, list[int]] = {node: [] for node in targets}
    for group, row in enumerate(rows):
        for node in row:
            groups_of[node].append(group)
    now = Counter(firsts)
    for node in targets:
        while now[node] < targets[node]:
            giver = _shift(node, firsts, groups_of, now, targets)
            now[node] += 1
            now[giver] -= 1


def _shift(
    start: int,
    firsts: list[int],
    groups_of: Mapping[int, Sequence[int]],
    now: Mapping[int, int],
    targets: Mapping[int, int],
) -> int:
    """Make `start` first of one more group along a shortest path, and return the node that is first of one fewer."""
    came_by: dict[int, tuple[int, int]] = {start: (start, -1)}  # node → (who takes the place from it, in which group)
    queue = deque([start])
    while queue:
        taker = queue.popleft()
        for group in groups_of[taker]:
            giver = firsts[group]
            if giver in came_by:
                continue
            came_by[giver] = (taker, group)
            if now[giver] > targets[giver]:
                node = giver
                while node != start:
                    node, at = came_by[node]
                    firsts[at] = node
                return giver
            queue.append(giver)
    raise AssertionError(f"no way to make node {start} first of {targets[start]} groups")
