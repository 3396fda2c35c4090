"""The gRPC channel on an event loop: generated stubs over it keep deadlines, raise our errors and retry."""

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from random import Random
from typing import Any

import grpc
import grpc.aio
from blockyard.proto import errors
from blockyard.proto.call import Payload
from blockyard.proto.door.limits import channel_options
from blockyard.proto.door.outgoing import OutgoingMethod, Policy
from blockyard.proto.lane.payload import Into
from blockyard.proto.metrics import TransportMetrics
from blockyard.proto.retry import RetryPolicy
from blockyard.proto.settings import Door

Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]
Requests = AsyncIterable[Any] | Iterable[Any]


class AioChannel:
    """A channel to one gRPC server, `host:port` or `unix:/path`; generated stubs take it in place of gRPC's own.

    Every call has a deadline: `timeout` seconds, or the channel's own. Unary calls are retried within it, by error
    class. Calls raise BlockyardError. To be used on one event loop.
    """

    def __init__(
        self,
        address: str,
        settings: Door | None = None,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        retry: RetryPolicy | None = None,
        random: Random | None = None,
        metrics: TransportMetrics | None = None,
    ) -> None:
        """Make a channel; it connects at the first call. With `credentials` it speaks TLS."""
        settings = settings or Door()
        options = channel_options(settings)
        self.address = address
        self._policy = Policy.of(settings, retry, random, metrics)
        self._channel = (
            grpc.aio.insecure_channel(address, options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options)
        )

    def unary_unary(
        self, method: str, request_serializer: Serializer, response_deserializer: Deserializer, **_: Any
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return a coroutine function for one unary method."""
        ours = OutgoingMethod(self._policy, method, request_serializer, response_deserializer)
        grpcs: Any = self._channel.unary_unary(method)

        async def call(
            request: Any,
            timeout: float | None = None,  # noqa: ASYNC109 - as generated stubs name it
            payload: Payload | None = None,
            into: Into | None = None,
            **_: Any,
        ) -> Any:
            attempts = ours.attempts(request, timeout)
            data = ours.encode(request, payload)
            while True:
                try:
                    answer = await grpcs(data, timeout=attempts.time_left_s())
                except grpc.RpcError as error:
                    await asyncio.sleep(attempts.wait_after(error))
                else:
                    attempts.succeeded()
                    return ours.decode(answer, into)

        return call

    def unary_stream(
        self, method: str, request_serializer: Serializer, response_deserializer: Deserializer, **_: Any
    ) -> Callable[..., "AioStream"]:
        """Return a callable that starts a method with a stream of answers."""
        ours = OutgoingMethod(self._policy, method, request_serializer, response_deserializer)
        grpcs: Any = self._channel.unary_stream(method)

        def call(request: Any, timeout: float | None = None, into: Into | None = None, **_: Any) -> AioStream:
            return AioStream(ours, grpcs(ours.encode(request), timeout=self._timeout(timeout)), into)

        return call

    def stream_unary(
        self, method: str, request_serializer: Serializer, response_deserializer: Deserializer, **_: Any
    ) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return a coroutine function for a method that takes a stream and answers once."""
        ours = OutgoingMethod(self._policy, method, request_serializer, response_deserializer)
        grpcs: Any = self._channel.stream_unary(method)

        async def call(
            requests: Requests,
            timeout: float | None = None,  # noqa: ASYNC109 - as generated stubs name it
            into: Into | None = None,
            **_: Any,
        ) -> Any:
            began_s = time.monotonic()
            try:
                answer = await grpcs(_encoded(ours, requests), timeout=self._timeout(timeout))
            except grpc.RpcError as failed:
                error = errors.from_grpc(failed)
                ours.ended(began_s, error)
                raise error from None
            ours.ended(began_s, None)
            return ours.decode(answer, into)

        return call

    def stream_stream(
        self, method: str, request_serializer: Serializer, response_deserializer: Deserializer, **_: Any
    ) -> Callable[..., "AioStream"]:
        """Return a callable for a method with streams both ways."""
        ours = OutgoingMethod(self._policy, method, request_serializer, response_deserializer)
        grpcs: Any = self._channel.stream_stream(method)

        def call(requests: Requests, timeout: float | None = None, into: Into | None = None, **_: Any) -> AioStream:
            return AioStream(ours, grpcs(_encoded(ours, requests), timeout=self._timeout(timeout)), into)

        return call

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> "AioChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _timeout(self, timeout: float | None) -> float:
        return self._policy.default_deadline_s if timeout is None else timeout


class AioStream:
    """The answers of a call. Iterate over it; `cancel` it to leave early."""

    def __init__(self, method: OutgoingMethod, call: Any, into: Into | None) -> None:
        self._method = method
        self._call = call
        self._into = into
        self._began_s = time.monotonic()
        self._cancelled = False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            data = await self._call.read()
        except grpc.RpcError as failed:
            raise self._ended(errors.from_grpc(failed)) from None
        except asyncio.CancelledError:
            if not self._cancelled:
                raise
            raise self._ended(errors.Cancelled(f"{self._method.name} was given up")) from None
        if data is grpc.aio.EOF:
            self._method.ended(self._began_s, None)
            raise StopAsyncIteration
        return self._method.decode(data, self._into)

    def cancel(self) -> None:
        """Give the call up; does nothing when it is over."""
        self._cancelled = True
        self._call.cancel()

    def _ended(self, error: errors.BlockyardError) -> errors.BlockyardError:
        self._method.ended(self._began_s, error)
        return error


async def _encoded(method: OutgoingMethod, requests: Requests) -> AsyncIterator[bytes]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield method.encode(request)
    else:
        for request in requests:
            yield method.encode(request)
