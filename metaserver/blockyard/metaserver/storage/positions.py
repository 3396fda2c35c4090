"""Where each entry of the log is, which term it has, and the newest entries themselves.

16 bytes an entry, for the terms 16 bytes a change of term, and a bounded number of bytes of newest entries: followers
are fed and commands applied from memory, and the disk is read only for a member that lags.
"""

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from blockyard.metaserver.raft.types import Entry, Term
from blockyard.metaserver.storage.record import Span

_SEGMENT_SHIFT: Final = 32
_OFFSET_MASK: Final = (1 << _SEGMENT_SHIFT) - 1


class Positions:
    """Entries first..first+len-1, without gap. Not safe between threads by itself."""

    __slots__ = ("_crcs", "_lengths", "_places", "_terms_from", "_terms_of", "first")

    def __init__(self, first: int = 1) -> None:
        self.first = first
        self._places = array("Q")  # segment, and offset in it
        self._lengths = array("I")
        self._crcs = array("I")
        self._terms_from: list[int] = []  # index at which ...
        self._terms_of: list[int] = []  # ... this term begins

    def __len__(self) -> int:
        return len(self._places)

    @property
    def last(self) -> int:
        """Index of the last entry; first - 1 when there is none."""
        return self.first + len(self._places) - 1

    def replace_from(self, entries: Sequence[Entry], spans: Sequence[Span], segment: int, record: int) -> None:
        """Put `entries`, whose spans count from offset `record` of `segment`, in place of entries[0].index and after.

        Entries below `first` make the log begin with them: while a log is read, what they replaced may be gone.
        """
        index = entries[0].index
        assert index <= self.last + 1 or not len(self), f"entry {index} after {self.last}"
        if index < self.first or not len(self):
            self.clear(index)
        else:
            self._cut(index)
        base = segment << _SEGMENT_SHIFT
        self._places.extend([base | (record + span.offset) for span in spans])
        self._lengths.extend([span.length for span in spans])
        self._crcs.extend([span.crc for span in spans])
        for entry in entries:
            if not self._terms_of or self._terms_of[-1] != entry.term:
                self._terms_from.append(entry.index)
                self._terms_of.append(entry.term)

    def clear(self, first: int) -> None:
        """Forget every entry; the next one is `first`."""
        self.__init__(first)  # type: ignore[misc]

    def drop_to(self, index: int) -> None:
        """Forget the entries up to `index`."""
        count = index - self.first + 1
        if count <= 0:
            return
        if count >= len(self):
            self.clear(index + 1)
            return
        del self._places[:count], self._lengths[:count], self._crcs[:count]
        self.first = index + 1
        run = bisect_right(self._terms_from, self.first) - 1
        del self._terms_from[:run], self._terms_of[:run]
        self._terms_from[0] = self.first

    def term(self, index: int) -> Term:
        return Term(self._terms_of[bisect_right(self._terms_from, index) - 1])

    def place(self, index: int) -> tuple[int, Span]:
        """Return the entry's segment, and its span in it."""
        at = index - self.first
        place = self._places[at]
        return place >> _SEGMENT_SHIFT, Span(place & _OFFSET_MASK, self._lengths[at], self._crcs[at])

    def _cut(self, index: int) -> None:
        keep = index - self.first
        del self._places[keep:], self._lengths[keep:], self._crcs[keep:]
        run = bisect_right(self._terms_from, index - 1)
        del self._terms_from[run:], self._terms_of[run:]


class Tail:
    """The newest entries, up to `limit_bytes` of data (and always the last one)."""

    __slots__ = ("_bytes", "_entries", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._entries: list[Entry] = []
        self._bytes = 0

    def get(self, index: int) -> Entry | None:
        """Return the entry when it is among the newest."""
        if not self._entries:
            return None
        at = index - self._entries[0].index
        return self._entries[at] if 0 <= at < len(self._entries) else None

    def replace_from(self, entries: Sequence[Entry]) -> None:
        """Put `entries` in place of entries[0].index and after."""
        if self._entries:
            keep = entries[0].index - self._entries[0].index
            if keep < 0 or keep > len(self._entries):
                self.clear()
            else:
                self._bytes -= sum(len(entry.data) for entry in self._entries[keep:])
                del self._entries[keep:]
        self._entries.extend(entries)
        self._bytes += sum(len(entry.data) for entry in entries)
        if self._bytes > self.limit_bytes:
            self._shrink()

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0

    def _shrink(self) -> None:
        """Drop the oldest until three quarters of the limit are left: a list gives up its head only as a whole."""
        dropped = 0
        while self._bytes > self.limit_bytes * 3 // 4 and dropped < len(self._entries) - 1:
            self._bytes -= len(self._entries[dropped].data)
            dropped += 1
        del self._entries[:dropped]
