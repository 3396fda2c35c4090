"""The Raft member as its driver sees it: events in, `Ready` out. The driver's loop is in the package's docstring.

This module takes events, checks their terms and passes them to the part that knows (`election`, `replication`,
`following`, `read_index`, `membership`, `witness`), and gathers the results. It decides about terms and about what one
Ready may hold, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from blockyard.metaserver.raft import compaction, election, following, proposals, read_index, replication, witness
from blockyard.metaserver.raft.config import RaftConfig
from blockyard.metaserver.raft.log import Log
from blockyard.metaserver.raft.membership import MembershipChange
from blockyard.metaserver.raft.messages import (
    AppendEntries,
    AppendReply,
    BaseReply,
    Heartbeat,
    HeartbeatReply,
    InstallBase,
    InstallSnapshot,
    Message,
    ReadIndexReply,
    ReadIndexRequest,
    RequestVote,
    SnapshotReply,
    TimeoutNow,
    VoteReply,
)
from blockyard.metaserver.raft.progress import Progress
from blockyard.metaserver.raft.ready import Ready
from blockyard.metaserver.raft.roles import become_follower
from blockyard.metaserver.raft.state import RaftState, Role
from blockyard.metaserver.raft.types import (
    NOBODY,
    DurableState,
    Entry,
    HardState,
    LogIndex,
    LogReader,
    MemberId,
    Membership,
    Snapshot,
    Term,
)

if TYPE_CHECKING:
    import random

_FROM_LEADER = (AppendEntries, Heartbeat, InstallSnapshot, InstallBase)
_TO_LEADER = (AppendReply, HeartbeatReply, SnapshotReply, BaseReply)


def _on_base_reply(state: RaftState, message: BaseReply) -> None:
    replication.on_accepted(state, message.sender, message.index)


def _on_heartbeat_reply(state: RaftState, message: HeartbeatReply) -> None:
    replication.on_heartbeat_reply(state, message)
    read_index.on_heartbeat_reply(state, message)


_HANDLERS: dict[type, Callable[[RaftState, Any], None]] = {
    RequestVote: election.on_request_vote,
    VoteReply: election.on_vote_reply,
    AppendEntries: following.on_append,
    Heartbeat: following.on_heartbeat,
    InstallSnapshot: following.on_install_snapshot,
    InstallBase: following.on_install_base,
    AppendReply: replication.on_append_reply,
    HeartbeatReply: _on_heartbeat_reply,
    SnapshotReply: replication.on_snapshot_reply,
    BaseReply: _on_base_reply,
    TimeoutNow: election.on_timeout_now,
    ReadIndexRequest: read_index.on_request,
    ReadIndexReply: read_index.on_reply,
}


class RaftCore:
    """One member of a Raft group.

    `rng` decides election timeouts and where round numbers begin; in production it is seeded from the machine's
    entropy, in a simulation from the run's seed.
    """

    __slots__ = ("_outstanding", "_persist_ticks", "_state")

    def __init__(self, config: RaftConfig, durable: DurableState, log: LogReader, rng: random.Random) -> None:
        self._state = RaftState(config, durable, log, rng)
        self._outstanding: Ready | None = None
        self._persist_ticks = 0

    # What may be seen from outside

    @property
    def id(self) -> MemberId:
        return self._state.id

    @property
    def is_witness(self) -> bool:
        return self._state.is_witness

    @property
    def role(self) -> Role:
        return self._state.role

    @property
    def term(self) -> Term:
        return self._state.term

    @property
    def vote(self) -> MemberId:
        return self._state.vote

    @property
    def leader(self) -> MemberId:
        """Who leads this term, NOBODY when unknown."""
        return self._state.leader

    @property
    def commit(self) -> LogIndex:
        return self._state.commit

    @property
    def membership(self) -> Membership:
        """The membership in force, which may not be committed yet."""
        return self._state.members.current

    @property
    def log(self) -> Log:
        return self._state.log

    @property
    def progress(self) -> dict[MemberId, Progress]:
        """As leader: what is known of each peer; to look at only."""
        return self._state.progress

    # Events

    def tick(self) -> None:
        """Let one tick pass."""
        state = self._state
        self._persist_ticks = self._persist_ticks + 1 if self._outstanding is not None else 0
        if state.role is Role.LEADER:
            self._tick_leader()
            return
        if self._disk_hangs:
            return  # no vote or promise could leave; do not raise the term in memory meanwhile
        election.tick_follower(state)
        state.heartbeat_ticks += 1
        if state.heartbeat_ticks >= state.config.heartbeat_interval_ticks and state.leader != NOBODY:
            state.heartbeat_ticks = 0
            read_index.repeat_questions(state)

    @property
    def _disk_hangs(self) -> bool:
        return self._persist_ticks >= self._state.config.election_timeout_ticks

    def _tick_leader(self) -> None:
        state = self._state
        state.elapsed_ticks += 1
        for peer in state.progress.values():
            peer.tick(state.log.last_index)
        if self._disk_hangs:
            self._resign()
            return
        if not election.has_quorum(state):
            become_follower(state, state.term, NOBODY)
            return
        if state.transfer_to != NOBODY and state.elapsed_ticks >= state.timeout_ticks:
            state.transfer_to = NOBODY  # it was not taken up in time; go on leading
        witness.tick_parking(state)
        replication.tick_heartbeats(state)
        witness.tick_leading_witness(state)

    def _resign(self) -> None:
        """This leader's disk hangs: let whoever has most of the log stand, and stop leading."""
        state = self._state
        best = max(
            (id for id in state.members.data_members if id != state.id),
            key=lambda id: (state.progress[id].match, -id),
            default=NOBODY,
        )
        if best != NOBODY:
            state.lead(TimeoutNow(state.id, best, state.term))
        become_follower(state, state.term, NOBODY)

    def step(self, message: Message) -> None:
        """Take a message from another member. Late, repeated and reordered ones are expected."""
        state = self._state
        assert message.to == state.id, f"a message for {message.to} came to {state.id}"
        if message.term > state.term:
            if not self._enter_newer_term(message):
                return
        elif message.term < state.term:
            self._refuse_stale(message)
            return
        if isinstance(message, _FROM_LEADER):
            self._hear_leader(message.sender)
        elif isinstance(message, _TO_LEADER):
            if state.role is not Role.LEADER or message.sender not in state.progress:
                return
            state.progress[message.sender].silent_ticks = 0
        _HANDLERS[type(message)](state, message)
        witness.hand_over(state)

    def _enter_newer_term(self, message: Message) -> bool:
        """Follow a newer term; return whether the message is to be handled."""
        state = self._state
        if isinstance(message, RequestVote):
            if message.pre_vote:
                return True  # only a question about that term
            if election.hears_leader(state) and not message.leader_transfer:
                return False
        elif isinstance(message, VoteReply) and message.pre_vote and message.granted:
            return True
        leader = message.sender if isinstance(message, _FROM_LEADER) else NOBODY
        become_follower(state, message.term, leader)
        return True

    def _refuse_stale(self, message: Message) -> None:
        """Tell a leader or candidate of an older term which term it is, lest it waits for us forever."""
        state = self._state
        if isinstance(message, _FROM_LEADER):
            state.say(AppendReply(state.id, message.sender, state.term, True, LogIndex(0), LogIndex(0), Term(0)))
        elif isinstance(message, RequestVote):
            election.refuse_stale(state, message)

    def _hear_leader(self, leader: MemberId) -> None:
        state = self._state
        assert state.role is not Role.LEADER, f"two leaders in term {state.term}: {leader} and {state.id}"
        if state.role is not Role.FOLLOWER or state.leader != leader:
            assert state.leader in (NOBODY, leader), f"two leaders in term {state.term}: {state.leader} and {leader}"
            become_follower(state, state.term, leader)
        state.elapsed_ticks = 0

    # Requests

    def propose(self, commands: bytes | Sequence[bytes]) -> LogIndex:
        """Append one entry per command; return the index of the last.

        Its fate is known when an entry of that index is given out as committed: it is this one if the term is the
        term of now. Raises NotLeader, or Busy when too much is uncommitted or leadership is being handed over.
        """
        return proposals.append_commands(self._state, (commands,) if isinstance(commands, bytes) else commands)

    def read_index(self, context: int) -> None:
        """Ask for a read index; the answer comes as `Ready.reads` or `Ready.refused_reads`. Raises NotLeader."""
        read_index.ask(self._state, context)

    def transfer_leadership(self, to: MemberId) -> None:
        """Hand leadership to a data member; proposals are Busy until done or given up, one election timeout later.

        Raises NotLeader, ChangeRefused.
        """
        proposals.hand_over_to(self._state, to)

    def propose_membership(self, change: MembershipChange) -> LogIndex:
        """Append one change of the group; return its index. Raises NotLeader, Busy, ChangeRefused."""
        return proposals.append_membership(self._state, change)

    def report_unreachable(self, to: MemberId) -> None:
        """The connection to a member broke: what was on its way there is probably lost."""
        peer = self._state.progress.get(to)
        if peer is not None:
            peer.lost()

    def snapshot_failed(self, to: MemberId) -> None:
        """A snapshot asked for by `Ready.send_snapshots` could not be delivered."""
        replication.snapshot_failed(self._state, to)

    def snapshot_delivered(self, to: MemberId) -> None:
        """A snapshot asked for by `Ready.send_snapshots` was streamed whole; it may or may not be taken up."""
        replication.snapshot_delivered(self._state, to)

    # Compaction

    def compaction_limit(self) -> LogIndex:
        """Return up to where the log is not needed: applied, and, as leader, held by every peer that is alive.

        Advice: dropping more, up to what is applied, is safe, and costs a slow peer a snapshot. It is 0 while a
        snapshot is being installed: then nothing may be dropped.
        """
        return compaction.limit(self._state)

    def snapshot_metadata(self, index: LogIndex) -> Snapshot:
        """Return index, term and membership of a state that has applied everything up to `index`."""
        return compaction.metadata(self._state, index)

    def compacted(self, index: LogIndex) -> None:
        """The driver drops the log up to `index`, and keeps the base record of it, in one atomic write.

        Called before that write, or in the same turn: from now on the core does not read those entries.
        """
        compaction.compacted(self._state, index)

    # Results

    def ready(self) -> Ready | None:
        """Return what the driver is to do now, None when there is nothing."""
        state = self._state
        if state.role is Role.LEADER:
            replication.send_appends(state)
            replication.send_transfer(state)
        read_index.send_rounds(state)
        committed = self._take_committed()
        persist = self._outstanding is None and self._has_to_persist()
        if not (
            persist or committed or state.now or state.confirmed_reads or state.refused_reads or state.send_snapshots
        ):
            return None
        return self._make_ready(committed, persist=persist)

    def _has_to_persist(self) -> bool:
        state = self._state
        return bool(
            state.after_persist
            or state.log.last_index > state.log.stable
            or state.new_snapshot
            or state.new_base
            or (state.term, state.vote) != (state.durable_term, state.durable_vote)
        )

    def _take_committed(self) -> Sequence[Entry]:
        """Return committed entries that are durable here and were not given out, up to about max_apply_bytes.

        One batch at a time: the next is given out once `applied` has been told of the last, so that a driver with a
        long backlog can do other work in between.
        """
        state = self._state
        until = min(state.commit, state.log.stable)
        if state.is_witness:
            state.given = state.applied = state.commit
        if until <= state.given or state.applied < state.given:
            return ()
        entries = state.log.entries(state.given + 1, until + 1, state.config.max_apply_bytes)
        state.given = entries[-1].index
        return entries

    def _make_ready(self, committed: Sequence[Entry], *, persist: bool) -> Ready:
        state = self._state
        hard: HardState | None = None
        entries: Sequence[Entry] = ()
        after: list[Message] = []
        snapshot, base = None, None
        if persist:
            after, state.after_persist = state.after_persist, []
            snapshot, state.new_snapshot = state.new_snapshot, None
            base, state.new_base = state.new_base, None
            if state.log.last_index > state.log.stable:
                entries = state.log.unstable()
            changed = (state.term, state.vote) != (state.durable_term, state.durable_vote)
            if changed or entries or snapshot or base:
                hard = HardState(state.term, state.vote, state.commit)
        ready = Ready(
            hard, entries, snapshot, base, state.now, after, committed,
            state.confirmed_reads, state.refused_reads, state.send_snapshots,
        )  # fmt: skip
        state.now, state.confirmed_reads, state.refused_reads, state.send_snapshots = [], [], [], []
        if hard is not None:
            self._outstanding = ready
        return ready

    def persisted(self, ready: Ready) -> None:
        """What `ready` asked to write is on stable storage. A Ready that asked for nothing changes nothing."""
        if not ready.must_persist:
            return
        assert ready is self._outstanding, "a Ready was reported persisted that is not the outstanding one"
        self._outstanding = None
        state, hard = self._state, ready.hard_state
        assert hard is not None
        state.durable_term, state.durable_vote = hard.term, hard.vote
        if ready.entries:
            state.log.wrote()
        if ready.snapshot is not None:
            state.applied = max(state.applied, ready.snapshot.index)
        if state.is_witness:
            state.log.trim(state.log.stable, state.config.max_window_bytes)
        election.own_vote_is_durable(state)
        if state.role is Role.LEADER:
            replication.advance_commit(state)
            witness.hand_over(state)

    def applied(self, index: LogIndex) -> None:
        """The state machine has durably applied everything up to `index`."""
        state = self._state
        assert index <= state.given, f"applied {index}, but only {state.given} was given out"
        state.applied = max(state.applied, index)
        state.log.trim(state.applied, state.config.max_window_bytes)
