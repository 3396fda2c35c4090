"""What one member knows, and the few moves that every part of the core makes on it.

The parts (`roles`, `election`, `replication`, `following`, `read_index`, `witness`) are functions upon this
record; they import each other downwards only. Invariants: term and commit never fall; there is one vote per term;
commit <= last_index; given <= min(commit, stable); a leader's term is on its disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from blockyard.metaserver.raft.config import RaftConfig
from blockyard.metaserver.raft.log import Log
from blockyard.metaserver.raft.membership import MembershipHistory
from blockyard.metaserver.raft.messages import AppendReply, Message
from blockyard.metaserver.raft.progress import Progress
from blockyard.metaserver.raft.read_queue import ReadQueue
from blockyard.metaserver.raft.ready import ReadConfirmed, SendSnapshot
from blockyard.metaserver.raft.types import (
    NOBODY,
    BaseRecord,
    DurableState,
    Entry,
    EntryKind,
    LogIndex,
    LogReader,
    MemberId,
    MemberKind,
    Membership,
    Snapshot,
    Term,
)

if TYPE_CHECKING:
    import random

_STARTUP_SCAN_BYTES = 8 << 20


class Role(Enum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class RaftState:
    """One member's state. What is to go out waits in the lists at its end."""

    __slots__ = (
        "after_persist",
        "applied",
        "calm_ticks",
        "commit",
        "config",
        "confirmed_reads",
        "durable_term",
        "durable_vote",
        "elapsed_ticks",
        "given",
        "heartbeat_ticks",
        "id",
        "is_witness",
        "leader",
        "log",
        "members",
        "new_base",
        "new_snapshot",
        "now",
        "progress",
        "reads",
        "refused_reads",
        "rng",
        "role",
        "send_snapshots",
        "servable",
        "term",
        "term_start",
        "timeout_ticks",
        "transfer_sent",
        "transfer_to",
        "uncommitted_bytes",
        "vote",
        "votes",
    )

    def __init__(self, config: RaftConfig, durable: DurableState, reader: LogReader, rng: random.Random) -> None:
        hard, base = durable.hard_state, durable.base
        self.config = config
        self.id = config.id
        self.is_witness = config.witness
        self.rng = rng
        self.log = Log(base, reader)
        self.members = MembershipHistory(base.index, base.membership)
        self.term: Term = hard.term
        self.vote: MemberId = hard.vote
        self.durable_term: Term = hard.term
        self.durable_vote: MemberId = hard.vote
        self.commit: LogIndex = max(hard.commit, base.index, durable.applied)
        self.applied: LogIndex = self.commit if config.witness else durable.applied
        self.given: LogIndex = self.applied  # committed entries up to here went to the driver
        self.role = Role.FOLLOWER
        self.leader: MemberId = NOBODY
        self.elapsed_ticks = 0  # since the leader was heard; as leader: since elected
        self.heartbeat_ticks = 0
        self.timeout_ticks = 0
        self.votes: dict[MemberId, bool] = {}
        self.servable: dict[MemberId, bool] = {}  # a witness' view of who could take over from it
        self.progress: dict[MemberId, Progress] = {}
        self.term_start = LogIndex(0)  # the index of this leader's no-op
        self.uncommitted_bytes = 0
        self.calm_ticks = 0
        self.transfer_to: MemberId = NOBODY
        self.transfer_sent = False
        self.reads = ReadQueue(rng.getrandbits(48))
        self.now: list[Message] = []
        self.after_persist: list[Message] = []
        self.confirmed_reads: list[ReadConfirmed] = []
        self.refused_reads: list[int] = []
        self.send_snapshots: list[SendSnapshot] = []
        self.new_snapshot: Snapshot | None = None
        self.new_base: BaseRecord | None = None
        self._check_start()
        self._scan_memberships()
        kind = self.members.current.kind(self.id)
        assert kind is None or (kind is MemberKind.WITNESS) == config.witness, (
            f"member {self.id} is a {kind.name} of the group, but runs as {'a' if config.witness else 'no'} witness"
        )
        self.reset_timeout()

    def _check_start(self) -> None:
        log = self.log
        assert self.term >= log.last_term, f"term {self.term} on disk is older than the log's {log.last_term}"
        assert self.commit <= log.last_index, f"commit {self.commit} is past the log's end {log.last_index}"
        assert self.config.witness or self.applied >= log.base.index, (
            f"applied {self.applied} is before the log's beginning {log.base.index}: the state is missing entries"
        )

    def _scan_memberships(self) -> None:
        low, last = self.log.base.index + 1, self.log.last_index
        while low <= last:
            entries = self.log.entries(low, last + 1, _STARTUP_SCAN_BYTES)
            self.note_memberships(entries)
            low = entries[-1].index + 1

    @property
    def is_leader(self) -> bool:
        return self.role is Role.LEADER

    @property
    def may_campaign(self) -> bool:
        return self.id in self.members.voters

    @property
    def committed_own_term(self) -> bool:
        """Whether this leader has committed an entry of its term."""
        return self.commit >= self.term_start

    def reset_timeout(self) -> None:
        """Begin a new randomized wait for a leader (the paper, section 5.2); the witness waits longer."""
        self.elapsed_ticks = 0
        base = self.config.election_timeout_ticks
        factor = self.config.witness_timeout_factor if self.is_witness else 1
        self.timeout_ticks = base * factor + self.rng.randrange(base)

    def say(self, message: Message) -> None:
        """Send what depends on the term at most: at once if the term is on disk, else after it is."""
        (self.now if self.term == self.durable_term else self.after_persist).append(message)

    def lead(self, message: Message) -> None:
        """Send as leader: the term was on disk before the leader was elected."""
        assert self.role is Role.LEADER, f"a {self.role.value} cannot speak as leader"
        assert self.term == self.durable_term, "a leader's term must be on its disk"
        self.now.append(message)

    def withdraw_answers_from(self, first: LogIndex) -> None:
        """Take back acknowledgements of entries that went before they were written; a deposed leader waits for them."""
        self.after_persist = [
            each for each in self.after_persist if type(each) is not AppendReply or each.rejected or each.index < first
        ]

    def note_memberships(self, entries: Sequence[Entry]) -> None:
        """Put the memberships among newly appended entries in force."""
        for entry in entries:
            if entry.kind is EntryKind.MEMBERSHIP:
                self.members.append(entry.index, Membership.decode(entry.data))

    def commit_to(self, index: int) -> bool:
        """Advance the commit index; return whether it moved."""
        if index <= self.commit:
            return False
        assert index <= self.log.last_index, f"commit {index} is past the log's end {self.log.last_index}"
        if self.role is Role.LEADER:
            self.uncommitted_bytes -= self.log.size_between(max(self.commit, self.term_start) + 1, index + 1)
        self.commit = LogIndex(index)
        return True

    def begin_log_at(self, base: BaseRecord) -> None:
        """Replace the log by a base record, which is committed."""
        assert base.index > self.commit, f"base {base.index} is not past commit {self.commit}"
        self.log.restart_at(base)
        self.withdraw_answers_from(LogIndex(base.index + 1))
        self.members.restart_at(base.index, base.membership)
        self.commit = base.index
        self.given = base.index
        if self.is_witness:
            self.applied = base.index

    def voter_match(self, id: MemberId) -> LogIndex:
        """As leader: how far a voter's disk is known to equal this log."""
        return self.log.stable if id == self.id else self.progress[id].match
