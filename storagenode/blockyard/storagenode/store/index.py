"""The index on disk: RocksDB without a log of its own.

    b block (8 bytes, big-endian)   a row
    g group (2)                     blocks, bytes, bytes in own files
    p pack (4)                      generation, salt-free counters of the pack
    w                               where the log goes on

The packs and files are the truth. A batch holds only what is already synced there, together with the counters and the
position it leads to, and batches reach the disk in order and whole: what a crash leaves is the index of some earlier
moment, and the packs from its position on are read again. An index that cannot be read is made anew from them.

rocksdict's traps (see `docs/decisions/0001-metadata-storage.md`): no write is synced, `flush` runs in a thread of its
own because on a full disk it never returns, and only iterators with `status()` are used.
"""

import errno
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from blockyard.proto.disk.failures import StorageFailed
from rocksdict import (
    BlockBasedOptions,
    Cache,
    ChecksumType,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

FLUSH_BYTES: Final = 16 << 20
"""Rows written since the last flush after which the next one is due."""

_CACHE_BYTES: Final = 64 << 20
_WRITE_BUFFER_BYTES: Final = 32 << 20
_BLOCK_BYTES: Final = 4096
_WATCH_INTERVAL_S: Final = 0.01
_POSITION: Final = b"w"
_PAIR: Final = Struct("<IQ")
_GROUP: Final = Struct("<QQQ")
_PACK: Final = Struct("<IQQQQ")


class CorruptIndex(Exception):
    """The index cannot be read, or is not one of these packs. It is made anew from them."""


class Position(NamedTuple):
    """A place in the log: byte `offset` of pack `pack`."""

    pack: int
    offset: int


class GroupCount(NamedTuple):
    blocks: int
    bytes: int
    file_bytes: int


class PackCount(NamedTuple):
    """What the index knows of a pack; `end` is 0 while records may still be appended."""

    generation: int
    end: int
    live: int
    live_records: int
    held: int


class Index:
    """An open index. One thread writes at a time; any thread may read."""

    def __init__(self, path: Path) -> None:
        """Open or make the index in directory `path`. Raises CorruptIndex and StorageFailed."""
        self.path = path
        self._unlogged = WriteOptions()
        setattr(self._unlogged, "disable_wal", True)  # noqa: B010 - the stub calls it a method
        self.on_failure: Callable[[Exception], None] = _go_on
        """Told of each StorageFailed and CorruptIndex before it is raised; while the store serves this is the end."""
        self._unflushed = 0
        self._flushing = threading.Lock()
        try:
            self._db = Rdict(str(path), _options())
        except Exception as error:
            raise self._failure("open", error) from error

    # ------------------------------------------------------------------------------------------------- reading

    def get(self, block: int) -> bytes | None:
        """Return the encoded row. Raises CorruptIndex."""
        try:
            found: bytes | None = self._db.get(b"b" + block.to_bytes(8, "big"))
        except Exception as error:
            raise self._failure("read", error) from error
        return found

    def rows(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield (block, encoded row) for first <= block < end in rising order, as of this call. Raises CorruptIndex."""
        limit = b"c" if end >> 64 else b"b" + end.to_bytes(8, "big")
        for key, value in self._scan(b"b" + first.to_bytes(8, "big"), limit):
            yield int.from_bytes(key[1:], "big"), value

    def position(self) -> Position | None:
        """Return where the log goes on; None in a new index. Raises CorruptIndex."""
        for _, value in self._scan(_POSITION, b"x"):
            return Position(*_PAIR.unpack(value))
        return None

    def groups(self) -> dict[int, GroupCount]:
        return {int.from_bytes(k[1:], "big"): GroupCount(*_GROUP.unpack(v)) for k, v in self._scan(b"g", b"h")}

    def packs(self) -> dict[int, PackCount]:
        return {int.from_bytes(k[1:], "big"): PackCount(*_PACK.unpack(v)) for k, v in self._scan(b"p", b"q")}

    # ------------------------------------------------------------------------------------------------- writing

    def write(
        self,
        rows: Iterable[tuple[int, bytes | None]],
        groups: Iterable[tuple[int, GroupCount]],
        packs: Iterable[tuple[int, PackCount | None]],
        position: Position | None,
    ) -> None:
        """Make all these changes or none; None deletes. Raises CorruptIndex and StorageFailed."""
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for block, row in rows:
            if row is None:
                delete(b"b" + block.to_bytes(8, "big"))
            else:
                put(b"b" + block.to_bytes(8, "big"), row)
        for group, count in groups:
            put(b"g" + group.to_bytes(2, "big"), _GROUP.pack(*count))
        for number, pack in packs:
            if pack is None:
                delete(b"p" + number.to_bytes(4, "big"))
            else:
                put(b"p" + number.to_bytes(4, "big"), _PACK.pack(*pack))
        if position is not None:
            put(_POSITION, _PAIR.pack(*position))
        self._unflushed += batch.size_in_bytes()
        try:
            if self.flush_due:
                self._check_background()
            self._db.write(batch, self._unlogged)
        except Exception as error:
            raise self._failure("write", error) from error

    @property
    def flush_due(self) -> bool:
        return self._unflushed >= FLUSH_BYTES

    def flush(self) -> None:
        """Make every write so far durable, without the GIL. Raises StorageFailed and CorruptIndex."""
        with self._flushing:
            size = self._unflushed
            try:
                self._flush_tables()
            except Exception as error:
                raise self._failure("flush", error) from error
            self._unflushed -= size

    def disk_bytes(self) -> int:
        """Return the bytes of the tables on disk."""
        return self._db.property_int_value("rocksdb.total-sst-files-size") or 0

    def close(self) -> None:
        """Close the index; what was not flushed is read from the packs again."""
        self._db.close()

    # ------------------------------------------------------------------------------------------------- inside

    def _scan(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        options = ReadOptions()
        options.set_iterate_upper_bound(end)
        try:
            cursor = self._db.iter(options)
            cursor.seek(start)
            while cursor.valid():
                yield cursor.key(), cursor.value()
                cursor.next()
            cursor.status()  # raises when it stopped for another reason than the end
        except Exception as error:
            raise self._failure("scan", error) from error

    def _flush_tables(self) -> None:
        errors: list[Exception] = []

        def flush() -> None:
            try:
                self._db.flush(True)
            except Exception as error:  # noqa: BLE001 - raised again below, in the thread that asked
                errors.append(error)

        flushing = threading.Thread(target=flush, name="index-flush", daemon=True)
        flushing.start()
        while flushing.is_alive():
            flushing.join(_WATCH_INTERVAL_S)
            self._check_background()
        if errors:
            raise errors[0]

    def _check_background(self) -> None:
        if self._db.property_int_value("rocksdb.background-errors"):
            raise OSError(errno.EIO, "RocksDB could not write a table; its file LOG says why (No space left?)")

    def _failure(self, doing: str, error: Exception) -> Exception:
        if isinstance(error, StorageFailed | CorruptIndex):
            return error
        text = str(error)
        failure: Exception = CorruptIndex(f"Could not {doing} the index in {self.path}: {text}.")
        if isinstance(error, OSError) or (("No space" in text or "IO error" in text) and "No such file" not in text):
            failure = StorageFailed(f"{failure} This process must end; check the disk (`df`, `dmesg`).")
        self.on_failure(failure)
        return failure


def _go_on(failure: Exception) -> None:
    return


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_paranoid_checks(True)
    options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(4)
    options.set_max_background_jobs(2)
    # A stalled write waits with the GIL: let compaction lag far behind before RocksDB slows writes down.
    options.set_level_zero_slowdown_writes_trigger(60)
    options.set_level_zero_stop_writes_trigger(100)
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_bytes_per_sync(1 << 20)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1 << 20)
    table = BlockBasedOptions()
    table.set_block_cache(Cache(_CACHE_BYTES))
    table.set_block_size(_BLOCK_BYTES)
    table.set_format_version(5)
    table.set_checksum_type(ChecksumType.xxh3())
    table.set_bloom_filter(10, False)
    table.set_cache_index_and_filter_blocks(False)
    options.set_block_based_table_factory(table)
    return options
