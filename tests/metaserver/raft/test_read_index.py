"""Reads through ReadIndex: the thesis, section 6.4."""

from __future__ import annotations

import pytest
from blockyard.metaserver.raft import (
    Heartbeat,
    HeartbeatReply,
    LogIndex,
    MemberId,
    NotLeader,
    ReadConfirmed,
    ReadIndexReply,
    ReadIndexRequest,
    Role,
)

from tests.metaserver.raft.harness import Group


def group_in_service() -> Group:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.tick(3)
    return group


def read(group: Group, id: int, *contexts: int) -> None:
    for context in contexts:
        group.core(id).read_index(context)
    group.settle()


def test_a_read_is_confirmed_at_the_commit_index_of_its_beginning() -> None:
    group = group_in_service()
    group.propose(1, b"a")
    read(group, 1, 7)
    assert group.members[1].reads == [ReadConfirmed(7, LogIndex(3))]


def test_all_waiting_reads_share_one_round_of_heartbeats() -> None:
    group = group_in_service()
    group.sent.clear()
    read(group, 1, *range(100))
    assert len(group.members[1].reads) == 100
    assert len([m for m in group.sent if isinstance(m, Heartbeat)]) == 2, "one for each of two followers"


def test_rounds_overlap_and_one_answer_confirms_the_earlier_ones_too() -> None:
    group = group_in_service()
    group.drop = lambda m: isinstance(m, HeartbeatReply)
    read(group, 1, 1)
    read(group, 1, 2)
    group.drop = lambda m: isinstance(m, HeartbeatReply) and m.sender == 3
    read(group, 1, 3)
    assert [r.context for r in group.members[1].reads] == [1, 2, 3]


def test_no_read_is_confirmed_before_the_leader_committed_an_entry_of_its_term() -> None:
    group = Group([1, 2, 3], None)
    group.members[2].holds_writes = group.members[3].holds_writes = False
    group.drop = lambda m: type(m).__name__ == "AppendReply"
    group.elect(1)
    read(group, 1, 7)
    group.tick(6)
    assert group.members[1].reads == []
    group.drop = lambda m: False
    group.tick(6)
    assert [r.context for r in group.members[1].reads] == [7]


def test_a_deposed_leader_that_does_not_know_it_confirms_no_read() -> None:
    group = group_in_service()
    group.isolate(1)
    group.elect(2)
    group.propose(2, b"new")
    assert group.core(1).role is Role.LEADER, "it does not know"
    read(group, 1, 7)
    group.tick(3, only=[1])
    assert group.members[1].reads == []
    group.heal()
    group.tick(5)
    assert group.members[1].reads == []
    assert group.members[1].refused == [7]


def test_a_read_that_waits_when_leadership_is_lost_is_refused() -> None:
    group = group_in_service()
    group.isolate(1)
    read(group, 1, 7, 8)
    group.tick(30, only=[1])
    assert group.members[1].refused == [7, 8]


def test_an_answer_to_an_earlier_round_confirms_no_later_read() -> None:
    group = group_in_service()
    group.drop = lambda m: isinstance(m, HeartbeatReply)
    read(group, 1, 1)
    early = [m for m in group.dropped if isinstance(m, HeartbeatReply)]
    read(group, 1, 2)
    group.drop = lambda m: False
    for message in early:
        group.inject(message)
    assert [r.context for r in group.members[1].reads] == [1]


def test_a_lost_round_is_repeated_with_the_next_heartbeats() -> None:
    group = group_in_service()
    group.drop = lambda m: isinstance(m, Heartbeat)
    read(group, 1, 7)
    group.drop = lambda m: False
    group.tick(3)
    assert [r.context for r in group.members[1].reads] == [7]


def test_a_follower_gets_a_read_index_from_the_leader() -> None:
    group = group_in_service()
    group.propose(1, b"a")
    read(group, 2, 5, 6)
    assert group.members[2].reads == [ReadConfirmed(5, LogIndex(3)), ReadConfirmed(6, LogIndex(3))]
    assert len([m for m in group.sent if isinstance(m, ReadIndexRequest)]) == 1
    assert group.core(2).commit == 3, "the round's heartbeat told it the commit index"


def test_a_followers_question_that_was_lost_is_asked_again() -> None:
    group = group_in_service()
    group.drop = lambda m: isinstance(m, ReadIndexRequest)
    read(group, 2, 5)
    group.drop = lambda m: False
    group.tick(3)
    assert [r.context for r in group.members[2].reads] == [5]


def test_a_followers_reads_are_refused_when_its_leader_changes() -> None:
    group = group_in_service()
    group.cut_link(1, 2)
    read(group, 2, 5)
    group.elect(3)
    group.tick(3)
    assert group.members[2].refused == [5]


def test_an_answer_from_before_a_restart_confirms_no_read_of_after() -> None:
    group = group_in_service()
    group.drop = lambda m: isinstance(m, ReadIndexReply)
    read(group, 2, 5)
    late = [m for m in group.dropped if isinstance(m, ReadIndexReply)]
    assert late
    group.drop = lambda m: isinstance(m, ReadIndexRequest)
    group.crash(2)
    group.restart(2)
    group.tick(3)
    group.propose(1, b"acknowledged since")
    read(group, 2, 5)
    for message in late:
        group.inject(message)
    assert group.members[2].reads == []


def test_who_knows_no_leader_refuses_at_once() -> None:
    group = Group([1, 2, 3], None)
    with pytest.raises(NotLeader):
        group.core(1).read_index(1)


def test_one_that_leads_no_more_refuses_the_question_of_a_follower() -> None:
    group = group_in_service()
    read(group, 2, 5)
    term = group.core(1).term
    group.inject(ReadIndexRequest(MemberId(2), MemberId(3), term, 1))
    refusal = [m for m in group.sent if isinstance(m, ReadIndexReply)][-1]
    assert (refusal.sender, refusal.refused) == (3, True)


def test_a_lone_voter_confirms_its_reads_itself() -> None:
    group = Group([1], None)
    group.elect(1)
    read(group, 1, 7)
    assert group.members[1].reads == [ReadConfirmed(7, LogIndex(2))]


def test_the_witness_confirms_the_leader_of_a_group_whose_other_data_member_is_gone() -> None:
    group = Group()
    group.elect(1)
    group.tick(3)
    group.crash(2)
    read(group, 1, 7)
    group.tick(3)
    assert [r.context for r in group.members[1].reads] == [7], "also while it is parked: its term is what counts"
