"""A blocking call that has a connection of its own: streams, and payload.

Nobody else reads this connection, so payload goes from the socket to the buffer that the caller named, and a caller
that does not read slows its server down by TCP alone.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from blockyard.proto import errors
from blockyard.proto.call import Payload
from blockyard.proto.lane import blocking, frame, payload
from blockyard.proto.lane.blocking import TICK_S, Idle
from blockyard.proto.lane.frame import FrameError, Header
from blockyard.proto.lane.methods import method_id
from blockyard.proto.lane.payload import Into
from blockyard.proto.lane.window import ReceiveWindow, SendWindow
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from blockyard.proto.lane.channel import Channel


class Stream:
    """One call. Iterate over it for its answers; `cancel` it, or use it as a context manager, to leave early.

    One thread may send while another receives.
    """

    def __init__(
        self,
        channel: "Channel",
        method: str,
        serialize: Callable[[Any], bytes],
        deserialize: Callable[[bytes], Any],
        timeout_s: float,
        into: Into | None,
    ) -> None:
        self._channel = channel
        self._method = method
        self._serialize = serialize
        self._deserialize = deserialize
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._into = into
        self._connection = channel.borrow()
        self._call = self._connection.next_call()
        agreement = self._connection.agreement
        assert agreement is not None
        self._receive_window = ReceiveWindow(channel.limits.stream_window)
        self._send_window = SendWindow(agreement.peer.stream_window)
        self._may_send = threading.Condition()
        self._send_lock = threading.Lock()
        self._over = False
        self._failed: errors.BlockyardError | None = None
        self._sent_all = True
        self._reader: int | None = None
        self._kept: Header | None = None

    # ------------------------------------------------------------------------------------------ sending

    def start(self, request: Any, raw: Payload | None = None) -> None:
        """Start the call with its only request."""
        self._start(self._serialize(request), raw)

    def start_stream(self) -> None:
        """Start the call; its requests follow by `send`."""
        self._sent_all = False
        self._start(b"", None)

    def send(self, request: Any, raw: Payload | None = None) -> None:
        """Send one request message and its payload; waits while the server grants no more. Raises the call's error."""
        self._await_credit()
        self._send(frame.MESSAGE, self._serialize(request), raw)

    def done_sending(self) -> None:
        """Say that no more requests come."""
        if not self._over:
            self._send(frame.END, b"", None)
            self._sent_all = True

    def send_all(self, requests: Iterable[Any]) -> None:
        """Send every request, then say so. A server that has answered already wants no more of them."""
        for request in requests:
            if self._over or (self._connection.pending() and self._answered()):
                break
            self.send(request)
        self.done_sending()

    def send_all_quietly(self, requests: Iterable[Any]) -> None:
        """Send every request from a thread of its own; what goes wrong reaches the thread that receives."""
        try:
            for request in requests:
                if self._over:
                    return
                self.send(request)
            self.done_sending()
        except errors.BlockyardError as error:
            self._failed = self._failed or error
            blocking.sever(self._connection.sock)
        except Exception as error:  # noqa: BLE001 - the caller's iterator raised; its other thread is told
            self._failed = errors.from_exception(error)
            blocking.sever(self._connection.sock)

    def _await_credit(self) -> None:
        while self._send_window.credit == 0 and not self._over:
            if self._reader_elsewhere():
                with self._may_send:
                    self._may_send.wait_for(lambda: self._send_window.credit > 0 or self._over, self._remaining())
            else:
                self._next_header(answers=False)
            self._remaining()
        if self._over:
            raise self._failed or errors.Cancelled(f"{self._method}: the call is over")
        self._send_window.spend()

    def _reader_elsewhere(self) -> bool:
        return self._reader is not None and self._reader != threading.get_ident()

    def _answered(self) -> bool:
        """Look at what has arrived while sending: grants are taken, an answer is kept for `receive`."""
        return self._next_header(answers=False) is not None

    def _start(self, message: bytes, raw: Payload | None) -> None:
        deadline_ms = max(1, min(int(self._remaining() * 1000), frame.MAX_VALUE))
        self._send(frame.CALL, message, raw, deadline_ms, method_id(self._method))

    def _send(self, kind: int, message: bytes, raw: Payload | None, value: int = 0, method: int = 0) -> None:
        try:
            with self._send_lock:
                self._connection.send(kind, self._call, message, raw, method, value)
        except errors.BlockyardError:
            self._leave(reusable=False)
            raise
        except OSError as error:
            raise self._lost(str(error)) from error

    # ------------------------------------------------------------------------------------------ receiving

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        message = self.receive()
        if message is None:
            raise StopIteration
        return message

    def receive(self) -> Any:
        """Return the next answer, None after the last; raises the call's error."""
        if self._failed is not None:
            raise self._failed
        if self._over:
            return None
        self._reader = threading.get_ident()
        header = self._next_header(answers=True)
        assert header is not None
        if header.kind == frame.END:
            self._leave(reusable=self._sent_all)
            return None
        message = self._take(header)
        grant = self._receive_window.taken()
        if grant:
            self._send(frame.WINDOW, b"", None, grant)
        return message

    def receive_reply(self) -> Any:
        """Return the only answer of a call that answers once."""
        if self._failed is not None:
            raise self._failed
        header = self._next_header(answers=True)
        assert header is not None
        if header.kind != frame.REPLY:
            raise self._lost(f"frame kind {header.kind} where a reply was due")
        message = self._take(header)
        self._leave(reusable=self._sent_all)
        return message

    def cancel(self) -> None:
        """Give the call up; its server is told."""
        if not self._over:
            try:
                with self._send_lock:
                    self._connection.send(frame.CANCEL, self._call)
            except OSError:
                pass  # the server is gone, which ends the call as well
            self._leave(reusable=False)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def __del__(self) -> None:
        if not self._over:
            self._over = True
            self._connection.close()

    def _next_header(self, answers: bool) -> Header | None:
        """Return the header of the next answer; with `answers` false, only look at one frame and keep an answer."""
        if self._kept is not None:
            header, self._kept = self._kept, None if answers else self._kept
            return header
        connection = self._connection
        while True:
            try:
                header = connection.receive_header(min(TICK_S, max(0.001, self._remaining())))
                if header.kind in (frame.MESSAGE, frame.REPLY, frame.END):
                    if not answers:
                        self._kept = header
                    return header
                self._control(header, connection.receive_message(header))
            except Idle:
                continue
            except errors.BlockyardError:
                raise
            except (OSError, FrameError) as error:
                raise self._lost(str(error)) from error
            if not answers:
                return None

    def _control(self, header: Header, message: bytes) -> None:
        if header.kind == frame.ERROR:
            self._failed = blocking.error_in(message)
            self._leave(reusable=False)
            raise self._failed
        if header.kind == frame.WINDOW:
            with self._may_send:
                self._send_window.grant(header.value)
                self._may_send.notify_all()
        elif header.kind == frame.PING:
            with self._send_lock:
                self._connection.send(frame.PONG, 0)

    def _take(self, header: Header) -> Any:
        """Receive the message of an answer, and its payload to where the caller wants it."""
        connection = self._connection
        try:
            data = connection.receive_message(header)
            message = self._deserialize(data)
            if header.payload_bytes:
                self._take_payload(message, header.payload_bytes)
        except DecodeError as error:
            self._leave(reusable=False)
            raise errors.MalformedReply(f"{self._method}: the reply does not parse") from error
        except errors.BlockyardError:
            self._leave(reusable=False)
            raise
        except OSError as error:
            raise self._lost(str(error)) from error
        if header.kind == frame.MESSAGE:
            self._receive_window.arrived()
        return message

    def _take_payload(self, message: Any, length: int) -> None:
        if self._into is not None:
            self._connection.receive_payload(length, payload.choose(self._into, message, length))
            return
        data = bytearray(length)
        self._connection.receive_payload(length, data)
        message.data = bytes(data)

    # ------------------------------------------------------------------------------------------ the end

    def _remaining(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            self.cancel()
            self._failed = errors.DeadlineExceeded(f"{self._method}: not done within {self._timeout_s:g} s")
            raise self._failed
        return remaining

    def _lost(self, why: str) -> errors.BlockyardError:
        self._leave(reusable=False)
        lost = errors.ConnectionLost(f"{self._method}: the connection was lost before the end: {why}")
        self._failed = self._failed or lost
        return self._failed

    def _leave(self, reusable: bool) -> None:
        if self._over:
            return
        self._over = True
        with self._may_send:
            self._may_send.notify_all()
        if reusable:
            self._channel.give_back(self._connection)
        else:
            self._connection.close()
