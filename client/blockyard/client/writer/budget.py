"""The memory that unwritten bytes of all files share.

A writer takes bytes before it keeps them and waits while there are none left. Whoever waits first asks for relief: the
files that hold most let it go.
"""

import threading
import time
from collections.abc import Callable

from blockyard.proto import errors


class Budget:
    """A number of bytes that can be taken and given back. Any thread may use it."""

    def __init__(self, limit_bytes: int, relieve: Callable[[], None]) -> None:
        """`relieve` is called, without any lock of this object, when bytes are wanted and none are left."""
        self.limit_bytes = limit_bytes
        self._relieve = relieve
        self._changed = threading.Condition()
        self.used_bytes = 0
        self.peak_bytes = 0

    def take(self, count: int, deadline_s: float) -> None:
        """Take `count` bytes; more than the limit can be taken only by whoever is alone.

        Raises DeadlineExceeded when not enough come back in time.
        """
        while True:
            with self._changed:
                if self.used_bytes + count <= self.limit_bytes or not self.used_bytes:
                    self.used_bytes += count
                    self.peak_bytes = max(self.peak_bytes, self.used_bytes)
                    return
                seen = self.used_bytes
            self._relieve()
            with self._changed:
                left_s = deadline_s - time.monotonic()
                if left_s <= 0:
                    raise errors.DeadlineExceeded(
                        f"{self.used_bytes:,} bytes wait to be written and none of them leave", definite=True
                    )
                self._changed.wait_for(lambda: self.used_bytes < seen, min(left_s, 1.0))  # noqa: B023 - used here

    def give_back(self, count: int) -> None:
        """Give bytes back."""
        with self._changed:
            self.used_bytes -= count
            assert self.used_bytes >= 0, "more bytes came back than were taken"
            self._changed.notify_all()
