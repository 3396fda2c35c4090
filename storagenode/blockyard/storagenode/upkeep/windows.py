"""Several sorted lists of block ids, cut into windows: of each list, all the ids of one range.

Pages come from iterators and only one of each list is held, so a comparison takes memory for a page per holder,
however many blocks there are. Within a window the lists are sets, compared at the speed of C.

Invariants: every id of every list is in exactly one window; the ids of a window are above those of the one before.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

from blockyard.proto.errors import MalformedReply
from blockyard.proto.ids import SEQUENCE_BITS

Entries = Sequence[tuple[int, int]]
"""Block ids, rising, each with the length of its block in bytes."""

Window = dict[int, dict[int, int]]
"""By holder: block id → length."""


def windows(lists: Mapping[int, Iterator[Entries]], group: int) -> Iterator[Window]:
    """Yield the windows of the lists of a placement group, by holder, each an iterator of pages.

    Raises MalformedReply when a list does not rise or has a block of another group, and what the iterators raise.
    """
    cursors = {holder: _Cursor(pages, group, holder) for holder, pages in lists.items()}
    while True:
        for cursor in cursors.values():
            cursor.fill()
        running = [cursor.entries[-1][0] for cursor in cursors.values() if not cursor.ended]
        bound = min(running) if running else (group + 1) << SEQUENCE_BITS
        window = {holder: cursor.take(bound) for holder, cursor in cursors.items()}
        if not running and not any(window.values()):
            return
        yield window


class _Cursor:
    """One list: the page that is being compared."""

    def __init__(self, pages: Iterator[Entries], group: int, holder: int) -> None:
        self.entries: Entries = ()
        self.ended = False
        self._pages = pages
        self._holder = holder
        self._last = (group << SEQUENCE_BITS) - 1
        self._limit = (group + 1) << SEQUENCE_BITS

    def fill(self) -> None:
        """Have at least one entry, unless the list has ended."""
        while not self.entries and not self.ended:
            page = next(self._pages, None)
            if page is None:
                self.ended = True
            else:
                self._check(page)
                self.entries = page

    def take(self, bound: int) -> dict[int, int]:
        """Return the entries up to id `bound`, and go on after them."""
        end = bisect_right(self.entries, bound, key=_id)
        taken, self.entries = self.entries[:end], self.entries[end:]
        return dict(taken)

    def _check(self, page: Entries) -> None:
        for block, _ in page:
            if not self._last < block < self._limit:
                raise MalformedReply(f"node {self._holder} listed block {block:#x} after {self._last:#x}")
            self._last = block


def _id(entry: tuple[int, int]) -> int:
    return entry[0]
