"""Writers and readers that go on through faults, and the manifest of what was acknowledged to them.

A block's bytes follow from its id, so that whoever reads it knows what must come without having kept it, and bytes of
another block are never taken for it. An attempt that failed is not repeated under its id: what is left of it, if
anything, is nobody's, and no test asks for it.
"""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import grpc
from blockyard.proto import errors
from blockyard.proto.blocks import ChainSender, Patience, PutQueues, Wanted, page_checksums, read_ranges
from blockyard.proto.cluster_map import ClusterView
from blockyard.proto.cluster_pb2 import LeaseBlockIdsRequest, ReportReplicaRequest
from blockyard.proto.common_pb2 import Caller, RequestId
from blockyard.proto.disk.stop import EXIT_STATUS
from blockyard.proto.ids import BLOCK, PlacementGroup
from blockyard.proto.metadata_pb2 import CloseSessionRequest, OpenSessionRequest, PutFileRequest, Slice, UnlinkRequest
from blockyard.proto.metadata_pb2_grpc import MetadataStub
from blockyard.proto.storage_pb2 import ChainNode, NodeInfoRequest, PageChecksums, PutBlock, VerifyBlockRequest
from crc32c import crc32c

from tests.checkers.blocks import Written, check
from tests.support.storage_cluster import StorageCluster, wait_until

ROOT = 1
ME = Caller(uid=0, gid=0)
SESSION_MS = 3_600_000
LEASED_AT_ONCE = 32
SMALL_BYTES = 6_000
LARGE_BYTES = 700_000
REST_S = 0.03
"""Between two attempts that failed: not to find out when something is over, but to leave the machine in peace."""

MAY_BE_TOLD = (
    errors.BelowWriteMin,
    errors.StaleEpoch,
    errors.Busy,
    errors.NoSpace,
    errors.ShuttingDown,
    errors.Unavailable,
    errors.ConnectionLost,
    errors.DeadlineExceeded,
    errors.Overloaded,
    errors.ChainBroken,
    errors.UnknownNode,
    errors.NotLeader,
    errors.LeadershipLost,
)
"""What a writer may hear while there are faults; anything else is a bug."""


def content(block: int, length: int) -> bytes:
    """Return the bytes of a block."""
    return random.Random(block).randbytes(length)


@dataclass(frozen=True, slots=True)
class Entry:
    """An acknowledged block, and the nodes that said they have it."""

    block: int
    length: int
    crc32c: int
    durable: bool
    nodes: tuple[int, ...]

    @property
    def written(self) -> Written:
        return Written(self.block, self.length, self.crc32c)


class Manifest:
    """What was acknowledged, on a disk that no fault of the cluster reaches."""

    def __init__(self, path: Path) -> None:
        self.entries: dict[int, Entry] = {}
        self._lock = threading.Lock()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def add(self, entry: Entry) -> None:
        """Note an entry, after its acknowledgement."""
        line = json.dumps([entry.block, entry.length, entry.crc32c, entry.durable, entry.nodes]) + "\n"
        with self._lock:
            os.write(self._fd, line.encode())
            os.fdatasync(self._fd)
            self.entries[entry.block] = entry

    def remove(self, blocks: Collection[int]) -> None:
        """Forget blocks that are about to die."""
        with self._lock:
            for block in blocks:
                del self.entries[block]

    def snapshot(self) -> list[Entry]:
        """Return the entries, oldest first."""
        with self._lock:
            return list(self.entries.values())

    def written(self) -> dict[int, Written]:
        """Return them as the checker wants them."""
        return {entry.block: entry.written for entry in self.snapshot()}

    def close(self) -> None:
        os.close(self._fd)


