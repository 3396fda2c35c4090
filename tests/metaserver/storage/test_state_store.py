"""The state store against a dict, and what a crash leaves of it; the properties of rocksdict the code relies on."""

import tempfile
from pathlib import Path

import pytest
from blockyard.metaserver.raft.types import LogIndex
from blockyard.metaserver.state.transaction import KeyValueStore, WriteBatch
from blockyard.metaserver.storage.directory import DataDirectory
from blockyard.metaserver.storage.failures import CorruptState
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto import ids
from blockyard.proto.disk.failures import StorageFailed
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import Options, Rdict

from tests.metaserver.storage.harness import CLUSTER, IDENTITY, START, base, copy, entries, flip, new_state, put

END = b"\xff" * 20


def rows_of(store: StateStore) -> dict[bytes, bytes]:
    return {key: value for key, value in store.scan(b"", END) if not key.startswith(b"L")}


def test_it_is_a_key_value_store_of_the_state_machine(tmp_path: Path) -> None:
    store: KeyValueStore = new_state(tmp_path / "state")
    store.write(WriteBatch(puts=[(b"a", b"1"), (b"b", b""), (b"Lapplied", (3).to_bytes(8, "big"))]))
    store.write(WriteBatch(puts=[(b"c", b"3"), (b"Lapplied", (4).to_bytes(8, "big"))], deletes=[b"a", b"nothing"]))
    assert (store.get(b"a"), store.get(b"b"), store.get(b"c")) == (None, b"", b"3")
    assert list(store.scan(b"b", b"c")) == [(b"b", b"")]


def test_a_batch_without_its_applied_index_is_refused(tmp_path: Path) -> None:
    store = new_state(tmp_path / "state")
    with pytest.raises(AssertionError, match="applied twice"):
        store.write(WriteBatch(puts=[(b"a", b"1")]))
    put(store, 5)
    with pytest.raises(AssertionError, match="applied index 4 after 5"):
        put(store, 4)


def test_a_crash_takes_what_was_not_flushed_and_the_durable_index_says_so(tmp_path: Path) -> None:
    store = new_state(tmp_path / "state")
    put(store, 10, (b"a", b"old"), (b"x", b"1"))
    assert store.durable_index() == 0
    assert store.flush() == store.durable_index() == 10
    put(store, 11, (b"a", b"new"))
    assert (store.applied_index(), store.durable_index()) == (11, 10)
    crashed = new_state(copy(tmp_path / "state", tmp_path / "crashed"))
    assert (crashed.applied_index(), crashed.get(b"a")) == (10, b"old")
    store.close()
    again = new_state(tmp_path / "state")
    assert (again.applied_index(), again.durable_index(), again.get(b"a")) == (11, 11, b"new")


def test_the_log_is_never_compacted_beyond_what_the_state_has_durably(tmp_path: Path) -> None:
    """The reason for `durable_index`: a crash right after the compaction must find every entry it has to replay."""
    DataDirectory.create(tmp_path / "data", IDENTITY, START, with_state=True)
    directory = DataDirectory(tmp_path / "data", CLUSTER, ids.MemberId(1), with_state=True, state_cache_bytes=1 << 20)
    directory.log.append(entries(2, 101))
    for index in range(2, 101):
        put(directory.state, index, (b"n%03d" % index, b"v"))
        if index == 60:
            directory.state.flush()
    assert directory.compaction_limit() == 60
    with pytest.raises(AssertionError, match="only 60 is durable"):
        directory.compact(base(61))
    directory.compact(base(60))
    crashed = copy(tmp_path / "data", tmp_path / "crashed")
    after = DataDirectory(crashed, CLUSTER, ids.MemberId(1), with_state=True, state_cache_bytes=1 << 20)
    start = after.durable_state()
    assert start.base.index <= start.applied == 60
    replayed = after.log.entries(LogIndex(start.applied + 1), LogIndex(101), 1 << 30)
    for entry in replayed:
        put(after.state, entry.index, (b"n%03d" % entry.index, b"v"))
    assert rows_of(after.state) == rows_of(directory.state)


def test_a_state_older_than_its_log_is_refused(tmp_path: Path) -> None:
    DataDirectory.create(tmp_path / "data", IDENTITY, START, with_state=True)
    directory = DataDirectory(tmp_path / "data", CLUSTER, ids.MemberId(1), with_state=True)
    directory.log.append(entries(2, 20))
    directory.log.compact(base(15))  # as if it had forgotten to ask
    directory.close()
    with pytest.raises(CorruptState, match=r"has applied entry 1, and the log begins after 15"):
        DataDirectory(tmp_path / "data", CLUSTER, ids.MemberId(1), with_state=True)


