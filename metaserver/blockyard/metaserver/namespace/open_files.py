"""Open files: which session holds which handle on which inode.

All of them stay in memory (clients have thousands, not millions), with indexes by inode and by session: whether an
unlinked file is still open is asked at every unlink.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Final, NamedTuple

from blockyard.metaserver.namespace.open_flags import O_ACCMODE, O_RDONLY, O_RDWR, O_WRONLY
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Table, Transaction
from blockyard.proto.errors import BadHandle

UNBOUNDED: Final = 2**62
HANDLES_PER_SESSION: Final = 262_144

_ROW: Final = Struct("<QQI")


class OpenFile(NamedTuple):
    """One handle."""

    inode: int
    session: int
    flags: int  # open flags as Linux numbers them

    @property
    def reads(self) -> bool:
        """Whether it was opened for reading."""
        return self.flags & O_ACCMODE in (O_RDONLY, O_RDWR)

    @property
    def writes(self) -> bool:
        """Whether it was opened for writing."""
        return self.flags & O_ACCMODE in (O_WRONLY, O_RDWR)


class OpenFiles(Table[int, OpenFile]):
    """Every handle, by its number."""

    __slots__ = ("by_inode", "by_session")

    def __init__(self, tx: Transaction) -> None:
        super().__init__(tx, keys.handle, _parse, _encode, UNBOUNDED)
        self.by_inode: dict[int, dict[int, None]] = {}
        self.by_session: dict[int, dict[int, None]] = {}
        for key, row in tx.scan_prefix(keys.HANDLE):
            self._index(keys.parse_one(key), _parse(row))

    def is_open(self, inode: int) -> bool:
        """Return whether any session holds the inode open, this command's changes included."""
        held = self.by_inode.get(inode, {})
        if not self.pending:
            return bool(held)
        if any(file is not None and file.inode == inode for file in self.pending.values()):
            return True
        return any(handle not in self.pending for handle in held)

    def of_session(self, session: int) -> Iterable[int]:
        """Return the session's handles, rising, as of the last command."""
        return sorted(self.by_session.get(session, ()))

    def count(self, session: int) -> int:
        """Return how many handles the session holds, as of the last command."""
        return len(self.by_session.get(session, ()))

    def held(self, handle: int, inode: int, session: int) -> OpenFile:
        """Return a handle that the session holds on the inode. Raises BadHandle. Session 0 stands for any."""
        file = self.get(handle)
        if file is None or file.inode != inode or session not in (0, file.session):
            raise BadHandle(f"handle {handle} is not open on inode {inode} in this session")
        return file

    def load(self, key: int) -> OpenFile | None:
        """Every handle is in memory already."""
        return None

    def commit(self) -> None:
        for handle, file in self.pending.items():
            old = self.known.pop(handle, None)
            if old is not None:
                _discard(self.by_inode, old.inode, handle)
                _discard(self.by_session, old.session, handle)
            if file is not None:
                self._index(handle, file)
        self.dirty.update(self.pending)
        self.pending.clear()

    def flush(self, rows: dict[bytes, bytes | None]) -> None:
        for handle in self.dirty:
            file = self.known.get(handle)
            rows[keys.handle(handle)] = None if file is None else _encode(file)

    def get(self, key: int) -> OpenFile | None:
        if key in self.pending:
            return self.pending[key]
        return self.known.get(key)

    def _index(self, handle: int, file: OpenFile) -> None:
        self.known[handle] = file
        self.by_inode.setdefault(file.inode, {})[handle] = None
        self.by_session.setdefault(file.session, {})[handle] = None


def _discard(index: dict[int, dict[int, None]], name: int, handle: int) -> None:
    members = index[name]
    del members[handle]
    if not members:
        del index[name]


def _parse(row: bytes) -> OpenFile:
    return OpenFile._make(_ROW.unpack(row))


def _encode(file: OpenFile) -> bytes:
    return _ROW.pack(*file)
