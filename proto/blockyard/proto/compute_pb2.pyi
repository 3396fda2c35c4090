from blockyard.proto import common_pb2 as _common_pb2
from blockyard.proto import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WORK_UNSPECIFIED: _ClassVar[WorkState]
    WORK_WAITING: _ClassVar[WorkState]
    WORK_RUNNING: _ClassVar[WorkState]
    WORK_DONE: _ClassVar[WorkState]
    WORK_FAILED: _ClassVar[WorkState]
    WORK_CANCELLED: _ClassVar[WorkState]

class TaskKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_UNSPECIFIED: _ClassVar[TaskKind]
    TASK_MAP: _ClassVar[TaskKind]
    TASK_REDUCE: _ClassVar[TaskKind]

class EdgeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EDGE_UNSPECIFIED: _ClassVar[EdgeKind]
    EDGE_NODE: _ClassVar[EdgeKind]
    EDGE_ALGORITHM: _ClassVar[EdgeKind]
    EDGE_APPLICATION: _ClassVar[EdgeKind]
    EDGE_TASK: _ClassVar[EdgeKind]
    EDGE_RUN: _ClassVar[EdgeKind]

class MessagePriority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_PROGRESS: _ClassVar[MessagePriority]
    PRIORITY_RESULT: _ClassVar[MessagePriority]
    PRIORITY_ALARM: _ClassVar[MessagePriority]
WORK_UNSPECIFIED: WorkState
WORK_WAITING: WorkState
WORK_RUNNING: WorkState
WORK_DONE: WorkState
WORK_FAILED: WorkState
WORK_CANCELLED: WorkState
TASK_UNSPECIFIED: TaskKind
TASK_MAP: TaskKind
TASK_REDUCE: TaskKind
EDGE_UNSPECIFIED: EdgeKind
EDGE_NODE: EdgeKind
EDGE_ALGORITHM: EdgeKind
EDGE_APPLICATION: EdgeKind
EDGE_TASK: EdgeKind
EDGE_RUN: EdgeKind
PRIORITY_PROGRESS: MessagePriority
PRIORITY_RESULT: MessagePriority
PRIORITY_ALARM: MessagePriority

