"""One flipped bit anywhere on the disk: found, or without any effect. Nothing is ever silently different.

For the log this means that all entries come back or `CorruptLog`; for the state, that its rows are those of some
applied index at or after the last flush that the log can continue from, or `CorruptState`.
"""

from collections import Counter
from pathlib import Path

import pytest
from blockyard.metaserver.storage import backup
from blockyard.metaserver.storage.checkpoint import Checkpoint
from blockyard.metaserver.storage.failures import CorruptLog, CorruptSnapshot
from blockyard.metaserver.storage.log_store import LogStore
from blockyard.metaserver.storage.segment import WATERMARK
from blockyard.metaserver.storage.snapshot_stream import SnapshotReceiver, join, send
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto import raft_pb2 as pb
from blockyard.proto.disk.failures import CorruptStorage

from tests.metaserver.storage.harness import (
    CLUSTER,
    all_entries,
    base,
    copy,
    entries,
    entry,
    flip,
    hard,
    new_log,
    new_state,
    offsets,
    open_log,
    put,
)
from tests.metaserver.storage.processes import make_backup, make_checkpoint


def written_log(path: Path) -> tuple[LogStore, int]:
    """Return a closed log of several segments, and where its last record ends."""
    log = new_log(path)
    for index in range(2, 40, 2):
        log.append([entry(index, size=300), entry(index + 1, size=300)], hard(1, 1, index - 1))
    log.compact(base(5))
    log.append(entries(38, 41, term=2), hard(2))
    end = log._end
    log.close()
    return log, end


def test_every_flipped_byte_of_the_log_is_found_or_harmless(tmp_path: Path) -> None:
    log, end = written_log(tmp_path / "log")
    expected = all_entries(open_log(copy(tmp_path / "log", tmp_path / "intact")))
    outcomes: Counter[str] = Counter()
    for segment in sorted((tmp_path / "log").glob("*.log")):
        size = end if segment.name == log._current.path.name else segment.stat().st_size
        content = segment.read_bytes()
        for offset in range(0, size, 3):
            flip(segment, offset, offset % 8)
            try:
                found = open_log(tmp_path / "log")
                assert (all_entries(found), found.base, found.hard_state) == (expected, base(5), hard(2))
                outcomes["harmless"] += 1
                found.close()
            except CorruptLog:
                outcomes["found"] += 1
            segment.write_bytes(content)
    assert outcomes["found"] > 1000
    used = sum(1 for _ in range(0, end, 3))
    assert outcomes["harmless"] < outcomes["found"] + used  # padding and the unused ends of segments


def test_a_flip_in_the_last_record_is_found_although_no_record_follows_it(tmp_path: Path) -> None:
    log, end = written_log(tmp_path / "log")
    segment = tmp_path / "log" / log._current.path.name
    content = segment.read_bytes()
    for offset in range(end - 512, end - 512 + 200):
        flip(segment, offset, offset % 8)
        with pytest.raises(CorruptLog, match="was synced up to"):
            open_log(tmp_path / "log")
        segment.write_bytes(content)


def test_a_flip_in_the_watermark_is_harmless(tmp_path: Path) -> None:
    written_log(tmp_path / "log")
    expected = all_entries(open_log(copy(tmp_path / "log", tmp_path / "intact")))
    for offset in range((tmp_path / "log" / WATERMARK).stat().st_size):
        flip(tmp_path / "log" / WATERMARK, offset, offset % 8)
        log = open_log(tmp_path / "log")
        assert all_entries(log) == expected
        log.close()


def written_state(path: Path) -> dict[int, dict[bytes, bytes]]:
    """Make a state with several tables and levels, all flushed; return its rows by applied index, flushes only."""
    store = new_state(path)
    rows: dict[bytes, bytes] = {}
    by_index = {0: dict(rows)}
    for applied in range(1, 5):
        new = [(b"I%05d" % number, b"%d" % (number * applied * 7919)) for number in range(0, 3000, applied)]
        put(store, applied, *new)
        rows.update(new)
        by_index[applied] = dict(rows)
        store.flush()
    store.close()
    return by_index


