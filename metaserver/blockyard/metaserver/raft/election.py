"""Elections: who may ask for votes, who gives them, and what is ignored.

A vote goes to the first candidate of a term whose log is at least as new (the paper, sections 5.2 and 5.4.1), and
leaves only after it is on disk. Three guards keep a member that was cut off from disturbing the others: it first asks
whether it could win (PreVote, the thesis 9.6); who hears a leader does not vote (stickiness, 4.2.3); and a leader
that no majority answers steps down (CheckQuorum, 6.2). The order of a leader to stand (3.10) overrides the first two.
"""

from __future__ import annotations

from blockyard.metaserver.raft.messages import RequestVote, TimeoutNow, VoteReply
from blockyard.metaserver.raft.roles import become_candidate, become_follower, become_leader, become_pre_candidate
from blockyard.metaserver.raft.state import RaftState, Role
from blockyard.metaserver.raft.types import NOBODY, MemberId, Term


def tick_follower(state: RaftState) -> None:
    """Let a tick pass for who is not leader; stand for election when no leader was heard for too long."""
    state.elapsed_ticks += 1
    if state.elapsed_ticks < state.timeout_ticks:
        return
    if state.may_campaign:
        _ask_beforehand(state)
    else:
        become_follower(state, state.term, NOBODY)


def _ask_beforehand(state: RaftState) -> None:
    become_pre_candidate(state)
    state.votes[state.id] = True
    _request_votes(state, Term(state.term + 1), pre_vote=True, leader_transfer=False)
    _count(state)


def stand(state: RaftState, *, leader_transfer: bool) -> None:
    """Begin an election in a new term. Its own vote counts when the driver has written it."""
    become_candidate(state)
    _request_votes(state, state.term, pre_vote=False, leader_transfer=leader_transfer)


def _request_votes(state: RaftState, term: Term, *, pre_vote: bool, leader_transfer: bool) -> None:
    log = state.log
    for peer in state.members.voters:
        if peer == state.id:
            continue
        request = RequestVote(state.id, peer, term, log.last_index, log.last_term, pre_vote, leader_transfer)
        if pre_vote:
            state.say(request)
        else:
            state.after_persist.append(request)


def hears_leader(state: RaftState) -> bool:
    """Whether a leader was heard within the shortest election timeout; one that leads hears itself."""
    if state.role is Role.LEADER:
        return True
    return state.leader != NOBODY and state.elapsed_ticks < state.config.election_timeout_ticks


def on_request_vote(state: RaftState, message: RequestVote) -> None:
    """Answer a request of this term, or a pre-vote request of a later one."""
    if message.pre_vote:
        granted = (
            message.term > state.term
            and not hears_leader(state)
            and _is_new_enough(state, message)
        )  # fmt: skip
        state.say(_reply(state, message, granted=granted))
        if state.is_witness and not granted:
            _stand_sooner(state, message)
        return
    assert message.term == state.term, f"vote asked in term {message.term}, in term {state.term}"
    unbound = state.vote == NOBODY and state.leader == NOBODY
    granted = (unbound or state.vote == message.sender) and _is_new_enough(state, message)
    if granted:
        state.vote = message.sender
        state.reset_timeout()
    state.after_persist.append(_reply(state, message, granted=granted))


def _stand_sooner(state: RaftState, message: RequestVote) -> None:
    """As witness, which hears no leader either: that data member cannot win without entries that are here.

    So do not wait for the whole of the longer timeout, only until every data member that could win has had its own.
    """
    lacks = not _is_new_enough(state, message) and message.last_index >= state.log.base.index
    if lacks and message.sender in state.members.data_members and not hears_leader(state):
        state.timeout_ticks = min(state.timeout_ticks, 2 * state.config.election_timeout_ticks)


def _is_new_enough(state: RaftState, message: RequestVote) -> bool:
    return (message.last_term, message.last_index) >= (state.log.last_term, state.log.last_index)


def _reply(state: RaftState, message: RequestVote, *, granted: bool) -> VoteReply:
    term = message.term if granted else state.term
    log = state.log
    return VoteReply(state.id, message.sender, term, granted, message.pre_vote, log.last_index, log.last_term)


def refuse_stale(state: RaftState, message: RequestVote) -> None:
    """Tell a candidate of an older term which term it is."""
    state.say(_reply(state, message, granted=False))


def on_vote_reply(state: RaftState, message: VoteReply) -> None:
    """Count a reply to the election that is being held, and no other."""
    expected = Role.PRE_CANDIDATE if message.pre_vote else Role.CANDIDATE
    asked = state.term + 1 if message.pre_vote and message.granted else state.term
    if state.role is not expected or message.term != asked:
        return
    state.votes[message.sender] = message.granted
    if message.granted and state.is_witness:
        _note_servable(state, message)
    _count(state)


def _note_servable(state: RaftState, message: VoteReply) -> None:
    """Note whether that member lacks entries which this witness can send it without a snapshot."""
    lacks = (message.last_term, message.last_index) < (state.log.last_term, state.log.last_index)
    state.servable[message.sender] = lacks and message.last_index >= state.log.base.index


def own_vote_is_durable(state: RaftState) -> None:
    """Count this candidate's vote for itself, now that it is on disk."""
    if state.role is Role.CANDIDATE and (state.durable_term, state.durable_vote) == (state.term, state.id):
        state.votes[state.id] = True
        _count(state)


def _count(state: RaftState) -> None:
    voters, quorum = state.members.voters, state.members.quorum
    given = sum(state.votes.get(voter, False) for voter in voters)
    refused = sum(not state.votes.get(voter, True) for voter in voters)
    if given >= quorum:
        _won(state)
    elif refused > len(voters) - quorum:
        become_follower(state, state.term, NOBODY)


def _won(state: RaftState) -> None:
    if state.role is Role.PRE_CANDIDATE:
        if _is_needed(state):
            stand(state, leader_transfer=False)
    elif state.votes.get(state.id, False):
        become_leader(state)


def _is_needed(state: RaftState) -> bool:
    """A data member is; a witness only when a data member lacks its newest entries and it has all that one lacks."""
    if not state.is_witness:
        return True
    return any(state.servable.get(member, False) for member in state.members.data_members)


def on_timeout_now(state: RaftState, message: TimeoutNow) -> None:
    """Stand at once, as the leader orders. A witness is never ordered to, a learner cannot."""
    if message.sender == state.leader and state.may_campaign and not state.is_witness:
        stand(state, leader_transfer=True)


def has_quorum(state: RaftState) -> bool:
    """As leader: whether a majority, itself included, answered within an election timeout (CheckQuorum)."""
    limit, progress = state.config.election_timeout_ticks, state.progress
    alive = sum(voter == state.id or progress[voter].silent_ticks < limit for voter in state.members.voters)
    return alive >= state.members.quorum


def alive_members(state: RaftState) -> frozenset[MemberId]:
    """As leader: who answered lately, itself included. For membership tests only; never iterated."""
    limit = state.config.suspect_after_ticks
    return frozenset([state.id, *(id for id, peer in state.progress.items() if peer.silent_ticks < limit)])
