"""What a request must be before it is worth agreeing on: a pure check of its shape, with no look at any state.

The leader checks before it proposes, and every member checks again when it applies, so operations may rely on it.
Names that POSIX gives an errno of its own (too long, `.` as a new name) are checked in the same place.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from blockyard.metaserver.namespace.content import FILE_BYTES_MAX
from blockyard.metaserver.namespace.directories import PAGE_ENTRIES_MAX
from blockyard.metaserver.namespace.lock_ranges import LAST_BYTE
from blockyard.metaserver.namespace.slices import BLOCK_BYTES, CHUNK_BYTES
from blockyard.proto.errors import FileTooBig, InvalidArgument, NameTooLong, NotFound
from blockyard.proto.metadata_pb2 import (
    AccessRequest,
    AllocateRequest,
    BatchRequest,
    CommitSlicesRequest,
    CopyRangeRequest,
    CreateRequest,
    CreateUnnamedRequest,
    FileCommit,
    GetLockRequest,
    LinkRequest,
    LookupRequest,
    MakeDirectoryRequest,
    MakeNodeRequest,
    OpenRequest,
    OpenSessionRequest,
    PutFileRequest,
    ReadDirectoryRequest,
    ReadSlicesRequest,
    RemoveDirectoryRequest,
    RenameRequest,
    ReplaceSlicesRequest,
    SetAttributesRequest,
    SetLockRequest,
    Slice,
    SymlinkRequest,
    UnlinkRequest,
    WalkRequest,
)

NAME_BYTES_MAX: Final = 255
TARGET_BYTES_MAX: Final = 4_095
WALK_NAMES_MAX: Final = 4_096
FILES_PER_COMMIT: Final = 10_000
SLICES_PER_COMMIT: Final = 100_000
OPERATIONS_PER_BATCH: Final = 10_000
GROUPS_MAX: Final = 65_536
CLIENT_BYTES_MAX: Final = 1_024
SIZE_MAX: Final = 2**63 - 1

_NODE_TYPES: Final = range(1, 8)


def name(value: bytes) -> None:
    """Raise unless it may be a name: 1 to 255 bytes without `/` and NUL."""
    length = len(value)
    if length > NAME_BYTES_MAX:
        raise NameTooLong(f"a name has at most {NAME_BYTES_MAX} bytes, not {length}")
    if length == 0:
        raise NotFound("the name is empty")
    if b"/" in value or b"\0" in value:
        raise InvalidArgument(f"the name {value!r} holds a `/` or NUL")


def mode(value: int) -> None:
    """Raise unless it is permission bits with setuid, setgid and sticky."""
    if value > 0o7777:
        raise InvalidArgument(f"mode {value:o} has bits above 7777")


def _id(value: int) -> None:
    if value == 0xFFFFFFFF:
        raise InvalidArgument("user and group ids end at 4294967294")


def _size(value: int) -> None:
    if value > SIZE_MAX:
        raise InvalidArgument(f"size {value} is negative")


def _slice(piece: Slice, placed: bool) -> None:
    length = piece.length
    if not 1 <= length <= CHUNK_BYTES:
        raise InvalidArgument(f"a slice of {length} bytes: it has 1 to {CHUNK_BYTES}")
    if piece.block:
        if not piece.block_offset + length <= piece.block_length <= BLOCK_BYTES:
            raise InvalidArgument(
                f"slice [{piece.block_offset}, +{length}) leaves its block of {piece.block_length} bytes"
            )
    elif piece.block_offset or piece.block_length:
        raise InvalidArgument("a hole has no place in a block")
    if not placed:
        return
    position = piece.position
    if position > SIZE_MAX:
        raise InvalidArgument(f"position {position} is negative")
    if position % CHUNK_BYTES + length > CHUNK_BYTES:
        raise InvalidArgument(f"slice [{position}, +{length}) crosses a border between chunks")


def _named(request: Any) -> None:
    name(request.name)


def _made(request: Any) -> None:
    value = request.name
    if not 0 < len(value) <= NAME_BYTES_MAX or b"/" in value or b"\0" in value:
        name(value)
    if request.mode > 0o7777:
        mode(request.mode)


def _make_node(request: MakeNodeRequest) -> None:
    _made(request)
    if request.type not in _NODE_TYPES:
        raise InvalidArgument(f"type {request.type} is none of a node")


def _create_unnamed(request: CreateUnnamedRequest) -> None:
    mode(request.mode)


def _symlink(request: SymlinkRequest) -> None:
    name(request.name)
    if len(request.target) > TARGET_BYTES_MAX:
        raise NameTooLong(f"a symlink's target has at most {TARGET_BYTES_MAX} bytes, not {len(request.target)}")
    if not request.target:
        raise NotFound("the target is empty")
    if b"\0" in request.target:
        raise InvalidArgument("the target holds a NUL")


def _rename(request: RenameRequest) -> None:
    name(request.name)
    name(request.new_name)


def _set_attributes(request: SetAttributesRequest) -> None:
    mode(request.mode)
    _size(request.size)
    _id(request.uid)
    _id(request.gid)


def _file(file: FileCommit) -> None:
    placed = not file.append
    for piece in file.slices:
        _slice(piece, placed)
    _size(file.minimum_size)


def _commit_slices(request: CommitSlicesRequest) -> None:
    files = request.files
    if len(files) > FILES_PER_COMMIT:
        raise InvalidArgument(f"{len(files)} files in one commit; the limit is {FILES_PER_COMMIT}")
    count = 0
    for file in files:
        count += len(file.slices)
        _file(file)
    if count > SLICES_PER_COMMIT:
        raise InvalidArgument(f"{count} slices in one commit; the limit is {SLICES_PER_COMMIT}")


def _put_file(request: PutFileRequest) -> None:
    _made(request)
    _size(request.size)
    if len(request.slices) > SLICES_PER_COMMIT:
        raise InvalidArgument(f"{len(request.slices)} slices in one file; the limit is {SLICES_PER_COMMIT}")
    for piece in request.slices:
        _slice(piece, True)
        if piece.position + piece.length > request.size:
            raise InvalidArgument(f"slice [{piece.position}, +{piece.length}) lies beyond the size {request.size}")


def _replace_slices(request: ReplaceSlicesRequest) -> None:
    if not request.expected or not request.replacement:
        raise InvalidArgument("nothing to replace, or nothing to replace it with")
    if len(request.expected) + len(request.replacement) > SLICES_PER_COMMIT:
        raise InvalidArgument(f"the limit is {SLICES_PER_COMMIT} slices")
    for piece in (*request.expected, *request.replacement):
        _slice(piece, True)
        if piece.block == 0 or piece.position // CHUNK_BYTES != request.chunk:
            raise InvalidArgument(f"slice at {piece.position} is a hole, or not of chunk {request.chunk}")


def _allocate(request: AllocateRequest) -> None:
    if request.length == 0 or request.length > SIZE_MAX or request.offset > SIZE_MAX:
        raise InvalidArgument(f"range [{request.offset}, +{request.length}) is empty or negative")
    if request.offset + request.length > FILE_BYTES_MAX:
        raise FileTooBig(f"the range ends above {FILE_BYTES_MAX}")
    if request.mode not in range(5):
        raise InvalidArgument(f"mode {request.mode} of Allocate is not known")


def _copy_range(request: CopyRangeRequest) -> None:
    if max(request.source_offset, request.target_offset, request.length) > SIZE_MAX:
        raise InvalidArgument("an offset or the length is negative")


def _lock(request: SetLockRequest | GetLockRequest) -> None:
    lock = request.lock
    if lock.kind not in range(3):
        raise InvalidArgument(f"kind {lock.kind} of a lock is not known")
    if not lock.flock and not lock.start <= lock.end <= LAST_BYTE:
        raise InvalidArgument(f"lock [{lock.start}, {lock.end}] is empty or ends above {LAST_BYTE}")


def _walk(request: WalkRequest) -> None:
    if len(request.names) > WALK_NAMES_MAX:
        raise InvalidArgument(f"{len(request.names)} names in one walk; the limit is {WALK_NAMES_MAX}")
    for one in request.names:
        name(one)


def _read_directory(request: ReadDirectoryRequest) -> None:
    if request.limit > PAGE_ENTRIES_MAX:
        raise InvalidArgument(f"{request.limit} entries in one page; the limit is {PAGE_ENTRIES_MAX}")
    if request.after >= SIZE_MAX:
        raise InvalidArgument(f"cookie {request.after} is none")


def _read_slices(request: ReadSlicesRequest) -> None:
    _size(request.offset)
    _size(request.length)


def _access(request: AccessRequest) -> None:
    if request.mask > 7:
        raise InvalidArgument(f"mask {request.mask} has bits above read, write and execute")


def _open_session(request: OpenSessionRequest) -> None:
    if len(request.client.encode()) > CLIENT_BYTES_MAX:
        raise InvalidArgument(f"the client's name has more than {CLIENT_BYTES_MAX} bytes")


def _batch(request: BatchRequest) -> None:
    if len(request.operations) > OPERATIONS_PER_BATCH:
        raise InvalidArgument(f"{len(request.operations)} operations; the limit is {OPERATIONS_PER_BATCH}")
    for operation in request.operations:
        if operation.WhichOneof("operation") is None:
            raise InvalidArgument("an operation of the batch is empty")


_CHECKS: Final[dict[type, Callable[[Any], None]]] = {
    LookupRequest: _named,
    WalkRequest: _walk,
    AccessRequest: _access,
    ReadDirectoryRequest: _read_directory,
    ReadSlicesRequest: _read_slices,
    GetLockRequest: _lock,
    CreateRequest: _made,
    MakeDirectoryRequest: _made,
    MakeNodeRequest: _make_node,
    CreateUnnamedRequest: _create_unnamed,
    SymlinkRequest: _symlink,
    LinkRequest: _named,
    UnlinkRequest: _named,
    RemoveDirectoryRequest: _named,
    RenameRequest: _rename,
    SetAttributesRequest: _set_attributes,
    CommitSlicesRequest: _commit_slices,
    PutFileRequest: _put_file,
    ReplaceSlicesRequest: _replace_slices,
    AllocateRequest: _allocate,
    CopyRangeRequest: _copy_range,
    SetLockRequest: _lock,
    OpenSessionRequest: _open_session,
    BatchRequest: _batch,
    OpenRequest: lambda request: None,
}


def shape(request: Any) -> None:
    """Raise a definite error when the request can never be granted, whatever the state is.

    Every check but those of session numbers: see `StateMachine.validate`. In a batch each operation is checked when it
    is carried out, so that one bad operation refuses itself only.
    """
    check = _CHECKS.get(type(request))
    if check is not None:
        check(request)


def check_of(request_type: type) -> Callable[[Any], None] | None:
    """Return the check of a type of request, or None when every message of it will do."""
    return _CHECKS.get(request_type)


def caller(groups: Iterable[int]) -> None:
    """Raise when a caller has too many groups."""
    if sum(1 for _ in groups) > GROUPS_MAX:
        raise InvalidArgument(f"a caller has at most {GROUPS_MAX} groups")