class Counter(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("name", "code", "code_hash", "inputs", "output", "input_format", "output_format", "reducers", "parameters", "side_files", "max_attempts", "skip_limit", "attempt_timeout_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CODE_HASH_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    REDUCERS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SIDE_FILES_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    SKIP_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    code: str
    code_hash: bytes
    inputs: _containers.RepeatedScalarFieldContainer[str]
    output: str
    input_format: str
    output_format: str
    reducers: int
    parameters: str
    side_files: _containers.RepeatedScalarFieldContainer[str]
    max_attempts: int
    skip_limit: int
    attempt_timeout_ms: int
    def __init__(self, name: _Optional[str] = ..., code: _Optional[str] = ..., code_hash: _Optional[bytes] = ..., inputs: _Optional[_Iterable[str]] = ..., output: _Optional[str] = ..., input_format: _Optional[str] = ..., output_format: _Optional[str] = ..., reducers: _Optional[int] = ..., parameters: _Optional[str] = ..., side_files: _Optional[_Iterable[str]] = ..., max_attempts: _Optional[int] = ..., skip_limit: _Optional[int] = ..., attempt_timeout_ms: _Optional[int] = ...) -> None: ...

class SubmitJobRequest(_message.Message):
    __slots__ = ("caller", "request", "spec")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    spec: JobSpec
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ...) -> None: ...

class TaskStatus(_message.Message):
    __slots__ = ("index", "kind", "state", "attempts", "node", "local_bytes", "near_bytes", "remote_bytes", "started_ns", "ended_ns", "error")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    NEAR_BYTES_FIELD_NUMBER: _ClassVar[int]
    REMOTE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STARTED_NS_FIELD_NUMBER: _ClassVar[int]
    ENDED_NS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    index: int
    kind: TaskKind
    state: WorkState
    attempts: int
    node: str
    local_bytes: int
    near_bytes: int
    remote_bytes: int
    started_ns: int
    ended_ns: int
    error: str
    def __init__(self, index: _Optional[int] = ..., kind: _Optional[_Union[TaskKind, str]] = ..., state: _Optional[_Union[WorkState, str]] = ..., attempts: _Optional[int] = ..., node: _Optional[str] = ..., local_bytes: _Optional[int] = ..., near_bytes: _Optional[int] = ..., remote_bytes: _Optional[int] = ..., started_ns: _Optional[int] = ..., ended_ns: _Optional[int] = ..., error: _Optional[str] = ...) -> None: ...

class JobStatus(_message.Message):
    __slots__ = ("id", "spec", "state", "maps", "maps_done", "reduces", "reduces_done", "maps_reused", "counters", "submitted_ns", "ended_ns", "remaining_ms", "error", "tasks")
    ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    MAPS_DONE_FIELD_NUMBER: _ClassVar[int]
    REDUCES_FIELD_NUMBER: _ClassVar[int]
    REDUCES_DONE_FIELD_NUMBER: _ClassVar[int]
    MAPS_REUSED_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_NS_FIELD_NUMBER: _ClassVar[int]
    ENDED_NS_FIELD_NUMBER: _ClassVar[int]
    REMAINING_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    id: str
    spec: JobSpec
    state: WorkState
    maps: int
    maps_done: int
    reduces: int
    reduces_done: int
    maps_reused: int
    counters: _containers.RepeatedCompositeFieldContainer[Counter]
    submitted_ns: int
    ended_ns: int
    remaining_ms: int
    error: str
    tasks: _containers.RepeatedCompositeFieldContainer[TaskStatus]
    def __init__(self, id: _Optional[str] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., state: _Optional[_Union[WorkState, str]] = ..., maps: _Optional[int] = ..., maps_done: _Optional[int] = ..., reduces: _Optional[int] = ..., reduces_done: _Optional[int] = ..., maps_reused: _Optional[int] = ..., counters: _Optional[_Iterable[_Union[Counter, _Mapping]]] = ..., submitted_ns: _Optional[int] = ..., ended_ns: _Optional[int] = ..., remaining_ms: _Optional[int] = ..., error: _Optional[str] = ..., tasks: _Optional[_Iterable[_Union[TaskStatus, _Mapping]]] = ...) -> None: ...

class JobRequest(_message.Message):
    __slots__ = ("id", "tasks")
    ID_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    id: str
    tasks: bool
    def __init__(self, id: _Optional[str] = ..., tasks: _Optional[bool] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("state", "limit")
    STATE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    state: WorkState
    limit: int
    def __init__(self, state: _Optional[_Union[WorkState, str]] = ..., limit: _Optional[int] = ...) -> None: ...

class ListJobsReply(_message.Message):
    __slots__ = ("jobs",)
    JOBS_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[JobStatus]
    def __init__(self, jobs: _Optional[_Iterable[_Union[JobStatus, _Mapping]]] = ...) -> None: ...

class JobLogsRequest(_message.Message):
    __slots__ = ("id", "kind", "index", "follow")
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    id: str
    kind: TaskKind
    index: int
    follow: bool
    def __init__(self, id: _Optional[str] = ..., kind: _Optional[_Union[TaskKind, str]] = ..., index: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class JobLogLine(_message.Message):
    __slots__ = ("kind", "index", "attempt", "line")
    KIND_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    kind: TaskKind
    index: int
    attempt: int
    line: str
    def __init__(self, kind: _Optional[_Union[TaskKind, str]] = ..., index: _Optional[int] = ..., attempt: _Optional[int] = ..., line: _Optional[str] = ...) -> None: ...

class EdgeObject(_message.Message):
    __slots__ = ("kind", "name", "version", "spec", "status", "created_ns", "changed_ns")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    CHANGED_NS_FIELD_NUMBER: _ClassVar[int]
    kind: EdgeKind
    name: str
    version: int
    spec: str
    status: str
    created_ns: int
    changed_ns: int
    def __init__(self, kind: _Optional[_Union[EdgeKind, str]] = ..., name: _Optional[str] = ..., version: _Optional[int] = ..., spec: _Optional[str] = ..., status: _Optional[str] = ..., created_ns: _Optional[int] = ..., changed_ns: _Optional[int] = ...) -> None: ...

class ApplyEdgeRequest(_message.Message):
    __slots__ = ("caller", "request", "object", "dry_run")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    object: EdgeObject
    dry_run: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., object: _Optional[_Union[EdgeObject, _Mapping]] = ..., dry_run: _Optional[bool] = ...) -> None: ...

class EdgeRequest(_message.Message):
    __slots__ = ("kind", "name", "version")
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    kind: EdgeKind
    name: str
    version: int
    def __init__(self, kind: _Optional[_Union[EdgeKind, str]] = ..., name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class ListEdgeRequest(_message.Message):
    __slots__ = ("kind", "task", "limit", "after")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    kind: EdgeKind
    task: str
    limit: int
    after: str
    def __init__(self, kind: _Optional[_Union[EdgeKind, str]] = ..., task: _Optional[str] = ..., limit: _Optional[int] = ..., after: _Optional[str] = ...) -> None: ...

class ListEdgeReply(_message.Message):
    __slots__ = ("objects",)
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    objects: _containers.RepeatedCompositeFieldContainer[EdgeObject]
    def __init__(self, objects: _Optional[_Iterable[_Union[EdgeObject, _Mapping]]] = ...) -> None: ...

class EdgeMessage(_message.Message):
    __slots__ = ("id", "source", "type", "task", "run", "step", "rank", "sequence", "created_ns", "schema", "payload", "reference", "priority")
    ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    source: str
    type: str
    task: str
    run: str
    step: str
    rank: int
    sequence: int
    created_ns: int
    schema: str
    payload: bytes
    reference: str
    priority: MessagePriority
    def __init__(self, id: _Optional[str] = ..., source: _Optional[str] = ..., type: _Optional[str] = ..., task: _Optional[str] = ..., run: _Optional[str] = ..., step: _Optional[str] = ..., rank: _Optional[int] = ..., sequence: _Optional[int] = ..., created_ns: _Optional[int] = ..., schema: _Optional[str] = ..., payload: _Optional[bytes] = ..., reference: _Optional[str] = ..., priority: _Optional[_Union[MessagePriority, str]] = ...) -> None: ...

class EdgeReceipt(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, ids: _Optional[_Iterable[str]] = ...) -> None: ...

class EdgeMessagesRequest(_message.Message):
    __slots__ = ("after", "minimum", "task", "follow")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    after: str
    minimum: MessagePriority
    task: str
    follow: bool
    def __init__(self, after: _Optional[str] = ..., minimum: _Optional[_Union[MessagePriority, str]] = ..., task: _Optional[str] = ..., follow: _Optional[bool] = ...) -> None: ...

class AcknowledgeAlarmRequest(_message.Message):
    __slots__ = ("caller", "request", "id", "note")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    id: str
    note: str
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., id: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...
