"""Which placement groups to look at next, which to fill first, and which are complete on this node.

Pure: it is told of maps, surveys and fills, and of the time in seconds of one monotonic clock. A *survey* compares the
lists of a group's holders and counts what this node lacks; a *fill* fetches it. A group is complete when a survey finds
nothing missing, whatever a fill believes. So nothing needs to be remembered across a restart: the disk says it all.

A survey settles a group only when every holder, present or former, was heard, but for those that are out: a holder that
is merely down is waited for, as it may have the only copy of something; one that is out may never return.

Fills go in the order of danger: the group whose rarest missing block has the fewest copies comes first.
"""

from dataclasses import dataclass, field
from typing import Final

from blockyard.proto.cluster_map import ClusterView, GroupHolders
from blockyard.proto.cluster_pb2 import NODE_DOWN, NODE_OUT, NODE_REMOVED

RETRY_S: Final = 10.0
SECOND_LOOK_S: Final = 10.0
"""After a group has become complete: a writer with the map from before, which left this node out, may have sealed a
block just after its holders were asked for their lists."""
SETTLE_S: Final = 5.0
"""A node that is back is given so long to drop what died while it was away, before others look at what it has."""

_GIVEN_UP: Final = (NODE_OUT, NODE_REMOVED)
_SPREAD: Final = 0.618_033_988_75  # of a period, so that surveys of neighbouring groups do not come together


@dataclass(frozen=True, slots=True)
class Survey:
    """What an exchange found."""

    group: int
    missing_blocks: int
    missing_bytes: int
    fewest_copies: int  # holders of the rarest missing block; 0 when nothing is missing
    settled: bool  # every holder was heard to the end, and no fate is in doubt


@dataclass(frozen=True, slots=True)
class Left:
    """What is left to fetch, as far as surveys know."""

    blocks: int
    bytes: int
    groups: int  # that are not complete


@dataclass(slots=True)
class _Entry:
    row: GroupHolders
    due: float
    complete: bool = False
    fillable: bool = False
    missing_blocks: int = 0
    missing_bytes: int = 0
    fewest_copies: int = 0
    strangers: set[int] = field(default_factory=set)  # nodes that said they have blocks of it, though no holders


