from blockyard.proto import common_pb2 as _common_pb2
from blockyard.proto import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FileType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FILE_TYPE_UNSPECIFIED: _ClassVar[FileType]
    FILE_TYPE_REGULAR: _ClassVar[FileType]
    FILE_TYPE_DIRECTORY: _ClassVar[FileType]
    FILE_TYPE_SYMLINK: _ClassVar[FileType]
    FILE_TYPE_FIFO: _ClassVar[FileType]
    FILE_TYPE_SOCKET: _ClassVar[FileType]
    FILE_TYPE_CHARACTER: _ClassVar[FileType]
    FILE_TYPE_BLOCK: _ClassVar[FileType]

class AllocateMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ALLOCATE_RESERVE: _ClassVar[AllocateMode]
    ALLOCATE_KEEP_SIZE: _ClassVar[AllocateMode]
    ALLOCATE_PUNCH_HOLE: _ClassVar[AllocateMode]
    ALLOCATE_ZERO_RANGE: _ClassVar[AllocateMode]
    ALLOCATE_ZERO_KEEP_SIZE: _ClassVar[AllocateMode]

class LockKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOCK_UNLOCK: _ClassVar[LockKind]
    LOCK_SHARED: _ClassVar[LockKind]
    LOCK_EXCLUSIVE: _ClassVar[LockKind]
FILE_TYPE_UNSPECIFIED: FileType
FILE_TYPE_REGULAR: FileType
FILE_TYPE_DIRECTORY: FileType
FILE_TYPE_SYMLINK: FileType
FILE_TYPE_FIFO: FileType
FILE_TYPE_SOCKET: FileType
FILE_TYPE_CHARACTER: FileType
FILE_TYPE_BLOCK: FileType
ALLOCATE_RESERVE: AllocateMode
ALLOCATE_KEEP_SIZE: AllocateMode
ALLOCATE_PUNCH_HOLE: AllocateMode
ALLOCATE_ZERO_RANGE: AllocateMode
ALLOCATE_ZERO_KEEP_SIZE: AllocateMode
LOCK_UNLOCK: LockKind
LOCK_SHARED: LockKind
LOCK_EXCLUSIVE: LockKind

class Attributes(_message.Message):
    __slots__ = ("inode", "type", "mode", "uid", "gid", "nlink", "size", "rdev", "atime_ns", "mtime_ns", "ctime_ns", "birth_ns", "allocated", "version", "parent", "flags")
    INODE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    NLINK_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    RDEV_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    CTIME_NS_FIELD_NUMBER: _ClassVar[int]
    BIRTH_NS_FIELD_NUMBER: _ClassVar[int]
    ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    inode: int
    type: FileType
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    rdev: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    birth_ns: int
    allocated: int
    version: int
    parent: int
    flags: int
    def __init__(self, inode: _Optional[int] = ..., type: _Optional[_Union[FileType, str]] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., nlink: _Optional[int] = ..., size: _Optional[int] = ..., rdev: _Optional[int] = ..., atime_ns: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., ctime_ns: _Optional[int] = ..., birth_ns: _Optional[int] = ..., allocated: _Optional[int] = ..., version: _Optional[int] = ..., parent: _Optional[int] = ..., flags: _Optional[int] = ...) -> None: ...

