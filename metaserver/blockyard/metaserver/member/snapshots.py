"""Snapshots out and in, and everything else that keeps the disk in shape: flushes, compaction, spare log segments."""

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

import grpc
from blockyard.metaserver import raft
from blockyard.metaserver.member.group_machine import GroupMachine
from blockyard.metaserver.member.peers import Peers
from blockyard.metaserver.raft import BaseRecord, Entry, HardState, LogIndex, MemberId, RaftCore
from blockyard.metaserver.storage import snapshot_stream
from blockyard.metaserver.storage.checkpoint import Checkpoint
from blockyard.metaserver.storage.directory import DataDirectory
from blockyard.metaserver.storage.failures import CorruptSnapshot
from blockyard.metaserver.storage.state_store import StateStore
from blockyard.proto import errors, logs
from blockyard.proto.call import CallContext
from blockyard.proto.ids import ClusterId
from blockyard.proto.raft_pb2 import SnapshotPart
from blockyard.proto.raft_pb2_grpc import RaftStub

SEND_TIMEOUT_S = 3600.0
KEPT_CHECKPOINTS = 1
KEPT_ENTRIES = 10_000
"""Entries kept in the log even when everybody has them: a member that restarts needs no snapshot for so few."""
_log = logs.get(__name__)


class Snapshots:
    """Sends this member's state to members that are too far behind, and takes theirs."""

    def __init__(self, directory: DataDirectory, cluster: ClusterId, peers: Peers) -> None:
        self._directory = directory
        self._cluster = cluster
        self._peers = peers
        self._core: RaftCore | None = None
        self._staged: Checkpoint | None = None
        self._checkpointing = asyncio.Lock()
        self._flushing = threading.Lock()  # a state that is being flushed is not to be closed
        self._pins: dict[LogIndex, int] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def attach(self, core: RaftCore) -> None:
        """Serve this core."""
        self._core = core

    @property
    def core(self) -> RaftCore:
        """The core that is served."""
        assert self._core is not None, "attach() comes first"
        return self._core

    # ------------------------------------------------------------------------------------------ out

    def send(self, wish: raft.SendSnapshot) -> None:
        """Begin to send a snapshot; the core is told how it ended."""
        task = asyncio.get_running_loop().create_task(self._send(wish))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, wish: raft.SendSnapshot) -> None:
        try:
            checkpoint = await self._recent(wish.at_least)
            with self._pinned(checkpoint):
                await self._stream(wish.to, checkpoint)
        except (errors.BlockyardError, OSError) as error:
            _log.warning("snapshot_not_delivered", member=int(wish.to), error=str(error))
            self.core.snapshot_failed(wish.to)
            return
        base = checkpoint.base
        snapshot = raft.Snapshot(base.index, base.term, base.membership)
        self._peers.send(raft.InstallSnapshot(self.core.id, wish.to, wish.term, snapshot))
        self.core.snapshot_delivered(wish.to)
        _log.info("snapshot_delivered", member=int(wish.to), index=int(base.index))

    async def _recent(self, at_least: LogIndex) -> Checkpoint:
        """Return the newest checkpoint if it is new enough, else a new one."""
        assert self._directory.checkpoints is not None
        kept = self._directory.checkpoints.list()
        if kept and kept[-1].base.index >= max(at_least, self.core.log.base.index):
            return kept[-1]
        return await self.take()

    async def take(self) -> Checkpoint:
        """Make a checkpoint; older ones go. What takes long is done beside the event loop."""
        async with self._checkpointing:
            await asyncio.to_thread(self._flush)
            loop = asyncio.get_running_loop()

            async def describe(index: LogIndex) -> raft.Membership:
                return self.core.snapshot_metadata(index).membership

            def membership_at(index: LogIndex) -> raft.Membership:
                return asyncio.run_coroutine_threadsafe(describe(index), loop).result()  # the core is the loop's

            checkpoint = await asyncio.to_thread(self._directory.take_checkpoint, membership_at)
            self._drop_old()
            return checkpoint

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Checkpoint]:
        """Make a checkpoint and keep it while it is used."""
        checkpoint = await self.take()
        with self._pinned(checkpoint):
            yield checkpoint

    @contextmanager
    def _pinned(self, checkpoint: Checkpoint) -> Iterator[None]:
        index = checkpoint.base.index
        self._pins[index] = self._pins.get(index, 0) + 1
        try:
            yield
        finally:
            self._pins[index] -= 1
            if not self._pins[index]:
                del self._pins[index]
                self._drop_old()

    def _drop_old(self) -> None:
        checkpoints = self._directory.checkpoints
        assert checkpoints is not None
        for old in checkpoints.list()[:-KEPT_CHECKPOINTS]:
            if old.base.index not in self._pins:
                checkpoints.delete(old)

    async def _stream(self, to: MemberId, checkpoint: Checkpoint) -> None:
        channel = self._peers.channel(to)
        if channel is None:
            raise errors.Unavailable(f"nobody has told this member where member {int(to)} is")
        stub: Any = RaftStub(cast(grpc.Channel, channel))
        await stub.SendSnapshot(self.parts(checkpoint), timeout=SEND_TIMEOUT_S)

    async def parts(self, checkpoint: Checkpoint) -> AsyncIterator[SnapshotPart]:
        """Yield a checkpoint's parts with their bytes in them, read beside the event loop."""
        parts = snapshot_stream.send(checkpoint, self._cluster)
        while (item := await asyncio.to_thread(next, parts, None)) is not None:
            yield snapshot_stream.join(*item)

    # ------------------------------------------------------------------------------------------ in

    async def receive(self, parts: AsyncIterator[SnapshotPart], context: CallContext) -> None:
        """Stage a snapshot beside the living state; the leader's InstallSnapshot then says that it counts."""
        states = self._directory.states
        if states is None:
            raise errors.InvalidArgument("a witness keeps no state and takes no snapshot")
        receiver = states.receive(self._cluster)
        try:
            async for part in parts:
                await asyncio.to_thread(receiver.take, part, part.data)
            checkpoint = await asyncio.to_thread(states.stage, receiver)
        except CorruptSnapshot as error:
            receiver.abandon()
            raise errors.MalformedRequest(str(error)) from error
        stale, self._staged = self._staged, checkpoint
        if stale is not None:
            states.forget(stale)

    def install(
        self, base: BaseRecord, hard_state: HardState | None, entries: Sequence[Entry]
    ) -> tuple[StateStore, GroupMachine]:
        """Make the staged snapshot of `base` the state; return what is there then."""
        staged, self._staged = self._staged, None
        assert staged is not None, "the core took up a snapshot that was not staged"
        assert staged.base.index == base.index, f"snapshot {staged.base.index} is staged, {base.index} was announced"
        with self._flushing:
            store = self._directory.install_snapshot(staged, hard_state, entries)
        _log.info("snapshot_installed", index=int(base.index))
        return store, GroupMachine(store, self._cluster)

    # ------------------------------------------------------------------------------------------ upkeep

    async def keep_in_shape(self, snapshot_after_entries: int) -> None:
        """Once a second: flush, prepare, compact. A failure here is as fatal as in the log."""
        idle_at = LogIndex(0)
        while True:
            await asyncio.sleep(1.0)
            log = self._directory.log
            if log.wants_spare:
                await self._prepare_spare()
            if log.last_index() == idle_at:
                log.settle()
            idle_at = log.last_index()
            if self._directory.states is None:
                continue
            if self._directory.state.flush_due or self._is_long(snapshot_after_entries):
                await asyncio.to_thread(self._flush)
            self._compact(snapshot_after_entries)

    async def _prepare_spare(self) -> None:
        try:
            await asyncio.to_thread(self._directory.log.prepare_spare)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # The space watch stops changes before the log needs it; until there is room it is asked for in vain.

    def _flush(self) -> None:
        """Flush the state, beside the event loop."""
        with self._flushing:
            self._directory.state.flush()

    def _is_long(self, limit: int) -> bool:
        log = self._directory.log
        return log.last_index() - max(log.base.index, self._directory.state.durable_index()) > limit

    def _compact(self, snapshot_after_entries: int) -> None:
        core, log, kept = self.core, self._directory.log, min(KEPT_ENTRIES, snapshot_after_entries // 2)
        index = min(core.compaction_limit(), self._directory.compaction_limit(), log.last_index() - kept)
        if log.last_index() - log.base.index <= snapshot_after_entries:
            index = min([index, *self._slow_members()])
        if index - log.base.index < kept:
            return
        base = core.snapshot_metadata(LogIndex(index)).base
        core.compacted(LogIndex(index))
        self._directory.compact(base)

    def _slow_members(self) -> list[int]:
        """As leader: how far each data member is, the silent ones too: while the log is short they may come back."""
        core = self.core
        return [int(core.progress[id].match) for id in core.membership.data_members if id in core.progress]
