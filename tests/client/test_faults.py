"""Faults under a running workload: a pause, other replicas, the truth, and never other bytes.

Every test demands that its fault happened.
"""

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from blockyard.client import Filesystem
from blockyard.client.metadata.session import Session
from blockyard.proto import errors
from blockyard.proto.metadata_pb2 import (
    BatchReply,
    CloseSessionRequest,
    CommitSlicesReply,
    FileCommitted,
    Outcome,
)

from tests.client.conftest import Connect
from tests.support.storage_cluster import StorageCluster, wait_until

DATA = random.Random(5).randbytes(24 << 20)


class Workload:
    """A thread that writes files, reads each back and compares, until it is told to stop. Its error is raised then."""

    def __init__(self, fs: Filesystem, place: str) -> None:
        self.files = 0
        self._fs, self._place = fs, place
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Workload":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(90)
        assert not self._thread.is_alive(), "the workload hangs"
        if self._error is not None:
            raise self._error

    def goes_on(self, files: int = 3) -> None:
        """Wait until so many more files were written and read back."""
        wanted = self.files + files
        wait_until(lambda: self.files >= wanted or self._error is not None, "the workload goes on", 60)
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        chance = random.Random(2)
        try:
            while not self._stopping.is_set():
                start = chance.randrange(1 << 20)
                data = DATA[start : start + chance.choice((10, 5_000, 600_000, 6 << 20))]
                path = f"{self._place}/{self.files}"
                with self._fs.open(path, "wb") as file:
                    file.write(data)
                assert self._fs.read_bytes(path) == data
                self.files += 1
        except BaseException as error:  # noqa: BLE001 - raised where the workload is used
            self._error = error


@pytest.fixture
def fs(own_cluster: StorageCluster, clients: Connect) -> Filesystem:
    """Return a client of the cluster that may be broken; it does not read locally, so that the network is used."""
    fs = clients(own_cluster)
    fs.engine.link.here = lambda view: None  # type: ignore[method-assign]
    return fs


@pytest.fixture
def place(fs: Filesystem, request: pytest.FixtureRequest) -> str:
    path = f"/{request.node.name[:100]}"
    fs.mkdir(path)
    return path


@contextmanager
def killed(cluster: StorageCluster, name: str) -> Iterator[None]:
    """Let a storage node be dead for a while."""
    cluster.kill(name)
    try:
        yield
    finally:
        cluster.start(name)
        cluster.until_up(name)


def test_the_death_of_the_metadata_leader_is_a_pause_and_no_error(
    own_cluster: StorageCluster, fs: Filesystem, place: str
) -> None:
    leader = asyncio.run(own_cluster.meta.leader())
    with Workload(fs, place) as workload:
        workload.goes_on()
        own_cluster.meta.kill(leader)
        workload.goes_on(10)
        own_cluster.meta.start(leader)
        workload.goes_on()
    assert asyncio.run(own_cluster.meta.leader()) != leader
    assert len(fs.listdir(place)) == workload.files


def test_a_storage_node_may_die_in_the_middle_of_writes_and_reads(
    own_cluster: StorageCluster, fs: Filesystem, place: str
) -> None:
    with fs.open(f"{place}/old", "wb") as file:
        file.write(DATA)
    victim = own_cluster.view().node(fs.locate(f"{place}/old")[0].nodes[0]).name
    with fs.open(f"{place}/under way", "wb") as writing, fs.open(f"{place}/old", "rb") as reading:
        writing.write(DATA[: 9 << 20])
        assert reading.read(1 << 20) == DATA[: 1 << 20]
        with Workload(fs, place) as workload:
            workload.goes_on(2)
            with killed(own_cluster, victim):
                writing.write(DATA[9 << 20 :])
                writing.flush()
                assert reading.read() == DATA[1 << 20 :]
                workload.goes_on(5)
    assert fs.read_bytes(f"{place}/under way") == DATA


def test_a_silent_node_is_read_and_written_around_before_it_is_known_to_be_down(
    own_cluster: StorageCluster, clients: Connect, fs: Filesystem, place: str
) -> None:
    fs.write_bytes(f"{place}/f", DATA[: 4 << 20])
    victim = own_cluster.view().node(fs.locate(f"{place}/f")[0].nodes[0]).name
    fs.read_bytes(f"{place}/f")
    other = clients(own_cluster, deadline_ms=15_000)  # it has read nothing ahead
    other.engine.link.here = lambda view: None  # type: ignore[method-assign]
    own_cluster.pause(victim)
    try:
        assert other.read_bytes(f"{place}/f") == DATA[: 4 << 20]
        other.write_bytes(f"{place}/new", DATA[: 5 << 20])
        assert other.read_bytes(f"{place}/new") == DATA[: 5 << 20]
    finally:
        own_cluster.resume(victim)
    own_cluster.until_up(victim)


def test_a_bad_replica_is_read_around_and_set_aside(own_cluster: StorageCluster, fs: Filesystem, place: str) -> None:
    data = random.Random(9).randbytes(2 << 20)
    fs.write_bytes(f"{place}/f", data)
    name = own_cluster.view().node(fs.locate(f"{place}/f")[0].nodes[0]).name
    changed = _flip_a_bit(own_cluster.nodes[name].directory, data)
    assert changed, "the block's file was found and changed"
    assert fs.read_bytes(f"{place}/f") == data
    wait_until(lambda: "quarantin" in own_cluster.nodes[name].output(), "the node sets the replica aside")


