"""A connection on which the unary calls of many threads are in flight at once.

Whoever waits and finds nobody reading reads for everybody, until its own answer has come; then it wakes another waiter
to read on. A single thread therefore makes a call without any hand-over, and no thread exists only to read.

Invariant: while calls wait and nobody reads, at least one of their threads has been woken and has not yet looked.
"""

import itertools
import threading
import time

from blockyard.proto import errors
from blockyard.proto.lane import frame, handshake
from blockyard.proto.lane.blocking import TICK_S, BlockingConnection, Idle
from blockyard.proto.lane.frame import FrameError
from blockyard.proto.lane.sockets import STALL_S, sever

QUIET_S = 0.001
"""A connection that heard nothing for this long is looked at before a call is sent on it."""


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
        self._tick_s = min(TICK_S, keepalive_s / 2)
        self._max_calls = connection.agreement.peer.max_calls
        self._read_lock = threading.Lock()
        self._waiting: dict[int, _Waiting] = {}
        self._numbers = itertools.count(1)
        connection.send_within(min(STALL_S, 2 * keepalive_s))

    def call(self, method: int, message: bytes, timeout_s: float) -> bytes:
        """Make one call and return the reply's bytes; raises BlockyardError, DeadlineExceeded after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        call, waiting = next(self._numbers), _Waiting()
        if len(self._waiting) >= self._max_calls:
            raise errors.Overloaded(f"{self._max_calls} calls are under way on this connection", retry_after_ms=10)
        self._waiting[call] = waiting
        try:
            self._send(call, method, message, timeout_s)
            self._await(waiting, deadline)
        finally:
            self._waiting.pop(call, None)
            if self._waiting and not self._read_lock.locked():
                self._wake_one()  # this thread has read until now, or was the one woken to read on
            if not self.usable:
                self._dispose()
        if waiting.answer is not None:
            return waiting.answer
        if waiting.error is not None:
            raise waiting.error
        self._send_quietly(frame.CANCEL, call)
        raise errors.DeadlineExceeded(f"no answer within {timeout_s:g} s")

    def is_alive(self) -> bool:
        """Take what has arrived while nobody waited, such as a farewell; return whether calls may be made."""
        if self._waiting or time.monotonic() - self._connection.heard_at < QUIET_S:
            return self.usable
        if self.usable and self._read_lock.acquire(False):
            try:
                while self.usable and self._connection.pending():
                    self._read_frame(self._tick_s)
            except (OSError, FrameError, Idle) as error:
                self._lose(str(error))
            finally:
                self._read_lock.release()
                self._wake_one()
            if not self.usable:
                self._dispose()
        return self.usable

    def close(self) -> None:
        """Close; calls under way fail with ConnectionLost."""
        self._lose("the channel was closed")
        self._dispose()

    def _send(self, call: int, method: int, message: bytes, timeout_s: float) -> None:
        if not self.usable:
            raise errors.Unavailable("the connection was lost before the request was sent")
        value = max(1, min(int(timeout_s * 1000), frame.MAX_VALUE))
        try:
            self._connection.send(frame.CALL, call, message, method=method, value=value)
        except errors.BlockyardError:
            raise
        except OSError as error:
            self._lose(str(error))
            raise errors.ConnectionLost(f"the connection broke while the request was sent: {error}") from error
        except BaseException:
            self._lose("a thread was interrupted while it sent")
            raise

    def _await(self, waiting: _Waiting, deadline: float) -> None:
        """Return when `waiting` is over or its deadline has passed."""
        while not waiting.over:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return
            if self._read_lock.acquire(blocking=False):
                try:
                    self._read_until(waiting, deadline)
                finally:
                    self._read_lock.release()
            else:
                waiting.wake.acquire(timeout=remaining)

    def _read_until(self, waiting: _Waiting, deadline: float) -> None:
        """Read answers, for everybody, until `waiting` has its own or its deadline has passed."""
        try:
            while not waiting.over:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return
                try:
                    self._read_frame(min(self._tick_s, max(0.001, remaining)))
                except Idle:
                    self._connection.look_for_life(self._keepalive_s)
        except (OSError, FrameError) as error:
            self._lose(str(error))
        except BaseException:
            self._lose("the thread that read was interrupted")
            raise

    def _read_frame(self, timeout_s: float) -> None:
        connection = self._connection
        header = connection.receive_header(timeout_s)
        message = connection.receive_message(header)
        kind = header.kind
        if kind == frame.REPLY or kind == frame.ERROR:
            if header.payload_bytes:
                connection.receive_payload(header.payload_bytes, None)
            waiting = self._waiting.get(header.call)
            if waiting is None:
                return  # its caller had given up
            if kind == frame.ERROR:
                waiting.error = handshake.error_in(message)
            elif header.payload_bytes:
                waiting.error = errors.MalformedReply("payload came with the reply of a method that has none")
            else:
                waiting.answer = message
            self._wake(waiting)
        elif kind == frame.GOAWAY:
            self.usable = False
        elif kind == frame.PING:
            self._send_quietly(frame.PONG, 0)
        elif kind != frame.PONG:
            raise connection.out_of_step(FrameError("protocol", f"frame kind {kind} among unary calls"))

    def _send_quietly(self, kind: int, call: int) -> None:
        try:
            self._connection.send(kind, call)
        except OSError as error:
            self._lose(str(error))

    def _wake_one(self) -> None:
        """Somebody who still waits shall read on."""
        for other in list(self._waiting.values()):
            if not other.over:
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
        self._connection.broken = self._connection.broken or ConnectionError(why)
        sever(self._connection.sock)
        for other in list(self._waiting.values()):
            if not other.over:
                other.error = errors.ConnectionLost(f"the connection was lost before the answer: {why}")
            self._wake(other)

    def _dispose(self) -> None:
        """Close the descriptor once nobody waits or reads: the last who leaves does."""
        if not self._waiting and self._read_lock.acquire(False):
            try:
                if not self._waiting:
                    self._connection.close()
            finally:
                self._read_lock.release()