@pytest.mark.parametrize("kind", ["*.sst", "MANIFEST-*", "CURRENT", "IDENTITY", "OPTIONS-*", "rocksdict-*", "*.log"])
def test_every_flipped_bit_of_the_state_is_found_or_harmless(tmp_path: Path, kind: str) -> None:
    by_index = written_state(tmp_path / "state")
    outcomes: Counter[str] = Counter()
    for number, name in enumerate(sorted(path.name for path in (tmp_path / "state").glob(kind))):
        size = (tmp_path / "state" / name).stat().st_size
        for offset in offsets(size, 60) if size else ():
            damaged = copy(tmp_path / "state", tmp_path / f"{number}-{offset}")
            flip(damaged / name, offset, offset % 8)
            try:
                store = new_state(damaged)
                applied = store.applied_index()
                rows = dict(store.scan(b"I", b"J"))
                assert rows == by_index[applied], f"{name} byte {offset}: silently different"
                for key in list(rows)[::50]:
                    assert store.get(key) == rows[key]
                assert store.get(b"Inothing") is None
                # An older applied index is refused with the log, or replayed from it: `StateDirectory.open`.
                outcomes["whole" if applied == 4 else "older"] += 1
                store.close()
            except CorruptStorage:
                outcomes["found"] += 1
    if kind == "*.sst":
        assert outcomes["found"] > outcomes["whole"]
        assert not outcomes["older"]
    if kind in ("MANIFEST-*", "CURRENT"):
        assert outcomes["found"]


def receive(parts: list[bytes], path: Path) -> Checkpoint:
    receiver = SnapshotReceiver(path, CLUSTER)
    for message in parts:
        part = pb.SnapshotPart.FromString(message)
        receiver.take(part, part.data)
    return receiver.finish()


def test_every_flipped_bit_of_a_backup_is_found_or_harmless(tmp_path: Path) -> None:
    file = make_backup(tmp_path / "peer")
    content = file.read_bytes()
    expected, _ = backup.restore(file, tmp_path / "intact")
    outcomes: Counter[str] = Counter()
    for offset in offsets(len(content), 400):
        flip(file, offset, offset % 8)
        try:
            found, cluster = backup.restore(file, tmp_path / "staging")
            assert (found.base, cluster) == (expected.base, CLUSTER)
            assert list(StateStore(found.path, read_only=True).scan(b"", b"\xff")) == list(
                StateStore(expected.path, read_only=True).scan(b"", b"\xff")
            )
            outcomes["harmless"] += 1
        except CorruptSnapshot:
            outcomes["found"] += 1
        file.write_bytes(content)
    assert outcomes["harmless"] <= 1  # a "true" that is 3 in place of 1 is still true


def test_every_truncation_of_a_backup_is_found(tmp_path: Path) -> None:
    file = make_backup(tmp_path / "peer")
    content = file.read_bytes()
    for kept in offsets(len(content), 60):
        file.write_bytes(content[:kept])
        with pytest.raises(CorruptSnapshot):
            backup.restore(file, tmp_path / "staging")


def test_a_flip_in_a_checkpoints_tables_is_found_by_its_receiver(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "peer")
    table = next(file for file in checkpoint.files() if file.suffix == ".sst")
    content = table.read_bytes()
    outcomes: Counter[str] = Counter()
    expected = list(StateStore(copy(checkpoint.path, tmp_path / "intact"), read_only=True).scan(b"", b"\xff"))
    for offset in offsets(len(content), 120):
        flip(table, offset, offset % 8)
        parts = [join(part, data).SerializeToString() for part, data in send(checkpoint, CLUSTER)]
        try:
            found = receive(parts, tmp_path / "staging")
            assert list(StateStore(found.path, read_only=True).scan(b"", b"\xff")) == expected
            outcomes["harmless"] += 1
        except CorruptSnapshot:
            outcomes["found"] += 1
        table.write_bytes(content)
    assert outcomes["found"] > outcomes["harmless"]


def test_a_flip_in_a_checkpoints_base_is_found(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "peer")
    content = (checkpoint.path / "BASE").read_bytes()
    for offset in range(len(content)):
        flip(checkpoint.path / "BASE", offset, offset % 8)
        with pytest.raises(CorruptSnapshot, match="not a complete checkpoint"):
            Checkpoint.open(checkpoint.path)
        (checkpoint.path / "BASE").write_bytes(content)
