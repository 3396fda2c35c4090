"""Raft's messages as protobuf, and back. Pure."""

from collections.abc import Callable, Iterable
from typing import Any

from blockyard.metaserver import raft
from blockyard.metaserver.raft import Entry, EntryKind, LogIndex, Member, MemberId, MemberKind, Membership, Term
from blockyard.proto import errors
from blockyard.proto import raft_pb2 as pb

_KIND_TO_WIRE = {
    EntryKind.COMMAND: pb.ENTRY_COMMAND,
    EntryKind.NOOP: pb.ENTRY_NOOP,
    EntryKind.MEMBERSHIP: pb.ENTRY_MEMBERSHIP,
}
_KIND_FROM_WIRE = {wire: kind for kind, wire in _KIND_TO_WIRE.items()}
_MEMBER_TO_WIRE = {
    MemberKind.DATA: pb.MEMBER_DATA,
    MemberKind.WITNESS: pb.MEMBER_WITNESS,
    MemberKind.LEARNER: pb.MEMBER_LEARNER,
}
_MEMBER_FROM_WIRE = {wire: kind for kind, wire in _MEMBER_TO_WIRE.items()}


def kind_to_wire(kind: MemberKind) -> pb.MemberKind:
    """Return what a member is, as protobuf."""
    return _MEMBER_TO_WIRE[kind]


def membership_to_wire(membership: Membership) -> pb.Membership:
    """Return a membership's ids and kinds; addresses travel apart, in the address book."""
    members = [pb.GroupMember(id=member.id, kind=_MEMBER_TO_WIRE[member.kind]) for member in membership.members]
    return pb.Membership(members=members)


def membership_from_wire(wire: pb.Membership) -> Membership:
    """Undo `membership_to_wire`; raises InvalidMembership."""
    return Membership(tuple(Member(MemberId(each.id), _MEMBER_FROM_WIRE[each.kind]) for each in wire.members))


def entry_to_wire(entry: Entry) -> pb.LogEntry:
    """Return a log entry as protobuf."""
    return pb.LogEntry(index=entry.index, term=entry.term, kind=_KIND_TO_WIRE[entry.kind], data=entry.data)


def entry_from_wire(wire: pb.LogEntry) -> Entry:
    """Undo `entry_to_wire`; raises KeyError on an unknown kind."""
    return Entry(LogIndex(wire.index), Term(wire.term), _KIND_FROM_WIRE[wire.kind], wire.data)


def to_wire(message: raft.Message) -> pb.RaftMessage:
    """Return a message of the core as protobuf."""
    kind, encode = _ENCODERS[type(message)]
    return pb.RaftMessage(kind=kind, sender=message.sender, receiver=message.to, term=message.term, **encode(message))


def from_wire(wire: pb.RaftMessage) -> raft.Message:
    """Undo `to_wire`; raises MalformedRequest on what no member of this version says."""
    decode = _DECODERS.get(wire.kind)
    if decode is None:
        raise errors.MalformedRequest(f"Raft message kind {wire.kind} is not known here")
    try:
        message: raft.Message = decode(wire, MemberId(wire.sender), MemberId(wire.receiver), Term(wire.term))
    except (KeyError, ValueError) as error:
        raise errors.MalformedRequest(f"a Raft message of kind {wire.kind} makes no sense: {error}") from error
    return message


def all_from_wire(messages: Iterable[pb.RaftMessage]) -> list[raft.Message]:
    """Read several messages; raises MalformedRequest at the first bad one."""
    return [from_wire(message) for message in messages]


# ---------------------------------------------------------------------------------------------------- per message


def _base_fields(base: raft.BaseRecord | raft.Snapshot) -> dict[str, Any]:
    return {"index": base.index, "log_term": base.term, "membership": membership_to_wire(base.membership)}


