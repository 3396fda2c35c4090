"""How far to read ahead of a handle that reads one byte after the other. Pure.

The window begins with `FIRST_BYTES` at the second consecutive read, doubles as long as the reading goes on, up to
`LARGEST_BYTES`, and is gone with the first jump.
"""

from typing import Final

FIRST_BYTES: Final = 1 << 20
LARGEST_BYTES: Final = 16 << 20


class ReadAhead:
    """One handle's habit."""

    def __init__(self) -> None:
        self.window = 0
        self._expected = -1
        self._asked = 0

    @property
    def is_sequential(self) -> bool:
        """Whether the newest read continued the one before it."""
        return self.window > 0

    def advance(self, start: int, end: int) -> tuple[int, int]:
        """The handle reads [start, end); return the range to fetch for later, empty for nothing new."""
        if start != self._expected:
            self._expected = end
            self._asked = end
            self.window = FIRST_BYTES if start == 0 else 0
            if not self.window:
                return (0, 0)
        self._expected = end
        self._asked = max(self._asked, end)
        if self._asked - end > self.window // 2:
            return (0, 0)
        ahead = (self._asked, end + self.window)
        self.window = min(max(2 * self.window, FIRST_BYTES), LARGEST_BYTES)
        self._asked = max(ahead[1], self._asked)
        return ahead