class Workload:
    """Threads that put, write in streams and read until they are told to stop; to be used as a context manager.

    `wrong` is what must stay empty: bytes that are other ones, errors that nobody may be told.
    """

    def __init__(
        self,
        cluster: StorageCluster,
        path: Path,
        *,
        seed: int = 1,
        putters: int = 2,
        streamers: int = 1,
        readers: int = 1,
        large_bytes: int = LARGE_BYTES,
        pace_s: float = 0.005,
    ) -> None:
        """`pace_s`: how long a writer rests between two blocks, so that what must be checked stays small."""
        self.cluster = cluster
        self.manifest = Manifest(path)
        self.wrong: list[str] = []
        self.refused: Counter[str] = Counter()
        """Attempts that failed, by the error they failed with."""
        self.reads = 0
        self.detours = 0
        """Replicas that could not be read, where another one could or not."""
        self.unread = 0
        """Times that no holder delivered an acknowledged block."""
        self.bad_replicas = 0
        """Pages that failed their checksum on arrival."""
        self.longest_gap_s = 0.0
        """Longest time between two acknowledgements, of all writers together."""
        self._seed = seed
        self._large_bytes = large_bytes
        self._pace_s = pace_s
        self._last_s = time.monotonic()
        self._leasing = threading.Lock()
        self._sequence = 0
        self._leased: list[int] = []
        self._stopping = threading.Event()
        self._may_go_on = threading.Event()
        self._may_go_on.set()
        self._at_rest = 0
        self._resting = threading.Lock()
        self._puts = PutQueues(cluster.channels)
        self._view: ClusterView = cluster.view()
        self.metadata: Any = MetadataStub(cast(grpc.Channel, cluster.group))
        opening = OpenSessionRequest(client="faults", nonce=random.SystemRandom().getrandbits(63) | 1,
                                     term_ms=SESSION_MS)  # fmt: skip
        self.session: int = self.metadata.OpenSession(opening).session
        roles = [self._put] * putters + [self._stream] * streamers + [self._read] * readers
        self._threads = [
            threading.Thread(target=self._run, args=(role, random.Random(f"{seed}-{number}")), daemon=True)
            for number, role in enumerate(roles)
        ]

    # ------------------------------------------------------------------------------------------ life

    def __enter__(self) -> "Workload":
        for thread in self._threads:
            thread.start()
        self.more(20)
        self.longest_gap_s = 0.0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None:
            self.assert_right()

    def stop(self) -> None:
        """Let every thread finish what it does."""
        self._stopping.set()
        self._may_go_on.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a call hangs"
        self._threads.clear()

    def assert_right(self) -> None:
        """Demand that nobody got wrong bytes, or an error that nobody may be told."""
        assert not self.wrong, f"{len(self.wrong)} wrongs, such as {self.wrong[:5]}"

    def more(self, count: int = 10, reads: int = 0, timeout_s: float = 30.0) -> None:
        """Wait until `count` more blocks were acknowledged and `reads` more were read."""
        blocks, read = len(self.manifest.entries) + count, self.reads + reads
        wait_until(
            lambda: self.wrong or (len(self.manifest.entries) >= blocks and self.reads >= read),
            f"{count} more blocks are written and {reads} read; refused were {self.refused}",
            timeout_s,
        )
        self.assert_right()

    def rest(self) -> None:
        """Begin nothing new until `go_on`; returns when nothing is under way."""
        self._may_go_on.clear()
        wait_until(lambda: self._at_rest == len(self._threads), "every caller rests")

    def go_on(self) -> None:
        self._may_go_on.set()

    # ------------------------------------------------------------------------------------------ one by one

    def lease(self) -> int:
        """Return the id of a new block."""
        with self._leasing:
            if not self._leased:
                self._sequence += 1
                request = LeaseBlockIdsRequest(request=self._request_id(), count=LEASED_AT_ONCE)
                for each in self.cluster.cluster.LeaseBlockIds(request, timeout=30).ranges:
                    group = PlacementGroup(each.group)
                    self._leased += [BLOCK.join(group, each.first_sequence + i) for i in range(each.count)]
                random.Random(self._seed + self._sequence).shuffle(self._leased)
            return self._leased.pop()

    def put(self, block: int, length: int, durable: bool = True, view: ClusterView | None = None) -> Entry:
        """Put a small block and note it. Raises BlockyardError."""
        view, data = view or self._view, content(block, length)
        put = PutBlock(block=block, length=length, checksums=PageChecksums(crc32c=page_checksums(data)))
        chain = _chain(view, block)
        outcome = self._puts.submit(
            chain, [put], data, durable=durable, write_min=view.write_min, map_epoch=view.epoch, session=self.session
        ).result(60)
        return self._note(Entry(block, length, crc32c(data), durable, outcome.nodes))

    def stream(
        self,
        block: int,
        length: int,
        durable: bool = True,
        view: ClusterView | None = None,
        midway: Callable[[Sequence[int]], None] = lambda chain: None,
        patience: Patience | None = None,
    ) -> Entry:
        """Write a block along its chain and note it; `midway` is told the chain in the middle.

        Raises BlockyardError.
        """
        view, data = view or self._view, content(block, length)
        chain = _chain(view, block)
        half = length // 2 // 65_536 * 65_536
        with ChainSender(
            self.cluster.channels, block, chain, durable=durable, write_min=view.write_min, map_epoch=view.epoch,
            session=self.session, patience=patience,
        ) as sender:  # fmt: skip
            sender.append(memoryview(data)[:half])
            midway([each.node for each in chain])
            sender.append(memoryview(data)[half:])
            return self._note(Entry(block, length, crc32c(data), durable, sender.seal().nodes))

    def read(self, entry: Entry, view: ClusterView | None = None) -> bool:
        """Read a block as a client does, one holder after the other; return whether one had it."""
        view = view or self._view
        if any(self.read_from(entry, view, node.id) is None for node in view.readers(entry.block)):
            self.reads += 1
            return True
        self.unread += 1
        return False

    def read_from(self, entry: Entry, view: ClusterView, node: int) -> errors.BlockyardError | None:
        """Read a block from one node; return what it said instead, and report a replica that is bad."""
        buffer = bytearray(entry.length)
        wanted = Wanted(entry.block, 0, buffer)
        chain_node = view.node(node).in_chain()
        try:
            [error] = read_ranges(self.cluster.channels, chain_node, [wanted], map_epoch=view.epoch, timeout_s=5)
        except errors.BlockyardError as failed:
            error = failed
        if error is None:
            if crc32c(buffer) != entry.crc32c:
                self.wrong.append(f"node {node} served other bytes as block {entry.block:#x}")
            return None
        self.detours += 1
        if isinstance(error, errors.CorruptBlock | errors.InputOutputError):
            self.bad_replicas += 1
            self._report(entry.block, node, view)
        return error

    def read_all(self) -> None:
        """Demand every acknowledged block of some holder."""
        view = self._view = self.cluster.view()
        for entry in self.manifest.snapshot():
            assert self.read(entry, view), f"nobody has block {entry.block:#x}"
        self.assert_right()

    def bury(self, entries: Sequence[Entry]) -> set[int]:
        """Commit blocks as a file and remove it: they are dead from then on. Return their ids."""
        self.manifest.remove([entry.block for entry in entries])
        name = f"doomed-{self._sequence}-{entries[0].block:x}".encode()
        with self._leasing:
            for request in (
                PutFileRequest(caller=ME, parent=ROOT, name=name, mode=0o600, slices=list(_slices(entries)),
                               size=sum(entry.length for entry in entries)),
                UnlinkRequest(caller=ME, parent=ROOT, name=name),
            ):  # fmt: skip
                self._sequence += 1
                request.request.CopyFrom(self._request_id())
                call = self.metadata.PutFile if isinstance(request, PutFileRequest) else self.metadata.Unlink
                call(request, timeout=30)
        return {entry.block for entry in entries}

    def end_session(self) -> None:
        """Close the session: blocks of it that no file refers to are orphans from then on."""
        self.metadata.CloseSession(CloseSessionRequest(session=self.session), timeout=30)

    # ------------------------------------------------------------------------------------------ the threads

    def _run(self, role: Callable[[random.Random], None], chance: random.Random) -> None:
        while not self._stopping.is_set():
            if not self._may_go_on.is_set():
                with self._resting:
                    self._at_rest += 1
                self._may_go_on.wait()
                with self._resting:
                    self._at_rest -= 1
            try:
                role(chance)
            except MAY_BE_TOLD as error:
                self.refused[error.kind] += 1
                self._look_again()
            except Exception as error:  # noqa: BLE001 - the test that stops the workload says it
                self.wrong.append(f"{role.__name__}: {type(error).__name__}: {error}")
                return

    def _put(self, chance: random.Random) -> None:
        self.put(self.lease(), chance.randint(1, SMALL_BYTES), durable=chance.random() < 0.7)
        self._stopping.wait(self._pace_s)

    def _stream(self, chance: random.Random) -> None:
        length = chance.randint(self._large_bytes // 4, self._large_bytes)
        self.stream(self.lease(), length, durable=chance.random() < 0.7)
        self._stopping.wait(4 * self._pace_s)

    def _read(self, chance: random.Random) -> None:
        entries = self.manifest.snapshot()
        if entries and not self.read(chance.choice(entries)):
            self._look_again()
        self._stopping.wait(self._pace_s)

    def _look_again(self) -> None:
        try:
            self._view = self.cluster.view()
        except errors.BlockyardError as error:
            self.refused[error.kind] += 1
        self._stopping.wait(REST_S)

    def _note(self, entry: Entry) -> Entry:
        self.manifest.add(entry)
        now = time.monotonic()
        self.longest_gap_s = max(self.longest_gap_s, now - self._last_s)
        self._last_s = now
        return entry

    def _report(self, block: int, node: int, view: ClusterView) -> None:
        """Say that a replica is bad, to its node and, when that is deaf, to the cluster."""
        try:
            stub = self.cluster.channels.stub(view.node(node).address())
            stub.VerifyBlock(VerifyBlockRequest(block=block, reason="a page failed"), timeout=5)
        except errors.BlockyardError:
            self.cluster.cluster.ReportReplica(ReportReplicaRequest(block=block, node=node, found="a page failed"))

    def _request_id(self) -> RequestId:
        return RequestId(session=self.session, sequence=self._sequence, answered_below=self._sequence)


def _chain(view: ClusterView, block: int) -> Sequence[ChainNode]:
    chain = view.chain(block)
    if len(chain) < view.write_min:
        raise errors.BelowWriteMin("too few holders of the group take writes")
    return chain


def _slices(entries: Sequence[Entry]) -> Iterator[Slice]:
    position = 0
    for entry in entries:
        yield Slice(position=position, length=entry.length, block=entry.block, block_length=entry.length)
        position += entry.length


def until_sound(
    cluster: StorageCluster, manifest: Manifest, dead: Collection[int] = (), timeout_s: float = 60.0
) -> None:
    """Wait until repair and reclaim are through and the checker finds nothing."""
    found: list[str] = []

    def sound() -> bool:
        status = cluster.status()
        if status.degraded_groups or any(each.heartbeat.repair_blocks for each in status.nodes):
            return False
        found[:] = map(str, check(cluster, manifest.written(), dead))
        return not found

    try:
        wait_until(sound, "the checker finds nothing", timeout_s)
    except AssertionError as error:
        status = cluster.status()
        left = {each.node.name: each.heartbeat.repair_blocks for each in status.nodes}
        raise AssertionError(
            f"{error}; {status.degraded_groups} groups degraded, to fetch {left}\n" + "\n".join(found[:20])
        ) from error


def until_serving(cluster: StorageCluster, name: str, *, supervised: bool = False) -> None:
    """Wait until a node answers, which it does once it has registered.

    `supervised`: when it ended because of what it found on its disk it is started again, as a supervisor would.
    """

    def answers() -> bool:
        node = cluster.nodes[name]
        if supervised and not node.running and cluster.ended(name) == EXIT_STATUS:
            cluster.start(name)
        assert node.running, f"{name} ended: {node.output()[-2000:]}"
        try:
            cluster.stub(name).NodeInfo(NodeInfoRequest(), timeout=5)
        except errors.BlockyardError:
            return False
        return True

    wait_until(answers, f"{name} serves")
