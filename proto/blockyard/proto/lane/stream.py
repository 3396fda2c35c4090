"""A blocking call that has a connection of its own: streams, and payload.

No other call uses this connection, so payload goes from the socket to the buffer that the caller named, and a caller
that does not read slows its server down by TCP alone.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from blockyard.proto import errors
from blockyard.proto.call import Payload
from blockyard.proto.lane import frame, payload
from blockyard.proto.lane.exchange import Exchange, Item
from blockyard.proto.lane.frame import Frame, FrameError, Header
from blockyard.proto.lane.payload import Into, Sink
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from blockyard.proto.lane.channel import Channel


class Stream:
    """One call. Iterate over it for its answers; `cancel` it, or use it as a context manager, to leave early.

    One thread may send while another receives. A thread that does both must not send more than fits into the sockets'
    buffers while answers wait: what neither end takes ends in ConnectionLost.
    """

    def __init__(
        self,
        channel: "Channel",
        method: str,
        serialize: Callable[[Any], bytes],
        deserialize: Callable[[bytes], Any],
        timeout_s: float,
        into: Into | None,
    ) -> None:
        self._method = method
        self._serialize = serialize
        self._deserialize = deserialize
        self._into = into
        self._exchange = Exchange(channel, method, timeout_s)
        self._descriptors: list[int] | None = None

    # ------------------------------------------------------------------------------------------ sending

    def start(self, request: Any, raw: Payload | None = None) -> None:
        """Start the call with its only request."""
        self._exchange.start(self._serialize(request), raw)

    def accept_descriptor(self, taken: list[int]) -> None:
        """Let the answer of a call that answers once bring a file descriptor: it is appended to `taken`."""
        self._exchange.connection.accept_descriptor()
        self._descriptors = taken

    def start_stream(self) -> None:
        """Start the call; its requests follow by `send`."""
        self._exchange.sent_all = False
        self._exchange.start(b"", None)

    def send(self, request: Any, raw: Payload | None = None) -> None:
        """Send one request message and its payload; waits while the server grants no more. Raises the call's error."""
        message = self._serialize(request)
        self._exchange.await_credit()
        self._exchange.send(frame.MESSAGE, message, raw)

    def send_within(self, seconds: float) -> None:
        """Let a send wait at most `seconds` for a server that takes nothing: then the call ends in ConnectionLost."""
        self._exchange.connection.send_within(seconds)

    def done_sending(self) -> None:
        """Say that no more requests come."""
        if not self._exchange.over:
            self._exchange.sent_all = True  # first: the answer to END may be there before this thread goes on
            self._exchange.send(frame.END)

    def send_all(self, requests: Iterable[Any]) -> None:
        """Send every request, then say so. A server that has answered already wants no more of them."""
        for request in requests:
            if self._exchange.over or self._exchange.has_answered():
                break
            self.send(request)
        self.done_sending()

    def send_all_quietly(self, requests: Iterable[Any]) -> None:
        """Send every request from a thread of its own; what goes wrong reaches the thread that receives."""
        try:
            for request in requests:
                if self._exchange.over:
                    return
                self.send(request)
            self.done_sending()
        except Exception as error:  # noqa: BLE001 - the caller's iterator raised; its other thread is told
            self._exchange.fail(errors.from_exception(error))

    # ------------------------------------------------------------------------------------------ receiving

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        message = self.receive()
        if message is None:
            raise StopIteration
        return message

    def receive(self) -> Any:
        """Return the next answer, None after the last; raises the call's error."""
        exchange = self._exchange
        item, message = exchange.next(self._take)
        if item is None:
            return None
        if item.kind == frame.END:
            exchange.leave(reusable=exchange.sent_all)
            return None
        if item.kind != frame.MESSAGE:
            raise exchange.lost(FrameError("protocol", f"frame kind {item.kind} in a stream of answers"))
        grant = exchange.taken()
        if grant:
            exchange.send(frame.WINDOW, value=grant)
        return message

    def await_answer(self, timeout_s: float) -> bool:
        """Wait `timeout_s` seconds at most; return whether `receive` will not have to wait. Raises the call's error."""
        return self._exchange.await_answer(timeout_s)

    def receive_reply(self) -> Any:
        """Return the only answer of a call that answers once."""
        exchange = self._exchange
        item, message = exchange.next(self._take)
        if item is None or item.kind != frame.REPLY:
            raise exchange.lost(FrameError("protocol", "the call ended without its reply"))
        if self._descriptors is not None:
            self._take_descriptor(self._descriptors, item.value)
        exchange.leave(reusable=exchange.sent_all)
        return message

    def _take_descriptor(self, taken: list[int], announced: int) -> None:
        arrived = self._exchange.connection.take_descriptor()
        if len(arrived) != announced:
            for descriptor in arrived:
                os.close(descriptor)
            self.cancel()
            raise errors.MalformedReply(f"{self._method}: {announced} descriptors announced, {len(arrived)} came")
        taken += arrived

    def cancel(self) -> None:
        """Give the call up; its server is told."""
        self._exchange.cancel()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def _take(self, item: Item) -> Any:
        """Return the message of an answer, its payload put where the caller wants it."""
        connection = self._exchange.connection
        try:
            message = self._deserialize(item.message if isinstance(item, Frame) else connection.receive_message(item))
        except DecodeError as error:
            raise errors.MalformedReply(f"{self._method}: the reply does not parse") from error
        length = item.payload_bytes
        if length == 0:
            return message
        if self._into is None:
            payload.land(message, item.payload if isinstance(item, Frame) else bytes(connection.gather(length)))
            return message
        sink = self._choose(self._into, message, length)
        if isinstance(item, Header):
            connection.receive_payload(length, sink)
        elif sink is not None:
            payload.fill(sink, item.payload)
        return message

    def _choose(self, into: Into, message: Any, length: int) -> Sink | None:
        try:
            return payload.choose(into, message, length)
        except OSError as error:
            raise errors.from_exception(error) from error  # not to be taken for the connection's
