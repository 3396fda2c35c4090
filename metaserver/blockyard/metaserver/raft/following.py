"""A follower's half of replication: take entries, snapshots and base records from the leader of the term.

An answer says no more than the message it answers proved: previous index plus count, never "my last index". Entries
are removed only when one of them contradicts the leader's, never because a late message was shorter; and never a
committed one. Answers that mean durability leave after the write.
"""

from __future__ import annotations

from blockyard.metaserver.raft.messages import (
    AppendEntries,
    AppendReply,
    BaseReply,
    Heartbeat,
    HeartbeatReply,
    InstallBase,
    InstallSnapshot,
    SnapshotReply,
)
from blockyard.metaserver.raft.state import RaftState
from blockyard.metaserver.raft.types import BaseRecord, LogIndex, Term


def on_append(state: RaftState, message: AppendEntries) -> None:
    """Take entries that follow a common one, else answer where the logs may still agree (the paper, section 5.3)."""
    log, previous = state.log, message.previous_index
    if previous >= log.base.index and not log.matches(previous, message.previous_term):
        _reject(state, message)
        return
    entries = message.entries
    if previous < log.base.index:
        entries = entries[log.base.index - previous :]  # the base record stands for the others, which are committed
    reached = LogIndex(previous + len(message.entries))
    first_new = log.first_conflict(entries)
    if first_new < len(entries):
        _replace_tail(state, entries[first_new].index)
        log.append(entries[first_new:])
        state.note_memberships(entries[first_new:])
    state.commit_to(min(message.commit, reached))
    _acknowledge(state, message, reached)


def _replace_tail(state: RaftState, first: LogIndex) -> None:
    assert first > state.commit, f"entry {first} contradicts the leader's, and it is committed (to {state.commit})"
    if first <= state.log.last_index:
        state.log.truncate(first)
        state.members.truncate(first)
        state.withdraw_answers_from(first)


def _acknowledge(state: RaftState, message: AppendEntries, reached: LogIndex) -> None:
    """Answer after the write; of several answers in one write to one leader only the last is needed."""
    reply = AppendReply(state.id, message.sender, state.term, False, reached, LogIndex(0), Term(0))
    waiting = state.after_persist
    if waiting:
        last = waiting[-1]
        if (
            type(last) is AppendReply
            and not last.rejected
            and last.to == reply.to
            and last.term == reply.term
            and last.index <= reached
        ):
            waiting.pop()
    waiting.append(reply)


def _reject(state: RaftState, message: AppendEntries) -> None:
    log, previous = state.log, message.previous_index
    hint = max(log.newest_at_or_below(previous, message.previous_term), log.base.index)
    state.say(AppendReply(state.id, message.sender, state.term, True, previous, LogIndex(hint), log.term(hint)))


def on_heartbeat(state: RaftState, message: Heartbeat) -> None:
    """Learn the commit index, and confirm the leader."""
    state.commit_to(message.commit)
    if state.is_witness:
        compact_witness(state, message)
    state.say(HeartbeatReply(state.id, message.sender, state.term, message.read_round))


def on_install_snapshot(state: RaftState, message: InstallSnapshot) -> None:
    """Switch to a staged snapshot, unless this log holds what it stands for (the paper, section 7)."""
    snapshot = message.snapshot
    if state.is_witness:
        return
    if snapshot.index > state.commit:
        if state.log.matches(snapshot.index, snapshot.term):
            state.commit_to(snapshot.index)
        else:
            state.begin_log_at(snapshot.base)
            state.new_snapshot = snapshot
    state.after_persist.append(SnapshotReply(state.id, message.sender, state.term, state.commit))


def on_install_base(state: RaftState, message: InstallBase) -> None:
    """As witness: begin the log at a base record, unless this log holds what it stands for."""
    base = message.base
    if not state.is_witness:
        return
    if base.index > state.commit:
        if state.log.matches(base.index, base.term):
            state.commit_to(base.index)
        else:
            state.begin_log_at(base)
            state.new_base = base
    state.after_persist.append(BaseReply(state.id, message.sender, state.term, base.index))


def compact_witness(state: RaftState, message: Heartbeat) -> None:
    """Drop log up to the floor, which all data members have durably; rarely while entries stream in."""
    floor, log = message.witness_floor, state.log
    worth_it = 1 if message.parked else state.config.witness_compact_entries
    if floor - log.base.index < worth_it or floor > log.stable:
        return
    assert floor <= state.commit, f"witness floor {floor} is past what is committed here, {state.commit}"
    base = BaseRecord(floor, log.term(floor), state.members.at(floor))
    log.compact(base)
    state.members.compact(base.index)
    state.new_base = base
