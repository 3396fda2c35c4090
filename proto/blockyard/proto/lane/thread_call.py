"""One call on a thread-per-connection server: what its servicer sees (`CallContext`), and its frames."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from blockyard.proto import errors
from blockyard.proto.call import Reply
from blockyard.proto.lane import frame, payload
from blockyard.proto.lane.aio_call import parse
from blockyard.proto.lane.blocking import STALL_S, TICK_S, BlockingConnection, Idle, peer_name
from blockyard.proto.lane.frame import Header
from blockyard.proto.lane.methods import Method
from blockyard.proto.lane.payload import CheckedBuffer
from blockyard.proto.lane.window import ReceiveWindow, SendWindow

if TYPE_CHECKING:
    from typing_extensions import Buffer


MAX_KEPT_BYTES = 64 << 20
"""Most request bytes held for a servicer that waits to send an answer."""


class CallOver(Exception):
    """The caller has given the call up: nothing more is to be answered."""


class ThreadCall:
    """A call under way, used by its connection's thread only.

    Invariant: payload that the servicer did not take is read and dropped before the next frame is read.
    """

    def __init__(self, connection: BlockingConnection, method: Method, header: Header, window: int) -> None:
        assert connection.agreement is not None
        self.connection = connection
        self.method = method
        self.id = header.call
        self._header = header
        self._started_at = time.monotonic()
        self._deadline_at = self._started_at + header.value / 1000 if header.value else None
        self._callbacks: list[Callable[[], None]] = []
        self._over = False
        self._on_wire = 0
        self._in_message: Buffer = b""
        self._kept: deque[tuple[Header, bytes, bytes]] = deque()
        self._kept_bytes = 0
        self._receive_window = ReceiveWindow(window)
        self._send_window = SendWindow(connection.agreement.peer.stream_window)

    # ------------------------------------------------------------------------------------------ CallContext

    def time_remaining(self) -> float | None:
        return None if self._deadline_at is None else max(0.0, self._deadline_at - time.monotonic())

    def peer(self) -> str:
        return peer_name(self.connection.sock)

    def cancelled(self) -> bool:
        return self._over

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        if self._over:
            callback()
        else:
            self._callbacks.append(callback)

    @property
    def payload_length(self) -> int:
        return self._on_wire or memoryview(self._in_message).nbytes

    def receive_into(self, buffer: "Buffer | CheckedBuffer") -> int:
        length = self.payload_length
        if self._on_wire:
            self._on_wire = 0
            self.connection.receive_payload(length, buffer)
        else:
            taken, self._in_message = self._in_message, b""
            payload.fill(buffer, taken)
        return length

    # ------------------------------------------------------------------------------------------ requests

    def request(self) -> Any:
        """Return the request of a call that has one; raises MalformedRequest."""
        return self._message(self._header)

    def requests(self) -> Iterator[Any]:
        """Iterate over the requests of a call that has many; raises CallOver when the caller gives up."""
        self.connection.receive_message(self._header)
        while True:
            self.drain()
            header, *held = self._kept.popleft() if self._kept else (self._next(),)
            if header.kind == frame.END:
                return
            message = self._held(*held) if held else self._message(header)
            grant = self._receive_window.taken()
            if grant:
                self.connection.send(frame.WINDOW, self.id, value=grant)
            yield message

    def _message(self, header: Header) -> Any:
        data = self.connection.receive_message(header)
        self._on_wire = header.payload_bytes
        message = parse(self.method, data)
        if self.method.request_payload:
            self._in_message = message.data if not self._on_wire else b""
        elif self._on_wire:
            raise errors.MalformedRequest(f"{self.method.name} takes no payload; {self._on_wire:,} bytes came")
        return message

    def _held(self, data: bytes, raw: bytes) -> Any:
        self._kept_bytes -= len(data) + len(raw)
        message = parse(self.method, data)
        self._in_message = raw or (message.data if self.method.request_payload else b"")
        return message

    def _keep(self, header: Header) -> None:
        """Hold a request that came while an answer waits for credit; what is held is bounded."""
        self._kept_bytes += header.message_bytes + header.payload_bytes
        if self._kept_bytes > MAX_KEPT_BYTES:
            raise errors.Overloaded(f"{self.method.name}: read the answers before sending more")
        data, raw = self.connection.receive_message(header), bytearray(header.payload_bytes)
        self.connection.receive_payload(header.payload_bytes, raw)
        self._kept.append((header, data, bytes(raw)))

    def drain(self) -> None:
        """Read and drop payload that nobody took."""
        left, self._on_wire = self._on_wire, 0
        if left:
            self.connection.receive_payload(left, None)

    def _next(self) -> Header:
        """Return the next MESSAGE or END of this call, dealing with what may come in between."""
        while True:
            try:
                header = self.connection.receive_header(TICK_S)
            except Idle:
                self._check_deadline()
                continue
            if header.kind in (frame.MESSAGE, frame.END):
                self._count(header)
                return header
            self._control(header)

    def _count(self, header: Header) -> None:
        if header.kind == frame.MESSAGE:
            self._receive_window.arrived()

    def _control(self, header: Header) -> None:
        if header.kind in (frame.MESSAGE, frame.END) and self.method.request_streaming:
            self._count(header)
            self._keep(header)
            return
        self.connection.receive_message(header)
        if header.kind == frame.CANCEL:
            raise CallOver
        if header.kind == frame.WINDOW:
            self._send_window.grant(header.value)
        elif header.kind == frame.PING:
            self.connection.send(frame.PONG, 0, value=header.value)
        elif header.kind != frame.PONG:
            raise frame.FrameError("protocol", f"frame kind {header.kind} in the middle of a call", header.call)

    def _check_deadline(self) -> None:
        if self._deadline_at is not None and time.monotonic() >= self._deadline_at:
            raise errors.DeadlineExceeded(f"{self.method.name} did not end before its deadline")

    # ------------------------------------------------------------------------------------------ answers

    def await_credit(self) -> None:
        """Wait until one more answer may be sent, and count it; raises CallOver when the caller gives up."""
        self._check_deadline()
        waited_from = time.monotonic()
        while self._send_window.credit == 0 or (not self.method.request_streaming and self.connection.pending()):
            try:
                self._control(self.connection.receive_header(TICK_S))
            except Idle:
                self._check_deadline()
                if time.monotonic() - waited_from > STALL_S:
                    raise ConnectionError(f"the caller took no answers for {STALL_S:g} s") from None
        self._send_window.spend()

    def send(self, kind: int, result: Any) -> None:
        """Send one answer with its payload; raises TooLarge before anything leaves when the caller would refuse it."""
        message, raw = (result.message, result.payload) if isinstance(result, Reply) else (result, None)
        try:
            self.connection.send(kind, self.id, self.method.serialize(message), raw)
        except errors.CorruptBlock as error:
            raise ConnectionError(f"the frame could not be completed: {error}") from error

    def finish(self, outcome: str) -> None:
        """The call is over, as `outcome` says: count it, and tell who asked to be told."""
        self._over = True
        self.method.metrics.done(time.monotonic() - self._started_at, outcome)
        for callback in self._callbacks:
            callback()
