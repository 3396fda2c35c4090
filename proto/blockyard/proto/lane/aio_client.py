"""One client connection of the lane on an event loop: calls in flight, frames that arrive, deadlines, keep-alive."""

import asyncio
import time
import weakref
from typing import Any, Protocol, cast

from blockyard.proto import errors
from blockyard.proto.call import Payload
from blockyard.proto.lane import frame, handshake, payload, sockets
from blockyard.proto.lane.frame import Frame, FrameDecoder, FrameError, Limits
from blockyard.proto.lane.handshake import Agreement, error_in
from blockyard.proto.lane.payload import Into
from google.protobuf.message import DecodeError

SWEEP_S = 0.01
"""How often deadlines and the peer's life are looked at: a deadline is kept to this precision."""


class StreamReceiver(Protocol):
    """A call with streams, as its connection knows it."""

    is_answered_by_many: bool

    def arrived(self, item: Frame) -> None:
        """A frame of this call came; raises FrameError when it may not come."""

    def failed(self, error: errors.BlockyardError) -> None:
        """The call ended badly."""


class PendingCall:
    """A call under way, as its connection knows it."""

    __slots__ = ("deadline_at", "deserialize", "future", "into", "stream")

    def __init__(
        self,
        deadline_at: float,
        deserialize: Any,
        future: asyncio.Future[Any],
        into: Into | None,
        stream: "weakref.ref[StreamReceiver] | None",
    ) -> None:
        self.deadline_at = deadline_at
        self.deserialize = deserialize
        self.future = future
        self.into = into
        self.stream = stream