class Agenda:
    """The groups of one node."""

    def __init__(self, me: int, period_s: float) -> None:
        """`period_s`: a group is surveyed at least so often, though nothing seems to have happened."""
        self.me = me
        self._period_s = period_s
        self._view: ClusterView | None = None
        self._entries: dict[int, _Entry] = {}
        self._order: list[int] = []  # groups that were due when something happened last, the most urgent at the end

    # ------------------------------------------------------------------------------------------ told

    def map_is(self, view: ClusterView, now: float) -> None:
        """Take over a map, unless it is older than the one known."""
        before, mine = self._view, view.groups_of(self.me)
        if before is not None and view.epoch <= before.epoch:
            return
        back, given_up = _came_back(before, view), _given_up(before, view)
        skipped = before is not None and view.epoch > before.epoch + 1
        if skipped:
            back = {*back, self.me}  # one of the maps between may have called this node down: others wrote without it
        entries: dict[int, _Entry] = {}
        for group in mine:
            row, entry = view.groups[group], self._entries.get(group)
            if entry is None:
                entry = _Entry(row, now)
            elif not _only_let_go(entry.row, row) or (skipped and row.former_nodes):
                entry.complete, entry.due = False, now  # a skipped map may have given it to others and back
            entry.row = row
            holders = {self.me, *row.nodes, *row.former_nodes}
            if given_up & holders:
                entry.due = now
            elif back & holders:
                entry.due = min(entry.due, now + SETTLE_S)
            entries[group] = entry
        self._view, self._entries = view, entries
        self._order.clear()

    def hint(self, group: int, now: float, stranger: int = 0) -> None:
        """Somebody has reason to think that this node lacks blocks of a group; `stranger` says it has some."""
        entry = self._entries.get(group)
        if entry is not None:
            self._order.clear()
            entry.due = now
            if stranger:
                entry.strangers.add(stranger)

    def lost(self, group: int, now: float) -> None:
        """A replica of a group was found bad here."""
        entry = self._entries.get(group)
        if entry is not None:
            self._order.clear()
            entry.complete, entry.due = False, now

    def surveyed(self, survey: Survey, row: GroupHolders, now: float) -> None:
        """A survey is done that was begun when the group had the given row.

        It says nothing about a group that others hold since, and does not call complete what changed meanwhile.
        """
        entry = self._entries.get(survey.group)
        if entry is None or not _only_let_go(row, entry.row):
            return
        entry.missing_blocks, entry.missing_bytes = survey.missing_blocks, survey.missing_bytes
        entry.fewest_copies = survey.fewest_copies
        entry.fillable = survey.missing_blocks > 0
        undisturbed, was_complete = entry.due > now, entry.complete
        entry.complete = survey.settled and undisturbed and not survey.missing_blocks and not self._awaited(entry.row)
        if entry.complete:
            entry.strangers.clear()
            if not was_complete:
                entry.due = min(entry.due, now + SECOND_LOOK_S * (1 + survey.group * _SPREAD % 1.0))
        if not survey.settled:
            entry.due = min(entry.due, now + RETRY_S)

    def pulled(self, group: int, blocks: int, size: int) -> None:
        """Blocks came in."""
        entry = self._entries.get(group)
        if entry is not None:
            entry.missing_blocks = max(0, entry.missing_blocks - blocks)
            entry.missing_bytes = max(0, entry.missing_bytes - size)

    def filled(self, group: int, now: float, *, gained: bool) -> None:
        """A fill has gone through a whole group: a survey shall say what it was good for, later if nothing came."""
        entry = self._entries.get(group)
        if entry is not None:
            self._order.clear()
            entry.fillable = False
            entry.due = min(entry.due, now) if gained else now + RETRY_S

    # ------------------------------------------------------------------------------------------ asked

    @property
    def view(self) -> ClusterView:
        """The newest map it was told."""
        assert self._view is not None, "the agenda is asked before it was told a map"
        return self._view

    def row(self, group: int) -> GroupHolders | None:
        """Return who holds a group of this node, None when it is not this node's any more."""
        entry = self._entries.get(group)
        return entry.row if entry else None

    def listed(self, group: int) -> tuple[int, ...]:
        """Return the other nodes whose lists a survey of the group needs and may get, rising."""
        entry = self._entries[group]
        nodes = {*entry.row.nodes, *entry.row.former_nodes, *entry.strangers} - {self.me}
        return tuple(sorted(node for node in nodes if self._answers(node)))

    def take_survey(self, now: float) -> int | None:
        """Return a group to survey now: those that are not complete first, of these those with the fewest holders.

        It is due again a period later, or as soon as something happens to it, also while it is being surveyed.
        """
        while True:
            if not self._order:
                due = [group for group, entry in self._entries.items() if entry.due <= now]
                self._order = sorted(due, key=self._survey_rank, reverse=True)
            if not self._order:
                return None
            group = self._order.pop()
            if self._entries[group].due <= now:
                self._entries[group].due = now + self._period_s * (0.5 + 0.5 * (group * _SPREAD % 1.0))
                return group

    def survey_due(self, now: float) -> bool:
        """Return whether some group is to be surveyed now."""
        return any(entry.due <= now for entry in self._entries.values())

    def next_fill(self) -> int | None:
        """Return the group that is in the greatest danger."""
        waiting = [group for group, entry in self._entries.items() if entry.fillable]
        return min(waiting, key=lambda group: (self._entries[group].fewest_copies, group), default=None)

    def wait_s(self, now: float) -> float:
        """Return the seconds until something is due, 0 when something is."""
        if self.next_fill() is not None:
            return 0.0
        return max(0.0, min((entry.due for entry in self._entries.values()), default=now + RETRY_S) - now)

    def complete(self) -> list[int]:
        """Return the groups that are complete on this node under the newest map it was told, rising."""
        return sorted(group for group, entry in self._entries.items() if entry.complete)

    def left(self) -> Left:
        """Return what is left to fetch."""
        entries = self._entries.values()
        return Left(
            sum(entry.missing_blocks for entry in entries),
            sum(entry.missing_bytes for entry in entries),
            sum(not entry.complete for entry in entries),
        )

    # ------------------------------------------------------------------------------------------ within

    def _answers(self, node: int) -> bool:
        known = self.view.nodes.get(node)
        return known is not None and known.answers

    def _awaited(self, row: GroupHolders) -> bool:
        """Return whether some holder is down: silent, and not given up."""
        nodes = (self.view.nodes.get(node) for node in (*row.nodes, *row.former_nodes) if node != self.me)
        return any(node is not None and node.state == NODE_DOWN for node in nodes)

    def _survey_rank(self, group: int) -> tuple[bool, int, float, int]:
        entry = self._entries[group]
        return entry.complete, len(self.listed(group)), entry.due, group


def _only_let_go(before: GroupHolders, after: GroupHolders) -> bool:
    """Whether nothing changed but that former holders were let go, or that the preferred one is another."""
    return set(before.nodes) == set(after.nodes) and set(after.former_nodes) <= set(before.former_nodes)


def _came_back(before: ClusterView | None, after: ClusterView) -> set[int]:
    """Return the nodes that answer again."""
    known = before.nodes if before is not None else {}
    return {id for id, node in after.nodes.items() if node.answers and id in known and not known[id].answers}


def _given_up(before: ClusterView | None, after: ClusterView) -> set[int]:
    """Return the nodes that are waited for no longer."""
    known = before.nodes if before is not None else {}
    return {id for id, node in known.items() if node.state == NODE_DOWN and after.nodes[id].state in _GIVEN_UP}
