from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class LaneHello(_message.Message):
    __slots__ = ("oldest_version", "newest_version", "max_message_bytes", "max_payload_bytes", "stream_window", "max_calls", "software")
    OLDEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEWEST_VERSION_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    STREAM_WINDOW_FIELD_NUMBER: _ClassVar[int]
    MAX_CALLS_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    oldest_version: int
    newest_version: int
    max_message_bytes: int
    max_payload_bytes: int
    stream_window: int
    max_calls: int
    software: str
    def __init__(self, oldest_version: _Optional[int] = ..., newest_version: _Optional[int] = ..., max_message_bytes: _Optional[int] = ..., max_payload_bytes: _Optional[int] = ..., stream_window: _Optional[int] = ..., max_calls: _Optional[int] = ..., software: _Optional[str] = ...) -> None: ...
