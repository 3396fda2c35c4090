"""Applies committed entries: through the state machine, into the store, and to those who wait."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from blockyard.metaserver import raft
from blockyard.metaserver.member.group_machine import GroupMachine
from blockyard.metaserver.member.proposals import Batch, Proposals
from blockyard.metaserver.namespace.locks import WAITING
from blockyard.metaserver.namespace.machine import Applied
from blockyard.metaserver.raft import BaseRecord, Entry, EntryKind, HardState, LogIndex
from blockyard.metaserver.state.transaction import KeyValueStore, WriteBatch
from blockyard.proto import errors
from blockyard.proto.call import Deferred

Settled: TypeAlias = tuple[Deferred, Any, bytes | None]
"""Who waits, the outcome, and its reply's bytes where the machine made them."""


class AppliedStore(KeyValueStore, Protocol):
    """A store that knows which log index its rows stand for."""

    def applied_index(self) -> LogIndex:
        """Return the index up to which the rows have applied the log."""

    def apply(self, batch: WriteBatch, applied: LogIndex) -> None:
        """Write rows and applied index as one."""


class Applier:
    """The state of a data member and what is done to it."""

    def __init__(self, store: AppliedStore, machine: GroupMachine, install: "Install") -> None:
        self.store = store
        self.machine = machine
        self.applied = store.applied_index()
        self.on_entry: list[Callable[[LogIndex, Applied], None]] = []
        self.on_switch: list[Callable[[], None]] = []
        self.on_settled: Callable[[], None] = lambda: None
        """Lets the answers leave."""
        self._install = install
        self._locks: dict[tuple[int, int], Deferred] = {}

    def apply(self, entries: Sequence[Entry], proposals: Proposals) -> None:
        """Apply entries in order, settle who waits for them, then write state and applied index together.

        Whoever waits need not wait for that write: the log is what makes a change durable, reads see what is applied,
        and a member that ends before the write applies the entries again.
        """
        settled: list[Settled] = []
        for entry in entries:
            if entry.kind is EntryKind.COMMAND:
                self._apply_one(entry, proposals, settled)
            self.applied = entry.index
        for deferred, outcome, encoded in settled:
            if isinstance(outcome, errors.BlockyardError):
                deferred.fail(outcome)
            else:
                deferred.resolve(outcome, encoded)
        if settled:
            self.on_settled()
        self.store.apply(self.machine.changes(), self.applied)
        self.machine.written()

    def switch(self, snapshot: raft.Snapshot, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Take the staged state of `snapshot` in place of the living one, and begin the log at it: all or nothing."""
        self.store, self.machine = self._install(snapshot.base, hard_state, entries)
        self.applied = self.store.applied_index()
        for callback in self.on_switch:
            callback()

    def map_epoch(self) -> int:
        """Return the cluster map's epoch, 0 before there is a cluster."""
        try:
            return self.machine.cluster_state.view(self.machine.tx).epoch
        except errors.Unavailable:
            return 0

    def client_of(self, session: int) -> str:
        """Return how the client of a living session named itself, empty for others."""
        known = self.machine.sessions.known.get(session)
        return "" if known is None else known.client

    def cancel_wait(self, session: int, sequence: int, deferred: Deferred) -> bool:
        """Whoever waits for a lock with `deferred` does not any more; False: the same request waits anew."""
        key = (session, sequence)
        if self._locks.get(key, deferred) is not deferred:
            return False
        self._locks.pop(key, None)
        return True

    def lose_waits(self) -> None:
        """This member leads no more: who waits for a lock asks the new leader, under the same request id."""
        waits, self._locks = self._locks, {}
        for deferred in waits.values():
            deferred.fail(errors.LeadershipLost("leadership was lost while the lock was waited for"))

    def _apply_one(self, entry: Entry, proposals: Proposals, settled: list[Settled]) -> None:
        batch = proposals.take(entry.index, entry.term)
        if batch is None:
            decoded = self.machine.catalogue.decode(entry.data)
            applied = self.machine.apply(entry.index, decoded.time_ns, decoded.session_clock_ms, decoded.commands)
            proposals.clock.applied(decoded.time_ns, decoded.session_clock_ms)
        else:
            commands = [(each.method, each.request, each.inputs) for each in batch.commands]
            applied = self.machine.apply(entry.index, batch.time_ns, batch.session_clock_ms, commands)
            self._match(batch, applied, settled)
        for grant in applied.grants:
            waiting = self._locks.pop((grant.session, grant.sequence), None)
            if waiting is not None:
                settled.append((waiting, grant.outcome, None))
        for callback in self.on_entry:
            callback(entry.index, applied)

    def _match(self, batch: Batch, applied: Applied, settled: list[Settled]) -> None:
        for waiting, outcome, encoded in zip(batch.commands, applied.outcomes, applied.encoded, strict=True):
            if outcome is WAITING:
                request: Any = waiting.request
                key = (request.request.session, request.request.sequence)
                before = self._locks.pop(key, None)
                if before is not None:
                    before.fail(errors.Cancelled("the same request waits anew"))
                self._locks[key] = waiting.deferred
            else:
                settled.append((waiting.deferred, outcome, encoded))


Install = Callable[[BaseRecord, HardState | None, Sequence[Entry]], tuple[AppliedStore, GroupMachine]]
"""Switches the disk to a staged snapshot and opens what is there then."""
