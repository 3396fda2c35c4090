"""Repair: this node fetches what it lacks.

One thread surveys and plans; a few fetch. A fill goes through a group's lists once more, page by page, fetching as
it goes. Between two pages it gives way to a survey that is due or a group in greater danger. The state of a repair is
what is on the disk: a node that is killed in the middle surveys again and goes on with what is still missing.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from blockyard.proto import logs
from blockyard.proto.cluster_map import ClusterView, GroupHolders
from blockyard.storagenode.node.service_list import Progress
from blockyard.storagenode.store import BlockStore
from blockyard.storagenode.upkeep.agenda import Agenda, Left, Survey
from blockyard.storagenode.upkeep.dropped import Dropped
from blockyard.storagenode.upkeep.exchange import Ask, Difference, Missing, Parties, differences
from blockyard.storagenode.upkeep.lists import Lists
from blockyard.storagenode.upkeep.pace import Meter, Stopped
from blockyard.storagenode.upkeep.peers import Peers
from blockyard.storagenode.upkeep.puller import Outcome, Puller
from blockyard.storagenode.upkeep.sources import Round, Sources

EXCHANGE_PERIOD_S: Final = 600.0
IN_FLIGHT: Final = 4
_LONGEST_WAIT_S: Final = 60.0
_NAMED: Final = 10
_log = logs.get(__name__)


@dataclass(slots=True)
class Totals:
    """What was done since the process started."""

    surveys: int = 0
    blocks: int = 0
    bytes: int = 0
    refused: int = 0  # blocks that a holder could not deliver
    unobtainable: dict[int, int] = field(default_factory=dict)  # by group, what the last fill could not get


class _Walk(NamedTuple):
    """A group's lists, and what they say."""

    row: GroupHolders
    lists: Lists
    differences: Iterator[Difference]


