"""The namespace on disk: RocksDB without a log of its own.

A write reaches memory only. Raft's log is what makes it durable: after a crash the store is as it was at some earlier
applied index, whole (a batch and its applied index are one write, one column family, and RocksDB flushes in order), and
the entries after that index are applied again. What that demands:

- Raft's log is compacted no further than `durable_index()`, which only `flush` moves; `DataDirectory` sees to it.
- `flush` comes often enough that replay is short: call it when `flush_due`.

Implements `KeyValueStore` of `metaserver.state`. One thread writes; `flush` may run in another; any thread may read.
After the first error of any kind the store does nothing any more.
"""

import errno
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Final

from blockyard.metaserver.raft.types import LogIndex
from blockyard.metaserver.state.keys import APPLIED_INDEX
from blockyard.metaserver.state.transaction import WriteBatch
from blockyard.metaserver.storage import rocks
from blockyard.metaserver.storage.failures import CorruptState
from blockyard.proto import failpoints
from blockyard.proto.disk.failures import CorruptStorage, StorageFailed
from rocksdict import AccessType, Checkpoint, DbClosedError, Rdict, RdictIter, ReadOptions
from rocksdict import WriteBatch as RocksBatch

FLUSH_BYTES: Final = 16 << 20
"""Rows written since the last flush after which the next one is due."""

_PAGE_ROWS: Final = 64
_INDEX_BYTES: Final = 8
_WATCH_INTERVAL_S: Final = 0.01

Row = tuple[bytes, bytes]