class DirectoryEntry(_message.Message):
    __slots__ = ("name", "inode", "type", "cookie", "attributes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    COOKIE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    name: bytes
    inode: int
    type: FileType
    cookie: int
    attributes: Attributes
    def __init__(self, name: _Optional[bytes] = ..., inode: _Optional[int] = ..., type: _Optional[_Union[FileType, str]] = ..., cookie: _Optional[int] = ..., attributes: _Optional[_Union[Attributes, _Mapping]] = ...) -> None: ...

class Slice(_message.Message):
    __slots__ = ("position", "length", "block", "block_offset", "block_length")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    BLOCK_OFFSET_FIELD_NUMBER: _ClassVar[int]
    BLOCK_LENGTH_FIELD_NUMBER: _ClassVar[int]
    position: int
    length: int
    block: int
    block_offset: int
    block_length: int
    def __init__(self, position: _Optional[int] = ..., length: _Optional[int] = ..., block: _Optional[int] = ..., block_offset: _Optional[int] = ..., block_length: _Optional[int] = ...) -> None: ...

class FileCommit(_message.Message):
    __slots__ = ("inode", "handle", "slices", "append", "minimum_size", "mtime_ns", "close")
    INODE_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_SIZE_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    inode: int
    handle: int
    slices: _containers.RepeatedCompositeFieldContainer[Slice]
    append: bool
    minimum_size: int
    mtime_ns: int
    close: bool
    def __init__(self, inode: _Optional[int] = ..., handle: _Optional[int] = ..., slices: _Optional[_Iterable[_Union[Slice, _Mapping]]] = ..., append: _Optional[bool] = ..., minimum_size: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., close: _Optional[bool] = ...) -> None: ...

class FileCommitted(_message.Message):
    __slots__ = ("attributes", "position", "error")
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    attributes: Attributes
    position: int
    error: _common_pb2.ErrorDetail
    def __init__(self, attributes: _Optional[_Union[Attributes, _Mapping]] = ..., position: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("caller", "parent", "name")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    parent: int
    name: bytes
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class EntryReply(_message.Message):
    __slots__ = ("attributes", "handle")
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    attributes: Attributes
    handle: int
    def __init__(self, attributes: _Optional[_Union[Attributes, _Mapping]] = ..., handle: _Optional[int] = ...) -> None: ...

class WalkRequest(_message.Message):
    __slots__ = ("caller", "start", "names")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    start: int
    names: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., start: _Optional[int] = ..., names: _Optional[_Iterable[bytes]] = ...) -> None: ...

class WalkReply(_message.Message):
    __slots__ = ("found", "symlink_target", "error")
    FOUND_FIELD_NUMBER: _ClassVar[int]
    SYMLINK_TARGET_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    found: _containers.RepeatedCompositeFieldContainer[Attributes]
    symlink_target: bytes
    error: _common_pb2.ErrorDetail
    def __init__(self, found: _Optional[_Iterable[_Union[Attributes, _Mapping]]] = ..., symlink_target: _Optional[bytes] = ..., error: _Optional[_Union[_common_pb2.ErrorDetail, _Mapping]] = ...) -> None: ...

class GetAttributesRequest(_message.Message):
    __slots__ = ("caller", "inode")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    inode: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., inode: _Optional[int] = ...) -> None: ...

class AccessRequest(_message.Message):
    __slots__ = ("caller", "inode", "mask")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    inode: int
    mask: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., inode: _Optional[int] = ..., mask: _Optional[int] = ...) -> None: ...

class ReadDirectoryRequest(_message.Message):
    __slots__ = ("caller", "inode", "after", "limit", "plus")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    PLUS_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    inode: int
    after: int
    limit: int
    plus: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., inode: _Optional[int] = ..., after: _Optional[int] = ..., limit: _Optional[int] = ..., plus: _Optional[bool] = ...) -> None: ...

class ReadDirectoryReply(_message.Message):
    __slots__ = ("entries", "end")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[DirectoryEntry]
    end: bool
    def __init__(self, entries: _Optional[_Iterable[_Union[DirectoryEntry, _Mapping]]] = ..., end: _Optional[bool] = ...) -> None: ...

class ReadLinkRequest(_message.Message):
    __slots__ = ("caller", "inode")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    inode: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., inode: _Optional[int] = ...) -> None: ...

class ReadLinkReply(_message.Message):
    __slots__ = ("target",)
    TARGET_FIELD_NUMBER: _ClassVar[int]
    target: bytes
    def __init__(self, target: _Optional[bytes] = ...) -> None: ...

