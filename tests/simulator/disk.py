"""A member's disk: two write-ahead logs with unsynced tails, and what a crash leaves of them.

The Raft log and the state are written as atomic batches. A batch is safe once a sync that began after it has ended;
a power cut keeps a prefix of the others, and the first lost one may be torn: half of it is there, and its checksum
says so. Records that were once synced may rot; the checksum says that too, and since a torn record can only stand in
the unsynced tail, whoever opens the disk can tell the two apart: torn tails are dropped, rot is refused.

The log shown to readers is the synced one: a core may ask only for what it was told is persisted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from blockyard.metaserver.raft import BaseRecord, DurableState, Entry, HardState, LogIndex, Term

from tests.simulator.state_machine import APPLIED, Rows


class RottenDisk(Exception):
    """A synced record fails its checksum: the member must not start from this disk."""


@dataclass(frozen=True, slots=True)
class LogBatch:
    """One atomic write of Raft's records; `state` is a snapshot's, switched to in the same step as the log."""

    base: BaseRecord | None = None
    state: Rows | None = None
    hard_state: HardState | None = None
    entries: Sequence[Entry] = ()


@dataclass(frozen=True, slots=True)
class StateBatch:
    """The rows that one applied entry changed, applied index included."""

    rows: Rows


Batch = LogBatch | StateBatch


@dataclass(slots=True)
class WriteAheadLog:
    """Batches in the order written, the synced ones gone into the disk's content."""

    unsynced: list[Batch] = field(default_factory=list)
    synced_count: int = 0

    @property
    def written_count(self) -> int:
        return self.synced_count + len(self.unsynced)


class Disk:
    """Implements the core's LogReader over what is synced."""

    __slots__ = (
        "base",
        "busy_until",
        "entries_stored",
        "hard_state",
        "log_file",
        "rotten",
        "rows",
        "state_file",
        "torn",
    )

    def __init__(self, durable: DurableState, rows: Rows, one_file: bool) -> None:
        self.hard_state = durable.hard_state
        self.base = durable.base
        self.entries_stored: list[Entry] = []
        self.rows = rows
        self.log_file = WriteAheadLog()
        self.state_file = self.log_file if one_file else WriteAheadLog()
        self.busy_until = 0
        self.rotten = False
        self.torn = 0

    # -- LogReader

    def first_index(self) -> LogIndex:
        return LogIndex(self.base.index + 1)

    def last_index(self) -> LogIndex:
        return LogIndex(self.base.index + len(self.entries_stored))

    def term(self, index: LogIndex) -> Term:
        offset = index - self.base.index - 1
        assert offset >= 0, f"term of entry {index} asked, the log begins after {self.base.index}"
        return self.entries_stored[offset].term

    def entries(self, low: LogIndex, high: LogIndex, max_bytes: int) -> Sequence[Entry]:
        base = self.base.index
        assert base < low < high <= self.last_index() + 1, (
            f"entries {low}..{high} asked of {base + 1}..{self.last_index()}"
        )
        found = self.entries_stored[low - base - 1 : high - base - 1]
        size = 0
        for count, entry in enumerate(found):
            size += len(entry.data)
            if size > max_bytes and count:
                return found[:count]
        return found

    # -- writing

    def write_log(self, batch: LogBatch) -> int:
        """Write without syncing; return the mark to give to `synced`."""
        self.log_file.unsynced.append(batch)
        return self.log_file.written_count

    def write_state(self, rows: Rows) -> None:
        self.state_file.unsynced.append(StateBatch(rows))

    def synced(self, file: WriteAheadLog, mark: int) -> None:
        """A sync of `file` that began when `mark` batches were written has ended well."""
        count = mark - file.synced_count
        if count > 0:
            for batch in file.unsynced[:count]:
                self._settle(batch)
            del file.unsynced[:count]
            file.synced_count = mark

    def _settle(self, batch: Batch) -> None:
        if isinstance(batch, StateBatch):
            if batch.rows[APPLIED] > self.rows[APPLIED]:  # else a snapshot has overtaken it
                self.rows.update(batch.rows)
            return
        if batch.base is not None:
            self._begin_at(batch.base)
        if batch.state is not None:
            self.rows = dict(batch.state)
        if batch.hard_state is not None:
            self.hard_state = batch.hard_state
        if batch.entries:
            offset = batch.entries[0].index - self.base.index - 1
            assert 0 <= offset <= len(self.entries_stored), f"a gap before entry {batch.entries[0].index}"
            del self.entries_stored[offset:]
            self.entries_stored.extend(batch.entries)

    def _begin_at(self, base: BaseRecord) -> None:
        old = self.base
        kept: list[Entry] = []
        if base.index == old.index and base.term == old.term:
            kept = self.entries_stored
        elif old.index < base.index <= self.last_index() and self.term(base.index) == base.term:
            kept = self.entries_stored[base.index - old.index :]
        self.base = base
        self.entries_stored = kept

    # -- failing

    def lose_power(self, chance: random.Random, tear: bool) -> None:
        """Keep a random prefix of each file's unsynced batches, the next one perhaps torn."""
        files = [self.log_file] if self.state_file is self.log_file else [self.log_file, self.state_file]
        for file in files:
            unsynced = len(file.unsynced)
            kept = chance.randint(0, unsynced)
            self.torn += tear and kept < unsynced
            self.synced(file, file.synced_count + kept)
            file.unsynced.clear()  # the torn record fails its checksum; all after it is past the end
        self.busy_until = 0

    def stop_process(self) -> None:
        """The process dies, the machine lives: what was written is in the page cache; the next start syncs it."""
        self.synced(self.log_file, self.log_file.written_count)
        self.synced(self.state_file, self.state_file.written_count)
        self.busy_until = 0

    def open(self) -> DurableState:
        """Return what a starting member finds. Raises RottenDisk."""
        if self.rotten:
            raise RottenDisk
        return DurableState(self.hard_state, self.base, LogIndex(self.rows[APPLIED]))

    # -- for the checkers

    def holds(self, index: int, term: int) -> bool:
        """Return whether the synced log has this entry, or begins after it."""
        if index <= self.base.index:
            return True
        offset = index - self.base.index - 1
        return offset < len(self.entries_stored) and self.entries_stored[offset].term == term
