from blockyard.proto import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ProbeRequest(_message.Message):
    __slots__ = ("body", "delay_ms", "error", "count")
    BODY_FIELD_NUMBER: _ClassVar[int]
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    delay_ms: int
    error: str
    count: int
    def __init__(self, body: _Optional[bytes] = ..., delay_ms: _Optional[int] = ..., error: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class ProbeReply(_message.Message):
    __slots__ = ("body", "index", "total_bytes")
    BODY_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    body: bytes
    index: int
    total_bytes: int
    def __init__(self, body: _Optional[bytes] = ..., index: _Optional[int] = ..., total_bytes: _Optional[int] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("total_bytes", "piece_bytes", "checksums")
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    PIECE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CHECKSUMS_FIELD_NUMBER: _ClassVar[int]
    total_bytes: int
    piece_bytes: int
    checksums: bool
    def __init__(self, total_bytes: _Optional[int] = ..., piece_bytes: _Optional[int] = ..., checksums: _Optional[bool] = ...) -> None: ...

class PullReply(_message.Message):
    __slots__ = ("offset", "page_bytes", "crc32c", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    PAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    page_bytes: int
    crc32c: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., page_bytes: _Optional[int] = ..., crc32c: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class PushRequest(_message.Message):
    __slots__ = ("crc32c", "data")
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    crc32c: int
    data: bytes
    def __init__(self, crc32c: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PushReply(_message.Message):
    __slots__ = ("received_bytes", "crc32c")
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    CRC32C_FIELD_NUMBER: _ClassVar[int]
    received_bytes: int
    crc32c: int
    def __init__(self, received_bytes: _Optional[int] = ..., crc32c: _Optional[int] = ...) -> None: ...