class GetXattrRequest(_message.Message):
    __slots__ = ("caller", "inode", "name")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    inode: int
    name: bytes
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., inode: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class GetXattrReply(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    def __init__(self, value: _Optional[bytes] = ...) -> None: ...

class ListXattrsRequest(_message.Message):
    __slots__ = ("caller", "inode")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    inode: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., inode: _Optional[int] = ...) -> None: ...

class ListXattrsReply(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, names: _Optional[_Iterable[bytes]] = ...) -> None: ...

class StatFilesystemRequest(_message.Message):
    __slots__ = ("caller",)
    CALLER_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ...) -> None: ...

class StatFilesystemReply(_message.Message):
    __slots__ = ("total_bytes", "free_bytes", "available_bytes", "inodes", "name_max")
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    INODES_FIELD_NUMBER: _ClassVar[int]
    NAME_MAX_FIELD_NUMBER: _ClassVar[int]
    total_bytes: int
    free_bytes: int
    available_bytes: int
    inodes: int
    name_max: int
    def __init__(self, total_bytes: _Optional[int] = ..., free_bytes: _Optional[int] = ..., available_bytes: _Optional[int] = ..., inodes: _Optional[int] = ..., name_max: _Optional[int] = ...) -> None: ...

class ReadSlicesRequest(_message.Message):
    __slots__ = ("caller", "inode", "offset", "length", "handle", "known_version")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    KNOWN_VERSION_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    inode: int
    offset: int
    length: int
    handle: int
    known_version: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., inode: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., handle: _Optional[int] = ..., known_version: _Optional[int] = ...) -> None: ...

class ReadSlicesReply(_message.Message):
    __slots__ = ("slices", "attributes", "unchanged", "next_offset", "crowded_chunks")
    SLICES_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    UNCHANGED_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CROWDED_CHUNKS_FIELD_NUMBER: _ClassVar[int]
    slices: _containers.RepeatedCompositeFieldContainer[Slice]
    attributes: Attributes
    unchanged: bool
    next_offset: int
    crowded_chunks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, slices: _Optional[_Iterable[_Union[Slice, _Mapping]]] = ..., attributes: _Optional[_Union[Attributes, _Mapping]] = ..., unchanged: _Optional[bool] = ..., next_offset: _Optional[int] = ..., crowded_chunks: _Optional[_Iterable[int]] = ...) -> None: ...

class CreateRequest(_message.Message):
    __slots__ = ("caller", "request", "parent", "name", "mode", "exclusive", "open_flags", "open")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    EXCLUSIVE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FLAGS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    parent: int
    name: bytes
    mode: int
    exclusive: bool
    open_flags: int
    open: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ..., mode: _Optional[int] = ..., exclusive: _Optional[bool] = ..., open_flags: _Optional[int] = ..., open: _Optional[bool] = ...) -> None: ...

class MakeDirectoryRequest(_message.Message):
    __slots__ = ("caller", "request", "parent", "name", "mode")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    parent: int
    name: bytes
    mode: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ..., mode: _Optional[int] = ...) -> None: ...

class MakeNodeRequest(_message.Message):
    __slots__ = ("caller", "request", "parent", "name", "type", "mode", "rdev")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RDEV_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    parent: int
    name: bytes
    type: FileType
    mode: int
    rdev: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ..., type: _Optional[_Union[FileType, str]] = ..., mode: _Optional[int] = ..., rdev: _Optional[int] = ...) -> None: ...

class CreateUnnamedRequest(_message.Message):
    __slots__ = ("caller", "request", "parent", "mode", "open_flags")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FLAGS_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    parent: int
    mode: int
    open_flags: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., parent: _Optional[int] = ..., mode: _Optional[int] = ..., open_flags: _Optional[int] = ...) -> None: ...

