"""Attributes: reading them; chmod, chown, truncate, utimens and inode flags under the rules of Linux's fs/attr.c."""

from typing import Final

from blockyard.metaserver.namespace import content
from blockyard.metaserver.namespace.permissions import (
    APPEND_ONLY,
    FROZEN,
    IMMUTABLE,
    SETGID,
    WRITE,
    allows,
    in_group,
    is_owner,
    mode_after_chown,
    mode_without_privileges,
    require,
)
from blockyard.metaserver.namespace.state import State, entry_reply
from blockyard.proto.common_pb2 import Caller, Empty
from blockyard.proto.errors import BadHandle, InvalidArgument, IsDirectory, NotPermitted, NotSupported, PermissionDenied
from blockyard.proto.metadata_pb2 import (
    FILE_TYPE_DIRECTORY,
    FILE_TYPE_REGULAR,
    FILE_TYPE_SYMLINK,
    AccessRequest,
    Attributes,
    EntryReply,
    GetAttributesRequest,
    SetAttributesRequest,
)

KEPT_FLAGS: Final = IMMUTABLE | APPEND_ONLY | 0x40 | 0x80  # with FS_NODUMP_FL, FS_NOATIME_FL


def get_attributes(state: State, who: Caller, request: GetAttributesRequest) -> EntryReply:
    """stat(2) by inode."""
    return entry_reply(state.inode(request.inode))


def access(state: State, who: Caller, request: AccessRequest) -> Empty:
    """access(2). Raises PermissionDenied, or NotPermitted on writing what is immutable."""
    require(state.inode(request.inode), who, request.mask)
    return Empty()


def set_attributes(state: State, who: Caller, request: SetAttributesRequest) -> EntryReply:
    """chmod(2), chown(2), truncate(2), utimensat(2) and FS_IOC_SETFLAGS in one; all of it or nothing."""
    inode = state.inode(request.inode)
    record = state.touch(inode.inode)
    if request.HasField("size"):
        _truncate(state, who, request, inode, record)
    if request.HasField("uid") or request.HasField("gid"):
        _change_owner(who, request, inode, record)
    if request.HasField("mode"):
        _change_mode(who, request, inode, record)
    if _changes_times(request):
        _change_times(state, who, request, inode, record)
    if request.HasField("flags"):
        _change_flags(who, request, inode, record)
    if request.kill_privileges:
        record.mode = mode_without_privileges(record, who)
    return EntryReply(attributes=record)


def _truncate(state: State, who: Caller, request: SetAttributesRequest, inode: Attributes, record: Attributes) -> None:
    if inode.type == FILE_TYPE_DIRECTORY:
        raise IsDirectory(f"inode {inode.inode} is a directory")
    if inode.type != FILE_TYPE_REGULAR:
        raise InvalidArgument(f"inode {inode.inode} is no regular file")
    if request.handle:
        try:
            file = state.open_files.held(request.handle, inode.inode, state.session)
        except BadHandle:
            raise InvalidArgument(f"handle {request.handle} is not open on inode {inode.inode}") from None
        if not file.writes:
            raise InvalidArgument(f"handle {request.handle} was not opened for writing")
    else:
        require(inode, who, WRITE)
    if inode.flags & FROZEN:
        raise NotPermitted(f"inode {inode.inode} is immutable or append-only")
    content.resize(state, record, request.size)
    record.mtime_ns = state.now
    record.mode = mode_without_privileges(record, who)


def _change_owner(who: Caller, request: SetAttributesRequest, inode: Attributes, record: Attributes) -> None:
    uid = request.uid if request.HasField("uid") else inode.uid
    gid = request.gid if request.HasField("gid") else inode.gid
    if who.uid != 0:
        owns = who.uid == inode.uid
        if request.HasField("uid") and not (owns and uid == inode.uid):
            raise NotPermitted(f"user {who.uid} cannot give inode {inode.inode} to user {uid}")
        if request.HasField("gid") and not (owns and (gid == inode.gid or in_group(who, gid))):
            raise NotPermitted(f"user {who.uid} cannot give inode {inode.inode} to group {gid}")
    _require_unfrozen(inode)
    if inode.type != FILE_TYPE_DIRECTORY:
        record.mode = mode_after_chown(record, who)
    record.uid = uid
    record.gid = gid


def _change_mode(who: Caller, request: SetAttributesRequest, inode: Attributes, record: Attributes) -> None:
    if inode.type == FILE_TYPE_SYMLINK:
        raise NotSupported("symlinks have no mode of their own")
    if not is_owner(inode, who):
        raise NotPermitted(f"user {who.uid} does not own inode {inode.inode}")
    _require_unfrozen(inode)
    mode = request.mode
    if mode & SETGID and who.uid != 0 and not in_group(who, record.gid):
        mode &= ~SETGID
    record.mode = mode


def _changes_times(request: SetAttributesRequest) -> bool:
    return request.atime_now or request.mtime_now or request.HasField("atime_ns") or request.HasField("mtime_ns")


def _change_times(
    state: State, who: Caller, request: SetAttributesRequest, inode: Attributes, record: Attributes
) -> None:
    """Set times. Whoever may write may set both to now; anything else is the owner's."""
    _require_unfrozen(inode, "its times cannot be set")
    if not is_owner(inode, who):
        if not (request.atime_now and request.mtime_now):
            raise NotPermitted(f"user {who.uid} does not own inode {inode.inode}")
        if not allows(inode, who, WRITE):
            raise PermissionDenied(f"user {who.uid} may not write inode {inode.inode}")
    if request.atime_now:
        record.atime_ns = state.now
    elif request.HasField("atime_ns"):
        record.atime_ns = request.atime_ns
    if request.mtime_now:
        record.mtime_ns = state.now
    elif request.HasField("mtime_ns"):
        record.mtime_ns = request.mtime_ns


def _change_flags(who: Caller, request: SetAttributesRequest, inode: Attributes, record: Attributes) -> None:
    if not is_owner(inode, who):
        raise NotPermitted(f"user {who.uid} does not own inode {inode.inode}")
    if (request.flags ^ inode.flags) & FROZEN and who.uid != 0:
        raise NotPermitted("only root sets or clears the immutable and append-only flags")
    if request.flags & ~KEPT_FLAGS or inode.type not in (FILE_TYPE_REGULAR, FILE_TYPE_DIRECTORY):
        raise NotSupported(f"inode flags {request.flags:#x} are not kept for inode {inode.inode}")
    record.flags = request.flags


def _require_unfrozen(inode: Attributes, what: str = "its owner and mode cannot change") -> None:
    if inode.flags & FROZEN:
        raise NotPermitted(f"inode {inode.inode} is immutable or append-only: {what}")
