"""What a block store is told and what it answers: records without behaviour.

A block is bound to its id, its length and the CRC32C of each of its checksum pages; a `StoredReplica` is that binding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

PAGE_BYTES: Final = 65_536
"""A checksum page; the last one of a block may be shorter."""

LARGEST_BLOCK_BYTES: Final = 64 << 20
LARGEST_PUT_BYTES: Final = 4 << 20
"""A small block is at most this long; so is the payload of one put."""

MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """How one store behaves."""

    small_block_limit_bytes: int = 256 << 10
    """Sealed blocks shorter than this go into packs."""
    pack_size_bytes: int = 1 << 30
    pack_live_percent: int = 50
    """Packs whose live share is below this are rewritten."""
    read_only_above_percent: int = 95
    capacity_bytes: int = 0
    """What the store may fill; 0: the whole file system."""
    reserve_bytes: int = 256 * MIB
    """Free bytes that users' writes leave for deletes, repair and rewriting, beside the percentage; and the size of
    the ballast that is given up when not even these are left. On a small disk it is a sixteenth of it."""
    open_files: int = 512
    """Descriptors kept open for readers."""
    quarantine_bytes: int = 1 << 30
    """What is kept of bad replicas; the oldest goes first."""
    sync_interval_s: float = 1.0
    """What is not durable becomes so after this long at the latest."""


@dataclass(frozen=True, slots=True)
class NewBlock:
    """A small block to put: its id, its length in bytes, the CRC32C of each page."""

    block: int
    length: int
    checksums: Sequence[int]


@dataclass(frozen=True, slots=True)
class StoredReplica:
    """A sealed block of this store."""

    block: int
    length: int
    checksums: tuple[int, ...]
    sealed_ns: int
    scrubbed_ns: int
    in_pack: bool


@dataclass(slots=True)
class OpenedReplica:
    """A block's bytes: `length` of them from `file_offset` of `fd`. They stay readable until `close`.

    Dropping the block or rewriting its pack changes nothing for the holder. `fd` belongs to the store: do not close
    it, and give it away (`SCM_RIGHTS`) only as a copy, which sending one makes.
    """

    fd: int
    file_offset: int
    length: int
    checksums: tuple[int, ...]
    _release: Callable[[], None] | None = field(repr=False)

    def close(self) -> None:
        """Let the descriptor go; a second call does nothing."""
        release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> "OpenedReplica":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Verification:
    """What reading a whole replica from the disk found. `crc32c` is of all its bytes as they were read.

    A page that could not be read, or is missing, is a bad page.
    """

    good: bool
    length: int
    bad_pages: tuple[int, ...]
    crc32c: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How full the store is, and how its disk does. Bytes, microseconds, counts since the store was opened."""

    blocks: int
    live_bytes: int
    used_bytes: int
    free_bytes: int
    quarantined: int
    sync_us: int
    puts: int
    syncs: int
    read_only: bool
