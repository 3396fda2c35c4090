"""The tables of the namespace, and what the command under way knows.

Operations are functions of a `State`, the caller and the request. What they find missing or forbidden they raise as a
`BlockyardError`; whatever they changed until then is rolled back by the machine.

Invariants, between commands: a directory's `size` is its number of entries and its `nlink` 2 + its subdirectories; a
file's `nlink` is the number of its dentries; an inode of nlink 0 has an open handle; no slice lies beyond `size`.
"""

from typing import Final

from blockyard.metaserver.namespace.blocks import BlockLeases, References
from blockyard.metaserver.namespace.content import NEXT_INODE, Doomed
from blockyard.metaserver.namespace.crowded import Crowded
from blockyard.metaserver.namespace.dentries import Dentries
from blockyard.metaserver.namespace.locks import LockTable
from blockyard.metaserver.namespace.open_files import UNBOUNDED, OpenFiles
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import KeyValueStore, Table, Transaction
from blockyard.proto.errors import NotDirectory, NotFound, StaleHandle
from blockyard.proto.metadata_pb2 import FILE_TYPE_DIRECTORY, FILE_TYPE_REGULAR, Attributes, EntryReply

ROOT: Final = 1
ROOT_MODE: Final = 0o755

NEXT_HANDLE: Final = b"next_handle"
NEXT_SESSION: Final = b"next_session"
INODES: Final = b"inodes"

CLOCK_NS: Final = b"clock.ns"
CLOCK_MS: Final = b"clock.ms"
SKIPPED_INODES: Final = 1 << 24  # the check keeps a byte per id ever given
SKIPPED_NUMBERS: Final = 1 << 32

_CACHED_INODES: Final = 200_000


class Counters(Table[bytes, int]):
    """Named whole numbers, all in memory."""

    __slots__ = ()

    def __init__(self, tx: Transaction) -> None:
        super().__init__(tx, keys.counter, int.from_bytes, _encode_count, UNBOUNDED)
        for key, value in tx.scan_prefix(keys.COUNTER):
            self.known[key[len(keys.COUNTER) :]] = int.from_bytes(value)

    def load(self, key: bytes) -> int | None:
        """Every counter is in memory already."""
        return None

    def add(self, name: bytes, amount: int = 1) -> int:
        """Add to a counter; return what it was (0 at first)."""
        pending = self.pending
        value = pending[name] if name in pending else self.known.get(name)
        if value is None:
            value = 0
        pending[name] = value + amount
        return value


def _encode_count(value: int) -> bytes:
    return value.to_bytes(8, "big")


