"""Files and other nodes: making them, opening and closing them."""

from typing import Final

from blockyard.metaserver.namespace import content
from blockyard.metaserver.namespace.inodes import DOTS, absent, add, close
from blockyard.metaserver.namespace.open_files import HANDLES_PER_SESSION, OpenFile
from blockyard.metaserver.namespace.open_flags import (
    O_ACCMODE,
    O_APPEND,
    O_EXCL,
    O_NOATIME,
    O_RDONLY,
    O_RDWR,
    O_TMPFILE,
    O_TRUNC,
    O_WRONLY,
)
from blockyard.metaserver.namespace.permissions import (
    APPEND_ONLY,
    EXECUTE,
    READ,
    WRITE,
    inherited,
    is_owner,
    mode_without_privileges,
    require,
    require_insertion,
)
from blockyard.metaserver.namespace.state import NEXT_HANDLE, State, entry_reply
from blockyard.metaserver.state import keys
from blockyard.proto.common_pb2 import Caller, Empty
from blockyard.proto.errors import (
    Exists,
    InvalidArgument,
    IsDirectory,
    NoSuchOffset,
    NotPermitted,
    PermissionDenied,
    TooManyOpenFiles,
    TooManySymlinks,
)
from blockyard.proto.metadata_pb2 import (
    FILE_TYPE_BLOCK,
    FILE_TYPE_CHARACTER,
    FILE_TYPE_DIRECTORY,
    FILE_TYPE_REGULAR,
    FILE_TYPE_SYMLINK,
    Attributes,
    CloseRequest,
    CreateRequest,
    CreateUnnamedRequest,
    EntryReply,
    MakeNodeRequest,
    OpenRequest,
    SymlinkRequest,
)

_DEVICES: Final = (FILE_TYPE_CHARACTER, FILE_TYPE_BLOCK)
_RIGHTS: Final = {O_RDONLY: READ, O_WRONLY: WRITE, O_RDWR: READ | WRITE, O_ACCMODE: READ | WRITE}
_UNLINKABLE: Final = O_TMPFILE | O_EXCL


def create(state: State, who: Caller, request: CreateRequest) -> EntryReply:
    """open(2) with O_CREAT: make a regular file, or open the one that is there."""
    parent = state.directory(request.parent)
    name = request.name
    entry = state.dentries.get((parent.inode, name))
    if entry is not None or name in DOTS:
        require(parent, who, EXECUTE)
        if request.exclusive:
            raise Exists(f"directory {parent.inode} already has an entry {name!r}")
        if name in DOTS:
            raise IsDirectory(f"{name!r} is a directory")
        return _open_existing(state, who, request, state.child(parent.inode, name))
    record = add(state, who, parent, name, FILE_TYPE_REGULAR, request.mode)
    if not request.open:
        return entry_reply(record)
    return EntryReply(attributes=record, handle=_new_handle(state, record.inode, request.open_flags))


def _open_existing(state: State, who: Caller, request: CreateRequest, found: Attributes) -> EntryReply:
    if found.type == FILE_TYPE_DIRECTORY:
        raise IsDirectory(f"entry {request.name!r} of directory {request.parent} is a directory")
    if found.type == FILE_TYPE_SYMLINK:
        raise TooManySymlinks(f"entry {request.name!r} of directory {request.parent} is a symlink; follow it first")
    if not request.open or found.type != FILE_TYPE_REGULAR:  # fifos, sockets and devices open at the client
        return EntryReply(attributes=found)
    return open_inode(state, who, found, request.open_flags, READ)


def make_node(state: State, who: Caller, request: MakeNodeRequest) -> EntryReply:
    """mknod(2)."""
    parent = state.directory(request.parent)
    kind = request.type
    if kind == FILE_TYPE_DIRECTORY:
        raise NotPermitted("mknod does not make directories")
    if kind == FILE_TYPE_SYMLINK:
        raise InvalidArgument("mknod does not make symlinks")
    require(parent, who, EXECUTE)
    absent(state, parent, request.name)
    require_insertion(parent, who)
    if kind in _DEVICES and who.uid != 0:
        raise NotPermitted("only root makes devices")
    rdev = request.rdev if kind in _DEVICES else 0
    return EntryReply(attributes=add(state, who, parent, request.name, kind, request.mode, rdev))


