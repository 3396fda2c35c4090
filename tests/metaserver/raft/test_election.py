"""Elections: the paper, sections 5.2 and 5.4.1; the thesis, sections 3.10, 4.2.3, 6.2 and 9.6."""

from __future__ import annotations

import random

import pytest
from blockyard.metaserver.raft import (
    NOBODY,
    AppendEntries,
    AppendReply,
    ChangeRefused,
    DurableState,
    Heartbeat,
    LogIndex,
    MemberId,
    Membership,
    NotLeader,
    RaftConfig,
    RaftCore,
    RequestVote,
    Role,
    Term,
    TimeoutNow,
    VoteReply,
)

from tests.metaserver.raft.harness import Group, MemoryDisk, disk_with

THREE = Membership.of([1, 2, 3])


def role_of(core: RaftCore) -> Role:
    return core.role


def lone_core(disk: MemoryDisk | None = None, id: int = 1) -> tuple[RaftCore, MemoryDisk]:
    disk = disk or MemoryDisk(DurableState.bootstrap(THREE))
    return RaftCore(RaftConfig(MemberId(id)), disk.durable(), disk, random.Random(1)), disk


def tick_until(core: RaftCore, role: Role) -> None:
    for _ in range(100):
        if core.role is role:
            return
        core.tick()
    raise AssertionError(f"not {role} after 100 ticks")


def vote_request(sender: int, term: int, last: tuple[int, int], **flags: bool) -> RequestVote:
    flags = {"pre_vote": False, "leader_transfer": False, **flags}
    return RequestVote(MemberId(sender), MemberId(1), Term(term), LogIndex(last[1]), Term(last[0]), **flags)


def replies_to(core: RaftCore, disk: MemoryDisk, message: RequestVote) -> list[VoteReply]:
    core.step(message)
    found = []
    while (ready := core.ready()) is not None:
        disk.write(ready, None)
        core.persisted(ready)
        found += [m for m in (*ready.messages, *ready.messages_after_persist) if isinstance(m, VoteReply)]
    return found


def test_a_member_votes_once_in_a_term_paper_5_2() -> None:
    core, disk = lone_core()
    assert replies_to(core, disk, vote_request(2, 5, (1, 1)))[0].granted
    assert not replies_to(core, disk, vote_request(3, 5, (1, 1)))[0].granted
    assert replies_to(core, disk, vote_request(2, 5, (1, 1)))[0].granted, "the same vote again is the same vote"


def test_a_vote_survives_a_restart_paper_figure_2() -> None:
    core, disk = lone_core()
    replies_to(core, disk, vote_request(2, 5, (1, 1)))
    core, disk = lone_core(disk)
    assert (core.term, core.vote) == (5, 2)
    assert not replies_to(core, disk, vote_request(3, 5, (1, 1)))[0].granted


@pytest.mark.parametrize(
    ("last", "granted"), [((2, 9), False), ((3, 3), False), ((3, 4), True), ((3, 5), True), ((4, 2), True)]
)
def test_a_vote_goes_only_to_a_log_at_least_as_new_paper_5_4_1(last: tuple[int, int], granted: bool) -> None:
    core, disk = lone_core(disk_with(THREE, [2, 3, 3]))
    assert replies_to(core, disk, vote_request(2, 9, last))[0].granted is granted


def test_a_vote_and_its_term_are_on_disk_before_the_reply_leaves() -> None:
    core, _ = lone_core()
    core.step(vote_request(2, 5, (1, 1)))
    ready = core.ready()
    assert ready is not None
    assert not any(isinstance(message, VoteReply) for message in ready.messages)
    assert [type(message) for message in ready.messages_after_persist] == [VoteReply]
    assert ready.hard_state is not None
    assert (ready.hard_state.term, ready.hard_state.vote) == (5, 2), "term and vote are one record"


def test_a_lone_voter_leads_only_after_its_own_vote_is_on_disk() -> None:
    group = Group([1], None)
    group.members[1].holds_writes = True
    group.tick(50)
    assert role_of(group.core(1)) is Role.CANDIDATE
    group.release(1)
    assert role_of(group.core(1)) is Role.LEADER


