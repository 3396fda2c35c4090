"""All upkeep of one node, put together: what the process starts, the servicer calls and the heartbeat asks."""

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from blockyard.proto import errors
from blockyard.proto.blocks.channels import Channels
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import NodeHeartbeatReply
from blockyard.proto.ids import SEQUENCE_BITS
from blockyard.storagenode.node.known_map import KnownMap
from blockyard.storagenode.node.service_list import Progress
from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.upkeep.chore import Chore
from blockyard.storagenode.upkeep.collector import HOUR_S, Collector, Findings
from blockyard.storagenode.upkeep.dropped import Dropped
from blockyard.storagenode.upkeep.examiner import Examiner
from blockyard.storagenode.upkeep.fates import Fates
from blockyard.storagenode.upkeep.hints import Hints
from blockyard.storagenode.upkeep.leaving import Leaving
from blockyard.storagenode.upkeep.peers import Peers
from blockyard.storagenode.upkeep.puller import Puller, Throttle
from blockyard.storagenode.upkeep.reclaimer import Reclaimer
from blockyard.storagenode.upkeep.repair import Repair
from blockyard.storagenode.upkeep.scrubber import Scrubber, ScrubProgress

COLLECT_PERIOD_S: Final = 6 * 3600.0
COLLECT_PAUSE_S: Final = 1.0  # between pages of a search that nobody waits for
REVIEW_PERIOD_S: Final = 600.0
RECLAIM_PERIOD_S: Final = 600.0
REWRITE_PERIOD_S: Final = 600.0
REWRITE_PAUSE_S: Final = 1.0  # between two steps while there is something to gain
REWRITE_BYTES: Final = 64 << 20  # copied in one step


@dataclass(frozen=True, slots=True)
class UpkeepSettings:
    """What an operator says about upkeep."""

    scrub_period_s: float
    repair_bytes_per_second: int  # 0: as fast as it goes; passes of scrub that were asked for keep to it too


class Upkeep:
    """Repair, leaving, reclaim, garbage and scrub of one node. Any number of threads may call it."""

    name = "upkeep"

    def __init__(
        self,
        store: BlockStore,
        known: KnownMap,
        cluster: Any,
        node: int,
        incarnation: int,
        settings: UpkeepSettings,
    ) -> None:
        """`cluster` is a stub of the Cluster service; nothing runs before `start`."""
        self.node = node
        self.store = store
        self._stopping = stopping = threading.Event()
        self._known = known
        self._channels = Channels()
        self._suspects: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._dropped = dropped = Dropped()
        self._fates = fates = Fates(cluster, node, incarnation)
        self._hints = Hints(peers := Peers(self._channels, known, node), known)
        self.throttle = Throttle(settings.repair_bytes_per_second, stopping)
        puller = Puller(store, peers, dropped, self.throttle)
        self.repair = Repair(store, peers, fates.ask, dropped, puller, stopping, self._replaced)
        self.examiner = Examiner(store, self.repair.lost)
        self.leaving = Leaving(store, peers, fates.ask, dropped, known, self.repair.lost)
        self.reclaimer = Reclaimer(store, dropped, cluster, node, incarnation)
        self.collector = Collector(store, fates.ask, dropped)
        self.scrubber = Scrubber(
            store, self.examiner, stopping, settings.scrub_period_s, settings.repair_bytes_per_second
        )
        self._reclaim = Chore("reclaim", self._reclaim_once, stopping)
        self._leave = Chore("leave", self._leave_once, stopping)
        self._rewrite = Chore("rewrite", self._rewrite_once, stopping)
        self._collect = Chore("collect", self._collect_once, stopping)
        self._examine = Chore("examine", self._examine_once, stopping)
        self._hint = Chore("hint", self._hints.send, stopping)
        self._first_collect = True
        self._services = (
            *(self.repair, self.scrubber),
            *(self._reclaim, self._rewrite, self._leave, self._collect, self._examine, self._hint),
        )

    # ------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        """Begin."""
        self._known.subscribe(self._map_is)
        self.repair.map_is(self._known.view)
        for service in self._services:
            service.start()

    def stop(self) -> None:
        """End; returns when no thread of it runs any more."""
        self._stopping.set()
        self._channels.close()
        for service in reversed(self._services):
            service.stop()

    def progress(self) -> Progress:
        """Say for the heartbeat what is left to repair, and which groups are complete."""
        return self.repair.progress()

    # ------------------------------------------------------------------------------------------ told

    def heard(self, reply: NodeHeartbeatReply) -> None:
        """The metadata leader answered a heartbeat."""
        if reply.reclaim:
            self._reclaim.wake()
        for block in reply.suspect_blocks:
            self.suspect(block)

    def suspect(self, block: int) -> None:
        """A replica here may be bad: it is examined soon. Returns at once."""
        self._suspects.put(block)
        self._examine.wake()

    def chain_failed(self, block: int, nodes: Iterable[int]) -> None:
        """A block was sealed here, and nodes of its chain failed. Returns at once."""
        self._hints.add(block >> SEQUENCE_BITS, nodes)
        self._hint.wake()

    def hint(self, group: int, node: int) -> None:
        """`node` says that this one may lack blocks of a group. Returns at once."""
        view = self._known.view
        holders = (view.groups[group].nodes, view.groups[group].former_nodes) if group < len(view.groups) else ((), ())
        self.repair.hint(group, 0 if node in (*holders[0], *holders[1]) else node)

    # ------------------------------------------------------------------------------------------ asked

    def start_scrub(self) -> int:
        """Read all replicas once; return how many there are."""
        return self.scrubber.begin_pass()

    def scrub_progress(self) -> ScrubProgress:
        """Return how far the scrub pass under way is."""
        return self.scrubber.pass_progress()

    def collect_garbage(self, older_than_s: int, *, dry_run: bool) -> Iterator[Findings]:
        """Look for garbage; see `Collector.run`. `older_than_s` 0 means an hour."""
        return self.collector.run(self._stopping.is_set, older_than_s or HOUR_S, dry_run=dry_run)

    # ------------------------------------------------------------------------------------------ chores

    def _map_is(self, view: ClusterView) -> None:
        self.repair.map_is(view)
        self.leaving.look_soon()
        self._leave.wake()

    def _replaced(self, blocks: Iterable[int]) -> None:
        if not self.examiner.quarantined.isdisjoint(blocks):
            self._examine.wake()

    def _reclaim_once(self) -> float:
        before = self.reclaimer.dropped_blocks
        self.reclaimer.run(self._stopping.is_set)
        if self.reclaimer.dropped_blocks > before:
            self._rewrite.wake()
        return RECLAIM_PERIOD_S

    def _rewrite_once(self) -> float:
        return REWRITE_PAUSE_S if self.store.rewrite_packs(REWRITE_BYTES) else REWRITE_PERIOD_S

    def _leave_once(self) -> float:
        return self.leaving.run(self._stopping.is_set)

    def _examine_once(self) -> float:
        while not self._stopping.is_set():
            try:
                block = self._suspects.get_nowait()
            except queue.Empty:
                break
            self.examiner.suspect(block, "reported bad")
        self.examiner.review(self._fates.ask, lambda group: self._known.view.holds(self.node, group))
        return REVIEW_PERIOD_S

    def _collect_once(self) -> float:
        if self._first_collect:
            self._first_collect = False
            return COLLECT_PERIOD_S / 2
        for _ in self.collector.run(self._stopping.is_set, HOUR_S, dry_run=False):
            if self._stopping.wait(COLLECT_PAUSE_S):
                raise errors.ShuttingDown("the node is shutting down")
        return COLLECT_PERIOD_S
