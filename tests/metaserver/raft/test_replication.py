"""Log replication: the paper, sections 5.3 and 5.4; the thesis, section 10.2."""

from __future__ import annotations

import random

import pytest
from blockyard.metaserver.raft import (
    AppendEntries,
    AppendReply,
    Busy,
    HardState,
    Heartbeat,
    LogIndex,
    MemberId,
    Membership,
    NotLeader,
    RaftConfig,
    RaftCore,
    Role,
    Term,
)
from blockyard.metaserver.raft.progress import ProgressState

from tests.metaserver.raft.harness import Group, disk_with, entry

THREE = Membership.of([1, 2, 3])


def group_with_logs(*logs: list[int], term: int = 0, commit: int = 1) -> Group:
    """Three data members whose logs hold entries of these terms after index 1."""
    group = Group([1, 2, 3], None)
    for id, terms in enumerate(logs, start=1):
        group.members[id].disk = disk_with(THREE, terms, term=term, commit=commit)
        group.restart(id)
    return group


def append(previous: tuple[int, int], entries: list[tuple[int, int]], term: int, commit: int = 1) -> AppendEntries:
    made = [entry(index, of, b"%d@%d" % (index, of)) for index, of in entries]
    place = LogIndex(previous[0]), Term(previous[1])
    return AppendEntries(MemberId(1), MemberId(2), Term(term), *place, made, LogIndex(commit))


def test_what_a_majority_has_on_disk_is_committed_and_applied_paper_5_3() -> None:
    group = Group()
    group.elect(1)
    group.propose(1, b"a", b"b")
    group.tick(3)
    assert [group.members[id].disk.commands for id in (1, 2)] == [[b"a", b"b"]] * 2


def test_committed_entries_are_given_out_a_batch_at_a_time() -> None:
    disk = disk_with(THREE, [1, 1, 1], commit=4)
    core = RaftCore(RaftConfig(MemberId(2), max_apply_bytes=1), disk.durable(), disk, random.Random(1))
    for index in (2, 3, 4):
        ready = core.ready()
        assert ready is not None
        assert [entry.index for entry in ready.committed] == [index]
        assert core.ready() is None, "the next batch came before this one was applied"
        core.applied(LogIndex(index))
    assert core.ready() is None


def test_what_is_cut_off_before_it_was_written_is_not_acknowledged() -> None:
    disk = disk_with(THREE, [1], term=1, commit=2)
    core = RaftCore(RaftConfig(MemberId(2)), disk.durable(), disk, random.Random(1))
    core.step(append((2, 1), [(3, 2), (4, 2)], term=2))
    core.step(append((2, 1), [(3, 3)], term=3))
    ready = core.ready()
    assert ready is not None
    assert [each.index for each in ready.entries] == [3]
    answers = [each for each in ready.messages_after_persist if isinstance(each, AppendReply)]
    assert [(each.term, each.index) for each in answers] == [(3, 3)]


def test_only_the_leader_takes_proposals() -> None:
    group = Group()
    group.elect(1)
    group.tick(3)
    with pytest.raises(NotLeader) as refused:
        group.core(2).propose(b"a")
    assert refused.value.leader == 1


def test_an_entry_of_an_earlier_term_is_not_committed_by_counting_paper_figure_8() -> None:
    group = group_with_logs([2], [2], [], term=3)
    group.drop = lambda m: isinstance(m, AppendEntries) and any(e.term > 2 for e in m.entries)
    group.elect(1)
    group.core(1)
    leader = group.core(1)
    group.inject(AppendReply(MemberId(2), MemberId(1), leader.term, False, LogIndex(2), LogIndex(0), Term(0)))
    assert leader.progress[MemberId(2)].match == 2, "the old entry is on a majority"
    assert leader.commit == 1, "and yet not committed"
    group.drop = lambda m: False
    group.tick(8)
    assert leader.commit == 3


def test_a_leader_counts_itself_only_as_far_as_its_own_disk_thesis_10_2_1() -> None:
    group = Group()
    group.elect(1)
    group.members[1].holds_writes = True
    group.propose(1, b"a")
    assert group.core(2).log.last_index == 3, "the follower wrote it while the leader still writes"
    assert group.core(1).commit == 2
    group.release(1)
    assert group.core(1).commit == 3


def test_a_lone_voter_commits_only_what_is_on_its_own_disk() -> None:
    group = Group([1], None)
    group.elect(1)
    group.members[1].holds_writes = True
    group.propose(1, b"a")
    assert group.core(1).commit == 2
    group.release(1)
    assert group.members[1].disk.commands == [b"a"]


def test_entries_are_acknowledged_only_after_the_write() -> None:
    group = Group()
    group.elect(1)
    group.members[2].holds_writes = True
    group.sent.clear()
    group.propose(1, b"a")
    assert not any(isinstance(message, AppendReply) for message in group.sent)
    assert group.core(1).commit == 2
    group.release(2)
    assert group.core(1).commit == 3


def test_nothing_is_applied_before_it_is_on_the_own_disk() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.members[1].holds_writes = True
    group.propose(1, b"a")
    assert group.core(1).commit == 3, "the two followers are a majority"
    assert group.members[1].disk.commands == []
    group.release(1)
    assert group.members[1].disk.commands == [b"a"]


