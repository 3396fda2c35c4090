"""Carries compaction out while this member leads: looks at marked chunks, hands them to nodes, swaps the lists.

On the event loop's thread; a bounded number of looks a round and of jobs at a time. All that is lost with leadership is
work: the next leader finds the same marks.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

import grpc
from blockyard.metaserver.cluster.map import MapView
from blockyard.metaserver.compaction.chooser import Chooser, choose_node
from blockyard.metaserver.compaction.job import Compact, Job
from blockyard.metaserver.compaction.policy import Plan
from blockyard.metaserver.compaction.session import Proposer, Session
from blockyard.metaserver.namespace import blocks
from blockyard.metaserver.namespace.crowded import ChunkName
from blockyard.metaserver.namespace.slices import PIECE_BYTES
from blockyard.metaserver.namespace.state import State
from blockyard.metaserver.state import keys
from blockyard.metaserver.state.commands import INTERNAL, method_id
from blockyard.proto import errors, logs
from blockyard.proto.cluster_pb2 import ClusterStatusReply
from blockyard.proto.common_pb2 import Address
from blockyard.proto.internal_pb2 import UnmarkChunkRequest
from blockyard.proto.lane import AioChannel
from blockyard.proto.storage_pb2_grpc import StorageStub
from crc32c import crc32c

ROUND_S: Final = 1.0
IDLE_ROUNDS: Final = 10
JOBS_MAX: Final = 4
JOBS_PER_NODE: Final = 1
LOOKS_PER_ROUND: Final = 1_000
PIECES_PER_ROUND: Final = 20_000
"""Judging this many takes some 20 ms; the loop goes on after each chunk."""

_UNMARK: Final = method_id(f"{INTERNAL}UnmarkChunk")
_log = logs.get(__name__)


@dataclass(slots=True)
class Counts:
    """What this member has done since it started."""

    swapped: int = 0
    refused: int = 0
    failed: int = 0
    rewritten_bytes: int = 0
    """Bytes of the new blocks, those that were refused or lost included as far as nodes had written them."""


class Compaction:
    """The leader's duty. `state` and `view` give the present ones; `keep` notes that a session lives."""

    def __init__(
        self,
        proposer: Proposer,
        state: Callable[[], State],
        view: Callable[[], MapView],
        full_nodes: Callable[[], list[int]],
        keep: Callable[[int], Any],
    ) -> None:
        self.counts = Counts()
        self._proposer = proposer
        self._state = state
        self._view = view
        self._full_nodes = full_nodes
        self._keep = keep
        self._chooser = Chooser()
        self._turn: deque[ChunkName] = deque()
        self._running: Counter[int] = Counter()
        self._jobs: set[asyncio.Task[None]] = set()
        self._sessions: list[Session] = []  # the last one takes jobs unless it is retired
        self._channels: dict[str, AioChannel] = {}
        self._rounds: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Chunks that are marked."""
        return len(self._state().crowded.names())

    @property
    def running(self) -> int:
        """Jobs under way."""
        return len(self._jobs)

    def describe(self, reply: ClusterStatusReply) -> None:
        """Say how far compaction is."""
        reply.crowded_chunks = self.waiting
        reply.compacted_chunks = self.counts.swapped
        reply.compacted_bytes = self.counts.rewritten_bytes

    def lead(self, leads: bool) -> None:
        """Begin, or end with everything that is under way."""
        for task in (*self._jobs, *((self._rounds,) if self._rounds else ())):
            task.cancel()
        self._rounds = None
        self._sessions.clear()
        self._chooser = Chooser()
        self._turn.clear()
        if leads:
            self._rounds = asyncio.get_running_loop().create_task(self._lead())
            self._rounds.add_done_callback(_say_why)

    async def _lead(self) -> None:
        try:
            while True:
                await asyncio.sleep(ROUND_S)
                try:
                    await self._round(time.monotonic())
                except errors.BlockyardError as error:  # no cluster yet, or nothing can be agreed on just now
                    _log.debug("compaction_waits", error=str(error))
        finally:
            channels, self._channels = self._channels, {}
            for channel in channels.values():
                await channel.close()

    # ------------------------------------------------------------------------------------------ choosing

    async def _round(self, now_s: float) -> None:
        self._tend_sessions()
        state, view = self._state(), self._view()
        if not self._turn:
            names = state.crowded.names()
            self._chooser.keep_only(dict.fromkeys(names))
            self._turn.extend(names)
        looks, pieces = LOOKS_PER_ROUND, PIECES_PER_ROUND
        while self._turn and looks > 0 and pieces > 0 and len(self._jobs) < JOBS_MAX:
            name = self._turn.popleft()
            row = state.tx.get(keys.chunk(*name))
            looks -= 1
            if row is None or state.inodes.peek(name[0]) is None:
                continue  # it is being removed
            pieces -= len(row) // PIECE_BYTES
            verdict = self._chooser.look(name, row, lambda block: _references(state, block), now_s)
            if verdict.hopeless:
                self._unmark(name, row)
            elif verdict.plan is not None:
                await self._begin(view, name, verdict.plan)
            await asyncio.sleep(0)

    def _unmark(self, name: ChunkName, row: bytes) -> None:
        request = UnmarkChunkRequest(inode=name[0], chunk=name[1], row_crc32c=crc32c(row))
        self._proposer.propose(_UNMARK, request)

    async def _begin(self, view: MapView, name: ChunkName, plan: Plan) -> None:
        node = choose_node(view, plan.pieces, self._running, JOBS_PER_NODE, self._full_nodes())
        if not node:
            return  # its turn comes again
        if not self._sessions or self._sessions[-1].retired:
            self._sessions.append(await Session.open(self._proposer))
        session = self._sessions[-1]
        session.jobs += 1
        self._running[node] += 1
        self._chooser.begun(name)
        job = Job(name, plan, node)
        task = asyncio.get_running_loop().create_task(self._run(job, session, self._compact(view, node)))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        task.add_done_callback(_say_why)

    # ------------------------------------------------------------------------------------------ jobs

    async def _run(self, job: Job, session: Session, compact: Compact) -> None:
        chooser, counts, swapped = self._chooser, self.counts, False
        try:
            swapped = await job.run(session, compact, self._full_nodes())
            counts.rewritten_bytes += job.plan.length
            counts.swapped += swapped
            counts.refused += not swapped
        except errors.BlockyardError as error:
            counts.failed += 1
            inode, chunk = job.chunk
            _log.warning("compaction_failed", inode=inode, chunk=chunk, node=job.node, error=str(error))
        finally:
            self._running[job.node] -= 1
            chooser.ended(job.chunk, time.monotonic(), failed=not swapped)
            session.jobs -= 1

    def _compact(self, view: MapView, node: int) -> Compact:
        address = Address.FromString(view.nodes[node].address)
        where = f"{address.host}:{address.lane_port}"
        channel = self._channels.get(where)
        if channel is None:
            channel = self._channels[where] = AioChannel(where)
        stub: Any = StorageStub(cast(grpc.Channel, channel))
        return lambda request, deadline_s: stub.CompactChunk(request, timeout=deadline_s)

    def _tend_sessions(self) -> None:
        """Keep the sessions of running jobs; end those that are of no more use."""
        for session in list(self._sessions):
            session.idle_rounds = 0 if session.jobs else session.idle_rounds + 1
            if session.jobs:
                self._note_alive(session)
            elif session.retired or session.idle_rounds >= IDLE_ROUNDS:
                self._sessions.remove(session)
                session.close()

    def _note_alive(self, session: Session) -> None:
        try:
            self._keep(session.number)
        except errors.SessionExpired:
            session.retired = True  # its jobs will fail at their swap


def _say_why(task: asyncio.Task[None]) -> None:
    """Log a broken invariant. Compaction can wait for people; the group must not end because of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("compaction_stopped", error=str(error), exc_info=error)


def _references(state: State, block: int) -> int:
    row = state.tx.get(keys.block(block))
    return 0 if row is None else blocks.parse(row)[0]
