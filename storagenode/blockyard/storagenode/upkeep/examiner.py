"""Reads replicas in full; one that is bad is taken out of service and fetched anew.

The bad copy is kept aside by the store until a good one has taken its place; when there is none anywhere, it is all
that is left, and repair says so for as long as it lasts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from blockyard.proto import errors, logs
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.storagenode.store import BlockStore, Verification

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
            self._store.quarantine(block, f"pages {pages} are bad ({why})")
            self._lost(block >> SEQUENCE_BITS)
        return found

    def suspect(self, block: int, why: str) -> None:
        """Examine a replica on somebody's word; when it is not here, the group may be short of it."""
        try:
            self.examine(block, why)
        except errors.UnknownBlock:
            self._lost(block >> SEQUENCE_BITS)
