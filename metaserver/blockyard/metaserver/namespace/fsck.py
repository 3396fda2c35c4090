"""The check of the namespace: everything that the tables must agree on, looked up row by row.

`check(machine.state)` yields what is wrong, and nothing on a sound state; between entries only. Memory: a byte per
inode id ever given, a few words per directory, and a count per block (`block_passes` divides those). It reads rows,
not the machine's indexes, so it judges what a restarted member would load.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import Final, NamedTuple

from blockyard.metaserver.namespace import blocks, locks, slices
from blockyard.metaserver.namespace.content import NEXT_INODE
from blockyard.metaserver.namespace.dentries import first_cookie
from blockyard.metaserver.namespace.slices import CHUNK_BYTES, CROWDED_PIECES
from blockyard.metaserver.namespace.state import INODES, ROOT, State
from blockyard.metaserver.namespace.xattrs import summary_of
from blockyard.metaserver.state import keys
from blockyard.proto.metadata_pb2 import (
    FILE_TYPE_DIRECTORY,
    FILE_TYPE_REGULAR,
    FILE_TYPE_SYMLINK,
    Attributes,
)

_DENTRY: Final = Struct("<QB")
_HANDLE: Final = Struct("<QQI")
_MANY: Final = 255


class Finding(NamedTuple):
    """One thing that is wrong."""

    kind: str  # one word, as MetaFsckFinding says
    inode: int
    message: str


@dataclass(slots=True)
class Progress:
    """What a check has looked at so far."""

    inodes: int = 0
    dentries: int = 0
    slices: int = 0


@dataclass(slots=True)
class _Seen:
    """What the dentries say, to be compared with what the inodes say."""

    links: bytearray
    types: bytearray  # of the inodes, by number; 0 where there is none
    many: dict[int, int] = field(default_factory=dict)  # counts from 255 up
    directories: dict[int, list[int]] = field(default_factory=dict)  # entries, subdirectories
    parents: dict[int, int] = field(default_factory=dict)  # of directories

    def link(self, inode: int) -> None:
        if self.links[inode] == _MANY:
            self.many[inode] += 1
            return
        self.links[inode] += 1
        if self.links[inode] == _MANY:
            self.many[inode] = _MANY

    def count(self, inode: int) -> int:
        return self.many.get(inode, 0) or self.links[inode]


def check(state: State, progress: Progress | None = None, block_passes: int = 1) -> Iterator[Finding]:
    """Yield every fault of the namespace. `progress` is kept up to date meanwhile."""
    state.tx.changes()  # rows that only tables know yet become visible to scans
    progress = progress or Progress()
    bound = state.counters.get(NEXT_INODE) or 0
    seen = _Seen(bytearray(bound), _types(state, bound))
    yield from _check_dentries(state, seen, progress)
    yield from _check_inodes(state, seen, progress)
    yield from _check_marks(state)
    yield from _check_tree(seen)
    yield from _check_xattrs(state)
    for part in range(block_passes):
        yield from _check_blocks(state, part, block_passes)
    yield from _check_sessions(state)


def _types(state: State, bound: int) -> bytearray:
    """Return each inode's type: one scan costs a third of a lookup for every entry in the order of names."""
    types = bytearray(bound)
    for key, row in state.tx.scan_prefix(keys.INODE):
        number = keys.parse_one(key)
        if number < bound:
            types[number] = Attributes.FromString(row).type
    return types


def _parent(state: State, directory: int) -> int:
    row = state.tx.get(keys.inode(directory))
    return 0 if row is None else Attributes.FromString(row).parent


def _check_dentries(state: State, seen: _Seen, progress: Progress) -> Iterator[Finding]:
    before: tuple[int, int] = (0, 0)  # parent and cookie of the row before
    tombstone = False
    for key, value in state.tx.scan_prefix(keys.DENTRY):
        parent, cookie = keys.parse_two(key)
        inode, kind = _DENTRY.unpack_from(value)
        name = value[9:]
        if cookie % 256 and before != (parent, cookie - 1):
            yield Finding("dentry", parent, f"the row before cookie {cookie:#x} is missing, so lookups end too early")
        if tombstone and before != (parent, cookie - 1):
            yield Finding("dentry", before[0], f"the last row at cookie {before[1]:#x} is a tombstone")
        before, tombstone = (parent, cookie), inode == 0
        if tombstone:
            continue
        progress.dentries += 1
        if first_cookie(name) != cookie - cookie % 256:
            yield Finding("dentry", parent, f"entry {name!r} stands at the wrong cookie {cookie:#x}")
        counts = seen.directories.setdefault(parent, [0, 0])
        counts[0] += 1
        found = seen.types[inode] if inode < len(seen.types) else 0
        if not found:
            yield Finding("dangling", parent, f"entry {name!r} leads to inode {inode}, which does not exist")
            continue
        if found != kind:
            yield Finding("type", inode, f"entry {name!r} of {parent} says type {kind}, the inode {found}")
        seen.link(inode)
        if found == FILE_TYPE_DIRECTORY:
            counts[1] += 1
            seen.parents[inode] = parent
            said = _parent(state, inode)
            if said != parent:
                yield Finding("parent", inode, f"directory is in {parent} but says that it is in {said}")
    if tombstone:
        yield Finding("dentry", before[0], f"the last row at cookie {before[1]:#x} is a tombstone")


