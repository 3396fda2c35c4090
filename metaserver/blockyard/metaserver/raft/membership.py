"""Changes of the group, one server at a time, and the memberships a log has seen.

A membership is in force from the moment it is appended, and its predecessor again if it is truncated (the thesis,
section 4.1). Safety rests on: one change at a time, each of one voter, none before the leader committed an entry of
its own term (the known bug of the thesis' first form), and on the checks of `next_membership`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from blockyard.metaserver.raft.config import ChangeRefused
from blockyard.metaserver.raft.types import InvalidMembership, LogIndex, MemberId, MemberKind, Membership


class ChangeKind(Enum):
    ADD_LEARNER = "add learner"
    PROMOTE = "promote"
    ADD_WITNESS = "add witness"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """One step. To replace a data member: add the new one as learner, promote it, remove the old one.

    To replace a witness: remove the old one, add the new one; both while all data members are in step.
    """

    kind: ChangeKind
    member: MemberId


class MembershipHistory:
    """The memberships of base record and log, oldest first; the last is in force. Its parts are kept at hand."""

    __slots__ = ("_past", "current", "data_members", "learners", "quorum", "voters", "witness")

    def __init__(self, index: LogIndex, membership: Membership) -> None:
        self._past: list[tuple[LogIndex, Membership]] = [(index, membership)]
        self._refresh()

    def _refresh(self) -> None:
        self.current = self._past[-1][1]
        self.voters = self.current.voters
        self.quorum = self.current.quorum
        self.data_members = self.current.data_members
        self.learners = self.current.learners
        self.witness = self.current.witness

    @property
    def changed_at(self) -> LogIndex:
        """Where the membership in force was appended."""
        return self._past[-1][0]

    def append(self, index: LogIndex, membership: Membership) -> None:
        assert index > self.changed_at, f"membership at {index} after {self.changed_at}"
        self._past.append((index, membership))
        self._refresh()

    def truncate(self, first: LogIndex) -> bool:
        """Forget what was appended from `first` on; return whether the membership in force is another now."""
        before = len(self._past)
        while self._past[-1][0] >= first:
            self._past.pop()
            assert self._past, f"membership truncated before its beginning, at {first}"
        self._refresh()
        return len(self._past) < before

    def at(self, index: int) -> Membership:
        """Return the membership in force at an index not before the base record's."""
        for start, membership in reversed(self._past):
            if start <= index:
                return membership
        raise AssertionError(f"no membership is known at {index}; the first is at {self._past[0][0]}")

    def restart_at(self, index: LogIndex, membership: Membership) -> None:
        self._past = [(index, membership)]
        self._refresh()

    def compact(self, index: LogIndex) -> None:
        """Forget what was in force before `index`."""
        kept = [(start, membership) for start, membership in self._past if start > index]
        self._past = [(index, self.at(index)), *kept]


def next_membership(now: Membership, change: MembershipChange, leader: MemberId, in_step: frozenset[MemberId],
                    alive: frozenset[MemberId]) -> Membership:  # fmt: skip
    """Return the membership after a change. Raises ChangeRefused when it would be unsafe or stall the group.

    `in_step` are the data members and learners that durably have all that is committed, the leader among them;
    `alive` all that were heard lately.
    """
    try:
        after = _changed(now, change, leader)
    except InvalidMembership as error:
        raise ChangeRefused(str(error)) from error
    if change.kind is ChangeKind.PROMOTE and change.member not in in_step:
        raise ChangeRefused(f"learner {change.member} is not in step yet; wait until it has all that is committed")
    if change.kind in (ChangeKind.REMOVE, ChangeKind.ADD_WITNESS) and change.member not in now.learners:
        # Else an entry could be left on one disk only, and the witness could claim a log nobody can ship.
        lagging = [id for id in after.data_members if id not in in_step]
        if lagging:
            raise ChangeRefused(f"data members {lagging} are not in step; wait, or replace them first")
    ready = sum(id in in_step or (id in alive and id == after.witness) for id in after.voters)
    if change.kind is ChangeKind.ADD_WITNESS:
        ready += 1  # it has not been spoken to yet; the data members alone are a majority, and in step
    if change.kind is not ChangeKind.ADD_LEARNER and ready < after.quorum:
        raise ChangeRefused(f"only {ready} of {after.voters} could commit it now, {after.quorum} are needed")
    return after


def _changed(now: Membership, change: MembershipChange, leader: MemberId) -> Membership:
    kind, member = now.kind(change.member), change.member
    if change.kind is ChangeKind.REMOVE:
        return _removed(now, member, kind, leader)
    if change.kind is ChangeKind.PROMOTE:
        if kind is not MemberKind.LEARNER:
            raise ChangeRefused(f"member {member} is not a learner; add it as one first")
        return now.with_member(member, MemberKind.DATA)
    if kind is not None:
        raise ChangeRefused(f"member {member} is in the group already")
    is_witness = change.kind is ChangeKind.ADD_WITNESS
    if is_witness and now.witness is not None:
        raise ChangeRefused(f"the group has witness {now.witness}; remove it first")
    return now.with_member(member, MemberKind.WITNESS if is_witness else MemberKind.LEARNER)


def _removed(now: Membership, member: MemberId, kind: MemberKind | None, leader: MemberId) -> Membership:
    if kind is None:
        raise ChangeRefused(f"member {member} is not in the group")
    if member == leader:
        raise ChangeRefused("the leader does not remove itself; transfer leadership first")
    if kind is MemberKind.DATA and len(now.data_members) <= 2:
        raise ChangeRefused(f"removing {member} would leave one data member; promote another first")
    return now.without(member)
