"""Small blocks on their way down a chain: all that wait for the same nodes leave together.

While a request is under way the puts of every thread gather; the next request takes them all, and so does each node on
towards its successor, so that one sync of a disk serves many of them (group commit from end to end). A request that is
refused as a whole is repeated put by put, so nobody suffers for another's mistake.

A put may be repeated at any time: a node that has the block already, with the same checksums, says that it has it.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from blockyard.proto import errors, logs
from blockyard.proto.blocks.channels import Channels
from blockyard.proto.blocks.pages import Buffer
from blockyard.proto.blocks.refusals import is_refusal
from blockyard.proto.storage_pb2 import BlockToken, ChainNode, PutBlock, PutBlocksReply, PutBlocksRequest

REQUEST_LIMIT_BYTES = 4 << 20
"""Most bytes of blocks in one request."""
REQUEST_LIMIT_BLOCKS = 4096
_IN_FLIGHT = 2
"""Requests under way at once on one chain: one is on the wire while another waits for a disk."""
_THREADS = 32
SILENT_S = 3.0
"""A node that let a request wait in vain gets no other for this long: until then the map says that it is down."""
_log = logs.get(__name__)


class PutOutcome(NamedTuple):
    """Where blocks are now."""

    nodes: tuple[int, ...]
    """Ids of the nodes of the chain that hold all of them."""
    failed: tuple[int, ...]
    """Ids of those that were left out."""


class _Route(NamedTuple):
    """What puts must share to travel in one request."""

    nodes: tuple[int, ...]
    durable: bool
    write_min: int
    map_epoch: int
    session: int


@dataclass(slots=True)
class _Put:
    """One caller's blocks."""

    blocks: Sequence[PutBlock]
    data: Buffer
    tokens: Sequence[BlockToken]
    outcome: "Future[PutOutcome]" = field(default_factory=Future)


@dataclass(slots=True)
class _Queue:
    """Puts that wait for one route."""

    chain: Sequence[ChainNode]
    waiting: deque[_Put] = field(default_factory=deque)
    under_way: int = 0


