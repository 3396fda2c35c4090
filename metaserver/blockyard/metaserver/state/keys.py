"""The rows of the replicated state: which key holds what.

A key is one letter, then fixed-width big-endian numbers, then (in few tables) a name, so that rows sort by number and
one range of keys is one directory, one file or one session. Nothing else in the program builds a key.

| key                        | value                                                                              |
|----------------------------|------------------------------------------------------------------------------------|
| `I` inode                  | `Attributes`                                                                       |
| `D` parent, cookie         | child inode, type, name (`namespace/dentries.py` says what a cookie is)            |
| `C` inode, chunk           | visible slices of the chunk, packed (`namespace/slices.py`)                        |
| `X` inode                  | how many extended attributes there are, and their bytes; absent when there are none |
| `X` inode, name            | value of an extended attribute                                                     |
| `Y` inode                  | target of a symlink                                                                |
| `S` session                | `SessionRecord`                                                                    |
| `A` session, sequence      | answers kept for retries: a pack of them, by its first sequence                    |
| `H` handle                 | open file                                                                          |
| `K` inode                  | file locks, held and waited for                                                    |
| `B` block                  | how many slices refer to the block, and its length                                 |
| `G` block                  | block to reclaim, until every holder has confirmed (the id starts with its group)  |
| `Z` inode                  | unlinked and closed file whose slices are still being given back                   |
| `U` inode, chunk           | chunk that compaction should look at: when it was marked, ns                       |
| `M` name                   | cluster map, nodes, counters, id leases                                            |
| `O` log index, position    | operation log: one row per entry of Raft's log                                     |
| `L` name                   | this member's own: applied index. Never hashed, never part of the agreed state     |
"""

from struct import Struct
from typing import Final

INODE: Final = b"I"
DENTRY: Final = b"D"
CHUNK: Final = b"C"
XATTR: Final = b"X"
SYMLINK: Final = b"Y"
SESSION: Final = b"S"
ANSWER: Final = b"A"
HANDLE: Final = b"H"
LOCKS: Final = b"K"
BLOCK: Final = b"B"
RECLAIM: Final = b"G"
DOOMED: Final = b"Z"
CROWDED: Final = b"U"
META: Final = b"M"
OPLOG: Final = b"O"
LOCAL: Final = b"L"

AGREED: Final = (
    INODE,
    DENTRY,
    CHUNK,
    XATTR,
    SYMLINK,
    SESSION,
    ANSWER,
    HANDLE,
    LOCKS,
    BLOCK,
    RECLAIM,
    DOOMED,
    CROWDED,
    META,
    OPLOG,
)
"""Every prefix whose rows are equal on all data members at one applied index."""

APPLIED_INDEX: Final = LOCAL + b"applied"
COUNTER: Final = META + b"count."

_ONE: Final = Struct(">cQ")
_TWO: Final = Struct(">cQQ")
_CHUNK: Final = Struct(">cQI")
_LOG: Final = Struct(">cQI")

_pack_one = _ONE.pack
_pack_two = _TWO.pack
_pack_chunk = _CHUNK.pack


def inode(number: int) -> bytes:
    """Key of an inode's attributes."""
    return _pack_one(INODE, number)


def dentry(parent: int, cookie: int) -> bytes:
    """Key of a directory's entry by its cookie."""
    return _pack_two(DENTRY, parent, cookie)


def dentries(parent: int) -> bytes:
    """Prefix of a directory's entries."""
    return _pack_one(DENTRY, parent)


def chunk(number: int, index: int) -> bytes:
    """Key of the slices of a file's chunk, by chunk index from 0."""
    return _pack_chunk(CHUNK, number, index)


def chunks(number: int) -> bytes:
    """Prefix of a file's chunks."""
    return _pack_one(CHUNK, number)


def xattr(number: int, name: bytes) -> bytes:
    """Key of an extended attribute."""
    return _pack_one(XATTR, number) + name


def xattrs(number: int) -> bytes:
    """Key of the summary of an inode's extended attributes, and prefix of them all."""
    return _pack_one(XATTR, number)


def symlink(number: int) -> bytes:
    """Key of a symlink's target."""
    return _pack_one(SYMLINK, number)


def counter(name: bytes) -> bytes:
    """Key of a counter."""
    return COUNTER + name


def session(number: int) -> bytes:
    """Key of a session."""
    return _pack_one(SESSION, number)


def answers(number: int, sequence: int) -> bytes:
    """Key of a pack of answers by its first sequence."""
    return _pack_two(ANSWER, number, sequence)


def handle(number: int) -> bytes:
    """Key of an open file."""
    return _pack_one(HANDLE, number)


def locks(number: int) -> bytes:
    """Key of an inode's locks."""
    return _pack_one(LOCKS, number)


def block(number: int) -> bytes:
    """Key of a block's references."""
    return _pack_one(BLOCK, number)


def reclaim(number: int) -> bytes:
    """Key of a block to reclaim."""
    return _pack_one(RECLAIM, number)


def doomed(number: int) -> bytes:
    """Key of a file whose slices are being given back."""
    return _pack_one(DOOMED, number)


def crowded(number: int, index: int) -> bytes:
    """Key of a chunk that compaction should look at."""
    return _pack_chunk(CROWDED, number, index)


def oplog(index: int, position: int) -> bytes:
    """Key of a row of the operation log: log index, and position of its first record."""
    return _LOG.pack(OPLOG, index, position)


def parse_one(key: bytes) -> int:
    """Return the number of a key of one number."""
    number: int = _ONE.unpack(key)[1]
    return number


def parse_two(key: bytes) -> tuple[int, int]:
    """Return the numbers of a key of two numbers."""
    _, first, second = _TWO.unpack(key)
    return first, second


def parse_chunk(key: bytes) -> tuple[int, int]:
    """Return inode and chunk index."""
    _, first, second = _CHUNK.unpack(key)
    return first, second