class SymlinkRequest(_message.Message):
    __slots__ = ("caller", "request", "parent", "name", "target")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    parent: int
    name: bytes
    target: bytes
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ..., target: _Optional[bytes] = ...) -> None: ...

class LinkRequest(_message.Message):
    __slots__ = ("caller", "request", "inode", "parent", "name")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    inode: int
    parent: int
    name: bytes
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., inode: _Optional[int] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class UnlinkRequest(_message.Message):
    __slots__ = ("caller", "request", "parent", "name")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    parent: int
    name: bytes
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class UnlinkReply(_message.Message):
    __slots__ = ("removed",)
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    removed: Attributes
    def __init__(self, removed: _Optional[_Union[Attributes, _Mapping]] = ...) -> None: ...

class RemoveDirectoryRequest(_message.Message):
    __slots__ = ("caller", "request", "parent", "name")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    parent: int
    name: bytes
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class RenameRequest(_message.Message):
    __slots__ = ("caller", "request", "parent", "name", "new_parent", "new_name", "no_replace", "exchange")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEW_PARENT_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    NO_REPLACE_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    parent: int
    name: bytes
    new_parent: int
    new_name: bytes
    no_replace: bool
    exchange: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ..., new_parent: _Optional[int] = ..., new_name: _Optional[bytes] = ..., no_replace: _Optional[bool] = ..., exchange: _Optional[bool] = ...) -> None: ...

class SetAttributesRequest(_message.Message):
    __slots__ = ("caller", "request", "inode", "mode", "uid", "gid", "size", "atime_ns", "mtime_ns", "atime_now", "mtime_now", "handle", "flags", "kill_privileges")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    ATIME_NS_FIELD_NUMBER: _ClassVar[int]
    MTIME_NS_FIELD_NUMBER: _ClassVar[int]
    ATIME_NOW_FIELD_NUMBER: _ClassVar[int]
    MTIME_NOW_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    KILL_PRIVILEGES_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    inode: int
    mode: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int
    atime_now: bool
    mtime_now: bool
    handle: int
    flags: int
    kill_privileges: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., inode: _Optional[int] = ..., mode: _Optional[int] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., size: _Optional[int] = ..., atime_ns: _Optional[int] = ..., mtime_ns: _Optional[int] = ..., atime_now: _Optional[bool] = ..., mtime_now: _Optional[bool] = ..., handle: _Optional[int] = ..., flags: _Optional[int] = ..., kill_privileges: _Optional[bool] = ...) -> None: ...

class SetXattrRequest(_message.Message):
    __slots__ = ("caller", "request", "inode", "name", "value", "create", "replace")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    inode: int
    name: bytes
    value: bytes
    create: bool
    replace: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., inode: _Optional[int] = ..., name: _Optional[bytes] = ..., value: _Optional[bytes] = ..., create: _Optional[bool] = ..., replace: _Optional[bool] = ...) -> None: ...

class RemoveXattrRequest(_message.Message):
    __slots__ = ("caller", "request", "inode", "name")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    inode: int
    name: bytes
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., inode: _Optional[int] = ..., name: _Optional[bytes] = ...) -> None: ...

class OpenRequest(_message.Message):
    __slots__ = ("caller", "request", "inode", "flags", "for_execution")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    FLAGS_FIELD_NUMBER: _ClassVar[int]
    FOR_EXECUTION_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    inode: int
    flags: int
    for_execution: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., inode: _Optional[int] = ..., flags: _Optional[int] = ..., for_execution: _Optional[bool] = ...) -> None: ...

class CloseRequest(_message.Message):
    __slots__ = ("caller", "request", "inode", "handle")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    inode: int
    handle: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., inode: _Optional[int] = ..., handle: _Optional[int] = ...) -> None: ...

