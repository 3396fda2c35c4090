"""The log: all records of the store in the order in which they happened, over all packs.

Group commit: the first caller to find nobody writing leads; what others bring while it writes and syncs is the next
round, led by the first of them. One round is one write and at most one fdatasync, however many callers it serves.
`prepare` of each append runs under the catalogue's lock, in the order of the log, and sees what the appends before it
in the same round will do; so two callers never both find a block absent.
"""

import errno
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from blockyard.proto import failpoints
from blockyard.proto.disk.failures import NO_DESCRIPTORS, StorageFailed
from blockyard.proto.disk.stop import stop
from blockyard.proto.errors import NoSpace
from blockyard.storagenode.store import record
from blockyard.storagenode.store.catalogue import Catalogue, Change
from blockyard.storagenode.store.index import Position
from blockyard.storagenode.store.pack import FIRST_RECORD, HEADROOM_BYTES, Pack, PackWriter
from blockyard.storagenode.store.record import UNSYNCED, Kind
from blockyard.storagenode.store.row import Row

_KEPT_SYNC_TIMES: Final = 101
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class NewRecord:
    """What a record will say; the log gives it its place."""

    kind: Kind
    block: int
    length: int = 0
    checksums: tuple[int, ...] = ()
    payload: memoryview | bytes = b""
    flags: int = 0
    aim_pack: int = 0
    aim_generation: int = 0


class View(Protocol):
    """What an append may know when it decides."""

    def get(self, block: int) -> Row | None: ...


def _nothing() -> None:
    return


@dataclass(slots=True, eq=False)
class Append:
    """One caller's records: all of them are written, or none.

    `prepare` returns them, or raises what the caller shall be told; `applied` runs once readers see the change, still
    under the lock. A `vital` append makes room: it may use what is kept back for such.
    """

    prepare: Callable[[View], Sequence[NewRecord]]
    durable: bool
    vital: bool = False
    applied: Callable[[], None] = _nothing
    leads: bool = False
    error: BaseException | None = None
    wake: threading.Lock = field(default_factory=threading.Lock)


