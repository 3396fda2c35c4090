"""The leader's half of replication: what to send to each peer, and what their answers commit.

Appends are made when the driver asks for a Ready, so that all commands of one turn share one message; they leave in
parallel with the leader's own write (the thesis, section 10.2.1), and the leader counts itself only as far as its log
is stable. Only an entry of the leader's own term commits by counting (the paper, figure 8).
"""

from __future__ import annotations

from blockyard.metaserver.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallBase,
    SnapshotReply,
    TimeoutNow,
)
from blockyard.metaserver.raft.progress import Progress, ProgressState
from blockyard.metaserver.raft.ready import SendSnapshot
from blockyard.metaserver.raft.state import RaftState
from blockyard.metaserver.raft.types import NOBODY, BaseRecord, LogIndex, MemberId


def send_appends(state: RaftState) -> None:
    """Send every peer what it lacks, as far as its progress allows."""
    last, config = state.log.last_index, state.config
    for id, peer in state.progress.items():
        if peer.state is ProgressState.REPLICATE:
            while peer.next <= last and peer.may_send(config) and peer.next > state.log.base.index:
                _append(state, id, peer)
        if peer.state is ProgressState.PARKED or peer.paused:
            continue
        if peer.state is ProgressState.BASE:
            _install_base(state, id, peer)
        elif peer.next <= state.log.base.index:
            _behind_the_log(state, id, peer)
        elif peer.state is ProgressState.PROBE:
            _append(state, id, peer)


def _append(state: RaftState, id: MemberId, peer: Progress) -> None:
    log, previous = state.log, peer.next - 1
    entries = (
        log.entries(peer.next, log.last_index + 1, state.config.max_append_bytes) if previous < log.last_index else ()
    )
    state.lead(AppendEntries(state.id, id, state.term, LogIndex(previous), log.term(previous), entries, state.commit))
    peer.sent(previous + len(entries), sum([len(entry.data) for entry in entries]))


def _behind_the_log(state: RaftState, id: MemberId, peer: Progress) -> None:
    """The peer needs what the log no longer has: a snapshot, or for the witness a base record."""
    if id == state.members.witness:
        _offer_base(state, id, peer)
    elif not state.is_witness and peer.silent_ticks < state.config.election_timeout_ticks:
        peer.enter(ProgressState.SNAPSHOT, peer.next)
        peer.paused = True
        peer.snapshot_index = state.log.base.index
        state.send_snapshots.append(SendSnapshot(id, state.term, state.log.base.index))


# The witness' base record


def base_index(state: RaftState) -> LogIndex:
    """Return the newest index a base record may have now: committed, and on every data member as far as is known.

    A data member that was not heard in this term sets no bound: see the theorem in `witness`.
    """
    bound = state.commit
    for id in state.members.data_members:
        if id != state.id and state.progress[id].match > 0:
            bound = min(bound, state.progress[id].match)
    return bound


def _offer_base(state: RaftState, id: MemberId, peer: Progress) -> None:
    if base_index(state) >= state.log.base.index:
        peer.enter(ProgressState.BASE, max(peer.next, peer.match + 1))
        _install_base(state, id, peer)
    else:
        peer.paused = True  # a data member needs a snapshot first; asked again at the next heartbeat


def _install_base(state: RaftState, id: MemberId, peer: Progress) -> None:
    index = base_index(state)
    if index < state.log.base.index:
        peer.enter(ProgressState.PROBE, peer.next)
        peer.paused = True
        return
    base = BaseRecord(index, state.log.term(index), state.members.at(index))
    state.lead(InstallBase(state.id, id, state.term, base))
    peer.paused = True


# Answers


def on_append_reply(state: RaftState, message: AppendReply) -> None:
    """Note how far the peer's log equals this one, or where to try next."""
    peer = state.progress[message.sender]
    if message.rejected:
        _on_reject(state, message, peer)
    else:
        on_accepted(state, message.sender, message.index)


def on_accepted(state: RaftState, sender: MemberId, index: LogIndex) -> None:
    """The peer's disk equals this log up to `index`."""
    assert index <= state.log.last_index, f"member {sender} has {index}, past the leader's {state.log.last_index}"
    peer = state.progress[sender]
    news = peer.accepted(index)
    if peer.state is ProgressState.PROBE or (
        peer.state in (ProgressState.SNAPSHOT, ProgressState.BASE) and index >= state.log.base.index
    ):
        peer.enter(ProgressState.REPLICATE, peer.match + 1)
    if news:
        advance_commit(state)