def test_a_candidate_with_the_votes_of_others_leads_only_after_its_own_is_on_disk() -> None:
    core, disk = lone_core()
    tick_until(core, Role.PRE_CANDIDATE)
    core.step(VoteReply(MemberId(2), MemberId(1), Term(2), True, True, LogIndex(1), Term(1)))
    for voter in (2, 3):
        core.step(VoteReply(MemberId(voter), MemberId(1), Term(2), True, False, LogIndex(1), Term(1)))
    assert role_of(core) is Role.CANDIDATE
    ready = core.ready()
    assert ready is not None
    disk.write(ready, None)
    core.persisted(ready)
    assert role_of(core) is Role.LEADER


def test_there_is_one_leader_and_the_others_know_it_paper_5_2() -> None:
    group = Group()
    group.until(lambda: group.leader() is not None)
    group.tick(3)
    assert {group.core(id).leader for id in group.members} == {group.leader()}


def test_a_pre_vote_changes_no_term_and_no_vote_thesis_9_6() -> None:
    core, disk = lone_core()
    reply = replies_to(core, disk, vote_request(2, 7, (1, 1), pre_vote=True))[0]
    assert (reply.granted, reply.term) == (True, 7)
    assert (core.term, core.vote) == (1, NOBODY)


def test_a_member_cut_off_does_not_raise_its_term_thesis_9_6() -> None:
    group = Group()
    group.elect(1)
    group.isolate(2)
    group.tick(200, only=[2])
    assert group.core(2).term == group.core(1).term


def test_a_member_that_returns_does_not_depose_the_leader_thesis_9_6() -> None:
    group = Group()
    group.elect(1)
    group.isolate(2)
    group.tick(100)
    group.heal()
    term = group.core(1).term
    group.tick(60)
    assert (group.leader(), group.core(1).term) == (1, term)


def test_who_hears_a_leader_ignores_a_higher_term_of_a_candidate_thesis_4_2_3() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.tick(4)
    term = group.core(2).term
    group.inject(RequestVote(MemberId(3), MemberId(2), Term(term + 5), LogIndex(99), Term(99), False, False))
    group.inject(RequestVote(MemberId(3), MemberId(1), Term(term + 5), LogIndex(99), Term(99), False, False))
    assert (group.core(2).term, group.core(1).role) == (term, Role.LEADER)


def test_a_leader_that_no_majority_answers_steps_down_thesis_6_2() -> None:
    group = Group()
    group.elect(1)
    group.isolate(1)
    group.tick(25, only=[1])
    assert role_of(group.core(1)) is not Role.LEADER


def test_a_leader_that_only_receives_steps_down_thesis_6_2() -> None:
    group = Group()
    group.elect(1)
    group.tick(5)
    group.cut |= {(1, 2), (1, 3)}
    group.until(lambda: group.leader() == 2, limit=200)
    assert role_of(group.core(1)) is not Role.LEADER


def test_a_member_stuck_in_a_higher_term_is_freed_by_telling_the_leader_its_term() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    disk = group.members[3].disk
    disk.hard_state = type(disk.hard_state)(Term(30), NOBODY, disk.hard_state.commit)
    group.restart(3)
    group.until(lambda: group.leader() is not None and group.core(group.leader() or 0).term >= 30)
    group.tick(10)
    assert len({group.core(id).term for id in (1, 2, 3)}) == 1


def test_messages_of_an_older_term_change_nothing() -> None:
    group = Group()
    group.elect(1)
    group.crash(1)
    group.elect(2)
    late = AppendEntries(MemberId(1), MemberId(3), Term(2), LogIndex(1), Term(1), (), LogIndex(1))
    leader, last = group.core(3).leader, group.core(3).log.last_index
    group.inject(late)
    group.inject(Heartbeat(MemberId(1), MemberId(3), Term(2), LogIndex(1), 0, False, LogIndex(0)))
    assert (group.core(3).leader, group.core(3).log.last_index) == (leader, last)