class _Round:
    """The appends written together, and what will be true after them."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.appends: list[Append] = []
        self.changes: list[Change] = []
        self.rows: dict[int, Row | None] = {}
        self.buffers: list[bytes | memoryview] = []
        self.size = 0
        self.durable = False
        self.unhardened: list[tuple[int, Position | None]] = []  # as it was before, to be put back

    def get(self, block: int) -> Row | None:
        return self.rows[block] if block in self.rows else self.catalogue.get(block)


class Log:
    """Appends, and makes durable."""

    def __init__(
        self,
        directory: Path,
        catalogue: Catalogue,
        writer: PackWriter,
        pack_size_bytes: int,
        give_up_ballast: Callable[[], bool],
    ) -> None:
        self.catalogue = catalogue
        self.puts = 0
        self.syncs = 0
        self.sync_times_us: deque[int] = deque(maxlen=_KEPT_SYNC_TIMES)
        self.unhardened: dict[int, Position] = {}  # blocks in files that are not synced, and where the log says so
        self._directory = directory
        self._writer = writer
        self._pack_size = pack_size_bytes
        self._give_up_ballast = give_up_ballast
        self._queue_lock = threading.Lock()
        self._queue: deque[Append] = deque()
        self._leading = False
        self._unsynced: list[Change] = []
        self.applied = Position(writer.header.number, writer.end)
        """Everything before it is in the index; what was written since may not be, though the pack is longer."""

    @property
    def active(self) -> int:
        """The number of the pack that is appended to."""
        return self._writer.header.number

    @property
    def has_unsynced(self) -> bool:
        return bool(self._unsynced)

    def position(self) -> Position:
        """Return where the log must be read from after a crash: before what is still to be hardened."""
        end = Position(self._writer.header.number, self._writer.end)
        return min(self.unhardened.values(), default=end)

    def submit(self, append: Append) -> None:
        """Write the append's records; durable, if it says so, when this returns.

        Raises what its `prepare` raised, and NoSpace; then nothing of it was written.
        """
        append.wake.acquire()
        with self._queue_lock:
            self._queue.append(append)
            append.leads, self._leading = not self._leading, True
        if not append.leads:
            append.wake.acquire()
        if append.leads:
            self._lead()
        if append.error is not None:
            raise append.error

    def sync(self) -> None:
        """Make everything appended so far durable."""
        self.submit(Append(lambda view: (), durable=True))

    def close(self) -> None:
        """Sync and close. No append may come any more."""
        self.sync()
        self._writer.finish()
        self._writer.close()

    # ------------------------------------------------------------------------------------------------- leading

    def _lead(self) -> None:
        with self._queue_lock:
            waiting, self._queue = self._queue, deque()
        round_ = _Round(self.catalogue)
        try:
            self._collect(round_, waiting)
            self._commit(round_)
        except BaseException as error:
            round_.appends += waiting
            waiting.clear()
            for append in round_.appends:
                append.error = append.error or error
            raise
        finally:
            with self._queue_lock:
                self._queue.extendleft(reversed(waiting))
                if self._queue:
                    self._queue[0].leads = True
                    self._queue[0].wake.release()
                else:
                    self._leading = False
            for append in round_.appends:
                if not append.leads:
                    append.wake.release()

    def _collect(self, round_: _Round, waiting: deque[Append]) -> None:
        """Move appends from `waiting` into the round, until the pack is full."""
        with self.catalogue.lock:
            while waiting:
                append = waiting[0]
                try:
                    records = append.prepare(round_)
                    size = sum(record.record_bytes(r.kind, len(r.checksums), r.length) for r in records)
                    if self._full(round_.size + size) and round_.appends:
                        return
                    self._make_room(round_.size + size, append.vital)
                except OSError as error:
                    append.error = error
                else:
                    self._take(round_, append, records)
                round_.appends.append(waiting.popleft())

    def _take(self, round_: _Round, append: Append, records: Sequence[NewRecord]) -> None:
        header, offset = self._writer.header, self._writer.end + round_.size
        now = time.time_ns()
        for new in records:
            pages = len(new.checksums)
            round_.buffers.append(
                record.encode(
                    header.salt,
                    header.number,
                    offset,
                    kind=new.kind,
                    flags=new.flags,
                    block=new.block,
                    length=new.length,
                    time_ns=now,
                    checksums=new.checksums,
                    synced=self._writer.synced,
                    aim_pack=new.aim_pack,
                    aim_generation=new.aim_generation,
                )
            )
            row = None
            if new.kind is Kind.BLOCK:
                round_.buffers.append(new.payload)
                if padding := record.padding_bytes(new.length):
                    round_.buffers.append(bytes(padding))
                self.puts += 1
            if new.kind is not Kind.DROP:
                row = Row(header.number, offset, new.length, new.kind is Kind.FILE, now, now, new.checksums)
            round_.unhardened.append((new.block, self.unhardened.pop(new.block, None)))
            if new.flags & UNSYNCED and row is not None:
                self.unhardened[new.block] = Position(header.number, offset)
            round_.changes.append((new.block, row))
            round_.rows[new.block] = row
            offset += record.record_bytes(new.kind, pages, new.length)
        round_.size = offset - self._writer.end
        round_.durable = round_.durable or append.durable

    def _commit(self, round_: _Round) -> None:
        writer = self._writer
        if round_.buffers:
            failpoints.hit("store.append.before")
            try:
                writer.append(round_.buffers, round_.size)
            except OSError as error:
                if error.errno not in _FULL:
                    stop(_failed(f"write {writer.path}", error))
                self._refuse(round_)
                return
            failpoints.hit("store.append.written")
        if round_.durable and writer.synced < writer.end:
            self._sync()
            failpoints.hit("store.append.synced")
        with self.catalogue.lock:
            self.catalogue.packs[writer.header.number].end = writer.end
            self._unsynced += round_.changes
            if writer.synced == writer.end:
                self._apply()
            else:
                self.catalogue.show(round_.changes)
            for append in round_.appends:
                if append.error is None:
                    append.applied()

    def _refuse(self, round_: _Round) -> None:
        for block, position in reversed(round_.unhardened):
            self.unhardened.pop(block, None)
            if position is not None:
                self.unhardened[block] = position
        for append in round_.appends:
            append.error = append.error or NoSpace(f"{self._writer.path}: the disk is full")

    def _sync(self) -> None:
        begun = time.perf_counter_ns()
        try:
            self._writer.sync()
        except OSError as error:
            stop(_failed(f"sync {self._writer.path}", error))
        self.sync_times_us.append((time.perf_counter_ns() - begun) // 1000)
        self.syncs += 1

    def _apply(self) -> None:
        """Move what is synced to the index; a file that is not synced itself stays what readers only see."""
        if not self._unsynced:
            return
        ready: list[Change] = []
        waiting: list[Change] = []
        for block, row in self._unsynced:
            held_back = row is not None and self.unhardened.get(block) == (row.pack, row.offset)
            (waiting if held_back else ready).append((block, row))
        self._unsynced = []
        self.applied = self.position()
        self.catalogue.apply(ready, self.applied, (self.active,))
        self.catalogue.show(waiting)

    # ------------------------------------------------------------------------------------------------- room

    def _full(self, size: int) -> bool:
        return self._writer.end > FIRST_RECORD and self._writer.end + size > self._pack_size

    def _make_room(self, size: int, vital: bool) -> None:
        """Have a pack with `size` bytes free. Raises NoSpace."""
        if self._full(size) and not self._roll() and not vital:
            raise NoSpace(f"{self._directory}: no space for another pack")
        headroom = 0 if vital else HEADROOM_BYTES
        while not self._writer.allocate(size, self._pack_size, headroom):
            if not vital or not self._give_up_ballast():
                raise NoSpace(f"{self._writer.path}: the disk is full")

    def _roll(self) -> bool:
        """Begin the next pack; False when the disk has no space for it."""
        old = self._writer
        try:
            new = PackWriter.create(self._directory, old.header.number + 1)
        except OSError as error:
            if error.errno in _FULL:
                return False
            if error.errno in NO_DESCRIPTORS:
                raise
            stop(_failed("create a pack", error))
        failpoints.hit("store.pack.created")
        try:
            old.finish()
        except OSError as error:
            stop(_failed(f"sync {old.path}", error))
        old.close()
        self._writer = new
        self.catalogue.packs[new.header.number] = Pack(new.path, new.header, new.end)
        self._apply()
        return True


def _failed(doing: str, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"Could not {doing}: {error}. This process must end: what a later sync says is not to be believed. "
        "Check the disk (`dmesg`, `smartctl`), then start it again."
    )
