from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Actor(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTOR_UNSPECIFIED: _ClassVar[Actor]
    ACTOR_CALLER: _ClassVar[Actor]
    ACTOR_LIBRARY: _ClassVar[Actor]
    ACTOR_OPERATOR: _ClassVar[Actor]
    ACTOR_DEVELOPER: _ClassVar[Actor]
ACTOR_UNSPECIFIED: Actor
ACTOR_CALLER: Actor
ACTOR_LIBRARY: Actor
ACTOR_OPERATOR: Actor
ACTOR_DEVELOPER: Actor

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Caller(_message.Message):
    __slots__ = ("uid", "gid", "groups")
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    uid: int
    gid: int
    groups: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, uid: _Optional[int] = ..., gid: _Optional[int] = ..., groups: _Optional[_Iterable[int]] = ...) -> None: ...

class RequestId(_message.Message):
    __slots__ = ("session", "sequence", "answered_below")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BELOW_FIELD_NUMBER: _ClassVar[int]
    session: int
    sequence: int
    answered_below: int
    def __init__(self, session: _Optional[int] = ..., sequence: _Optional[int] = ..., answered_below: _Optional[int] = ...) -> None: ...

class Address(_message.Message):
    __slots__ = ("host", "lane_port", "grpc_port", "unix_path")
    HOST_FIELD_NUMBER: _ClassVar[int]
    LANE_PORT_FIELD_NUMBER: _ClassVar[int]
    GRPC_PORT_FIELD_NUMBER: _ClassVar[int]
    UNIX_PATH_FIELD_NUMBER: _ClassVar[int]
    host: str
    lane_port: int
    grpc_port: int
    unix_path: str
    def __init__(self, host: _Optional[str] = ..., lane_port: _Optional[int] = ..., grpc_port: _Optional[int] = ..., unix_path: _Optional[str] = ...) -> None: ...

class ErrorDetail(_message.Message):
    __slots__ = ("kind", "errno", "grpc_status", "definite", "message", "subject", "actor", "leader", "map_epoch", "retry_after_ms")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ERRNO_FIELD_NUMBER: _ClassVar[int]
    GRPC_STATUS_FIELD_NUMBER: _ClassVar[int]
    DEFINITE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    LEADER_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    errno: int
    grpc_status: int
    definite: bool
    message: str
    subject: str
    actor: Actor
    leader: Address
    map_epoch: int
    retry_after_ms: int
    def __init__(self, kind: _Optional[str] = ..., errno: _Optional[int] = ..., grpc_status: _Optional[int] = ..., definite: _Optional[bool] = ..., message: _Optional[str] = ..., subject: _Optional[str] = ..., actor: _Optional[_Union[Actor, str]] = ..., leader: _Optional[_Union[Address, _Mapping]] = ..., map_epoch: _Optional[int] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...
