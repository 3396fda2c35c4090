"""Becoming a follower, a candidate, a leader: what each change of role starts afresh (the paper, figure 4)."""

from __future__ import annotations

from blockyard.metaserver.raft.progress import Progress, ProgressState
from blockyard.metaserver.raft.state import RaftState, Role
from blockyard.metaserver.raft.types import NOBODY, Entry, EntryKind, LogIndex, MemberId, Term


def become_follower(state: RaftState, term: Term, leader: MemberId) -> None:
    """Follow `leader`, or nobody yet, in `term`. A new term has no vote."""
    assert term >= state.term, f"term falls from {state.term} to {term}"
    if term != state.term:
        state.term, state.vote = term, NOBODY
    if state.role is Role.LEADER or leader != state.leader:
        state.refused_reads += state.reads.refuse_all()
    if state.role is Role.LEADER:
        _stop_leading(state)
    state.role, state.leader = Role.FOLLOWER, leader
    state.votes.clear()
    state.reset_timeout()


def _stop_leading(state: RaftState) -> None:
    state.progress.clear()
    state.send_snapshots.clear()
    state.transfer_to, state.transfer_sent = NOBODY, False
    state.uncommitted_bytes = 0


def become_pre_candidate(state: RaftState) -> None:
    """Ask who would vote, with term and vote left as they are (the thesis, section 9.6)."""
    assert state.role is not Role.LEADER, "a leader does not stand for election"
    state.role = Role.PRE_CANDIDATE
    _stand(state)


def become_candidate(state: RaftState) -> None:
    """Enter a new term and vote for oneself; the vote counts when it is on disk."""
    assert state.role is not Role.LEADER, "a leader does not stand for election"
    state.term, state.vote = Term(state.term + 1), state.id
    state.role = Role.CANDIDATE
    _stand(state)


def _stand(state: RaftState) -> None:
    state.leader = NOBODY
    state.votes.clear()
    state.servable.clear()
    state.refused_reads += state.reads.refuse_all()
    state.reset_timeout()


def become_leader(state: RaftState) -> None:
    """Lead: know nothing of the peers, and append a no-op, since only entries of this term commit by counting."""
    assert state.role is Role.CANDIDATE, f"a {state.role.value} cannot become leader"
    assert (state.durable_term, state.durable_vote) == (state.term, state.id), "elected before its own vote was on disk"
    state.role, state.leader = Role.LEADER, state.id
    state.elapsed_ticks = state.heartbeat_ticks = state.calm_ticks = 0
    state.progress.clear()
    track_members(state)
    _doubt_the_silent(state)
    state.uncommitted_bytes = 0
    noop = Entry(LogIndex(state.log.last_index + 1), state.term, EntryKind.NOOP, b"")
    state.term_start = noop.index
    state.log.append([noop])


def _doubt_the_silent(state: RaftState) -> None:
    """Who did not answer in this election has one heartbeat's time to speak before the witness takes its place.

    It was silent for an election timeout already when it is the leader before this one, which is the usual case.
    """
    config = state.config
    for id, peer in state.progress.items():
        if id not in state.votes:
            peer.silent_ticks = config.suspect_after_ticks - config.heartbeat_interval_ticks


def track_members(state: RaftState) -> None:
    """Keep one progress per peer, in ascending order of ids; the witness starts parked."""
    known, state.progress = state.progress, {}
    for id in state.members.current.ids:
        if id != state.id:
            parked = id == state.members.witness
            fresh = Progress(state.log.last_index + 1, ProgressState.PARKED if parked else ProgressState.PROBE)
            state.progress[id] = known.get(id, fresh)
