"""Raft's log and hard state on disk: what a member has promised, and nothing else.

Every call of `append` is one record, written and synced as one: term, vote, entries, and where the log begins change
together or not at all. A record replaces the log's tail by being later, so nothing is ever overwritten in place.

Invariants: what `append` returned from survives power loss; entries are without gap from `base.index + 1` on; every
segment begins with hard state and base, so the oldest can be dropped whenever no living entry is in it; after the first
error of a write or sync the store does nothing any more. One thread appends; any thread may read.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from blockyard.metaserver.raft.types import BaseRecord, Entry, HardState, LogIndex, Term
from blockyard.metaserver.storage import record, recovery
from blockyard.metaserver.storage.failures import FETCH_FROM_PEER, CorruptLog
from blockyard.metaserver.storage.segment import Segment, SegmentDirectory, Watermark
from blockyard.proto import failpoints
from blockyard.proto.disk.failures import StorageFailed
from blockyard.proto.disk.sync import sync_directory

SEGMENT_SIZE_BYTES: Final = 32 << 20
CACHE_BYTES: Final = 16 << 20


class LogStore:
    """The durable log; implements Raft's `LogReader`."""

    def __init__(
        self, path: Path, *, segment_size_bytes: int = SEGMENT_SIZE_BYTES, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """Open the log in directory `path`, whole and checked. Raises CorruptLog and StorageFailed.

        A torn record that was never synced is cleared; `torn_bytes` says how much of it there was.
        """
        self.path = path
        self._failed: StorageFailed | None = None
        self._lock = threading.Lock()  # guards positions, tail, segments and base against readers in other threads
        with self._fatal("open"):
            self._directory = SegmentDirectory(path, segment_size_bytes)
            found = recovery.recover(self._directory, cache_bytes)
            assert found.hard_state is not None
            assert found.base is not None
            self.hard_state: HardState = found.hard_state
            self.base: BaseRecord = found.base
            self.torn_bytes = found.torn_bytes
            self._positions = found.positions
            self._tail = found.tail
            self._segments = found.segments
            self._sequence = found.sequence
            self._current = found.segments[max(found.segments)]
            self._end = found.end
            self._directory.write_watermark(Watermark(self._current.number, self._sequence, self._end))
            self._directory.sync_watermark()

    @staticmethod
    def create(
        path: Path, hard_state: HardState, base: BaseRecord, *, segment_size_bytes: int = SEGMENT_SIZE_BYTES
    ) -> None:
        """Make a new log in the new directory `path`, durable. Raises FileExistsError and OSError."""
        path.mkdir()
        directory = SegmentDirectory(path, segment_size_bytes)
        directory.prepare_spare()
        data, _ = record.encode(1, 1, (), hard_state, base, resets=True)
        segment = directory.create(1, len(data))
        segment.write(data, 0)
        segment.sync()
        directory.write_watermark(Watermark(1, 1, len(data)))
        directory.sync_watermark()
        segment.close()
        directory.close()
        sync_directory(path)
        sync_directory(path.parent)

    # ------------------------------------------------------------------------------------------------- writing

    def append(
        self, entries: Sequence[Entry] = (), hard_state: HardState | None = None, base: BaseRecord | None = None
    ) -> None:
        """Write and sync, as one atomic step: first `base`, then `hard_state` and `entries`.

        `entries` are consecutive and replace the log from entries[0].index on. `base` begins the log: entries after
        it stay only if the entry at base.index is there and has base.term. Raises StorageFailed, after which the
        process must end: whether the record is durable is not known.
        """
        self._refuse_if_failed()
        resets = base is not None and not self._keeps_suffix(base)
        start = base or self.base
        self._check(entries, start, start.index if resets else max(self.last_index(), start.index))
        with self._fatal("append to"):
            spans, offset = self._write(entries, hard_state, base, resets)
        with self._lock:
            if base is not None:
                self._begin_at(base, resets)
            if entries:
                self._positions.replace_from(entries, spans, self._current.number, offset)
                self._tail.replace_from(entries)
        self.hard_state = hard_state or self.hard_state
        if base is not None:
            with self._fatal("compact"):
                self._drop_segments()

    def compact(self, base: BaseRecord) -> None:
        """Drop the entries up to `base.index`, an entry of this log; durable. Raises StorageFailed.

        Never beyond what the state store has durably (`StateStore.durable_index`): what was dropped cannot be replayed.
        """
        assert self._keeps_suffix(base), f"no entry {base.index} of term {base.term} here to compact to"
        self.append(base=base)

    def install_base(self, base: BaseRecord, hard_state: HardState | None = None) -> None:
        """Begin the log after `base`, as a snapshot or a witness's base record demands. Raises StorageFailed."""
        self.append(hard_state=hard_state, base=base)

    def settle(self) -> None:
        """Sync the watermark; call it when nothing was appended for a while, so that rot is never taken for a tear."""
        self._refuse_if_failed()
        with self._fatal("sync the watermark of"):
            self._directory.sync_watermark()

    @property
    def wants_spare(self) -> bool:
        """Whether `prepare_spare` has work; without a spare the next change of segment takes longer."""
        return not self._directory.has_spare

    def prepare_spare(self) -> None:
        """Make the next segment ahead of need; may run in any thread. Raises OSError when there is no space for it."""
        self._directory.prepare_spare()

    def _write(
        self, entries: Sequence[Entry], hard_state: HardState | None, base: BaseRecord | None, resets: bool
    ) -> tuple[Sequence[record.Span], int]:
        failpoints.hit("log.append.before")
        segment, offset, sequence = self._current, self._end, self._sequence + 1
        data, spans = record.encode(segment.number, sequence, entries, hard_state, base, resets)
        if offset + len(data) > segment.capacity:
            full_hard_state, full_base = hard_state or self.hard_state, base or self.base
            data, spans = record.encode(segment.number + 1, sequence, entries, full_hard_state, full_base, resets)
            segment, offset = self._directory.create(segment.number + 1, len(data)), 0
            with self._lock:
                self._segments[segment.number] = segment
        segment.write(data, offset)
        failpoints.hit("log.append.written")
        segment.sync()
        failpoints.hit("log.append.synced")
        self._current, self._end, self._sequence = segment, offset + len(data), sequence
        self._directory.write_watermark(Watermark(segment.number, sequence, self._end))
        return spans, offset

    def _check(self, entries: Sequence[Entry], base: BaseRecord, last: int) -> None:
        if not entries:
            return
        first = entries[0].index
        assert base.index < first <= last + 1, f"entry {first} does not continue a log of {base.index + 1}..{last}"
        for position, entry in enumerate(entries):
            assert entry.index == first + position, f"entry {entry.index} stands where {first + position} belongs"

    def _keeps_suffix(self, base: BaseRecord) -> bool:
        if base.index == self.base.index:
            return base.term == self.base.term
        return self.first_index() <= base.index <= self.last_index() and self.term(base.index) == base.term

    def _begin_at(self, base: BaseRecord, resets: bool) -> None:
        self.base = base
        if resets:
            self._positions.clear(base.index + 1)
            self._tail.clear()
        else:
            self._positions.drop_to(base.index)

    def _drop_segments(self) -> None:
        needed = self._positions.place(self._positions.first)[0] if len(self._positions) else self._current.number
        failpoints.hit("log.compact.dropping")
        for number in sorted(self._segments):
            if number >= needed:
                break
            with self._lock:
                segment = self._segments.pop(number)
            self._directory.drop(segment)

    # ------------------------------------------------------------------------------------------------- reading

    def first_index(self) -> LogIndex:
        return LogIndex(self.base.index + 1)

    def last_index(self) -> LogIndex:
        with self._lock:
            return LogIndex(self._positions.last)

    def term(self, index: LogIndex) -> Term:
        """Return the term of an entry of the log, or of the base record."""
        with self._lock:
            if index == self.base.index:
                return self.base.term
            assert self._positions.first <= index <= self._positions.last, f"term of entry {index}: not in the log"
            return self._positions.term(index)

    def entries(self, low: LogIndex, high: LogIndex, max_bytes: int) -> Sequence[Entry]:
        """Return entries low..high-1: at least the first, then as many as fit in `max_bytes` of data.

        Raises CorruptLog when an entry on disk no longer passes its checksum, StorageFailed when it cannot be read.
        """
        self._refuse_if_failed()
        found: list[Entry] = []
        size = 0
        with self._lock, self._fatal("read"):
            first, last = self._positions.first, self._positions.last
            assert first <= low < high <= last + 1, f"entries {low}..{high - 1} asked of {first}..{last}"
            for index in range(low, high):
                entry = self._tail.get(index) or self._read(index)
                size += len(entry.data)
                if size > max_bytes and found:
                    break
                found.append(entry)
        return found

    def scrub(self) -> Iterator[LogIndex]:
        """Read every entry from disk again and check it, yielding each index. Raises CorruptLog."""
        for index in range(self.first_index(), self.last_index() + 1):
            with self._lock, self._fatal("read"):
                if index >= self._positions.first and index <= self._positions.last:
                    self._read(index)
            yield LogIndex(index)

    def _read(self, index: int) -> Entry:
        number, span = self._positions.place(index)
        segment = self._segments[number]
        try:
            entry = record.decode_entry(segment.read(span.offset, span.length), span.crc)
        except record.BadEntry as error:
            raise CorruptLog(self._rotten(index, segment, span.offset, str(error))) from error
        if entry.index != index or entry.term != self._positions.term(index):
            raise CorruptLog(self._rotten(index, segment, span.offset, f"found entry {entry.index} of {entry.term}"))
        return entry

    def _rotten(self, index: int, segment: Segment, offset: int, why: str) -> str:
        return f"Entry {index} of the log, at byte {offset} of {segment.path}, is bad: {why}. {FETCH_FROM_PEER}."

    # ------------------------------------------------------------------------------------------------- the end

    def close(self) -> None:
        """Close the files. Everything appended is durable already."""
        with self._lock:
            if self._failed is None:
                self._failed = StorageFailed(f"the log {self.path} is closed")
                self._directory.sync_watermark()
            for segment in self._segments.values():
                segment.close()
            self._segments.clear()
            self._directory.close()

    def _refuse_if_failed(self) -> None:
        if self._failed is not None:
            raise self._failed

    @contextmanager
    def _fatal(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = self._failed or StorageFailed(
                f"Could not {doing} the log {self.path}: {error}. "
                f"This process must end; check the disk (`dmesg`), then start it again."
            )
            raise self._failed from error
        except BaseException as error:
            self._failed = self._failed or StorageFailed(f"could not {doing} the log {self.path}: {error!r}")
            raise
