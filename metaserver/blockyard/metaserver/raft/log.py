"""The log as one member sees it: stable entries on disk, newer ones in memory.

`window` holds the newest entries, always all that are not yet stable, and some recent stable ones so that a follower
in step is served without reading the disk. Older entries come from the LogReader.
Invariants: base.index <= stable <= last_index; what was read from the reader lies in (base.index, stable]; terms never
fall along the log (so terms are found by bisection).
"""

from __future__ import annotations

from collections.abc import Sequence

from blockyard.metaserver.raft.types import BaseRecord, Entry, LogIndex, LogReader, Term

_ENTRY_OVERHEAD_BYTES = 96


class Log:
    __slots__ = ("_inflight_to", "_reader", "_window_bytes", "_window_first", "base", "last_index", "last_term",
                 "stable", "window")  # fmt: skip

    def __init__(self, base: BaseRecord, reader: LogReader) -> None:
        last = max(reader.last_index(), base.index)
        assert reader.first_index() == base.index + 1, f"log begins at {reader.first_index()}, base is {base.index}"
        self.base = base
        self.last_index: LogIndex = last
        self.stable: LogIndex = last
        self.last_term: Term = base.term if last == base.index else reader.term(last)
        self.window: list[Entry] = []
        self._window_first = last + 1
        self._window_bytes = 0
        self._inflight_to = 0
        self._reader = reader
        assert self.last_term >= base.term, f"terms fall from {base.term} to {self.last_term}"

    def term(self, index: int) -> Term:
        """Return the term at base.index <= index <= last_index."""
        if index == self.last_index:
            return self.last_term
        if index >= self._window_first:
            return self.window[index - self._window_first].term
        if index == self.base.index:
            return self.base.term
        assert self.base.index < index <= self.stable, (
            f"no term at {index}: log is {self.base.index}..{self.last_index}"
        )
        return self._reader.term(LogIndex(index))

    def matches(self, index: int, term: int) -> bool:
        """Whether this log reaches `index` and has that term there (the paper, section 5.3)."""
        return self.base.index <= index <= self.last_index and self.term(index) == term

    def newest_at_or_below(self, index: int, term: int) -> LogIndex:
        """Return the largest index up to `index` whose term is at most `term`; base.index - 1 when there is none."""
        low, high = self.base.index - 1, min(index, self.last_index)
        while low < high:
            middle = (low + high + 1) // 2
            if self.term(middle) <= term:
                low = middle
            else:
                high = middle - 1
        return LogIndex(low)

    def entries(self, low: int, high: int, max_bytes: int) -> Sequence[Entry]:
        """Return entries from `low`, before `high`: at least one, then as many as fit in `max_bytes` of data.

        May return fewer than fit where disk and memory meet.
        """
        assert self.base.index < low < high <= self.last_index + 1, (
            f"{low}..{high} of {self.base.index}..{self.last_index}"
        )
        if low < self._window_first:
            return self._reader.entries(LogIndex(low), LogIndex(min(high, self._window_first)), max_bytes)
        found = self.window[low - self._window_first : high - self._window_first]
        size = 0
        for count, entry in enumerate(found):
            size += len(entry.data)
            if size > max_bytes and count:
                return found[:count]
        return found

    def size_between(self, low: int, high: int) -> int:
        """Return the bytes of data in low..high-1, as far as they are in memory."""
        first = self._window_first
        return sum([len(entry.data) for entry in self.window[max(low - first, 0) : max(high - first, 0)]])

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries at the end."""
        for entry in entries:
            assert entry.index == self.last_index + 1, f"entry {entry.index} after {self.last_index}"
            assert entry.term >= self.last_term, f"term {entry.term} after {self.last_term}"
            self.last_index, self.last_term = entry.index, entry.term
            self._window_bytes += len(entry.data) + _ENTRY_OVERHEAD_BYTES
        self.window += entries

    def first_conflict(self, entries: Sequence[Entry]) -> int:
        """Return the position of the first of these entries that this log lacks or contradicts; their count if none."""
        for position, entry in enumerate(entries):
            if entry.index > self.last_index or self.term(entry.index) != entry.term:
                return position
        return len(entries)

    def truncate(self, first: LogIndex) -> None:
        """Forget the entries from `first` on. The disk follows with the next entries written."""
        assert self.base.index < first <= self.last_index, f"truncate {first} of {self.base.index}..{self.last_index}"
        self.last_term = self.term(first - 1)
        self.last_index = LogIndex(first - 1)
        if first < self._window_first:
            self._window_first = first
        dropped = self.window[first - self._window_first :]
        self._window_bytes -= sum(len(entry.data) + _ENTRY_OVERHEAD_BYTES for entry in dropped)
        del self.window[first - self._window_first :]
        self.stable = min(self.stable, self.last_index)
        self._inflight_to = min(self._inflight_to, self.last_index)

    def restart_at(self, base: BaseRecord) -> None:
        """Begin anew at `base`, with no entries."""
        self.base = base
        self.last_index, self.last_term, self.stable = base.index, base.term, base.index
        self.window.clear()
        self._window_first, self._window_bytes, self._inflight_to = base.index + 1, 0, 0

    def compact(self, base: BaseRecord) -> None:
        """Drop the prefix up to base.index, which is stable here."""
        assert self.base.index <= base.index <= self.stable, f"compact {base.index} of {self.base.index}..{self.stable}"
        assert self.term(base.index) == base.term, f"base {base.index} has another term than the log"
        self.base = base
        if base.index >= self._window_first:
            self._drop(base.index + 1 - self._window_first)

    def unstable(self) -> Sequence[Entry]:
        """Return what is to be written next, and note that it is being written."""
        self._inflight_to = self.last_index
        return self.window[self.stable + 1 - self._window_first :]

    def wrote(self) -> None:
        """Note that what `unstable` returned is stable, less what was truncated meanwhile."""
        self.stable = LogIndex(max(self.stable, self._inflight_to))
        self._inflight_to = 0

    def trim(self, applied: int, max_bytes: int) -> None:
        """Keep the window near `max_bytes` by dropping from memory what is stable and applied."""
        if self._window_bytes <= max_bytes:
            return
        droppable = min(applied, self.stable) + 1 - self._window_first
        goal, count, size = self._window_bytes - max_bytes // 2, 0, 0
        while count < droppable and size < goal:
            size += len(self.window[count].data) + _ENTRY_OVERHEAD_BYTES
            count += 1
        self._drop(count)

    def _drop(self, count: int) -> None:
        self._window_bytes -= sum(len(entry.data) + _ENTRY_OVERHEAD_BYTES for entry in self.window[:count])
        del self.window[:count]
        self._window_first += count
