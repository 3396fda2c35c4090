"""The operator: replaces a member, step by step, by asking whoever leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blockyard.metaserver.raft import DurableState, MemberId, MemberKind, MembershipChange, Refused
from blockyard.metaserver.raft.membership import ChangeKind

from tests.simulator.world import TICK

if TYPE_CHECKING:
    from tests.simulator.cluster import Cluster

TICKS_BETWEEN_TURNS = 5


class Operator:
    """Works on one replacement at a time; a data member is replaced through a learner, a witness directly."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.world = cluster, cluster.world
        self.old = MemberId(0)
        self.new = MemberId(0)
        self.refusals = 0
        self.replaced = 0

    @property
    def replacing(self) -> bool:
        return self.old != 0

    def replace(self, old: MemberId) -> None:
        """Start a new, empty member and begin to put it in the place of `old`."""
        if self.replacing:
            assert self.old == old, f"member {old} is to be replaced while {self.old} is"
            return
        self.old = old
        self.new = MemberId(max(self.cluster.members) + 1)
        witness = self.cluster.membership.kind(old) is MemberKind.WITNESS
        self.world.note("replace", self.old, self.new)
        self.cluster.add_member(self.new, witness, DurableState.joining()).start()
        self.world.after(TICKS_BETWEEN_TURNS * TICK, self._turn)

    def membership_changed(self) -> None:
        ids = self.cluster.membership.ids
        kind = self.cluster.membership.kind(self.new)
        if self.replacing and self.old not in ids and kind not in (None, MemberKind.LEARNER):
            self.world.note("replaced", self.old, self.new)
            self.replaced += 1
            self.old = self.new = MemberId(0)

    def _turn(self) -> None:
        if not self.replacing:
            return
        self.world.after(TICKS_BETWEEN_TURNS * TICK, self._turn)
        leader = self.cluster.leader()
        if leader is None or leader.core is None or leader.paused:
            return
        change = self._next_change(leader.core.membership.kind(self.old), leader.core.membership.kind(self.new))
        try:
            if change is not None:
                leader.core.propose_membership(change)
        except Refused:
            self.refusals += 1
            if leader.id == self.old and self.refusals % 8 == 0:
                self._move_leadership()
        leader.pump()

    def _move_leadership(self) -> None:
        leader = self.cluster.leader()
        assert leader is not None
        assert leader.core is not None
        others = [id for id in leader.core.membership.data_members if id != leader.id]
        try:
            if others:
                leader.core.transfer_leadership(self.world.chance.choice(others))
        except Refused:
            self.refusals += 1

    def _next_change(self, old: MemberKind | None, new: MemberKind | None) -> MembershipChange | None:
        if self.cluster.members[self.new].witness:
            if old is not None:
                return MembershipChange(ChangeKind.REMOVE, self.old)
            return MembershipChange(ChangeKind.ADD_WITNESS, self.new) if new is None else None
        if new is None:
            return MembershipChange(ChangeKind.ADD_LEARNER, self.new)
        if new is MemberKind.LEARNER:
            return MembershipChange(ChangeKind.PROMOTE, self.new)
        return MembershipChange(ChangeKind.REMOVE, self.old) if old is not None else None
