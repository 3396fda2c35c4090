"""The simulated world: one heap of (time, sequence, action), one source of chance, one trace.

Time is an integer count of units; `TICK` units are one nominal tick of a process whose clock runs true. Nothing in a
run reads a clock, the operating system, a set's order or a string's hash, so a seed and an event count name one run.
The trace is a running digest of every noted fact (equal digests: equal runs) and the last facts in readable form.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

TICK = 100
TRACE_TAIL = 400


class Violation(AssertionError):
    """A promise was broken. The message says which and by what; the run's trace tail says how it came to that."""


class World:
    """Runs actions in time order; ties run in the order in which they were asked for."""

    __slots__ = ("_heap", "_sequence", "chance", "digest", "events", "facts", "now", "tail")

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 0
        self.events = 0
        self.digest = 0
        self.tail: deque[tuple[int, str, tuple[int, ...]]] = deque(maxlen=TRACE_TAIL)
        self.facts: Counter[str] = Counter()
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def after(self, delay: int, action: Callable[..., None], *arguments: Any) -> None:
        """Run `action(*arguments)` when `delay` units have gone by."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, action, arguments))

    def note(self, fact: str, *numbers: int) -> None:
        """Add a fact to the trace. Numbers only: their hashes do not depend on the process."""
        self.digest = hash((self.digest, self.now, *numbers))
        self.facts[fact] += 1
        self.tail.append((self.now, fact, numbers))

    def run_events(self, count: int) -> None:
        """Run the next `count` actions."""
        heap, pop = self._heap, heapq.heappop
        for _ in range(count):
            if not heap:
                return
            self.now, _, action, arguments = pop(heap)
            self.events += 1
            action(*arguments)

    def run_until(self, done: Callable[[], bool], deadline: int, every: int = TICK) -> bool:
        """Run until `done()`, asked every `every` units, or until time `deadline`; return whether it was reached."""
        heap, pop = self._heap, heapq.heappop
        ask_at = self.now
        while heap and heap[0][0] <= deadline:
            if heap[0][0] >= ask_at:
                if done():
                    return True
                ask_at = heap[0][0] + every
            self.now, _, action, arguments = pop(heap)
            self.events += 1
            action(*arguments)
        return done()

    def chance_of(self, probability: float) -> bool:
        return probability > 0 and self.chance.random() < probability

    def readable_tail(self, lines: int = 60) -> str:
        """Return the last facts, one per line, times in ticks."""
        shown = list(self.tail)[-lines:]
        return "\n".join(
            f"  {time / TICK:10.2f}  {fact:<28} {' '.join(map(str, numbers))}" for time, fact, numbers in shown
        )