_ENCODERS: dict[type, tuple[pb.RaftKind, Callable[[Any], dict[str, Any]]]] = {
    raft.RequestVote: (
        pb.RAFT_REQUEST_VOTE,
        lambda m: {"index": m.last_index, "log_term": m.last_term, "pre": m.pre_vote, "transfer": m.leader_transfer},
    ),
    raft.VoteReply: (
        pb.RAFT_VOTE_REPLY,
        lambda m: {"reject": not m.granted, "pre": m.pre_vote, "index": m.last_index, "log_term": m.last_term},
    ),
    raft.AppendEntries: (
        pb.RAFT_APPEND,
        lambda m: {
            "index": m.previous_index,
            "log_term": m.previous_term,
            "entries": [entry_to_wire(entry) for entry in m.entries],
            "commit": m.commit,
        },
    ),
    raft.AppendReply: (
        pb.RAFT_APPEND_REPLY,
        lambda m: {"reject": m.rejected, "index": m.index, "hint_index": m.hint_index, "hint_term": m.hint_term},
    ),
    raft.Heartbeat: (
        pb.RAFT_HEARTBEAT,
        lambda m: {"commit": m.commit, "context": m.read_round, "extra": [int(m.parked), m.witness_floor]},
    ),
    raft.HeartbeatReply: (pb.RAFT_HEARTBEAT_REPLY, lambda m: {"context": m.read_round}),
    raft.InstallSnapshot: (pb.RAFT_SNAPSHOT, lambda m: _base_fields(m.snapshot)),
    raft.SnapshotReply: (pb.RAFT_SNAPSHOT_REPLY, lambda m: {"index": m.index}),
    raft.InstallBase: (pb.RAFT_BASE, lambda m: _base_fields(m.base)),
    raft.BaseReply: (pb.RAFT_BASE_REPLY, lambda m: {"index": m.index}),
    raft.TimeoutNow: (pb.RAFT_TIMEOUT_NOW, lambda m: {}),
    raft.ReadIndexRequest: (pb.RAFT_READ_INDEX, lambda m: {"context": m.round}),
    raft.ReadIndexReply: (
        pb.RAFT_READ_INDEX_REPLY,
        lambda m: {"context": m.round, "index": m.index, "reject": m.refused},
    ),
}


def _heartbeat(w: pb.RaftMessage, sender: MemberId, to: MemberId, term: Term) -> raft.Heartbeat:
    parked, floor = w.extra
    return raft.Heartbeat(sender, to, term, LogIndex(w.commit), w.context, bool(parked), LogIndex(floor))


def _append(w: pb.RaftMessage, sender: MemberId, to: MemberId, term: Term) -> raft.AppendEntries:
    entries = [entry_from_wire(entry) for entry in w.entries]
    return raft.AppendEntries(sender, to, term, LogIndex(w.index), Term(w.log_term), entries, LogIndex(w.commit))


_DECODERS: dict[int, Callable[[pb.RaftMessage, MemberId, MemberId, Term], raft.Message]] = {
    pb.RAFT_REQUEST_VOTE: lambda w, s, t, term: raft.RequestVote(
        s, t, term, LogIndex(w.index), Term(w.log_term), w.pre, w.transfer
    ),
    pb.RAFT_VOTE_REPLY: lambda w, s, t, term: raft.VoteReply(
        s, t, term, not w.reject, w.pre, LogIndex(w.index), Term(w.log_term)
    ),
    pb.RAFT_APPEND: _append,
    pb.RAFT_APPEND_REPLY: lambda w, s, t, term: raft.AppendReply(
        s, t, term, w.reject, LogIndex(w.index), LogIndex(w.hint_index), Term(w.hint_term)
    ),
    pb.RAFT_HEARTBEAT: _heartbeat,
    pb.RAFT_HEARTBEAT_REPLY: lambda w, s, t, term: raft.HeartbeatReply(s, t, term, w.context),
    pb.RAFT_SNAPSHOT: lambda w, s, t, term: raft.InstallSnapshot(
        s, t, term, raft.Snapshot(LogIndex(w.index), Term(w.log_term), membership_from_wire(w.membership))
    ),
    pb.RAFT_SNAPSHOT_REPLY: lambda w, s, t, term: raft.SnapshotReply(s, t, term, LogIndex(w.index)),
    pb.RAFT_BASE: lambda w, s, t, term: raft.InstallBase(
        s, t, term, raft.BaseRecord(LogIndex(w.index), Term(w.log_term), membership_from_wire(w.membership))
    ),
    pb.RAFT_BASE_REPLY: lambda w, s, t, term: raft.BaseReply(s, t, term, LogIndex(w.index)),
    pb.RAFT_TIMEOUT_NOW: lambda w, s, t, term: raft.TimeoutNow(s, t, term),
    pb.RAFT_READ_INDEX: lambda w, s, t, term: raft.ReadIndexRequest(s, t, term, w.context),
    pb.RAFT_READ_INDEX_REPLY: lambda w, s, t, term: raft.ReadIndexReply(
        s, t, term, w.context, LogIndex(w.index), w.reject
    ),
}
