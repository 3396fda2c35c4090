"""When a second replica is asked although the first has not failed. Pure.

A replica that takes longer than nearly all answers lately did is doubted, not given up: whoever answers first is read.
"""

from collections import deque
from typing import Final

SHORTEST_S: Final = 0.02
LONGEST_S: Final = 0.5
_SAMPLES: Final = 64
_FACTOR: Final = 3.0


class Hedging:
    """What answers took lately, and how long to wait for the next."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=_SAMPLES)
        self.delay_s = LONGEST_S
        """How long to wait for the first byte before another replica is asked too."""

    def answered(self, seconds: float) -> None:
        """The first byte of an answer came after this long."""
        self._latest.append(seconds)
        if len(self._latest) % 8 == 0:
            ordered = sorted(self._latest)
            slow = ordered[len(ordered) * 15 // 16]
            self.delay_s = min(max(SHORTEST_S, _FACTOR * slow), LONGEST_S)