def _check_inodes(state: State, seen: _Seen, progress: Progress) -> Iterator[Finding]:
    chunks = _Chunks(state, progress)
    opened = {_HANDLE.unpack(row)[0] for _, row in state.tx.scan_prefix(keys.HANDLE)}
    for key, row in state.tx.scan_prefix(keys.INODE):
        number = keys.parse_one(key)
        inode = Attributes.FromString(row)
        progress.inodes += 1
        yield from chunks.skip_to(number)
        if inode.inode != number or number >= len(seen.links):
            yield Finding("inode", number, f"row says inode {inode.inode}, and ids end below {len(seen.links)}")
            continue
        if inode.nlink == 0 and number not in opened:
            yield Finding("orphan", number, "it has neither name nor open handle")
        if inode.type == FILE_TYPE_DIRECTORY:
            yield from _check_directory(inode, seen)
        elif seen.count(number) != inode.nlink:
            yield Finding("nlink", number, f"{seen.count(number)} names, but nlink is {inode.nlink}")
        if inode.type == FILE_TYPE_REGULAR:
            yield from chunks.check(inode)
        if inode.type == FILE_TYPE_SYMLINK:
            target = state.tx.get(keys.symlink(number))
            if target is None or len(target) != inode.size:
                yield Finding("symlink", number, f"target {target!r} for size {inode.size}")
    yield from chunks.skip_to(2**64)
    if progress.inodes != state.counters.get(INODES):
        yield Finding("count", 0, f"{progress.inodes} inodes, but the counter says {state.counters.get(INODES)}")
    for key, _ in state.tx.scan_prefix(keys.SYMLINK):
        number = keys.parse_one(key)
        if number >= len(seen.types) or seen.types[number] != FILE_TYPE_SYMLINK:
            yield Finding("symlink", number, "a target without symlink")


def _check_directory(inode: Attributes, seen: _Seen) -> Iterator[Finding]:
    number = inode.inode
    entries, subdirectories = seen.directories.pop(number, (0, 0))
    if entries != inode.size:
        yield Finding("size", number, f"{entries} entries, but the directory counts {inode.size}")
    removed = inode.nlink == 0
    if not removed and inode.nlink != 2 + subdirectories:
        yield Finding("nlink", number, f"{subdirectories} subdirectories, but nlink is {inode.nlink}")
    names = seen.count(number)
    if names != (0 if removed or number == ROOT else 1):
        yield Finding("nlink" if names else "orphan", number, f"a directory with {names} names")


class _Chunks:
    """Chunk rows, read in step with the inodes: both rise by inode."""

    def __init__(self, state: State, progress: Progress) -> None:
        self.state, self.progress = state, progress
        self.rows = state.tx.scan_prefix(keys.CHUNK)
        self.row = next(self.rows, None)

    def skip_to(self, number: int) -> Iterator[Finding]:
        """Pass the chunks of inodes below `number`: they belong to no inode, unless they are being given back."""
        while self.row is not None and keys.parse_chunk(self.row[0])[0] < number:
            inode = keys.parse_chunk(self.row[0])[0]
            if self.state.tx.get(keys.doomed(inode)) is None:
                yield Finding("slice", inode, "slices without a file")
            self.row = next(self.rows, None)

    def check(self, inode: Attributes) -> Iterator[Finding]:
        """Check the chunks of a file."""
        allocated = 0
        while self.row is not None and keys.parse_chunk(self.row[0])[0] == inode.inode:
            index = keys.parse_chunk(self.row[0])[1]
            end = touching = 0
            stored = slices.parse(self.row[1])
            for piece in stored:
                self.progress.slices += 1
                start, length, _, offset, whole = piece
                touching += start == end
                if start < end or length == 0:
                    yield Finding("slice", inode.inode, f"piece {piece} of chunk {index} overlaps the one before")
                end = start + length
                allocated += length
                if end > CHUNK_BYTES or index * CHUNK_BYTES + end > inode.size:
                    yield Finding("slice", inode.inode, f"piece {piece} of chunk {index} lies beyond chunk or file")
                if offset + length > whole:
                    yield Finding("slice", inode.inode, f"piece {piece} of chunk {index} lies beyond its block")
            if end == 0:
                yield Finding("slice", inode.inode, f"chunk {index} has a row without pieces")
            if len(stored) > CROWDED_PIECES and touching > (stored[0][0] == 0):
                yield from self._require_mark(inode.inode, index)
            self.row = next(self.rows, None)
        if allocated != inode.allocated:
            yield Finding("size", inode.inode, f"{allocated} bytes in slices, but {inode.allocated} allocated")

    def _require_mark(self, number: int, index: int) -> Iterator[Finding]:
        if self.state.tx.get(keys.crowded(number, index)) is None:
            yield Finding("slice", number, f"chunk {index} is crowded but not marked for compaction")