def test_a_vote_of_an_earlier_term_is_not_counted() -> None:
    core, disk = lone_core()
    tick_until(core, Role.PRE_CANDIDATE)
    core.step(VoteReply(MemberId(2), MemberId(1), Term(2), True, True, LogIndex(1), Term(1)))
    assert role_of(core) is Role.CANDIDATE
    core.step(VoteReply(MemberId(2), MemberId(1), Term(1), True, False, LogIndex(1), Term(1)))
    ready = core.ready()
    assert ready is not None
    disk.write(ready, None)
    core.persisted(ready)
    assert role_of(core) is Role.CANDIDATE


def test_leadership_moves_on_order_to_a_member_with_the_whole_log_thesis_3_10() -> None:
    group = Group()
    group.elect(1)
    group.tick(4)
    group.propose(1, b"a")
    group.core(1).transfer_leadership(MemberId(2))
    group.settle()
    assert group.leader() == 2
    assert group.members[2].disk.commands == [b"a"]


def test_a_successor_that_lags_is_ordered_only_when_it_has_the_whole_log_thesis_3_10() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.drop = lambda message: isinstance(message, AppendEntries) and message.to == 2
    group.propose(1, b"a")
    group.core(1).transfer_leadership(MemberId(2))
    group.settle()
    assert not any(isinstance(message, TimeoutNow) for message in group.sent)
    group.drop = lambda message: False
    group.until(lambda: group.leader() == 2, limit=20)


def test_a_transfer_that_fails_is_given_up_and_the_leader_goes_on_thesis_3_10() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.tick(3)
    group.drop = lambda message: isinstance(message, TimeoutNow)
    group.core(1).transfer_leadership(MemberId(2))
    group.tick(25)
    group.propose(1, b"a")
    assert group.members[1].disk.commands == [b"a"]


def test_leadership_goes_to_another_data_member_only() -> None:
    group = Group()
    group.elect(1)
    for to in (1, 3, 9):
        with pytest.raises(ChangeRefused):
            group.core(1).transfer_leadership(MemberId(to))
    with pytest.raises(NotLeader):
        group.core(2).transfer_leadership(MemberId(1))


def test_an_order_to_stand_from_one_who_does_not_lead_is_ignored() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.tick(3)
    group.inject(TimeoutNow(MemberId(3), MemberId(2), group.core(2).term))
    assert group.leader() == 1


def test_a_leader_whose_disk_hangs_hands_over_and_steps_down() -> None:
    group = Group()
    group.elect(1)
    group.tick(3)
    group.members[1].holds_writes = True
    group.core(1).propose(b"stuck")
    group.until(lambda: group.leader() == 2, limit=40)
    group.tick(100)
    assert group.leader() == 2
    assert role_of(group.core(1)) is Role.FOLLOWER
    group.propose(2, b"next")
    assert b"next" in group.members[2].disk.commands


def test_two_leaders_in_one_term_stop_the_process() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    with pytest.raises(AssertionError, match="two leaders"):
        group.core(1).step(Heartbeat(MemberId(2), MemberId(1), group.core(1).term, LogIndex(1), 0, False, LogIndex(0)))


def test_an_answer_to_an_earlier_leadership_is_ignored() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    old = group.core(1).term
    group.crash(1)
    group.elect(2)
    group.inject(AppendReply(MemberId(3), MemberId(2), old, False, LogIndex(99), LogIndex(0), Term(0)))
    assert group.core(2).progress[MemberId(3)].match < 99


def test_who_hears_a_leader_gives_no_pre_vote_thesis_4_2_3() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.tick(4)
    group.sent.clear()
    group.inject(RequestVote(MemberId(3), MemberId(2), Term(9), LogIndex(99), Term(9), True, False))
    group.inject(RequestVote(MemberId(3), MemberId(1), Term(9), LogIndex(99), Term(9), True, False))
    assert [m.granted for m in group.sent if isinstance(m, VoteReply)] == [False, False]