def test_a_scan_is_as_of_its_call_however_long_it_takes(tmp_path: Path) -> None:
    store = new_state(tmp_path / "state")
    put(store, 1, *[(b"k%04d" % number, b"old") for number in range(1000)])
    scan = store.scan(b"k", b"l")
    put(store, 2, *[(b"k%04d" % number, b"new") for number in range(0, 2000, 3)])
    store.apply(WriteBatch(deletes=[b"k%04d" % number for number in range(1, 1000, 3)]), LogIndex(3))
    store.flush()
    assert list(scan) == [(b"k%04d" % number, b"old") for number in range(1000)]


@pytest.mark.parametrize("limit", [1, 63, 64, 65, 128, 129, 500])
def test_a_scan_stops_at_its_limit(tmp_path: Path, limit: int) -> None:
    store = new_state(tmp_path / "state")
    put(store, 1, *[(b"k%04d" % number, b"") for number in range(300)])
    assert len(list(store.scan(b"k", b"l", limit))) == min(limit, 300)


def test_a_corrupt_block_ends_a_get_and_a_scan_with_an_error_and_never_silently(tmp_path: Path) -> None:
    store = new_state(tmp_path / "state")
    put(store, 1, *[(b"k%05d" % number, b"%d" % (number * 7919)) for number in range(20000)])
    store.close()
    table = next((tmp_path / "state").glob("*.sst"))
    flip(table, table.stat().st_size // 3)
    store = new_state(tmp_path / "state")
    with pytest.raises(CorruptState, match="join as a new member"):
        [store.get(b"k%05d" % number) for number in range(20000)]
    store = new_state(copy(tmp_path / "state", tmp_path / "copy"))
    with pytest.raises(CorruptState, match="join as a new member"):
        list(store.scan(b"k", b"l"))
    with pytest.raises(CorruptState):
        store.get(b"k00001")  # it does nothing any more
    with pytest.raises(CorruptState):
        new_state(copy(tmp_path / "state", tmp_path / "copy2")).verify()


def test_a_closed_store_refuses(tmp_path: Path) -> None:
    store = new_state(tmp_path / "state")
    store.close()
    with pytest.raises(StorageFailed, match="is closed"):
        store.get(b"a")
    with pytest.raises(StorageFailed, match="is closed"):
        put(store, 1)


def test_rocksdict_items_still_end_silently_at_a_corrupt_block(tmp_path: Path) -> None:
    """Why nothing here uses them. When this fails, rocksdict was repaired and `rocks` may say so."""
    options = Options(raw_mode=True)
    with Rdict(str(tmp_path / "db"), options) as db:
        for number in range(20000):
            db[b"k%05d" % number] = b"%d" % (number * 7919)
        db.flush(True)
    table = next((tmp_path / "db").glob("*.sst"))
    flip(table, table.stat().st_size // 3)
    assert len(list(Rdict(str(tmp_path / "db"), options).keys())) < 20000


def test_rocksdict_snapshots_still_show_later_writes_when_iterated(tmp_path: Path) -> None:
    """Why scans use plain iterators."""
    db = Rdict(str(tmp_path / "db"), Options(raw_mode=True))
    db[b"a"] = b"old"
    snapshot = db.snapshot()
    db[b"a"] = b"new"
    assert list(snapshot.items()) == [(b"a", b"new")]


KEYS = st.integers(0, 30).map(lambda number: b"k%02d" % number)
STEP: st.SearchStrategy[tuple[str, dict[bytes, bytes | None]]] = st.one_of(
    st.tuples(st.just("apply"), st.dictionaries(KEYS, st.none() | st.binary(max_size=30), max_size=10)),
    st.tuples(st.sampled_from(["flush", "crash", "reopen", "checkpoint"]), st.just({})),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, max_size=20))
def test_the_store_is_the_dict_it_stands_for_across_crashes_at_any_step(
    steps: list[tuple[str, dict[bytes, bytes | None]]],
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "0"
        store = new_state(path)
        history: list[dict[bytes, bytes]] = [{}]  # state by applied index
        for step, (action, changes) in enumerate(steps, 1):
            if action == "apply":
                after = dict(history[-1])
                puts = [(key, value) for key, value in changes.items() if value is not None]
                deletes = [key for key, value in changes.items() if value is None]
                after.update(puts)
                for key in deletes:
                    after.pop(key, None)
                history.append(after)
                store.apply(WriteBatch(puts, deletes), LogIndex(len(history) - 1))
            elif action == "flush":
                assert store.flush() == len(history) - 1
            elif action == "checkpoint":
                copied = Path(directory) / f"checkpoint{step}"
                index = store.checkpoint(copied)
                assert rows_of(StateStore(copied, read_only=True)) == history[index]
            else:
                durable = store.durable_index()
                crashed = copy(path, Path(directory) / str(step))
                store.close()
                path = crashed if action == "crash" else path
                store = new_state(path)
                assert store.applied_index() >= durable
                del history[store.applied_index() + 1 :]
            assert store.applied_index() == len(history) - 1
            assert rows_of(store) == history[-1]
        store.close()
