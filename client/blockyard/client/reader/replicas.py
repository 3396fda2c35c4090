"""Bytes of blocks from whichever replica delivers them: this machine's descriptor, then the zone's, then any.

G3: what is returned passed its checksums. A replica that did not is passed over and reported, so that its node sets it
aside and repair replaces it; the reader does not notice.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any, Final

from blockyard.client.cluster_link import ClusterLink
from blockyard.client.reader.fetch import Fetch
from blockyard.client.reader.hedging import Hedging
from blockyard.client.writer.block_ids import AvoidedNodes
from blockyard.proto import errors, logs
from blockyard.proto.blocks import LocalBlocks, Wanted, read_ranges
from blockyard.proto.cluster_map import ClusterView, MapNode
from blockyard.proto.cluster_pb2 import ReportReplicaRequest
from blockyard.proto.storage_pb2 import VerifyBlockRequest

LOCAL_DESCRIPTORS: Final = 1_024
_POLL_S: Final = 0.005
_ROUND_S: Final = 0.25
_REPORT_S: Final = 5.0
_RANGES_TOGETHER: Final = 512
_TOGETHER_S: Final = 5.0
"""A node that takes longer for many small ranges is read around, range by range."""
_log = logs.get(__name__)


class Replicas:
    """Reads blocks of one cluster. Any number of threads may use it."""

    def __init__(self, link: ClusterLink, background: Executor) -> None:
        """`background` carries out reports of bad replicas."""
        self._link = link
        self._background = background
        self._lock = threading.Lock()  # guards what follows
        self._local: tuple[int, LocalBlocks] | None = None
        self._avoided = AvoidedNodes()
        self._hedging = Hedging()
        self._reported: set[tuple[int, int]] = set()

    def close(self) -> None:
        """Close descriptors."""
        if self._local is not None:
            self._local[1].close()

    def read(self, block: int, offset: int, into: memoryview, deadline_s: float) -> None:
        """Fill `into` with bytes of a block from `offset` on.

        Raises UnknownBlock when every node that could have it says that it has not; NoReplica when nobody delivered it
        by the deadline, CorruptBlock when all that did were bad.
        """
        view = self._link.maps.view()
        if self._read_locally(view, block, offset, into):
            return
        while True:
            error = self._try_all(view, block, offset, into, deadline_s)
            if error is None:
                return
            if isinstance(error, errors.UnknownBlock) or time.monotonic() + _ROUND_S > deadline_s:
                raise error
            time.sleep(_ROUND_S)  # nodes come back, and the map says where repair has put the block
            view = self._link.maps.at_least(view.epoch + 1) if isinstance(error, errors.StaleEpoch) else self._newer()

    def read_together(self, wanted: Sequence[tuple[int, int, memoryview]]) -> list[tuple[int, int, memoryview]]:
        """Read ranges (block, offset, into) with one request per node; return those that are to be read one by one."""
        view = self._link.maps.view()
        near, zone = self._link.near(view)
        with self._lock:
            avoid = self._avoided.now(time.monotonic())
        by_node: dict[int, list[tuple[int, int, memoryview]]] = {}
        for each in wanted:
            nodes = view.readers(each[0], near, zone, avoid)
            by_node.setdefault(nodes[0].id if nodes else 0, []).append(each)
        left = by_node.pop(0, [])
        for number, mine in by_node.items():
            for start in range(0, len(mine), _RANGES_TOGETHER):
                part = mine[start : start + _RANGES_TOGETHER]
                ranges = [Wanted(block, offset, into) for block, offset, into in part]
                try:
                    found = read_ranges(
                        self._link.channels,
                        view.node(number).in_chain(),
                        ranges,
                        map_epoch=view.epoch,
                        timeout_s=_TOGETHER_S,
                    )
                except errors.BlockyardError as error:
                    _log.info("ranges_not_read", node=number, why=str(error))
                    left += part
                else:
                    left += [each for each, error in zip(part, found, strict=True) if error is not None]
        return left

    def is_local(self, block: int) -> bool:
        """Return whether this machine holds the block: then reading ahead is the kernel's work."""
        view = self._link.maps.view()
        here = self._link.here(view)
        return here is not None and view.holds(here.id, view.group_of(block))

    # ------------------------------------------------------------------------------------------ this machine

    def _read_locally(self, view: ClusterView, block: int, offset: int, into: memoryview) -> bool:
        here = self._link.here(view)
        if here is None or not view.holds(here.id, view.group_of(block)):
            return False
        local = self._local_blocks(here)
        try:
            local.read(block, offset, into)
        except errors.CorruptBlock as error:
            self._report(here, block, error)
            return False
        except errors.BlockyardError as error:
            _log.info("block_not_read_locally", block=block, why=str(error))
            return False
        return True

    def _local_blocks(self, here: MapNode) -> LocalBlocks:
        local = self._local
        if local is not None and local[0] == here.incarnation:
            return local[1]
        with self._lock:
            if self._local is None or self._local[0] != here.incarnation:
                if self._local is not None:
                    self._local[1].close()
                self._local = (here.incarnation, LocalBlocks(self._link.channels, here.in_chain(), LOCAL_DESCRIPTORS))
            return self._local[1]

    # ------------------------------------------------------------------------------------------ other machines

    def _try_all(
        self, view: ClusterView, block: int, offset: int, into: memoryview, deadline_s: float
    ) -> errors.BlockyardError | None:
        """Ask replicas, a second one when the first hesitates, until one delivers. Return why none did."""
        near, zone = self._link.near(view)
        with self._lock:
            avoid = self._avoided.now(time.monotonic())
        waiting = list(view.readers(block, near, zone, avoid))
        failures: list[errors.BlockyardError] = []
        running: list[_Running] = []
        try:
            while waiting or running:
                hesitates = bool(running) and running[-1].age_s > self._hedging.delay_s
                if waiting and (not running or (hesitates and len(running) < 2)):
                    self._begin(running, waiting.pop(0), view, block, offset, into, deadline_s, failures)
                    continue
                for each in list(running):
                    if self._take(each, block, into, hurry=len(running) > 1 or bool(waiting), failures=failures):
                        running.remove(each)
                        return None
                    if each.is_over:
                        running.remove(each)
        finally:
            for each in running:
                each.fetch.cancel()
        return _verdict(block, failures)

    def _begin(
        self,
        running: "list[_Running]",
        node: MapNode,
        view: ClusterView,
        block: int,
        offset: int,
        into: memoryview,
        deadline_s: float,
        failures: list[errors.BlockyardError],
    ) -> None:
        """Ask one more node. A second one at the same time reads into memory of its own."""
        target = memoryview(bytearray(into.nbytes)) if running else into
        timeout_s = max(0.01, deadline_s - time.monotonic())
        try:
            fetch = Fetch(self._link.channels, node, block, offset, target, epoch=view.epoch, timeout_s=timeout_s)
        except errors.BlockyardError as error:
            self._failed(node, block, error, failures)
        else:
            running.append(_Running(fetch, target))

    def _take(
        self, each: "_Running", block: int, into: memoryview, *, hurry: bool, failures: list[errors.BlockyardError]
    ) -> bool:
        """Return whether `each` has delivered; wait for it as long as nobody else is to be asked meanwhile."""
        patience_s = _POLL_S if hurry else 1.0
        if hurry and each.age_s < self._hedging.delay_s:
            patience_s = max(_POLL_S, self._hedging.delay_s - each.age_s)
        try:
            if not each.fetch.answers_within(patience_s):
                return False
            with self._lock:
                self._hedging.answered(each.age_s)
            each.fetch.finish()
        except errors.BlockyardError as error:
            each.is_over = True
            each.fetch.cancel()
            self._failed(each.fetch.node, block, error, failures)
            return False
        each.is_over = True
        if each.target is not into:
            into[:] = each.target
        return True

    def _failed(
        self, node: MapNode, block: int, error: errors.BlockyardError, failures: list[errors.BlockyardError]
    ) -> None:
        failures.append(error)
        if isinstance(error, errors.CorruptBlock):
            self._report(node, block, error)
        elif not isinstance(error, errors.UnknownBlock | errors.StaleEpoch):
            with self._lock:
                self._avoided.failed((node.id,), time.monotonic())

    def _newer(self) -> ClusterView:
        """Return the newest map there is; the known one when nobody can be asked."""
        try:
            return self._link.maps.newest()
        except errors.BlockyardError:
            return self._link.maps.view()

    # ------------------------------------------------------------------------------------------ reports

    def _report(self, node: MapNode, block: int, error: errors.BlockyardError) -> None:
        """Tell the node and the cluster, once and in the background, that a replica is bad."""
        with self._lock:
            if (block, node.id) in self._reported:
                return
            self._reported.add((block, node.id))
        _log.warning("bad_replica", block=block, node=node.id, found=str(error))
        self._background.submit(self._tell, node, block, error.message)

    def _tell(self, node: MapNode, block: int, found: str) -> None:
        stub: Any = self._link.channels.stub(node.address())
        report = ReportReplicaRequest(block=block, node=node.id, found=found)
        try:
            stub.VerifyBlock(VerifyBlockRequest(block=block, reason=found), timeout=_REPORT_S)
        except errors.BlockyardError as error:
            _log.info("bad_replica_not_verified", block=block, node=node.id, why=str(error))
        try:
            self._link.calls.cluster.ReportReplica(report, timeout=_REPORT_S)
        except errors.BlockyardError as error:
            _log.info("bad_replica_not_reported", block=block, node=node.id, why=str(error))
            with self._lock:
                self._reported.discard((block, node.id))


class _Running:
    """A request under way."""

    __slots__ = ("_began_s", "fetch", "is_over", "target")

    def __init__(self, fetch: Fetch, target: memoryview) -> None:
        self.fetch = fetch
        self.target = target
        self.is_over = False
        self._began_s = time.monotonic()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._began_s


def _verdict(block: int, failures: list[errors.BlockyardError]) -> errors.BlockyardError:
    """Return what the reader is told when nobody delivered."""
    stale = [error for error in failures if isinstance(error, errors.StaleEpoch)]
    if stale:
        return stale[0]
    if failures and all(isinstance(error, errors.UnknownBlock) for error in failures):
        return errors.UnknownBlock(f"no node holds block {block:#x}")
    said = "; ".join(dict.fromkeys(error.message for error in failures)) or "the map names none"
    if failures and all(isinstance(error, errors.CorruptBlock | errors.UnknownBlock) for error in failures):
        return errors.CorruptBlock(f"no good replica of block {block:#x}: {said}")
    return errors.NoReplica(f"no replica of block {block:#x} could be read: {said}")