def _on_reject(state: RaftState, message: AppendReply, peer: Progress) -> None:
    if peer.state is ProgressState.REPLICATE:
        if message.index <= peer.match:
            return  # overtaken by an answer that accepted more
    elif peer.state is ProgressState.SNAPSHOT:
        if message.hint_index < peer.snapshot_index:
            return
    elif peer.state is not ProgressState.PROBE or message.index != peer.next - 1:
        return
    meeting = state.log.newest_at_or_below(message.hint_index, message.hint_term)
    witness = message.sender == state.members.witness
    if witness and message.index <= base_index(state) and message.index >= state.log.base.index:
        # It lacks a committed entry, so all data members have that one: no need to send what comes before.
        peer.enter(ProgressState.BASE, max(peer.next, peer.match + 1))
    else:
        peer.enter(ProgressState.PROBE, max(meeting, peer.match) + 1)


def on_snapshot_reply(state: RaftState, message: SnapshotReply) -> None:
    """The peer has state and log up to an index; go on from there."""
    peer = state.progress[message.sender]
    assert message.index <= state.log.last_index, f"member {message.sender} has {message.index}, past the leader's"
    if peer.accepted(message.index):
        advance_commit(state)
    if peer.state is ProgressState.SNAPSHOT:
        peer.enter(ProgressState.PROBE, peer.match + 1)


def snapshot_failed(state: RaftState, to: MemberId) -> None:
    """The driver could not deliver the snapshot."""
    if to in state.progress:
        state.progress[to].snapshot_over()


def snapshot_delivered(state: RaftState, to: MemberId) -> None:
    """The receiver has the whole stream: give it an election timeout to switch and to say so."""
    peer = state.progress.get(to)
    if peer is not None and peer.state is ProgressState.SNAPSHOT:
        peer.snapshot_patience_ticks = state.config.election_timeout_ticks


def advance_commit(state: RaftState) -> bool:
    """Commit what a majority has on disk, if the newest of it is of this term (the paper, section 5.4.2)."""
    members = state.members
    matches = sorted([state.voter_match(id) for id in members.voters])
    index = matches[len(matches) - members.quorum]
    if index < state.term_start or index <= state.commit:
        return False
    assert state.log.term(index) == state.term, f"entry {index} of another term cannot commit by counting"
    return state.commit_to(index)


# Heartbeats


def send_heartbeat(state: RaftState, id: MemberId, read_round: int) -> None:
    peer = state.progress[id]
    commit = min(peer.match, state.commit)
    if id == state.members.witness:
        floor = min([commit, *[state.voter_match(data) for data in state.members.data_members]])
        if state.members.changed_at > state.commit:
            floor = LogIndex(0)  # a member that is being removed may yet stay
        parked = peer.state is ProgressState.PARKED
        state.lead(Heartbeat(state.id, id, state.term, commit, read_round, parked, floor))
    else:
        state.lead(Heartbeat(state.id, id, state.term, commit, read_round, False, LogIndex(0)))


def tick_heartbeats(state: RaftState) -> None:
    """Let a tick pass; send heartbeats when due. Reads that wait are asked about again with them."""
    state.heartbeat_ticks += 1
    if state.heartbeat_ticks < state.config.heartbeat_interval_ticks:
        return
    state.heartbeat_ticks = 0
    for id in state.progress:
        send_heartbeat(state, id, state.reads.newest_round)


def on_heartbeat_reply(state: RaftState, message: HeartbeatReply) -> None:
    """The peer lives: what was lost on the way to it is found and repeated."""
    peer = state.progress[message.sender]
    peer.heartbeat_answered()
    if peer.state is ProgressState.SNAPSHOT:
        _ask_after_snapshot(state, message.sender, peer)
    if message.sender == state.transfer_to:
        state.transfer_sent = False


def _ask_after_snapshot(state: RaftState, id: MemberId, peer: Progress) -> None:
    """Find out whether a snapshot was installed whose reply was lost: an empty append that then fits."""
    log = state.log
    peer.paused = True
    state.lead(AppendEntries(state.id, id, state.term, log.base.index, log.base.term, (), state.commit))


def send_transfer(state: RaftState) -> None:
    """Order the chosen successor to stand, once it has the whole log (the thesis, section 3.10)."""
    if state.transfer_to == NOBODY or state.transfer_sent:
        return
    peer = state.progress.get(state.transfer_to)
    if peer is not None and peer.match == state.log.last_index:
        state.transfer_sent = True
        state.lead(TimeoutNow(state.id, state.transfer_to, state.term))
