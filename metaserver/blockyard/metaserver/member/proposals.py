"""Commands that wait: first to be proposed, then to be applied."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from blockyard.metaserver import raft
from blockyard.metaserver.raft import LogIndex, RaftCore, Term
from blockyard.metaserver.state import commands
from blockyard.proto import errors
from blockyard.proto.call import Deferred
from google.protobuf.message import Message

MAX_BATCH = 1024
"""Commands in one log entry."""
MAX_WAITING = 65_536
"""Commands that may wait to be proposed; more are refused with Overloaded, which is backpressure."""


class Waiting(NamedTuple):
    """A command and who waits for it."""

    method: int
    request: Message
    inputs: Sequence[int]
    deferred: Deferred


class Batch(NamedTuple):
    """A proposed entry: its commands need not be parsed again when it is applied."""

    term: Term
    time_ns: int
    session_clock_ms: int
    commands: list[Waiting]


class Clock:
    """The two replicated clocks, as the leader drives them. Both never go back, whoever leads."""

    def __init__(
        self, wall_ns: Callable[[], int] = time.time_ns, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall_ns = wall_ns
        self._monotonic = monotonic
        self._last_ns = 0
        self._session_ms = 0
        self._led_at: float | None = None

    def applied(self, time_ns: int, session_clock_ms: int) -> None:
        """An entry with these times was applied."""
        self._last_ns = max(self._last_ns, time_ns)
        self._session_ms = max(self._session_ms, session_clock_ms)

    def leading(self, leads: bool) -> None:
        """This member began or ceased to lead: the session clock runs only while somebody leads."""
        self._led_at = self._monotonic() if leads else None

    def read(self) -> tuple[int, int]:
        """Return the time in ns and the session clock in ms for the next entry."""
        now = self._monotonic()
        if self._led_at is not None:
            elapsed_ms = int((now - self._led_at) * 1000)
            self._session_ms += elapsed_ms
            self._led_at += elapsed_ms / 1000
        self._last_ns = max(self._last_ns, self._wall_ns())
        return self._last_ns, self._session_ms


class Proposals:
    """Commands on their way through the log."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._queue: list[Waiting] = []
        self._proposed: dict[LogIndex, Batch] = {}

    def __len__(self) -> int:
        return len(self._queue) + sum(len(batch.commands) for batch in self._proposed.values())

    def add(self, method: int, request: Message, inputs: Sequence[int]) -> Deferred:
        """Take a command; return what it will come to."""
        deferred = Deferred()
        if len(self._queue) >= MAX_WAITING:
            deferred.fail(errors.Overloaded("too many changes wait for the log", retry_after_ms=50))
        else:
            self._queue.append(Waiting(method, request, inputs, deferred))
        return deferred

    def propose(self, core: RaftCore) -> None:
        """Put what waits into the log, in entries of bounded size."""
        while self._queue:
            batch, rest = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
            time_ns, session_ms = self.clock.read()
            data = commands.encode(
                time_ns, session_ms, [(each.method, each.request.SerializeToString(), each.inputs) for each in batch]
            )
            try:
                index = core.propose(data)
            except raft.NotLeader as refusal:
                self._refuse(errors.NotLeader(f"member {int(core.id)} does not lead"), refusal.leader)
                return
            except raft.Busy:
                if core.role is not raft.Role.LEADER or not self._proposed:
                    self._refuse(errors.Overloaded("leadership is being handed over", retry_after_ms=50), None)
                return  # what is uncommitted makes room when it commits
            self._queue = rest
            self._proposed[index] = Batch(core.term, time_ns, session_ms, batch)

    def take(self, index: LogIndex, term: Term) -> Batch | None:
        """Return the batch that this member proposed at `index`, if it is the one that was agreed on there."""
        batch = self._proposed.pop(index, None)
        if batch is None or batch.term == term:
            return batch
        self._fail(batch.commands, errors.LeadershipLost("another leader's entry took this one's place", definite=True))
        return None

    def lose(self) -> None:
        """This member leads no more: what was proposed may yet be agreed on, what was not is refused."""
        proposed, self._proposed = self._proposed, {}
        for batch in proposed.values():
            self._fail(batch.commands, errors.LeadershipLost("leadership was lost before the change was agreed on"))
        self._refuse(errors.NotLeader("leadership was lost before the change was proposed"), None)

    def _refuse(self, error: errors.BlockyardError, leader: Any) -> None:
        queue, self._queue = self._queue, []
        self._fail(queue, error)

    def _fail(self, waiting: Sequence[Waiting], error: errors.BlockyardError) -> None:
        for each in waiting:
            each.deferred.fail(error)
