"""What the lists of a placement group's holders say: what this node lacks, and what it has and must not keep.

A block that all other present holders have, two at least, is copied without asking. Any other may be one that died
while its holder was away, so the metadata group is asked: what is live, or leased and so may be committed yet, is
copied; what is dead or unknown is not. What this node alone has is asked about too, and dropped when it is dead;
unknown is left to gc. (Holders that were all away at once might bring the dead back together. They are told to drop
them with their first heartbeat, `agenda` waits for that, and what slips through is an orphan, for gc.)

Knowing less is safe: a list that ends early makes blocks look rarer than they are, which only means more asking.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from blockyard.proto.cluster_pb2 import BLOCK_DEAD, BLOCK_LEASED, BLOCK_LIVE, BlockFate
from blockyard.storagenode.upkeep.windows import Entries, Window, windows

WORTH_COPYING: Final = frozenset((BLOCK_LIVE, BLOCK_LEASED))

WITNESSES: Final = 2
"""So many holders that all have a block are believed that it lives."""

Ask = Callable[[Sequence[int]], Sequence[BlockFate] | None]
"""Asks the metadata group for the fates of blocks: an answer per block, in order, or None when it does not answer."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A block that this node lacks and shall have."""

    block: int
    length: int  # bytes
    sources: tuple[int, ...]  # nodes that have it, rising; at least one


@dataclass(frozen=True, slots=True)
class Difference:
    """What one window of ids says."""

    missing: tuple[Missing, ...] = ()  # rising
    dead: tuple[int, ...] = ()  # here, and dead: to be dropped; rising
    unsure: tuple[int, ...] = ()  # missing, and the metadata group could not be asked; rising


@dataclass(slots=True)
class Parties:
    """Who takes part in the exchange of a group."""

    me: int
    present: frozenset[int]  # nodes that the map wants to hold the group, this one among them
    unheard: set[int] = field(default_factory=set)  # holders whose list could not be had, or not to its end

    @property
    def others(self) -> frozenset[int]:
        """The other present holders."""
        return self.present - {self.me}


def differences(
    parties: Parties, lists: Mapping[int, Iterator[Entries]], ask: Ask, never: Callable[[int], bool]
) -> Iterator[Difference]:
    """Yield what each window of the lists says; `lists` has this node's own too.

    `never` says of a block whether it was dropped for good.
    """
    for window in windows(lists):
        yield compare(parties, window, ask, never)


def compare(parties: Parties, window: Window, ask: Ask, never: Callable[[int], bool]) -> Difference:
    """Return what one window says."""
    mine = window.get(parties.me, {}).keys()
    elsewhere = {holder: blocks for holder, blocks in window.items() if holder != parties.me}
    others = [elsewhere.get(holder, {}).keys() for holder in parties.others]
    lacking = {block for block in set().union(*elsewhere.values()) - mine if not never(block)}
    certain = lacking.intersection(*others) if len(others) >= WITNESSES else set()
    alone = mine - set().union(*others) if others and not parties.unheard else set()
    doubtful = sorted((lacking - certain) | alone)
    answers = ask(doubtful) if doubtful else ()
    if answers is None:
        return Difference(_missing(certain, elsewhere), unsure=tuple(sorted(lacking - certain)))
    fates = dict(zip(doubtful, answers, strict=True))
    wanted = certain | {block for block in lacking - certain if fates[block] in WORTH_COPYING}
    dead = sorted(block for block in alone if fates[block] == BLOCK_DEAD)
    return Difference(_missing(wanted, elsewhere), dead=tuple(dead))


def _missing(blocks: Iterable[int], lists: Mapping[int, Mapping[int, int]]) -> tuple[Missing, ...]:
    return tuple(_most_agreed(block, lists) for block in sorted(blocks))


def _most_agreed(block: int, lists: Mapping[int, Mapping[int, int]]) -> Missing:
    """Holders that disagree about the length cannot all be right: the most frequent is taken, then the longest."""
    by_length: dict[int, list[int]] = {}
    for holder in sorted(lists):
        length = lists[holder].get(block)
        if length is not None:
            by_length.setdefault(length, []).append(holder)
    length, sources = max(by_length.items(), key=lambda each: (len(each[1]), each[0]))
    return Missing(block, length, tuple(sources))


def spared(present: AbstractSet[int], window: Window, me: int) -> tuple[list[int], dict[int, list[int]]]:
    """Return, for a node that holds a group no longer, what it may drop and what it must keep.

    First the blocks, rising, that every present holder has; then, by block, the present holders that lack it.
    """
    mine = window.get(me, {}).keys()
    lists = {holder: window.get(holder, {}).keys() for holder in present}
    covered = mine & set(mine).intersection(*lists.values()) if lists else set[int]()
    lacking = {
        block: sorted(holder for holder, blocks in lists.items() if block not in blocks)
        for block in sorted(mine - covered)
    }
    return sorted(covered), lacking
