"""The entries of directories: (parent, name) → inode, and the cookies by which a listing goes on.

(Linux calls its cache of this by the same name; here a dentry is the durable record.)

A dentry's key is (parent, cookie), and its cookie is made of its name: 55 bits of BLAKE2b, then 8 bits that tell
names with one hash apart. So one row serves both the lookup and the listing, a listing is one scan in cookie order,
and a cookie means the same place as long as its entry lives, whatever is inserted or removed around it.
Roads not taken: a rising number per entry needs a second row per file, and a program that renames each entry it lists
would meet its own renamed entries at the end, for ever; ordering by name needs cookies longer than 64 bits.

Names with one hash take the low bytes 0, 1, … in turn. A removed entry that is not the last of them leaves a tombstone
(a row with inode 0), so a lookup ends at the first absent row and an entry never moves. 256 names of one hash fill
it: NoSpace, as in ext4. Cookies are 256 to 2^63 - 1: positive as an off_t, and 0 to 255 are free for `.` and `..`.

Invariant: among the rows of one hash no row is missing before the last, and the last is no tombstone.
"""

from _blake2 import blake2b
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from blockyard.metaserver.state import keys
from blockyard.metaserver.state.transaction import Table, Transaction
from blockyard.proto.errors import NoSpace

FANOUT: Final = 256
FIRST_COOKIE: Final = FANOUT

_HEAD: Final = Struct("<QB")
_CACHED: Final = 250_000


class Dentry(NamedTuple):
    """Where a name leads."""

    inode: int
    type: int
    cookie: int


class Row(NamedTuple):
    """One dentry as a listing finds it."""

    cookie: int
    inode: int
    type: int
    name: bytes


def first_cookie(name: bytes) -> int:
    """Return the first of the cookies that a name may get."""
    return (int.from_bytes(blake2b(name, digest_size=7).digest(), "big") >> 1 or 1) << 8


class Dentries(Table[tuple[int, bytes], Dentry]):
    """All dentries. Rows are written at once; the table is a cache of names looked up, absent ones too."""

    __slots__ = ("_vacant",)

    def __init__(self, tx: Transaction) -> None:
        super().__init__(tx, _no_key, _no_parse, _no_encode, _CACHED)
        self._vacant: tuple[tuple[int, bytes], int] | None = None  # a name not found, and the cookie it would get

    def load(self, key: tuple[int, bytes]) -> Dentry | None:
        parent, name = key
        cookie = first_cookie(name)
        row = self.tx.get(keys.dentry(parent, cookie))
        if row is None:  # as nearly always for a name that is not there
            self._vacant = (key, cookie)
            return None
        vacant = None
        while row is not None:
            if row[9:] == name:
                inode, kind = _HEAD.unpack_from(row)
                return Dentry(inode, kind, cookie)
            if vacant is None and row[:8] == bytes(8):
                vacant = cookie
            cookie += 1
            if cookie % FANOUT == 0:
                break
            row = self.tx.get(keys.dentry(parent, cookie))
        else:
            vacant = vacant or cookie
        self._vacant = None if vacant is None else (key, vacant)
        return None

    def insert(self, parent: int, name: bytes, inode: int, kind: int) -> None:
        """Add a name that is not there."""
        key = (parent, name)
        vacant = self._vacant
        if vacant is None or vacant[0] != key:
            self.load(key)
            vacant = self._vacant
            if vacant is None:
                raise NoSpace(f"directory {parent} holds {FANOUT} names with the hash of {name!r}")
        cookie = vacant[1]
        self._vacant = None
        self.pending[key] = Dentry(inode, kind, cookie)
        self.tx.put(keys.dentry(parent, cookie), _HEAD.pack(inode, kind) + name)

    def replace(self, parent: int, name: bytes, inode: int, kind: int) -> None:
        """Let an existing name lead elsewhere; its cookie stays."""
        cookie = self._existing(parent, name).cookie
        self.pending[(parent, name)] = Dentry(inode, kind, cookie)
        self.tx.put(keys.dentry(parent, cookie), _HEAD.pack(inode, kind) + name)

    def remove(self, parent: int, name: bytes) -> None:
        """Take an existing name away."""
        cookie = self._existing(parent, name).cookie
        self._vacant = None
        self.pending[(parent, name)] = None
        tx = self.tx
        if (cookie + 1) % FANOUT and tx.get(keys.dentry(parent, cookie + 1)) is not None:
            tx.put(keys.dentry(parent, cookie), _HEAD.pack(0, 0))
            return
        tx.delete(keys.dentry(parent, cookie))
        while cookie % FANOUT:
            cookie -= 1
            row = tx.get(keys.dentry(parent, cookie))
            if row is None or row[:8] != bytes(8):
                return
            tx.delete(keys.dentry(parent, cookie))

    def list(self, parent: int, after: int) -> Iterator[Row]:
        """Yield a directory's entries in rising order of cookie, those above `after`."""
        start, end = keys.dentry(parent, after + 1), keys.dentry(parent, 2**64 - 1)
        for key, value in self.tx.scan(start, end):
            inode, kind = _HEAD.unpack_from(value)
            if inode:
                yield Row(keys.parse_two(key)[1], inode, kind, value[9:])

    def flush(self, rows: dict[bytes, bytes | None]) -> None:
        """Nothing is left to write: rows were written when they changed."""

    def commit(self) -> None:
        self.known.update(self.pending)
        self.pending.clear()

    def _existing(self, parent: int, name: bytes) -> Dentry:
        entry = self.get((parent, name))
        if entry is None:
            raise AssertionError(f"no entry {name!r} in directory {parent}")
        return entry


def _no_key(key: tuple[int, bytes]) -> bytes:
    raise AssertionError(f"the key of dentry {key} is known only after looking it up")


def _no_parse(row: bytes) -> Dentry:
    raise AssertionError("a dentry is parsed by load()")


def _no_encode(entry: Dentry) -> bytes:
    raise AssertionError("a dentry's row is written when it changes")
