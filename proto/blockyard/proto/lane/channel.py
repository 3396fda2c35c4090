"""The lane's blocking channel, for threads.

Plain unary calls of all threads share one connection: the thread that waits first reads for everybody, and passes the
reading on when its own answer has come. A call with a stream or with payload takes a connection of its own from a pool.
"""

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from blockyard.proto import errors
from blockyard.proto.call import Payload
from blockyard.proto.lane import frame, handshake, sockets
from blockyard.proto.lane.blocking import BlockingConnection
from blockyard.proto.lane.frame import Limits
from blockyard.proto.lane.methods import carries_reply_payload, carries_request_payload, method_id
from blockyard.proto.lane.payload import Into
from blockyard.proto.lane.shared import SharedConnection
from blockyard.proto.lane.stream import Stream
from google.protobuf.message import DecodeError

DEFAULT_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
_KEPT_CONNECTIONS = 8


class Channel:
    """A channel to one address, `host:port` or `unix:/path`; generated stubs take it in place of a gRPC channel.

    Connects at the first call and again at the first call after a connection was lost. Every call has a deadline:
    `timeout` seconds, or the channel's own. Any number of threads may use it.
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
        self._closed = False
        self._shared: SharedConnection | None = None
        self._idle: list[BlockingConnection] = []
        self._forget_connections()
        _channels.add(self)

    # ------------------------------------------------------------------------------------------ what stubs ask for

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        _registered_method: bool | None = None,
    ) -> "UnaryCall":
        """Return a callable for one unary method."""
        return UnaryCall(self, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        _registered_method: bool | None = None,
    ) -> Callable[..., Stream]:
        """Return a callable that starts a method with a stream of answers."""
        opener = self._opener(method, request_serializer, response_deserializer)

        def call(request: Any, timeout: float | None = None, into: Into | None = None, **_: Any) -> Stream:
            stream = opener(timeout, into)
            stream.start(request)
            return stream

        return call

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        _registered_method: bool | None = None,
    ) -> Callable[..., Any]:
        """Return a callable for a method that takes a stream and answers once."""
        opener = self._opener(method, request_serializer, response_deserializer)

        def call(requests: Iterator[Any], timeout: float | None = None, into: Into | None = None, **_: Any) -> Any:
            with opener(timeout, into) as stream:
                stream.start_stream()
                stream.send_all(requests)
                return stream.receive_reply()

        return call

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        _registered_method: bool | None = None,
    ) -> Callable[..., Stream]:
        """Return a callable for a method with streams both ways.

        With an iterator of requests, a thread of its own sends them. Without one, the caller uses the stream's
        `send`, `done_sending` and `receive`.
        """
        opener = self._opener(method, request_serializer, response_deserializer)

        def call(
            requests: Iterator[Any] | None = None, timeout: float | None = None, into: Into | None = None, **_: Any
        ) -> Stream:
            stream = opener(timeout, into)
            stream.start_stream()
            if requests is not None:
                threading.Thread(target=stream.send_all_quietly, args=(requests,), daemon=True).start()
            return stream

        return call

    # ------------------------------------------------------------------------------------------ connections

    def close(self) -> None:
        """Close every connection; calls under way fail with ConnectionLost."""
        with self._lock:
            self._closed = True
            shared, self._shared = self._shared, None
            idle, self._idle = self._idle, []
        if shared is not None:
            shared.close()
        for connection in idle:
            connection.close()

    def __enter__(self) -> "Channel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def shared(self, timeout_s: float) -> SharedConnection:
        """Return the connection that plain unary calls share, connecting, within `timeout_s`, where there is none."""
        shared = self._shared
        if shared is not None and shared.is_alive():
            return shared
        deadline = time.monotonic() + timeout_s
        if not self._connecting.acquire(timeout=max(0.0, timeout_s)):
            raise errors.Unavailable(f"{self.address} does not answer within {timeout_s:g} s", self.address)
        try:
            shared = self._shared
            if shared is None or not shared.usable:
                shared = SharedConnection(self._connect(deadline - time.monotonic()), self.keepalive_s)
                with self._lock:
                    if not self._closed:
                        self._shared = shared
                        return shared
                shared.close()
                raise self._was_closed()
            return shared
        finally:
            self._connecting.release()

    def borrow(self, timeout_s: float) -> BlockingConnection:
        """Return a connection that nobody else uses; give it back with `give_back`, or close it."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._connect(timeout_s)
            try:
                if not connection.pending():
                    return connection
            except OSError:
                pass  # it died while it lay idle
            connection.close()

    def give_back(self, connection: BlockingConnection) -> None:
        """Keep a connection on which no call is under way for the next one who borrows."""
        with self._lock:
            if not self._closed and len(self._idle) < _KEPT_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def _connect(self, timeout_s: float) -> BlockingConnection:
        if self._closed:
            raise self._was_closed()
        timeout_s = max(0.001, min(timeout_s, self._connect_timeout_s))
        connection = BlockingConnection(sockets.connect(self.address, timeout_s), self.limits)
        try:
            connection.shake_hands(timeout_s)
        except (OSError, frame.FrameError) as error:
            connection.close()
            raise handshake.refused(self.address, error) from error
        return connection

    def _was_closed(self) -> errors.BlockyardError:
        return errors.Unavailable(f"the channel to {self.address} was closed", self.address)

    def _forget_connections(self) -> None:
        """Begin without connections. After a fork the child does so too: those it sees are its parent's."""
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._shared = None
        self._idle = []

    def _opener(
        self, method: str, serialize: Callable[[Any], bytes], deserialize: Callable[[bytes], Any]
    ) -> Callable[[float | None, Into | None], Stream]:
        def opener(timeout: float | None, into: Into | None) -> Stream:
            return Stream(self, method, serialize, deserialize, self.timeout_s if timeout is None else timeout, into)

        return opener


class UnaryCall:
    """One unary method of a channel."""

    def __init__(
        self, channel: Channel, method: str, serialize: Callable[[Any], bytes], deserialize: Callable[[bytes], Any]
    ) -> None:
        self._channel = channel
        self._method = method
        self._id = method_id(method)
        self._serialize = serialize
        self._deserialize = deserialize
        self._plain = not (carries_request_payload(method) or carries_reply_payload(method))

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        payload: Payload | None = None,
        into: Into | None = None,
        descriptors: list[int] | None = None,
        **_: Any,
    ) -> Any:
        """Make the call and return its reply.

        `timeout` is in seconds; `payload` goes with the request, `into` names where reply payload goes (without it,
        payload lands in the reply's field `data`). To `descriptors` a file descriptor is appended that the reply brings
        over a Unix socket; it is the caller's to close, whatever is raised. Raises BlockyardError.
        """
        channel = self._channel
        timeout_s = channel.timeout_s if timeout is None else timeout
        if self._plain and descriptors is None:
            data = self._serialize(request)
            answer = channel.shared(timeout_s).call(self._id, data, timeout_s)
            try:
                return self._deserialize(answer)
            except DecodeError as error:
                raise errors.MalformedReply(f"{self._method}: the reply does not parse") from error
        with Stream(channel, self._method, self._serialize, self._deserialize, timeout_s, into) as stream:
            if descriptors is not None:
                stream.accept_descriptor(descriptors)
            stream.start(request, payload)
            return stream.receive_reply()


_channels: "weakref.WeakSet[Channel]" = weakref.WeakSet()


def _forked() -> None:
    for channel in list(_channels):
        channel._forget_connections()


os.register_at_fork(after_in_child=_forked)
