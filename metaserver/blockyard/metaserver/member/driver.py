"""The loop around the Raft core: what `raft` says a driver does, in that order.

All of it runs on the event loop's thread. A log write is made there too: while this member's disk does not answer it
must not say that it lives. On the leader the write begins in the turn after its appends were queued, so that they
travel while the disk works; everything that arrives meanwhile goes into the next entry.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

from blockyard.metaserver import raft
from blockyard.metaserver.member.proposals import Proposals
from blockyard.metaserver.member.reads import Reads
from blockyard.metaserver.raft import (
    BaseRecord,
    Entry,
    HardState,
    LogIndex,
    MemberId,
    RaftCore,
    ReadConfirmed,
    Ready,
    Role,
)
from blockyard.proto import logs
from blockyard.proto.call import Deferred
from google.protobuf.message import Message

STALLED_S = 0.1
"""A tick this late is worth a warning: something held the event loop, or the machine gave this process no time."""
MADE_UP_TICKS = 5
"""Ticks made up for at most when one comes late: what others sent meanwhile is read before many have passed."""
EXIT_FAILED = 70
"""Exit status of a process that met a failing disk or a broken invariant (EX_SOFTWARE)."""
Work = TypeVar("Work", bound=Callable[..., Any])
_log = logs.get(__name__)


class Log(raft.LogReader, Protocol):
    """The durable log, as the driver writes it."""

    def append(
        self, entries: Sequence[Entry] = (), hard_state: HardState | None = None, base: BaseRecord | None = None
    ) -> None:
        """Write in one atomic, synced write; an error ends the process."""


class Applier(Protocol):
    """What applies committed entries; a witness has none."""

    @property
    def applied(self) -> LogIndex:
        """Index up to which the state has applied the log."""

    def apply(self, entries: Sequence[Entry], proposals: Proposals) -> None:
        """Apply entries in order, settle who waits for them, write state and applied index together."""

    def switch(self, snapshot: raft.Snapshot, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Take the staged state of `snapshot` in place of the living one, and begin the log at it: all or nothing."""


class Outgoing(Protocol):
    """Where messages to other members go."""

    def send(self, message: raft.Message) -> None:
        """Send a message with the others until `flush`, or lose it."""

    def flush(self) -> None:
        """Let everything that was sent leave now."""


def fatal(work: Work) -> Work:
    """Wrap work on the core: any error in it is a broken disk or a broken invariant, and ends the process."""

    @wraps(work)
    def guarded(self: "Driver", *arguments: Any) -> Any:
        try:
            return work(self, *arguments)
        except Exception as error:
            self.on_failure(error)
            raise

    return cast(Work, guarded)


def ticks_due(passed_s: float, tick_s: float) -> int:
    """Return the ticks that make up for `passed_s` seconds since the last one: a busy loop must not slow time down."""
    return max(1, min(round(passed_s / tick_s), MADE_UP_TICKS))


def die(error: BaseException) -> None:
    """End the process at once, saying why."""
    _log.critical("stopped_by_failure", error=str(error), exc_info=error)
    os._exit(EXIT_FAILED)