class CommitSlicesRequest(_message.Message):
    __slots__ = ("caller", "request", "files", "map_epoch")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    files: _containers.RepeatedCompositeFieldContainer[FileCommit]
    map_epoch: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., files: _Optional[_Iterable[_Union[FileCommit, _Mapping]]] = ..., map_epoch: _Optional[int] = ...) -> None: ...

class CommitSlicesReply(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[FileCommitted]
    def __init__(self, files: _Optional[_Iterable[_Union[FileCommitted, _Mapping]]] = ...) -> None: ...

class PutFileRequest(_message.Message):
    __slots__ = ("caller", "request", "parent", "name", "mode", "slices", "size", "replace", "map_epoch")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SLICES_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    REPLACE_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    parent: int
    name: bytes
    mode: int
    slices: _containers.RepeatedCompositeFieldContainer[Slice]
    size: int
    replace: bool
    map_epoch: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ..., mode: _Optional[int] = ..., slices: _Optional[_Iterable[_Union[Slice, _Mapping]]] = ..., size: _Optional[int] = ..., replace: _Optional[bool] = ..., map_epoch: _Optional[int] = ...) -> None: ...

class AllocateRequest(_message.Message):
    __slots__ = ("caller", "request", "inode", "handle", "offset", "length", "mode")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    HANDLE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    inode: int
    handle: int
    offset: int
    length: int
    mode: AllocateMode
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., inode: _Optional[int] = ..., handle: _Optional[int] = ..., offset: _Optional[int] = ..., length: _Optional[int] = ..., mode: _Optional[_Union[AllocateMode, str]] = ...) -> None: ...

class CopyRangeRequest(_message.Message):
    __slots__ = ("caller", "request", "source", "source_offset", "target", "target_offset", "length", "source_handle", "target_handle")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_OFFSET_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    TARGET_OFFSET_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    SOURCE_HANDLE_FIELD_NUMBER: _ClassVar[int]
    TARGET_HANDLE_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    source: int
    source_offset: int
    target: int
    target_offset: int
    length: int
    source_handle: int
    target_handle: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., source: _Optional[int] = ..., source_offset: _Optional[int] = ..., target: _Optional[int] = ..., target_offset: _Optional[int] = ..., length: _Optional[int] = ..., source_handle: _Optional[int] = ..., target_handle: _Optional[int] = ...) -> None: ...

class CopyRangeReply(_message.Message):
    __slots__ = ("copied", "attributes")
    COPIED_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    copied: int
    attributes: Attributes
    def __init__(self, copied: _Optional[int] = ..., attributes: _Optional[_Union[Attributes, _Mapping]] = ...) -> None: ...

class ReplaceSlicesRequest(_message.Message):
    __slots__ = ("request", "inode", "chunk", "expected", "replacement", "map_epoch")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_FIELD_NUMBER: _ClassVar[int]
    REPLACEMENT_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    request: _common_pb2.RequestId
    inode: int
    chunk: int
    expected: _containers.RepeatedCompositeFieldContainer[Slice]
    replacement: _containers.RepeatedCompositeFieldContainer[Slice]
    map_epoch: int
    def __init__(self, request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., inode: _Optional[int] = ..., chunk: _Optional[int] = ..., expected: _Optional[_Iterable[_Union[Slice, _Mapping]]] = ..., replacement: _Optional[_Iterable[_Union[Slice, _Mapping]]] = ..., map_epoch: _Optional[int] = ...) -> None: ...

class ReplaceSlicesReply(_message.Message):
    __slots__ = ("replaced",)
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    replaced: bool
    def __init__(self, replaced: _Optional[bool] = ...) -> None: ...

class FileLock(_message.Message):
    __slots__ = ("owner", "kind", "start", "end", "pid", "flock", "session")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    FLOCK_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    owner: int
    kind: LockKind
    start: int
    end: int
    pid: int
    flock: bool
    session: int
    def __init__(self, owner: _Optional[int] = ..., kind: _Optional[_Union[LockKind, str]] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., pid: _Optional[int] = ..., flock: _Optional[bool] = ..., session: _Optional[int] = ...) -> None: ...

