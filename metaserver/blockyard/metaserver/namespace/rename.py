"""Renaming: another name for an entry, atomically. Checks come in the order of Linux's `do_renameat2`, `vfs_rename`."""

from typing import Final

from blockyard.metaserver.namespace.directories import entry_inode, leads_to
from blockyard.metaserver.namespace.inodes import DOTS, drop_directory, drop_link
from blockyard.metaserver.namespace.permissions import EXECUTE, WRITE, require, require_insertion, require_removal
from blockyard.metaserver.namespace.state import State
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import (
    Busy,
    Exists,
    InvalidArgument,
    IsDirectory,
    NotDirectory,
    NotEmpty,
    NotFound,
    TooManyLinks,
)
from blockyard.proto.metadata_pb2 import FILE_TYPE_DIRECTORY, Attributes, RenameRequest, UnlinkReply

SUBDIRECTORIES_MAX: Final = 2**31


def rename(state: State, who: Caller, request: RenameRequest) -> UnlinkReply:
    """renameat2(2) with RENAME_NOREPLACE and RENAME_EXCHANGE. The reply holds what was replaced."""
    if request.no_replace and request.exchange:
        raise InvalidArgument("RENAME_NOREPLACE and RENAME_EXCHANGE exclude each other")
    old_parent, new_parent = state.directory(request.parent), state.directory(request.new_parent)
    require(old_parent, who, EXECUTE)
    require(new_parent, who, EXECUTE)
    if request.name in DOTS:
        raise Busy(f"rename of {request.name!r}")
    if request.new_name in DOTS:
        raise Exists(f"rename to {request.new_name!r}") if request.no_replace else Busy("rename to a directory itself")
    source = state.child(old_parent.inode, request.name)
    target = entry_inode(state, new_parent.inode, request.new_name)
    if target is not None and request.no_replace:
        raise Exists(f"directory {new_parent.inode} already has an entry {request.new_name!r}")
    if target is None and request.exchange:
        raise NotFound(f"no entry {request.new_name!r} in directory {new_parent.inode}")
    state.subject = source.inode
    if old_parent.inode != new_parent.inode:
        _require_no_loop(state, request, source, target)
    if target is not None and target.inode == source.inode:
        return UnlinkReply()
    _require_rights(who, old_parent, new_parent, source, target, request.exchange)
    if request.exchange:
        assert target is not None
        _exchange(state, request, source, target)
        return UnlinkReply()
    return _move(state, request, source, target)


def _require_no_loop(state: State, request: RenameRequest, source: Attributes, target: Attributes | None) -> None:
    """Raise when source lies above the new parent, or target above the old one (`lock_rename`'s trap)."""
    if source.type == FILE_TYPE_DIRECTORY and leads_to(state, request.new_parent, source.inode):
        raise InvalidArgument(f"directory {source.inode} cannot move below itself")
    if target is None or target.type != FILE_TYPE_DIRECTORY or not leads_to(state, request.parent, target.inode):
        return
    if request.exchange:
        raise InvalidArgument(f"directory {target.inode} cannot move below itself")
    raise NotEmpty(f"directory {target.inode} holds what is to replace it")


def _require_rights(
    who: Caller,
    old_parent: Attributes,
    new_parent: Attributes,
    source: Attributes,
    target: Attributes | None,
    exchange: bool,
) -> None:
    is_directory = source.type == FILE_TYPE_DIRECTORY
    require_removal(old_parent, source, who)
    if target is None:
        require_insertion(new_parent, who)
    else:
        require_removal(new_parent, target, who)
        if not exchange:
            _require_same_kind(is_directory, target)
    if old_parent.inode == new_parent.inode:
        return
    if is_directory:  # its `..` changes, so it is written to
        require(source, who, WRITE)
    if exchange and target is not None and target.type == FILE_TYPE_DIRECTORY:
        require(target, who, WRITE)
    if is_directory and target is None and new_parent.nlink >= SUBDIRECTORIES_MAX:
        raise TooManyLinks(f"directory {new_parent.inode} has {new_parent.nlink} subdirectories")


def _require_same_kind(is_directory: bool, target: Attributes) -> None:
    if is_directory and target.type != FILE_TYPE_DIRECTORY:
        raise NotDirectory(f"inode {target.inode} is no directory, and a directory was to replace it")
    if not is_directory and target.type == FILE_TYPE_DIRECTORY:
        raise IsDirectory(f"inode {target.inode} is a directory, and a file was to replace it")


def _move(state: State, request: RenameRequest, source: Attributes, target: Attributes | None) -> UnlinkReply:
    old, new = request.parent, request.new_parent
    is_directory = source.type == FILE_TYPE_DIRECTORY
    if target is not None and is_directory and target.size:
        raise NotEmpty(f"directory {target.inode} has {target.size} entries")
    state.dentries.remove(old, request.name)
    reply = UnlinkReply()
    if target is None:
        state.dentries.insert(new, request.new_name, source.inode, source.type)
        state.change_entries(new, 1, 1 if is_directory else 0)
    else:
        state.dentries.replace(new, request.new_name, source.inode, source.type)
        state.change_entries(new, 0)
        drop = drop_directory if is_directory else drop_link
        reply.removed.CopyFrom(drop(state, target.inode))
    state.change_entries(old, -1, -1 if is_directory else 0)
    state.touch(source.inode).parent = new
    return reply


def _exchange(state: State, request: RenameRequest, source: Attributes, target: Attributes) -> None:
    old, new = request.parent, request.new_parent
    state.dentries.replace(old, request.name, target.inode, target.type)
    state.dentries.replace(new, request.new_name, source.inode, source.type)
    # subdirectories that each parent gains
    gained = (source.type == FILE_TYPE_DIRECTORY) - (target.type == FILE_TYPE_DIRECTORY)
    state.change_entries(old, 0, -gained)
    state.change_entries(new, 0, gained)
    state.touch(source.inode).parent = new
    state.touch(target.inode).parent = old
