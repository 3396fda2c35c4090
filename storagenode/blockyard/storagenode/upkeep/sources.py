"""From which holder a block is fetched, and what is fetched in one request. Pure: time is an argument, in seconds.

The rarest blocks go first. Each comes from the healthy holder that has the least to send just now; small blocks that
one holder has travel together. A holder that failed rests, longer every time; a block is never asked twice of a holder
that delivered it wrong in the same round.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from blockyard.storagenode.upkeep.exchange import Missing

SMALL_BYTES: Final = 256 << 10  # blocks below this travel together,
TOGETHER_BYTES: Final = 1 << 20  # up to so many bytes
TOGETHER_BLOCKS: Final = 256
FIRST_REST_S: Final = 2.0
LONGEST_REST_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Pull:
    """One request: blocks of one group from one holder."""

    source: int
    blocks: tuple[Missing, ...]

    @property
    def bytes(self) -> int:
        return sum(missing.length for missing in self.blocks)


@dataclass(slots=True)
class _Source:
    outstanding_bytes: int = 0
    asked_bytes: int = 0
    failures: int = 0
    rests_until: float = 0.0


class Sources:
    """How the other nodes did as sources so far."""

    def __init__(self) -> None:
        self._sources: dict[int, _Source] = {}

    def choose(self, candidates: Iterable[int], now: float) -> int | None:
        """Return the candidate to ask, None when all rest."""
        awake = [node for node in candidates if self._of(node).rests_until <= now]
        return min(awake, key=self._burden, default=None)

    def started(self, pull: Pull) -> None:
        """A request goes out."""
        source = self._of(pull.source)
        source.outstanding_bytes += pull.bytes
        source.asked_bytes += pull.bytes

    def ended(self, pull: Pull, *, answered: bool, now: float) -> None:
        """A request is over; `answered` when the node said something sensible, even that it lacks a block."""
        source = self._of(pull.source)
        source.outstanding_bytes -= pull.bytes
        if answered:
            source.failures = 0
        else:
            source.rests_until = now + min(LONGEST_REST_S, FIRST_REST_S * 2**source.failures)
            source.failures += 1

    def _of(self, node: int) -> _Source:
        return self._sources.setdefault(node, _Source())

    def _burden(self, node: int) -> tuple[int, int, int]:
        source = self._of(node)
        return source.outstanding_bytes, source.asked_bytes, node


class Round:
    """Missing blocks on their way here. Every block ends as done or in `left`."""

    def __init__(self, missing: Sequence[Missing]) -> None:
        self.left: list[Missing] = []
        """Blocks that no holder could deliver now, or that there is no room for."""
        self.full = False
        """Whether this node's disk has no room."""
        self._waiting = sorted(missing, key=lambda each: (len(each.sources), each.block))
        self._refused: dict[int, set[int]] = {}

    def next(self, sources: Sources, now: float) -> Pull | None:
        """Return the next request, None when nothing waits; what is under way may still come back."""
        while self._waiting:
            first = self._waiting[0]
            source = sources.choose(self._candidates(first), now)
            if source is None:
                self.left.append(self._waiting.pop(0))
                continue
            pull = Pull(source, self._together(source))
            chosen = {missing.block for missing in pull.blocks}
            self._waiting = [each for each in self._waiting if each.block not in chosen]
            return pull
        return None

    def retry(self, missing: Missing, source: int) -> None:
        """A holder did not deliver a block: it is asked of another."""
        self._refused.setdefault(missing.block, set()).add(source)
        self._waiting.insert(0, missing)

    def again(self, missing: Sequence[Missing]) -> None:
        """Blocks were not reached: they are asked for again."""
        self._waiting[:0] = missing

    def give_up(self, missing: Sequence[Missing] = ()) -> None:
        """There is no room here for `missing`, nor for what waits."""
        self.full = True
        self.left += [*missing, *self._waiting]
        self._waiting.clear()

    def _candidates(self, missing: Missing) -> list[int]:
        refused = self._refused.get(missing.block, ())
        return [source for source in missing.sources if source not in refused]

    def _together(self, source: int) -> tuple[Missing, ...]:
        chosen = [self._waiting[0]]
        size = chosen[0].length
        if size >= SMALL_BYTES:
            return tuple(chosen)
        for missing in self._waiting[1:]:
            if len(chosen) == TOGETHER_BLOCKS:
                break
            fits = missing.length < SMALL_BYTES and size + missing.length <= TOGETHER_BYTES
            if fits and source in self._candidates(missing):
                chosen.append(missing)
                size += missing.length
        return tuple(chosen)
