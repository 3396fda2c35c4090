"""A call with streams on the event-loop channel."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from blockyard.proto import errors
from blockyard.proto.lane import frame, handshake
from blockyard.proto.lane.aio_call import StreamCredit
from blockyard.proto.lane.aio_client import ClientConnection, PendingCall, read_message
from blockyard.proto.lane.frame import Frame
from blockyard.proto.lane.handshake import Agreement
from blockyard.proto.lane.methods import method_id
from blockyard.proto.lane.payload import Into
from blockyard.proto.lane.window import ReceiveWindow

if TYPE_CHECKING:
    from blockyard.proto.lane.aio_channel import AioChannel


class AioStream:
    """A call with streams. Iterate over it for its answers; `cancel` it, or close the iteration, to leave early."""

    def __init__(
        self,
        channel: "AioChannel",
        method: str,
        serialize: Callable[[Any], bytes],
        deserialize: Callable[[bytes], Any],
        request: Any,
        requests: AsyncIterable[Any] | Iterable[Any] | None,
        timeout: float | None,
        into: Into | None,
    ) -> None:
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

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._over:
            raise StopAsyncIteration
        await self._started()
        while not self._queue:
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
        if not self._over:
            with contextlib.suppress(RuntimeError):  # the loop may be gone already
                self.cancel()

    def arrived(self, item: Frame) -> None:
        """A frame of this call came."""
        if item.kind == frame.WINDOW:
            assert self._credit is not None
            self._credit.grant(item.value)
            return
        if item.kind == frame.MESSAGE:
            try:
                self._window.arrived()
            except errors.BlockyardError as error:
                self.failed(error)
                return
        self._queue.append(item)
        self._wake()

    def failed(self, error: errors.BlockyardError) -> None:
        """The call ended badly; answers that came before are still given out."""
        self._queue.append(error)
        self._wake()

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
        except errors.BlockyardError:
            self.cancel()
            raise

    async def _started(self) -> None:
        if self._connection is not None:
            return
        deadline_at = time.monotonic() + self._timeout_s
        connection = await self._channel.within(self._timeout_s)
        message = b"" if self._requests is not None else self._serialize(self._request)
        call = PendingCall(deadline_at, self._deserialize, self._future, self._into, self)
        assert connection.agreement is not None
        self._credit = StreamCredit(connection.agreement.peer.stream_window)
        self._call = connection.start(method_id(self._method), message, b"", call)
        self._connection = connection
        if self._requests is not None:
            self._sender = asyncio.get_running_loop().create_task(self._send_all(connection))

    async def _send_all(self, connection: ClientConnection) -> None:
        assert self._requests is not None
        assert self._credit is not None
        try:
            async for request in _iterate(self._requests):
                message = self._serialize(request)
                handshake.check_outgoing(cast(Agreement, connection.agreement).peer, len(message), 0)
                await self._credit.spend()
                await connection.writable.wait()
                connection.queue(frame.encode(frame.MESSAGE, self._call, message))
        except Exception as error:  # noqa: BLE001 - the caller's iterator raised; whoever awaits the answer is told
            known = errors.from_exception(error)
            connection.give_up(self._call)
            self.failed(known)
            if not self._future.done():
                self._future.set_exception(known)
            return
        connection.queue(frame.encode(frame.END, self._call))


async def _iterate(requests: AsyncIterable[Any] | Iterable[Any]) -> AsyncIterator[Any]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request