class PutQueues:
    """Puts of one process. Any number of threads may use it."""

    def __init__(
        self, channels: Channels, *, holders_before: int = 0, stall_s: float = 2.0, hop_s: float = 1.0
    ) -> None:
        """`holders_before` is 1 for a node that keeps the blocks itself, else 0.

        A node that has not answered after `stall_s` seconds, and `hop_s` for each node behind it, is left out.
        """
        self._channels = channels
        self._holders_before = holders_before
        self._stall_s = stall_s
        self._hop_s = hop_s
        self._silent_until: dict[int, float] = {}
        self._lock = threading.Lock()
        self._queues: dict[_Route, _Queue] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "puts")

    def submit(
        self,
        chain: Sequence[ChainNode],
        blocks: Sequence[PutBlock],
        data: Buffer,
        *,
        durable: bool,
        write_min: int,
        map_epoch: int,
        session: int = 0,
        tokens: Sequence[BlockToken] = (),
    ) -> "Future[PutOutcome]":
        """Put `blocks`, whose bytes follow each other in `data`, on the nodes of `chain`, at least one.

        The future gives where they are. It raises BelowWriteMin when fewer than `write_min` nodes have them all, those
        before the chain counted, and whatever the nodes refuse the request for. `data` stays as it is until then.
        """
        route = _Route(tuple([each.node for each in chain]), durable, write_min, map_epoch, session)
        put = _Put(blocks, data, tokens)
        with self._lock:
            queue = self._queues.get(route)
            if queue is None:
                queue = self._queues[route] = _Queue(chain)
            queue.waiting.append(put)
            if queue.under_way == _IN_FLIGHT:
                return put.outcome
            queue.under_way += 1
        self._threads.submit(self._drain, route, queue)
        return put.outcome

    def close(self) -> None:
        """Let the requests under way finish."""
        self._threads.shutdown()

    def _drain(self, route: _Route, queue: _Queue) -> None:
        while True:
            with self._lock:
                puts = _take(queue.waiting)
                if not puts:
                    queue.under_way -= 1
                    if not queue.under_way:
                        del self._queues[route]
                    return
            self._send(route, queue.chain, puts)

    def _send(self, route: _Route, chain: Sequence[ChainNode], puts: Sequence[_Put]) -> None:
        """Carry one request out to its end, whatever that is, and tell those who wait for it."""
        try:
            outcome = self._along(route, list(chain), puts)
        except BaseException as error:  # noqa: BLE001 - whoever waits for the future gets it
            if len(puts) > 1 and isinstance(error, errors.BlockyardError) and is_refusal(error):
                for put in puts:
                    self._send(route, chain, [put])
                return
            for put in puts:
                put.outcome.set_exception(error)
        else:
            for put in puts:
                put.outcome.set_result(outcome)

    def _along(self, route: _Route, chain: list[ChainNode], puts: Sequence[_Put]) -> PutOutcome:
        failed: list[int] = []
        data = puts[0].data if len(puts) == 1 else b"".join([put.data for put in puts])
        request = PutBlocksRequest(
            blocks=[block for put in puts for block in put.blocks],
            tokens=[token for put in puts for token in put.tokens],
            durable=route.durable,
            write_min=max(1, route.write_min - self._holders_before),
            map_epoch=route.map_epoch,
            session=route.session,
        )
        self._pass_over_silent(route, chain, failed)
        while self._holders_before + len(chain) >= max(route.write_min, 1 + self._holders_before):
            del request.chain[:]
            request.chain.extend(chain)
            if not self._holders_before:  # a node tells those that it left out by itself
                del request.failed_nodes[:]
                request.failed_nodes.extend(failed)
            try:
                reply = self._ask(chain, request, data)
            except errors.BlockyardError as error:
                if is_refusal(error):
                    raise
                node = chain.pop(0).node
                _log.info("put_node_cut", node=node, why=str(error))
                failed.append(node)
                if isinstance(error, errors.DeadlineExceeded):
                    self._silent_until[node] = time.monotonic() + SILENT_S
            else:
                return PutOutcome(tuple(reply.nodes), (*failed, *reply.failed_nodes))
        if self._holders_before >= route.write_min:
            return PutOutcome((), tuple(failed))
        raise errors.BelowWriteMin(
            f"{self._holders_before + len(chain)} nodes are left and {route.write_min} must hold the blocks; nodes "
            f"{failed} failed: write them again elsewhere"
        )

    def _pass_over_silent(self, route: _Route, chain: list[ChainNode], failed: list[int]) -> None:
        """Leave out nodes that let a request wait in vain a moment ago, as far as enough others remain."""
        now = time.monotonic()
        for each in list(chain):
            enough = self._holders_before + len(chain) - 1 >= max(route.write_min, 1 + self._holders_before)
            if enough and self._silent_until.get(each.node, 0.0) > now:
                chain.remove(each)
                failed.append(each.node)

    def _ask(self, chain: Sequence[ChainNode], request: PutBlocksRequest, data: Buffer) -> PutBlocksReply:
        stub: Any = self._channels.stub(chain[0].address)
        reply: PutBlocksReply = stub.PutBlocks(
            request, payload=data, timeout=self._stall_s + self._hop_s * (len(chain) - 1)
        )
        if not {chain[0].node} <= set(reply.nodes) <= {each.node for each in chain}:
            raise errors.MalformedReply(f"node {chain[0].node} says that nodes {list(reply.nodes)} have the blocks")
        return reply


def _take(waiting: deque[_Put]) -> list[_Put]:
    """Take what fits into one request, at least one."""
    puts: list[_Put] = []
    size = count = 0
    while waiting:
        put = waiting[0]
        size += memoryview(put.data).nbytes
        count += len(put.blocks)
        if puts and (size > REQUEST_LIMIT_BYTES or count > REQUEST_LIMIT_BLOCKS):
            break
        puts.append(waiting.popleft())
    return puts
