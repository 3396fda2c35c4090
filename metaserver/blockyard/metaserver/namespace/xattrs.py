"""Extended attributes: names with a namespace, values of up to 64 KiB, and the rules of each namespace.

The inode's own row `X` counts them, so that removing a file without any asks once and scans nothing.
Source: Linux, fs/xattr.c (`xattr_permission`), security/commoncap.c, xattr(7).
"""

from struct import Struct
from typing import TYPE_CHECKING, Final

from blockyard.metaserver.namespace.permissions import FROZEN, READ, STICKY, WRITE, is_owner, require
from blockyard.metaserver.state import keys
from blockyard.proto.common_pb2 import Caller, Empty
from blockyard.proto.errors import (
    ArgumentTooLong,
    BufferTooSmall,
    Exists,
    InvalidArgument,
    NoSpace,
    NoSuchAttribute,
    NotPermitted,
    NotSupported,
)
from blockyard.proto.metadata_pb2 import (
    FILE_TYPE_DIRECTORY,
    FILE_TYPE_REGULAR,
    Attributes,
    GetXattrReply,
    GetXattrRequest,
    ListXattrsReply,
    ListXattrsRequest,
    RemoveXattrRequest,
    SetXattrRequest,
)

if TYPE_CHECKING:
    from blockyard.metaserver.namespace.state import State

NAME_BYTES_MAX: Final = 255
VALUE_BYTES_MAX: Final = 65_536
TOTAL_BYTES_MAX: Final = 131_072
"""Names and values of one inode together. listxattr(2) itself ends at 64 KiB of names."""
LIST_BYTES_MAX: Final = 65_536

USER: Final = b"user."
TRUSTED: Final = b"trusted."
SECURITY: Final = b"security."
NAMESPACES: Final = (USER, TRUSTED, SECURITY)
NAMESPACES_OF_ROOT: Final = (TRUSTED, SECURITY)

_SUMMARY: Final = Struct("<III")  # count, bytes of names and values, bytes of names with their ends


def set_xattr(state: "State", who: Caller, request: SetXattrRequest) -> Empty:
    """setxattr(2)."""
    inode = state.inode(request.inode)
    name, value = request.name, request.value
    check_name(name)
    if len(value) > VALUE_BYTES_MAX:
        raise ArgumentTooLong(f"attribute {name!r}: {len(value)} bytes; the limit is {VALUE_BYTES_MAX}")
    _require_write(inode, who, name)
    check_namespace(name)
    key = keys.xattr(inode.inode, name)
    old = state.tx.get(key)
    if old is not None and request.create:
        raise Exists(f"inode {inode.inode} already has an attribute {name!r}")
    if old is None and request.replace:
        raise NoSuchAttribute(f"inode {inode.inode} has no attribute {name!r}")
    if old is None:
        _count(state, inode.inode, 1, len(name) + len(value), len(name) + 1)
    else:
        _count(state, inode.inode, 0, len(value) - len(old), 0)
    state.tx.put(key, value)
    state.touch(inode.inode)
    return Empty()


def remove_xattr(state: "State", who: Caller, request: RemoveXattrRequest) -> Empty:
    """removexattr(2)."""
    inode = state.inode(request.inode)
    name = request.name
    check_name(name)
    _require_write(inode, who, name)
    check_namespace(name)
    key = keys.xattr(inode.inode, name)
    old = state.tx.get(key)
    if old is None:
        raise NoSuchAttribute(f"inode {inode.inode} has no attribute {name!r}")
    state.tx.delete(key)
    _count(state, inode.inode, -1, -len(name) - len(old), -len(name) - 1)
    state.touch(inode.inode)
    return Empty()