def _check_marks(state: State) -> Iterator[Finding]:
    for key, _ in state.tx.scan_prefix(keys.CROWDED):
        number, index = keys.parse_chunk(key)
        if state.tx.get(keys.chunk(number, index)) is None:
            yield Finding("slice", number, f"chunk {index} is marked for compaction but has no pieces")


def _check_tree(seen: _Seen) -> Iterator[Finding]:
    """Every directory that is left must lead to the root."""
    sound = {ROOT}
    for directory in seen.parents:
        path: list[int] = []
        here: int | None = directory
        while here is not None and here not in sound and here not in path:
            path.append(here)
            here = seen.parents.get(here)
        if here in sound:
            sound.update(path)
        else:
            yield Finding("loop", directory, "its parents do not lead to the root")
    for parent in seen.directories:  # those of directories were taken out
        yield Finding("dangling", parent, "entries of something that is no directory")


def _check_xattrs(state: State) -> Iterator[Finding]:
    inode, totals = 0, (0, 0, 0)
    for key, value in state.tx.scan_prefix(keys.XATTR):
        number = keys.parse_one(key[:9])
        if len(key) == 9:
            yield from _check_xattr_totals(state, inode, totals)
            inode, totals = number, (0, 0, 0)
            continue
        name = len(key) - 9
        totals = (totals[0] + 1, totals[1] + name + len(value), totals[2] + name + 1)
        if number != inode:
            yield Finding("xattr", number, f"attribute {key[9:]!r} is not counted")
    yield from _check_xattr_totals(state, inode, totals)


def _check_xattr_totals(state: State, inode: int, totals: tuple[int, int, int]) -> Iterator[Finding]:
    if inode and summary_of(state, inode) != totals:
        yield Finding("xattr", inode, f"attributes sum up to {totals}, but {summary_of(state, inode)} is counted")
    if inode and state.tx.get(keys.inode(inode)) is None:
        yield Finding("xattr", inode, "attributes without inode")


def _check_blocks(state: State, part: int, parts: int) -> Iterator[Finding]:
    counts: dict[int, int] = {}
    for _, row in state.tx.scan_prefix(keys.CHUNK):
        for piece in slices.parse(row):
            if piece[2] % parts == part:
                counts[piece[2]] = counts.get(piece[2], 0) + 1
    for key, row in state.tx.scan_prefix(keys.BLOCK):
        block = keys.parse_one(key)
        if block % parts != part:
            continue
        count = counts.pop(block, 0)
        if count == 0 or count != blocks.parse(row)[0]:
            yield Finding(
                "block", 0, f"{count} slices refer to block {block:#x}, but {blocks.parse(row)[0]} are counted"
            )
        if state.tx.get(keys.reclaim(block)) is not None:
            yield Finding("block", 0, f"block {block:#x} is to be reclaimed, but {count} slices refer to it")
    for block, count in counts.items():
        yield Finding("block", 0, f"{count} slices refer to block {block:#x}, but none is counted")


def _check_sessions(state: State) -> Iterator[Finding]:
    tx = state.tx
    sessions = {keys.parse_one(key) for key, _ in tx.scan_prefix(keys.SESSION)}
    for key, row in tx.scan_prefix(keys.HANDLE):
        inode, session, _ = _HANDLE.unpack(row)
        if session not in sessions:
            yield Finding("handle", inode, f"handle {keys.parse_one(key)} of session {session}, which is over")
        if tx.get(keys.inode(inode)) is None:
            yield Finding("handle", inode, f"handle {keys.parse_one(key)} of an inode that does not exist")
    for key, row in tx.scan_prefix(keys.LOCKS):
        inode = keys.parse_one(key)
        record = locks.parse(row)
        for lock in (*record.held, *(waiter.lock for waiter in record.waiting)):
            if lock.session not in sessions:
                yield Finding("lock", inode, f"{lock} of a session that is over")
        if tx.get(keys.inode(inode)) is None:
            yield Finding("lock", inode, "locks of an inode that does not exist")
    for key, _ in tx.scan_prefix(keys.ANSWER):
        if keys.parse_two(key)[0] not in sessions:
            yield Finding("session", 0, f"answers of session {keys.parse_two(key)[0]}, which is over")
