"""How fast work that nobody waits for may go. Pure: time is an argument, in seconds of one monotonic clock."""

from dataclasses import dataclass
from typing import Final

SECOND_NS: Final = 1_000_000_000


class Stopped(Exception):
    """The process ends: work that nobody waits for is left as it is."""


class TokenBucket:
    """A rate in units per second, with a burst.

    Invariant: between any two moments at most `rate` × their distance + `burst` + one request is let through.
    """

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """`rate` 0 lets everything through."""
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = now

    def take(self, amount: float, now: float) -> float:
        """Take `amount`; return for how many seconds to wait before using it.

        More than a burst may be taken at once: the debt is waited for by whoever comes next too.
        """
        if self.rate <= 0:
            return 0.0
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        self._level -= amount
        return max(0.0, -self._level / self.rate)

    def set_rate(self, rate: float, now: float) -> None:
        """Go on at another rate; what was taken so far was taken at the old one."""
        self.take(0, now)
        self.rate = rate
        self._at = now


@dataclass(frozen=True, slots=True)
class ScrubPace:
    """How often every replica is read: once per `period_s`, the least recently read first."""

    period_s: float

    SLACK = 1.25  # faster than the period demands by so much, so that a pass ends in time

    def rate(self, live_bytes: int) -> float:
        """Return the bytes per second at which everything is read once per period."""
        return self.SLACK * live_bytes / self.period_s

    def due_ns(self, read_ns: int) -> int:
        """Return when a replica that was last read (or written) at `read_ns` may be read again.

        Half a period later, not a whole one: at the pace of `rate` the oldest replica comes up at some 0.8 periods.
        A lower bound only keeps a nearly empty disk from being read round and round.
        """
        return read_ns + int(self.period_s / 2 * SECOND_NS)


class Meter:
    """Units per second over the last while, for people: a mean that forgets half in `half_life_s`."""

    def __init__(self, now: float, half_life_s: float = 5.0) -> None:
        self._half_life_s = half_life_s
        self._at = now
        self._rate = 0.0

    def add(self, amount: float, now: float) -> None:
        """Count `amount`."""
        self._decay(now)
        self._rate += amount * _LN2 / self._half_life_s

    def rate(self, now: float) -> float:
        """Return units per second."""
        self._decay(now)
        return self._rate

    def _decay(self, now: float) -> None:
        if now > self._at:
            self._rate *= 0.5 ** ((now - self._at) / self._half_life_s)
            self._at = now


_LN2: Final = 0.693147