def create_unnamed(state: State, who: Caller, request: CreateUnnamedRequest) -> EntryReply:
    """open(2) with O_TMPFILE: a file that lives while it is open, or until it is linked."""
    parent = state.directory(request.parent)
    flags = request.open_flags
    if flags & O_ACCMODE not in (O_WRONLY, O_RDWR):
        raise InvalidArgument("an unnamed file must be opened for writing")
    require_insertion(parent, who)
    mode, gid = inherited(parent, who, request.mode, False)
    record = state.new_inode(FILE_TYPE_REGULAR, mode, who.uid, gid, 0, nlink=0)
    return EntryReply(attributes=record, handle=_new_handle(state, record.inode, flags | O_TMPFILE))


def is_linkable_unnamed(state: State, number: int) -> bool:
    """Return whether a file without links is an unnamed one that may still get a name."""
    handles = state.open_files.by_inode.get(number, {})
    files = [state.open_files.get(handle) for handle in handles]
    return any(file is not None and file.flags & _UNLINKABLE == O_TMPFILE for file in files)


def forbid_second_naming(state: State, number: int) -> None:
    """An unnamed file has got a name: once it loses that, it is as dead as any other."""
    for handle in state.open_files.by_inode.get(number, ()):
        file = state.open_files.get(handle)
        if file is not None and file.flags & _UNLINKABLE == O_TMPFILE:
            state.open_files.put(handle, file._replace(flags=file.flags | O_EXCL))


def make_symlink(state: State, who: Caller, request: SymlinkRequest) -> EntryReply:
    """symlink(2)."""
    parent = state.directory(request.parent)
    require(parent, who, EXECUTE)
    absent(state, parent, request.name)
    target = request.target
    record = add(state, who, parent, request.name, FILE_TYPE_SYMLINK, 0o777, size=len(target))
    state.tx.put(keys.symlink(record.inode), target)
    return EntryReply(attributes=record)


def open_file(state: State, who: Caller, request: OpenRequest) -> EntryReply:
    """open(2) of an existing inode: check the rights that the flags need, and keep it alive until it is closed."""
    inode = state.inode(request.inode)
    state.subject = inode.inode
    return open_inode(state, who, inode, request.flags, EXECUTE if request.for_execution else READ)


def open_inode(state: State, who: Caller, inode: Attributes, flags: int, right_to_read: int) -> EntryReply:
    """Open an inode. `right_to_read` is the right that stands for reading: READ, or EXECUTE to execute it."""
    mask = _RIGHTS[flags & O_ACCMODE]
    if flags & O_TRUNC:
        mask |= WRITE
    if inode.type == FILE_TYPE_SYMLINK:
        raise TooManySymlinks(f"inode {inode.inode} is a symlink; follow it first")
    if inode.type == FILE_TYPE_DIRECTORY:
        if mask & WRITE:
            raise IsDirectory(f"inode {inode.inode} is a directory")
        if right_to_read == EXECUTE:
            raise PermissionDenied(f"inode {inode.inode} is a directory and cannot be executed")
    if right_to_read == EXECUTE:
        mask = mask & ~READ | EXECUTE
    require(inode, who, mask)
    if inode.flags & APPEND_ONLY and (flags & O_TRUNC or (mask & WRITE and not flags & O_APPEND)):
        raise NotPermitted(f"inode {inode.inode} is append-only")
    if flags & O_NOATIME and not is_owner(inode, who):
        raise NotPermitted(f"user {who.uid} does not own inode {inode.inode}")
    if inode.type not in (FILE_TYPE_REGULAR, FILE_TYPE_DIRECTORY):
        raise NoSuchOffset(f"inode {inode.inode} is a fifo, socket or device: it opens at the client, not here")
    if flags & O_TRUNC:
        inode = _truncated(state, who, inode)
    return EntryReply(attributes=inode, handle=_new_handle(state, inode.inode, flags))


def _truncated(state: State, who: Caller, inode: Attributes) -> Attributes:
    record = state.touch(inode.inode)
    record.mtime_ns = state.now
    record.mode = mode_without_privileges(record, who)
    content.resize(state, record, 0)
    return record


def close_file(state: State, who: Caller, request: CloseRequest) -> Empty:
    """close(2): the last close of an unlinked file gives it up."""
    state.open_files.held(request.handle, request.inode, state.session)
    close(state, request.handle)
    return Empty()


def _new_handle(state: State, number: int, flags: int) -> int:
    if state.open_files.count(state.session) >= HANDLES_PER_SESSION:
        raise TooManyOpenFiles(f"session {state.session} holds {HANDLES_PER_SESSION} handles already")
    handle = state.counters.add(NEXT_HANDLE)
    state.open_files.put(handle, OpenFile(number, state.session, flags))
    return handle
