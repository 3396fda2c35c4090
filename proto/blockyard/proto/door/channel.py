"""The gRPC channel for threads: generated stubs over it keep deadlines, raise our errors and retry."""

import time
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import grpc
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


class Channel:
    """A channel to one gRPC server, `host:port` or `unix:/path`; generated stubs take it in place of gRPC's own.

    Every call has a deadline: `timeout` seconds, or the channel's own. Unary calls are retried within it, by error
    class. Calls raise BlockyardError. Any number of threads may use it; a forked child may not.
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
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )

    def unary_unary(
        self, method: str, request_serializer: Serializer, response_deserializer: Deserializer, **_: Any
    ) -> Callable[..., Any]:
        """Return a callable for one unary method."""
        ours = OutgoingMethod(self._policy, method, request_serializer, response_deserializer)
        grpcs: Any = self._channel.unary_unary(method)

        def call(
            request: Any,
            timeout: float | None = None,
            payload: Payload | None = None,
            into: Into | None = None,
            **_: Any,
        ) -> Any:
            attempts = ours.attempts(request, timeout)
            data = ours.encode(request, payload)
            while True:
                try:
                    answer = grpcs(data, timeout=attempts.time_left_s())
                except grpc.RpcError as error:
                    time.sleep(attempts.wait_after(error))
                else:
                    attempts.succeeded()
                    return ours.decode(answer, into)

        return call

    def unary_stream(
        self, method: str, request_serializer: Serializer, response_deserializer: Deserializer, **_: Any
    ) -> Callable[..., "Stream"]:
        """Return a callable that starts a method with a stream of answers."""
        ours = OutgoingMethod(self._policy, method, request_serializer, response_deserializer)
        grpcs: Any = self._channel.unary_stream(method)

        def call(request: Any, timeout: float | None = None, into: Into | None = None, **_: Any) -> Stream:
            timeout_s = self._policy.default_deadline_s if timeout is None else timeout
            return Stream(ours, grpcs(ours.encode(request), timeout=timeout_s), into)

        return call

    def stream_unary(
        self, method: str, request_serializer: Serializer, response_deserializer: Deserializer, **_: Any
    ) -> Callable[..., Any]:
        """Return a callable for a method that takes a stream and answers once."""
        ours = OutgoingMethod(self._policy, method, request_serializer, response_deserializer)
        grpcs: Any = self._channel.stream_unary(method)

        def call(requests: Iterable[Any], timeout: float | None = None, into: Into | None = None, **_: Any) -> Any:
            timeout_s = self._policy.default_deadline_s if timeout is None else timeout
            began_s = time.monotonic()
            try:
                answer = grpcs(map(ours.encode, requests), timeout=timeout_s)
            except grpc.RpcError as failed:
                error = errors.from_grpc(failed)
                ours.ended(began_s, error)
                raise error from None
            ours.ended(began_s, None)
            return ours.decode(answer, into)

        return call

    def stream_stream(
        self, method: str, request_serializer: Serializer, response_deserializer: Deserializer, **_: Any
    ) -> Callable[..., "Stream"]:
        """Return a callable for a method with streams both ways; a thread of gRPC's takes the requests."""
        ours = OutgoingMethod(self._policy, method, request_serializer, response_deserializer)
        grpcs: Any = self._channel.stream_stream(method)

        def call(requests: Iterable[Any], timeout: float | None = None, into: Into | None = None, **_: Any) -> Stream:
            timeout_s = self._policy.default_deadline_s if timeout is None else timeout
            return Stream(ours, grpcs(map(ours.encode, requests), timeout=timeout_s), into)

        return call

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stream:
    """The answers of a call. Iterate over it; `cancel` it, or use it as a context manager, to leave early."""

    def __init__(self, method: OutgoingMethod, call: Any, into: Into | None) -> None:
        self._method = method
        self._call = call
        self._into = into
        self._began_s = time.monotonic()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            data = next(self._call)
        except StopIteration:
            self._method.ended(self._began_s, None)
            raise
        except grpc.RpcError as failed:
            error = errors.from_grpc(failed)
            self._method.ended(self._began_s, error)
            raise error from None
        return self._method.decode(data, self._into)

    def cancel(self) -> None:
        """Give the call up; does nothing when it is over."""
        self._call.cancel()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()
