"""Several sorted lists of block ids, cut into windows: of each list, all the ids of one range.

Pages come from iterators and only one of each list is held, so a comparison takes memory for a page per holder,
however many blocks there are. Within a window the lists are sets, compared at the speed of C.

Lists must rise; `rising` sees to it. Invariants: every id of every list is in exactly one window; the ids of a window
are above those of the one before.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from blockyard.proto.errors import MalformedReply
from blockyard.proto.ids import SEQUENCE_BITS

Entries = Sequence[tuple[int, int]]
"""Block ids, rising, each with the length of its block in bytes."""

Window = dict[int, dict[int, int]]
"""By holder: block id → length."""

_BEYOND: Final = 1 << 64  # above every id


def windows(lists: Mapping[int, Iterator[Entries]]) -> Iterator[Window]:
    """Yield the windows of lists, by holder, each an iterator of pages; raises what these raise."""
    cursors = {holder: _Cursor(pages) for holder, pages in lists.items()}
    while True:
        for cursor in cursors.values():
            cursor.fill()
        running = [cursor.entries[-1][0] for cursor in cursors.values() if not cursor.ended]
        bound = min(running, default=_BEYOND)
        window = {holder: cursor.take(bound) for holder, cursor in cursors.items()}
        if not running and not any(window.values()):
            return
        yield window


def rising(pages: Iterable[Entries], group: int) -> Iterator[Entries]:
    """Yield the pages as they are. Raises MalformedReply when they do not rise, or leave the placement group."""
    last, limit = group << SEQUENCE_BITS, (group + 1) << SEQUENCE_BITS
    for page in pages:
        for block, _ in page:
            if not last < block < limit:
                raise MalformedReply(f"a list of group {group} has block {block:#x} after {last:#x}")
            last = block
        yield page


class _Cursor:
    """One list: the page that is being compared."""

    def __init__(self, pages: Iterator[Entries]) -> None:
        self.entries: Entries = ()
        self.ended = False
        self._pages = pages

    def fill(self) -> None:
        """Have at least one entry, unless the list has ended."""
        while not self.entries and not self.ended:
            page = next(self._pages, None)
            if page is None:
                self.ended = True
            else:
                self.entries = page

    def take(self, bound: int) -> dict[int, int]:
        """Return the entries up to id `bound`, and go on after them."""
        end = bisect_right(self.entries, bound, key=_id)
        taken, self.entries = self.entries[:end], self.entries[end:]
        return dict(taken)


def _id(entry: tuple[int, int]) -> int:
    return entry[0]
