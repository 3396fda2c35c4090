"""Request ids of one session: one number per change, and which answers the server may forget. Pure.

Invariants: a number is given once; `answered_below` never falls and never passes a number that is still unanswered.
"""

from blockyard.proto.common_pb2 import RequestId


class RequestWindow:
    """The changes of one session that are under way. Its owner sees to it that one thread at a time is in here."""

    def __init__(self, session: int, limit: int) -> None:
        """`limit`: how many numbers may lie between the oldest that is unanswered and the newest."""
        self.session = session
        self._limit = limit
        self._next = 1
        self._below = 1
        self._answered: set[int] = set()

    @property
    def is_full(self) -> bool:
        """Whether the server would have to remember more answers than it wants to."""
        return self._next - self._below >= self._limit

    @property
    def under_way(self) -> int:
        """How many changes are unanswered."""
        return self._next - self._below - len(self._answered)

    def begin(self) -> RequestId:
        """Return the id of one more change, to be kept on all its retries."""
        assert not self.is_full, "the window is full"
        sequence = self._next
        self._next += 1
        return RequestId(session=self.session, sequence=sequence, answered_below=self._below)

    def end(self, sequence: int) -> None:
        """A change was answered, or is given up: it is not sent again."""
        if sequence != self._below:
            self._answered.add(sequence)
            return
        self._below += 1
        while self._below in self._answered:
            self._answered.remove(self._below)
            self._below += 1
