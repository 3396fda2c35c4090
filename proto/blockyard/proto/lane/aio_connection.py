"""One client's connection to the event-loop server.

A request that arrives is parsed and handed to its servicer within the callback that received it; an answer that is
ready at once leaves in the same callback, together with all others that are. Answers that come later leave together
once per turn of the loop. No task is made for a call whose servicer answers with a message or a future.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from blockyard.proto import errors, logs
from blockyard.proto.call import Deferred, Reply
from blockyard.proto.lane import aio_answers, frame, handshake, payload, sockets
from blockyard.proto.lane.aio_call import AioCall, RequestStream
from blockyard.proto.lane.aio_output import Output
from blockyard.proto.lane.frame import Frame, FrameDecoder, FrameError
from blockyard.proto.lane.handshake import Agreement
from blockyard.proto.metrics import OK
from google.protobuf.message import Message

if TYPE_CHECKING:
    from blockyard.proto.lane.aio_server import AioServer

HELLO_TIMEOUT_S = 10.0
_log = logs.get(__name__)


class Connection(asyncio.Protocol):
    """One client's connection.

    Invariant: while the caller takes no answers none of its frames is acted on, so what waits for it is bounded; after
    `close` none is either.
    """

    def __init__(self, server: "AioServer") -> None:
        self.server = server
        self.calls: dict[int, AioCall] = {}
        self.peer = "?"
        self.loop = asyncio.get_running_loop()
        self._decoder = FrameDecoder(server.limits)
        self._agreement: Agreement | None = None
        self._unread: deque[Frame] = deque()
        self._halted = False
        self._opened_at = time.monotonic()
        self._stalled_since: float | None = None
        self._methods, self._metrics = server.methods, server.metrics
        self._max_calls = server.limits.max_calls

    # ------------------------------------------------------------------------------------------ from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix"
        sockets.tune(transport.get_extra_info("socket"), self.server.stall_s)
        self._transport.set_write_buffer_limits(high=0)  # what is written leaves at once, if the kernel has room
        self.output = Output(self._transport, self._metrics, self.server.outbox)
        self.queue = self.output.queue
        self.server.connections.add(self)
        self._metrics.opened()
        self.queue(handshake.hello(self.server.limits))
        if self.server.closing:
            self.go_away()
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._metrics.closed()
        self._halted = True
        self.output.ended()
        for call in list(self.calls.values()):
            self._end(call, "ConnectionLost")
        self.server.left(self)

    def pause_writing(self) -> None:
        self._halted = True
        self.output.pause()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self.output.writable.set()
        self.loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self.output.closed_at is None and self.output.writable.is_set():
            self._halted = False
            unread, self._unread = self._unread, deque()
            self._act_on(unread)
            if not self._halted:
                self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._metrics.received_bytes += len(data)
        self._act_on(self._decoder.feed(data))

    def _act_on(self, items: Iterable[Frame]) -> None:
        self.output.hold()
        self._stalled_since = None
        arrived = iter(items)
        if not self._halted:
            for item in arrived:
                self._receive(item)
                if self._halted:
                    break
        if self._halted:
            if self.output.closed_at is None:
                self._unread.extend(arrived)
        elif self._decoder.error is not None:
            self._refuse(self._decoder.error)
        elif self._decoder.unfinished:
            self._stalled_since = time.monotonic()
        self.output.release()

    # ------------------------------------------------------------------------------------------ frames that arrive

    def _receive(self, item: Frame) -> None:
        kind = item[0]
        if self._agreement is None:
            self._shake_hands(item)
        elif kind == frame.CALL:
            self._start(item)
        elif kind == frame.PING:
            self.queue(frame.encode(frame.PONG, 0, value=item.value))
        elif kind == frame.PONG:
            pass
        else:
            self._for_call(item)

    def _shake_hands(self, item: Frame) -> None:
        try:
            self._agreement = handshake.agree(item.kind, item.message)
        except errors.BlockyardError as error:
            self._metrics.refused("handshake")
            self.queue(frame.encode(frame.GOAWAY, 0, errors.to_detail(error).SerializeToString()))
            self.close()

    def _start(self, item: Frame) -> None:
        _, identifier, call_id, deadline_ms, message, raw = item
        method = self._methods.get(identifier)
        if method is None:
            self._metrics.refused("unknown_method")
            self._fail(call_id, errors.UnknownMethod(f"no method with the lane id {identifier:#x} here"))
            return
        if call_id in self.calls or call_id == 0:
            self._refuse(FrameError("call", f"call {call_id} is under way already, or no number of a call", call_id))
            return
        call = AioCall(self, call_id, method, deadline_ms)
        if len(self.calls) >= self._max_calls or self.server.closing:
            self._settle_error(call, self._no_room())
            return
        try:
            if method.request_streaming:
                call.requests = RequestStream(call, self.server.limits.stream_window)
                result = method.behaviour(call.requests, call)
            else:
                result = method.behaviour(call.message(message, raw), call)
            if not isinstance(result, Message) or method.response_streaming:
                assert self._agreement is not None
                aio_answers.begin(self, call, result, self._agreement.peer.stream_window)
                return
        except Exception as error:  # noqa: BLE001 - a servicer's boundary: whatever it raised becomes the call's error
            self._settle_error(call, self._read(call, error))
            return
        self._settle(call, result)

    def _no_room(self) -> errors.BlockyardError:
        if self.server.closing:
            return handshake.farewell()
        return errors.Overloaded(f"{self._max_calls} calls are under way on this connection", retry_after_ms=10)

    def _for_call(self, item: Frame) -> None:
        kind, call = item.kind, self.calls.get(item.call)
        if call is None and kind not in (frame.HELLO, frame.REPLY, frame.ERROR):
            return  # its answer and this frame crossed
        if call is not None and kind == frame.CANCEL:
            self._end(call, "Cancelled")
        elif call is not None and kind == frame.WINDOW and call.window is not None:
            call.window.grant(item.value)
        elif call is not None and kind in (frame.MESSAGE, frame.END) and call.requests is not None:
            try:
                call.requests.put(item)
            except FrameError as error:
                self._refuse(error)
        else:
            self._refuse(FrameError("protocol", f"frame kind {kind} has no place here", item.call))

    def _refuse(self, error: FrameError) -> None:
        """Answer bytes that are no acceptable frame, and close: where the next frame begins is unknown."""
        self._metrics.refused(error.reason)
        _log.info("lane_frame_refused", peer=self.peer, reason=error.reason, found=str(error))
        detail = errors.to_detail(handshake.refusal(error)).SerializeToString()
        self.queue(frame.encode(frame.ERROR if error.call else frame.GOAWAY, error.call, detail))
        self.close()

    # ------------------------------------------------------------------------------------------ calls that take time

    def done(self, call: AioCall, task: asyncio.Future[Any]) -> None:
        """A call's task has ended."""
        if call.over:
            if not task.cancelled():
                task.exception()  # nobody waits for it any more
        elif task.cancelled():
            self._settle_error(call, errors.Cancelled(f"{call.method.name} was given up by the server"))
        elif (error := task.exception()) is not None:
            self._settle_error(call, self._read(call, error))
        elif call.method.response_streaming:
            self.queue(frame.encode(frame.END, call.id))
            self._end(call, OK)
        else:
            self._answer(call, task.result())

    def answered(self, call: AioCall, answer: Deferred) -> None:
        """What a servicer deferred is there."""
        if call.over:
            return
        if answer.error is not None:
            self._settle_error(call, self._read(call, answer.error))
        elif answer.encoded is not None:
            self._settle(call, answer.result, answer.encoded)
        else:
            self._answer(call, answer.result)

    def _answer(self, call: AioCall, result: Any) -> None:
        if aio_answers.is_ready(result):
            self._settle(call, result)
        else:
            aio_answers.begin(self, call, result, 0)

    def _read(self, call: AioCall, error: BaseException) -> errors.BlockyardError:
        known = errors.from_exception(error)
        if isinstance(known, errors.InternalError):
            _log.error("call_failed", method=call.method.name, peer=self.peer, exc_info=error)
        return known

    # ------------------------------------------------------------------------------------------ frames that leave

    def _settle(self, call: AioCall, result: Any, encoded: bytes | None = None) -> None:
        try:
            self.send(call, frame.REPLY, result, encoded)
        except Exception as error:  # noqa: BLE001 - a servicer's boundary: what it returned may be no reply at all
            self._settle_error(call, self._read(call, error))
            return
        self._end(call, OK)

    def send(self, call: AioCall, kind: int, result: Any, encoded: bytes | None = None) -> None:
        """Send one answer, which may be there as bytes already; raises TooLarge when the caller would refuse it."""
        assert self._agreement is not None
        raw = b""
        if isinstance(result, Reply):
            result, raw = result.message, payload.read_all(result.payload)
        data = call.method.serialize(result) if encoded is None else encoded
        handshake.check_outgoing(self._agreement.peer, len(data), len(raw))
        self.queue(frame.encode(kind, call.id, data, len(raw)))
        if raw:
            self.queue(raw)

    def _settle_error(self, call: AioCall, error: errors.BlockyardError) -> None:
        self._fail(call.id, error)
        self._end(call, error.kind)

    def _fail(self, call_id: int, error: errors.BlockyardError) -> None:
        self.queue(frame.encode(frame.ERROR, call_id, errors.to_detail(error).SerializeToString()))

    def _end(self, call: AioCall, outcome: str) -> None:
        self.calls.pop(call.id, None)
        call.finish(outcome)

    # ------------------------------------------------------------------------------------------ time and the end

    def sweep(self, now: float) -> None:
        """End calls whose deadline has passed, and the connection when its peer has stalled."""
        stall_s = self.server.stall_s
        if self.output.closed_at is not None:
            if now - self.output.closed_at > stall_s:
                self.abort()  # the last words were not taken
            return
        for call in [call for call in self.calls.values() if call.deadline_at is not None and now >= call.deadline_at]:
            self._settle_error(call, errors.DeadlineExceeded(f"{call.method.name} did not end before its deadline"))
        if self.output.is_stalled(now, stall_s):
            self._metrics.refused("stalled")
            self.abort()
        elif self._agreement is None and now - self._opened_at > min(HELLO_TIMEOUT_S, stall_s):
            self._refuse(FrameError("handshake", "no HELLO came"))
        elif self._stalled_since is not None and not self._halted and now - self._stalled_since > stall_s:
            self._refuse(FrameError("stalled", f"no progress within a frame for {stall_s:g} s"))

    def go_away(self) -> None:
        """Ask the client to take its next calls elsewhere."""
        self.queue(frame.encode(frame.GOAWAY, 0, errors.to_detail(handshake.farewell()).SerializeToString()))

    def close(self) -> None:
        """Send what is queued and close."""
        self._halted = True
        self._unread.clear()
        self.output.close()

    def abort(self) -> None:
        """Close at once."""
        self._halted = True
        self.output.abort()
