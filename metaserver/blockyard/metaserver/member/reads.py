"""Reads that wait for a read index, shared by all that arrived in one turn of the loop."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from blockyard.metaserver import raft
from blockyard.metaserver.raft import LogIndex, RaftCore, ReadConfirmed
from blockyard.proto import errors
from blockyard.proto.call import Deferred
from blockyard.proto.disk.failures import CorruptStorage, StorageFailed

MAX_WAITING = 65_536
"""Reads that may wait; more are refused with Overloaded, which is backpressure."""


class Waiting(NamedTuple):
    """A read and who waits for it."""

    serve: Callable[[], Any]
    deferred: Deferred


class Reads:
    """Reads on their way: asked for, confirmed at an index, served once that is applied."""

    def __init__(self) -> None:
        self._queue: list[Waiting] = []
        self._asked: dict[int, list[Waiting]] = {}
        self._confirmed: list[tuple[LogIndex, list[Waiting]]] = []
        self._last_context = 0

    def add(self, serve: Callable[[], Any]) -> Deferred:
        """Take a read; return what it will come to."""
        deferred = Deferred()
        if len(self._queue) >= MAX_WAITING:
            deferred.fail(errors.Overloaded("too many reads wait", retry_after_ms=50))
        else:
            self._queue.append(Waiting(serve, deferred))
        return deferred

    def ask(self, core: RaftCore) -> None:
        """Ask for one read index for everything that waits."""
        if not self._queue:
            return
        waiting, self._queue = self._queue, []
        self._last_context += 1
        try:
            core.read_index(self._last_context)
        except raft.NotLeader:
            _fail(waiting, errors.NotLeader(f"member {int(core.id)} knows no leader to ask"))
            return
        self._asked[self._last_context] = waiting

    def confirmed(self, reads: Sequence[ReadConfirmed], refused: Sequence[int], applied: LogIndex) -> None:
        """Serve what may be served now that this member has applied the log up to `applied`."""
        for context in refused:
            _fail(self._asked.pop(context, []), errors.NotLeader("the leader changed; ask again"))
        for read in reads:
            self._confirmed.append((read.index, self._asked.pop(read.context, [])))
        if not self._confirmed:
            return
        later = []
        for index, waiting in self._confirmed:
            if index > applied:
                later.append((index, waiting))
                continue
            for serve, deferred in waiting:
                _serve(serve, deferred)
        self._confirmed = later

    def lose(self) -> None:
        """Nothing will be served any more."""
        for waiting in [self._queue, *self._asked.values(), *(waiting for _, waiting in self._confirmed)]:
            _fail(waiting, errors.ShuttingDown("this member is shutting down; ask another"))
        self._queue, self._asked, self._confirmed = [], {}, []


def _serve(serve: Callable[[], Any], deferred: Deferred) -> None:
    try:
        result = serve()
    except (StorageFailed, CorruptStorage):
        raise
    except Exception as error:  # noqa: BLE001 - a read has changed nothing: its caller alone is told, the member goes on
        deferred.fail(error)
    else:
        deferred.resolve(result)


def _fail(waiting: Sequence[Waiting], error: errors.BlockyardError) -> None:
    for _, deferred in waiting:
        deferred.fail(error)
