"""A connection on which the unary calls of many threads are in flight at once.

Whoever waits and finds nobody reading reads for everybody, until its own answer has come; then it wakes another waiter
to read on. A single thread therefore makes a call without any hand-over, and no thread exists only to read.
"""

import threading
import time

from blockyard.proto import errors
from blockyard.proto.lane import blocking, frame
from blockyard.proto.lane.blocking import TICK_S, BlockingConnection, Idle


class _Waiting:
    """One call that waits for its answer."""

    __slots__ = ("answer", "error", "wake")

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.error: errors.BlockyardError | None = None
        self.wake = threading.Lock()
        self.wake.acquire()

    @property
    def over(self) -> bool:
        return self.answer is not None or self.error is not None


class SharedConnection:
    """Many unary calls on one connection. `usable` turns false once it is lost or the server asked to leave."""

    def __init__(self, connection: BlockingConnection, keepalive_s: float) -> None:
        assert connection.agreement is not None
        self.usable = True
        self._connection = connection
        self._keepalive_s = keepalive_s
        self._max_calls = connection.agreement.peer.max_calls
        self._send_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._last_call = 0

    def call(self, method: int, message: bytes, timeout_s: float) -> bytes:
        """Make one call and return the reply's bytes; raises BlockyardError, DeadlineExceeded after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        waiting = _Waiting()
        call = self._send(method, message, timeout_s, waiting)
        try:
            while not waiting.over:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    self._give_up(call)
                    raise errors.DeadlineExceeded(f"no answer within {timeout_s:g} s")
                if self._read_lock.acquire(blocking=False):
                    try:
                        self._read_until(waiting, deadline)
                    finally:
                        self._read_lock.release()
                        self._wake_one(waiting)
                else:
                    waiting.wake.acquire(timeout=remaining)
        finally:
            self._waiting.pop(call, None)
        if waiting.error is not None:
            raise waiting.error
        assert waiting.answer is not None
        return waiting.answer

    def close(self) -> None:
        """Close; calls under way fail with ConnectionLost."""
        self._lose("the channel was closed")

    def _send(self, method: int, message: bytes, timeout_s: float, waiting: _Waiting) -> int:
        with self._send_lock:
            if len(self._waiting) >= self._max_calls:
                raise errors.Overloaded(f"{self._max_calls} calls are under way on this connection", retry_after_ms=10)
            self._last_call += 1
            call = self._last_call
            self._waiting[call] = waiting
            try:
                value = max(1, min(int(timeout_s * 1000), frame.MAX_VALUE))
                self._connection.send(frame.CALL, call, message, method=method, value=value)
            except errors.BlockyardError:
                self._waiting.pop(call, None)
                raise
            except OSError as error:
                self._waiting.pop(call, None)
                self._lose(str(error))
                raise errors.ConnectionLost(f"the connection broke while the request was sent: {error}") from error
        if not self.usable and not waiting.over:
            self._waiting.pop(call, None)
            raise errors.ConnectionLost("the connection was lost while the request was sent")
        return call

    def _read_until(self, waiting: _Waiting, deadline: float) -> None:
        """Read answers, for everybody, until `waiting` has its own or its deadline has passed."""
        connection = self._connection
        pinged_at = 0.0
        while not waiting.over:
            now = time.monotonic()
            if now >= deadline:
                return
            try:
                header = connection.receive_header(min(TICK_S, max(0.001, deadline - now)))
                message = connection.receive_message(header)
                if header.payload_bytes:
                    connection.receive_payload(header.payload_bytes, None)
            except Idle:
                pinged_at = self._look_for_life(pinged_at)
                continue
            except (OSError, frame.FrameError) as error:
                self._lose(str(error))
                return
            self._dispatch(header.kind, header.call, message)

    def _dispatch(self, kind: int, call: int, message: bytes) -> None:
        if kind == frame.REPLY or kind == frame.ERROR:
            other = self._waiting.get(call)
            if other is None:
                return  # its caller had given up
            if kind == frame.REPLY:
                other.answer = message
            else:
                other.error = blocking.error_in(message)
            self._wake(other)
        elif kind == frame.GOAWAY:
            self.usable = False
        elif kind == frame.PING:
            self._send_quietly(frame.PONG, 0)

    def _look_for_life(self, pinged_at: float) -> float:
        silent = time.monotonic() - self._connection.heard_at
        if silent > 2 * self._keepalive_s:
            self._lose(f"the peer was silent for {silent:.0f} s")
        elif silent > self._keepalive_s and pinged_at < self._connection.heard_at:
            self._send_quietly(frame.PING, 0)
            return time.monotonic()
        return pinged_at

    def _give_up(self, call: int) -> None:
        self._send_quietly(frame.CANCEL, call)

    def _send_quietly(self, kind: int, call: int) -> None:
        with self._send_lock:
            try:
                self._connection.send(kind, call)
            except OSError as error:
                self._lose(str(error))

    def _wake_one(self, finished: _Waiting) -> None:
        """Somebody who still waits shall read on."""
        for other in list(self._waiting.values()):
            if other is not finished and not other.over:
                self._wake(other)
                return

    def _wake(self, other: _Waiting) -> None:
        try:
            other.wake.release()
        except RuntimeError:
            pass  # already awake

    def _lose(self, why: str) -> None:
        """The connection is no more: every call under way may have happened."""
        self.usable = False
        blocking.sever(self._connection.sock)
        for other in list(self._waiting.values()):
            if not other.over:
                other.error = errors.ConnectionLost(f"the connection was lost before the answer: {why}")
            self._wake(other)
