"""One member: the production RaftCore, driven exactly as its package says, on a simulated disk and network.

The loop is: send, write and sync, tell the core, send what waited for that, apply, answer. Everything that a process
would do later (a sync that ends, a batch of input, an apply that runs behind) is an event of the world, and is lost
when the process dies. Before anything leaves, the member's own disk is asked whether it may.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blockyard.metaserver.raft import (
    AppendReply,
    BaseReply,
    DurableState,
    Entry,
    EntryKind,
    MemberId,
    Message,
    RaftCore,
    ReadConfirmed,
    Ready,
    Refused,
    RequestVote,
    Role,
    SnapshotReply,
    VoteReply,
)

from tests.simulator.disk import Disk, LogBatch, RottenDisk
from tests.simulator.snapshot_stream import SnapshotStream
from tests.simulator.state_machine import APPLIED, DIGEST, Command, Rows, StateMachine, decode, encode
from tests.simulator.trace_check import require
from tests.simulator.world import TICK

if TYPE_CHECKING:
    from tests.simulator.client import Client
    from tests.simulator.cluster import Cluster

TICKS_BETWEEN_UPKEEP = 16


class Member:
    """A process and its disk. `core` is None while the process is dead."""

    def __init__(self, cluster: Cluster, id: MemberId, witness: bool, durable: DurableState) -> None:
        self.cluster, self.world, self.checker = cluster, cluster.world, cluster.checker
        self.id, self.witness = id, witness
        rows = StateMachine.empty(0 if witness else durable.applied)
        self.disk = Disk(durable, rows, cluster.plan.one_file)
        self.core: RaftCore | None = None
        self.machine = StateMachine(dict(rows))
        self.epoch = 0  # of the process: events of an earlier one are void
        self.paused = False
        self.lost = False  # its disk is gone, it never comes back
        self.tick_period = TICK
        self.sync_factor = 1  # above 1 while the disk is slow
        self.fail_next_sync = False
        self.on_write: Callable[[Member, int], None] | None = None  # a fault that waits for the right moment
        self._forget_process()

    def _forget_process(self) -> None:
        self.frozen: dict[int, deque[tuple[Callable[..., None], tuple[Any, ...]]]] = {}  # by sender; 0: own timers
        self.to_apply: deque[Entry] = deque()
        self.switching = False  # a snapshot is being switched to: nothing may be applied until it is
        self.compacting = False
        self.apply_asked = self.pump_asked = False
        self.waiting: dict[tuple[int, int], Client] = {}
        self.reading: dict[int, tuple[Client, int, int]] = {}  # context → client, its request number, key
        self.confirmed: list[ReadConfirmed] = []
        self.staged: dict[tuple[int, int], Rows] = {}
        self.next_context = 0
        self.led_term = 0
        self.last_commit = 0
        self.ticks = 0

    # -- process

    def start(self) -> None:
        """Start a process from the disk; a rotten disk counts as lost."""
        assert self.core is None, f"member {self.id} runs"
        assert not self.lost, f"member {self.id} has no disk"
        try:
            durable = self.disk.open()
        except RottenDisk:
            self.cluster.disk_lost(self)
            return
        self.epoch += 1
        self.paused = False
        self._forget_process()
        self.tick_period = self.world.chance.choice(self.cluster.plan.clocks)
        self.machine = StateMachine(dict(self.disk.rows))
        self.checker.restarted(self.id, self.machine.applied)
        chance = random.Random(self.world.chance.getrandbits(64))
        self.core = RaftCore(self.cluster.plan.raft_config(self.id, self.witness), durable, self.disk, chance)
        self.world.note("start", self.id, durable.hard_state.term, self.disk.last_index(), self.machine.applied)
        self.later(1 + self.world.chance.randrange(self.tick_period), self._tick)
        self.pump()

    def stop(self, power_lost: bool, tear: bool = False) -> None:
        """The process ends; `power_lost` also drops what its disk had not synced."""
        if power_lost:
            self.disk.lose_power(self.world.chance, tear)
        else:
            self.disk.stop_process()
        self.world.note("power lost" if power_lost else "killed", self.id, self.disk.last_index())
        self.core = None
        self.epoch += 1
        self._forget_process()

    def pause(self) -> None:
        self.paused = True
        self.world.note("paused", self.id)

    def resume(self) -> None:
        if not self.paused:
            return
        self.paused = False
        self.world.note("resumed", self.id)
        frozen, self.frozen = self.frozen, {}
        epoch = self.epoch
        while frozen and self.epoch == epoch:  # sockets are read in any order, each in its own
            source = self.world.chance.choice(list(frozen))
            action, arguments = frozen[source].popleft()
            if not frozen[source]:
                del frozen[source]
            action(*arguments)

    def _freeze(self, source: int, action: Callable[..., None], *arguments: Any) -> None:
        """Keep input for when the process is resumed; connections outlive a pause."""
        self.frozen.setdefault(source, deque()).append((action, arguments))

    def later(self, delay: int, action: Callable[..., None], *arguments: Any) -> None:
        self.world.after(delay, self._run, self.epoch, action, arguments)

    def _run(self, epoch: int, action: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if epoch != self.epoch:
            return
        if self.paused:
            self._freeze(0, action, *arguments)
        else:
            action(*arguments)

    # -- input

    def _tick(self) -> None:
        core = self.core
        assert core is not None
        self.ticks += 1
        self.world.after(self.tick_period, self._run, self.epoch, self._tick, ())
        core.tick()
        if self.ticks % TICKS_BETWEEN_UPKEEP == self.id % TICKS_BETWEEN_UPKEEP:
            self._upkeep()
        self.touched()

    def deliver(self, message: Message) -> None:
        if self.core is None:
            return
        if self.paused:
            self._freeze(message.sender, self.deliver, message)
            return
        self.core.step(message)
        self.touched()

    def client_write(self, client: Client, command: Command, attempt: int) -> None:
        if self.core is None or self.paused:
            if self.paused:
                self._freeze(-client.id, self.client_write, client, command, attempt)
            return
        try:
            self.core.propose(encode(command))
        except Refused as refusal:
            self._answer(client, client.refused, attempt, getattr(refusal, "leader", 0))
            return
        require(not self.witness, "witness {} took a proposal", self.id)
        self.waiting[command.client, command.sequence] = client
        self.touched()

    def client_read(self, client: Client, request: int, key: int, attempt: int) -> None:
        if self.core is None or self.paused:
            if self.paused:
                self._freeze(-client.id, self.client_read, client, request, key, attempt)
            return
        if self.witness:  # a witness's driver has no state to answer from; its core must refuse as well
            try:
                self.core.read_index(0)
            except Refused as refusal:
                self._answer(client, client.refused, attempt, getattr(refusal, "leader", 0))
                return
            require(False, "witness {} took a read", self.id)
        self.next_context += 1
        try:
            self.core.read_index(self.next_context)
        except Refused as refusal:
            self._answer(client, client.refused, attempt, getattr(refusal, "leader", 0))
            return
        self.reading[self.next_context] = (client, request, key)
        self.touched()

    def _answer(self, client: Client, deliver: Callable[..., None], *payload: int) -> None:
        self.cluster.network.send(self.id, -client.id, deliver, *payload)

    def touched(self) -> None:
        """Input has come: look for a Ready now, or a little later for a batch of input."""
        delay = self.cluster.plan.batch_delay
        if not delay:
            self.pump()
        elif not self.pump_asked:
            self.pump_asked = True
            self.later(delay, self._pump_batch)

    def _pump_batch(self) -> None:
        self.pump_asked = False
        self.pump()

    # -- the loop of the package's docstring

    def pump(self) -> None:
        core = self.core
        assert core is not None
        while self.core is core and (ready := core.ready()) is not None:
            self._obey(core, ready)
        if self.core is core:
            self._observe(core)

    def _obey(self, core: RaftCore, ready: Ready) -> None:
        for message in ready.messages:
            self._send(message)
        for stream in ready.send_snapshots:
            SnapshotStream(self, stream).begin()
        if ready.committed:
            self._committed(ready.committed)
        if ready.reads:
            require(not self.witness, "witness {} confirms reads", self.id)
            self.confirmed.extend(ready.reads)
        for context in ready.refused_reads:
            client, request, _ = self.reading.pop(context)
            self._answer(client, client.read_refused, request)
        if ready.must_persist:
            state = None
            if ready.snapshot is not None:
                state = self.staged.pop((ready.snapshot.index, ready.snapshot.term))
                self.switching = True
            base = ready.snapshot.base if ready.snapshot is not None else ready.base
            if self.witness and base is not None:
                self.cluster.witness_begins_at(self, base)
            mark = self.disk.write_log(LogBatch(base, state, ready.hard_state, ready.entries))
            self._sync(mark, self._written, ready)
            strike = self.on_write or (self.cluster.on_switch if self.switching else None)
            if strike is not None:
                strike(self, self.disk.busy_until - self.world.now)
        else:
            core.persisted(ready)
            for message in ready.messages_after_persist:
                self._send(message)
        self._apply()

    def _sync(self, mark: int, then: Callable[..., None], argument: object) -> None:
        """Sync the log file; syncs of one disk end in the order in which they began."""
        world, disk, plan = self.world, self.disk, self.cluster.plan
        duration = plan.sync_min + int(world.chance.random() * (plan.sync_max - plan.sync_min + 1))
        disk.busy_until = max(world.now, disk.busy_until) + duration * self.sync_factor
        self.later(disk.busy_until - world.now, self._synced, mark, then, argument)

    def _synced(self, mark: int, then: Callable[..., None], argument: object) -> None:
        if self.fail_next_sync:
            self.fail_next_sync = False
            self.world.note("fsync failed", self.id)
            self.stop(power_lost=True)  # the kernel has dropped some of the dirty pages
            self.cluster.restart_later(self)
            return
        before = self.disk.last_index()
        self.disk.synced(self.disk.log_file, mark)
        then(argument)
        if self.disk.last_index() != before:
            self.world.note("stored", self.id, before, self.disk.last_index())

    def _written(self, ready: Ready) -> None:
        core, disk = self.core, self.disk
        assert core is not None
        if ready.entries:
            first = ready.entries[0].index
            previous_term = disk.base.term if first == disk.base.index + 1 else disk.term(first - 1)  # type: ignore[arg-type]
            self.checker.entries_stored(self.id, previous_term, ready.entries)
        if ready.snapshot is not None:
            self._switched(ready.snapshot.index)
        core.persisted(ready)
        for message in ready.messages_after_persist:
            self._send(message)
        self._apply()
        if self.core is core:
            self.pump()

    def _switched(self, index: int) -> None:
        self.switching = False
        self.machine = StateMachine(dict(self.disk.rows))
        self.checker.snapshot_installed(self.id, self.machine.applied, self.machine.digest)
        self.world.note("snapshot installed", self.id, index)
        while self.to_apply and self.to_apply[0].index <= index:
            self.to_apply.popleft()

    def _send(self, message: Message) -> None:
        """Send, after asking the disk whether what the message claims is on it."""
        kind = type(message)
        if kind is AppendReply:
            if not message.rejected:  # type: ignore[union-attr]
                self._require_stored(message.index)  # type: ignore[union-attr]
        elif kind is VoteReply:
            assert isinstance(message, VoteReply)
            if message.granted and not message.pre_vote:
                self._voted(message.term, message.to)
        elif kind is RequestVote:
            assert isinstance(message, RequestVote)
            if not message.pre_vote:
                self._voted(message.term, self.id)
        elif kind is BaseReply or kind is SnapshotReply:
            self._require_stored(message.index)  # type: ignore[union-attr]
        self.cluster.send(self, message)

    def _require_stored(self, index: int) -> None:
        last = self.disk.last_index()
        require(index <= last, "member {} acknowledges entry {}, its disk ends at {}", self.id, index, last)

    def _voted(self, term: int, candidate: int) -> None:
        hard_state = self.disk.hard_state
        self.checker.voted(self.id, term, candidate)
        require(
            hard_state.term > term or (hard_state.term == term and hard_state.vote == candidate),
            "member {} votes for {} in term {}, its disk says {}", self.id, candidate, term, hard_state,
        )  # fmt: skip

    def _observe(self, core: RaftCore) -> None:
        if core.commit != self.last_commit:
            self.last_commit = core.commit
            self.checker.commit_moved(self.id, core.commit)
        if core.role is Role.LEADER and core.term != self.led_term:
            self.led_term = core.term
            self.world.note("leads", self.id, core.term)
            self.cluster.leader_seen(self)

    # -- state

    def _committed(self, entries: Any) -> None:
        require(not self.witness, "witness {} was given committed entries", self.id)
        last = entries[-1]
        require(self.disk.holds(last.index, last.term), "member {} commits {} before it is on its disk", self.id, last)
        self.cluster.entries_committed(self, entries)
        self.to_apply.extend(entries)

    def _apply(self) -> None:
        if self.to_apply and not self.switching:
            lag = self.cluster.plan.apply_lag
            if not lag:
                self._apply_now(len(self.to_apply))
            elif not self.apply_asked:
                self.apply_asked = True
                self.later(1 + self.world.chance.randrange(lag), self._apply_behind)
        if self.confirmed:
            self._serve_reads()

    def _apply_behind(self) -> None:
        self.apply_asked = False
        if self.to_apply and not self.switching:
            self._apply_now(1 + self.world.chance.randrange(len(self.to_apply)))
        self._apply()
        self.touched()

    def _apply_now(self, count: int) -> None:
        machine, disk, checker = self.machine, self.disk, self.checker
        core = self.core
        assert core is not None
        for _ in range(count):
            entry = self.to_apply.popleft()
            command = decode(entry.data) if entry.kind == EntryKind.COMMAND else None
            changes, answer = machine.apply(entry.index, command)
            disk.write_state(changes)
            checker.entry_applied(self.id, entry.index, changes[DIGEST])
            if command is not None and answer is not None:
                client = self.waiting.pop((command.client, command.sequence), None)
                if client is not None:
                    self._answer(client, client.write_done, command.sequence, *answer)
        self.world.note("applied", self.id, machine.applied)
        core.applied(entry.index)

    def _serve_reads(self) -> None:
        applied = self.machine.applied
        left = []
        for read in self.confirmed:
            if read.index > applied:
                left.append(read)
                continue
            client, request, key = self.reading.pop(read.context)
            self._answer(client, client.read_done, request, key, self.machine.read(key), applied)
        self.confirmed = left

    def _upkeep(self) -> None:
        """Now and then: sync the state file, and drop the log's beginning when it has grown."""
        disk, core = self.disk, self.core
        assert core is not None
        if self.witness:
            return
        if disk.state_file is not disk.log_file:
            disk.synced(disk.state_file, disk.state_file.written_count)
        grown = disk.rows[APPLIED] - disk.base.index
        if grown > self.cluster.plan.compact_after and not self.compacting and not self.switching:
            index = min(disk.rows[APPLIED], core.compaction_limit())
            if index > disk.base.index:
                self.compacting = True
                base = core.snapshot_metadata(index).base
                core.compacted(index)
                self._sync(disk.write_log(LogBatch(base)), self._compacted, index)

    def _compacted(self, index: Any) -> None:
        self.compacting = False
        self.world.note("compacted", self.id, index)
