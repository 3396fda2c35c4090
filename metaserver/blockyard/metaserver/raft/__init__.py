"""Raft, sans I/O: events go in, and a `Ready` says what to write, send and apply.

No clock, socket, disk, thread or source of chance is in here: time is `tick()`, chance is the Random given in, and no
set's order reaches an output. The same inputs in the same order give the same outputs, byte for byte.

The driver's loop, exactly:

    core = RaftCore(config, durable, log, rng)          # from what is on disk, see DurableState
    on every tick:             core.tick()
    on every message received: core.step(message)       # as many as there are, before the next ready()
    on every client command:   core.propose([...])      # one entry of many commands is cheaper than many entries
    after each of these, or a batch of them:
        while (ready := core.ready()) is not None:
            1. send ready.messages                      # at once; they depend on nothing that is not yet on disk
            2. for s in ready.send_snapshots: start streaming a snapshot, and when that ends call
               core.snapshot_delivered(s.to) or core.snapshot_failed(s.to): one of them, always
            3. if ready.must_persist:                   # may run elsewhere while input is stepped and other,
                   write snapshot|base, hard_state,     # non-persisting Readies are handled; at most one such
                   entries in one atomic write; fsync   # Ready is outstanding: until persisted() is called, ready()
                                                        # returns nothing that must persist or wait for persisting
               any error of this write or fsync ends the process
            4. core.persisted(ready)                    # for every Ready; the log reader must show the write by now
            5. send ready.messages_after_persist        # votes, acknowledgements: after the write, never before
            6. apply ready.committed in order; applied index and state change in one write; core.applied(last index)
            7. answer each of ready.reads once its index is applied; fail each of ready.refused_reads

Steps 1 and 2 may overlap step 3; steps 6 and 7 may run behind (committed entries were durable here before they were
given out, and arrive in order, each once); 3, 4, 5 keep their order. Steps 4 and 5 of one Ready come before step 3 of
the next that must persist.

A received snapshot: stage the stream beside the living state, fsync, then step its InstallSnapshot. When
`Ready.snapshot` names it, finish or drop what is still being applied, and switch state and log in one atomic step. A
staged snapshot that the core did not take up (no such Ready before the next snapshot of that leader) is deleted.

Compaction of a data member: the driver picks an index up to `core.compaction_limit()`, takes
`core.snapshot_metadata(index).base`, calls `core.compacted(index)`, then writes the base record and drops the log
prefix in one atomic write, before it writes any later Ready. A witness is compacted by `Ready.base`, and is given no
committed entries.

Contexts of reads are the driver's, unique among the reads now waiting on this member.

The proof duties that stay outside: a member that lost its disk gets a new id (rule 6); messages come from who they
say; the driver never gives two cores one disk.
"""

from blockyard.metaserver.raft.config import Busy, ChangeRefused, NotLeader, RaftConfig, Refused
from blockyard.metaserver.raft.core import RaftCore
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
from blockyard.metaserver.raft.ready import ReadConfirmed, Ready, SendSnapshot
from blockyard.metaserver.raft.state import Role
from blockyard.metaserver.raft.types import (
    NOBODY,
    BaseRecord,
    DurableState,
    Entry,
    EntryKind,
    HardState,
    InvalidMembership,
    LogIndex,
    LogReader,
    Member,
    MemberId,
    MemberKind,
    Membership,
    Snapshot,
    Term,
)

__all__ = [
    "NOBODY",
    "AppendEntries",
    "AppendReply",
    "BaseRecord",
    "BaseReply",
    "Busy",
    "ChangeRefused",
    "DurableState",
    "Entry",
    "EntryKind",
    "HardState",
    "Heartbeat",
    "HeartbeatReply",
    "InstallBase",
    "InstallSnapshot",
    "InvalidMembership",
    "LogIndex",
    "LogReader",
    "Member",
    "MemberId",
    "MemberKind",
    "Membership",
    "MembershipChange",
    "Message",
    "NotLeader",
    "RaftConfig",
    "RaftCore",
    "ReadConfirmed",
    "ReadIndexReply",
    "ReadIndexRequest",
    "Ready",
    "Refused",
    "RequestVote",
    "Role",
    "SendSnapshot",
    "Snapshot",
    "SnapshotReply",
    "Term",
    "TimeoutNow",
    "VoteReply",
]
