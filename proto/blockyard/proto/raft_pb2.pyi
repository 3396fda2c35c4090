from blockyard.proto import common_pb2 as _common_pb2
from blockyard.proto import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntryKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_COMMAND: _ClassVar[EntryKind]
    ENTRY_NOOP: _ClassVar[EntryKind]
    ENTRY_MEMBERSHIP: _ClassVar[EntryKind]

class MemberKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBER_DATA: _ClassVar[MemberKind]
    MEMBER_WITNESS: _ClassVar[MemberKind]
    MEMBER_LEARNER: _ClassVar[MemberKind]

class RaftKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RAFT_UNSPECIFIED: _ClassVar[RaftKind]
    RAFT_REQUEST_VOTE: _ClassVar[RaftKind]
    RAFT_VOTE_REPLY: _ClassVar[RaftKind]
    RAFT_APPEND: _ClassVar[RaftKind]
    RAFT_APPEND_REPLY: _ClassVar[RaftKind]
    RAFT_HEARTBEAT: _ClassVar[RaftKind]
    RAFT_HEARTBEAT_REPLY: _ClassVar[RaftKind]
    RAFT_SNAPSHOT: _ClassVar[RaftKind]
    RAFT_SNAPSHOT_REPLY: _ClassVar[RaftKind]
    RAFT_BASE: _ClassVar[RaftKind]
    RAFT_BASE_REPLY: _ClassVar[RaftKind]
    RAFT_TIMEOUT_NOW: _ClassVar[RaftKind]
    RAFT_READ_INDEX: _ClassVar[RaftKind]
    RAFT_READ_INDEX_REPLY: _ClassVar[RaftKind]
    RAFT_PROPOSE: _ClassVar[RaftKind]

class MemberRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNKNOWN: _ClassVar[MemberRole]
    ROLE_FOLLOWER: _ClassVar[MemberRole]
    ROLE_CANDIDATE: _ClassVar[MemberRole]
    ROLE_LEADER: _ClassVar[MemberRole]

class WitnessState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WITNESS_NONE: _ClassVar[WitnessState]
    WITNESS_PARKED: _ClassVar[WitnessState]
    WITNESS_ENGAGED: _ClassVar[WitnessState]

class MembershipAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEMBERSHIP_ADD: _ClassVar[MembershipAction]
    MEMBERSHIP_REMOVE: _ClassVar[MembershipAction]
    MEMBERSHIP_REPLACE: _ClassVar[MembershipAction]
ENTRY_COMMAND: EntryKind
ENTRY_NOOP: EntryKind
ENTRY_MEMBERSHIP: EntryKind
MEMBER_DATA: MemberKind
MEMBER_WITNESS: MemberKind
MEMBER_LEARNER: MemberKind
RAFT_UNSPECIFIED: RaftKind
RAFT_REQUEST_VOTE: RaftKind
RAFT_VOTE_REPLY: RaftKind
RAFT_APPEND: RaftKind
RAFT_APPEND_REPLY: RaftKind
RAFT_HEARTBEAT: RaftKind
RAFT_HEARTBEAT_REPLY: RaftKind
RAFT_SNAPSHOT: RaftKind
RAFT_SNAPSHOT_REPLY: RaftKind
RAFT_BASE: RaftKind
RAFT_BASE_REPLY: RaftKind
RAFT_TIMEOUT_NOW: RaftKind
RAFT_READ_INDEX: RaftKind
RAFT_READ_INDEX_REPLY: RaftKind
RAFT_PROPOSE: RaftKind
ROLE_UNKNOWN: MemberRole
ROLE_FOLLOWER: MemberRole
ROLE_CANDIDATE: MemberRole
ROLE_LEADER: MemberRole
WITNESS_NONE: WitnessState
WITNESS_PARKED: WitnessState
WITNESS_ENGAGED: WitnessState
MEMBERSHIP_ADD: MembershipAction
MEMBERSHIP_REMOVE: MembershipAction
MEMBERSHIP_REPLACE: MembershipAction