class ClientConnection(asyncio.Protocol):
    """One connection to a server. `usable` turns false once it is lost or the server asked to leave.

    Streams are held weakly: one that its user dropped is given up by its own end.
    """

    def __init__(self, address: str, limits: Limits, keepalive_s: float) -> None:
        self.usable = False
        self.writable = asyncio.Event()
        self.writable.set()
        self._address = address
        self._limits = limits
        self._keepalive_s = keepalive_s
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self._decoder = FrameDecoder(limits)
        self.agreement: Agreement | None = None
        self._calls: dict[int, PendingCall] = {}
        self._last_call = 0
        self._lost = False
        self._out: list[bytes] = []
        self._flush_scheduled = False
        self._heard_at = self._pinged_at = time.monotonic()
        self._sweeper: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------------------------------ from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sockets.tune(transport.get_extra_info("socket"), sockets.STALL_S)
        self._transport.set_write_buffer_limits(high=0)  # what is written leaves at once, if the kernel has room
        self._transport.write(handshake.hello(self._limits))
        self._sweep()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lose(str(exc) if exc else "the peer closed it")

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        try:
            for item in self._decoder.feed(data):
                if self.agreement is None:
                    self._shake_hands(item)
                elif item[0] == frame.REPLY:
                    self._reply(item)
                else:
                    self._receive(item)
        except FrameError as error:
            self.lose(str(error))
        if self._decoder.error is not None:
            self.lose(str(self._decoder.error))

    # ------------------------------------------------------------------------------------------ calls

    def call(
        self, method: int, message: bytes, raw: Payload | None, timeout_s: float, deserialize: Any, into: Into | None
    ) -> asyncio.Future[Any]:
        """Make a unary call; the future's cancellation gives it up."""
        future: asyncio.Future[Any] = self._loop.create_future()
        try:
            call_id = self.start(
                method, message, raw, PendingCall(time.monotonic() + timeout_s, deserialize, future, into, None)
            )
        except Exception as error:  # noqa: BLE001 - the future carries it: too large, too many, no payload
            future.set_exception(error)
            return future
        future.add_done_callback(lambda done: self.give_up(call_id) if done.cancelled() else None)
        return future

    def start(self, method: int, message: bytes, raw: Payload | None, call: PendingCall) -> int:
        """Send the first frame of a call and return its number; raises TooLarge and Overloaded before it leaves."""
        assert self.agreement is not None
        data = b"" if raw is None else payload.read_all(raw)
        length = len(data)
        handshake.check_outgoing(self.agreement.peer, len(message), length)
        if len(self._calls) >= self.agreement.peer.max_calls:
            raise errors.Overloaded(f"{len(self._calls)} calls are under way on this connection", retry_after_ms=10)
        self._last_call = call_id = self._last_call + 1
        self._calls[call_id] = call
        value = max(1, min(int((call.deadline_at - time.monotonic()) * 1000), frame.MAX_VALUE))
        self.queue(frame.encode(frame.CALL, call_id, message, length, method, value))
        if length:
            self.queue(data)
        return call_id

    def give_up(self, call_id: int) -> None:
        """The caller wants no answer any more."""
        if self._calls.pop(call_id, None) is not None:
            self.queue(frame.encode(frame.CANCEL, call_id))

    def queue(self, data: bytes) -> None:
        """Send `data` with everything else that leaves in this turn of the loop."""
        self._out.append(data)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self.flush)

    def lose(self, why: str) -> None:
        """The connection is no more: every call under way may have happened."""
        self.usable = False
        self._lost = True
        self.writable.set()
        if not self.ready.done():
            self.ready.set_exception(errors.Unavailable(f"{self._address}: {why}", self._address))
            self.ready.exception()
        if self._sweeper is not None:
            self._sweeper.cancel()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            self._fail(call, errors.ConnectionLost(f"the connection was lost before the answer: {why}"))
        self._transport.abort()  # a peer that takes nothing would keep a polite close waiting for ever

    # ------------------------------------------------------------------------------------------ frames that arrive

    def _shake_hands(self, item: Frame) -> None:
        if self._lost:
            return
        try:
            if item.kind == frame.GOAWAY:
                raise error_in(item.message)
            self.agreement = handshake.agree(item.kind, item.message)
        except errors.BlockyardError as error:
            if not self.ready.done():
                self.ready.set_exception(error)
            self.lose(str(error))
            return
        self.usable = True
        self.ready.set_result(None)

    def _reply(self, item: Frame) -> None:
        call = self._calls.pop(item[2], None)
        if call is None or call.future.done():
            return
        stream = None if call.stream is None else call.stream()
        if stream is not None and stream.is_answered_by_many:
            stream.failed(errors.MalformedReply("a single reply came where a stream of answers is due"))
            return
        try:
            message = read_message(call.deserialize, item, call.into)
        except Exception as error:  # noqa: BLE001 - what the caller's buffer or function raised is the caller's
            call.future.set_exception(error)
        else:
            call.future.set_result(message)

    def _receive(self, item: Frame) -> None:
        if item.kind == frame.GOAWAY:
            self.usable = False
            return
        if item.kind == frame.PING:
            self.queue(frame.encode(frame.PONG, 0, value=item.value))
            return
        if item.kind in (frame.HELLO, frame.CALL, frame.CANCEL):
            raise FrameError("protocol", f"frame kind {item.kind} from a server")
        call = self._calls.get(item.call)
        if call is None:
            return
        if item.kind == frame.ERROR:
            del self._calls[item.call]
            self._fail(call, error_in(item.message))
        elif item.kind != frame.PONG:
            if call.stream is None:
                raise FrameError("protocol", f"frame kind {item.kind} in answer to a plain call")
            stream = call.stream()
            if stream is not None:
                stream.arrived(item)
            if item.kind == frame.END:
                self._calls.pop(item.call, None)

    def _fail(self, call: PendingCall, error: errors.BlockyardError) -> None:
        stream = None if call.stream is None else call.stream()
        if stream is not None:
            stream.failed(error)
        if not call.future.done():
            call.future.set_exception(error)

    # ------------------------------------------------------------------------------------------ time

    def _sweep(self) -> None:
        now = time.monotonic()
        late = [(call_id, call) for call_id, call in self._calls.items() if now >= call.deadline_at]
        for call_id, call in late:
            self.give_up(call_id)
            self._fail(call, errors.DeadlineExceeded("no answer before the deadline"))
        self._keep_alive(now)
        if not self.usable and self.agreement is not None and not self._calls:
            self.lose("the server asked to leave")
        if not self._lost:
            self._sweeper = self._loop.call_later(SWEEP_S if self._calls else 10 * SWEEP_S, self._sweep)

    def _keep_alive(self, now: float) -> None:
        if self._pinged_at > self._heard_at:
            if now - self._pinged_at > self._keepalive_s:
                self.lose(f"the peer gave no sign of life for {now - self._heard_at:.1f} s")
        elif now - self._heard_at > self._keepalive_s:
            self._pinged_at = now
            self.queue(frame.encode(frame.PING, 0))

    def flush(self) -> None:
        """Hand what is queued to the transport."""
        self._flush_scheduled = False
        if self._out and not self._lost:
            out, self._out = self._out, []
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))


def read_message(deserialize: Any, item: Frame, into: Into | None) -> Any:
    """Parse the message of a frame and put its payload where the caller wants it; raises BlockyardError."""
    try:
        message = deserialize(item.message)
    except DecodeError as error:
        raise errors.MalformedReply("the reply does not parse") from error
    if item.payload:
        if into is None:
            payload.land(message, item.payload)
        else:
            sink = payload.choose(into, message, len(item.payload))
            if sink is not None:
                payload.fill(sink, item.payload)
    return message
