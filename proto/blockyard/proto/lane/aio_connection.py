"""One client's connection to the event-loop server.

A request that arrives is parsed and handed to its servicer within the callback that received it; an answer that is
ready at once leaves in the same callback, together with all others that are. Answers that come later leave together
once per turn of the loop. No task is made for a call whose servicer answers with a message or a future.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import structlog
from blockyard.proto import errors
from blockyard.proto.call import Deferred, FileRange, Reply
from blockyard.proto.lane import frame, handshake, payload
from blockyard.proto.lane.aio_call import AioCall, RequestStream, StreamCredit
from blockyard.proto.lane.frame import Frame, FrameDecoder, FrameError
from blockyard.proto.lane.handshake import Agreement
from blockyard.proto.metrics import OK
from google.protobuf.message import Message

if TYPE_CHECKING:
    from blockyard.proto.lane.aio_server import AioServer

_log = structlog.get_logger(__name__)


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: "AioServer") -> None:
        self.server = server
        self.calls: dict[int, AioCall] = {}
        self.peer = "?"
        self.loop = asyncio.get_running_loop()
        self._decoder = FrameDecoder(server.limits)
        self._agreement: Agreement | None = None
        self._out: list[bytes] = []
        self._flush_at_end = False
        self._flush_scheduled = False
        self._stalled_since: float | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._methods = server.methods
        self._metrics = server.metrics
        self._max_calls = server.limits.max_calls

    # ------------------------------------------------------------------------------------------ from the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "unix"
        self.server.connections.add(self)
        self._metrics.opened()
        self._transport.write(handshake.hello(self.server.limits))
        if self.server.closing:
            self.go_away()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        self._metrics.closed()
        self._writable.set()
        for call in list(self.calls.values()):
            self._end(call, "ConnectionLost")

    def pause_writing(self) -> None:
        self._writable.clear()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writable.set()
        self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._flush_at_end = True
        decoder = self._decoder
        self._metrics.received_bytes += len(data)
        self._stalled_since = None
        for item in decoder.feed(data):
            self._receive(item)
        if decoder.error is not None:
            self._refuse(decoder.error)
        elif decoder.unfinished:
            self._stalled_since = time.monotonic()
        self._flush_at_end = False
        self._flush()

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
        if call_id in self.calls:
            self._refuse(FrameError("call", f"call {call_id} is under way already", call_id))
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
        except Exception as error:  # noqa: BLE001 - a servicer's boundary: whatever it raised becomes the call's error
            self._settle_error(call, self._read(call, error))
            return
        if isinstance(result, Message) and not method.response_streaming:
            self._settle(call, result)
        elif isinstance(result, Deferred):
            self.calls[call_id] = call
            result.then(call.answered)
        else:
            self._continue(call, result)

    def _no_room(self) -> errors.BlockyardError:
        if self.server.closing:
            return errors.ShuttingDown("this server is shutting down; ask another")
        return errors.Overloaded(f"{self._max_calls} calls are under way on this connection", retry_after_ms=10)

    def _for_call(self, item: Frame) -> None:
        call = self.calls.get(item.call)
        if call is None:
            return  # its answer and this frame crossed
        if item.kind == frame.CANCEL:
            self._end(call, "Cancelled")
        elif item.kind == frame.WINDOW and call.window is not None:
            call.window.grant(item.value)
        elif item.kind == frame.MESSAGE and call.requests is not None:
            self._put(call, item)
        elif item.kind == frame.END and call.requests is not None:
            call.requests.end()
        else:
            self._refuse(FrameError("protocol", f"kind {item.kind} has no place in {call.method.name}", item.call))

    def _put(self, call: AioCall, item: Frame) -> None:
        assert call.requests is not None
        try:
            call.requests.put(item.message, item.payload)
        except errors.BlockyardError as error:
            self._settle_error(call, error)

    def _refuse(self, error: FrameError) -> None:
        """Answer bytes that are no acceptable frame, and close: where the next frame begins is unknown."""
        self._metrics.refused(error.reason)
        _log.info("lane_frame_refused", peer=self.peer, reason=error.reason, found=str(error))
        kind = errors.TooLarge if error.reason.endswith("_length") else errors.MalformedRequest
        detail = errors.to_detail(kind(str(error))).SerializeToString()
        self.queue(frame.encode(frame.ERROR if error.call else frame.GOAWAY, error.call, detail))
        self.close()

    # ------------------------------------------------------------------------------------------ calls that take time

    def _continue(self, call: AioCall, result: Any) -> None:
        if call.method.response_streaming:
            assert self._agreement is not None
            call.window = StreamCredit(self._agreement.peer.stream_window)
            call.task = self.loop.create_task(self._pump(call, result))
        elif isinstance(result, asyncio.Future):
            call.task = result
        elif isinstance(result, Reply):
            call.task = self.loop.create_task(self._ready(result))
        else:
            call.task = self.loop.create_task(result)
        self.calls[call.id] = call
        call.task.add_done_callback(lambda task: self._done(call, task))

    async def _ready(self, result: Reply) -> Reply:
        if isinstance(result.payload, FileRange):
            return Reply(result.message, await asyncio.to_thread(payload.read_all, result.payload))
        return result

    async def _pump(self, call: AioCall, result: Any) -> None:
        assert call.window is not None
        async for item in _iterate(result):
            reply = await self._ready(item) if isinstance(item, Reply) else item
            await call.window.spend()
            await self._writable.wait()
            self._send(call, frame.MESSAGE, reply)

    def _done(self, call: AioCall, task: asyncio.Future[Any]) -> None:
        if call.over:
            return
        if task.cancelled():
            self._settle_error(call, errors.Cancelled(f"{call.method.name} was given up by the server"))
        elif (error := task.exception()) is not None:
            self._settle_error(call, self._read(call, error))
        elif call.method.response_streaming:
            self.queue(frame.encode(frame.END, call.id))
            self._end(call, OK)
        else:
            self._settle(call, task.result())

    def answered(self, call: AioCall, answer: Deferred) -> None:
        """What a servicer deferred is there."""
        if call.over:
            return
        if answer.error is not None:
            self._settle_error(call, self._read(call, answer.error))
        else:
            self._settle(call, answer.result)

    def _read(self, call: AioCall, error: BaseException) -> errors.BlockyardError:
        known = errors.from_exception(error)
        if isinstance(known, errors.InternalError):
            _log.error("call_failed", method=call.method.name, peer=self.peer, exc_info=error)
        return known

    # ------------------------------------------------------------------------------------------ frames that leave

    def _settle(self, call: AioCall, result: Any) -> None:
        try:
            self._send(call, frame.REPLY, result)
        except errors.BlockyardError as error:
            self._settle_error(call, error)
            return
        self._end(call, OK)

    def _send(self, call: AioCall, kind: int, result: Any) -> None:
        assert self._agreement is not None
        message, raw = (
            (result.message, payload.read_all(result.payload)) if isinstance(result, Reply) else (result, b"")
        )
        data = call.method.serialize(message)
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

    def queue(self, data: bytes) -> None:
        """Send `data` with everything else that leaves in this turn of the loop."""
        self._out.append(data)
        if not self._flush_at_end and not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._out:
            out, self._out = self._out, []
            data = out[0] if len(out) == 1 else b"".join(out)
            self._metrics.sent_bytes += len(data)
            self._transport.write(data)

    # ------------------------------------------------------------------------------------------ time and the end

    def sweep(self, now: float) -> None:
        """End calls whose deadline has passed, and the connection when its peer has stalled."""
        if self._stalled_since is not None and now - self._stalled_since > self.server.stall_s:
            self._refuse(FrameError("stalled", f"no progress within a frame for {self.server.stall_s:g} s"))
            return
        for call in [call for call in self.calls.values() if call.deadline_at is not None and now >= call.deadline_at]:
            self._settle_error(call, errors.DeadlineExceeded(f"{call.method.name} did not end before its deadline"))

    def go_away(self) -> None:
        """Ask the client to take its next calls elsewhere."""
        detail = errors.to_detail(errors.ShuttingDown("this server is shutting down; ask another"))
        self.queue(frame.encode(frame.GOAWAY, 0, detail.SerializeToString()))

    def close(self) -> None:
        """Send what is queued and close."""
        self._flush()
        self._transport.close()


async def _iterate(result: Any) -> AsyncIterator[Any]:
    """Iterate over what a streaming servicer returned, async or not."""
    if hasattr(result, "__aiter__"):
        async for item in result:
            yield item
    else:
        for item in result:
            yield item
