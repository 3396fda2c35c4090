"""Pack files: their names, their headers, and appending to one.

    00000007-000002.pack      pack 7, rewritten twice

A pack's number is its place in the order of all records for ever; a rewritten pack keeps it and counts its generation
up, so that the rename that publishes it is the whole switch. The header names both and a salt, and stands twice, in
different pages. The file is allocated in steps, so that an append finds its blocks, or there is no space *before*
anything is written; what was allocated beyond the end is given back when the pack is finished.
"""

import errno
import os
import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Final

import crc32c
from blockyard.proto.disk.sync import sync_directory
from blockyard.storagenode.store.media import write_all

FIRST_RECORD: Final = 8192
STEP_BYTES: Final = 16 << 20
"""Allocated at once."""

HEADROOM_BYTES: Final = 64 << 10
"""Allocated, and left to tombstones: a full disk must not keep blocks from being dropped."""

UNFINISHED: Final = ".new"
MAGIC: Final = b"BYPACK1\0"

_COPIES: Final = (0, 4096)
_HEADER: Final = Struct("<8sIIQQI")
_NAME: Final = re.compile(r"(\d{8})-(\d{6})\.pack")


class BadPack(ValueError):
    """The file is not the pack that its name says."""


@dataclass(frozen=True, slots=True)
class PackHeader:
    number: int
    generation: int
    salt: int
    created_ns: int

    def encode(self) -> bytes:
        head = _HEADER.pack(MAGIC, self.number, self.generation, self.salt, self.created_ns, 0)[:-4]
        return head + crc32c.crc32c(head).to_bytes(4, "little")

    @staticmethod
    def decode(data: bytes) -> "PackHeader | None":
        if len(data) != _HEADER.size or crc32c.crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
            return None
        magic, number, generation, salt, created_ns, _ = _HEADER.unpack(data)
        return PackHeader(number, generation, salt, created_ns) if magic == MAGIC else None


@dataclass(slots=True)
class Pack:
    """A pack as the store knows it. Bytes of records: `end` is after the last, `live` those of blocks that are here,
    `held` those of tombstones that a rewrite had to keep."""

    path: Path
    header: PackHeader
    end: int
    live: int = 0
    live_records: int = 0
    held: int = 0
    disk_bytes: int = 0
    """What the file takes on the disk; 0: not asked yet."""
    rewriting: bool = False
    """Its next generation is being copied, and may hold what is dropped meanwhile."""
    unmoved: set[int] = field(default_factory=set)
    """Blocks whose rows still mean the generation before, at `unmoved_path`."""
    unmoved_path: Path = Path()
    unmoved_generation: int = 0

    def file_of(self, block: int) -> tuple[Path, tuple[int, int]]:
        """Return the file that the block's row speaks of, and what it is known by among open descriptors."""
        if block in self.unmoved:
            return self.unmoved_path, (self.number, self.unmoved_generation)
        return self.path, (self.number, self.generation)

    @property
    def aim_generation(self) -> int:
        """The newest generation that may hold a block which is dropped now."""
        return self.generation + 1 if self.rewriting else self.generation

    def take_disk_bytes(self, *, growing: bool) -> int:
        """Return what the file takes on the disk; what is allocated ahead of a `growing` one does not count."""
        if growing:
            return self.end
        self.disk_bytes = self.disk_bytes or self.path.stat().st_blocks * 512
        return self.disk_bytes

    @property
    def number(self) -> int:
        return self.header.number

    @property
    def generation(self) -> int:
        return self.header.generation


def pack_name(number: int, generation: int) -> str:
    return f"{number:08d}-{generation:06d}.pack"


def parse_name(name: str) -> tuple[int, int] | None:
    """Return number and generation, None when it is no pack's name."""
    match = _NAME.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def read_header(path: Path) -> PackHeader:
    """Return the header; a bad copy is made good from the other. Raises BadPack and OSError."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        copies = [PackHeader.decode(os.pread(fd, _HEADER.size, offset)) for offset in _COPIES]
        good = next((copy for copy in copies if copy is not None), None)
        if good is None:
            raise BadPack(f"{path} has lost both copies of its header")
        if pack_name(good.number, good.generation) != path.name:
            raise BadPack(
                f"{path} is in truth {pack_name(good.number, good.generation)}: the file was moved or restored"
            )
        for offset, copy in zip(_COPIES, copies, strict=True):
            if copy is None:
                os.pwrite(fd, good.encode(), offset)
        return good
    finally:
        os.close(fd)


class PackWriter:
    """Appends to one pack. Used by one thread at a time."""

    __slots__ = ("allocated", "end", "fd", "header", "path", "synced")

    def __init__(self, path: Path, header: PackHeader, fd: int, end: int) -> None:
        self.path = path
        self.header = header
        self.fd = fd
        self.end = end
        self.synced = end
        self.allocated = end

    @staticmethod
    def create(directory: Path, number: int, generation: int = 0, *, publish: bool = True) -> "PackWriter":
        """Make a pack that holds no record. Its name is synced, or with `publish` False still a temporary one.

        Raises OSError; with ENOSPC nothing is left behind.
        """
        header = PackHeader(number, generation, secrets.randbits(64), time.time_ns())
        path = directory / pack_name(number, generation)
        unfinished = path.with_name(path.name + UNFINISHED)
        fd = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, FIRST_RECORD + HEADROOM_BYTES)
            for offset in _COPIES:
                os.pwrite(fd, header.encode(), offset)
            os.fsync(fd)
        except OSError:
            os.close(fd)
            os.unlink(unfinished)
            raise
        writer = PackWriter(path if publish else unfinished, header, fd, FIRST_RECORD)
        writer.allocated = FIRST_RECORD + HEADROOM_BYTES
        if publish:
            os.rename(unfinished, path)
            sync_directory(directory)
        return writer

    @staticmethod
    def reopen(path: Path, header: PackHeader, end: int) -> "PackWriter":
        """Go on after `end`; whatever lies behind it, torn or only allocated, is cut off, durably."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        os.ftruncate(fd, end)
        os.fsync(fd)
        return PackWriter(path, header, fd, end)

    def allocate(self, size: int, limit: int, headroom: int) -> bool:
        """Have blocks for `size` more bytes and `headroom` beyond them; False when the disk has no space for that.

        Raises OSError for everything but a full disk.
        """
        wanted = self.end + size + headroom
        if wanted <= self.allocated:
            return True
        for target in (max(wanted, min(self.end + size + STEP_BYTES, limit)), wanted):
            try:
                os.posix_fallocate(self.fd, self.allocated, target - self.allocated)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                os.ftruncate(self.fd, self.allocated)
                continue
            self.allocated = target
            return True
        return False

    def append(self, buffers: Sequence[bytes | memoryview], size: int) -> None:
        """Write records of `size` bytes at the end; not synced. Raises OSError; then the pack ends where it did."""
        try:
            write_all(self.fd, buffers, self.end)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                os.ftruncate(self.fd, self.end)  # no whole record of it may be found later
                self.allocated = self.end
            raise
        self.end += size

    def sync(self) -> None:
        """Make everything appended so far durable. Raises OSError, which the process must not survive."""
        end = self.end
        os.fdatasync(self.fd)
        self.synced = end

    def finish(self) -> None:
        """Give back what was allocated and not used, and sync. Raises OSError as `sync`."""
        os.ftruncate(self.fd, self.end)
        self.allocated = self.end
        os.fsync(self.fd)
        self.synced = self.end

    def close(self) -> None:
        os.close(self.fd)
