"""The log against a plain list, whatever is appended, truncated, written, trimmed and compacted in between."""

from __future__ import annotations

import pytest
from blockyard.metaserver.raft import BaseRecord, DurableState, Entry, LogIndex, Membership
from blockyard.metaserver.raft.log import Log
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.metaserver.raft.harness import MemoryDisk, entry


class LogMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryDisk(DurableState.bootstrap(Membership.of([1])))
        self.log = Log(self.disk.base, self.disk)
        self.base = self.disk.base
        self.model: list[Entry] = []  # what follows the base

    def last(self) -> tuple[int, int]:
        return (self.model[-1].index, self.model[-1].term) if self.model else (self.base.index, self.base.term)

    @rule(count=st.integers(1, 4), newer=st.integers(0, 2), size=st.integers(0, 9))
    def append(self, count: int, newer: int, size: int) -> None:
        index, term = self.last()
        made = [entry(index + 1 + i, term + newer, b"x" * size) for i in range(count)]
        self.log.append(made)
        self.model += made

    @rule(back=st.integers(1, 5))
    def truncate_and_append(self, back: int) -> None:
        if not self.model:
            return
        first = self.model[-min(back, len(self.model))].index
        term = self.last()[1] + 1
        self.log.truncate(first)
        self.model = [e for e in self.model if e.index < first]
        made = [entry(first, term, b"new")]
        self.log.append(made)
        self.model += made

    @rule(truncates=st.booleans())
    def write(self, truncates: bool) -> None:
        entries = list(self.log.unstable())
        if truncates and self.model:
            self.truncate_and_append(2)
        if entries:
            self.disk.log[entries[0].index - self.base.index - 1 :] = entries
        self.log.wrote()

    @rule(max_bytes=st.integers(0, 300))
    def trim(self, max_bytes: int) -> None:
        self.log.trim(self.log.stable, max_bytes)

    @rule(keep=st.integers(0, 5))
    def compact(self, keep: int) -> None:
        index = self.log.stable - keep
        if index > self.base.index:
            base = BaseRecord(LogIndex(index), self.log.term(index), self.base.membership)
            self.log.compact(base)
            self.disk._begin_at(base)
            self.base = base
            self.model = [e for e in self.model if e.index > index]

    @invariant()
    def equals_the_model(self) -> None:
        assert (self.log.last_index, self.log.last_term) == self.last()
        read: list[Entry] = []
        while self.base.index + len(read) < self.log.last_index:
            read += self.log.entries(self.base.index + len(read) + 1, self.log.last_index + 1, 20)
        assert read == self.model
        assert [self.log.term(e.index) for e in self.model] == [e.term for e in self.model]

    @invariant()
    def finds_terms_as_a_walk_would(self) -> None:
        pairs = [(self.base.index, self.base.term), *[(e.index, e.term) for e in self.model]]
        for index in range(self.base.index, self.log.last_index + 2):
            for term in range(self.last()[1] + 2):
                below = [i for i, t in pairs if i <= index and t <= term]
                assert self.log.newest_at_or_below(index, term) == max(below, default=self.base.index - 1)


LogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestLog = LogMachine.TestCase


def test_an_append_with_a_gap_or_an_older_term_stops_the_process() -> None:
    machine = LogMachine()
    for wrong in (entry(5, 3), entry(2, 0)):
        with pytest.raises(AssertionError):
            machine.log.append([wrong])
