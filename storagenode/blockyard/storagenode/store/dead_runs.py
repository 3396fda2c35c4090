"""Where the records of dropped blocks lie next to each other in a pack, so that whole pages of the disk come back.

Pure. A run is bytes from a record's start to a record's end, all of them dead.
"""

from typing import Final

PAGE: Final = 4096
LONGEST_RUN_BYTES: Final = 1 << 30
_MOST_RUNS: Final = 50_000

Run = tuple[int, int]


def whole_pages(run: Run, header_bytes: int) -> Run:
    """Return the pages of the disk inside a run, behind a header at its start; empty when start >= end."""
    return -(-(run[0] + header_bytes) // PAGE) * PAGE, run[1] // PAGE * PAGE


class DeadRuns:
    """The runs of one pack. What does not fit the memory set aside for it is left to the rewriting of the pack."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._grown: set[int] = set()  # by start

    def add(self, start: int, end: int) -> None:
        """Take a dead record in."""
        low = self._starts.get(start, start)
        high = self._ends.get(end, end)
        if high - low > LONGEST_RUN_BYTES or (len(self._ends) >= _MOST_RUNS and (low, high) == (start, end)):
            return
        for old in {low, end} & self._ends.keys():
            del self._starts[self._ends.pop(old)]
            self._grown.discard(old)
        self._ends[low] = high
        self._starts[high] = low
        self._grown.add(low)

    def take_grown(self, header_bytes: int) -> list[Run]:
        """Return the runs that have grown since the last call and hold a whole page."""
        found = []
        for start in sorted(self._grown):
            low, high = whole_pages((start, self._ends[start]), header_bytes)
            if low < high:
                found.append((start, self._ends[start]))
                self._grown.discard(start)
        return found