def get_xattr(state: "State", who: Caller, request: GetXattrRequest) -> GetXattrReply:
    """getxattr(2)."""
    inode = state.inode(request.inode)
    name = request.name
    check_name(name)
    if name.startswith(TRUSTED) and who.uid != 0:
        raise NoSuchAttribute("attributes of the namespace `trusted.` are seen by root only")
    if name.startswith(USER) and inode.type not in (FILE_TYPE_REGULAR, FILE_TYPE_DIRECTORY):
        raise NoSuchAttribute("only files and directories have attributes of the namespace `user.`")
    if not name.startswith(NAMESPACES_OF_ROOT):
        require(inode, who, READ)
    check_namespace(name)
    value = state.tx.get(keys.xattr(inode.inode, name))
    if value is None:
        raise NoSuchAttribute(f"inode {inode.inode} has no attribute {name!r}")
    return GetXattrReply(value=value)


def list_xattrs(state: "State", who: Caller, request: ListXattrsRequest) -> ListXattrsReply:
    """listxattr(2): what the caller may see; no right on the inode is needed."""
    number = state.inode(request.inode).inode
    if state.tx.get(keys.xattrs(number)) is None:
        return ListXattrsReply()
    names = names_of(state, number)
    return ListXattrsReply(names=[name for name in names if who.uid == 0 or not name.startswith(TRUSTED)])


def names_of(state: "State", number: int) -> list[bytes]:
    """Return the names of an inode's attributes in byte order."""
    prefix = keys.xattrs(number)
    return [key[len(prefix) :] for key, _ in state.tx.scan_prefix(prefix) if len(key) > len(prefix)]


def remove_all(state: "State", number: int) -> None:
    """Remove every attribute of an inode that is being removed."""
    summary = keys.xattrs(number)
    if state.tx.get(summary) is None:
        return
    for key, _ in list(state.tx.scan_prefix(summary)):
        state.tx.delete(key)


def check_name(name: bytes) -> None:
    """Raise unless it may be the name of an attribute."""
    if not 1 <= len(name) <= NAME_BYTES_MAX:
        raise BufferTooSmall(f"the name of an attribute has 1 to {NAME_BYTES_MAX} bytes, not {len(name)}")
    if b"\0" in name:
        raise InvalidArgument(f"the name {name!r} holds a NUL")


def check_namespace(name: bytes) -> None:
    """Raise unless the name is in a namespace that is kept. Rights come first, as in the kernel."""
    if not name.startswith(NAMESPACES):
        raise NotSupported(f"attribute {name!r}: the namespaces are user, trusted and security")
    if name in NAMESPACES:
        raise InvalidArgument(f"attribute {name!r} has no name after its namespace")


def summary_of(state: "State", number: int) -> tuple[int, int, int]:
    """Return count, bytes of names and values, and bytes of the list of names."""
    row = state.tx.get(keys.xattrs(number))
    if row is None:
        return 0, 0, 0
    count, total, listed = _SUMMARY.unpack(row)
    return count, total, listed


def _require_write(inode: Attributes, who: Caller, name: bytes) -> None:
    if inode.flags & FROZEN:
        raise NotPermitted(f"inode {inode.inode} is immutable or append-only")
    if name.startswith(NAMESPACES_OF_ROOT):
        if who.uid != 0:
            raise NotPermitted(f"attribute {name!r} is for root to change")
        return
    if name.startswith(USER):
        if inode.type not in (FILE_TYPE_REGULAR, FILE_TYPE_DIRECTORY):
            raise NotPermitted("only files and directories have attributes of the namespace `user.`")
        if inode.type == FILE_TYPE_DIRECTORY and inode.mode & STICKY and not is_owner(inode, who):
            raise NotPermitted(f"directory {inode.inode} is sticky, and user {who.uid} does not own it")
    require(inode, who, WRITE)


def _count(state: "State", number: int, count: int, total: int, listed: int) -> None:
    known = summary_of(state, number)
    count, total, listed = known[0] + count, known[1] + total, known[2] + listed
    if total > TOTAL_BYTES_MAX or listed > LIST_BYTES_MAX:
        raise NoSpace(f"inode {number} has no room for {total} bytes of attributes; the limit is {TOTAL_BYTES_MAX}")
    key = keys.xattrs(number)
    if count:
        state.tx.put(key, _SUMMARY.pack(count, total, listed))
    else:
        state.tx.delete(key)
