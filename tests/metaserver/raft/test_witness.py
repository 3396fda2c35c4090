"""The parked witness: the six rules, and what went wrong with witnesses elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from blockyard.metaserver.raft import (
    AppendEntries,
    AppendReply,
    BaseRecord,
    BaseReply,
    DurableState,
    Heartbeat,
    InstallBase,
    InstallSnapshot,
    LogIndex,
    MemberId,
    MembershipChange,
    NotLeader,
    RequestVote,
    Role,
    Snapshot,
    Term,
    TimeoutNow,
    VoteReply,
)
from blockyard.metaserver.raft.membership import ChangeKind
from blockyard.metaserver.raft.progress import ProgressState
from blockyard.metaserver.raft.replication import base_index

from tests.metaserver.raft.harness import Group, MemoryDisk

A, B, W = 1, 2, 3


def group_in_service(**settings: Any) -> Group:
    """A leads, B follows, W is parked; two commands are committed: the log is 1..4."""
    group = Group(**settings)
    group.elect(A)
    group.tick(4)
    group.propose(A, b"a", b"b")
    group.tick(4)
    return group


def engaged_group(**settings: Any) -> Group:
    """B is down at 4, W is engaged, and A and W have committed "c", "d" at 5 and 6."""
    group = group_in_service(**settings)
    group.crash(B)
    group.tick(8)
    group.propose(A, b"c", b"d")
    assert group.core(A).commit == 6
    return group


def state_of_witness(group: Group) -> ProgressState:
    return group.core(A).progress[MemberId(W)].state


# Rule 1


def test_a_parked_witness_gets_heartbeats_only() -> None:
    group = Group()
    group.elect(A)
    group.propose(A, b"a", b"b")
    group.tick(50)
    to_witness = {type(m) for m in group.sent if m.to == W} - {RequestVote}
    assert to_witness == {Heartbeat}
    assert state_of_witness(group) is ProgressState.PARKED


def test_while_the_witness_is_parked_every_commit_is_on_both_data_members() -> None:
    group = group_in_service()
    group.members[B].holds_writes = True
    group.propose(A, b"c")
    assert group.core(A).commit == 4, "the heartbeats that the witness answers are no acknowledgements"
    group.release(B)
    assert group.core(A).commit == 5


# Rule 2


def test_the_witness_is_engaged_when_a_data_member_is_silent_and_commits_go_on() -> None:
    group = group_in_service()
    group.crash(B)
    group.core(A).propose(b"c")
    group.tick(3)
    assert group.core(A).commit == 4
    group.tick(6)
    assert group.core(A).commit == 5
    assert group.members[W].disk.log[-1].data == b"c", "the witness keeps full entries"


def test_the_witness_is_engaged_when_a_data_members_disk_hangs_although_it_answers_heartbeats() -> None:
    group = group_in_service()
    group.members[B].holds_writes = True
    group.core(A).propose(b"c")
    group.tick(10)
    assert group.core(A).commit == 5


def test_the_base_record_is_at_or_before_the_match_of_the_silent_member() -> None:
    group = group_in_service()
    group.drop = lambda m: m.to == B and isinstance(m, AppendEntries)
    group.propose(A, b"not at B")
    group.crash(B)
    group.tick(8)
    bases = [m.base for m in group.sent if isinstance(m, InstallBase)]
    assert [base.index for base in bases] == [4]
    assert [e.index for e in group.members[W].disk.log] == [5], "all that B lacks is there in full"


def test_an_entry_counts_for_the_witness_only_when_it_is_on_its_disk() -> None:
    group = group_in_service()
    group.crash(B)
    group.tick(8)
    group.members[W].holds_writes = True
    group.propose(A, b"c")
    assert group.core(A).commit == 4
    group.release(W)
    assert group.core(A).commit == 5


def test_a_new_leader_that_never_heard_the_other_data_member_engages_the_witness() -> None:
    group = group_in_service()
    for id in (A, B, W):
        group.crash(id)
    for id in (A, W):
        group.restart(id)
    group.until(lambda: group.leader() == A)
    group.compact(A)
    group.tick(10)
    group.propose(A, b"c")
    assert b"c" in group.members[A].disk.commands
    assert group.members[W].disk.base.index == 4, "the base is committed, so B has it too"


def test_a_late_base_record_does_not_take_entries_from_the_witness() -> None:
    group = engaged_group()
    base = next(m for m in group.sent if isinstance(m, InstallBase))
    group.inject(base)
    assert group.core(W).log.last_index == 6
    assert group.members[W].disk.last_index() == 6


def test_a_base_record_is_answered_after_it_is_on_disk() -> None:
    group = group_in_service()
    group.members[W].holds_writes = True
    group.crash(B)
    group.tick(8)
    assert any(isinstance(m, InstallBase) for m in group.sent)
    assert not any(isinstance(m, BaseReply) for m in group.sent)
    group.release(W)
    assert any(isinstance(m, BaseReply) for m in group.sent)


def test_a_data_member_takes_no_base_record_and_a_witness_no_snapshot() -> None:
    group = group_in_service()
    base = BaseRecord(LogIndex(99), Term(2), group.membership)
    term = group.core(A).term
    group.inject(InstallBase(MemberId(A), MemberId(B), term, base))
    group.inject(InstallSnapshot(MemberId(A), MemberId(W), term, Snapshot(base.index, base.term, base.membership)))
    assert group.core(B).commit == 4
    assert group.core(W).commit < 99


def test_the_witness_is_parked_again_when_both_data_members_are_in_step() -> None:
    group = engaged_group()
    assert state_of_witness(group) is ProgressState.REPLICATE
    group.restart(B)
    group.tick(30)
    assert state_of_witness(group) is ProgressState.PARKED
    assert group.members[W].disk.log == [], "parked, it drops all that both data members have"
    assert group.core(W).log.last_index == 6, "and claims what it claimed"


# Rule 3


def test_the_witness_keeps_what_the_slower_data_member_lacks_braft() -> None:
    group = engaged_group(witness_compact_entries=1)
    group.compact(A)
    group.tick(50)
    assert [e.index for e in group.members[W].disk.log] == [5, 6], "B has the log up to 4 only"
    group.crash(A)
    group.restart(B)
    group.until(lambda: group.leader() == B)
    assert group.members[B].disk.commands == [b"a", b"b", b"c", b"d"]


def test_the_witness_never_drops_more_than_it_holds_itself() -> None:
    group = engaged_group(witness_compact_entries=1)
    group.restart(B)
    group.tick(30)
    group.propose(A, *[b"x"] * 20)
    group.tick(30)
    assert group.members[W].disk.base.index == 6
    assert group.core(A).commit == 26


def test_the_witness_serves_no_reads_no_proposals_and_no_snapshots() -> None:
    group = group_in_service()
    witness = group.core(W)
    for ask in (lambda: witness.read_index(1), lambda: witness.propose(b"x")):
        with pytest.raises(NotLeader):
            ask()
    assert group.members[W].disk.commands == []
    assert group.members[W].disk.applied == 1, "nothing is given to it to apply"


# Rule 4


def test_the_witness_that_holds_the_only_newest_tail_hands_it_over_and_does_not_stay_leader() -> None:
    group = engaged_group()
    group.crash(A)
    group.restart(B)
    group.until(lambda: group.leader() == B)
    assert W in group.leaders.values(), "the witness led"
    group.tick(10)
    assert group.members[B].disk.commands == [b"a", b"b", b"c", b"d"]
    assert any(isinstance(m, TimeoutNow) and m.sender == W for m in group.sent)
    group.tick(100)
    assert group.leader() == B
    group.propose(B, b"e")
    assert group.members[B].disk.commands[-1] == b"e"


def test_the_witness_waits_no_longer_than_a_data_member_may_once_it_has_refused_one() -> None:
    group = engaged_group(witness_timeout_factor=10)
    group.crash(A)
    group.restart(B)
    ticks = 0
    while W not in group.leaders.values() and ticks < 100:
        group.tick()
        ticks += 1
    assert ticks <= 2 * group.members[W].config.election_timeout_ticks + 1


def test_the_witness_waits_for_its_whole_timeout_when_nobody_asked() -> None:
    group = engaged_group(witness_timeout_factor=10)
    group.crash(A)
    group.tick(5 * group.members[W].config.election_timeout_ticks)
    assert group.core(W).role is Role.FOLLOWER


def test_a_leading_witness_refuses_proposals_and_reads() -> None:
    group = engaged_group()
    group.crash(A)
    group.restart(B)
    group.drop = lambda m: isinstance(m, TimeoutNow)
    group.until(lambda: group.core(W).role is Role.LEADER)
    for ask in (lambda: group.core(W).read_index(1), lambda: group.core(W).propose(b"x")):
        with pytest.raises(NotLeader):
            ask()


def test_a_leading_witness_that_cannot_hand_over_gives_up_leadership() -> None:
    group = engaged_group()
    group.crash(A)
    group.restart(B)
    group.drop = lambda m: isinstance(m, TimeoutNow)
    group.until(lambda: group.core(W).role is Role.LEADER)
    group.tick(41, only=[B, W])
    assert group.core(W).role is not Role.LEADER


def test_the_witness_refuses_to_lead_when_a_snapshot_would_be_needed() -> None:
    group = engaged_group()
    group.crash(A)
    group.members[B].disk = MemoryDisk(DurableState.bootstrap(group.membership))  # what rule 6 forbids
    group.restart(B)
    group.tick(400)
    assert group.leader() is None
    assert W not in group.leaders.values()
    granted = [m for m in group.sent if isinstance(m, VoteReply) and m.to == W and m.pre_vote and m.granted]
    assert granted, "it could have won"


def test_the_witness_does_not_lead_when_a_data_member_has_all_that_it_has() -> None:
    group = group_in_service()
    group.crash(A)
    group.tick(400, only=[W])
    assert group.core(W).role is not Role.LEADER
    assert W not in group.leaders.values()


def test_a_data_member_that_can_win_wins_before_the_witness_stands() -> None:
    for seed in range(20):
        group = Group()
        for member in group.members.values():
            member.seed += 100 * seed
            member.restart()
        ticks = 0
        while group.leader() is None and ticks < 100:
            group.tick()
            ticks += 1
        assert group.leader() in (A, B)


def test_a_witness_is_never_ordered_to_lead() -> None:
    group = group_in_service()
    group.inject(TimeoutNow(MemberId(A), MemberId(W), group.core(A).term))
    assert group.core(W).role is Role.FOLLOWER


# The tiebreaker


def test_the_witness_does_not_vote_for_one_that_lacks_what_it_committed() -> None:
    group = engaged_group()
    group.crash(A)
    group.restart(B)
    group.drop = lambda m: m.sender == W and isinstance(m, RequestVote)  # it may not stand itself
    group.tick(200)
    assert group.core(B).role is not Role.LEADER


def test_the_witness_does_not_switch_sides_drbd() -> None:
    group = group_in_service()
    group.cut_link(A, B)
    group.tick(300)
    assert (group.leader(), group.core(B).role is Role.LEADER) == (A, False)
    group.propose(A, b"c")
    assert group.members[A].disk.commands[-1] == b"c"
    assert set(group.leaders.values()) == {A}


def test_no_majority_is_made_with_a_witness_that_has_only_its_vote_gluster() -> None:
    group = group_in_service()
    group.cut_link(A, B)
    group.tick(8)
    group.propose(A, b"at A and W")
    group.cut_link(A, W)
    group.tick(300, only=[B, W])
    group.until(lambda: group.leader() == B, only=[B, W])
    assert b"at A and W" in group.members[B].disk.commands, "the other side begins with all that was committed"
    group.propose(B, b"at B and W")
    group.heal()
    group.tick(60)
    assert group.members[A].disk.commands == group.members[B].disk.commands


def test_the_leaders_peer_link_dies_before_its_witness_link() -> None:
    group = group_in_service()
    group.cut_link(A, B)
    group.tick(8)
    group.propose(A, b"c")
    group.isolate(A)
    group.until(lambda: group.leader() == B, limit=400)
    group.tick(10)
    assert group.members[B].disk.commands == [b"a", b"b", b"c"]


def test_what_the_leader_alone_had_when_it_died_was_never_acknowledged() -> None:
    group = group_in_service()
    group.cut_link(A, B)
    group.cut_link(A, W)
    group.core(A).propose(b"alone")
    group.settle()
    group.crash(A)
    group.until(lambda: group.leader() == B)
    group.propose(B, b"other")
    group.heal()
    group.restart(A)
    group.tick(60)
    assert group.members[A].disk.commands == group.members[B].disk.commands == [b"a", b"b", b"other"]


def test_a_witness_that_was_parked_votes_for_the_member_that_has_every_commit() -> None:
    group = engaged_group()
    group.restart(B)
    group.tick(30)
    group.propose(A, b"e")
    group.tick(4)
    group.crash(A)
    group.until(lambda: group.leader() == B)
    assert group.members[B].disk.commands[-1] == b"e"
    assert W not in group.leaders.values()


def test_the_group_serves_without_its_witness() -> None:
    group = group_in_service()
    group.crash(W)
    group.tick(100)
    group.propose(A, b"c")
    assert group.leader() == A
    assert group.members[B].disk.commands[-1] == b"c" or group.core(B).log.last_index == 5


def test_a_restarted_witness_claims_what_it_claimed() -> None:
    group = engaged_group()
    before = (group.core(W).log.last_index, group.core(W).log.last_term, group.core(W).commit)
    group.crash(W)
    group.restart(W)
    after = group.core(W).log
    assert (after.last_index, after.last_term) == before[:2]
    assert group.core(W).membership == group.membership


def test_a_second_silence_begins_at_a_new_base_and_not_at_the_old_tail() -> None:
    group = engaged_group()
    group.restart(B)
    group.tick(30)
    group.propose(A, *[b"%d" % i for i in range(50)])
    group.tick(4)
    group.sent.clear()
    group.crash(B)
    group.tick(8)
    group.propose(A, b"new")
    shipped = [e.index for m in group.sent if isinstance(m, AppendEntries) and m.to == W for e in m.entries]
    assert shipped == [57], "one base record instead of fifty entries"
    assert group.core(A).commit == 57


def test_a_base_record_before_the_witness_own_is_ignored() -> None:
    group = engaged_group()
    base = next(m for m in group.sent if isinstance(m, InstallBase))
    group.restart(B)
    group.tick(30)
    assert group.members[W].disk.base.index == 6
    group.inject(base)
    assert group.core(W).log.last_index == 6


def test_a_base_record_that_the_log_holds_takes_nothing_that_follows_it() -> None:
    group = group_in_service()
    group.crash(B)
    group.tick(8)
    group.members[A].holds_writes = True
    group.propose(A, b"c", b"d")
    assert (group.core(W).commit, group.core(W).log.last_index) == (4, 6)
    term = group.core(A).term
    group.inject(InstallBase(MemberId(A), MemberId(W), term, BaseRecord(LogIndex(5), term, group.membership)))
    assert [e.index for e in group.members[W].disk.log] == [5, 6]


def test_no_base_is_chosen_past_what_a_data_member_is_known_to_hold() -> None:
    group = engaged_group()
    state = group.core(A)._state
    assert state.commit == 6
    assert base_index(state) == 4
    state.progress[MemberId(B)].match = LogIndex(0)
    assert base_index(state) == 6, "not heard in this term: the commit index bounds it, by the theorem"


def test_the_witness_drops_nothing_while_a_removal_is_not_committed() -> None:
    group = Group([1, 2, 4], 3, witness_compact_entries=1)
    group.elect(1)
    group.tick(4)
    group.crash(2)
    group.tick(8)
    group.propose(1, b"a", b"b")
    before = group.members[W].disk.base.index
    group.drop = lambda m: isinstance(m, AppendReply)
    group.core(1).propose_membership(MembershipChange(ChangeKind.REMOVE, MemberId(2)))
    group.tick(5)
    assert group.members[W].disk.base.index == before, "member 2 lacks it, and may yet stay"
    group.drop = lambda m: False
    group.tick(8)
    assert group.members[W].disk.base.index > before


def test_a_witness_that_runs_as_a_data_member_or_the_reverse_does_not_start() -> None:
    group = Group()
    for id in (A, W):
        member = group.members[id]
        member.config = replace(member.config, witness=not member.config.witness)
        with pytest.raises(AssertionError, match="witness"):
            member.restart()