class LogEntry(_message.Message):
    __slots__ = ("index", "term", "kind", "data")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    kind: EntryKind
    data: bytes
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., kind: _Optional[_Union[EntryKind, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("method", "request", "inputs")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    method: int
    request: bytes
    inputs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, method: _Optional[int] = ..., request: _Optional[bytes] = ..., inputs: _Optional[_Iterable[int]] = ...) -> None: ...

class CommandBatch(_message.Message):
    __slots__ = ("time_ns", "commands", "session_clock_ms")
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    SESSION_CLOCK_MS_FIELD_NUMBER: _ClassVar[int]
    time_ns: int
    commands: _containers.RepeatedCompositeFieldContainer[Command]
    session_clock_ms: int
    def __init__(self, time_ns: _Optional[int] = ..., commands: _Optional[_Iterable[_Union[Command, _Mapping]]] = ..., session_clock_ms: _Optional[int] = ...) -> None: ...

class GroupMember(_message.Message):
    __slots__ = ("id", "kind", "address", "name")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    id: int
    kind: MemberKind
    address: _common_pb2.Address
    name: str
    def __init__(self, id: _Optional[int] = ..., kind: _Optional[_Union[MemberKind, str]] = ..., address: _Optional[_Union[_common_pb2.Address, _Mapping]] = ..., name: _Optional[str] = ...) -> None: ...

class Membership(_message.Message):
    __slots__ = ("members",)
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    members: _containers.RepeatedCompositeFieldContainer[GroupMember]
    def __init__(self, members: _Optional[_Iterable[_Union[GroupMember, _Mapping]]] = ...) -> None: ...

class HardStateRecord(_message.Message):
    __slots__ = ("term", "vote", "commit")
    TERM_FIELD_NUMBER: _ClassVar[int]
    VOTE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    term: int
    vote: int
    commit: int
    def __init__(self, term: _Optional[int] = ..., vote: _Optional[int] = ..., commit: _Optional[int] = ...) -> None: ...

class BaseRecordMessage(_message.Message):
    __slots__ = ("index", "term", "membership")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    index: int
    term: int
    membership: Membership
    def __init__(self, index: _Optional[int] = ..., term: _Optional[int] = ..., membership: _Optional[_Union[Membership, _Mapping]] = ...) -> None: ...

class DirectoryIdentity(_message.Message):
    __slots__ = ("cluster", "member", "incarnation", "format", "starts")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    member: int
    incarnation: int
    format: int
    starts: int
    def __init__(self, cluster: _Optional[str] = ..., member: _Optional[int] = ..., incarnation: _Optional[int] = ..., format: _Optional[int] = ..., starts: _Optional[int] = ...) -> None: ...

class RaftMessage(_message.Message):
    __slots__ = ("kind", "sender", "receiver", "term", "index", "log_term", "commit", "entries", "reject", "hint_index", "hint_term", "context", "pre", "transfer", "membership", "extra")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LOG_TERM_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    REJECT_FIELD_NUMBER: _ClassVar[int]
    HINT_INDEX_FIELD_NUMBER: _ClassVar[int]
    HINT_TERM_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    PRE_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    EXTRA_FIELD_NUMBER: _ClassVar[int]
    kind: RaftKind
    sender: int
    receiver: int
    term: int
    index: int
    log_term: int
    commit: int
    entries: _containers.RepeatedCompositeFieldContainer[LogEntry]
    reject: bool
    hint_index: int
    hint_term: int
    context: int
    pre: bool
    transfer: bool
    membership: Membership
    extra: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, kind: _Optional[_Union[RaftKind, str]] = ..., sender: _Optional[int] = ..., receiver: _Optional[int] = ..., term: _Optional[int] = ..., index: _Optional[int] = ..., log_term: _Optional[int] = ..., commit: _Optional[int] = ..., entries: _Optional[_Iterable[_Union[LogEntry, _Mapping]]] = ..., reject: _Optional[bool] = ..., hint_index: _Optional[int] = ..., hint_term: _Optional[int] = ..., context: _Optional[int] = ..., pre: _Optional[bool] = ..., transfer: _Optional[bool] = ..., membership: _Optional[_Union[Membership, _Mapping]] = ..., extra: _Optional[_Iterable[int]] = ...) -> None: ...

class StepRequest(_message.Message):
    __slots__ = ("cluster", "incarnation", "starts", "messages", "address_book", "receiver_incarnation", "receiver_starts")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_BOOK_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_INCARNATION_FIELD_NUMBER: _ClassVar[int]
    RECEIVER_STARTS_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    incarnation: int
    starts: int
    messages: _containers.RepeatedCompositeFieldContainer[RaftMessage]
    address_book: _containers.RepeatedCompositeFieldContainer[GroupMember]
    receiver_incarnation: int
    receiver_starts: int
    def __init__(self, cluster: _Optional[str] = ..., incarnation: _Optional[int] = ..., starts: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[RaftMessage, _Mapping]]] = ..., address_book: _Optional[_Iterable[_Union[GroupMember, _Mapping]]] = ..., receiver_incarnation: _Optional[int] = ..., receiver_starts: _Optional[int] = ...) -> None: ...

class StepReply(_message.Message):
    __slots__ = ("messages", "incarnation", "starts", "nearly_full")
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    STARTS_FIELD_NUMBER: _ClassVar[int]
    NEARLY_FULL_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[RaftMessage]
    incarnation: int
    starts: int
    nearly_full: bool
    def __init__(self, messages: _Optional[_Iterable[_Union[RaftMessage, _Mapping]]] = ..., incarnation: _Optional[int] = ..., starts: _Optional[int] = ..., nearly_full: _Optional[bool] = ...) -> None: ...

class SnapshotPart(_message.Message):
    __slots__ = ("base", "cluster", "file", "offset", "crc32c", "data", "last", "context")
    BASE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    base: BaseRecordMessage
    cluster: str
    file: str
    offset: int
    crc32c: int
    data: bytes
    last: bool
    context: int
    def __init__(self, base: _Optional[_Union[BaseRecordMessage, _Mapping]] = ..., cluster: _Optional[str] = ..., file: _Optional[str] = ..., offset: _Optional[int] = ..., crc32c: _Optional[int] = ..., data: _Optional[bytes] = ..., last: _Optional[bool] = ..., context: _Optional[int] = ...) -> None: ...

