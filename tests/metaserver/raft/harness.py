"""A small group of cores with an instant network and disks that are always right: for unit tests and golden runs.

`Group.settle()` runs the driver's loop of every member, in order of ids, until nothing is left to do. Links can be cut
in one direction; writes of a member can be held; a member can be crashed, which loses what it has not persisted.
Every run checks: one leader per term, commit never falls, committed entries are the same everywhere.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence

from blockyard.metaserver.raft import (
    BaseRecord,
    DurableState,
    Entry,
    EntryKind,
    HardState,
    InstallSnapshot,
    LogIndex,
    MemberId,
    Membership,
    Message,
    RaftConfig,
    RaftCore,
    ReadConfirmed,
    Ready,
    Role,
    Snapshot,
    Term,
)


class MemoryDisk:
    """What survives a crash: hard state, base record, log, and the state, which is the list of its commands."""

    def __init__(self, durable: DurableState) -> None:
        self.hard_state = durable.hard_state
        self.base = durable.base
        self.applied = durable.applied
        self.log: list[Entry] = []
        self.commands: list[bytes] = []

    def first_index(self) -> LogIndex:
        return LogIndex(self.base.index + 1)

    def last_index(self) -> LogIndex:
        return LogIndex(self.base.index + len(self.log))

    def term(self, index: LogIndex) -> Term:
        return self.base.term if index == self.base.index else self.log[index - self.base.index - 1].term

    def entries(self, low: LogIndex, high: LogIndex, max_bytes: int) -> Sequence[Entry]:
        found: list[Entry] = []
        size = 0
        for entry in self.log[low - self.base.index - 1 : high - self.base.index - 1]:
            size += len(entry.data)
            if found and size > max_bytes:
                break
            found.append(entry)
        return found

    def write(self, ready: Ready, staged: list[bytes] | None) -> None:
        base = ready.snapshot.base if ready.snapshot else ready.base
        if base is not None:
            self._begin_at(base)
        if ready.snapshot is not None:
            assert staged is not None
            self.commands, self.applied = list(staged), ready.snapshot.index
        if ready.entries:
            first = ready.entries[0].index
            assert self.base.index < first <= self.last_index() + 1, f"a gap before {first}"
            self.log[first - self.base.index - 1 :] = ready.entries
        if ready.hard_state is not None:
            assert ready.hard_state.term >= self.hard_state.term
            self.hard_state = ready.hard_state

    def _begin_at(self, base: BaseRecord) -> None:
        keeps = self.base.index <= base.index <= self.last_index() and self.term(base.index) == base.term
        self.log = self.log[base.index - self.base.index :] if keeps else []
        self.base = base

    def durable(self) -> DurableState:
        return DurableState(self.hard_state, self.base, self.applied)


class Member:
    """One core with its disk, and what its driver saw."""

    def __init__(self, config: RaftConfig, disk: MemoryDisk, seed: int) -> None:
        self.config, self.disk, self.seed = config, disk, seed
        self.core = RaftCore(config, disk.durable(), disk, random.Random(seed))
        self.alive = True
        self.holds_writes = False
        self.held: Ready | None = None
        self.reads: list[ReadConfirmed] = []
        self.refused: list[int] = []
        self.staged: dict[tuple[int, int], list[bytes]] = {}

    def restart(self) -> None:
        self.held, self.alive, self.holds_writes = None, True, False
        self.reads, self.refused = [], []
        self.core = RaftCore(self.config, self.disk.durable(), self.disk, random.Random(self.seed + 1000))


class Group:
    """Members by number; the witness is given by its number."""

    def __init__(
        self,
        data: Sequence[int] = (1, 2),
        witness: int | None = 3,
        *,
        trace: Callable[[str], None] | None = None,
        **settings: int,
    ) -> None:
        self.membership = Membership.of(data, witness)
        self.settings = settings
        self.members: dict[int, Member] = {}
        self.cut: set[tuple[int, int]] = set()
        self.wire: deque[tuple[Message, list[bytes] | None]] = deque()
        self.dropped: list[Message] = []
        self.sent: list[Message] = []
        self.drop: Callable[[Message], bool] = lambda message: False
        self.trace = trace or (lambda line: None)
        self.delivers_snapshots = True
        self.committed: dict[int, Entry] = {}
        self.leaders: dict[int, int] = {}
        self.commits: dict[int, int] = {}
        for id in (*data, *([witness] if witness else [])):
            self.add(id, witness=id == witness, durable=DurableState.bootstrap(self.membership))

    def add(self, id: int, *, witness: bool = False, durable: DurableState | None = None) -> Member:
        """Make a member; without `durable` it is one that joins."""
        config = RaftConfig(id=MemberId(id), witness=witness, **self.settings)
        disk = MemoryDisk(durable or DurableState.joining())
        self.members[id] = Member(config, disk, seed=id)
        return self.members[id]

    def core(self, id: int) -> RaftCore:
        return self.members[id].core

    # Faults

    def crash(self, id: int) -> None:
        self.members[id].alive = False

    def restart(self, id: int) -> None:
        self.commits.pop(id, None)
        self.members[id].restart()

    def isolate(self, id: int) -> None:
        for other in self.members:
            self.cut_link(id, other)

    def cut_link(self, one: int, other: int) -> None:
        self.cut |= {(one, other), (other, one)}

    def heal(self) -> None:
        self.cut.clear()

    # Running

    def tick(self, count: int = 1, only: Sequence[int] = ()) -> None:
        """Let ticks pass for all (or only these) members, settling after each."""
        for _ in range(count):
            for id, member in self.members.items():
                if member.alive and (not only or id in only):
                    member.core.tick()
            self.settle()

    def elect(self, id: int) -> None:
        """Let only this member's time pass until it leads; the others' loyalty to a leader they heard has run out."""
        for other in self.members.values():
            state = other.core._state
            state.elapsed_ticks = max(state.elapsed_ticks, state.config.election_timeout_ticks)
        self.until(lambda: self.core(id).role is Role.LEADER, only=[id])

    def until(self, condition: Callable[[], bool], *, limit: int = 500, only: Sequence[int] = ()) -> None:
        """Let time pass until a condition holds."""
        self.settle()
        for _ in range(limit):
            if condition():
                return
            self.tick(only=only)
        raise AssertionError(f"not so after {limit} ticks: {self.describe()}")

    def leader(self) -> int | None:
        """The leader of the newest term that is alive."""
        leading = [m for m in self.members.values() if m.alive and m.core.role is Role.LEADER]
        return max(leading, key=lambda m: m.core.term).core.id if leading else None

    def propose(self, id: int, *commands: bytes) -> LogIndex:
        index = self.core(id).propose(commands)
        self.settle()
        return index

    def settle(self) -> None:
        """Deliver and persist until nothing moves."""
        for _ in range(100_000):
            moved = False
            for member in list(self.members.values()):
                while member.alive and (ready := member.core.ready()) is not None:
                    self._drive(member, ready)
                    moved = True
            if self.wire:
                self._deliver(*self.wire.popleft())
                moved = True
            self._check()
            if not moved:
                return
        raise AssertionError("the group does not come to rest")

    def release(self, id: int) -> None:
        """End the held write of a member."""
        member = self.members[id]
        member.holds_writes = False
        if member.held is not None:
            ready, member.held = member.held, None
            self._persist(member, ready)
        self.settle()

    def inject(self, message: Message, staged: list[bytes] | None = None) -> None:
        self.wire.append((message, staged))
        self.settle()

    def _drive(self, member: Member, ready: Ready) -> None:
        self._send(ready.messages)
        for request in ready.send_snapshots:
            self._stream(member, request.to, request.term)
        if ready.must_persist and member.holds_writes:
            assert member.held is None, "two Readies are being written"
            member.held = ready
        else:
            self._persist(member, ready)
        for entry in ready.committed:
            self._apply(member, entry)
        member.reads += ready.reads
        member.refused += ready.refused_reads

    def _persist(self, member: Member, ready: Ready) -> None:
        key = ready.snapshot and (ready.snapshot.index, ready.snapshot.term)
        member.disk.write(ready, member.staged.get(key) if key else None)
        member.core.persisted(ready)
        self._send(ready.messages_after_persist)

    def _apply(self, member: Member, entry: Entry) -> None:
        disk = member.disk
        assert entry.index == disk.applied + 1, f"member {member.core.id} applies {entry.index} after {disk.applied}"
        assert entry.index <= disk.last_index(), "applied before it was durable"
        if entry.kind is EntryKind.COMMAND:
            disk.commands.append(entry.data)
        disk.applied = entry.index
        assert self.committed.setdefault(entry.index, entry) == entry, f"two entries committed at {entry.index}"
        member.core.applied(entry.index)

    def _stream(self, member: Member, to: MemberId, term: Term) -> None:
        if not self.delivers_snapshots:
            return
        snapshot = member.core.snapshot_metadata(member.disk.applied)
        self.wire.append((InstallSnapshot(member.core.id, to, term, snapshot), list(member.disk.commands)))

    def _send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self.sent.append(message)
            self.wire.append((message, None))

    def _deliver(self, message: Message, staged: list[bytes] | None) -> None:
        receiver = self.members.get(message.to)
        lost = (message.sender, message.to) in self.cut or receiver is None or not receiver.alive
        if lost or self.drop(message):
            self.dropped.append(message)
            self._stream_ended(message, delivered=False)
            return
        assert receiver is not None
        if isinstance(message, InstallSnapshot):
            receiver.staged[message.snapshot.index, message.snapshot.term] = staged or []
        self.trace_message(message)
        receiver.core.step(message)
        self._stream_ended(message, delivered=True)

    def _stream_ended(self, message: Message, *, delivered: bool) -> None:
        sender = self.members[message.sender]
        if isinstance(message, InstallSnapshot) and sender.alive:
            (sender.core.snapshot_delivered if delivered else sender.core.snapshot_failed)(message.to)

    def trace_message(self, message: Message) -> None:
        self.trace(describe(message))

    def _check(self) -> None:
        for id, member in self.members.items():
            core = member.core
            if not member.alive:
                continue
            if core.role is Role.LEADER:
                assert self.leaders.setdefault(core.term, id) == id, f"two leaders in term {core.term}"
            assert core.commit >= self.commits.get(id, 0), f"commit of {id} fell"
            self.commits[id] = core.commit

    # Helpers

    def compact(self, id: int, index: int | None = None) -> None:
        """Drop a data member's log up to an index, by default all that it has applied."""
        member = self.members[id]
        metadata = member.core.snapshot_metadata(LogIndex(index or member.disk.applied))
        member.disk._begin_at(metadata.base)
        member.core.compacted(metadata.index)

    def describe(self) -> str:
        return "; ".join(
            f"{id} {m.core.role.value} term {m.core.term} log {m.core.log.base.index}..{m.core.log.last_index} "
            f"commit {m.core.commit}" + ("" if m.alive else " (down)")
            for id, m in self.members.items()
        )