class Repair:
    """The repair of one node's groups."""

    name = "repair"

    def __init__(
        self,
        store: BlockStore,
        peers: Peers,
        ask: Ask,
        dropped: Dropped,
        puller: Puller,
        stopping: threading.Event,
        stored: Callable[[Sequence[int]], None],
        period_s: float = EXCHANGE_PERIOD_S,
    ) -> None:
        """`stopping` ends all of it, and is the throttle's too. `stored` is told of every block that was fetched."""
        self.totals = Totals()
        self._store = store
        self._peers = peers
        self._ask = ask
        self._dropped = dropped
        self._puller = puller
        self._stored = stored
        self._stopping = stopping
        self._changed = threading.Condition()
        self._agenda = Agenda(peers.me, period_s)
        self._sources = Sources()
        self._meter = Meter(time.monotonic())
        self._pool = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="pull")
        self._thread = threading.Thread(target=self._run, name="repair", daemon=True)

    # ------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        """Begin; a map must have been told."""
        self._thread.start()

    def stop(self) -> None:
        """End; blocks that are half here are given up. `stopping` is set already."""
        with self._changed:
            self._changed.notify_all()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def progress(self) -> Progress:
        """Say for the heartbeat what is left, and which groups are complete under which map."""
        with self._changed:
            left, complete, epoch = self._agenda.left(), self._agenda.complete(), self._agenda.view.epoch
        return Progress(left.blocks, left.bytes, int(self.rate()), tuple(complete), epoch)

    def left(self) -> Left:
        """Return what is left to fetch, as far as surveys know."""
        with self._changed:
            return self._agenda.left()

    def rate(self) -> float:
        """Return the bytes per second of the last while."""
        with self._changed:
            return self._meter.rate(time.monotonic())

    # ------------------------------------------------------------------------------------------ told

    def map_is(self, view: ClusterView) -> None:
        """There is another map."""
        with self._changed:
            self._agenda.map_is(view, time.monotonic())
            self._changed.notify_all()

    def hint(self, group: int, stranger: int = 0) -> None:
        """This node may lack blocks of a group; `stranger` is no holder, and has some."""
        with self._changed:
            self._agenda.hint(group, time.monotonic(), stranger)
            self._changed.notify_all()

    def lost(self, group: int) -> None:
        """This node lacks a block of a group that it had."""
        with self._changed:
            self._agenda.lost(group, time.monotonic())
            self._changed.notify_all()

    # ------------------------------------------------------------------------------------------ the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            now = time.monotonic()
            with self._changed:
                survey = self._agenda.take_survey(now)
                fill = self._agenda.next_fill() if survey is None else None
                if survey is None and fill is None:
                    self._changed.wait(min(_LONGEST_WAIT_S, self._agenda.wait_s(now)))
                    continue
            try:
                if survey is not None:
                    self._survey(survey)
                elif fill is not None:
                    self._fill(fill)
            except Stopped:
                return

    def _survey(self, group: int) -> None:
        walk = self._walk(group)
        if walk is None:
            return
        blocks = size = fewest = 0
        settled = True
        for difference in walk.differences:
            self._bury(difference.dead)
            for missing in difference.missing:
                blocks += 1
                size += missing.length
                fewest = min(fewest or len(missing.sources), len(missing.sources))
            settled = settled and not difference.unsure
            self._check_stopping()
        survey = Survey(group, blocks, size, fewest, settled and walk.lists.whole)
        with self._changed:
            self.totals.surveys += 1
            self._agenda.surveyed(survey, walk.row, time.monotonic())
        if blocks:
            _log.info("group_incomplete", group=group, blocks=blocks, bytes=size, fewest_copies=fewest)

    def _fill(self, group: int) -> None:
        walk = self._walk(group)
        if walk is None:
            return
        gained, left, full = 0, list[Missing](), False
        _log.info("group_fill", group=group)
        for difference in walk.differences:
            self._bury(difference.dead)
            came, todo = self._fetch(group, difference.missing)
            gained += came
            full = full or todo.full
            left += () if todo.full else todo.left
            self._check_stopping()
            if not self._goes_on(group):
                return
        if full:
            _log.warning("repair_waits_for_room", group=group)
        if left:
            named = [f"{missing.block:#x}" for missing in left[:_NAMED]]
            _log.error("blocks_unobtainable", group=group, blocks=len(left), first=named)
        with self._changed:
            self.totals.unobtainable[group] = len(left)
            self._agenda.filled(group, time.monotonic(), gained=gained > 0)

    def _goes_on(self, group: int) -> bool:
        """Whether to go on filling this group, rather than look what else there is."""
        with self._changed:
            return not self._agenda.survey_due(time.monotonic()) and self._agenda.next_fill() == group

    def _fetch(self, group: int, missing: Sequence[Missing]) -> tuple[int, Round]:
        """Fetch blocks; return how many came, and what became of the others."""
        todo, gained = Round(missing), 0
        running: set[Future[Outcome]] = set()
        while True:
            while len(running) < IN_FLIGHT and (pull := todo.next(self._sources, time.monotonic())):
                self._sources.started(pull)
                running.add(self._pool.submit(self._puller.pull, pull))
            if not running:
                return gained, todo
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                gained += self._ended(group, todo, each.result())

    def _ended(self, group: int, todo: Round, outcome: Outcome) -> int:
        pull, now = outcome.pull, time.monotonic()
        self._sources.ended(pull, answered=outcome.answered, now=now)
        for missing in outcome.refused:
            todo.retry(missing, pull.source)
        todo.again(outcome.again)
        if outcome.full:
            todo.give_up([missing for missing in pull.blocks if missing not in outcome.stored])
        size = sum(missing.length for missing in outcome.stored)
        with self._changed:
            self._meter.add(size, now)
            self._agenda.pulled(group, len(outcome.stored), size)
            self.totals.blocks += len(outcome.stored)
            self.totals.bytes += size
            self.totals.refused += len(outcome.refused)
        self._stored([missing.block for missing in outcome.stored])
        return len(outcome.stored)

    # ------------------------------------------------------------------------------------------ lists

    def _walk(self, group: int) -> _Walk | None:
        """Begin to walk through the lists of a group; None when it is not this node's any more."""
        with self._changed:
            row = self._agenda.row(group)
            if row is None:
                return None
            listed = self._agenda.listed(group)
        parties = Parties(self._peers.me, frozenset(row.nodes))
        parties.unheard |= parties.others - set(listed)
        lists = Lists(self._store, self._peers, group, parties.unheard)
        return _Walk(row, lists, differences(parties, lists.of(listed), self._ask, self._dropped.__contains__))

    def _bury(self, dead: Sequence[int]) -> None:
        if dead:
            self._dropped.add(dead)
            self._store.drop(dead)
            _log.info("dead_blocks_dropped", blocks=len(dead))

    def _check_stopping(self) -> None:
        if self._stopping.is_set():
            raise Stopped
