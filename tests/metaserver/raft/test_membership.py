"""One change of the group at a time: the thesis, chapter 4."""

from __future__ import annotations

import pytest
from blockyard.metaserver.raft import (
    AppendReply,
    Busy,
    ChangeRefused,
    InvalidMembership,
    MemberId,
    MemberKind,
    Membership,
    MembershipChange,
    NotLeader,
)
from blockyard.metaserver.raft.membership import ChangeKind

from tests.metaserver.raft.harness import Group


def change(group: Group, kind: ChangeKind, member: int) -> None:
    leader = group.leader()
    assert leader is not None
    group.core(leader).propose_membership(MembershipChange(kind, MemberId(member)))
    group.settle()
    group.tick(3)


def group_in_service(witness: int | None = 3) -> Group:
    group = Group([1, 2], witness)
    group.elect(1)
    group.tick(3)
    group.propose(1, b"a")
    group.tick(3)
    return group


def test_a_membership_is_encoded_the_same_whatever_order_it_was_made_in() -> None:
    one, other = Membership.of([1, 2], 3, [9, 4]), Membership.of([2, 1], 3, [4, 9])
    assert one.encode() == other.encode()
    assert Membership.decode(one.encode()) == one
    assert (one.voters, one.data_members, one.learners, one.witness, one.quorum) == ((1, 2, 3), (1, 2), (4, 9), 3, 2)


@pytest.mark.parametrize("data", [b"\x00" * 9, b"\x01", b"\x00" * 7 + b"\x01\x09"])
def test_what_is_not_a_membership_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidMembership):
        Membership.decode(data)


@pytest.mark.parametrize(("data", "witness"), [([1], 3), ([], 3), ([1, 2, 4, 5], 3), ([1, 1], None), ([0, 2], None)])
def test_a_witness_stands_beside_two_or_three_data_members(data: list[int], witness: int | None) -> None:
    with pytest.raises(InvalidMembership):
        Membership.of(data, witness)


def test_a_new_member_learns_first_gets_the_state_and_is_then_promoted_thesis_4_2_1() -> None:
    group = group_in_service()
    group.add(4)
    with pytest.raises(ChangeRefused, match="not a learner"):
        change(group, ChangeKind.PROMOTE, 4)
    change(group, ChangeKind.ADD_LEARNER, 4)
    group.tick(5)
    assert group.core(1).membership.voters == (1, 2, 3), "a learner does not vote"
    assert group.members[4].disk.commands == [b"a"]
    change(group, ChangeKind.PROMOTE, 4)
    assert group.core(1).membership.data_members == (1, 2, 4)
    assert group.core(1).membership.quorum == 3
    assert group.core(4).membership == group.core(1).membership


def test_a_learner_that_is_not_in_step_is_not_promoted_thesis_4_2_1() -> None:
    group = group_in_service()
    change(group, ChangeKind.ADD_LEARNER, 4)
    with pytest.raises(ChangeRefused, match="not in step"):
        change(group, ChangeKind.PROMOTE, 4)


def test_a_dead_data_member_is_replaced_while_the_group_serves() -> None:
    group = group_in_service()
    group.crash(2)
    group.tick(10)
    group.add(4)
    change(group, ChangeKind.ADD_LEARNER, 4)
    group.propose(1, b"b")
    group.tick(5)
    change(group, ChangeKind.PROMOTE, 4)
    group.tick(5)
    change(group, ChangeKind.REMOVE, 2)
    group.tick(5)
    assert group.core(4).membership == Membership.of([1, 4], 3)
    group.crash(1)
    group.until(lambda: group.leader() == 4)
    group.tick(10)
    assert group.members[4].disk.commands == [b"a", b"b"]


def test_a_witness_is_replaced_when_both_data_members_are_in_step() -> None:
    group = group_in_service()
    group.crash(3)
    change(group, ChangeKind.REMOVE, 3)
    group.add(5, witness=True)
    change(group, ChangeKind.ADD_WITNESS, 5)
    assert group.core(2).membership == Membership.of([1, 2], 5)
    group.crash(2)
    group.tick(10)
    group.propose(1, b"b")
    assert group.members[1].disk.commands == [b"a", b"b"]
    assert group.core(5).membership == group.core(1).membership


def test_a_witness_is_not_removed_while_a_data_member_is_gone() -> None:
    group = group_in_service()
    group.crash(2)
    group.tick(10)
    with pytest.raises(ChangeRefused, match="not in step"):
        change(group, ChangeKind.REMOVE, 3)


