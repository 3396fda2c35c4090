"""Reads that see every acknowledged write, without writing to the log.

A leader notes its commit index, lets one round of heartbeats confirm that it leads still, and then the read may be
served once that index is applied. All reads that wait when a round begins share it; rounds overlap. A follower asks
the leader for the index. No clock takes part, so a paused leader cannot serve a stale read.
Invariants: no round begins before the leader committed an entry of its own term; an answer to round r confirms rounds
up to r; a witness, whatever its role, serves no reads.
Source: the thesis, section 6.4; the paper, section 8.
"""

from __future__ import annotations

from blockyard.metaserver.raft.config import NotLeader
from blockyard.metaserver.raft.messages import HeartbeatReply, ReadIndexReply, ReadIndexRequest
from blockyard.metaserver.raft.progress import ProgressState
from blockyard.metaserver.raft.read_queue import ReadRound
from blockyard.metaserver.raft.ready import ReadConfirmed
from blockyard.metaserver.raft.replication import send_heartbeat
from blockyard.metaserver.raft.state import RaftState
from blockyard.metaserver.raft.types import NOBODY


def ask(state: RaftState, context: int) -> None:
    """Let a read of this member wait. Raises NotLeader when nobody can answer it."""
    if state.is_witness or state.leader == NOBODY:
        raise NotLeader(state.leader)
    state.reads.contexts.append(context)


def send_rounds(state: RaftState) -> None:
    """Begin a round for the reads that wait: heartbeats as leader, a question to the leader as follower."""
    if not state.reads.waiting:
        return
    if state.is_leader:
        _begin_round(state)
    elif state.leader != NOBODY and len(state.reads.asked) < state.config.max_read_rounds:
        _ask_leader(state, state.reads.ask())


def _begin_round(state: RaftState) -> None:
    if not state.committed_own_term or len(state.reads.rounds) >= state.config.max_read_rounds:
        return
    begun = state.reads.begin_round(state.commit)
    for id in state.members.voters:
        # A parked witness is asked with the next regular heartbeat, should no data member have answered by then.
        if id != state.id and state.progress[id].state is not ProgressState.PARKED:
            send_heartbeat(state, id, begun.number)
    if state.members.quorum == 1:
        _finish(state, state.reads.confirm(state.id, begun.number, 1))


def _ask_leader(state: RaftState, number: int) -> None:
    state.say(ReadIndexRequest(state.id, state.leader, state.term, number))


def repeat_questions(state: RaftState) -> None:
    """As follower, at the pace of heartbeats: ask again what the leader has not answered."""
    for number in state.reads.asked:
        _ask_leader(state, number)


def on_heartbeat_reply(state: RaftState, message: HeartbeatReply) -> None:
    """Count a voter's confirmation of this leader."""
    if message.read_round and message.sender in state.members.voters:
        _finish(state, state.reads.confirm(message.sender, message.read_round, state.members.quorum))


def _finish(state: RaftState, rounds: list[ReadRound]) -> None:
    for done in rounds:
        state.confirmed_reads += [ReadConfirmed(context, done.index) for context in done.contexts]
        for follower, number in done.remote:
            state.say(ReadIndexReply(state.id, follower, state.term, number, done.index, False))


def on_request(state: RaftState, message: ReadIndexRequest) -> None:
    """Let a follower's round wait among the leader's own reads."""
    if not state.is_leader or state.is_witness:
        state.say(ReadIndexReply(state.id, message.sender, state.term, message.round, state.commit, True))
    elif (message.sender, message.round) not in state.reads.remote:
        state.reads.remote.append((message.sender, message.round))


def on_reply(state: RaftState, message: ReadIndexReply) -> None:
    """The leader answered this follower's round."""
    contexts = state.reads.answer(message.round)
    if message.refused:
        state.refused_reads += contexts
    else:
        state.confirmed_reads += [ReadConfirmed(context, message.index) for context in contexts]
