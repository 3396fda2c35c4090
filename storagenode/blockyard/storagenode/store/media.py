"""What the store asks of the kernel beyond Python's `os`: space set aside and given back, and reads past the cache."""

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Final

DIRECT_BYTES: Final = 1 << 20
_ALIGNMENT: Final = 4096
_KEEP_SIZE: Final = 1
_PUNCH_HOLE: Final = 2
_MOST_BUFFERS: Final = 1024  # IOV_MAX

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def write_all(fd: int, buffers: Sequence[bytes | memoryview], offset: int) -> None:
    """Write all buffers, one after the other, from `offset`. Raises OSError."""
    for start in range(0, len(buffers), _MOST_BUFFERS):
        part = buffers[start : start + _MOST_BUFFERS]
        wanted = sum(map(len, part))
        written = os.pwritev(fd, part, offset)
        if written < wanted:
            _write_rest(fd, memoryview(b"".join(part))[written:], offset + written)
        offset += wanted


def _write_rest(fd: int, rest: memoryview, offset: int) -> None:
    while rest:
        written = os.pwrite(fd, rest, offset)
        rest = rest[written:]
        offset += written


def punch(fd: int, offset: int, length: int) -> bool:
    """Give the disk space of a range back; it reads as zeros. False where the file system cannot. Raises OSError."""
    if _libc.fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, offset, length) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number))


class DirectReader:
    """Reads a range as the disk has it: past the page cache, which neither answers nor grows.

    Where a file system refuses O_DIRECT the cache is read, and what was read is dropped from it.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file. Raises OSError."""
        self._buffer = mmap.mmap(-1, DIRECT_BYTES + 2 * _ALIGNMENT)
        try:
            self._fd, self._direct = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT), True
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._fd, self._direct = os.open(path, os.O_RDONLY | os.O_CLOEXEC), False

    def pieces(self, offset: int, length: int, step: int) -> Iterator[memoryview | None]:
        """Yield `length` bytes from `offset` in views of `step` bytes, the last one shorter, each valid until the next.

        None stands for a piece that could not be read; a view may be short at the end of the file.
        """
        for start in range(offset, offset + length, step):
            wanted = min(step, offset + length - start)
            low = start // _ALIGNMENT * _ALIGNMENT
            high = -(-(start + wanted) // _ALIGNMENT) * _ALIGNMENT
            try:
                found = os.preadv(self._fd, [memoryview(self._buffer)[: high - low]], low)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                yield None
                continue
            if not self._direct:
                os.posix_fadvise(self._fd, low, high - low, os.POSIX_FADV_DONTNEED)
            yield memoryview(self._buffer)[start - low : max(start - low, min(start - low + wanted, found))]

    def close(self) -> None:
        os.close(self._fd)
