"""The parked witness: a third voter that costs nothing while both data members are in step.

**What it is.** W votes and keeps log, but no state. The commit rule is plain Raft's: a majority of the voters has the
entry on disk. Nothing here counts W for an entry that its disk does not hold or claim by a base record. So elections
and commits are as safe as Raft's if a base record is as harmless as a snapshot's last index, which needs one thing
only: *a base record is at a committed index*. `replication.base_index` never exceeds the leader's commit. A voter that
claims committed entries refuses just those candidates that lack them: that is election safety, not a loss of it.

**Parked** (rule 1). A parked W gets heartbeats, no entries. Its log lags: a slow voter, legal. It may then vote for a
data member whose log is longer than its own yet lacks what the other data member alone holds: such an entry is on one
disk, thus not committed. Heartbeat answers of W count for CheckQuorum and read rounds (they prove that no majority
went to a newer term), never for a commit.

**Durability: a base never claims what only one data member can supply** (rules 2 and 3). Raft safety would allow any
committed index; but then the newest log could belong to W, who cannot ship it. The theorem that prevents it:

    When a committed entry c is not in W's log, every data member has c, and all before it, on disk.

    Proof. c was committed by a majority of the voters. With two or three data members and one witness every majority
    without W consists of all data members (2 of 3; 3 of 4): `Membership` admits no other shape. If W was in that
    majority it held c, and W never loses a committed entry: conflict truncation removes uncommitted ones only, the
    floor of compaction leaves the claim as it is, a base at or below its commit index, or found in its log, changes
    nothing, and any other base is past all that it could hold of the committed log. A data member promoted or kept by
    a change was in step when the change was proposed (`membership.next_membership`). A member that lost its disk is
    not that member any more (rule 6).

So the leader engages W by trying an append right after b = min(commit, every data member's match known in this term).
Accepted: W holds b, and gets what follows. Rejected: W lacks a committed entry, so by the theorem every data member
holds b, heard in this term or not; W gets a base record at b, then full entries. In both cases all after the slowest
data member's log is on W in full.

**Truncation** (rule 3). W drops log up to the heartbeat's floor = min(durable match of all data members, W's match,
commit). The floor is the leader's knowledge of its term, and durable matches do not fall within a term; a heartbeat
of an old term is refused. What W claims afterwards (last index and term) is unchanged by it.

**A parks W after both are in step.** W's log ends at some m <= match of both. Floor = m: W drops everything and keeps
the base record (m, term of m). Later: B silent, then A dies. If A had not engaged W yet, what A alone held was not
committed; B has all committed entries and W's (m) is no obstacle: B wins with W's vote. If A had engaged W and
committed with it, W's log is newer than B's; B is refused, rightly. W and B cannot elect B, and A may be lost, so:

**W leads** (rule 4), to hand over. It stands only after its longer timeout, and only when a data member that would
vote for it lacks its newest entries and needs nothing older than W's base record (VoteReply carries the voter's last
index and term). Once it has had to refuse such a member, it waits no longer than a data member may at most: whoever
could win has stood by then. It appends a no-op, ships its tail, and orders the first data member that has all of it to
stand. It takes no proposals, reads or membership changes. When the peers turn out to need a snapshot it steps down at
once, and if the handover is not done in two election timeouts it steps down too, so that it cannot sit on the
leadership.

**W's disk.** While a data member is gone, the floor stands still at that member's match and W's log grows with the
traffic; rule 3 forbids anything else. It ends when the member returns or is replaced (learner, promotion, removal).
W's driver must refuse to start with a lost disk under its old id, as every member must.

**The tiebreaker does not switch sides**: A and B cut from each other, both seeing W. W hears leader A and refuses B's
pre-votes by stickiness; once A has committed with W, also by its log. A deposed A cannot count W any more: W's term
is newer. A leader whose peer link dies before its witness link engages W, and so leaves its newest entries there.
"""

from __future__ import annotations

from blockyard.metaserver.raft.messages import TimeoutNow
from blockyard.metaserver.raft.progress import Progress, ProgressState
from blockyard.metaserver.raft.replication import base_index
from blockyard.metaserver.raft.roles import become_follower
from blockyard.metaserver.raft.state import RaftState
from blockyard.metaserver.raft.types import NOBODY, MemberId

_LONGEST_LEADERSHIP_ELECTION_TIMEOUTS = 2


def tick_parking(state: RaftState) -> None:
    """As leader: engage the witness when a data member is silent or stalled, park it when all are in step again."""
    witness = state.members.witness
    if witness is None or witness == state.id:
        return
    peer, patience = state.progress[witness], state.config.suspect_after_ticks
    others = [state.progress[id] for id in state.members.data_members if id != state.id]
    if peer.state is ProgressState.PARKED:
        if any(max(other.silent_ticks, other.behind_ticks) >= patience for other in others):
            _engage(state, peer)
        return
    calm = all(other.keeps_pace(patience) for other in others)
    state.calm_ticks = state.calm_ticks + 1 if calm else 0
    if state.calm_ticks >= state.config.park_after_ticks:
        peer.enter(ProgressState.PARKED, max(peer.next, peer.match + 1))


def _engage(state: RaftState, peer: Progress) -> None:
    """Begin at the newest base that is allowed, or at what the witness is known to hold, whichever is later."""
    state.calm_ticks = 0
    start = max(base_index(state), state.log.base.index, peer.match)
    peer.enter(ProgressState.PROBE, start + 1)


def hand_over(state: RaftState) -> None:
    """As leading witness: give leadership to a data member that has the whole log, or up when none can."""
    if not (state.is_witness and state.is_leader):
        return
    peers = [(id, state.progress[id]) for id in state.members.data_members]
    whole = next((id for id, peer in peers if peer.match == state.log.last_index), NOBODY)
    if whole != NOBODY:
        if state.transfer_to == NOBODY:
            state.transfer_to, state.transfer_sent = whole, True
            state.lead(TimeoutNow(state.id, whole, state.term))
    elif any(peer.next <= state.log.base.index for _, peer in peers) and not _can_serve_any(state, peers):
        become_follower(state, state.term, NOBODY)


def _can_serve_any(state: RaftState, peers: list[tuple[MemberId, Progress]]) -> bool:
    base = state.log.base.index
    return any(peer.next > base and peer.silent_ticks < state.config.suspect_after_ticks for _, peer in peers)


def tick_leading_witness(state: RaftState) -> None:
    """As leading witness: step down when the handover takes too long."""
    limit = state.config.election_timeout_ticks * _LONGEST_LEADERSHIP_ELECTION_TIMEOUTS
    if state.is_witness and state.is_leader and state.elapsed_ticks >= limit:
        become_follower(state, state.term, NOBODY)
