"""The files of Raft's log: numbered segments of fixed size, one spare, and the watermark.

    00000000000000000007.log    records from offset 0; what follows the last one means nothing
    spare                       a segment in waiting: its blocks are allocated and written
    synced                      the watermark: how far the log is known to be synced

A segment's blocks are written before its first use, so a sync has no file size or extent to record and waits for no
file system journal. A dropped segment becomes the spare, with its old content: records name their segment.

The watermark is written after each sync and itself synced only now and then: it may lag, and is never ahead. It tells
a torn last record, which nobody was told of, from a synced one that has rotted.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final

import crc32c
from blockyard.proto import failpoints
from blockyard.proto.disk.sync import sync_directory

SPARE: Final = "spare"
WATERMARK: Final = "synced"
SUFFIX: Final = ".log"

_FILL_BYTES: Final = 1 << 20
_WATERMARK: Final = Struct("<QQQI")


@dataclass(frozen=True, slots=True)
class Watermark:
    """The log was synced up to byte `end` of `segment`, after record `sequence`."""

    segment: int
    sequence: int
    end: int

    def encode(self) -> bytes:
        head = _WATERMARK.pack(self.segment, self.sequence, self.end, 0)[:-4]
        return head + crc32c.crc32c(head).to_bytes(4, "little")

    @staticmethod
    def decode(data: bytes) -> "Watermark | None":
        """Return the watermark, None when these are not its bytes."""
        if len(data) != _WATERMARK.size or crc32c.crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
            return None
        return Watermark(*_WATERMARK.unpack(data)[:3])


class Segment:
    """One open segment."""

    __slots__ = ("capacity", "fd", "number", "path")

    def __init__(self, number: int, path: Path) -> None:
        self.number = number
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.capacity = os.fstat(self.fd).st_size

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data`; not synced."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self.fd, view, offset)
            view = view[written:]
            offset += written

    def sync(self) -> None:
        os.fdatasync(self.fd)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.fd, length, offset)

    def read_all(self) -> bytes:
        """Return the content as it is on the disk: synced first, and not from pages a failed sync left behind."""
        os.fdatasync(self.fd)
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        with open(self.path, "rb") as file:
            return file.read()

    def clear_from(self, offset: int) -> None:
        """Write zeros from `offset` to the end, and sync."""
        for start in range(offset, self.capacity, _FILL_BYTES):
            self.write(bytes(min(_FILL_BYTES, self.capacity - start)), start)
        os.fdatasync(self.fd)

    def close(self) -> None:
        os.close(self.fd)


class SegmentDirectory:
    """The log's directory. Names and sizes only; what records mean is not known here."""

    def __init__(self, path: Path, segment_size_bytes: int) -> None:
        self.path = path
        self.segment_size_bytes = segment_size_bytes
        self._watermark_fd = os.open(path / WATERMARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def numbers(self) -> list[int]:
        """Return the numbers of the segments there are, rising."""
        return sorted(int(name[: -len(SUFFIX)]) for name in os.listdir(self.path) if name.endswith(SUFFIX))

    def open(self, number: int) -> Segment:
        return Segment(number, self._file(number))

    def create(self, number: int, least_bytes: int) -> Segment:
        """Make segment `number`, from the spare when that is large enough; its name is synced."""
        spare = self.path / SPARE
        if not self.has_spare or spare.stat().st_size < least_bytes:
            allocate(spare, max(self.segment_size_bytes, least_bytes), write=False)
        os.rename(spare, self._file(number))
        sync_directory(self.path)
        failpoints.hit("log.roll.created")
        return self.open(number)

    @property
    def has_spare(self) -> bool:
        return (self.path / SPARE).exists()

    def prepare_spare(self) -> None:
        """Make the spare when there is none. Raises OSError when there is no space; the log is none the worse."""
        if not self.has_spare:
            unfinished = self.path / "spare.unfinished"
            allocate(unfinished, self.segment_size_bytes, write=True)
            os.rename(unfinished, self.path / SPARE)

    def drop(self, segment: Segment) -> None:
        """Remove a segment; it becomes the spare when there is none."""
        segment.close()
        if self.has_spare or segment.capacity != self.segment_size_bytes:
            os.unlink(segment.path)
        else:
            os.rename(segment.path, self.path / SPARE)

    def read_watermark(self) -> Watermark | None:
        """Return the watermark, None when it is lost."""
        return Watermark.decode(os.pread(self._watermark_fd, _WATERMARK.size + 1, 0))

    def write_watermark(self, watermark: Watermark) -> None:
        """Note how far the log is synced; not synced itself."""
        os.pwrite(self._watermark_fd, watermark.encode(), 0)

    def sync_watermark(self) -> None:
        os.fdatasync(self._watermark_fd)

    def close(self) -> None:
        os.close(self._watermark_fd)

    def _file(self, number: int) -> Path:
        return self.path / f"{number:020d}{SUFFIX}"


def allocate(path: Path, size_bytes: int, *, write: bool) -> None:
    """Make a file of `size_bytes`, synced; with `write` its blocks hold zeros, else they are only reserved."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(fd, 0, size_bytes)
        for offset in range(0, size_bytes if write else 0, _FILL_BYTES):
            os.pwrite(fd, bytes(min(_FILL_BYTES, size_bytes - offset)), offset)
        os.fsync(fd)
    finally:
        os.close(fd)


def files_below(path: Path) -> Iterator[Path]:
    """Yield the regular files directly in a directory, by name."""
    yield from (path / name for name in sorted(os.listdir(path)) if (path / name).is_file())
