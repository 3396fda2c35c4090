"""Who may do what to an inode: POSIX modes, groups, the sticky bit and the powers of root, as Linux decides.

Pure functions of attributes and caller. Root stands for every capability (CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID,
CAP_CHOWN, CAP_MKNOD, CAP_SYS_ADMIN, CAP_LINUX_IMMUTABLE), and everybody else for none.
Source: Linux, fs/namei.c (`generic_permission`, `__check_sticky`), fs/inode.c (`inode_owner_or_capable`), fs/attr.c.
"""

from typing import Final

from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import NotFound, NotPermitted, PermissionDenied
from blockyard.proto.metadata_pb2 import FILE_TYPE_DIRECTORY, Attributes

READ: Final = 4
WRITE: Final = 2
EXECUTE: Final = 1

SETUID: Final = 0o4000
SETGID: Final = 0o2000
STICKY: Final = 0o1000

IMMUTABLE: Final = 0x10  # FS_IMMUTABLE_FL
APPEND_ONLY: Final = 0x20  # FS_APPEND_FL
FROZEN: Final = IMMUTABLE | APPEND_ONLY


def in_group(who: Caller, gid: int) -> bool:
    """Return whether the caller's effective or supplementary groups contain `gid`."""
    return gid == who.gid or gid in who.groups


def is_owner(inode: Attributes, who: Caller) -> bool:
    """Return whether the caller may do what only an owner may."""
    uid = who.uid
    return uid == 0 or uid == inode.uid


def allows(inode: Attributes, who: Caller, mask: int) -> bool:
    """Return whether the caller has every right in `mask`."""
    uid = who.uid
    mode = inode.mode
    if uid == 0:  # root reads and writes all, but executes a file only if somebody may
        return not mask & EXECUTE or bool(mode & 0o111) or inode.type == FILE_TYPE_DIRECTORY
    if uid == inode.uid:
        mode >>= 6
    else:
        gid = inode.gid
        if gid == who.gid or gid in who.groups:
            mode >>= 3
    return mode & mask == mask


def require(inode: Attributes, who: Caller, mask: int) -> None:
    """Raise PermissionDenied when the caller lacks a right in `mask`, NotPermitted on writing what is immutable."""
    if mask & WRITE and inode.flags & IMMUTABLE:
        raise NotPermitted(f"inode {inode.inode} is immutable")
    if not allows(inode, who, mask):
        raise PermissionDenied(f"user {who.uid} has no right {mask:o} on inode {inode.inode} (mode {inode.mode:04o})")


def require_insertion(parent: Attributes, who: Caller) -> None:
    """Raise unless the caller may add a name to the directory."""
    if parent.nlink == 0:
        raise NotFound(f"directory {parent.inode} was removed")
    if parent.flags & IMMUTABLE or not allows(parent, who, WRITE | EXECUTE):
        require(parent, who, WRITE | EXECUTE)


def require_removal(parent: Attributes, inode: Attributes, who: Caller) -> None:
    """Raise unless the caller may take a name of `inode` out of the directory (`may_delete`, without the types)."""
    require(parent, who, WRITE | EXECUTE)
    if parent.flags & APPEND_ONLY:
        raise NotPermitted(f"directory {parent.inode} is append-only")
    if parent.mode & STICKY and who.uid not in (0, inode.uid, parent.uid):
        raise NotPermitted(f"directory {parent.inode} is sticky, and user {who.uid} owns neither it nor the entry")
    if inode.flags & FROZEN:
        raise NotPermitted(f"inode {inode.inode} is immutable or append-only")


def mode_without_privileges(inode: Attributes, who: Caller) -> int:
    """Return the mode that is left when somebody other than root writes: without setuid, and mostly without setgid.

    Setgid goes when the group may execute, or when the caller is not of the group (`setattr_should_drop_sgid`).
    """
    mode = inode.mode
    if not mode & (SETUID | SETGID) or who.uid == 0:
        return mode
    return mode_after_chown(inode, who)


def mode_after_chown(inode: Attributes, who: Caller) -> int:
    """Return the mode that is left when a file changes hands; root is not spared setuid."""
    mode = inode.mode & ~SETUID
    if mode & SETGID and (mode & 0o010 or not (who.uid == 0 or in_group(who, inode.gid))):
        mode &= ~SETGID
    return mode


def inherited(parent: Attributes, who: Caller, mode: int, is_directory: bool) -> tuple[int, int]:
    """Return mode and group of what the caller makes in `parent` (`inode_init_owner`, `mode_strip_sgid`)."""
    if not parent.mode & SETGID:
        return mode, who.gid
    gid = parent.gid
    if is_directory:
        return mode | SETGID, gid
    if mode & 0o2010 == 0o2010 and who.uid != 0 and not in_group(who, gid):
        mode &= ~SETGID
    return mode, gid