class SetLockRequest(_message.Message):
    __slots__ = ("caller", "request", "inode", "lock", "wait")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    inode: int
    lock: FileLock
    wait: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., inode: _Optional[int] = ..., lock: _Optional[_Union[FileLock, _Mapping]] = ..., wait: _Optional[bool] = ...) -> None: ...

class GetLockRequest(_message.Message):
    __slots__ = ("caller", "inode", "lock", "session")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    LOCK_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    inode: int
    lock: FileLock
    session: int
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., inode: _Optional[int] = ..., lock: _Optional[_Union[FileLock, _Mapping]] = ..., session: _Optional[int] = ...) -> None: ...

class GetLockReply(_message.Message):
    __slots__ = ("conflict",)
    CONFLICT_FIELD_NUMBER: _ClassVar[int]
    conflict: FileLock
    def __init__(self, conflict: _Optional[_Union[FileLock, _Mapping]] = ...) -> None: ...

class ReleaseLocksRequest(_message.Message):
    __slots__ = ("caller", "request", "inode", "owner", "flock")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    FLOCK_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    inode: int
    owner: int
    flock: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., inode: _Optional[int] = ..., owner: _Optional[int] = ..., flock: _Optional[bool] = ...) -> None: ...

class Operation(_message.Message):
    __slots__ = ("lookup", "get_attributes", "read_slices", "create", "make_directory", "make_node", "create_unnamed", "symlink", "link", "unlink", "remove_directory", "rename", "set_attributes", "set_xattr", "remove_xattr", "open", "close", "commit_slices", "put_file", "allocate", "copy_range", "replace_slices", "set_lock", "release_locks")
    LOOKUP_FIELD_NUMBER: _ClassVar[int]
    GET_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    READ_SLICES_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    MAKE_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    MAKE_NODE_FIELD_NUMBER: _ClassVar[int]
    CREATE_UNNAMED_FIELD_NUMBER: _ClassVar[int]
    SYMLINK_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    UNLINK_FIELD_NUMBER: _ClassVar[int]
    REMOVE_DIRECTORY_FIELD_NUMBER: _ClassVar[int]
    RENAME_FIELD_NUMBER: _ClassVar[int]
    SET_ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    SET_XATTR_FIELD_NUMBER: _ClassVar[int]
    REMOVE_XATTR_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_SLICES_FIELD_NUMBER: _ClassVar[int]
    PUT_FILE_FIELD_NUMBER: _ClassVar[int]
    ALLOCATE_FIELD_NUMBER: _ClassVar[int]
    COPY_RANGE_FIELD_NUMBER: _ClassVar[int]
    REPLACE_SLICES_FIELD_NUMBER: _ClassVar[int]
    SET_LOCK_FIELD_NUMBER: _ClassVar[int]
    RELEASE_LOCKS_FIELD_NUMBER: _ClassVar[int]
    lookup: LookupRequest
    get_attributes: GetAttributesRequest
    read_slices: ReadSlicesRequest
    create: CreateRequest
    make_directory: MakeDirectoryRequest
    make_node: MakeNodeRequest
    create_unnamed: CreateUnnamedRequest
    symlink: SymlinkRequest
    link: LinkRequest
    unlink: UnlinkRequest
    remove_directory: RemoveDirectoryRequest
    rename: RenameRequest
    set_attributes: SetAttributesRequest
    set_xattr: SetXattrRequest
    remove_xattr: RemoveXattrRequest
    open: OpenRequest
    close: CloseRequest
    commit_slices: CommitSlicesRequest
    put_file: PutFileRequest
    allocate: AllocateRequest
    copy_range: CopyRangeRequest
    replace_slices: ReplaceSlicesRequest
    set_lock: SetLockRequest
    release_locks: ReleaseLocksRequest
    def __init__(self, lookup: _Optional[_Union[LookupRequest, _Mapping]] = ..., get_attributes: _Optional[_Union[GetAttributesRequest, _Mapping]] = ..., read_slices: _Optional[_Union[ReadSlicesRequest, _Mapping]] = ..., create: _Optional[_Union[CreateRequest, _Mapping]] = ..., make_directory: _Optional[_Union[MakeDirectoryRequest, _Mapping]] = ..., make_node: _Optional[_Union[MakeNodeRequest, _Mapping]] = ..., create_unnamed: _Optional[_Union[CreateUnnamedRequest, _Mapping]] = ..., symlink: _Optional[_Union[SymlinkRequest, _Mapping]] = ..., link: _Optional[_Union[LinkRequest, _Mapping]] = ..., unlink: _Optional[_Union[UnlinkRequest, _Mapping]] = ..., remove_directory: _Optional[_Union[RemoveDirectoryRequest, _Mapping]] = ..., rename: _Optional[_Union[RenameRequest, _Mapping]] = ..., set_attributes: _Optional[_Union[SetAttributesRequest, _Mapping]] = ..., set_xattr: _Optional[_Union[SetXattrRequest, _Mapping]] = ..., remove_xattr: _Optional[_Union[RemoveXattrRequest, _Mapping]] = ..., open: _Optional[_Union[OpenRequest, _Mapping]] = ..., close: _Optional[_Union[CloseRequest, _Mapping]] = ..., commit_slices: _Optional[_Union[CommitSlicesRequest, _Mapping]] = ..., put_file: _Optional[_Union[PutFileRequest, _Mapping]] = ..., allocate: _Optional[_Union[AllocateRequest, _Mapping]] = ..., copy_range: _Optional[_Union[CopyRangeRequest, _Mapping]] = ..., replace_slices: _Optional[_Union[ReplaceSlicesRequest, _Mapping]] = ..., set_lock: _Optional[_Union[SetLockRequest, _Mapping]] = ..., release_locks: _Optional[_Union[ReleaseLocksRequest, _Mapping]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("error", "entry", "unlink", "read_slices", "commit_slices", "copy_range", "replace_slices", "done")
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    UNLINK_FIELD_NUMBER: _ClassVar[int]
    READ_SLICES_FIELD_NUMBER: _ClassVar[int]
    COMMIT_SLICES_FIELD_NUMBER: _ClassVar[int]
    COPY_RANGE_FIELD_NUMBER: _ClassVar[int]
    REPLACE_SLICES_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    error: _common_pb2.ErrorDetail
    entry: EntryReply
    unlink: UnlinkReply
    read_slices: ReadSlicesReply
    commit_slices: CommitSlicesReply
    copy_range: CopyRangeReply
    replace_slices: ReplaceSlicesReply
    done: _common_pb2.Empty
    def __init__(self, error: _Optional[_Union[_common_pb2.ErrorDetail, _Mapping]] = ..., entry: _Optional[_Union[EntryReply, _Mapping]] = ..., unlink: _Optional[_Union[UnlinkReply, _Mapping]] = ..., read_slices: _Optional[_Union[ReadSlicesReply, _Mapping]] = ..., commit_slices: _Optional[_Union[CommitSlicesReply, _Mapping]] = ..., copy_range: _Optional[_Union[CopyRangeReply, _Mapping]] = ..., replace_slices: _Optional[_Union[ReplaceSlicesReply, _Mapping]] = ..., done: _Optional[_Union[_common_pb2.Empty, _Mapping]] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("caller", "request", "operations", "stop_at_error")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    STOP_AT_ERROR_FIELD_NUMBER: _ClassVar[int]
    caller: _common_pb2.Caller
    request: _common_pb2.RequestId
    operations: _containers.RepeatedCompositeFieldContainer[Operation]
    stop_at_error: bool
    def __init__(self, caller: _Optional[_Union[_common_pb2.Caller, _Mapping]] = ..., request: _Optional[_Union[_common_pb2.RequestId, _Mapping]] = ..., operations: _Optional[_Iterable[_Union[Operation, _Mapping]]] = ..., stop_at_error: _Optional[bool] = ...) -> None: ...

class BatchReply(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("client", "nonce", "term_ms")
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    TERM_MS_FIELD_NUMBER: _ClassVar[int]
    client: str
    nonce: int
    term_ms: int
    def __init__(self, client: _Optional[str] = ..., nonce: _Optional[int] = ..., term_ms: _Optional[int] = ...) -> None: ...

class OpenSessionReply(_message.Message):
    __slots__ = ("session", "term_ms", "cluster", "window")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    TERM_MS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    WINDOW_FIELD_NUMBER: _ClassVar[int]
    session: int
    term_ms: int
    cluster: str
    window: int
    def __init__(self, session: _Optional[int] = ..., term_ms: _Optional[int] = ..., cluster: _Optional[str] = ..., window: _Optional[int] = ...) -> None: ...

class KeepSessionRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: int
    def __init__(self, session: _Optional[int] = ...) -> None: ...

class KeepSessionReply(_message.Message):
    __slots__ = ("map_epoch",)
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    map_epoch: int
    def __init__(self, map_epoch: _Optional[int] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: int
    def __init__(self, session: _Optional[int] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: int
    def __init__(self, session: _Optional[int] = ...) -> None: ...

class WatchEvent(_message.Message):
    __slots__ = ("inodes", "parents", "names", "map_epoch", "lost")
    INODES_FIELD_NUMBER: _ClassVar[int]
    PARENTS_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    MAP_EPOCH_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    inodes: _containers.RepeatedScalarFieldContainer[int]
    parents: _containers.RepeatedScalarFieldContainer[int]
    names: _containers.RepeatedScalarFieldContainer[bytes]
    map_epoch: int
    lost: bool
    def __init__(self, inodes: _Optional[_Iterable[int]] = ..., parents: _Optional[_Iterable[int]] = ..., names: _Optional[_Iterable[bytes]] = ..., map_epoch: _Optional[int] = ..., lost: _Optional[bool] = ...) -> None: ...

class OperationLogRequest(_message.Message):
    __slots__ = ("since_ns", "path_prefix", "uid", "follow", "limit")
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    PATH_PREFIX_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    since_ns: int
    path_prefix: bytes
    uid: int
    follow: bool
    limit: int
    def __init__(self, since_ns: _Optional[int] = ..., path_prefix: _Optional[bytes] = ..., uid: _Optional[int] = ..., follow: _Optional[bool] = ..., limit: _Optional[int] = ...) -> None: ...

class OperationRecord(_message.Message):
    __slots__ = ("index", "position", "time_ns", "operation", "uid", "gid", "session", "client", "inode", "parent", "name", "new_parent", "new_name", "errno", "path")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    INODE_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NEW_PARENT_FIELD_NUMBER: _ClassVar[int]
    NEW_NAME_FIELD_NUMBER: _ClassVar[int]
    ERRNO_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    index: int
    position: int
    time_ns: int
    operation: str
    uid: int
    gid: int
    session: int
    client: str
    inode: int
    parent: int
    name: bytes
    new_parent: int
    new_name: bytes
    errno: int
    path: bytes
    def __init__(self, index: _Optional[int] = ..., position: _Optional[int] = ..., time_ns: _Optional[int] = ..., operation: _Optional[str] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ..., session: _Optional[int] = ..., client: _Optional[str] = ..., inode: _Optional[int] = ..., parent: _Optional[int] = ..., name: _Optional[bytes] = ..., new_parent: _Optional[int] = ..., new_name: _Optional[bytes] = ..., errno: _Optional[int] = ..., path: _Optional[bytes] = ...) -> None: ...
