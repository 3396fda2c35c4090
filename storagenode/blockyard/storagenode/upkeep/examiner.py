"""Reads replicas in full; one that is bad is taken out of service and fetched anew.

The bad copy is kept aside by the store until a good one has taken its place; when there is none anywhere, it is all
that is left, and repair says so for as long as it lasts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from blockyard.proto import errors, logs
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.storagenode.store import BlockStore, Verification
from blockyard.storagenode.upkeep.exchange import WORTH_COPYING, Ask

_log = logs.get(__name__)


@dataclass(slots=True)
class Examined:
    """What was read since the process started."""

    blocks: int = 0
    bytes: int = 0
    bad: int = 0


class Examiner:
    """Verifies replicas. Any number of threads may use it."""

    def __init__(self, store: BlockStore, lost: Callable[[int], None]) -> None:
        """`lost` is told of a group of which this node lacks a block from now on."""
        self.examined = Examined()
        self.quarantined = {block for block, _ in store.quarantined()}
        """Blocks of which a bad replica is kept."""
        self._store = store
        self._lost = lost

    def examine(self, block: int, why: str) -> Verification:
        """Read a replica and return what was found; quarantine it when it is bad. Raises UnknownBlock.

        `why` is said in the log: who asked, and what it saw.
        """
        found = self._store.verify(block)
        self.examined.blocks += 1
        self.examined.bytes += found.length
        if not found.good:
            self.examined.bad += 1
            pages = list(found.bad_pages[:10])
            _log.error("bad_replica", block=f"{block:#x}", length=found.length, bad_pages=pages, why=why)
            self.quarantined.add(block)
            self._store.quarantine(block, f"pages {pages} are bad ({why})")
            self._lost(block >> SEQUENCE_BITS)
        return found

    def suspect(self, block: int, why: str) -> None:
        """Examine a replica on somebody's word; when it is not here, the group may be short of it."""
        try:
            self.examine(block, why)
        except errors.UnknownBlock:
            self._lost(block >> SEQUENCE_BITS)

    def review(self, ask: Ask, wanted: Callable[[int], bool]) -> None:
        """Let go of the bad replicas that a good one has replaced, read here and now, or that nobody wants any more.

        `wanted` says of a group whether it is this node's. What can neither be replaced nor given up stays.
        """
        absent = []
        for block in sorted({block for block, _ in self._store.quarantined()}):
            try:
                if self.examine(block, "it replaced a bad replica").good:
                    self._release(block)
            except errors.UnknownBlock:
                absent.append(block)
        fates = ask(absent) if absent else ()
        for block, fate in zip(absent, fates or (), strict=False):
            if fate not in WORTH_COPYING or not wanted(block >> SEQUENCE_BITS):
                self._release(block)

    def _release(self, block: int) -> None:
        self._store.release(block)
        self.quarantined.discard(block)
        _log.info("bad_replica_let_go", block=f"{block:#x}")
