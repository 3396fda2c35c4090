"""The log against a plain list, across reopening; what a crash may take of it, and what it may not."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from blockyard.metaserver.raft.types import BaseRecord, Entry, EntryKind, HardState, LogIndex, Membership, Term
from blockyard.metaserver.storage.failures import CorruptLog
from blockyard.metaserver.storage.log_store import LogStore
from blockyard.metaserver.storage.segment import WATERMARK, Segment
from blockyard.proto.disk.failures import StorageFailed
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metaserver.storage.harness import (
    MEMBERSHIP,
    SEGMENT,
    START,
    all_entries,
    base,
    copy,
    entries,
    entry,
    hard,
    new_log,
    open_log,
)


def test_a_new_log_has_its_start_and_no_entries(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    assert (log.base, log.hard_state, log.first_index(), log.last_index()) == (START.base, START.hard_state, 2, 1)


def test_entries_term_vote_and_base_come_back_after_reopening(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.append(entries(2, 5), hard(4, 2, 3))
    log.append([Entry(LogIndex(5), Term(4), EntryKind.MEMBERSHIP, MEMBERSHIP.encode())])
    log.compact(base(3))
    log.close()
    log = open_log(tmp_path / "log")
    assert log.hard_state == hard(4, 2, 3)
    assert log.base == base(3)
    assert [e.index for e in all_entries(log)] == [4, 5]
    assert all_entries(log)[1].kind is EntryKind.MEMBERSHIP
    assert (log.term(LogIndex(3)), log.term(LogIndex(4)), log.term(LogIndex(5))) == (1, 1, 4)


def test_appended_entries_replace_the_tail_of_the_log(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.append(entries(2, 50))
    log.append(entries(10, 12, term=2), hard(2))
    assert all_entries(log) == entries(2, 10) + entries(10, 12, term=2)
    log.close()
    assert all_entries(open_log(tmp_path / "log")) == entries(2, 10) + entries(10, 12, term=2)


def test_a_base_keeps_the_entries_after_it_only_when_the_terms_agree(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.append(entries(2, 10))
    log.install_base(base(5))
    assert all_entries(log) == entries(6, 10)
    log.install_base(base(7, term=9), hard(9))
    assert all_entries(log) == []
    log.append(entries(8, 10, term=9))
    log.close()
    log = open_log(tmp_path / "log")
    assert (log.base, all_entries(log)) == (base(7, term=9), entries(8, 10, term=9))


def test_a_gap_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    for bad in ([entry(3)], [entry(1)], [entry(2), entry(4)]):
        with pytest.raises(AssertionError):
            log.append(bad)
    log.append([entry(2)])
    assert all_entries(log) == [entry(2)]


def test_entries_stop_at_max_bytes_but_never_before_the_first(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.append(entries(2, 12, size=100))
    assert len(log.entries(LogIndex(2), LogIndex(12), 0)) == 1
    assert len(log.entries(LogIndex(2), LogIndex(12), 250)) == 2
    assert len(log.entries(LogIndex(2), LogIndex(12), 1000)) == 10


def test_compaction_gives_back_the_segments_and_reuses_one(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    for index in range(2, 200):
        log.append([entry(index, size=400)])
    assert len(list((tmp_path / "log").glob("*.log"))) > 5
    log.compact(base(199))
    assert len(list((tmp_path / "log").glob("*.log"))) == 1
    assert not log.wants_spare
    log.append(entries(200, 230, size=400))  # into the reused segment, over old records
    log.close()
    assert all_entries(open_log(tmp_path / "log")) == entries(200, 230, size=400)


def test_a_record_larger_than_a_segment_gets_a_segment_of_its_size(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.append(entries(2, 3, size=5 * SEGMENT))
    log.append(entries(3, 4))
    log.close()
    assert all_entries(open_log(tmp_path / "log")) == entries(2, 3, size=5 * SEGMENT) + entries(3, 4)


def test_a_torn_record_that_was_never_synced_is_dropped_and_all_before_it_stays(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.append(entries(2, 5))
    copy(tmp_path / "log", tmp_path / "before")
    start = log._end
    log.append(entries(5, 30))
    record = (tmp_path / "log" / f"{1:020d}.log").read_bytes()[start : log._end]
    for number, kept in enumerate([1, 16, 40, 511, 512, 513, len(record) // 2, len(record) - 600]):
        torn = copy(tmp_path / "before", tmp_path / f"torn{number}")
        with open(torn / f"{1:020d}.log", "r+b") as file:
            file.seek(start)
            file.write(record[:kept])
        found = open_log(torn)
        assert all_entries(found) == entries(2, 5)
        assert (found.torn_bytes > 0) == (kept >= 16)
        found.append(entries(5, 7, term=2))
        found.close()
        assert all_entries(open_log(torn)) == entries(2, 5) + entries(5, 7, term=2)


def test_a_torn_record_in_a_reused_segment_is_told_from_what_the_segment_held_before(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    for index in range(2, 60):
        log.append([entry(index, size=400)])
    log.compact(base(59))
    log.append(entries(60, 76, size=400))  # rolls into the reused segment
    before = log._end
    log.append(entries(76, 78))
    segment, end = log._current.path, log._end
    for kept in range(0, end - before, 100):
        torn = copy(tmp_path / "log", tmp_path / f"torn{kept}")
        (torn / WATERMARK).write_bytes(b"")
        data = segment.read_bytes()
        (torn / segment.name).write_bytes(data[: before + kept] + b"\xa5" * (end - before - kept) + data[end:])
        found = all_entries(open_log(torn))
        assert found in (entries(60, 76, size=400), entries(60, 76, size=400) + entries(76, 78))


@pytest.mark.parametrize("damage", ["truncated", "zeroed", "segment deleted", "first segment deleted", "all deleted"])
def test_a_synced_tail_that_is_gone_is_never_taken_for_a_torn_one(tmp_path: Path, damage: str) -> None:
    log = new_log(tmp_path / "log")
    for index in range(2, 60):
        log.append([entry(index, size=400)])
    log.close()
    segments = sorted((tmp_path / "log").glob("*.log"))
    last = segments[-1]
    if damage == "truncated":
        last.write_bytes(last.read_bytes()[: log._end - 512])
    elif damage == "zeroed":
        last.write_bytes(last.read_bytes()[: log._end - 512] + bytes(last.stat().st_size - log._end + 512))
    elif damage == "segment deleted":
        last.unlink()
    elif damage == "first segment deleted":
        segments[0].unlink()
    else:
        for segment in segments:
            segment.unlink()
    with pytest.raises(CorruptLog, match="join as a new member"):
        open_log(tmp_path / "log")


def test_an_entry_that_rots_while_the_server_runs_is_found_when_it_is_read(tmp_path: Path) -> None:
    log = new_log(tmp_path / "log")
    log.append(entries(2, 100, size=100))
    number, span = log._positions.place(10)
    log._segments[number].write(b"?", span.offset + 50)
    with pytest.raises(CorruptLog, match="Entry 10"):
        all_entries(log)
    with pytest.raises(CorruptLog, match="Entry 10"):
        list(log.scrub())


def test_after_a_failed_sync_the_store_does_nothing_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = new_log(tmp_path / "log")
    log.append(entries(2, 4))

    def fails(self: Segment) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Segment, "sync", fails)
    with pytest.raises(StorageFailed, match="must end"):
        log.append(entries(4, 5))
    monkeypatch.undo()  # the second fsync lies
    for call in (
        lambda: log.append(entries(4, 5)),
        lambda: log.entries(LogIndex(2), LogIndex(3), 1),
        lambda: log.settle(),
        lambda: log.compact(base(3)),
    ):
        with pytest.raises(StorageFailed):
            call()


# -- against a model


@dataclass
class Model:
    """The log as a list; `synced` logs it may be after a crash are itself only: every append is synced."""

    hard_state: HardState = START.hard_state
    base: BaseRecord = START.base
    entries: list[Entry] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.base.index + len(self.entries)

    def term(self, index: int) -> int:
        return self.base.term if index == self.base.index else self.entries[index - self.base.index - 1].term

    def append(self, new: list[Entry], hard_state: HardState | None, start: BaseRecord | None) -> None:
        self.hard_state = hard_state or self.hard_state
        if start is not None:
            keeps = self.base.index <= start.index <= self.last and self.term(start.index) == start.term
            self.entries = self.entries[start.index - self.base.index :] if keeps else []
            self.base = start
        if new:
            del self.entries[new[0].index - self.base.index - 1 :]
            self.entries += new

    def check(self, log: LogStore) -> None:
        assert (log.hard_state, log.base) == (self.hard_state, self.base)
        assert (log.first_index(), log.last_index()) == (self.base.index + 1, self.last)
        assert all_entries(log) == self.entries
        for found in self.entries:
            assert log.term(found.index) == found.term


STEP = st.tuples(
    st.sampled_from(["append", "append", "append", "replace", "compact", "base", "reopen", "crash", "torn"]),
    st.integers(1, 12),
    st.sampled_from([0, 1, 40, 500, 3000]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEP, max_size=25))
def test_the_log_is_the_list_it_stands_for_across_crashes_at_any_step(steps: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        log, model, term = new_log(path), Model(), 1
        for step, (action, number, size) in enumerate(steps):
            new: list[Entry] = []
            hard_state: HardState | None = None
            start: BaseRecord | None = None
            if action == "append":
                new = entries(model.last + 1, model.last + 1 + number, term, size)
            elif action == "replace":
                term += 1
                low = max(model.base.index + 1, model.last - number)
                new, hard_state = entries(low, low + number % 4 + 1, term, size), hard(term, number, model.base.index)
            elif action == "compact":
                index = min(model.base.index + number, model.last)
                start = BaseRecord(LogIndex(index), Term(model.term(index)), MEMBERSHIP)
            elif action == "base":
                term += 1
                start, hard_state = (
                    BaseRecord(LogIndex(model.last + number), Term(term), Membership.of([1, 2])),
                    hard(term),
                )
            if action in ("append", "replace", "compact", "base"):
                log.append(new, hard_state, start)
                model.append(new, hard_state, start)
            else:
                if action == "torn":  # a write of which a part reached the disk
                    with open(log._current.path, "r+b") as file:
                        file.seek(log._end)
                        file.write(b"BYL1" + bytes(4) + log._current.number.to_bytes(8, "little") + b"\xff" * size)
                crashed = copy(path, Path(directory) / f"crash{step}")
                log.close()
                shutil.rmtree(path)
                crashed.rename(path)
                log = open_log(path)
            model.check(log)
        log.close()
