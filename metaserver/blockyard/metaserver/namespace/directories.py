"""Directories: looking names up, walking, listing, and making and removing directories."""

from typing import Final

from blockyard.metaserver.namespace.inodes import DOTS, absent, add, drop_directory
from blockyard.metaserver.namespace.permissions import EXECUTE, READ, allows, require, require_removal
from blockyard.metaserver.namespace.state import ROOT, State, entry_reply
from blockyard.metaserver.state import keys
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import (
    BlockyardError,
    Busy,
    InvalidArgument,
    NotDirectory,
    NotEmpty,
    NotFound,
    to_detail,
)
from blockyard.proto.metadata_pb2 import (
    FILE_TYPE_DIRECTORY,
    FILE_TYPE_SYMLINK,
    Attributes,
    EntryReply,
    LookupRequest,
    MakeDirectoryRequest,
    ReadDirectoryReply,
    ReadDirectoryRequest,
    RemoveDirectoryRequest,
    UnlinkReply,
    WalkReply,
    WalkRequest,
)

PAGE_ENTRIES: Final = 1_000
PAGE_ENTRIES_MAX: Final = 10_000
PAGE_BYTES: Final = 1 << 20
_ENTRY_BYTES: Final = 40  # of an entry beside its name
_ATTRIBUTES_BYTES: Final = 100

_MODE: Final = 0o1777  # mkdir(2) keeps the permission bits and the sticky bit; the rest is inherited


def lookup(state: State, who: Caller, request: LookupRequest) -> EntryReply:
    """Return what a name leads to. Raises NotFound, NotDirectory, PermissionDenied."""
    return entry_reply(find(state, who, request.parent, request.name))


def find(state: State, who: Caller, parent: int, name: bytes) -> Attributes:
    """Return the attributes of a directory's entry; `.` is the directory itself and `..` its parent."""
    directory = state.inodes.get(parent)
    if directory is None or directory.type != FILE_TYPE_DIRECTORY:
        directory = state.directory(parent)
    if not allows(directory, who, EXECUTE):
        require(directory, who, EXECUTE)
    entry = state.dentries.get((parent, name))
    if entry is not None:
        found = state.inodes.get(entry.inode)
        if found is not None:
            return found
    if name in DOTS:
        return directory if name == b"." else state.inode(directory.parent)
    return state.child(parent, name)


def walk(state: State, who: Caller, request: WalkRequest) -> WalkReply:
    """Follow names one below the other, to the end, to the first symlink, or to the first error."""
    reply = WalkReply()
    here = request.start
    for name in request.names:
        try:
            found = find(state, who, here, name)
        except BlockyardError as error:
            reply.error.CopyFrom(to_detail(error))
            break
        reply.found.append(found)
        if found.type == FILE_TYPE_SYMLINK:
            reply.symlink_target = state.tx.get(keys.symlink(found.inode)) or b""
            break
        here = found.inode
    return reply


def read_directory(state: State, who: Caller, request: ReadDirectoryRequest) -> ReadDirectoryReply:
    """Return a page of a directory in the order of cookies. Attributes come only to those who may search it."""
    directory = state.directory(request.inode)
    require(directory, who, READ)
    limit = request.limit or PAGE_ENTRIES
    plus = request.plus and allows(directory, who, EXECUTE)
    per_entry = _ENTRY_BYTES + (_ATTRIBUTES_BYTES if plus else 0)
    room = PAGE_BYTES
    reply = ReadDirectoryReply()
    entries = reply.entries
    for cookie, inode, kind, name in state.dentries.list(directory.inode, request.after):
        room -= per_entry + len(name)
        if len(entries) == limit or (room < 0 and entries):
            return reply
        entries.add(
            name=name,
            inode=inode,
            type=kind,
            cookie=cookie,
            attributes=state.inodes.peek(inode) if plus else None,
        )
    reply.end = True
    return reply


def make_directory(state: State, who: Caller, request: MakeDirectoryRequest) -> EntryReply:
    """mkdir(2)."""
    parent = state.directory(request.parent)
    require(parent, who, EXECUTE)
    absent(state, parent, request.name)
    return EntryReply(attributes=add(state, who, parent, request.name, FILE_TYPE_DIRECTORY, request.mode & _MODE))


def remove_directory(state: State, who: Caller, request: RemoveDirectoryRequest) -> UnlinkReply:
    """rmdir(2)."""
    parent = state.directory(request.parent)
    require(parent, who, EXECUTE)
    name = request.name
    if name == b".":
        raise InvalidArgument("rmdir of `.`")
    if name == b"..":
        raise NotEmpty("rmdir of `..`")
    found = state.child(parent.inode, name)
    require_removal(parent, found, who)
    if found.type != FILE_TYPE_DIRECTORY:
        raise NotDirectory(f"entry {name!r} of directory {parent.inode} is no directory")
    if found.inode == ROOT:
        raise Busy("the root cannot be removed")
    if found.size:
        raise NotEmpty(f"directory {found.inode} has {found.size} entries")
    state.dentries.remove(parent.inode, name)
    state.change_entries(parent.inode, -1, -1)
    state.subject = found.inode
    return UnlinkReply(removed=drop_directory(state, found.inode))


def leads_to(state: State, directory: int, ancestor: int) -> bool:
    """Return whether `ancestor` is `directory` or one of the directories above it."""
    while directory != ancestor:
        if directory == ROOT:
            return False
        above = state.inodes.get(directory)
        if above is None or above.nlink == 0:
            return False
        directory = above.parent
    return True


def entry_inode(state: State, parent: int, name: bytes) -> Attributes | None:
    """Return the attributes of an entry, or None when there is none."""
    try:
        return state.child(parent, name)
    except NotFound:
        return None
