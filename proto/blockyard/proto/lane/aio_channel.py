"""The lane's channel on an event loop: every call of the process on one connection, many in flight."""

import asyncio
import time
import weakref
from collections.abc import Callable
from typing import Any

from blockyard.proto import errors
from blockyard.proto.call import FileRange, Payload
from blockyard.proto.lane import handshake
from blockyard.proto.lane.aio_client import ClientConnection
from blockyard.proto.lane.aio_stream import AioStream
from blockyard.proto.lane.frame import Limits
from blockyard.proto.lane.methods import method_id
from blockyard.proto.lane.payload import Into, read_all

DEFAULT_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
_ATTEMPTS = 3


class AioChannel:
    """A channel to one address, `host:port` or `unix:/path`; generated stubs take it in place of a gRPC channel.

    Connects at the first call and again at the first call after a connection was lost. Every call has a deadline:
    `timeout` seconds, or the channel's own. To be used on one event loop.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        keepalive_s: float = 10.0,
        limits: Limits | None = None,
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.limits = limits or Limits()
        self.keepalive_s = keepalive_s
        self._connect_timeout_s = connect_timeout_s
        self._connection: ClientConnection | None = None
        self._connecting: asyncio.Task[ClientConnection] | None = None
        self._connections: weakref.WeakSet[ClientConnection] = weakref.WeakSet()
        self._closed = False

    # ------------------------------------------------------------------------------------------ what stubs ask for

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., asyncio.Future[Any]]:
        """Return a callable for one unary method: it gives a future of the reply."""
        identifier = method_id(method)

        def call(
            request: Any,
            timeout: float | None = None,
            payload: Payload | None = None,
            into: Into | None = None,
            **_: Any,
        ) -> asyncio.Future[Any]:
            message = request_serializer(request)
            timeout_s = self.timeout_s if timeout is None else timeout
            connection = self._connection
            if connection is not None and connection.usable and not isinstance(payload, FileRange):
                return connection.call(identifier, message, payload, timeout_s, response_deserializer, into)
            later = self._call_later(identifier, message, payload, timeout_s, response_deserializer, into)
            return asyncio.get_running_loop().create_task(later)

        return call

    def unary_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., AioStream]:
        """Return a callable that starts a method with a stream of answers."""

        def call(request: Any, timeout: float | None = None, into: Into | None = None, **_: Any) -> AioStream:
            return AioStream(
                self, method, request_serializer, response_deserializer, request, None, timeout, into, True
            )

        return call

    def stream_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., asyncio.Future[Any]]:
        """Return a callable for a method that takes a stream and answers once."""

        def call(requests: Any, timeout: float | None = None, **_: Any) -> asyncio.Future[Any]:
            stream = AioStream(
                self, method, request_serializer, response_deserializer, None, requests, timeout, None, False
            )
            return asyncio.get_running_loop().create_task(stream.reply())

        return call

    def stream_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., AioStream]:
        """Return a callable for a method with streams both ways."""

        def call(requests: Any, timeout: float | None = None, into: Into | None = None, **_: Any) -> AioStream:
            return AioStream(
                self, method, request_serializer, response_deserializer, None, requests, timeout, into, True
            )

        return call

    # ------------------------------------------------------------------------------------------ connections

    async def close(self) -> None:
        """Close the connection; calls under way fail with ConnectionLost."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        for connection in list(self._connections):
            connection.lose("the channel was closed")
        await asyncio.sleep(0)

    def flush(self) -> None:
        """Hand what was called in this turn of the loop to the transport at once."""
        if self._connection is not None:
            self._connection.flush()

    async def __aenter__(self) -> "AioChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connection(self) -> ClientConnection:
        """Return the connection, made when there is none; raises Unavailable when that fails."""
        for _ in range(_ATTEMPTS):
            if self._connection is not None and self._connection.usable:
                return self._connection
            if self._closed:
                break
            if self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
                self._connecting.add_done_callback(lambda task: None if task.cancelled() else task.exception())
            attempt = self._connecting
            await asyncio.wait((attempt,))
            if not attempt.cancelled():
                attempt.result()
        why = "the channel was closed" if self._closed else "it sends its callers away as soon as they come"
        raise errors.Unavailable(f"no connection to {self.address}: {why}", self.address)

    async def _connect(self) -> ClientConnection:
        connection: ClientConnection | None = None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._open()
                self._connections.add(connection)
                await connection.ready
        except (OSError, ValueError, TimeoutError) as error:
            raise handshake.refused(self.address, error) from error
        finally:
            self._connecting = None
            if connection is not None and not connection.usable:
                connection.lose("there was no agreement")
        self._connection = connection
        return connection

    async def _open(self) -> ClientConnection:
        loop = asyncio.get_running_loop()
        if self.address.startswith("unix:"):
            path = self.address.removeprefix("unix:")
            _, connection = await loop.create_unix_connection(self._new_connection, path)
        else:
            host, _, port = self.address.rpartition(":")
            _, connection = await loop.create_connection(self._new_connection, host.strip("[]"), int(port))
        return connection

    def _new_connection(self) -> ClientConnection:
        return ClientConnection(self.address, self.limits, self.keepalive_s)

    async def _call_later(
        self,
        identifier: int,
        message: bytes,
        raw: Payload | None,
        timeout_s: float,
        deserialize: Any,
        into: Into | None,
    ) -> Any:
        started = time.monotonic()
        if isinstance(raw, FileRange):
            raw = await asyncio.to_thread(read_all, raw)
        connection = await self.within(timeout_s)
        left = max(0.001, timeout_s - (time.monotonic() - started))
        return await connection.call(identifier, message, raw, left, deserialize, into)

    async def within(self, timeout_s: float) -> ClientConnection:
        """Return the connection, made when there is none, within `timeout_s` seconds; raises Unavailable."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self.connection()
        except errors.BlockyardError:
            raise
        except TimeoutError:
            raise errors.Unavailable(f"{self.address} does not answer within {timeout_s:g} s", self.address) from None
