"""The lane's channel on an event loop: every call of the process on one connection, many in flight."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from blockyard.proto import errors
from blockyard.proto.call import Payload
from blockyard.proto.lane.aio_client import ClientConnection
from blockyard.proto.lane.aio_stream import AioStream
from blockyard.proto.lane.frame import Limits
from blockyard.proto.lane.methods import method_id
from blockyard.proto.lane.payload import Into

DEFAULT_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0


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
        self._closed = False

    # ------------------------------------------------------------------------------------------ what stubs ask for

    def unary_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., asyncio.Future[Any]]:
        """Return a callable for one unary method: it gives a future of the reply."""
        identifier = method_id(method)

        def call(
            request: Any, timeout: float | None = None, payload: Payload = b"", into: Into | None = None, **_: Any
        ) -> asyncio.Future[Any]:
            message = request_serializer(request)
            timeout_s = self.timeout_s if timeout is None else timeout
            connection = self._connection
            if connection is not None and connection.usable:
                return connection.call(identifier, message, payload, timeout_s, response_deserializer, into)
            later = self._call_later(identifier, message, payload, timeout_s, response_deserializer, into)
            return asyncio.get_running_loop().create_task(later)

        return call

    def unary_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., AioStream]:
        """Return a callable that starts a method with a stream of answers."""

        def call(request: Any, timeout: float | None = None, into: Into | None = None, **_: Any) -> AioStream:
            return AioStream(self, method, request_serializer, response_deserializer, request, None, timeout, into)

        return call

    def stream_unary(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., asyncio.Future[Any]]:
        """Return a callable for a method that takes a stream and answers once."""

        def call(requests: Any, timeout: float | None = None, **_: Any) -> asyncio.Future[Any]:
            stream = AioStream(self, method, request_serializer, response_deserializer, None, requests, timeout, None)
            return asyncio.get_running_loop().create_task(stream.reply())

        return call

    def stream_stream(
        self, method: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool | None = None
    ) -> Callable[..., AioStream]:
        """Return a callable for a method with streams both ways."""

        def call(requests: Any, timeout: float | None = None, into: Into | None = None, **_: Any) -> AioStream:
            return AioStream(self, method, request_serializer, response_deserializer, None, requests, timeout, into)

        return call

    # ------------------------------------------------------------------------------------------ connections

    async def close(self) -> None:
        """Close the connection; calls under way fail with ConnectionLost."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.lose("the channel was closed")
        await asyncio.sleep(0)

    async def __aenter__(self) -> "AioChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connection(self) -> ClientConnection:
        """Return the connection, made when there is none; raises Unavailable when that fails."""
        while self._connection is None or not self._connection.usable:
            if self._closed:
                raise errors.Unavailable(f"the channel to {self.address} was closed", self.address)
            if self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
            await asyncio.shield(self._connecting)
        return self._connection

    async def _connect(self) -> ClientConnection:
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connection = await self._open()
                await connection.ready
        except (OSError, ValueError, TimeoutError) as error:
            if isinstance(error, errors.BlockyardError) and not isinstance(error, errors.ConnectionLost):
                raise
            raise errors.Unavailable(f"{self.address} does not answer: {error}", self.address) from error
        finally:
            self._connecting = None
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
        self, identifier: int, message: bytes, raw: Payload, timeout_s: float, deserialize: Any, into: Into | None
    ) -> Any:
        started = time.monotonic()
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
