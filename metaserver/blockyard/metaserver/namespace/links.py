"""Names of files: giving one more, and taking one away; and where symlinks point."""

from typing import Final

from blockyard.metaserver.namespace.files import forbid_second_naming, is_linkable_unnamed
from blockyard.metaserver.namespace.inodes import DOTS, absent, drop_link
from blockyard.metaserver.namespace.permissions import (
    EXECUTE,
    FROZEN,
    READ,
    SETGID,
    SETUID,
    WRITE,
    allows,
    is_owner,
    require,
    require_insertion,
    require_removal,
)
from blockyard.metaserver.namespace.state import State, is_regular
from blockyard.metaserver.state import keys
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import InvalidArgument, IsDirectory, NotFound, NotPermitted, TooManyLinks
from blockyard.proto.metadata_pb2 import (
    FILE_TYPE_DIRECTORY,
    FILE_TYPE_SYMLINK,
    Attributes,
    EntryReply,
    LinkRequest,
    ReadLinkReply,
    ReadLinkRequest,
    UnlinkReply,
    UnlinkRequest,
)

LINKS_MAX: Final = 65_000
"""Names of one file, as ext4 allows."""


def link(state: State, who: Caller, request: LinkRequest) -> EntryReply:
    """link(2), with Linux's fs.protected_hardlinks = 1."""
    inode = state.inode(request.inode)
    parent = state.directory(request.parent)
    require(parent, who, EXECUTE)
    absent(state, parent, request.name)
    if not is_owner(inode, who) and not _is_safe_to_link(inode, who):
        raise NotPermitted(f"user {who.uid} neither owns inode {inode.inode} nor may read and write it")
    require_insertion(parent, who)
    if inode.flags & FROZEN or inode.type == FILE_TYPE_DIRECTORY:
        raise NotPermitted(f"inode {inode.inode} is a directory, immutable or append-only")
    if inode.nlink == 0 and not is_linkable_unnamed(state, inode.inode):
        raise NotFound(f"inode {inode.inode} was removed")
    if inode.nlink >= LINKS_MAX:
        raise TooManyLinks(f"inode {inode.inode} has {LINKS_MAX} names already")
    state.dentries.insert(parent.inode, request.name, inode.inode, inode.type)
    state.change_entries(parent.inode, 1)
    record = state.touch(inode.inode)
    record.nlink += 1
    if record.nlink == 1:
        forbid_second_naming(state, inode.inode)
        record.parent = parent.inode
    return EntryReply(attributes=record)


def _is_safe_to_link(inode: Attributes, who: Caller) -> bool:
    if not is_regular(inode) or inode.mode & SETUID or inode.mode & (SETGID | 0o010) == SETGID | 0o010:
        return False
    return allows(inode, who, READ | WRITE)


def unlink(state: State, who: Caller, request: UnlinkRequest) -> UnlinkReply:
    """unlink(2)."""
    parent = state.directory(request.parent)
    require(parent, who, EXECUTE)
    name = request.name
    if name in DOTS:
        raise IsDirectory(f"unlink of {name!r}")
    found = state.child(parent.inode, name)
    require_removal(parent, found, who)
    if found.type == FILE_TYPE_DIRECTORY:
        raise IsDirectory(f"entry {name!r} of directory {parent.inode} is a directory")
    state.dentries.remove(parent.inode, name)
    state.change_entries(parent.inode, -1)
    state.subject = found.inode
    return UnlinkReply(removed=drop_link(state, found.inode))


def read_link(state: State, who: Caller, request: ReadLinkRequest) -> ReadLinkReply:
    """readlink(2): no right on the symlink itself is needed."""
    inode = state.inode(request.inode)
    if inode.type != FILE_TYPE_SYMLINK:
        raise InvalidArgument(f"inode {inode.inode} is no symlink")
    target = state.tx.get(keys.symlink(inode.inode))
    if target is None:
        raise AssertionError(f"symlink {inode.inode} has no target")
    return ReadLinkReply(target=target)
