"""The operation log: what, who, when, outcome of every change of the namespace, refused ones too.

One row per entry of Raft's log packs the records of its commands, a few dozen bytes each. Rows go when the log is over
`BYTES_MAX` or its oldest row over `AGE_MAX_NS`, a few per entry, as the replicated time and the rows themselves say; so
all members drop the same row at the same index. The bounds are part of the program: members of one version agree.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from blockyard.metaserver.namespace.state import State
from blockyard.metaserver.state import keys
from blockyard.proto.common_pb2 import Caller
from blockyard.proto.metadata_pb2 import OperationRecord

BYTES_MAX: Final = 64 << 20
AGE_MAX_NS: Final = 7 * 24 * 3600 * 10**9
_TRIMMED_PER_ENTRY: Final = 64

OPERATIONS: Final = (
    "", "create", "mkdir", "mknod", "create_unnamed", "symlink", "link", "unlink", "rmdir", "rename", "set_attributes",
    "set_xattr", "remove_xattr", "write", "put_file", "allocate", "copy_range", "open_session", "close_session",
    "expire_sessions",
)  # fmt: skip
"""Names by the code that a record stores. Only ever appended to."""

CODES: Final = {name: code for code, name in enumerate(OPERATIONS)}

_BYTES: Final = b"oplog.bytes"
_FIRST: Final = b"oplog.first"
_OLDEST: Final = b"oplog.oldest_ns"

_ROW: Final = Struct("<q")
_RECORD: Final = Struct("<BHIIQQQB")
_SECOND: Final = Struct("<QB")
_pack = _RECORD.pack
_RENAME: Final = CODES["rename"]


def record(code: int, errno: int, who: Caller, session: int, inode: int, parent: int, name: bytes) -> bytes:
    """Return a packed record of an operation on one name, or on none (parent 0 and an empty name)."""
    return _pack(code, errno, who.uid, who.gid, session, inode, parent, len(name)) + name


def second_name(parent: int, name: bytes) -> bytes:
    """Return what follows the record of a rename."""
    return _SECOND.pack(parent, len(name)) + name


def append(state: State, index: int, records: list[bytes]) -> bytes:
    """Write an entry's row and drop old ones; return the row."""
    row = _ROW.pack(state.now) + b"".join(records)
    state.tx.put(keys.oplog(index, 0), row)
    counters = state.counters
    total = counters.add(_BYTES, len(row)) + len(row)
    oldest = counters.get(_OLDEST)
    if not oldest:
        counters.put(_OLDEST, max(state.now, 1))
        counters.put(_FIRST, index)
    elif total > BYTES_MAX or state.now - oldest > AGE_MAX_NS:
        _trim(state, total)
    state.tx.commit()
    return row


def _trim(state: State, total: int) -> None:
    counters, tx = state.counters, state.tx
    first = counters.get(_FIRST) or 0
    for dropped, (key, row) in enumerate(tx.scan(keys.oplog(first, 0), keys.oplog(2**64 - 1, 0))):
        (time_ns,) = _ROW.unpack_from(row)
        fits = total <= BYTES_MAX and state.now - time_ns <= AGE_MAX_NS
        if fits or dropped == _TRIMMED_PER_ENTRY:
            counters.put(_FIRST, keys.parse_chunk(key)[0])
            counters.put(_OLDEST, max(time_ns, 1))
            break
        tx.delete(key)
        total -= len(row)
    else:
        counters.put(_OLDEST, 0)
    counters.put(_BYTES, total)


def parse(index: int, row: bytes) -> Iterator[OperationRecord]:
    """Yield the records of a row. `client` and `path` are for the reader to find."""
    (time_ns,) = _ROW.unpack_from(row)
    place, position = _ROW.size, 0
    while place < len(row):
        code, errno, uid, gid, session, inode, parent, length = _RECORD.unpack_from(row, place)
        place += _RECORD.size
        found = OperationRecord(
            index=index,
            position=position,
            time_ns=time_ns,
            operation=OPERATIONS[code],
            uid=uid,
            gid=gid,
            session=session,
            inode=inode,
            parent=parent,
            name=row[place : place + length],
            errno=errno,
        )
        place += length
        if code == _RENAME:
            found.new_parent, length = _SECOND.unpack_from(row, place)
            place += _SECOND.size
            found.new_name = row[place : place + length]
            place += length
        position += 1
        yield found


def read(state: State, since_index: int = 0) -> Iterator[OperationRecord]:
    """Yield the records kept, from a log index on, oldest first."""
    for key, row in state.tx.scan(keys.oplog(since_index, 0), keys.oplog(2**64 - 1, 0)):
        yield from parse(keys.parse_chunk(key)[0], row)
