"""One call on an event-loop server: its record, and what its servicer sees (`CallContext`)."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from blockyard.proto import errors, logs
from blockyard.proto.call import Deferred
from blockyard.proto.lane import frame, payload
from blockyard.proto.lane.frame import Frame, FrameError
from blockyard.proto.lane.methods import Method
from blockyard.proto.lane.window import ReceiveWindow, SendWindow
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from blockyard.proto.lane.aio_connection import Connection
    from typing_extensions import Buffer

_log = logs.get(__name__)


class AioCall:
    """A call under way.

    Invariant: `over` is set exactly once, by the connection, after the last frame of the call was queued or the
    connection was lost; the done callbacks run then.
    """

    __slots__ = (
        "_callbacks",
        "_payload",
        "connection",
        "deadline_at",
        "id",
        "method",
        "over",
        "requests",
        "started_at",
        "task",
        "window",
    )

    def __init__(self, connection: "Connection", identifier: int, method: Method, deadline_ms: int) -> None:
        self.connection = connection
        self.id = identifier
        self.method = method
        self.started_at = time.monotonic()
        self.deadline_at = self.started_at + deadline_ms / 1000 if deadline_ms else None
        self.over = False
        self.task: asyncio.Future[Any] | None = None
        self.requests: RequestStream | None = None
        self.window: StreamCredit | None = None
        self._payload = b""
        self._callbacks: list[Callable[[], None]] | None = None

    def time_remaining(self) -> float | None:
        return None if self.deadline_at is None else max(0.0, self.deadline_at - time.monotonic())

    def peer(self) -> str:
        return self.connection.peer

    def cancelled(self) -> bool:
        return self.over

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        if self.over:
            callback()
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    @property
    def passes_descriptors(self) -> bool:
        return False

    @property
    def payload_length(self) -> int:
        return len(self._payload)

    def receive_into(self, buffer: "Buffer") -> int:
        taken, self._payload = self._payload, b""
        return payload.fill(buffer, taken)

    def ended(self) -> asyncio.Future[None]:
        """Return a future that is done when the call is over."""
        future = self.connection.loop.create_future()
        self.add_done_callback(lambda: None if future.done() else future.set_result(None))
        return future

    def answered(self, answer: Deferred) -> None:
        """The answer that the servicer deferred is there."""
        self.connection.answered(self, answer)

    def message(self, data: bytes, raw: bytes) -> Any:
        """Parse a request message and keep the payload that came with it; raises MalformedRequest."""
        message = parse(self.method, data)
        if self.method.request_payload:
            self._payload = raw or message.data
        elif raw:
            raise errors.MalformedRequest(f"{self.method.name} takes no payload; {len(raw):,} bytes came")
        return message

    def finish(self, outcome: str) -> None:
        """The call is over, as `outcome` says: count it, stop its work and tell who asked to be told."""
        self.method.metrics.done(time.monotonic() - self.started_at, outcome)
        self.over = True
        if self.task is not None and not self.task.done():
            self.task.cancel()
        if self._callbacks:
            callbacks, self._callbacks = self._callbacks, None
            for callback in callbacks:
                try:
                    callback()
                except Exception:  # noqa: BLE001 - a servicer's; the others run all the same
                    _log.exception("done_callback_failed", method=self.method.name)


def parse(method: Method, data: bytes) -> Any:
    """Return the request message in `data`; raises MalformedRequest when it is none."""
    try:
        return method.deserialize(data)
    except DecodeError as error:
        raise errors.MalformedRequest(f"{method.name}: the request does not parse") from error


class RequestStream:
    """The request messages of a call, as an async iterator."""

    def __init__(self, call: AioCall, size: int) -> None:
        self._call = call
        self._queue: deque[Frame] = deque()
        self._ended = False
        self._window = ReceiveWindow(size)
        self._waiter: asyncio.Future[None] | None = None

    def put(self, item: Frame) -> None:
        """A MESSAGE or END came; raises FrameError when it came without credit, or after the END."""
        if self._ended:
            raise FrameError("protocol", "a request after the last", item.call)
        if item.kind == frame.END:
            self._ended = True
        else:
            try:
                self._window.arrived()
            except FrameError as error:
                error.call = item.call
                raise
            self._queue.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> "RequestStream":
        return self

    async def __anext__(self) -> Any:
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        item = self._queue.popleft()
        grant = self._window.taken()
        if grant:
            self._call.connection.queue(frame.encode(frame.WINDOW, self._call.id, value=grant))
        return self._call.message(item.message, item.payload)


class StreamCredit:
    """A send window that a coroutine can wait for."""

    def __init__(self, credit: int) -> None:
        self._window = SendWindow(credit)
        self._waiter: asyncio.Future[None] | None = None

    def grant(self, messages: int) -> None:
        """The receiver allows `messages` more."""
        self._window.grant(messages)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def spend(self) -> None:
        """Wait until one message may be sent, and count it."""
        while self._window.credit == 0:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._window.spend()
