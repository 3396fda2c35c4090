"""Written data becomes visible: commits to many files, small files put at once, and compacted chunks swapped in.

A block's bytes are on its storage nodes before a commit names it. A commit may name a block whose id the session
leased, or one that the chunk it writes to refers to already; so nobody can read a file by guessing its blocks' ids.
"""

from blockyard.metaserver.namespace import content, slices
from blockyard.metaserver.namespace.inodes import DOTS, add, close
from blockyard.metaserver.namespace.permissions import (
    APPEND_ONLY,
    EXECUTE,
    IMMUTABLE,
    WRITE,
    mode_without_privileges,
    require,
)
from blockyard.metaserver.namespace.slices import CHUNK_BYTES, Piece
from blockyard.metaserver.namespace.state import State, is_regular
from blockyard.metaserver.state import keys
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import (
    BadHandle,
    BlockyardError,
    Exists,
    InvalidArgument,
    IsDirectory,
    LeaseExpired,
    NotPermitted,
    to_detail,
)
from blockyard.proto.metadata_pb2 import (
    FILE_TYPE_DIRECTORY,
    FILE_TYPE_REGULAR,
    Attributes,
    CommitSlicesReply,
    CommitSlicesRequest,
    EntryReply,
    FileCommit,
    FileCommitted,
    PutFileRequest,
    ReplaceSlicesReply,
    ReplaceSlicesRequest,
    Slice,
)


def commit_slices(state: State, who: Caller, request: CommitSlicesRequest) -> CommitSlicesReply:
    """Add written data to files, each by itself all or nothing: a refused one carries its error in the reply."""
    files: list[FileCommitted] = []
    state.references.map_epoch = request.map_epoch
    for file in request.files:
        try:
            committed = _commit_file(state, who, file)
            state.commit()
        except BlockyardError as error:
            state.rollback()
            committed = FileCommitted(error=to_detail(error))
        files.append(committed)
        state.written.append((file.inode, committed.error.errno))
    return CommitSlicesReply(files=files)


def _commit_file(state: State, who: Caller, file: FileCommit) -> FileCommitted:
    inode = writable(state, who, file.inode, file.handle)
    if inode.flags & APPEND_ONLY and not file.append:
        raise NotPermitted(f"inode {inode.inode} is append-only")
    position = start = inode.size
    if file.slices or file.minimum_size > start:
        inode = record = _written(state, who, inode)
        if file.mtime_ns:
            record.mtime_ns = file.mtime_ns
        for piece in file.slices:
            if not file.append:
                position = piece.position
            _put(state, record, position, piece)
            position += piece.length
        if file.minimum_size > record.size:
            content.resize(state, record, file.minimum_size)
    if file.close and file.handle:
        close(state, file.handle)
    return FileCommitted(attributes=inode, position=start if file.append else 0)


def writable(state: State, who: Caller, number: int, handle: int) -> Attributes:
    """Return a regular file that the handle, or without one the caller, may write to."""
    inode = state.inode(number)
    if handle:
        if not state.open_files.held(handle, number, state.session).writes:
            raise BadHandle(f"handle {handle} was not opened for writing")
        if inode.flags & IMMUTABLE:
            raise NotPermitted(f"inode {number} is immutable")
    if inode.type == FILE_TYPE_DIRECTORY:
        raise IsDirectory(f"inode {number} is a directory")
    if not is_regular(inode):
        raise InvalidArgument(f"inode {number} is no regular file")
    if not handle:
        require(inode, who, WRITE)
    return inode


def _written(state: State, who: Caller, inode: Attributes) -> Attributes:
    """Return the record of a file whose content changes now, for further changes."""
    record = state.touch(inode.inode)
    record.mtime_ns = state.now
    record.mode = mode_without_privileges(inode, who)
    return record


def _put(state: State, record: Attributes, position: int, piece: Slice) -> None:
    block, length = piece.block, piece.length
    if block and not state.references.usable(state.session, block):
        _require_shared(state, record, position, length, block)
    content.write(state, record, position, length, block, piece.block_offset, piece.block_length)