def describe(message: Message) -> str:
    """Return one line that a person can read."""
    fields = {name: getattr(message, name) for name in message.__slots__ if name not in ("sender", "to", "term")}
    shown = [text for name, value in fields.items() if (text := _field(name, value))]
    return f"{message.sender}→{message.to} {type(message).__name__} t{message.term} {' '.join(shown)}".rstrip()


def _field(name: str, value: object) -> str:
    if name == "entries":
        assert isinstance(value, (list, tuple))
        return f"entries=[{' '.join(f'{entry.index}/t{entry.term}' for entry in value)}]"
    if isinstance(value, (Snapshot, BaseRecord)):
        return f"{name}={value.index}/t{value.term}"
    if value is False or (value == 0 and name in ("read_round", "witness_floor", "hint_index", "hint_term")):
        return ""
    return name if value is True else f"{name}={value}"


def entry(index: int, term: int, data: bytes = b"") -> Entry:
    return Entry(LogIndex(index), Term(term), EntryKind.COMMAND if data else EntryKind.NOOP, data)


def disk_with(membership: Membership, terms: Sequence[int], *, term: int = 0, commit: int = 1) -> MemoryDisk:
    """A disk whose log has entries of these terms after the bootstrap base at 1."""
    disk = MemoryDisk(DurableState.bootstrap(membership))
    disk.log = [entry(index, of, b"%d@%d" % (index, of)) for index, of in enumerate(terms, start=2)]
    last = terms[-1] if terms else 1
    disk.hard_state = HardState(Term(max(term, last)), MemberId(0), LogIndex(commit))
    return disk
