"""Blocks that are being written on this node, and by whom.

A block has one writer at a time, the holder of its `Claim`: the predecessor in the chain. When that one goes without a
seal the block waits `grace_s` seconds for another predecessor to take it over, and disappears. One whose writer says
nothing for `idle_s` seconds disappears as well.

Which predecessor is the later one their precedence says, not the time at which they come: one that was cut out, slept
and wakes up takes nothing from its successor's chain.

Invariants: only the newest claim on a block changes it; a block leaves this table sealed or aborted, never otherwise.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from blockyard.proto import errors, logs
from blockyard.proto.blocks import PAGE_BYTES, PageSums

if TYPE_CHECKING:
    from blockyard.storagenode.store import BlockStore, OpenBlock

GRACE_S = 15.0
IDLE_S = 120.0
SWEEP_S = 1.0
_log = logs.get(__name__)


class OpenWrites:
    """Every block that is open on this node."""

    def __init__(
        self,
        store: "BlockStore",
        grace_s: float = GRACE_S,
        idle_s: float = IDLE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.clock = clock
        self._grace_s = grace_s
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._beginning = threading.Lock()
        self._open: dict[int, _Write] = {}
        self._stopped = threading.Event()
        self._sweeper: threading.Thread | None = None

    def claim(self, block: int, expected_bytes: int, resume: bool, precedence: Sequence[int] = ()) -> "Claim":
        """Open a block, or take it over from a predecessor that was cut out.

        Raises Exists when it is sealed or being written and this is no resumption, ChainBroken when a predecessor of
        higher precedence has it, NoSpace.
        """
        self._sweep_from_now_on()
        while True:
            with self._lock:
                write = self._open.get(block)
            if write is not None and not resume:
                raise errors.Exists("the block is being written already", str(block))
            if write is None:
                with self._beginning:  # a late open of one that was cut out may come together with its successor's
                    write = self._open.get(block) if resume else None
                    write = write or self._begin(block, expected_bytes, resume)
            with write.lock:
                if not write.is_gone:  # else it disappeared between the two locks
                    return Claim(self, write, tuple(precedence))

    def sweep(self, now: float) -> None:
        """Make blocks disappear that nobody writes any more."""
        with self._lock:
            writes = list(self._open.values())
        for write in writes:
            with write.lock:
                if now - write.seen_at > (self._idle_s if write.owner else self._grace_s):
                    _log.info("open_block_abandoned", block=write.block, length=write.sums.length)
                    self.forget(write)

    def close(self) -> None:
        """Make every open block disappear."""
        self._stopped.set()
        with self._lock:
            writes = list(self._open.values())
        for write in writes:
            with write.lock:
                self.forget(write)

    def forget(self, write: "_Write") -> None:
        """Take a block from the table, aborting it unless it is sealed; its lock is held."""
        write.owner = None
        with self._lock:
            if self._open.get(write.block) is not write:
                return
            del self._open[write.block]
        if not write.is_sealed and write.open_block is not None:
            write.is_gone = True
            write.open_block.abort()

    def _begin(self, block: int, expected_bytes: int, resume: bool) -> "_Write":
        if resume:
            try:
                replica = self.store.find(block)
            except errors.UnknownBlock:
                pass  # it never got here
            else:
                sums = PageSums()
                sums.add(replica.length, list(replica.checksums))
                return _Write(block, None, sums, self.clock())
        write = _Write(block, self.store.begin(block, expected_bytes), PageSums(), self.clock())
        with self._lock:
            self._open[block] = write
        return write

    def _sweep_from_now_on(self) -> None:
        with self._lock:
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep_for_ever, name="open-writes", daemon=True)
                self._sweeper.start()

    def _sweep_for_ever(self) -> None:
        while not self._stopped.wait(SWEEP_S):
            self.sweep(self.clock())


class _Write:
    """One block and how far it is. Without an `open_block` it was sealed before."""

    def __init__(self, block: int, open_block: "OpenBlock | None", sums: PageSums, now: float) -> None:
        self.block = block
        self.open_block = open_block
        self.sums = sums
        self.is_sealed = open_block is None
        self.is_gone = False
        self.owner: Claim | None = None
        self.precedence: tuple[int, ...] = ()  # of the newest claim
        self.seen_at = now
        self.lock = threading.Lock()


class Claim:
    """The right to write one block, until another takes it; also where its bytes are read to be passed on."""

    def __init__(self, writes: OpenWrites, write: _Write, precedence: tuple[int, ...]) -> None:
        """Take the block over; its lock is held. Raises ChainBroken when a later predecessor has it already."""
        if write.precedence and precedence <= write.precedence:
            raise errors.ChainBroken(f"a predecessor that comes after this one has block {write.block} already")
        self.block = write.block
        self._writes = writes
        self._write = write
        self._newest: tuple[int, memoryview] = (0, memoryview(b""))
        write.owner = self
        write.precedence = precedence
        write.seen_at = writes.clock()

    @property
    def length(self) -> int:
        """Bytes that this node has."""
        return self._write.sums.length

    def append(self, offset: int, data: memoryview, checksums: Sequence[int]) -> None:
        """Add bytes, checking each page that they complete; bytes that are here already are passed over.

        Raises InvalidArgument for a gap and for checksums that are not as many as the pages, CorruptBlock for a page
        that does not match: then nothing of the piece is kept.
        """
        with self._write.lock:
            open_block = self._writable()
            sums = self._write.sums
            known = sums.length - offset
            if known < 0:
                raise errors.InvalidArgument(f"bytes from {offset:,} on, and {sums.length:,} are here: a gap")
            if known >= data.nbytes:
                return
            new = data[known:]
            end = offset + data.nbytes
            checksums = checksums[sums.length // PAGE_BYTES - offset // PAGE_BYTES :]
            sums.check(end, checksums)
            open_block.append(new, checksums)
            self._newest = (end - new.nbytes, new)
            sums.add(end, checksums)

    def check_seal(self, length: int, checksum: int) -> None:
        """Raise InvalidArgument where the block has another length, CorruptBlock where it has another CRC32C."""
        sums = self._write.sums
        if not length or length != sums.length or not sums.is_complete:
            raise errors.InvalidArgument(
                f"a seal of {length:,} bytes; {sums.length:,} are here, "
                + ("all" if sums.is_complete else "the last page without its checksum")
            )
        if sums.whole() != checksum:
            raise errors.CorruptBlock(f"the seal's CRC32C is {checksum:#010x}, the block's {sums.whole():#010x}")

    def seal(self, length: int, checksum: int, durable: bool, cold: bool = False) -> None:
        """Make the block readable; it was checked. Sealing a sealed one again is fine."""
        with self._write.lock:
            if not self._write.is_sealed:
                self._writable().seal(length, checksum, durable, cold)
                self._write.is_sealed = True

    def abort(self) -> None:
        """Make the block disappear, unless it was sealed before this node heard of this writer, or is another's now."""
        with self._write.lock:
            write = self._write
            if write.owner is not self:
                return
            try:
                if write.is_sealed and write.open_block is not None:
                    write.is_gone = True  # a successor that comes now waits, and finds that it is not here
                    self._writes.store.drop([self.block])
            finally:
                self._writes.forget(write)

    def release(self) -> None:
        """The writer is gone: a sealed block stays, an open one waits for the next."""
        with self._write.lock:
            write = self._write
            if write.owner is self:
                write.owner, write.seen_at = None, self._writes.clock()
                if write.is_sealed:
                    self._writes.forget(write)

    # ------------------------------------------------------------------------------------------ a source for others

    def read(self, start: int, end: int) -> memoryview:
        """Return bytes that this node has: those that came last from memory, others from the disk.

        Raises InputOutputError when the disk does not give them.
        """
        at, view = self._newest
        if at <= start and end <= at + view.nbytes:
            return view[start - at : end - at]
        buffer = memoryview(bytearray(end - start))
        try:
            got = self._read(start, buffer)
        except errors.BlockyardError:
            raise
        except OSError as error:
            raise errors.InputOutputError(f"block {self.block} cannot be read back: {error}") from error
        if got != buffer.nbytes:
            raise errors.InputOutputError(f"block {self.block} ended at byte {start + got}")
        return buffer

    def checksums(self, start: int, end: int) -> list[int]:
        """Return the checksums that go with bytes `start` to `end`."""
        return self._write.sums.between(start, end)

    def _read(self, start: int, buffer: memoryview) -> int:
        if not self._write.is_sealed:
            return self._writable().read(start, buffer)
        with self._writes.store.open_range(self.block) as replica:
            return os.preadv(replica.fd, [buffer], replica.file_offset + start)

    def _writable(self) -> "OpenBlock":
        """Return the open block; its lock is held, or the caller is its only writer."""
        write = self._write
        if write.owner is not self or write.open_block is None or write.is_sealed:
            raise errors.ChainBroken("the block is sealed, given up, or written by another predecessor by now")
        write.seen_at = self._writes.clock()
        return write.open_block
