"""One call on a thread-per-connection server: what its servicer sees (`CallContext`), and its frames."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from blockyard.proto import errors, logs
from blockyard.proto.call import Reply
from blockyard.proto.lane import frame, payload
from blockyard.proto.lane.aio_call import parse
from blockyard.proto.lane.backlog import Backlog
from blockyard.proto.lane.blocking import TICK_S, BlockingConnection, Idle
from blockyard.proto.lane.frame import Frame, FrameError, Header
from blockyard.proto.lane.methods import Method
from blockyard.proto.lane.payload import CheckedBuffer
from blockyard.proto.lane.sockets import peer_name
from blockyard.proto.lane.window import ReceiveWindow, SendWindow

if TYPE_CHECKING:
    from typing_extensions import Buffer

_log = logs.get(__name__)


class CallOver(Exception):
    """The caller has given the call up: nothing more is to be answered."""


class ThreadCall:
    """A call under way, used by its connection's thread only.

    Invariant: payload that the servicer did not take is read and dropped before the next frame is read: so it is taken
    before the first answer of a stream is given and before the next request is asked for.
    """

    def __init__(
        self, connection: BlockingConnection, method: Method, item: Header | Frame, window: int, backlog: Backlog
    ) -> None:
        assert connection.agreement is not None
        self.connection = connection
        self.method = method
        self.id = item.call
        self._item = item
        self._started_at = time.monotonic()
        self._deadline_at = self._started_at + item.value / 1000 if item.value else None
        self._callbacks: list[Callable[[], None]] = []
        self._over = False
        self._cancelled = False
        self._requests_ended = not method.request_streaming
        self._on_wire = 0
        self._in_message: Buffer = b""
        self._backlog = backlog
        self._receive_window = ReceiveWindow(window)
        self._send_window = SendWindow(connection.agreement.peer.stream_window)

    # ------------------------------------------------------------------------------------------ CallContext

    def time_remaining(self) -> float | None:
        return None if self._deadline_at is None else max(0.0, self._deadline_at - time.monotonic())

    def peer(self) -> str:
        return peer_name(self.connection.sock)

    def cancelled(self) -> bool:
        """Looks at what the caller has sent meanwhile: another thread does not do that for a servicer."""
        try:
            while self._may_look() and self.connection.pending():
                self._control(self.connection.receive_header(TICK_S))
        except (CallOver, Idle):
            pass  # it has said so; or there was less than a frame
        except (OSError, FrameError) as error:
            self.connection.out_of_step(error)
            self._cancelled = True
        return self._over or self._cancelled

    def _may_look(self) -> bool:
        """Whether what comes next on the wire is nothing that the servicer will ask for."""
        return self._requests_ended and not (self._over or self._cancelled or self._on_wire)

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        if self._over:
            callback()
        else:
            self._callbacks.append(callback)

    @property
    def passes_descriptors(self) -> bool:
        return self.connection.is_local

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
        return self._message(self._item)

    def requests(self) -> Iterator[Any]:
        """Iterate over the requests of a call that has many; raises CallOver when the caller gives up."""
        if isinstance(self._item, Header):
            self.connection.skip_frame(self._item)
        for waiting in self._backlog.frames(self.id):
            self._count(waiting)
        while True:
            self.drain()
            item = self._next()
            if item.kind == frame.END:
                return
            message = self._message(item)
            grant = self._receive_window.taken()
            if grant:
                self.connection.send(frame.WINDOW, self.id, value=grant)
            yield message

    def _message(self, item: Header | Frame) -> Any:
        if isinstance(item, Frame):
            data, self._in_message = item.message, item.payload
        else:
            data, self._in_message = self.connection.receive_message(item), b""
            self._on_wire = item.payload_bytes
        message = parse(self.method, data)
        if not self.method.request_payload:
            if item.payload_bytes:
                raise errors.MalformedRequest(f"{self.method.name} takes no payload; {item.payload_bytes:,} bytes came")
        elif not item.payload_bytes:
            self._in_message = message.data
        return message

    def drain(self) -> None:
        """Read and drop payload that nobody took."""
        left, self._on_wire = self._on_wire, 0
        if left:
            self.connection.receive_payload(left, None)

    def _next(self) -> Header | Frame:
        """Return the next MESSAGE or END of this call, dealing with what may come in between."""
        while True:
            self._check_cancelled()
            held = self._backlog.take(self.id)
            if held is not None:
                return held
            try:
                header = self.connection.receive_header(self._patience_s())
            except Idle:
                self._check_deadline()
                continue
            if header.call == self.id and header.kind in (frame.MESSAGE, frame.END):
                self._count(header)
                return header
            self._control(header)

    def _count(self, header: Header | Frame) -> None:
        if self._requests_ended:
            raise self.connection.out_of_step(FrameError("protocol", "a request after the last", self.id))
        if header.kind == frame.END:
            self._requests_ended = True
            return
        try:
            self._receive_window.arrived()
        except FrameError as error:
            error.call = self.id
            raise self.connection.out_of_step(error) from None

    def _control(self, header: Header) -> None:
        """Deal with a frame that is not what the servicer waits for."""
        connection, kind = self.connection, header.kind
        if kind in (frame.PING, frame.PONG, frame.GOAWAY):
            connection.skip_frame(header)
            if kind == frame.PING:
                connection.send(frame.PONG, 0, value=header.value)
        elif header.call != self.id:
            self._of_another_call(header)
        elif kind in (frame.MESSAGE, frame.END):
            self._count(header)
            self._hold(header)
        elif kind == frame.WINDOW:
            connection.skip_frame(header)
            self._send_window.grant(header.value)
        elif kind == frame.CANCEL:
            connection.skip_frame(header)
            self._cancelled = True
            raise CallOver
        else:
            reason = "call" if kind == frame.CALL else "protocol"
            raise connection.out_of_step(FrameError(reason, f"frame kind {kind} within a call", header.call))

    def _of_another_call(self, header: Header) -> None:
        """Later calls wait; what belongs to calls that are over is dropped."""
        connection, backlog = self.connection, self._backlog
        if header.kind == frame.CANCEL:
            backlog.drop(header.call)
        if header.kind == frame.CALL or (header.kind in (frame.MESSAGE, frame.END) and backlog.has(header.call)):
            try:
                self._hold(header)
            except errors.Overloaded as error:
                backlog.drop(header.call)
                connection.send(frame.ERROR, header.call, errors.to_detail(error).SerializeToString())
        else:
            connection.skip_frame(header)

    def _hold(self, header: Header) -> None:
        """Keep a frame for later; raises Overloaded, the frame dropped, when there is no room."""
        try:
            self._backlog.check_room(header)
        except errors.Overloaded:
            self.connection.skip_frame(header)
            raise
        item = self.connection.receive_frame(header)
        try:
            self._backlog.hold(item)
        except FrameError as error:
            raise self.connection.out_of_step(error) from None

    def _check_cancelled(self) -> None:
        if self._cancelled:
            raise CallOver

    def _check_deadline(self) -> None:
        if self._deadline_at is not None and time.monotonic() >= self._deadline_at:
            raise errors.DeadlineExceeded(f"{self.method.name} did not end before its deadline")

    def _patience_s(self) -> float:
        """How long to wait before deadlines are looked at; mostly the same, so that the kernel need not be told."""
        if self._deadline_at is None:
            return TICK_S
        return min(TICK_S, max(0.001, self._deadline_at - time.monotonic()))

    # ------------------------------------------------------------------------------------------ answers

    def await_credit(self, stall_s: float) -> None:
        """Wait until one more answer may be sent, and count it; raises CallOver when the caller gives up."""
        self._check_cancelled()
        self._check_deadline()
        self.drain()
        waited_from = time.monotonic()
        while self._send_window.credit == 0 or (self._requests_ended and self.connection.pending()):
            try:
                self._control(self.connection.receive_header(self._patience_s()))
            except Idle:
                self._check_deadline()
                if time.monotonic() - waited_from > stall_s:
                    stalled = FrameError("stalled", f"the caller took no answers for {stall_s:g} s", self.id)
                    raise self.connection.out_of_step(stalled) from None
        self._send_window.spend()

    def send(self, kind: int, result: Any) -> None:
        """Send one answer with its payload; raises TooLarge before anything leaves when the caller would refuse it."""
        message, raw, descriptor = (result, None, None)
        if isinstance(result, Reply):
            message, raw, descriptor = result.message, result.payload, result.descriptor
        self._check_cancelled()
        self.connection.send(kind, self.id, self.method.serialize(message), raw, descriptor=descriptor)

    def finish(self, outcome: str) -> None:
        """The call is over, as `outcome` says: count it, and tell who asked to be told."""
        self._over = True
        self._backlog.drop(self.id)
        self.method.metrics.done(time.monotonic() - self._started_at, outcome)
        for callback in self._callbacks:
            try:
                callback()
            except Exception:  # noqa: BLE001 - a servicer's; the others run all the same
                _log.exception("done_callback_failed", method=self.method.name)
