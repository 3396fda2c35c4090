"""The frames of one blocking call that has a connection of its own."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blockyard.proto import errors
from blockyard.proto.call import Payload
from blockyard.proto.lane import frame, handshake
from blockyard.proto.lane.blocking import TICK_S, BlockingConnection, Idle
from blockyard.proto.lane.frame import Frame, FrameError, Header
from blockyard.proto.lane.methods import method_id
from blockyard.proto.lane.sockets import sever
from blockyard.proto.lane.window import ReceiveWindow, SendWindow

if TYPE_CHECKING:
    from blockyard.proto.lane.channel import Channel

Item = Header | Frame
"""An answer: its header, the rest still in the socket, or all of it."""


class Exchange:
    """One call's frames: sent by one thread, received by the same or another.

    Invariant: only the thread that holds `_reading` receives. A sender that waits for credit reads when nobody else
    does; answers that come to it are held for the receiver, no more of them than the stream's window.
    """

    over = True  # until there is a connection to leave

    def __init__(self, channel: "Channel", method: str, timeout_s: float) -> None:
        self.failed: errors.BlockyardError | None = None
        self.sent_all = True
        self._channel = channel
        self._method = method
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._tick_s = min(TICK_S, channel.keepalive_s / 2)
        self._farewell = self._discarded = False
        self._held: deque[Frame] = deque()
        self._reading = threading.Lock()
        self._changed = threading.Condition()
        self._sleepers = 0
        self.connection: BlockingConnection = channel.borrow(timeout_s)
        self.over = False
        self.connection.send_within(max(0.001, timeout_s))
        self._call = self.connection.next_call()
        agreement = self.connection.agreement
        assert agreement is not None
        self._receive_window = ReceiveWindow(channel.limits.stream_window)
        self._send_window = SendWindow(agreement.peer.stream_window)

    # ------------------------------------------------------------------------------------------ sending

    def start(self, message: bytes, raw: Payload | None) -> None:
        """Send the call's first frame."""
        deadline_ms = max(1, min(int(self._remaining() * 1000), frame.MAX_VALUE))
        self.send(frame.CALL, message, raw, deadline_ms, method_id(self._method))

    def send(
        self, kind: int, message: bytes = b"", raw: Payload | None = None, value: int = 0, method: int = 0
    ) -> None:
        """Send one frame; an error ends the call."""
        try:
            self.connection.send(kind, self._call, message, raw, method, value)
        except errors.BlockyardError:
            self.leave(reusable=False)
            raise
        except OSError as error:
            raise self.lost(error) from error
        except BaseException:
            self.leave(reusable=False)
            raise

    def await_credit(self) -> None:
        """Wait until one more request may be sent, and count it; raises the call's error when it is over."""
        while not self.over:
            with self._changed:
                if self._send_window.credit > 0:
                    self._send_window.spend()
                    return
            if self._reading.acquire(False):
                try:
                    self._read_ahead()
                finally:
                    self._stop_reading()
            else:
                self._sleep(lambda: self._send_window.credit > 0)
        raise self.failed or errors.Cancelled(f"{self._method}: the call is over")

    def has_answered(self) -> bool:
        """Look at what has arrived while sending: grants are taken, an answer is held for the receiver."""
        if self._reading.acquire(False):
            try:
                if not self._held and self.connection.pending():
                    self._read_ahead()
            except OSError as error:
                raise self.lost(error) from error
            finally:
                self._stop_reading()
        return bool(self._held)

    # ------------------------------------------------------------------------------------------ receiving

    def await_answer(self, timeout_s: float) -> bool:
        """Wait `timeout_s` seconds at most; return whether `next` has something at once. For calls of one thread."""
        deadline = time.monotonic() + timeout_s
        while not (self._held or self.over or self.has_answered()):
            try:
                arrived = self.connection.await_bytes(deadline - time.monotonic())
            except OSError as error:
                raise self.lost(error) from error
            if not arrived:
                return False
        return True

    def next(self, take: Callable[[Item], Any]) -> tuple[Item | None, Any]:
        """Return the next MESSAGE, REPLY or END and what `take` made of it; None when the call is over.

        Raises the call's error, and what `take` raises; both end the call.
        """
        while True:
            if self.over and not self._held:
                if self.failed is not None:
                    raise self.failed
                return None, None
            is_reader = not self._held and self._reading.acquire(False)
            if not is_reader and not self._held:
                self._sleep(lambda: bool(self._held))
                continue
            try:
                item: Item = self._held.popleft() if self._held else self._next_header()
                return item, take(item)
            except errors.BlockyardError as error:
                self.leave(reusable=False)
                raise self.failed or error from None
            except (OSError, FrameError) as error:
                if not self.over:
                    raise self.lost(error) from error
                continue  # another thread has ended the call
            except BaseException:
                self.leave(reusable=False)
                raise
            finally:
                if is_reader:
                    self._stop_reading()

    def taken(self) -> int:
        """The receiver took one message. Return how many to grant now, usually 0."""
        with self._changed:
            return self._receive_window.taken()

    def _read_ahead(self) -> None:
        """Take one frame that has come or will come: a grant, or an answer, which is held for the receiver."""
        try:
            header = self._next_header(once=True)
            if header is not None:
                self._held.append(self.connection.receive_frame(header))
        except errors.BlockyardError:
            raise
        except (OSError, FrameError) as error:
            raise self.lost(error) from error
        except BaseException:
            self.leave(reusable=False)
            raise

    def _next_header(self, once: bool = False) -> Any:
        """Return the header of the next answer; None when `once` is set and another frame came."""
        connection = self.connection
        while True:
            try:
                header = connection.receive_header(min(self._tick_s, max(0.001, self._remaining())))
            except Idle:
                connection.look_for_life(self._channel.keepalive_s)
                continue
            if header.kind in (frame.MESSAGE, frame.REPLY, frame.END):
                if header.kind == frame.MESSAGE:
                    with self._changed:
                        self._receive_window.arrived()
                return header
            self._control(header, connection.receive_message(header))
            if once:
                return None

    def _control(self, header: Header, message: bytes) -> None:
        if header.kind == frame.ERROR:
            self.failed = handshake.error_in(message)
            self.leave(reusable=self.sent_all)
            raise self.failed
        if header.kind == frame.WINDOW:
            with self._changed:
                self._send_window.grant(header.value)
                self._changed.notify_all()
        elif header.kind == frame.PING:
            self.connection.send(frame.PONG, 0)
        elif header.kind == frame.GOAWAY:
            self._farewell = True
        elif header.kind != frame.PONG:
            raise FrameError("protocol", f"frame kind {header.kind} in answer to a call")

    def _stop_reading(self) -> None:
        self._reading.release()
        if self._sleepers:
            with self._changed:
                self._changed.notify_all()
        if self._discarded:
            self._close()

    def _sleep(self, until: Callable[[], bool]) -> None:
        """Wait until something is there, nobody reads any more, or the call is over."""
        with self._changed:
            self._sleepers += 1
            try:
                self._changed.wait_for(
                    lambda: until() or self.over or not self._reading.locked(), max(0.0, self._remaining())
                )
            finally:
                self._sleepers -= 1

    # ------------------------------------------------------------------------------------------ the end

    def cancel(self) -> None:
        """Give the call up, unless it is over; its server is told."""
        if not self.over:
            self._held.clear()
            self.connection.send_if_free(frame.CANCEL, self._call)
            self.leave(reusable=False)

    def lost(self, why: Exception) -> errors.BlockyardError:
        """The connection is no more; return the call's error."""
        if self.failed is None:
            self.failed = (
                self._late()
                if time.monotonic() >= self._deadline
                else errors.ConnectionLost(f"{self._method}: the connection was lost before the end: {why}")
            )
        self.leave(reusable=False)
        return self.failed

    def fail(self, error: errors.BlockyardError) -> None:
        """End the call with `error`, from a thread that does not receive."""
        if not self.over:
            self.failed = self.failed or error
            self.cancel()

    def leave(self, reusable: bool) -> None:
        """The call is over; its connection goes to the next one when it is `reusable`."""
        with self._changed:
            if self.over:
                return
            self.over = True
            self._changed.notify_all()
        self.connection.refuse_descriptors()
        if reusable and not self._farewell:
            self._channel.give_back(self.connection)
        else:
            self._discarded = True
            sever(self.connection.sock)
            self._close()

    def __del__(self) -> None:
        if not self.over:
            self.over = True
            self.connection.close()

    def _close(self) -> None:
        """Close the descriptor, unless a thread is receiving from it: that one does it then."""
        if self._reading.acquire(False):
            try:
                self.connection.close()
            finally:
                self._reading.release()

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            self.failed = self.failed or self._late()
            self.cancel()
            raise self.failed
        return remaining

    def _late(self) -> errors.BlockyardError:
        return errors.DeadlineExceeded(f"{self._method}: not done within {self._timeout_s:g} s")
