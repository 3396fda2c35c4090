"""Commits of many files in one call: whoever comes while one is under way travels with the next."""

import threading
from collections import deque

from blockyard.client.metadata.namespace import Namespace
from blockyard.client.metadata.session import Session
from blockyard.proto import errors
from blockyard.proto.metadata_pb2 import CommitSlicesRequest, FileCommit, FileCommitted

_FILES_PER_COMMIT = 1_000
_SLICES_PER_COMMIT = 20_000


class _Waiting:
    """One file's commit, and its outcome once there is one."""

    __slots__ = ("commit", "done", "epoch", "error", "outcome", "session")

    def __init__(self, commit: FileCommit, session: Session, epoch: int) -> None:
        self.commit = commit
        self.epoch = epoch
        self.session = session
        self.done = False
        self.outcome: FileCommitted | None = None
        self.error: errors.BlockyardError | None = None


class Commits:
    """Where written data becomes visible. Any number of threads may use it; each waits for its own file only."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._turn = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._sending = False

    def commit(self, commit: FileCommit, session: Session, epoch: int) -> FileCommitted:
        """Commit one file and return what it is then. Raises why it was refused.

        `epoch`: of the oldest cluster map that one of its blocks was written under. StaleEpoch: write them again.
        """
        mine = _Waiting(commit, session, epoch)
        with self._turn:
            self._waiting.append(mine)
            while self._sending and not mine.done:
                self._turn.wait()
            if not mine.done:
                self._sending = True
        if not mine.done:
            self._send_until(mine)
        if mine.error is not None:
            raise mine.error
        assert mine.outcome is not None
        if mine.outcome.HasField("error"):
            raise errors.from_detail(mine.outcome.error)
        return mine.outcome

    def _send_until(self, mine: _Waiting) -> None:
        """Send for everybody who waits, until `mine` is done; then another takes over."""
        try:
            while not mine.done:
                with self._turn:
                    together = self._take()
                self._send(together)
                with self._turn:
                    for each in together:
                        each.done = True
                    self._turn.notify_all()
        finally:
            with self._turn:
                self._sending = False
                self._turn.notify_all()

    def _take(self) -> list[_Waiting]:
        together: list[_Waiting] = []
        slices, session = 0, self._waiting[0].session
        while self._waiting and len(together) < _FILES_PER_COMMIT and self._waiting[0].session is session:
            slices += len(self._waiting[0].commit.slices)
            if together and slices > _SLICES_PER_COMMIT:
                break
            together.append(self._waiting.popleft())
        return together

    def _send(self, together: list[_Waiting]) -> None:
        request = CommitSlicesRequest(
            files=[each.commit for each in together], map_epoch=min(each.epoch for each in together)
        )
        try:
            reply = self._namespace.calls.change("CommitSlices", request, together[0].session)
            for each, outcome in zip(together, reply.files, strict=True):
                each.outcome = outcome
                if outcome.HasField("attributes"):
                    self._namespace.saw(outcome.attributes)
        except errors.BlockyardError as error:
            self._fail(together, error)
        except BaseException:  # a signal in the sender's thread: the others are not to wait for it
            self._fail(together, errors.Cancelled("the thread that committed for several was interrupted"))
            raise

    def _fail(self, together: list[_Waiting], error: errors.BlockyardError) -> None:
        for each in together:
            each.error = error
            each.done = True
            self._namespace.forget(each.commit.inode)
