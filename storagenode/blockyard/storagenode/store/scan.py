"""Reading the records of a pack in order, past what has rotted.

Records follow each other without gaps. Where none can be read the next valid one is searched for, so that one bad
sector costs what was in it and nothing behind it.
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from blockyard.storagenode.store import record
from blockyard.storagenode.store.pack import FIRST_RECORD, PackHeader
from blockyard.storagenode.store.record import ALIGNMENT, LARGEST_HEADER_BYTES, Kind, Record

_WINDOW_BYTES: Final = 4 << 20
_SECTOR_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Gap:
    """Bytes in which no record was found. `blank`: nothing but zeros, as after the end of what was written."""

    start: int
    end: int
    blank: bool


class PackReader:
    """Reads one pack through the page cache, and drops what it read from there."""

    def __init__(self, path: Path, header: PackHeader) -> None:
        """Open the pack. Raises OSError."""
        self.header = header
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.fd).st_size
        self._window = memoryview(b"")
        self._start = 0

    def records(self, start: int = FIRST_RECORD) -> Iterator[Record | Gap]:
        """Yield what is there from offset `start`, where a record begins, to the end of the file."""
        offset = start
        while offset < self.size:
            found = self._record(offset)
            if found is None:
                end, blank = self._skip(offset)
                yield Gap(offset, end, blank)
                offset = end
                continue
            yield found
            offset = found.end

    def payload(self, found: Record) -> memoryview:
        """Return the bytes of a BLOCK record, short when the file ends; valid until the next call."""
        if found.kind is not Kind.BLOCK:
            return memoryview(b"")
        return self._bytes(found.payload, found.length)

    def close(self) -> None:
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(self.fd)

    def _record(self, offset: int) -> Record | None:
        data = self._bytes(offset, LARGEST_HEADER_BYTES)
        found = record.decode(data, 0, self.header.salt, self.header.number, offset)
        return found if found is not None and found.offset < found.end <= self.size else None

    def _skip(self, offset: int) -> tuple[int, bool]:
        """Return where the next record begins after a place where none is, and whether all before it is zero."""
        blank, at = True, offset
        while at < self.size:
            data = bytes(self._bytes(at, _WINDOW_BYTES // 4))
            start = 0 if at > offset else ALIGNMENT
            while (place := data.find(record.MAGIC, start)) >= 0:
                if (at + place) % ALIGNMENT == 0 and self._record(at + place) is not None:
                    return at + place, blank and not any(data[:place])
                start = place + 1
            blank = blank and data.count(0) == len(data)
            at += len(data) // ALIGNMENT * ALIGNMENT or len(data)
        return self.size, blank

    def _bytes(self, offset: int, length: int) -> memoryview:
        length = min(length, self.size - offset)
        inside = offset - self._start
        if not 0 <= inside <= len(self._window) - length:
            self._window = memoryview(self._read(offset, max(length, _WINDOW_BYTES)))
            self._start, inside = offset, 0
        return self._window[inside : inside + length]

    def _read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self.fd, length, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
        parts = []
        end = min(offset + length, self.size)
        while offset < end:
            size = min(_SECTOR_BYTES - offset % _SECTOR_BYTES, end - offset)
            try:
                parts.append(os.pread(self.fd, size, offset))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                parts.append(bytes(size))
            offset += size
        return b"".join(parts)