def _flip_a_bit(directory: Path, content: bytes) -> bool:
    """Flip a bit in the file that begins with `content`."""
    for path in directory.rglob("*"):
        if path.is_file() and path.stat().st_size >= len(content):
            with path.open("r+b") as file:
                if file.read(4096) == content[:4096]:
                    file.seek(70_000)
                    byte = file.read(1)
                    file.seek(70_000)
                    file.write(bytes([byte[0] ^ 1]))
                    return True
    return False


def test_an_error_in_the_background_is_told_once_and_the_bytes_are_not_forgotten(
    own_cluster: StorageCluster, clients: Connect, place: str
) -> None:
    fs = clients(own_cluster, deadline_ms=3_000)
    names = sorted(own_cluster.nodes)
    with fs.open(f"{place}/f", "wb", buffering=0) as file:
        file.write(b"before")
        file.flush()
        own_cluster.kill(*names)
        try:
            file.pwrite(DATA[: 5 << 20], 0)
            wait_until(lambda: file._file.writer._untold, "the upload failed")
            with pytest.raises(OSError, match=r".") as told:
                file.pwrite(b"x", 0)
            assert told.value.filename == f"{place}/f"
            file.pwrite(b"x", 0)  # told once
            with pytest.raises(OSError, match=r"."):
                file.fsync()  # still true: nothing of it is safe
        finally:
            own_cluster.start(*names)
            own_cluster.until_up()
        file.fsync()
    assert fs.read_bytes(f"{place}/f") == b"x" + DATA[1 : 5 << 20]


def test_with_every_node_gone_reads_and_closes_end_in_bounded_time_with_the_truth(
    own_cluster: StorageCluster, clients: Connect, place: str
) -> None:
    fs = clients(own_cluster, deadline_ms=1_500)
    fs.engine.link.here = lambda view: None  # type: ignore[method-assign]
    fs.write_bytes(f"{place}/old", DATA[:100_000])
    names = sorted(own_cluster.nodes)
    file = fs.open(f"{place}/new", "wb")
    file.write(b"never anywhere")
    own_cluster.kill(*names)
    try:
        with pytest.raises(OSError, match=r".") as raised:
            file.close()
        assert raised.value.filename == f"{place}/new"
        assert file.closed
        assert fs.engine.budget.used_bytes == 0
        with pytest.raises(errors.NoReplica, match="no replica"):
            fs.read_bytes(f"{place}/old")
    finally:
        own_cluster.start(*names)
        own_cluster.until_up()
    assert fs.read_bytes(f"{place}/new") == b""
    assert fs.read_bytes(f"{place}/old") == DATA[:100_000]


def test_the_end_of_the_session_is_told_by_what_relied_on_it_and_by_nothing_else(
    own_cluster: StorageCluster, fs: Filesystem, place: str
) -> None:
    file = fs.open(f"{place}/f", "wb", buffering=0)
    file.write(b"lost")
    session = _end_session(fs)
    fs.mkdir(f"{place}/d")  # relies on nothing: it is made in a new session
    assert fs.engine.link.calls.session() is not session
    for use in (lambda: file.write(b"more"), file.fsync):
        with pytest.raises(errors.SessionExpired):
            use()
    with pytest.raises(errors.SessionExpired):
        file.close()
    assert fs.read_bytes(f"{place}/f") == b""
    fs.write_bytes(f"{place}/f", b"in the new one")
    assert fs.read_bytes(f"{place}/f") == b"in the new one"


def _end_session(fs: Filesystem) -> Session:
    """Let the group forget the client's session, as it does when the client is silent for too long."""
    session = fs.engine.link.calls.session()
    fs.engine.link.calls.metadata.CloseSession(CloseSessionRequest(session=session.number))
    return session


def test_a_commit_that_the_map_overtook_is_made_with_blocks_written_anew(
    own_cluster: StorageCluster, clients: Connect, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group refuses new blocks whose holders were let go since; here it is made to, once for each way to commit."""
    fs = clients(own_cluster)
    change = fs.engine.link.calls.change
    refused: list[str] = []

    def stale(method: str, request: Any, *args: Any, **options: Any) -> Any:
        if method == "CommitSlices" and method not in refused:
            assert request.map_epoch > 0
            refused.append(method)
            detail = errors.to_detail(errors.StaleEpoch("let go", map_epoch=1))
            return CommitSlicesReply(files=[FileCommitted(error=detail) for _ in request.files])
        if method == "Batch" and method not in refused and request.operations[0].HasField("put_file"):
            assert request.operations[0].put_file.map_epoch > 0
            refused.append(method)
            detail = errors.to_detail(errors.StaleEpoch("let go", map_epoch=1))
            return BatchReply(outcomes=[Outcome(error=detail) for _ in request.operations])
        return change(method, request, *args, **options)

    monkeypatch.setattr(fs.engine.link.calls, "change", stale)
    with fs.open(f"{place}/large", "wb") as file:
        file.write(DATA[: 7 << 20])
        file.seek(100)
        file.write(b"over it")
    fs.put_many({f"{place}/{number}": DATA[number : number + 50] for number in range(5)})
    assert refused == ["CommitSlices", "Batch"]
    assert fs.read_bytes(f"{place}/large") == DATA[:100] + b"over it" + DATA[107 : 7 << 20]
    assert [fs.read_bytes(f"{place}/{number}") for number in range(5)] == [DATA[n : n + 50] for n in range(5)]