def test_one_of_two_data_members_is_not_removed() -> None:
    for group in (group_in_service(), group_in_service(witness=None)):
        with pytest.raises(ChangeRefused, match="one data member"):
            change(group, ChangeKind.REMOVE, 2)


def test_a_data_member_is_not_removed_while_another_lags() -> None:
    group = Group([1, 2, 4], 3)
    group.elect(1)
    group.tick(3)
    group.crash(2)
    group.tick(8)
    with pytest.raises(ChangeRefused, match="not in step"):
        change(group, ChangeKind.REMOVE, 4)
    change(group, ChangeKind.REMOVE, 2)
    assert group.core(1).membership.data_members == (1, 4)


def test_the_leader_does_not_remove_itself() -> None:
    group = Group([1, 2, 4], None)
    group.elect(1)
    group.tick(3)
    with pytest.raises(ChangeRefused, match="itself"):
        change(group, ChangeKind.REMOVE, 1)


def test_no_change_before_the_first_commit_of_the_term() -> None:
    group = Group([1, 2, 4], None)
    group.drop = lambda m: isinstance(m, AppendReply)
    group.elect(1)
    with pytest.raises(Busy, match="term"):
        group.core(1).propose_membership(MembershipChange(ChangeKind.ADD_LEARNER, MemberId(9)))


def test_no_change_while_another_is_not_committed_thesis_4_1() -> None:
    group = Group([1, 2, 4], None)
    group.elect(1)
    group.tick(3)
    group.drop = lambda m: isinstance(m, AppendReply)
    group.core(1).propose_membership(MembershipChange(ChangeKind.ADD_LEARNER, MemberId(9)))
    group.settle()
    with pytest.raises(Busy, match="not committed"):
        group.core(1).propose_membership(MembershipChange(ChangeKind.ADD_LEARNER, MemberId(8)))


def test_a_change_that_is_truncated_is_no_more_in_force_thesis_4_1() -> None:
    group = Group([1, 2, 4], None)
    group.elect(1)
    group.tick(3)
    group.isolate(1)
    group.core(1).propose_membership(MembershipChange(ChangeKind.ADD_LEARNER, MemberId(9)))
    group.settle()
    assert group.core(1).membership.learners == (9,)
    group.elect(2)
    group.heal()
    group.tick(5)
    assert group.core(1).membership == Membership.of([1, 2, 4])


def test_a_membership_is_known_again_after_a_restart_and_after_compaction() -> None:
    group = group_in_service()
    group.add(4)
    change(group, ChangeKind.ADD_LEARNER, 4)
    for compacts in (False, True):
        if compacts:
            group.compact(2)
        group.crash(2)
        group.restart(2)
        assert group.core(2).membership == Membership.of([1, 2], 3, [4])
        assert group.core(2).membership.kind(MemberId(4)) is MemberKind.LEARNER


def test_a_removed_member_does_not_disturb_the_group_thesis_4_2_3() -> None:
    group = Group([1, 2, 4], None)
    group.elect(1)
    group.tick(3)
    change(group, ChangeKind.REMOVE, 4)
    term = group.core(1).term
    group.tick(200)
    assert (group.leader(), group.core(1).term) == (1, term)


def test_a_learner_and_a_stranger_do_not_stand_for_election() -> None:
    group = group_in_service()
    group.add(4)
    change(group, ChangeKind.ADD_LEARNER, 4)
    group.add(9)
    term = group.core(4).term
    group.tick(300, only=[4, 9])
    assert (group.core(4).term, group.core(9).term) == (term, 0)


def test_a_follower_changes_nothing() -> None:
    group = group_in_service()
    with pytest.raises(NotLeader):
        group.core(2).propose_membership(MembershipChange(ChangeKind.ADD_LEARNER, MemberId(9)))


@pytest.mark.parametrize(("kind", "member"), [
    (ChangeKind.ADD_LEARNER, 2), (ChangeKind.ADD_WITNESS, 9), (ChangeKind.REMOVE, 9), (ChangeKind.PROMOTE, 2),
])  # fmt: skip
def test_changes_that_make_no_sense_are_refused(kind: ChangeKind, member: int) -> None:
    with pytest.raises(ChangeRefused):
        change(group_in_service(), kind, member)
