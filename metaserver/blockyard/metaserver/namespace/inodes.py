"""How inodes come and go: names checked, inodes added under a name, and given up when nothing holds them any more."""

from typing import Final

from blockyard.metaserver.namespace import content, locks, xattrs
from blockyard.metaserver.namespace.permissions import inherited, require_insertion
from blockyard.metaserver.namespace.state import INODES, State
from blockyard.metaserver.state import keys
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.errors import Exists
from blockyard.proto.metadata_pb2 import (
    FILE_TYPE_DIRECTORY,
    FILE_TYPE_REGULAR,
    FILE_TYPE_SYMLINK,
    Attributes,
)

DOTS: Final = (b".", b"..")


def absent(state: State, parent: Attributes, name: bytes) -> None:
    """Raise Exists when the directory has the name; `.` and `..` are always there."""
    if name in DOTS or state.dentries.get((parent.inode, name)) is not None:
        raise Exists(f"directory {parent.inode} already has an entry {name!r}")


def add(
    state: State, who: Caller, parent: Attributes, name: bytes, kind: int, mode: int, rdev: int = 0, size: int = 0
) -> Attributes:
    """Make an inode of a kind under a name that is known to be absent; return its attributes, still open to change."""
    require_insertion(parent, who)
    is_directory = kind == FILE_TYPE_DIRECTORY
    mode, gid = inherited(parent, who, mode, is_directory)
    number = parent.inode
    record = state.new_inode(kind, mode, who.uid, gid, number, 2 if is_directory else 1, size, rdev)
    state.dentries.insert(number, name, record.inode, kind)
    state.change_entries(number, 1, 1 if is_directory else 0)
    return record


def drop_link(state: State, number: int) -> Attributes:
    """Take one link off a file; give it up when that was the last and nobody has it open. Return what it is now."""
    record = state.touch(number)
    record.nlink -= 1
    if record.nlink == 0 and not state.open_files.is_open(number):
        give_up(state, record)
    return record


def drop_directory(state: State, number: int) -> Attributes:
    """Take the name off an empty directory; give it up unless somebody has it open. Return what it is now."""
    record = state.touch(number)
    record.nlink = 0
    if not state.open_files.is_open(number):
        give_up(state, record)
    return record


def close(state: State, handle: int) -> None:
    """Close an existing handle; give its inode up when that was the last hold on it."""
    file = state.open_files.get(handle)
    if file is None:
        raise AssertionError(f"handle {handle} is not open")
    state.open_files.delete(handle)
    record = state.inodes.get(file.inode)
    if record is not None and record.nlink == 0 and not state.open_files.is_open(file.inode):
        give_up(state, record)


def give_up(state: State, record: Attributes) -> None:
    """Remove an inode that has neither name nor handle: its rows go, and its blocks are to be reclaimed."""
    number, kind = record.inode, record.type
    state.inodes.delete(number)
    state.counters.add(INODES, -1)
    xattrs.remove_all(state, number)
    if kind == FILE_TYPE_REGULAR:
        content.remove_all(state, record)
    elif kind == FILE_TYPE_SYMLINK:
        state.tx.delete(keys.symlink(number))
    locks.forget_inode(state, number)