def _require_shared(state: State, record: Attributes, position: int, length: int, block: int) -> None:
    """Raise unless the chunks written to refer to the block already."""
    first = position - position % CHUNK_BYTES
    for _, stored in content.chunk_rows(state, record.inode, first, position + length):
        if any(piece[2] == block for piece in stored):
            return
    raise LeaseExpired(f"block {block:#x} is not leased by session {state.session}")


def put_file(state: State, who: Caller, request: PutFileRequest) -> EntryReply:
    """Make a small file with its content in one change, or replace the content of the one that is there."""
    state.references.map_epoch = request.map_epoch
    parent = state.directory(request.parent)
    name = request.name
    if name not in DOTS and state.dentries.get((parent.inode, name)) is None:
        record = add(state, who, parent, name, FILE_TYPE_REGULAR, request.mode)
    else:
        record = _replaced(state, who, parent, request)
    for piece in request.slices:
        _put(state, record, piece.position, piece)
    if request.size > record.size:
        content.resize(state, record, request.size)
    return EntryReply(attributes=record)


def _replaced(state: State, who: Caller, parent: Attributes, request: PutFileRequest) -> Attributes:
    name = request.name
    require(parent, who, EXECUTE)
    if not request.replace:
        raise Exists(f"directory {parent.inode} already has an entry {name!r}")
    if name in DOTS:
        raise IsDirectory(f"{name!r} is a directory")
    found = state.child(parent.inode, name)
    if found.type == FILE_TYPE_DIRECTORY:
        raise IsDirectory(f"entry {name!r} of directory {parent.inode} is a directory")
    if not is_regular(found):
        raise Exists(f"entry {name!r} of directory {parent.inode} is no regular file")
    require(found, who, WRITE)
    if found.flags & APPEND_ONLY:
        raise NotPermitted(f"inode {found.inode} is append-only")
    state.subject = found.inode
    record = _written(state, who, found)
    content.resize(state, record, 0)
    return record


def replace_slices(state: State, who: Caller, request: ReplaceSlicesRequest) -> ReplaceSlicesReply:
    """Swap pieces of a chunk for others that read the same.

    What changed since the pieces were read stays as it is: newer pieces lie on top, and holes that were made stay
    holes. A swap after which less than half of the new pieces would be visible is refused. The version rises, so that
    readers fetch the new pieces; times do not change.
    """
    state.references.map_epoch = request.map_epoch
    inode = state.inodes.get(request.inode)
    if inode is None or not is_regular(inode):
        return ReplaceSlicesReply()
    base = request.chunk * CHUNK_BYTES
    row = state.tx.get(keys.chunk(inode.inode, request.chunk))
    old = slices.parse(row) if row else []
    expected = sorted(_piece(piece, base) for piece in request.expected)
    new = sorted(_piece(piece, base) for piece in request.replacement)
    covered = slices.spans(expected)
    if covered is None or covered != slices.spans(new):
        raise InvalidArgument("the replacement does not cover the bytes that it replaces, each once")
    unchanged = slices.same(old, expected)
    swapped, _ = slices.cut(new, unchanged)
    if not swapped or 2 * slices.bytes_of(swapped) < slices.bytes_of(new):
        return ReplaceSlicesReply()
    known = {piece[2] for piece in old}
    for piece in swapped:
        if piece[2] not in known and not state.references.usable(state.session, piece[2]):
            raise LeaseExpired(f"block {piece[2]:#x} is not leased by session {state.session}")
    _, kept = slices.cut(old, unchanged)
    record = state.edit(inode.inode)
    state.subject = inode.inode
    content.exchange(state, record, request.chunk, old, slices.joined([*kept, *swapped]))
    return ReplaceSlicesReply(replaced=True)


def _piece(piece: Slice, base: int) -> Piece:
    return piece.position - base, piece.length, piece.block, piece.block_offset, piece.block_length
