"""What the tests of the metadata server's disk share: small logs and states, copies of them, and flipped bits."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from blockyard.metaserver.raft.types import (
    BaseRecord,
    DurableState,
    Entry,
    EntryKind,
    HardState,
    LogIndex,
    MemberId,
    Membership,
    Term,
)
from blockyard.metaserver.state.transaction import WriteBatch
from blockyard.metaserver.storage.identity import Identity
from blockyard.metaserver.storage.log_store import LogStore
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto import ids

MEMBERSHIP = Membership.of([1, 2], witness=3)
START = DurableState.bootstrap(MEMBERSHIP)
CLUSTER = ids.cluster_id(bytes(range(16)))
IDENTITY = Identity(CLUSTER, ids.MemberId(1), ids.Incarnation(7))
SEGMENT = 8192


def entry(index: int, term: int = 1, size: int = 40) -> Entry:
    data = (b"%d/%d " % (index, term) * size)[:size]
    return Entry(LogIndex(index), Term(term), EntryKind.COMMAND, data)


def entries(low: int, high: int, term: int = 1, size: int = 40) -> list[Entry]:
    """Return entries low..high-1."""
    return [entry(index, term, size) for index in range(low, high)]


def hard(term: int = 1, vote: int = 0, commit: int = 1) -> HardState:
    return HardState(Term(term), MemberId(vote), LogIndex(commit))


def base(index: int, term: int = 1) -> BaseRecord:
    return BaseRecord(LogIndex(index), Term(term), MEMBERSHIP)


def new_log(path: Path, segment_size_bytes: int = SEGMENT) -> LogStore:
    LogStore.create(path, START.hard_state, START.base, segment_size_bytes=segment_size_bytes)
    return open_log(path, segment_size_bytes)


def open_log(path: Path, segment_size_bytes: int = SEGMENT, cache_bytes: int = 1000) -> LogStore:
    return LogStore(path, segment_size_bytes=segment_size_bytes, cache_bytes=cache_bytes)


def all_entries(log: LogStore) -> list[Entry]:
    """Return every entry of the log."""
    low, high = log.first_index(), LogIndex(log.last_index() + 1)
    return list(log.entries(low, high, 1 << 40)) if low < high else []


def new_state(path: Path) -> StateStore:
    return StateStore(path, cache_bytes=1 << 20)


def put(store: StateStore, applied: int, *rows: tuple[bytes, bytes]) -> None:
    store.apply(WriteBatch(puts=list(rows)), LogIndex(applied))


def copy(source: Path, target: Path) -> Path:
    """Copy a directory as it is now, as a machine that stops now would leave it."""
    return Path(shutil.copytree(source, target, symlinks=True))


def flip(path: Path, offset: int, bit: int = 0) -> None:
    """Flip one bit of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def offsets(size: int, count: int) -> Iterator[int]:
    """Yield about `count` offsets spread over 0..size-1, ends included, none at a regular grid of a power of two."""
    step = max(1, size // count)
    yield from sorted({min(size - 1, offset + offset // step % 7) for offset in range(0, size, step)} | {size - 1})
