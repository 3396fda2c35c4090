"""Frames that came before their turn, on a connection that has one call at a time. Pure."""

from collections import deque
from collections.abc import Iterable

from blockyard.proto import errors
from blockyard.proto.lane import frame
from blockyard.proto.lane.frame import Frame, FrameError, Header

MAX_KEPT_BYTES = 64 << 20
"""Most bytes held on one connection."""
_COST_BYTES = 512
"""What holding a frame costs beside its bytes."""


class Backlog:
    """Frames of later calls, and of the call under way while its servicer waits to send an answer.

    Invariant: what is held is bounded, in bytes and in calls; the first frame of a later call is its CALL.
    """

    def __init__(self, max_calls: int) -> None:
        self._max_calls = max_calls
        self._by_call: dict[int, deque[Frame]] = {}
        self._held_bytes = 0

    def has(self, call: int) -> bool:
        """Return whether frames of that call are held."""
        return call in self._by_call

    def check_room(self, header: Header) -> None:
        """Look, before its frame is held, whether there is room; raises Overloaded."""
        size = header.message_bytes + header.payload_bytes + _COST_BYTES
        if self._held_bytes + size > MAX_KEPT_BYTES:
            raise errors.Overloaded("too much waits on this connection: read the answers before sending more")
        if header.kind == frame.CALL and len(self._by_call) >= self._max_calls:
            raise errors.Overloaded(f"{self._max_calls} calls wait on this connection", retry_after_ms=10)

    def hold(self, item: Frame) -> None:
        """Hold a frame; raises FrameError for the number of a call that waits already."""
        if item.kind == frame.CALL and item.call in self._by_call:
            raise FrameError("call", f"call {item.call} is under way already", item.call)
        self._by_call.setdefault(item.call, deque()).append(item)
        self._held_bytes += _size(item)

    def take_call(self) -> Frame | None:
        """Return the CALL that waits longest; its other frames stay until `take`."""
        return self.take(next(iter(self._by_call))) if self._by_call else None

    def take(self, call: int) -> Frame | None:
        """Return the oldest frame held of that call."""
        held = self._by_call.get(call)
        if held is None:
            return None
        item = held.popleft()
        if not held:
            del self._by_call[call]
        self._held_bytes -= _size(item)
        return item

    def frames(self, call: int) -> Iterable[Frame]:
        """Return the frames held of that call, oldest first."""
        return self._by_call.get(call, ())

    def drop(self, call: int) -> None:
        """Forget a call."""
        for item in self._by_call.pop(call, ()):
            self._held_bytes -= _size(item)


def _size(item: Frame) -> int:
    return len(item.message) + len(item.payload) + _COST_BYTES