class MemberStatus(_message.Message):
    __slots__ = ("member", "role", "match_index", "lag_entries", "silent_ms", "reachable")
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    MATCH_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAG_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    SILENT_MS_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    member: GroupMember
    role: MemberRole
    match_index: int
    lag_entries: int
    silent_ms: int
    reachable: bool
    def __init__(self, member: _Optional[_Union[GroupMember, _Mapping]] = ..., role: _Optional[_Union[MemberRole, str]] = ..., match_index: _Optional[int] = ..., lag_entries: _Optional[int] = ..., silent_ms: _Optional[int] = ..., reachable: _Optional[bool] = ...) -> None: ...

class MetaStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MetaStatusReply(_message.Message):
    __slots__ = ("cluster", "member", "role", "term", "leader", "first_index", "last_index", "commit_index", "applied_index", "members", "witness", "last_failover_ns", "last_failover_ms", "inodes", "sessions", "free_bytes", "read_only", "state_hash", "version")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    LAST_INDEX_FIELD_NUMBER: _ClassVar[int]
    COMMIT_INDEX_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    MEMBERS_FIELD_NUMBER: _ClassVar[int]
    WITNESS_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILOVER_NS_FIELD_NUMBER: _ClassVar[int]
    LAST_FAILOVER_MS_FIELD_NUMBER: _ClassVar[int]
    INODES_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    READ_ONLY_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    member: int
    role: MemberRole
    term: int
    leader: int
    first_index: int
    last_index: int
    commit_index: int
    applied_index: int
    members: _containers.RepeatedCompositeFieldContainer[MemberStatus]
    witness: WitnessState
    last_failover_ns: int
    last_failover_ms: int
    inodes: int
    sessions: int
    free_bytes: int
    read_only: bool
    state_hash: int
    version: str
    def __init__(self, cluster: _Optional[str] = ..., member: _Optional[int] = ..., role: _Optional[_Union[MemberRole, str]] = ..., term: _Optional[int] = ..., leader: _Optional[int] = ..., first_index: _Optional[int] = ..., last_index: _Optional[int] = ..., commit_index: _Optional[int] = ..., applied_index: _Optional[int] = ..., members: _Optional[_Iterable[_Union[MemberStatus, _Mapping]]] = ..., witness: _Optional[_Union[WitnessState, str]] = ..., last_failover_ns: _Optional[int] = ..., last_failover_ms: _Optional[int] = ..., inodes: _Optional[int] = ..., sessions: _Optional[int] = ..., free_bytes: _Optional[int] = ..., read_only: _Optional[bool] = ..., state_hash: _Optional[int] = ..., version: _Optional[str] = ...) -> None: ...

class TransferRequest(_message.Message):
    __slots__ = ("member",)
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    member: int
    def __init__(self, member: _Optional[int] = ...) -> None: ...

class ChangeMembershipRequest(_message.Message):
    __slots__ = ("action", "member", "replaces")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    MEMBER_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    action: MembershipAction
    member: GroupMember
    replaces: int
    def __init__(self, action: _Optional[_Union[MembershipAction, str]] = ..., member: _Optional[_Union[GroupMember, _Mapping]] = ..., replaces: _Optional[int] = ...) -> None: ...

class ChangeMembershipReply(_message.Message):
    __slots__ = ("membership",)
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    membership: Membership
    def __init__(self, membership: _Optional[_Union[Membership, _Mapping]] = ...) -> None: ...

class TakeSnapshotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class TakeSnapshotReply(_message.Message):
    __slots__ = ("index", "bytes")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    index: int
    bytes: int
    def __init__(self, index: _Optional[int] = ..., bytes: _Optional[int] = ...) -> None: ...

class BackupRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MetaFsckRequest(_message.Message):
    __slots__ = ("hash",)
    HASH_FIELD_NUMBER: _ClassVar[int]
    hash: bool
    def __init__(self, hash: _Optional[bool] = ...) -> None: ...

class MetaFsckFinding(_message.Message):
    __slots__ = ("kind", "inode", "message")
    KIND_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    inode: int
    message: str
    def __init__(self, kind: _Optional[str] = ..., inode: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class MetaFsckReply(_message.Message):
    __slots__ = ("inodes", "dentries", "slices", "findings", "done", "applied_index", "state_hash")
    INODES_FIELD_NUMBER: _ClassVar[int]
    DENTRIES_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_INDEX_FIELD_NUMBER: _ClassVar[int]
    STATE_HASH_FIELD_NUMBER: _ClassVar[int]
    inodes: int
    dentries: int
    slices: int
    findings: _containers.RepeatedCompositeFieldContainer[MetaFsckFinding]
    done: bool
    applied_index: int
    state_hash: int
    def __init__(self, inodes: _Optional[int] = ..., dentries: _Optional[int] = ..., slices: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[MetaFsckFinding, _Mapping]]] = ..., done: _Optional[bool] = ..., applied_index: _Optional[int] = ..., state_hash: _Optional[int] = ...) -> None: ...
