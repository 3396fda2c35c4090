"""A large block while its one writer writes it.

Its pages are checked as they complete, before anything of them is kept; the file's name is temporary until the seal.
"""

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import crc32c
from blockyard.proto.disk.failures import StorageFailed
from blockyard.proto.disk.stop import stop
from blockyard.proto.errors import CorruptBlock, InvalidArgument, NoSpace
from blockyard.proto.ids import BLOCK, BlockId
from blockyard.storagenode.store import checksums
from blockyard.storagenode.store.media import write_all
from blockyard.storagenode.store.replica import LARGEST_BLOCK_BYTES, PAGE_BYTES, StoredReplica

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

Seal = Callable[["OpenBlock", bool], StoredReplica]


class OpenBlock:
    """Used by one thread at a time; ends with `seal` or `abort`."""

    def __init__(self, block: int, path: Path, fd: int, seal: Seal, ended: Callable[["OpenBlock"], None]) -> None:
        self.block = block
        self.path = path
        self.fd = fd
        self.length = 0
        self.checksums: list[int] = []
        """CRC32C of the completed pages."""
        self._tail = 0  # CRC32C of the page that is not complete
        self._seal = seal
        self._ended = ended
        self._is_open = True

    def append(self, data: memoryview, pages: Sequence[int]) -> None:
        """Take bytes in; `pages` are the CRC32C of the pages they complete, and perhaps of the unfinished last one.

        Raises CorruptBlock, InvalidArgument and NoSpace: then nothing of the piece counts, and the block is as before.
        """
        self._demand_open()
        view = memoryview(data).cast("B")
        if self.length + len(view) > LARGEST_BLOCK_BYTES:
            raise InvalidArgument(f"a block is at most {LARGEST_BLOCK_BYTES} bytes", self._name())
        complete, tail = self._checked(view, pages)
        try:
            write_all(self.fd, [view], self.length)
        except OSError as error:
            if error.errno in _FULL:
                raise NoSpace("the disk is full", self._name()) from error
            stop(StorageFailed(f"Could not write {self.path}: {error}. This process must end; check the disk."))
        self.checksums += complete
        self._tail = tail
        self.length += len(view)

    def read(self, offset: int, view: memoryview) -> int:
        """Fill `view` from byte `offset` of what was appended; return the bytes read, fewer only at the end.

        Raises InputOutputError's kin as OSError.
        """
        self._demand_open()
        wanted = min(len(view), max(0, self.length - offset))
        done = 0
        while done < wanted:
            got = os.preadv(self.fd, [view[done:wanted]], offset + done)
            if got == 0:
                break
            done += got
        return done

    def seal(self, length: int, crc32c_whole: int, durable: bool, cold: bool = False) -> StoredReplica:
        """End the block: readers find it, and when `durable` it survives a power cut.

        A `cold` block leaves the page cache; one that is not durable, as far as it has been written out by then.
        Raises InvalidArgument when `length` is not what was appended, CorruptBlock when the bytes are not those of
        `crc32c_whole`, NoSpace; the block is then still open.
        """
        self._demand_open()
        if length != self.length or not length:
            raise InvalidArgument(f"sealed at {length} bytes, and {self.length} were sent", self._name())
        found = self.sealed_checksums()
        if checksums.whole(found, length) != crc32c_whole:
            raise CorruptBlock("the block is not what the writer sealed", self._name())
        replica = self._seal(self, durable)
        if cold:
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self._end()
        return replica

    def abort(self) -> None:
        """Give the block up: nothing of it stays. Does nothing after the end."""
        if self._is_open:
            os.unlink(self.path)
            self._end()

    def sealed_checksums(self) -> tuple[int, ...]:
        """Return the CRC32C of all pages, the last one as long as it is."""
        return (*self.checksums, self._tail) if self.length % PAGE_BYTES else tuple(self.checksums)

    def _checked(self, view: memoryview, pages: Sequence[int]) -> tuple[list[int], int]:
        """Return the CRCs of the pages that `view` completes, and of what is left. Raises CorruptBlock."""
        complete: list[int] = []
        tail, at = self._tail, 0
        filled = self.length % PAGE_BYTES
        while at < len(view):
            piece = view[at : at + PAGE_BYTES - filled]
            tail = crc32c.crc32c(piece, tail)
            at += len(piece)
            filled += len(piece)
            if filled == PAGE_BYTES:
                complete.append(tail)
                tail = filled = 0
        last = [tail] if filled else []
        if list(pages) != complete and list(pages) != complete + last:
            if len(pages) not in (len(complete), len(complete) + len(last)):
                raise InvalidArgument(
                    f"{len(pages)} checksums for a piece that completes {len(complete)} pages", self._name()
                )
            raise CorruptBlock("a page does not match its checksum", self._name())
        return complete, tail

    def _demand_open(self) -> None:
        if not self._is_open:
            raise InvalidArgument("the block was sealed or given up", self._name())

    def _end(self) -> None:
        self._is_open = False
        os.close(self.fd)
        self._ended(self)

    def _name(self) -> str:
        return BLOCK.text(BlockId(self.block))