class State:
    """All rows of the namespace, as this member has applied them."""

    __slots__ = (
        "clock_ms",
        "counters",
        "crowded",
        "dentries",
        "doomed",
        "inodes",
        "leases",
        "locks",
        "now",
        "open_files",
        "references",
        "sequence",
        "session",
        "subject",
        "tx",
        "written",
    )

    def __init__(self, store: KeyValueStore, leases: BlockLeases) -> None:
        self.tx = tx = Transaction(store)
        self.inodes: Table[int, Attributes] = Table(
            tx, keys.inode, Attributes.FromString, Attributes.SerializeToString, _CACHED_INODES
        )
        self.dentries = Dentries(tx)
        self.counters = Counters(tx)
        self.open_files = OpenFiles(tx)
        self.locks = LockTable(tx)
        self.doomed = Doomed(tx)
        self.crowded = Crowded(tx)
        self.references = References(tx, leases)
        self.leases = leases
        self.now = 0  # time of the entry under way, ns
        self.clock_ms = 0  # its session clock
        self.session = 0  # who asks, and
        self.sequence = 0  # which operation; 0 for reads and internal commands
        self.subject = 0  # inode that the operation turned out to be about, for the operation log
        self.written: list[tuple[int, int]] = []  # of an operation on many files: each inode, and 0 or an errno
        if self.inodes.get(ROOT) is None:
            self._make_root()

    def inode(self, number: int) -> Attributes:
        """Return an inode's attributes; they must not be changed. Raises StaleHandle when it is gone."""
        found = self.inodes.get(number)
        if found is None:
            raise StaleHandle(f"inode {number} is gone", str(number))
        return found

    def directory(self, number: int) -> Attributes:
        """Return a directory's attributes. Raises NotDirectory, or StaleHandle when it is gone."""
        found = self.inodes.get(number)
        if found is None:
            raise StaleHandle(f"directory {number} is gone", str(number))
        if found.type != FILE_TYPE_DIRECTORY:
            raise NotDirectory(f"inode {number} is no directory", str(number))
        return found

    def child(self, parent: int, name: bytes) -> Attributes:
        """Return the attributes of a directory's entry. Raises NotFound."""
        entry = self.dentries.get((parent, name))
        if entry is None:
            raise NotFound(f"no entry {name!r} in directory {parent}")
        found = self.inodes.get(entry.inode)
        if found is None:
            raise AssertionError(f"entry {name!r} of directory {parent} leads to inode {entry.inode}, which is gone")
        return found

    def edit(self, number: int) -> Attributes:
        """Return a copy of an existing inode's attributes that this command may change; its version has risen."""
        pending = self.inodes.pending
        record = pending.get(number)
        if record is None:
            old = self.inode(number)
            record = Attributes()
            record.CopyFrom(old)
            record.version = old.version + 1
            pending[number] = record
        return record

    def touch(self, number: int) -> Attributes:
        """Set an inode's ctime to now; return its attributes for further changes."""
        record = self.edit(number)
        record.ctime_ns = self.now
        return record

    def change_entries(self, parent: int, entries: int, subdirectories: int = 0) -> None:
        """Count entries that came to or left a directory, and set its times."""
        record = self.edit(parent)
        record.mtime_ns = record.ctime_ns = self.now
        if entries:
            record.size += entries
        if subdirectories:
            record.nlink += subdirectories

    def new_inode(
        self, kind: int, mode: int, uid: int, gid: int, parent: int, nlink: int = 1, size: int = 0, rdev: int = 0
    ) -> Attributes:
        """Make an inode; return its attributes, which this command may go on changing."""
        counters, now = self.counters, self.now
        number = counters.add(NEXT_INODE)
        counters.add(INODES)
        record = Attributes(
            inode=number,
            type=kind,  # type: ignore[arg-type]
            mode=mode,
            uid=uid,
            gid=gid,
            nlink=nlink,
            size=size,
            rdev=rdev,
            atime_ns=now,
            mtime_ns=now,
            ctime_ns=now,
            birth_ns=now,
            version=1,
            parent=parent,
        )
        self.inodes.pending[number] = record
        self.subject = number
        return record

    def commit(self) -> None:
        """Keep what the command, or one independent part of it, did. May still refuse it: then call rollback()."""
        if self.references.changes:
            self.references.settle(self.session)
        self.tx.commit()

    def rollback(self) -> None:
        """Drop what the command did since the last commit."""
        self.references.forget()
        self.tx.rollback()

    def clocks(self) -> tuple[int, int]:
        """Return the time in ns and the session clock in ms of the last entry."""
        return self.counters.get(CLOCK_NS) or 0, self.counters.get(CLOCK_MS) or 0

    def begin_entry(self, time_ns: int, clock_ms: int) -> None:
        """Take an entry's clocks; neither goes back, whoever leads and whatever its machine thinks what time it is."""
        last_ns, last_ms = self.clocks()
        self.now, self.clock_ms = max(time_ns, last_ns), max(clock_ms, last_ms)
        self._start_time(self.now)

    def end_entry(self) -> None:
        """Keep the clocks: a restarted member goes on from them."""
        self.counters.put(CLOCK_NS, self.now)
        self.counters.put(CLOCK_MS, self.clock_ms)

    def skip_ahead(self) -> None:
        """Pass over ids of inodes, handles and sessions that were given out after this state was copied."""
        self.counters.add(NEXT_INODE, SKIPPED_INODES)
        self.counters.add(NEXT_HANDLE, SKIPPED_NUMBERS)
        self.counters.add(NEXT_SESSION, SKIPPED_NUMBERS)

    def _start_time(self, time_ns: int) -> None:
        """Give the root its times, once, when the first entry says what time it is."""
        if self.inode(ROOT).birth_ns == 0:
            root = self.edit(ROOT)
            root.atime_ns = root.mtime_ns = root.ctime_ns = root.birth_ns = time_ns
            self.tx.commit()

    def _make_root(self) -> None:
        self.inodes.put(
            ROOT,
            Attributes(inode=ROOT, type=FILE_TYPE_DIRECTORY, mode=ROOT_MODE, nlink=2, version=1, parent=ROOT),
        )
        self.counters.put(NEXT_INODE, ROOT + 1)
        self.counters.put(NEXT_HANDLE, 1)
        self.counters.put(NEXT_SESSION, 1)
        self.counters.put(INODES, 1)
        self.tx.commit()


def entry_reply(record: Attributes) -> EntryReply:
    """Return a reply with a copy of an inode's attributes."""
    reply = EntryReply()
    reply.attributes.CopyFrom(record)  # half the time of the constructor's copy
    return reply


def is_regular(inode: Attributes) -> bool:
    """Return whether the inode is a file of bytes."""
    return inode.type == FILE_TYPE_REGULAR