def test_only_one_write_is_outstanding_and_what_came_meanwhile_shares_the_next() -> None:
    group = Group()
    group.elect(1)
    group.members[1].holds_writes = True
    group.propose(1, b"a")
    for command in (b"b", b"c"):
        group.propose(1, command)
    held = group.members[1].held
    assert held is not None
    assert [e.data for e in held.entries] == [b"a"]
    group.members[1].holds_writes, group.members[1].held = False, None
    group.members[1].disk.write(held, None)
    group.core(1).persisted(held)
    ready = group.core(1).ready()
    assert ready is not None
    assert [e.data for e in ready.entries] == [b"b", b"c"]


@pytest.mark.parametrize("log", [[2, 2], [2, 2, 2, 2, 2, 2, 2], [2, 2, 2, 3, 3, 3], [2, 3, 3, 3, 3, 3, 3, 3, 3], []])
def test_logs_that_differ_are_made_equal_to_the_leaders_paper_figure_7(log: list[int]) -> None:
    group = group_with_logs([2, 2, 2, 4, 4, 5, 5], log, [2, 2, 2, 4, 4, 5, 5], term=6)
    group.elect(1)
    group.tick(5)
    assert group.members[2].disk.log == group.members[1].disk.log


def test_a_conflict_costs_one_round_trip_for_each_term_paper_5_3() -> None:
    group = group_with_logs([2] * 5 + [5] * 50, [2] * 5 + [3] * 60 + [4] * 60, [2] * 5 + [5] * 50, term=6)
    group.elect(1)
    group.tick(3)
    rejections = [m for m in group.sent if isinstance(m, AppendReply) and m.rejected]
    assert group.members[2].disk.log == group.members[1].disk.log
    assert 1 <= len(rejections) <= 2


def test_a_late_append_does_not_truncate_an_acknowledged_tail() -> None:
    group = Group()
    group.elect(1)
    group.propose(1, b"a")
    first = [m for m in group.sent if isinstance(m, AppendEntries) and m.entries][-1]
    group.propose(1, b"b")
    group.inject(first)
    assert group.core(2).log.last_index == 4
    assert len(group.members[2].disk.log) == 3


def test_an_acknowledgement_is_previous_plus_count_and_not_the_last_index() -> None:
    group = group_with_logs([2], [2, 2, 2, 2], [2], term=3)
    group.sent.clear()
    group.inject(append((1, 1), [(2, 2)], term=4))
    reply = next(m for m in group.sent if isinstance(m, AppendReply))
    assert (reply.rejected, reply.index) == (False, 2)


def test_commit_does_not_reach_past_what_the_append_proved_paper_figure_2() -> None:
    group = group_with_logs([2], [2, 3, 3], [2], term=3)
    group.inject(append((1, 1), [(2, 2)], term=4, commit=4))
    assert group.core(2).commit == 2


def test_a_contradiction_of_a_committed_entry_stops_the_process() -> None:
    group = group_with_logs([2], [2, 2], [2], term=3)
    group.members[2].disk.hard_state = HardState(Term(3), MemberId(0), LogIndex(3))
    group.restart(2)
    with pytest.raises(AssertionError, match="committed"):
        group.inject(append((1, 1), [(2, 3)], term=4))


def test_a_write_that_was_overtaken_by_a_truncation_does_not_make_the_new_tail_stable() -> None:
    group = group_with_logs([], [], [], term=2)
    group.members[2].holds_writes = True
    group.inject(append((1, 1), [(2, 2), (3, 2), (4, 2)], term=2))
    group.inject(append((2, 2), [(3, 3)], term=3))
    assert group.core(2).log.last_index == 3
    member = group.members[2]
    held = member.held
    assert held is not None
    member.disk.write(held, None)
    group.core(2).persisted(held)
    assert group.core(2).log.stable == 2
    ready = group.core(2).ready()
    assert ready is not None
    assert [(e.index, e.term) for e in ready.entries] == [(3, 3)]


def test_lost_appends_are_found_and_sent_again() -> None:
    group = Group()
    group.elect(1)
    group.tick(3)
    group.drop = lambda m: isinstance(m, AppendEntries)
    group.propose(1, b"a", b"b")
    group.drop = lambda m: False
    group.tick(6)
    assert group.members[2].disk.commands == [b"a", b"b"]


def test_lost_acknowledgements_are_found_and_asked_for_again() -> None:
    group = Group()
    group.elect(1)
    group.tick(3)
    group.drop = lambda m: isinstance(m, AppendReply)
    group.propose(1, b"a")
    group.drop = lambda m: False
    group.tick(6)
    assert group.core(1).commit == 3


def test_appends_in_flight_are_bounded_thesis_10_2_1() -> None:
    group = Group([1, 2, 3], None, max_append_bytes=10, max_inflight_appends=3)
    group.elect(1)
    group.members[2].holds_writes = group.members[3].holds_writes = True
    group.sent.clear()
    for _ in range(10):
        group.propose(1, b"0123456789")
    sent = [m for m in group.sent if isinstance(m, AppendEntries) and m.to == 2]
    assert len(sent) == 3
    group.release(2)
    group.tick(5)
    assert group.core(2).log.last_index == group.core(1).log.last_index


