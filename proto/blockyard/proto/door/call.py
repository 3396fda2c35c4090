"""One call on the gRPC server, as its servicer sees it (`CallContext`)."""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc.aio
from blockyard.proto import errors
from blockyard.proto.lane.methods import Method
from blockyard.proto.lane.payload import fill

if TYPE_CHECKING:
    from typing_extensions import Buffer


class DoorCall:
    """A call under way; the servicer may use it from any thread.

    Invariant: the done callbacks run exactly once each, after the servicer has ended or been cancelled.
    """

    __slots__ = ("_callbacks", "_context", "_lock", "_over", "_payload", "method")

    def __init__(self, method: Method, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        self.method = method
        self._context = context
        self._payload = b""
        self._over = False
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []

    def time_remaining(self) -> float | None:
        left: float | None = self._context.time_remaining()
        return None if left is None else max(0.0, left)

    def peer(self) -> str:
        return self._context.peer()

    def cancelled(self) -> bool:
        return self._over or self._context.cancelled()

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self._over:
                self._callbacks.append(callback)
                return
        callback()

    @property
    def passes_descriptors(self) -> bool:
        return False

    @property
    def payload_length(self) -> int:
        return len(self._payload)

    def receive_into(self, buffer: "Buffer") -> int:
        taken, self._payload = self._payload, b""
        return fill(buffer, taken)

    def message(self, data: bytes) -> Any:
        """Parse a request message and keep the payload that came in it. Raises MalformedRequest."""
        try:
            message = self.method.deserialize(data)
        except errors.DecodeError as error:
            raise errors.MalformedRequest(f"{self.method.name}: the request does not parse") from error
        if self.method.request_payload:
            self._payload = message.data
        return message

    def finish(self) -> None:
        """The call is over: tell who asked to be told."""
        with self._lock:
            self._over = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