class StateStore:
    """An open state directory."""

    def __init__(self, path: Path, *, read_only: bool = False, cache_bytes: int = rocks.CACHE_BYTES) -> None:
        """Open the store in directory `path`; a missing one is made unless `read_only`.

        Raises CorruptState and StorageFailed.
        """
        self.path = path
        self.read_only = read_only
        self._failed: Exception | None = None
        self._lock = threading.Lock()  # a checkpoint and the index it stands for belong together
        self._flushing = threading.Lock()
        self._unlogged = rocks.unlogged()
        access = AccessType.read_only(False) if read_only else AccessType.read_write()
        with self._fatal("open"):
            self._db = Rdict(str(path), rocks.namespace_options(cache_bytes), access_type=access)
            self._applied = self._read_applied()
        self._durable = self._applied  # there is no log: what was found is what was flushed
        self._unflushed_bytes = 0

    # ------------------------------------------------------------------------------------------------- rows

    def get(self, key: bytes) -> bytes | None:
        """Return the row's value, or None. Raises CorruptState and StorageFailed."""
        self._refuse_if_failed()
        try:
            return self._db.get(key)
        except Exception as error:
            raise self._fail("read", error) from error

    def scan(self, start: bytes, end: bytes, limit: int = 0) -> Iterator[Row]:
        """Return the rows with start <= key < end in rising order, at most `limit` of them unless that is 0.

        They are as of this call. The first page is read at once, so that short scans hold nothing; a longer one keeps
        the memtables of its moment in memory until it is finished or dropped: what runs for minutes reads a
        checkpoint. Writers never wait for it. Raises CorruptState and StorageFailed, also later.
        """
        self._refuse_if_failed()
        with self._fatal("scan"):
            options = ReadOptions()
            options.set_iterate_upper_bound(end)
            cursor = self._db.iter(options)
            cursor.seek(start)
            page = self._page(cursor, min(limit, _PAGE_ROWS) if limit else _PAGE_ROWS)
        if len(page) < _PAGE_ROWS or limit == _PAGE_ROWS:
            return iter(page)
        return chain(page, self._rest(cursor, limit - _PAGE_ROWS if limit else -1))

    def write(self, batch: WriteBatch) -> None:
        """Make all changes of the batch, or none; not durable before the next `flush`.

        Among them must be the row `APPLIED_INDEX`, 8 bytes big-endian and never less than before; `apply` adds it.
        Raises StorageFailed.
        """
        applied = next((value for key, value in batch.puts if key == APPLIED_INDEX), None)
        assert applied is not None, "a batch without its applied index would be applied twice after a crash"
        self._write(batch, (), _decode_index(applied))

    def apply(self, batch: WriteBatch, applied: LogIndex, local_rows: Iterable[Row] = ()) -> None:
        """Write the batch together with the applied index and this member's own rows (a state hash). As `write`."""
        self._write(batch, [*local_rows, (APPLIED_INDEX, applied.to_bytes(_INDEX_BYTES, "big"))], applied)

    def _write(self, batch: WriteBatch, more: Iterable[Row], applied: LogIndex) -> None:
        self._refuse_if_failed()
        assert applied >= self._applied, f"applied index {applied} after {self._applied}"
        rows = RocksBatch(raw_mode=True)
        put = rows.put
        for key, value in chain(batch.puts, more):
            put(key, value)
        for key in batch.deletes:
            rows.delete(key)
        size = rows.size_in_bytes()
        with self._lock, self._fatal("write"):
            if self.flush_due:
                self._check_background()
            failpoints.hit("state.apply.before")
            self._db.write(rows, self._unlogged)
            failpoints.hit("state.apply.written")
            self._applied = applied
            self._unflushed_bytes += size

    # ------------------------------------------------------------------------------------------------- durability

    def applied_index(self) -> LogIndex:
        """Return the applied index of the newest write; 0 for an empty store."""
        return self._applied

    def durable_index(self) -> LogIndex:
        """Return the applied index that a crash now would leave, or an earlier one: the limit of log compaction."""
        return self._durable

    @property
    def flush_due(self) -> bool:
        return self._unflushed_bytes >= FLUSH_BYTES

    def flush(self) -> LogIndex:
        """Make every write so far durable; return `durable_index()`. May run in another thread, without the GIL.

        Raises StorageFailed.
        """
        with self._flushing:
            self._refuse_if_failed()
            with self._lock:
                applied, size = self._applied, self._unflushed_bytes
            with self._fatal("flush"):
                failpoints.hit("state.flush.before")
                self._flush_tables()
                failpoints.hit("state.flush.after")
            with self._lock:
                self._durable = applied
                self._unflushed_bytes -= size
            return applied

    def checkpoint(self, path: Path) -> LogIndex:
        """Make the new directory `path` a copy of the store by hard links; return the applied index it stands for.

        Flushes first, without the GIL; then holds it for a few small syncs. `path` must be on the same file system.
        Raises StorageFailed.
        """
        self.flush()
        with self._lock, self._fatal("checkpoint"):
            Checkpoint(self._db).create_checkpoint(str(path))
            return self._applied

    def verify(self) -> int:
        """Read every row, so that every checksum of the data is checked; return the rows. Raises CorruptState."""
        with self._fatal("verify"):
            cursor = self._db.iter()
            cursor.seek_to_first()
            rows = 0
            while page := len(self._page(cursor, _PAGE_ROWS)):
                rows += page
            return rows

    def disk_bytes(self) -> int:
        """Return the bytes of the store's live table files."""
        return self._db.property_int_value("rocksdb.total-sst-files-size") or 0

    def close(self) -> None:
        """Close the store without losing what was written, unless it failed. Drop every scan before."""
        if self._failed is None:
            with self._fatal("close"):
                if not self.read_only:
                    self._flush_tables()
                self._db.close()
            self._failed = StorageFailed(f"the state {self.path} is closed")

    # ------------------------------------------------------------------------------------------------- inside

    def _flush_tables(self) -> None:
        """Write the memtables out and wait for it.

        On a full disk RocksDB's flush waits for ever: it tries again by itself and only counts its failures. So it
        runs in a thread of its own, without the GIL, and is given up when the count rises. (A flush that does not wait
        is no way out: before it begins it waits, with the GIL, until no write would stall.)
        """
        errors: list[Exception] = []

        def flush() -> None:
            try:
                self._db.flush(True)
            except Exception as error:  # noqa: BLE001 - raised again below, in the thread that asked
                errors.append(error)

        flushing = threading.Thread(target=flush, name="state-flush", daemon=True)
        flushing.start()
        while flushing.is_alive():
            flushing.join(_WATCH_INTERVAL_S)
            self._check_background()
        if errors:
            raise errors[0]

    def _check_background(self) -> None:
        if self._db.property_int_value("rocksdb.background-errors"):
            raise OSError(errno.EIO, "RocksDB could not write a table; its file LOG says why (No space left?)")

    def _rest(self, cursor: RdictIter, limit: int) -> Iterator[Row]:
        while limit:
            with self._fatal("scan"):
                page = self._page(cursor, _PAGE_ROWS if limit < 0 else min(limit, _PAGE_ROWS))
            yield from page
            if len(page) < _PAGE_ROWS:
                return
            limit -= len(page) if limit > 0 else 0

    def _page(self, cursor: RdictIter, count: int) -> list[Row]:
        rows: list[Row] = []
        while len(rows) < count and cursor.valid():
            rows.append((cursor.key(), cursor.value()))
            cursor.next()
        if not cursor.valid():
            cursor.status()  # raises when it stopped for another reason than the end
        return rows

    def _read_applied(self) -> LogIndex:
        value = self._db.get(APPLIED_INDEX)
        return LogIndex(0) if value is None else _decode_index(value)

    def _refuse_if_failed(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _fail(self, doing: str, error: Exception) -> Exception:
        if isinstance(error, StorageFailed | CorruptStorage):
            self._failed = self._failed or error
            return error
        if isinstance(error, DbClosedError) and self._failed is not None:
            return self._failed
        self._failed = rocks.failure(doing, str(self.path), error)
        return self._failed

    @contextmanager
    def _fatal(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise self._fail(doing, error) from error


def _decode_index(value: bytes) -> LogIndex:
    if len(value) != _INDEX_BYTES:
        raise CorruptState(f"the applied index is {value!r}, not {_INDEX_BYTES} bytes")
    return LogIndex(int.from_bytes(value, "big"))