def test_an_append_is_bounded_in_bytes_yet_carries_at_least_one_entry() -> None:
    group = Group(max_append_bytes=10)
    group.elect(1)
    group.sent.clear()
    group.propose(1, b"1234", b"5678", b"90ab", b"a larger one than that")
    sizes = [[len(e.data) for e in m.entries] for m in group.sent if isinstance(m, AppendEntries)]
    assert sizes == [[4, 4], [4], [22]]


def test_the_uncommitted_log_is_bounded_in_bytes_and_entries() -> None:
    group = Group(max_uncommitted_bytes=100, max_uncommitted_entries=5)
    group.elect(1)
    group.tick(3)
    group.isolate(1)
    group.propose(1, b"x" * 90)
    with pytest.raises(Busy):
        group.core(1).propose(b"x" * 20)
    group.propose(1, *[b""] * 4)
    with pytest.raises(Busy):
        group.core(1).propose(b"")
    group.heal()
    group.tick(6)
    assert group.core(1).commit == group.core(1).log.last_index
    group.propose(1, b"x" * 90)


def test_one_oversized_proposal_is_taken_when_nothing_waits() -> None:
    group = Group(max_uncommitted_bytes=10)
    group.elect(1)
    group.propose(1, b"x" * 1000)
    assert group.members[1].disk.commands == [b"x" * 1000]


def test_an_unreachable_peer_is_probed_with_one_append_at_a_time() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.cut_link(1, 2)
    group.core(1).report_unreachable(MemberId(2))
    group.sent.clear()
    for _ in range(5):
        group.propose(1, b"a")
    assert len([m for m in group.sent if isinstance(m, AppendEntries) and m.to == 2]) == 1


def test_a_restarted_group_keeps_every_acknowledged_command_and_terms_never_go_back() -> None:
    group = Group()
    group.elect(1)
    group.propose(1, b"a", b"b")
    terms = {id: group.core(id).term for id in group.members}
    for id in group.members:
        group.crash(id)
    for id in group.members:
        group.restart(id)
        assert group.core(id).term >= terms[id]
    group.until(lambda: group.leader() in (1, 2))
    group.tick(5)
    assert group.members[1].disk.commands == group.members[2].disk.commands == [b"a", b"b"]


def test_a_disk_that_contradicts_itself_is_refused_at_start() -> None:
    group = group_with_logs([2, 2], [], [])
    disk = group.members[1].disk
    for hard in (HardState(Term(1), MemberId(0), LogIndex(1)), HardState(Term(2), MemberId(0), LogIndex(9))):
        disk.hard_state = hard
        with pytest.raises(AssertionError):
            group.members[1].restart()


def test_a_deposed_leader_drops_what_it_could_not_commit_and_follows() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.tick(3)
    group.isolate(1)
    group.propose(1, b"lost")
    group.elect(2)
    group.propose(2, b"kept")
    group.heal()
    group.tick(5)
    assert group.core(1).role is Role.FOLLOWER
    assert group.members[1].disk.commands == [b"kept"]


def test_an_empty_append_acknowledges_its_previous_index_only() -> None:
    group = group_with_logs([2], [2, 3, 3], [2], term=3)
    group.sent.clear()
    group.inject(append((2, 2), [], term=4))
    reply = next(m for m in group.sent if isinstance(m, AppendReply))
    assert (reply.rejected, reply.index) == (False, 2)


def test_a_rejection_that_was_overtaken_does_not_slow_a_peer_down() -> None:
    group = Group()
    group.elect(1)
    group.propose(1, b"a")
    stale = AppendReply(MemberId(2), MemberId(1), group.core(1).term, True, LogIndex(2), LogIndex(1), Term(1))
    group.core(1).step(stale)
    assert group.core(1).progress[MemberId(2)].state is ProgressState.REPLICATE


def test_nothing_that_tells_a_new_term_leaves_before_the_term_is_on_disk() -> None:
    group = Group([1, 2, 3], None)
    group.core(2).step(Heartbeat(MemberId(1), MemberId(2), Term(9), LogIndex(1), 0, False, LogIndex(0)))
    group.core(2).step(append((7, 7), [], term=9))
    ready = group.core(2).ready()
    assert ready is not None
    assert ready.messages == []
    assert [type(m).__name__ for m in ready.messages_after_persist] == ["HeartbeatReply", "AppendReply"]


def test_what_waits_for_a_write_waits_for_the_one_before_it_too() -> None:
    group = Group([1, 2, 3], None)
    group.members[2].holds_writes = True
    group.inject(append((1, 1), [(2, 2)], term=2))
    group.sent.clear()
    group.inject(append((1, 1), [(2, 2)], term=2))
    assert not any(isinstance(m, AppendReply) for m in group.sent), "the entry is not on disk yet"
    group.release(2)
    assert any(isinstance(m, AppendReply) for m in group.sent)
