"""Garbage: blocks that nothing refers to and no living session leased, left by writers that died.

Mark and sweep over this node's own list: the metadata group marks, this node sweeps. Unknown is final, so a block may
go as soon as it is unknown; the age it must have is for whoever mistrusts that.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from blockyard.proto import errors, logs
from blockyard.proto.cluster_pb2 import BLOCK_UNKNOWN
from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.upkeep.dropped import Dropped
from blockyard.storagenode.upkeep.exchange import Ask
from blockyard.storagenode.upkeep.lists import own_pages
from blockyard.storagenode.upkeep.windows import Entries

HOUR_S: Final = 3600
SECOND_NS: Final = 1_000_000_000
_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a search has found so far."""

    total: int  # blocks on this node when it began
    blocks: int = 0  # looked at
    orphans: int = 0  # unknown, and old enough
    orphan_bytes: int = 0
    dropped: int = 0
    done: bool = False

    @property
    def progress(self) -> float:
        """Share of the blocks that was looked at, 0 to 1."""
        return 1.0 if self.done else min(1.0, self.blocks / max(1, self.total))


class Collector:
    """Looks for garbage; one search at a time."""

    def __init__(self, store: BlockStore, ask: Ask, dropped: Dropped) -> None:
        self.dropped_blocks = 0
        self._store = store
        self._ask = ask
        self._dropped = dropped
        self._searching = threading.Lock()

    def run(self, stopping: Callable[[], bool], older_than_s: float, *, dry_run: bool) -> Iterator[Findings]:
        """Look through all blocks and drop orphans, unless it is a `dry_run`; yield how far it is, page by page.

        Raises Busy while another search runs, Unavailable when the metadata group does not answer. An abandoned
        iterator ends the search.
        """
        if not self._searching.acquire(blocking=False):
            raise errors.Busy("this node is already looking for garbage")
        try:
            found = Findings(self._store.usage().blocks)
            for group in self._store.groups():
                for page in own_pages(self._store, group):
                    if stopping():
                        raise errors.ShuttingDown("the node is shutting down")
                    found = self._sweep(found, page, older_than_s, dry_run)
                    yield found
            yield replace(found, done=True)
        finally:
            self._searching.release()

    def _sweep(self, found: Findings, page: Entries, older_than_s: float, dry_run: bool) -> Findings:
        orphans = self._orphans(page, older_than_s)
        dropped = 0
        if orphans and not dry_run:
            self._dropped.add(block for block, _ in orphans)
            dropped = self._store.drop([block for block, _ in orphans])
            self.dropped_blocks += dropped
            _log.info("orphans_dropped", blocks=dropped)
        return replace(
            found,
            blocks=found.blocks + len(page),
            orphans=found.orphans + len(orphans),
            orphan_bytes=found.orphan_bytes + sum(length for _, length in orphans),
            dropped=found.dropped + dropped,
        )

    def _orphans(self, page: Entries, older_than_s: float) -> list[tuple[int, int]]:
        fates = self._ask([block for block, _ in page])
        if fates is None:
            raise errors.Unavailable("the metadata group does not say which blocks live")
        unknown = [entry for entry, fate in zip(page, fates, strict=True) if fate == BLOCK_UNKNOWN]
        return [entry for entry in unknown if self._age_s(entry[0]) >= older_than_s]

    def _age_s(self, block: int) -> float:
        try:
            return (time.time_ns() - self._store.find(block).sealed_ns) / SECOND_NS
        except errors.UnknownBlock:
            return -1.0  # dropped meanwhile