class Driver:
    """Drives one core."""

    def __init__(
        self,
        core: RaftCore,
        log: Log,
        applier: Applier | None,
        outgoing: Outgoing,
        send_snapshot: Callable[[raft.SendSnapshot], None],
        tick_s: float,
        on_failure: Callable[[BaseException], None] = die,
    ) -> None:
        self.core = core
        self.proposals = Proposals()
        self.reads = Reads()
        self.on_failure = on_failure
        self.on_role_change: list[Callable[[Role], None]] = []
        self._log_store = log
        self._applier = applier
        self._outgoing = outgoing
        self._send_snapshot = send_snapshot
        self._tick_s = tick_s
        self._loop = asyncio.get_running_loop()
        self._turn_scheduled = False
        self._writing: Ready | None = None
        self._role = core.role
        self._term = core.term
        self._answering: MemberId | None = None
        self._answers: list[raft.Message] = []
        self._committed: list[Entry] = []
        self._apply_scheduled = False
        self._ticker: asyncio.TimerHandle | None = None
        self._ticked_at = 0.0
        self.leader_heard_at = self._loop.time()
        """When a leader was last heard, this member itself included; of the event loop's clock, in seconds."""

    # ------------------------------------------------------------------------------------------ requests

    def propose(self, method: int, request: Message, inputs: Sequence[int] = ()) -> Deferred:
        """Agree on a command and return what it came to; fails with NotLeader, Overloaded or LeadershipLost."""
        deferred = self.proposals.add(method, request, inputs)
        self._schedule_turn()
        return deferred

    def read(self, serve: Callable[[], Any]) -> Deferred:
        """Run `serve` once this member's state has every change acknowledged before now; return what it returns."""
        deferred = self.reads.add(serve)
        self._schedule_turn()
        return deferred

    @fatal
    def step(self, messages: Sequence[raft.Message]) -> None:
        """Take messages of other members."""
        for message in messages:
            self.core.step(message)
            if message.sender == self.core.leader:
                self.leader_heard_at = self._loop.time()
        self.pump()

    def step_and_answer(self, sender: MemberId, messages: Sequence[raft.Message]) -> list[raft.Message]:
        """Take messages of one member; return what there is to say to it at once, everything it depends on durable."""
        self._answering, self._answers = sender, []
        try:
            self.step(messages)
        finally:
            self._answering = None
        return self._answers

    # ------------------------------------------------------------------------------------------ time

    def start(self) -> None:
        """Begin to tick."""
        self._ticked_at = self._loop.time()
        self._ticker = self._loop.call_later(self._tick_s, self._tick)

    def stop(self) -> None:
        """Tick no more; what waits fails."""
        if self._ticker is not None:
            self._ticker.cancel()
        self.proposals.lose()
        self.reads.lose()

    @fatal
    def _tick(self) -> None:
        now = self._loop.time()
        passed_s = now - self._ticked_at
        if passed_s > STALLED_S:
            _log.warning("event_loop_stalled", seconds=round(passed_s, 3))
        self._ticked_at = now
        self._ticker = self._loop.call_later(self._tick_s, self._tick)
        for _ in range(ticks_due(passed_s, self._tick_s)):
            self.core.tick()
        self.pump()

    # ------------------------------------------------------------------------------------------ the loop

    def _schedule_turn(self) -> None:
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._turn)

    @fatal
    def _turn(self) -> None:
        self._turn_scheduled = False
        self.reads.ask(self.core)
        if self._writing is None:
            self.proposals.propose(self.core)
        self.pump()

    def pump(self, apply_at_once: bool = True) -> None:
        """Do what the core wants done, until it wants nothing.

        At most one batch of committed entries is applied here, and none without `apply_at_once`: the others follow,
        one in a turn of the loop, so that a member with a long backlog goes on answering.
        """
        while (ready := self.core.ready()) is not None:
            self._send(ready.messages)
            for wish in ready.send_snapshots:
                self._send_snapshot(wish)
            if not ready.must_persist:
                self.core.persisted(ready)
                self._send(ready.messages_after_persist)
            elif self.core.role is Role.LEADER and ready.messages:
                self._writing = ready
                self._loop.call_soon(self._write)
            else:
                self._persist(ready)
            apply_at_once = self._apply(ready, apply_at_once)
        self._outgoing.flush()
        self._notice_role()

    @fatal
    def _write(self) -> None:
        """Write what the leader's appends, which have left by now, carry to the others."""
        ready, self._writing = self._writing, None
        assert ready is not None
        self._persist(ready)
        self.proposals.propose(self.core)
        self.pump()

    def _persist(self, ready: Ready) -> None:
        if ready.snapshot is not None and self._applier is not None:
            self._apply_committed()  # nothing older may be applied to the new state
            self._applier.switch(ready.snapshot, ready.hard_state, ready.entries)
        else:
            self._log_store.append(ready.entries, ready.hard_state, ready.base)
        self.core.persisted(ready)
        self._send(ready.messages_after_persist)

    def _apply(self, ready: Ready, at_once: bool) -> bool:
        """Apply what is committed, at once or soon; return whether more may be applied in this turn of the loop.

        Within a Step it is soon, after the answer has left: the leader waits for that.
        """
        if ready.committed and self._applier is not None:
            self._committed += ready.committed
            if at_once and self._answering is None:
                self._apply_committed()
                at_once = False
            elif not self._apply_scheduled:
                self._apply_scheduled = True
                self._loop.call_soon(self._apply_soon)
        self._confirm_reads(ready.reads, ready.refused_reads)
        return at_once

    def _confirm_reads(self, reads: Sequence[ReadConfirmed], refused: Sequence[int]) -> None:
        if self._applier is not None:
            self.reads.confirmed(reads, refused, self._applier.applied)

    @fatal
    def _apply_soon(self) -> None:
        self._apply_scheduled = False
        self._apply_committed()
        self._confirm_reads((), ())
        self.pump(apply_at_once=False)

    def _apply_committed(self) -> None:
        """Apply everything committed and not applied yet, in order."""
        if self._committed and self._applier is not None:
            committed, self._committed = self._committed, []
            self._applier.apply(committed, self.proposals)
            self.core.applied(committed[-1].index)

    def _send(self, messages: Sequence[raft.Message]) -> None:
        for message in messages:
            if message.to == self._answering:
                self._answers.append(message)
            else:
                self._outgoing.send(message)

    def _notice_role(self) -> None:
        core = self.core
        if core.role is self._role and core.term == self._term:
            return
        was, self._role, self._term = self._role, core.role, core.term
        if was is Role.LEADER:
            self.leader_heard_at = self._loop.time()
            self.proposals.lose()
        if core.role is not was or core.role is Role.LEADER:
            _log.info("raft_role", role=core.role.value, term=int(core.term), leader=int(core.leader))
            for callback in self.on_role_change:
                callback(core.role)
