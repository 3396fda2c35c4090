"""Snapshots and compaction: the paper, section 7."""

from __future__ import annotations

import pytest
from blockyard.metaserver.raft import (
    InstallSnapshot,
    LogIndex,
    MemberId,
    Snapshot,
    SnapshotReply,
    Term,
)
from blockyard.metaserver.raft.progress import ProgressState

from tests.metaserver.raft.harness import Group


def lagging_group() -> Group:
    """1 leads; 3 is down since 2; the others have compacted up to 12."""
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.tick(3)
    group.crash(3)
    group.propose(1, *[b"%d" % i for i in range(10)])
    group.tick(25)
    group.compact(1)
    return group


def test_a_member_too_far_behind_gets_a_snapshot_and_then_entries() -> None:
    group = lagging_group()
    group.restart(3)
    group.tick(5)
    group.propose(1, b"after")
    group.tick(3)
    assert group.members[3].disk.commands == group.members[1].disk.commands
    assert group.members[3].disk.base.index == 12
    assert len([m for m in group.sent if isinstance(m, SnapshotReply)]) == 1


def test_a_snapshot_is_sent_once_and_to_who_is_there_only() -> None:
    group = lagging_group()
    group.tick(50)
    assert group.core(1).progress[MemberId(3)].state is not ProgressState.SNAPSHOT, "nobody is there"
    streams: list[int] = []
    group.restart(3)
    group._stream = lambda member, to, term: streams.append(to)  # type: ignore[method-assign]
    group.tick(50)
    assert streams == [3]


def test_a_failed_snapshot_is_sent_again() -> None:
    group = lagging_group()
    group.restart(3)
    group.drop = lambda m: isinstance(m, InstallSnapshot)
    group.tick(10)
    assert group.members[3].disk.base.index == 1
    group.drop = lambda m: False
    group.tick(10)
    assert group.members[3].disk.base.index == 12


def test_a_snapshot_whose_reply_was_lost_is_noticed() -> None:
    group = lagging_group()
    group.restart(3)
    group.drop = lambda m: isinstance(m, SnapshotReply)
    group.tick(10)
    group.propose(1, b"after")
    group.tick(5)
    assert group.members[3].disk.commands[-1] == b"after"


def test_a_snapshot_that_was_delivered_and_never_taken_up_is_sent_again() -> None:
    group = lagging_group()
    group.restart(3)
    group.members[3].holds_writes = True
    group.tick(10)
    assert group.members[3].disk.base.index == 1
    group.crash(3)
    group.restart(3)
    group.tick(40)
    assert group.members[3].disk.base.index == 12


def test_a_snapshot_is_acknowledged_after_it_is_on_disk() -> None:
    group = lagging_group()
    group.restart(3)
    group.members[3].holds_writes = True
    group.tick(5)
    assert not any(isinstance(m, SnapshotReply) for m in group.sent)
    group.release(3)
    assert any(isinstance(m, SnapshotReply) for m in group.sent)


def test_state_log_and_hard_state_change_in_one_write_of_a_snapshot() -> None:
    group = lagging_group()
    group.restart(3)
    group.members[3].holds_writes = True
    group.tick(5)
    held = group.members[3].held
    assert held is not None
    if held.snapshot is None:
        group.release(3)
        group.members[3].holds_writes = True
        group.tick(30)
        held = group.members[3].held
        assert held is not None
    assert held.snapshot is not None
    assert held.hard_state is not None
    assert held.hard_state.commit >= held.snapshot.index


def test_a_stale_snapshot_is_ignored() -> None:
    group = lagging_group()
    old = Snapshot(LogIndex(3), Term(2), group.membership)
    before = list(group.members[2].disk.commands)
    group.inject(InstallSnapshot(MemberId(1), MemberId(2), group.core(1).term, old), [b"old"])
    assert group.members[2].disk.commands == before
    reply = [m for m in group.sent if isinstance(m, SnapshotReply)][-1]
    assert reply.index == group.core(2).commit


def test_two_snapshots_in_a_row_leave_the_newer_state() -> None:
    group = lagging_group()
    group.restart(3)
    group.members[3].holds_writes = True
    group.tick(4)
    first = Snapshot(LogIndex(12), Term(2), group.membership)
    second = Snapshot(LogIndex(40), Term(2), group.membership)
    term = group.core(1).term
    group.drop = lambda m: m.to == 1
    group.inject(InstallSnapshot(MemberId(1), MemberId(3), term, first), [b"first"])
    group.inject(InstallSnapshot(MemberId(1), MemberId(3), term, second), [b"second"])
    group.inject(InstallSnapshot(MemberId(1), MemberId(3), term, first), [b"first"])
    group.release(3)
    group.settle()
    assert (group.members[3].disk.commands, group.members[3].disk.base.index) == ([b"second"], 40)


def test_a_snapshot_of_what_the_log_holds_only_commits_it() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.propose(1, b"a")
    assert (group.core(2).commit, group.core(2).log.last_index) == (2, 3)
    snapshot = Snapshot(LogIndex(3), group.core(1).log.term(3), group.membership)
    group.inject(InstallSnapshot(MemberId(1), MemberId(2), group.core(1).term, snapshot), [b"a"])
    assert group.members[2].disk.base.index == 1, "nothing was replaced"
    assert group.members[2].disk.commands == [b"a"]


def test_compaction_waits_for_a_slow_follower_that_is_alive() -> None:
    group = Group([1, 2, 3], None)
    group.elect(1)
    group.tick(3)
    group.members[3].holds_writes = True
    group.propose(1, *[b"x"] * 5)
    assert group.members[1].disk.applied == 7
    assert group.core(1).compaction_limit() == 2
    group.release(3)
    assert group.core(1).compaction_limit() == 7


def test_compaction_waits_for_a_member_that_is_getting_a_snapshot() -> None:
    group = lagging_group()
    group.delivers_snapshots = False
    group.restart(3)
    group.tick(3)
    group.propose(1, *[b"x"] * 5)
    assert group.core(1).compaction_limit() == 12


def test_no_snapshot_claims_what_is_not_applied() -> None:
    group = lagging_group()
    with pytest.raises(AssertionError, match="applied"):
        group.core(1).snapshot_metadata(LogIndex(13))


def test_a_restart_needs_no_entry_before_the_base() -> None:
    group = lagging_group()
    group.crash(1)
    group.restart(1)
    assert group.core(1).log.base.index == 12
    group.until(lambda: group.leader() is not None)
    group.propose(group.leader() or 0, b"after")
    group.tick(4)
    assert group.members[1].disk.commands == group.members[2].disk.commands
