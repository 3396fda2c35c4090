from blockyard.proto import metadata_pb2 as _metadata_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class KeepSessionsRequest(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, sessions: _Optional[_Iterable[int]] = ...) -> None: ...

class ExpireSessionsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExpireSessionsReply(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, sessions: _Optional[_Iterable[int]] = ...) -> None: ...

class CancelLockRequest(_message.Message):
    __slots__ = ("session", "sequence")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    session: int
    sequence: int
    def __init__(self, session: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class CancelLockReply(_message.Message):
    __slots__ = ("cancelled",)
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    cancelled: bool
    def __init__(self, cancelled: _Optional[bool] = ...) -> None: ...

class UnmarkChunkRequest(_message.Message):
    __slots__ = ("inode", "chunk", "row_crc32c")
    INODE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ROW_CRC32C_FIELD_NUMBER: _ClassVar[int]
    inode: int
    chunk: int
    row_crc32c: int
    def __init__(self, inode: _Optional[int] = ..., chunk: _Optional[int] = ..., row_crc32c: _Optional[int] = ...) -> None: ...

class AbandonBlockRequest(_message.Message):
    __slots__ = ("session", "block")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    session: int
    block: int
    def __init__(self, session: _Optional[int] = ..., block: _Optional[int] = ...) -> None: ...

class SessionRecord(_message.Message):
    __slots__ = ("client", "nonce", "term_ms", "opened_ns", "opened_ms", "seen_ms", "answered_below")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    TERM_MS_FIELD_NUMBER: _ClassVar[int]
    OPENED_NS_FIELD_NUMBER: _ClassVar[int]
    OPENED_MS_FIELD_NUMBER: _ClassVar[int]
    SEEN_MS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BELOW_FIELD_NUMBER: _ClassVar[int]
    client: str
    nonce: int
    term_ms: int
    opened_ns: int
    opened_ms: int
    seen_ms: int
    answered_below: int
    def __init__(self, client: _Optional[str] = ..., nonce: _Optional[int] = ..., term_ms: _Optional[int] = ..., opened_ns: _Optional[int] = ..., opened_ms: _Optional[int] = ..., seen_ms: _Optional[int] = ..., answered_below: _Optional[int] = ...) -> None: ...

class WaitingLock(_message.Message):
    __slots__ = ("lock", "sequence")
    LOCK_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    lock: _metadata_pb2.FileLock
    sequence: int
    def __init__(self, lock: _Optional[_Union[_metadata_pb2.FileLock, _Mapping]] = ..., sequence: _Optional[int] = ...) -> None: ...

class LocksRecord(_message.Message):
    __slots__ = ("held", "waiting")
    HELD_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[_metadata_pb2.FileLock]
    waiting: _containers.RepeatedCompositeFieldContainer[WaitingLock]
    def __init__(self, held: _Optional[_Iterable[_Union[_metadata_pb2.FileLock, _Mapping]]] = ..., waiting: _Optional[_Iterable[_Union[WaitingLock, _Mapping]]] = ...) -> None: ...

class MakeClusterRequest(_message.Message):
    __slots__ = ("cluster", "seed", "replicas", "write_min", "placement_groups", "scatter_width")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    WRITE_MIN_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_GROUPS_FIELD_NUMBER: _ClassVar[int]
    SCATTER_WIDTH_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    seed: int
    replicas: int
    write_min: int
    placement_groups: int
    scatter_width: int
    def __init__(self, cluster: _Optional[str] = ..., seed: _Optional[int] = ..., replicas: _Optional[int] = ..., write_min: _Optional[int] = ..., placement_groups: _Optional[int] = ..., scatter_width: _Optional[int] = ...) -> None: ...
