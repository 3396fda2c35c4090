"""How RocksDB is set up for the namespace, and what its errors become.

Figures behind each choice: `docs/decisions/0001-metadata-storage.md`. Three properties of rocksdict 0.3.29 shape the
code around it, each pinned by a test:

- `write`, `put`, `get` and iterators hold the GIL while they wait for the disk; `flush(True)` and `close` let it go.
  So nothing here is synced by a write, and memory is sized so that reads seldom wait.
- `Rdict.items/keys/values` end without an error at a corrupt block. Only `RdictIter` with `status()` is used.
- Iterating over a `Snapshot` shows later writes. Only plain iterators are isolated, each from the moment it is made.
"""

from typing import Final

from blockyard.metaserver.storage.failures import FETCH_FROM_PEER, CorruptState
from blockyard.proto.disk.failures import StorageFailed
from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    ChecksumType,
    DataBlockIndexType,
    DBCompressionType,
    Options,
    WriteOptions,
)

CACHE_BYTES: Final = 128 << 20
WRITE_BUFFER_BYTES: Final = 32 << 20
"""A memtable; at most three of them are in memory, so replay after a crash is bounded by what they hold."""

_MEMTABLE_FILTER: Final = 0.02
"""A memtable's Bloom filter, as a share of the memtable: some 25 bits a row. A create's first question is whether a
name is absent, and without it walks three memtables; the filter took 2 µs of 28 off applying a create."""
_BLOCK_BYTES: Final = 4096
_PARTITION_BYTES: Final = 64 << 10
_CORRUPT: Final = ("Corruption", "checksum mismatch", "No such file", "not found in", "Invalid argument", "missing")


def namespace_options(cache_bytes: int = CACHE_BYTES, write_buffer_bytes: int = WRITE_BUFFER_BYTES) -> Options:
    """Return the options of the namespace's one column family."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_paranoid_checks(True)
    options.set_write_buffer_size(write_buffer_bytes)
    options.set_max_write_buffer_number(3)
    options.set_memtable_prefix_bloom_ratio(_MEMTABLE_FILTER)
    options.set_memtable_whole_key_filtering(True)
    options.set_max_background_jobs(2)
    # A stalled write waits with the GIL: let compaction lag far behind before RocksDB slows writes down.
    options.set_level_zero_slowdown_writes_trigger(60)
    options.set_level_zero_stop_writes_trigger(100)
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_bytes_per_sync(1 << 20)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1 << 20)
    options.set_block_based_table_factory(_table(cache_bytes))
    return options


def unlogged() -> WriteOptions:
    """Return options of a write that only memory has until the next flush."""
    options = WriteOptions()
    # The stub calls it a method; it is an attribute.
    setattr(options, "disable_wal", True)  # noqa: B010
    return options


def failure(doing: str, path: str, error: Exception) -> CorruptState | StorageFailed:
    """Return what an exception of rocksdict means; all of them end the process."""
    text = str(error)
    if any(mark in text for mark in _CORRUPT) and "No space" not in text:
        return CorruptState(f"Could not {doing} the state in {path}: {text}. {FETCH_FROM_PEER}.")
    return StorageFailed(
        f"Could not {doing} the state in {path}: {text}. This process must end; check the disk (`df`, `dmesg`), "
        "then start it again."
    )


def _table(cache_bytes: int) -> BlockBasedOptions:
    table = BlockBasedOptions()
    table.set_block_cache(Cache(cache_bytes))
    table.set_block_size(_BLOCK_BYTES)
    table.set_format_version(5)
    table.set_checksum_type(ChecksumType.xxh3())
    table.set_bloom_filter(10, False)
    table.set_data_block_index_type(DataBlockIndexType.binary_and_hash())
    table.set_data_block_hash_ratio(0.75)
    # Index and filter in pieces: one whole filter is larger than a shard of the cache, is never kept, and then is
    # read again by every get (measured: 1.3 ms a get in place of 8 µs). Pieces of 64 KiB rather than 4 KiB: fewer to
    # search, and to find in the cache (among 400,000 files an absent name costs a quarter less).
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(_PARTITION_BYTES)
    table.set_cache_index_and_filter_blocks(True)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    table.set_pin_top_level_index_and_filter(True)
    return table
