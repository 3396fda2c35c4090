"""A call with streams on the event-loop channel."""

import asyncio
import contextlib
import time
import weakref
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any

from blockyard.proto import errors
from blockyard.proto.lane import frame, handshake
from blockyard.proto.lane.aio_answers import BURST
from blockyard.proto.lane.aio_call import StreamCredit
from blockyard.proto.lane.aio_client import ClientConnection, PendingCall, read_message
from blockyard.proto.lane.frame import Frame, FrameError
from blockyard.proto.lane.methods import method_id
from blockyard.proto.lane.payload import Into
from blockyard.proto.lane.window import ReceiveWindow

if TYPE_CHECKING:
    from blockyard.proto.lane.aio_channel import AioChannel

Requests = AsyncIterable[Any] | Iterable[Any]


class AioStream:
    """A call with streams. It begins when its first answer is awaited. Iterate over it; `cancel` it to leave early.

    Only its user holds it: the connection and the sender refer to it weakly, so dropping it gives the call up.
    """

    def __init__(
        self,
        channel: "AioChannel",
        method: str,
        serialize: Callable[[Any], bytes],
        deserialize: Callable[[bytes], Any],
        request: Any,
        requests: Requests | None,
        timeout: float | None,
        into: Into | None,
        is_answered_by_many: bool,
    ) -> None:
        self.is_answered_by_many = is_answered_by_many
        self._channel = channel
        self._method = method
        self._serialize = serialize
        self._deserialize = deserialize
        self._request = request
        self._requests = requests
        self._timeout_s = channel.timeout_s if timeout is None else timeout
        self._into = into
        self._queue: deque[Frame | errors.BlockyardError] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._window = ReceiveWindow(channel.limits.stream_window)
        self._future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._future.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        self._connection: ClientConnection | None = None
        self._call = 0
        self._credit: StreamCredit | None = None
        self._sender: asyncio.Task[None] | None = None
        self._over = False

    async def reply(self) -> Any:
        """Return the only answer of a call that answers once."""
        try:
            await self._started()
            return await self._future
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Give the call up; its server is told."""
        if self._over:
            return
        self._over = True
        if self._sender is not None:
            self._sender.cancel()
        if self._connection is not None:
            self._connection.give_up(self._call)
        self._wake()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._over:
            raise StopAsyncIteration
        await self._started()
        while not self._queue:
            if self._over:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            except asyncio.CancelledError:
                self.cancel()
                raise
        item = self._queue.popleft()
        if isinstance(item, errors.BlockyardError):
            self.cancel()
            raise item
        if item.kind == frame.END:
            self.cancel()
            raise StopAsyncIteration
        return self._take(item)

    def __del__(self) -> None:
        if not getattr(self, "_over", True):
            with contextlib.suppress(RuntimeError):  # the loop may be gone already
                self.cancel()

    def arrived(self, item: Frame) -> None:
        """A frame of this call came; raises FrameError when it may not come."""
        if item.kind == frame.WINDOW:
            assert self._credit is not None
            self._credit.grant(item.value)
            return
        if not self.is_answered_by_many:
            raise FrameError("protocol", f"frame kind {item.kind} where a single reply is due", item.call)
        if item.kind == frame.MESSAGE:
            self._window.arrived()
        self._queue.append(item)
        self._wake()

    def failed(self, error: errors.BlockyardError) -> None:
        """The call ended badly; answers that came before are still given out."""
        self._queue.append(error)
        self._wake()
        if not self._future.done():
            self._future.set_exception(error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self, item: Frame) -> Any:
        assert self._connection is not None
        grant = self._window.taken()
        if grant:
            self._connection.queue(frame.encode(frame.WINDOW, self._call, value=grant))
        try:
            return read_message(self._deserialize, item, self._into)
        except Exception:
            self.cancel()
            raise

    async def _started(self) -> None:
        if self._connection is not None:
            return
        deadline_at = time.monotonic() + self._timeout_s
        connection = await self._channel.within(self._timeout_s)
        message = b"" if self._requests is not None else self._serialize(self._request)
        call = PendingCall(deadline_at, self._deserialize, self._future, self._into, weakref.ref(self))
        assert connection.agreement is not None
        credit = self._credit = StreamCredit(connection.agreement.peer.stream_window)
        self._call = connection.start(method_id(self._method), message, None, call)
        self._connection = connection
        if self._requests is not None:
            sending = _send_all(connection, self._call, credit, self._requests, self._serialize, weakref.ref(self))
            self._sender = asyncio.get_running_loop().create_task(sending)


async def _send_all(
    connection: ClientConnection,
    call: int,
    credit: StreamCredit,
    requests: Requests,
    serialize: Callable[[Any], bytes],
    stream: "weakref.ref[AioStream]",
) -> None:
    assert connection.agreement is not None
    sent = 0
    try:
        async for request in _iterate(requests):
            message = serialize(request)
            handshake.check_outgoing(connection.agreement.peer, len(message), 0)
            await credit.spend()
            await connection.writable.wait()
            connection.queue(frame.encode(frame.MESSAGE, call, message))
            sent += 1
            if sent % BURST == 0:
                await asyncio.sleep(0)
    except Exception as error:  # noqa: BLE001 - the caller's iterator raised; whoever awaits the answer is told
        connection.give_up(call)
        waiting = stream()
        if waiting is not None:
            waiting.failed(errors.from_exception(error))
        return
    connection.queue(frame.encode(frame.END, call))


async def _iterate(requests: Requests) -> AsyncIterator[Any]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request
